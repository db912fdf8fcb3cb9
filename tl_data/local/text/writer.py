"""The writers of texts about a video: the built-in one, or a language model behind an endpoint.

The routes use the protocol `Writer`. A writer reads a `WriterInput`: evidence, and frames if it accepts any.
"""

from __future__ import annotations

import asyncio
import threading
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
    """What a writer writes about: the evidence of a video, and some of its frames."""

    evidence: Evidence
    frames: tuple[Frame, ...] = ()


@dataclass(frozen=True)
class GenerationOptions:
    """The options of a request. None means the default of the writer."""

    temperature: float | None = None  # 0 to 1
    max_tokens: int | None = None


@dataclass(frozen=True)
class GeneratedText:
    """A text, or a piece of a streamed text. In a stream only the last piece has a `reason`."""

    text: str
    reason: Reason | None = "stop"
    input_tokens: int | None = None  # as reported by the model; None if it reports none
    output_tokens: int | None = None


class Writer(Protocol):
    """Writes texts. Every method may raise an `EngineError`."""

    frames: int  # the largest number of frames that the writer accepts
    streams: bool  # whether `stream` yields more than one piece

    async def analyze(
        self, source: WriterInput, prompt: str, schema: dict[str, Any] | None, options: GenerationOptions
    ) -> GeneratedText:
        """Answer a prompt. With a schema, the answer is conforming JSON unless it is cut off."""

    def stream(
        self, source: WriterInput, prompt: str, options: GenerationOptions
    ) -> AsyncIterator[GeneratedText]:
        """Answer a prompt in pieces."""

    async def summarize(
        self, source: WriterInput, prompt: str | None, options: GenerationOptions
    ) -> GeneratedText:
        """Summarize the video."""

    async def chapters(
        self, source: WriterInput, prompt: str | None, options: GenerationOptions
    ) -> list[Item]:
        """Chapters in order: `start_sec`, `end_sec`, `chapter_title`, `chapter_summary`."""

    async def highlights(
        self, source: WriterInput, prompt: str | None, options: GenerationOptions
    ) -> list[Item]:
        """Highlights in order: `start_sec`, `end_sec`, `highlight`, `highlight_summary`."""

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
        """See `Writer`."""
        cancelled = threading.Event()

        def write() -> str:
            from tl_data.local.text.builtin import analyze
            from tl_data.local.text.json_schema import Unsupported

            try:
                return analyze(source.evidence, prompt, json_schema=schema, is_cancelled=cancelled.is_set)
            except Unsupported as error:
                raise invalid("response_format", f"{error}.") from None

        try:
            return _truncate(await asyncio.to_thread(write), options)
        except asyncio.CancelledError:
            cancelled.set()  # cancellation does not end the thread
            raise

    async def stream(
        self, source: WriterInput, prompt: str, options: GenerationOptions
    ) -> AsyncIterator[GeneratedText]:
        """Yield the answer as a single piece; see `Writer.stream`."""
        yield await self.analyze(source, prompt, None, options)

    async def summarize(
        self, source: WriterInput, prompt: str | None, options: GenerationOptions
    ) -> GeneratedText:
        """See `Writer`."""

        def write() -> str:
            from tl_data.local.text.builtin import summarize

            return summarize(source.evidence, prompt)

        return _truncate(await asyncio.to_thread(write), options)

    async def chapters(
        self, source: WriterInput, prompt: str | None, options: GenerationOptions
    ) -> list[Item]:
        """See `Writer`."""

        def write() -> list[Item]:
            from tl_data.local.text.builtin import chapters

            return chapters(source.evidence, prompt)

        return await asyncio.to_thread(write)

    async def highlights(
        self, source: WriterInput, prompt: str | None, options: GenerationOptions
    ) -> list[Item]:
        """See `Writer`."""

        def write() -> list[Item]:
            from tl_data.local.text.builtin import highlights

            return highlights(source.evidence, prompt)

        return await asyncio.to_thread(write)

    async def gist(self, source: WriterInput) -> Item:
        """See `Writer`."""

        def write() -> Item:
            from tl_data.local.text.summaries import gist

            return gist(source.evidence)

        return await asyncio.to_thread(write)

    async def close(self) -> None:
        """Do nothing: there are no connections."""


def _truncate(text: str, options: GenerationOptions) -> GeneratedText:
    limit = options.max_tokens
    if limit is None or models.count_tokens(text) <= limit:
        return GeneratedText(text)
    return GeneratedText(models.first_tokens(text, limit), "length")
