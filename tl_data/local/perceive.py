"""Downloads and analyzes videos without a server, as the engine does: for the workers of a cluster.

    with Perceiver(Access()) as perceiver:
        later = perceiver.start("https://example.com/tour.mp4")     # begins the download
        perceiver.finish(later).segments                            # the vectors

Downloads, models and vectors are those of the engine, and limits those of its profile `lenient`, so the
results are equal. A worker of the engine has a process for pictures and one for sound. Here a single process
with one thread does both, because a cluster divides its cores among executors.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import aiohttp

from tl_data.local.config import Config
from tl_data.local.errors import MediaError
from tl_data.local.media_validation import check_video
from tl_data.local.models import Tiers, embed_options, read_tiers
from tl_data.local.perception.evidence import NotVideo
from tl_data.local.perception.worker_pool import WorkerFailed, WorkerPool
from tl_data.local.search.transcript import phrases
from tl_data.local.service import segment_fields
from tl_data.local.storage import serialization
from tl_data.local.tasks.download import (
    UNREACHABLE,
    Fetched,
    check_url,
    fetch,
    local_file,
    opened,
    reason_of,
)

T = TypeVar("T")


@dataclass(frozen=True)
class Access:
    """The addresses and limits of downloads; see the options of `tl-data serve`."""

    allow_private: bool = False  # URLs may resolve to loopback and private addresses
    media: str | None = None  # folder that file:// URLs may read
    analysis_seconds: float = Config.look_seconds  # time limit of an analysis


@dataclass(frozen=True)
class Perceived:
    """The result for one video."""

    sha256: str  # of the file, in hex
    filename: str
    size_bytes: int
    duration_sec: float
    width: int
    height: int
    fps: float
    form: int  # version of the evidence
    evidence: bytes  # compressed JSON, as the engine stores it
    segments: list[dict[str, Any]]  # vectors in the form of the API
    transcription: list[dict[str, Any]]  # phrases with start, end and value
    seconds: float  # duration of the analysis


class Perceiver:
    """One worker process, which loads the models once. Call its methods from one thread only.

    Args:
        folder: a folder of its own for downloads, which `close` removes; by default a temporary one.

    Raises:
        SettingsError: a setting of a model, such as TL_LOCAL_CLIP, is wrong.
    """

    def __init__(self, access: Access, tiers: Tiers | None = None, folder: Path | None = None) -> None:
        self.tiers = tiers or read_tiers()
        self.model = self.tiers.search_model
        self._scratch = folder or Path(tempfile.mkdtemp(prefix="tl-perceive-"))
        self._scratch.mkdir(exist_ok=True)
        self._config = Config(
            home=self._scratch,
            allow_private=access.allow_private,
            media=Path(access.media) if access.media else None,
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._pool = WorkerPool(1, seconds=access.analysis_seconds, tiers=self.tiers, alone=True)
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the worker process and delete the temporary files."""
        self._call(self._pool.aclose()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def headers(self, url: str, signed_get: str | None = None) -> tuple[int, dict[str, str]]:
        """Status and headers of a URL, by HEAD, or by GET of the first byte where HEAD is not supported.

        Args:
            signed_get: the URL for GET, if another one is signed for it.

        Raises:
            MediaError: the URL is not allowed, or its host does not answer.
        """
        return self._call(self._headers(url, signed_get or url)).result()

    def check(self, url: str) -> None:
        """Check that a URL may be read. A host name is checked again when its address is known.

        Raises:
            MediaError: the URL is not allowed.
        """
        if urlsplit(check_url(url, self._config)).scheme == "file":
            local_file(url, self._config)

    def start(self, url: str) -> Future[tuple[Path, Fetched]]:
        """Begin the download of a video. `finish` takes the result."""
        self._count += 1
        folder = self._scratch / str(self._count)
        folder.mkdir()
        return self._call(self._fetch(url, folder))

    def finish(
        self,
        download: Future[tuple[Path, Fetched]],
        then: Callable[[Path, float], None] | None = None,
    ) -> Perceived:
        """Wait for a download, analyze the video and delete the file.

        Args:
            download: from `start`.
            then: called with the file and its length in seconds after the analysis, before the deletion.

        Raises:
            MediaError: the video cannot be downloaded or read, or violates a limit.
            ModelFailed: a configured model cannot be used.
            StorageFull: the disk is full.
        """
        folder, fetched = download.result()
        try:
            found = self._call(self._analyze(folder, fetched)).result()
            if then is not None:
                then(fetched.path, found.duration_sec)
            return found
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def discard(self, download: Future[tuple[Path, Fetched]]) -> None:
        """End a download that is not analyzed, and delete its file."""
        if not download.cancel() and download.exception() is None:
            shutil.rmtree(download.result()[0], ignore_errors=True)

    def _call(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _headers(self, url: str, get: str) -> tuple[int, dict[str, str]]:
        status, headers = await self._request("HEAD", url, {})
        if status >= 400 or not headers.get("content-length"):
            status, headers = await self._request("GET", get, {"Range": "bytes=0-0"})
        return status, headers

    async def _request(self, method: str, url: str, fields: Mapping[str, str]) -> tuple[int, dict[str, str]]:
        config, timeout = self._config, aiohttp.ClientTimeout(total=60, sock_connect=20)
        try:
            async with opened(method, check_url(url, config), config, timeout, "video", fields) as opening:
                response, _ = opening
                return response.status, {k.lower(): v for k, v in response.headers.items()}
        except (aiohttp.ClientError, TimeoutError, OSError, UnicodeError, ValueError) as error:
            raise MediaError(UNREACHABLE, f"The video URL cannot be reached: {reason_of(error)}.") from None

    async def _fetch(self, url: str, folder: Path) -> tuple[Path, Fetched]:
        try:
            config = self._config
            return folder, await fetch(
                url, folder / "source", config,
                limit=config.video_bytes, seconds=config.download_seconds, what="video",
            )  # fmt: skip
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    async def _analyze(self, folder: Path, fetched: Fetched) -> Perceived:
        begun = time.monotonic()
        try:
            check_video(await self._pool.probe(fetched.path), self._config.profile)
            evidence = await self._pool.analyze(fetched.path, folder / "frames")
        except NotVideo as error:
            raise MediaError("video_file_broken", f"Cannot read the video file. {error}") from error
        except WorkerFailed as error:  # perhaps for lack of memory or time, which the executor may have later
            raise MediaError("engine_worker_failed", f"Cannot analyze the video file. {error}") from error
        # The header may have a shorter duration than the pictures.
        check_video(evidence.probe, self._config.profile)
        segments = await asyncio.to_thread(self._segments, evidence)
        return Perceived(
            sha256=fetched.sha256,
            filename=fetched.filename,
            size_bytes=evidence.probe.size_bytes,
            duration_sec=round(evidence.probe.duration_sec, 3),
            width=evidence.probe.width,
            height=evidence.probe.height,
            fps=round(evidence.probe.fps, 3),
            form=evidence.form,
            evidence=serialization.pack(evidence),
            segments=segments,
            transcription=[
                {"start": phrase.start_sec, "end": phrase.end_sec, "value": phrase.text}
                for span in evidence.speech
                for phrase in phrases(span)
            ],
            seconds=round(time.monotonic() - begun, 3),
        )

    def _segments(self, evidence: Any) -> list[dict[str, Any]]:
        from tl_data.local.perception.vision.image_encoder import configured_encoder
        from tl_data.local.search.embeddings import segments_of

        options = embed_options(self.model)
        found = segments_of(evidence, options, ("clip", "video"), encoder=configured_encoder(self.tiers))
        return [segment_fields(segment) for segment in found]
