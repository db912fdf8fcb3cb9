"""From a file to what can be asked about it: looking, in worker processes, and knowing, in the library.

The rest of the server meets both through this one object. What is heavy is imported at first use, so that
the server is up at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tl_data.local.config import Config
from tl_data.local.errors import MediaProblem
from tl_data.local.models import Tiers
from tl_data.local.perception.evidence import Evidence, ModelFailed, NotVideo, Probe
from tl_data.local.perception.vision.frames import Frame, pick
from tl_data.local.perception.worker_pool import WorkerFailed, WorkerPool
from tl_data.local.text.writer import BuiltIn, Writer

pass

if TYPE_CHECKING:
    from tl_data.local.search.embeddings import Segment
    from tl_data.local.search.query import Hit
    from tl_data.local.storage.library import Library

T = TypeVar("T")


class Stages:
    """Looks at files and answers from what was seen."""

    def __init__(self, config: Config) -> None:
        self._path = config.home / "library.sqlite"
        self._workers = WorkerPool(config.workers, seconds=config.look_seconds, tiers=config.tiers)
        # Its own process: container checks must not wait behind hours of looking.
        self._probers = WorkerPool(1, seconds=60.0)
        self.writer = writer_of(config.tiers)
        self._tiers = config.tiers
        self._library: Library | None = None
        self._opening = asyncio.Lock()

    async def close(self) -> None:
        """End the worker processes and close the library."""
        await asyncio.gather(self._workers.aclose(), self._probers.aclose(), self.writer.close())
        if self._library:
            await asyncio.to_thread(self._library.close)

    async def probe(self, path: Path) -> Probe:
        """The facts of a container.

        Raises:
            MediaProblem: it is not a video or sound file, or reading it went wrong.
        """
        try:
            return await self._probers.probe(path)
        except (NotVideo, WorkerFailed) as error:
            raise _broken(error) from error

    async def analyze(self, path: Path, folder: Path) -> Evidence:
        """Look at and listen to a file; keyframes go to `folder`.

        Raises:
            MediaProblem: it is not readable, or its worker process died, hung or grew too large.
        """
        try:
            return await self._workers.analyze(path, folder)
        except ModelFailed as error:
            text = f"The video could not be looked at: {error}."
            raise MediaProblem("engine_model_failed", text) from error
        except (NotVideo, WorkerFailed) as error:
            raise _broken(error) from error

    async def reanalyze(self, evidence: Evidence, sound: Path, folder: Path) -> Evidence:
        """Bring evidence of other models to those at work; raises as `analyze` does."""
        try:
            return await self._workers.reanalyze(evidence, sound, folder)
        except ModelFailed as error:
            raise _unusable(error) from error
        except (NotVideo, WorkerFailed) as error:
            raise _broken(error) from error

    async def add(self, index_id: str, video_id: str, evidence: Evidence, folder: Path) -> None:
        """Put a video into the library; the same twice is the same as once."""
        await self._with(lambda library: library.add(index_id, video_id, evidence, folder))

    async def remove(self, *video_ids: str) -> None:
        """Forget videos."""

        def forget(library: Library) -> None:
            for video_id in video_ids:
                library.remove(video_id)

        if video_ids:
            await self._with(forget)

    async def remove_index(self, index_id: str) -> None:
        """Forget an index with all its videos."""
        await self._with(lambda library: library.remove_index(index_id))

    async def evidence(self, video_id: str) -> Evidence:
        """What is known of a video."""
        return await self._with(lambda library: library.evidence(video_id))

    async def transcription(self, video_id: str) -> list[dict[str, Any]]:
        """What is said in a video, with times."""
        from tl_data.local.search.transcript import phrases

        evidence = await self.evidence(video_id)
        return [
            {"start": phrase.start_sec, "end": phrase.end_sec, "value": phrase.text}
            for span in evidence.speech
            for phrase in phrases(span)
        ]

    async def segments(
        self, video_id: str, options: Sequence[str], scopes: Sequence[str]
    ) -> list[dict[str, Any]]:
        """The vectors of a video, in the API's form."""
        return await self._with(
            lambda library: [shown_segment(s) for s in library.segments(video_id, options, scopes)]
        )

    async def search(
        self,
        index_id: str,
        *,
        text: str | None,
        images: Sequence[bytes],
        options: Sequence[str],
        operator: str,
        threshold: str,
        adjust: float,
        video_ids: frozenset[str] | None,
        ways: Sequence[str],
        all_clips: bool = False,
    ) -> list[tuple[Hit, str]]:
        """The moments that answer a query, best first, each with the file name of its keyframe.

        Raises:
            ValueError: an image that cannot be decoded.
        """

        def find(library: Library) -> list[tuple[Hit, str]]:
            from tl_data.local.search.query import Query

            query = Query(
                index_id,
                text,
                tuple(images),
                tuple(options),
                operator,
                threshold,
                adjust,
                video_ids,
                tuple(ways),
            )
            return [(hit, hit.keyframe) for hit in library.search(query, all_clips=all_clips)]

        return await self._with(find)

    async def segments_of(
        self,
        evidence: Evidence,
        options: Sequence[str],
        scopes: Sequence[str],
        clip_length: float | None,
        start: float | None = None,
        end: float | None = None,
    ) -> list[dict[str, Any]]:
        """The vectors of evidence that is in no index."""

        def make() -> list[dict[str, Any]]:
            from tl_data.local.perception.vision.image_encoder import sight_of
            from tl_data.local.search.embeddings import segments_of

            sight = sight_of(self._tiers)
            found = segments_of(evidence, options, scopes, clip_length, start, end, sight)
            return [shown_segment(segment) for segment in found]

        return await asyncio.to_thread(make)

    async def dimension(self) -> int:
        """How many numbers a vector has."""

        def count() -> int:
            from tl_data.local.perception.vision.image_encoder import sight_of
            from tl_data.local.search.embeddings import dimension

            return dimension(sight_of(self._tiers))

        return await asyncio.to_thread(count)

    async def embed_text(self, text: str) -> list[float]:
        """The vector of a text."""

        def make() -> list[float]:
            from tl_data.local.perception.vision.image_encoder import sight_of
            from tl_data.local.search.embeddings import embed_text

            return [float(number) for number in embed_text(text, sight_of(self._tiers))]

        return await asyncio.to_thread(make)

    async def embed_image(self, image: bytes) -> list[float]:
        """The vector of a JPEG or PNG picture.

        Raises:
            ValueError: it cannot be decoded.
        """

        def make() -> list[float]:
            from tl_data.local.perception.vision.image_encoder import sight_of
            from tl_data.local.perception.vision.objects import eyes_of
            from tl_data.local.search.embeddings import embed_image

            return [
                float(number) for number in embed_image(image, sight_of(self._tiers), eyes_of(self._tiers))
            ]

        return await asyncio.to_thread(make)

    async def frames(self, video_id: str, evidence: Evidence) -> tuple[Frame, ...]:
        """The pictures of a video of the library that the writer wants to see."""
        if not self.writer.frames:
            return ()
        folder = await self._with(lambda library: library.folder(video_id))
        return await asyncio.to_thread(pick, evidence, Path(folder), self.writer.frames)

    async def _with(self, work: Callable[[Library], T]) -> T:
        if self._library is None:
            async with self._opening:
                if self._library is None:
                    self._library = await asyncio.to_thread(self._open)
        return await asyncio.to_thread(work, self._library)

    def _open(self) -> Library:
        from tl_data.local.perception.vision.image_encoder import sight_of
        from tl_data.local.perception.vision.objects import eyes_of
        from tl_data.local.storage.library import Library

        return Library(self._path, sight_of(self._tiers), lambda: eyes_of(self._tiers))


def shown_segment(segment: Segment) -> dict[str, Any]:
    """A vector in the API's form."""
    return {
        "start_offset_sec": segment.start_offset_sec,
        "end_offset_sec": segment.end_offset_sec,
        "embedding_option": segment.embedding_option,
        "embedding_scope": segment.embedding_scope,
        "float": list(segment.vector),
    }


def _unusable(error: Exception) -> MediaProblem:
    return MediaProblem("engine_model_failed", f"The video could not be looked at: {error}.")


def _broken(error: Exception) -> MediaProblem:
    return MediaProblem(
        "video_file_broken",
        f"Cannot read video file. Please check the video file is valid and try again. {error}",
    )


def writer_of(tiers: Tiers) -> Writer:
    """The writer that the settings choose."""
    if tiers.llm is None:
        return BuiltIn()
    from tl_data.local.text.llm import EndpointWriter

    return EndpointWriter(tiers.llm)
