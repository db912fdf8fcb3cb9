"""`Stages`, through which the server uses analysis, library, search and the writer of texts.

The analysis runs in worker processes. Heavy modules are imported at first use, so the server starts fast.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tl_data.local.config import Config
from tl_data.local.errors import MediaError
from tl_data.local.models import Tiers
from tl_data.local.perception.evidence import Clip, Evidence, ModelFailed, NotVideo, Probe
from tl_data.local.perception.pictures import decoder
from tl_data.local.perception.vision.frames import Frame, pick
from tl_data.local.perception.worker_pool import WorkerFailed, WorkerPool
from tl_data.local.text.writer import BuiltIn, Writer

if TYPE_CHECKING:
    from tl_data.local.search.embeddings import Segment
    from tl_data.local.search.query import Hit
    from tl_data.local.storage.library import Library

T = TypeVar("T")


class Stages:
    """Analyzes files, stores their evidence in the library, and answers requests from it."""

    def __init__(self, config: Config) -> None:
        self._path = config.home / "library.sqlite"
        self._workers = WorkerPool(config.workers, seconds=config.look_seconds, tiers=config.tiers)
        # Containers are read in a process of their own: an analysis can occupy a worker for hours.
        self._probers = WorkerPool(1, seconds=60.0)
        self.writer = configured_writer(config.tiers)
        self._tiers = config.tiers
        self._library: Library | None = None
        self._opening = asyncio.Lock()
        self._pictures = asyncio.Semaphore(2)  # pictures that are hard to decode leave threads for the rest
        self._closed = False
        decoder.acquire()  # engines of one Python process share it

    async def close(self) -> None:
        """Stop the worker processes and close the library."""
        if not self._closed:
            self._closed = True
            await asyncio.to_thread(decoder.release)
        await asyncio.gather(self._workers.aclose(), self._probers.aclose(), self.writer.close())
        if self._library:
            await asyncio.to_thread(self._library.close)

    async def probe(self, path: Path) -> Probe:
        """Read the properties of a container.

        Raises:
            MediaError: the file is not a video or sound file, or cannot be read.
        """
        try:
            return await self._probers.probe(path)
        except (NotVideo, WorkerFailed) as error:
            raise _broken_file(error) from error

    async def analyze(self, path: Path, folder: Path) -> Evidence:
        """Analyze a file and write its keyframes to `folder`.

        Raises:
            MediaError: the file cannot be read, or the worker crashed, hung or exceeded its memory limit.
        """
        try:
            return await self._workers.analyze(path, folder)
        except ModelFailed as error:
            raise _model_failed(error) from error
        except (NotVideo, WorkerFailed) as error:
            raise _broken_file(error) from error

    async def reanalyze(self, evidence: Evidence, sound: Path, folder: Path) -> Evidence:
        """Update evidence of other models to the active models. Raises the same errors as `analyze`."""
        try:
            return await self._workers.reanalyze(evidence, sound, folder)
        except ModelFailed as error:
            raise _model_failed(error) from error
        except (NotVideo, WorkerFailed) as error:
            raise _broken_file(error) from error

    async def add(self, index_id: str, video_id: str, evidence: Evidence, folder: Path) -> None:
        """Add a video to the library. A repeated call changes nothing."""
        await self._with_library(lambda library: library.add(index_id, video_id, evidence, folder))

    async def remove(self, *video_ids: str) -> None:
        """Remove videos from the library."""

        def remove(library: Library) -> None:
            for video_id in video_ids:
                library.remove(video_id)

        if video_ids:
            await self._with_library(remove)

    async def remove_index(self, index_id: str) -> None:
        """Remove an index with all its videos from the library."""
        await self._with_library(lambda library: library.remove_index(index_id))

    async def evidence(self, video_id: str) -> Evidence:
        """The evidence of a video.

        Raises:
            KeyError: the library has no such video.
        """
        return await self._with_library(lambda library: library.evidence(video_id))

    async def transcription(self, video_id: str) -> list[dict[str, Any]]:
        """The phrases of a video's transcript, with times in seconds."""
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
        """The vectors of a video in the library, in the form of the API."""
        return await self._with_library(
            lambda library: [segment_fields(s) for s in library.segments(video_id, options, scopes)]
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
        transcription_options: Sequence[str],
        all_clips: bool = False,
    ) -> list[tuple[Hit, str]]:
        """Search an index. Returns the hits, best first, each with the file name of its keyframe.

        Raises:
            ValueError: an image of the query cannot be decoded.
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
                tuple(transcription_options),
            )
            return [(hit, hit.keyframe) for hit in library.search(query, all_clips=all_clips)]

        async with self._pictures if images else contextlib.nullcontext():
            return await self._with_library(find)

    async def segments_of(
        self,
        evidence: Evidence,
        options: Sequence[str],
        scopes: Sequence[str],
        clip_length: float | None,
        start: float | None = None,
        end: float | None = None,
    ) -> list[dict[str, Any]]:
        """The vectors of evidence that is not in the library, in the form of the API."""

        def make() -> list[dict[str, Any]]:
            from tl_data.local.perception.vision.image_encoder import configured_encoder
            from tl_data.local.search.embeddings import segments_of

            encoder = configured_encoder(self._tiers)
            segments = segments_of(evidence, options, scopes, clip_length, start, end, encoder)
            return [segment_fields(segment) for segment in segments]

        return await asyncio.to_thread(make)

    async def dimension(self) -> int:
        """The length of a vector of the engine, before `search/dimensions.py` resizes it for a model."""

        def count() -> int:
            from tl_data.local.perception.vision.image_encoder import configured_encoder
            from tl_data.local.search.embeddings import dimension

            return dimension(configured_encoder(self._tiers))

        return await asyncio.to_thread(count)

    async def embed_text(self, text: str) -> list[float]:
        """The vector of a text."""

        def make() -> list[float]:
            from tl_data.local.perception.vision.image_encoder import configured_encoder
            from tl_data.local.search.embeddings import embed_text

            return [float(number) for number in embed_text(text, configured_encoder(self._tiers))]

        return await asyncio.to_thread(make)

    async def embed_image(self, image: bytes) -> list[float]:
        """The vector of a JPEG or PNG picture.

        Raises:
            ValueError: the picture cannot be decoded.
        """

        def make() -> list[float]:
            from tl_data.local.perception.vision.image_encoder import configured_encoder
            from tl_data.local.perception.vision.objects import configured_object_models
            from tl_data.local.search.embeddings import embed_image

            return [
                float(number)
                for number in embed_image(
                    image, configured_encoder(self._tiers), configured_object_models(self._tiers)
                )
            ]

        async with self._pictures:
            return await asyncio.to_thread(make)

    async def measured_image(self, image: bytes) -> Clip:
        """A JPEG or PNG picture as a clip, without recognised objects.

        Raises:
            ValueError: the picture cannot be decoded.
        """
        from tl_data.local.search.embeddings import measured_image

        async with self._pictures:
            return await asyncio.to_thread(measured_image, image)

    async def frames(self, video_id: str, evidence: Evidence) -> tuple[Frame, ...]:
        """The frames of a video for the writer; () if the writer uses no frames."""
        if not self.writer.frames:
            return ()
        folder = await self._with_library(lambda library: library.folder(video_id))
        return await asyncio.to_thread(pick, evidence, Path(folder), self.writer.frames)

    async def _with_library(self, work: Callable[[Library], T]) -> T:
        """Call `work` with the library, in a thread. The library is opened at first use."""
        if self._library is None:
            async with self._opening:
                if self._library is None:
                    self._library = await asyncio.to_thread(self._open)
        return await asyncio.to_thread(work, self._library)

    def _open(self) -> Library:
        from tl_data.local.perception.vision.image_encoder import configured_encoder
        from tl_data.local.perception.vision.objects import configured_object_models
        from tl_data.local.storage.library import Library

        return Library(
            self._path, configured_encoder(self._tiers), lambda: configured_object_models(self._tiers)
        )


def segment_fields(segment: Segment) -> dict[str, Any]:
    """The fields of a vector in the API."""
    return {
        "start_offset_sec": segment.start_offset_sec,
        "end_offset_sec": segment.end_offset_sec,
        "embedding_option": segment.embedding_option,
        "embedding_scope": segment.embedding_scope,
        "float": list(segment.vector),
    }


def _model_failed(error: Exception) -> MediaError:
    """The error of a video if a configured model cannot be used."""
    return MediaError("engine_model_failed", f"The video could not be analyzed: {error}.")


def _broken_file(error: Exception) -> MediaError:
    """The error of a video that cannot be read, with the message of the API."""
    return MediaError(
        "video_file_broken",
        f"Cannot read video file. Please check the video file is valid and try again. {error}",
    )


def configured_writer(tiers: Tiers) -> Writer:
    """The configured writer of texts: the text endpoint, or the built-in one."""
    if tiers.llm is None:
        return BuiltIn()
    from tl_data.local.text.llm import EndpointWriter

    return EndpointWriter(tiers.llm)
