"""The writers of texts about a video: the built-in one, or a language model behind an endpoint.

The routes use the protocol `Writer`. Its input is a `WriterInput`: the evidence, and frames if it takes any.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from tl_data.local import models
from tl_data.local.errors import invalid
from tl_data.local.perception.evidence import Evidence
from tl_data.local.perception.vision.frames import Frame

Item = dict[str, Any]
Reason = Literal["stop", "length"]


@dataclass(frozen=True)
class WriterInput:
    """The input of a text: the evidence of a video and frames of it."""

    evidence: Evidence
    frames: tuple[Frame, ...] = ()


@dataclass(frozen=True)
class GenerationOptions:
    """The options of the request. None: the writer's own default."""

    temperature: float | None = None  # 0 to 1
    max_tokens: int | None = None


@dataclass(frozen=True)
class GeneratedText:
    """A text, or a piece of a stream. The last piece of a stream has a reason, the others None."""

    text: str
    reason: Reason | None = "stop"
    input_tokens: int | None = None  # as the model counts them; None: the model reports none
    output_tokens: int | None = None


class Writer(Protocol):
    """Writes texts. Every method may raise an `APIProblem`."""

    frames: int  # most frames that it takes
    streams: bool  # whether `stream` gives more than one piece

    async def analyze(
        self, source: WriterInput, prompt: str, schema: dict[str, Any] | None, options: GenerationOptions
    ) -> GeneratedText:
        """Answer a prompt. With a schema the answer is JSON that conforms to it, unless it is cut off."""

    def stream(
        self, source: WriterInput, prompt: str, options: GenerationOptions
    ) -> AsyncIterator[GeneratedText]:
        """Answer a prompt in pieces."""

    async def summarize(
        self, source: WriterInput, prompt: str | None, options: GenerationOptions
    ) -> GeneratedText:
        """A summary."""

    async def chapters(
        self, source: WriterInput, prompt: str | None, options: GenerationOptions
    ) -> list[Item]:
        """Chapters in order: `start_sec`, `end_sec`, `chapter_title`, `chapter_summary`."""

    async def highlights(
        self, source: WriterInput, prompt: str | None, options: GenerationOptions
    ) -> list[Item]:
        """Moments in order: `start_sec`, `end_sec`, `highlight`, `highlight_summary`."""

    async def gist(self, source: WriterInput) -> Item:
        """`title`, `topics` and `hashtags`."""

    async def close(self) -> None:
        """Close the connections."""


class BuiltIn:
    """The writer without a language model. It ignores frames and temperature, and streams one piece."""

    frames = 0
    streams = False

    async def analyze(
        self, source: WriterInput, prompt: str, schema: dict[str, Any] | None, options: GenerationOptions
    ) -> GeneratedText:
        """As in `Writer`."""

        def write() -> str:
            from tl_data.local.text.builtin import analyze
            from tl_data.local.text.json_schema import Unsupported

            try:
                return analyze(source.evidence, prompt, json_schema=schema)
            except Unsupported as error:
                raise invalid("response_format", f"{error}.") from None

        return _truncated(await asyncio.to_thread(write), options)

    async def stream(
        self, source: WriterInput, prompt: str, options: GenerationOptions
    ) -> AsyncIterator[GeneratedText]:
        """As `Writer.stream`, in one piece."""
        yield await self.analyze(source, prompt, None, options)

    async def summarize(
        self, source: WriterInput, prompt: str | None, options: GenerationOptions
    ) -> GeneratedText:
        """As in `Writer`."""

        def write() -> str:
            from tl_data.local.text.builtin import summarize

            return summarize(source.evidence, prompt)

        return _truncated(await asyncio.to_thread(write), options)

    async def chapters(
        self, source: WriterInput, prompt: str | None, options: GenerationOptions
    ) -> list[Item]:
        """As in `Writer`."""

        def write() -> list[Item]:
            from tl_data.local.text.builtin import chapters

            return chapters(source.evidence, prompt)

        return await asyncio.to_thread(write)

    async def highlights(
        self, source: WriterInput, prompt: str | None, options: GenerationOptions
    ) -> list[Item]:
        """As in `Writer`."""

        def write() -> list[Item]:
            from tl_data.local.text.builtin import highlights

            return highlights(source.evidence, prompt)

        return await asyncio.to_thread(write)

    async def gist(self, source: WriterInput) -> Item:
        """As in `Writer`."""

        def write() -> Item:
            from tl_data.local.text.summaries import gist

            return gist(source.evidence)

        return await asyncio.to_thread(write)

    async def close(self) -> None:
        """Do nothing: there are no connections."""


def _truncated(text: str, options: GenerationOptions) -> GeneratedText:
    most = options.max_tokens
    if most is None or models.count_tokens(text) <= most:
        return GeneratedText(text)
    return GeneratedText(models.first_tokens(text, most), "length")
