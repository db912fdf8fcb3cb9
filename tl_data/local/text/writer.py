"""Who writes texts about a video: the built-in writer, or the model behind an address.

The routes know `Writer` alone. What it gets is `Material`: evidence, and frames if it wants any.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from tl_data.local import tokens
from tl_data.local.errors import invalid
from tl_data.local.perception.evidence import Evidence
from tl_data.local.perception.vision.frames import Frame

Item = dict[str, Any]
Reason = Literal["stop", "length"]


@dataclass(frozen=True)
class Material:
    """What a text is written from."""

    evidence: Evidence
    frames: tuple[Frame, ...] = ()


@dataclass(frozen=True)
class Manner:
    """How it is written, as far as the request says."""

    temperature: float | None = None  # 0 to 1
    max_tokens: int | None = None


@dataclass(frozen=True)
class Written:
    """A text, or a piece of one that is still being written: the last piece says why it ends."""

    text: str
    reason: Reason | None = "stop"
    input_tokens: int | None = None  # as the model counts them; None: it does not say
    output_tokens: int | None = None


class Writer(Protocol):
    """The text stage. Every method may raise an `APIProblem`."""

    frames: int  # pictures that it wants to see at most
    streams: bool  # whether it can give a text while it is being written

    async def analyze(
        self, material: Material, prompt: str, schema: dict[str, Any] | None, manner: Manner
    ) -> Written:
        """The answer to a prompt; with a schema, JSON text that conforms to it unless it was cut off."""

    def stream(self, material: Material, prompt: str, manner: Manner) -> AsyncIterator[Written]:
        """The answer to a prompt, piece by piece."""

    async def summarize(self, material: Material, prompt: str | None, manner: Manner) -> Written:
        """A summary."""

    async def chapters(self, material: Material, prompt: str | None, manner: Manner) -> list[Item]:
        """Chapters in order: `start_sec`, `end_sec`, `chapter_title`, `chapter_summary`."""

    async def highlights(self, material: Material, prompt: str | None, manner: Manner) -> list[Item]:
        """Moments in order: `start_sec`, `end_sec`, `highlight`, `highlight_summary`."""

    async def gist(self, material: Material) -> Item:
        """`title`, `topics` and `hashtags`."""

    async def close(self) -> None:
        """Let go of connections."""


class BuiltIn:
    """The writer that makes sentences of evidence; it has no use for frames, temperature and streams."""

    frames = 0
    streams = False

    async def analyze(
        self, material: Material, prompt: str, schema: dict[str, Any] | None, manner: Manner
    ) -> Written:
        """As `Writer` says."""

        def write() -> str:
            from tl_data.local.text.builtin import analyze
            from tl_data.local.text.json_schema import Unsupported

            try:
                return analyze(material.evidence, prompt, json_schema=schema)
            except Unsupported as error:
                raise invalid("response_format", f"{error}.") from None

        return _within(await asyncio.to_thread(write), manner)

    async def stream(self, material: Material, prompt: str, manner: Manner) -> AsyncIterator[Written]:
        """As `Writer` says: in one piece."""
        yield await self.analyze(material, prompt, None, manner)

    async def summarize(self, material: Material, prompt: str | None, manner: Manner) -> Written:
        """As `Writer` says."""

        def write() -> str:
            from tl_data.local.text.builtin import summarize

            return summarize(material.evidence, prompt)

        return _within(await asyncio.to_thread(write), manner)

    async def chapters(self, material: Material, prompt: str | None, manner: Manner) -> list[Item]:
        """As `Writer` says."""

        def write() -> list[Item]:
            from tl_data.local.text.builtin import chapters

            return chapters(material.evidence, prompt)

        return await asyncio.to_thread(write)

    async def highlights(self, material: Material, prompt: str | None, manner: Manner) -> list[Item]:
        """As `Writer` says."""

        def write() -> list[Item]:
            from tl_data.local.text.builtin import highlights

            return highlights(material.evidence, prompt)

        return await asyncio.to_thread(write)

    async def gist(self, material: Material) -> Item:
        """As `Writer` says."""

        def write() -> Item:
            from tl_data.local.text.summaries import gist

            return gist(material.evidence)

        return await asyncio.to_thread(write)

    async def close(self) -> None:
        """Nothing is held."""


def _within(text: str, manner: Manner) -> Written:
    most = manner.max_tokens
    if most is None or tokens.count(text) <= most:
        return Written(text)
    return Written(tokens.first(text, most), "length")
