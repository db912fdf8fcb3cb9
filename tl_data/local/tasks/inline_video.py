"""Videos that a request contains or refers to. They are analyzed while the request waits, then cached."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hashlib
import os
import shutil
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tl_data.local.config import Config
from tl_data.local.errors import EngineError, MediaError, invalid
from tl_data.local.perception.evidence import Evidence, Probe
from tl_data.local.perception.vision.frames import pick
from tl_data.local.search.transcript import part_within
from tl_data.local.service import Stages
from tl_data.local.storage.database import Store, Where, new_id, now
from tl_data.local.tasks.download import fetch
from tl_data.local.text.writer import WriterInput

#: Values of `type` of a `video` object; each is also the name of the member that must exist.
KINDS = ("url", "base64_string", "asset_id")
CACHED = 64  # maximum number of cached videos
DOWNLOAD_SECONDS = 300.0
CONCURRENCY = 2  # videos that are fetched and analyzed concurrently; the queue uses the same workers


class InlineVideos:
    """Analyzes the videos of requests. Identical files are analyzed once."""

    def __init__(self, config: Config, store: Store, stages: Stages) -> None:
        self._config = config
        self._store = store
        self._stages = stages
        self._started_at = now()
        self._locks: dict[str, asyncio.Lock] = {}  # SHA-256 of a file -> its lock
        self._cache: OrderedDict[str, WriterInput] = OrderedDict()  # by SHA-256, oldest first
        self._slots = asyncio.Semaphore(CONCURRENCY)

    async def writer_input(self, video: dict[str, Any], *, check: Callable[[Probe], None]) -> WriterInput:
        """The evidence and frames of a valid `video` object, such as `{"type": "url", "url": ...}`.

        Args:
            check: validates the container before the analysis.

        Raises:
            EngineError: 400, the video cannot be fetched or analyzed.
        """
        folder = self._config.home / "embeds" / new_id()
        try:
            async with self._slots:
                await asyncio.to_thread(folder.mkdir, parents=True)
                return await self._analyze(await self._source(video, folder / "source"), folder, check)
        except MediaError as error:
            if error.code == "parameter_invalid":
                raise invalid("video", error.message, video[video["type"]]) from None
            raise EngineError(400, error.code, error.message) from None
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    async def _source(self, video: dict[str, Any], source: Path) -> str:
        """Write the file to `source`; returns its SHA-256."""
        if video["type"] == "url":
            limit = self._config.video_bytes
            fetched = await fetch(
                video["url"], source, self._config, limit=limit, seconds=DOWNLOAD_SECONDS, what="video"
            )
            return fetched.sha256
        if video["type"] == "asset_id":
            asset = self._config.asset(video["asset_id"]) / "source"
            try:
                await asyncio.to_thread(os.link, asset, source)
            except FileNotFoundError:
                raise MediaError("parameter_invalid", "The asset is not ready.") from None
            row = self._store.get("assets", video["asset_id"])
            if row and row["sha256"]:
                return str(row["sha256"])
            with source.open("rb") as file:
                return (await asyncio.to_thread(hashlib.file_digest, file, "sha256")).hexdigest()
        try:
            data = base64.b64decode(video["base64_string"], validate=True)
        except (binascii.Error, ValueError):
            raise MediaError("parameter_invalid", "base64_string is not valid base64.") from None
        await asyncio.to_thread(source.write_bytes, data)
        return hashlib.sha256(data).hexdigest()

    async def _analyze(self, sha256: str, folder: Path, check: Callable[[Probe], None]) -> WriterInput:
        """Analyze the file in `folder`, or return what is cached or indexed for an identical file."""
        lock = self._locks.setdefault(sha256, asyncio.Lock())
        try:
            async with lock:
                known = self._cache.get(sha256) or await self._indexed(sha256)
                check(known.evidence.probe if known else await self._stages.probe(folder / "source"))
                if known is None:
                    evidence = await self._stages.analyze(folder / "source", folder / "frames")
                    max_frames = self._stages.writer.frames
                    known = WriterInput(
                        evidence, await asyncio.to_thread(pick, evidence, folder / "frames", max_frames)
                    )
                self._cache[sha256] = known
                while len(self._cache) > CACHED:
                    self._cache.popitem(last=False)
                return known
        finally:
            if not lock.locked():
                self._locks.pop(sha256, None)

    async def _indexed(self, sha256: str) -> WriterInput | None:
        """The evidence of an identical file that this process has indexed."""
        same = [Where("sha256", "=", sha256), Where("indexed_at", "gte", self._started_at)]
        for duplicate in self._store.rows("videos", same, columns=["id"], limit=1):
            with contextlib.suppress(KeyError):  # the other video is being deleted
                evidence = await self._stages.evidence(duplicate["id"])
                return WriterInput(evidence, await self._stages.frames(duplicate["id"], evidence))
        return None


def check_video_source(video: Any) -> dict[str, Any]:
    """Validate the `video` object of a request.

    Raises:
        EngineError: parameter_invalid.
    """
    kind = video.get("type") if isinstance(video, dict) else None
    if kind not in KINDS or not isinstance(video.get(kind), str):
        names = ", ".join(KINDS)
        raise invalid(
            "video",
            f"It must be an object whose type is one of {names}, with a member of that name.",
            video,
        )
    return dict(video)


def within_window(evidence: Evidence, start: float | None, end: float | None) -> Evidence:
    """The evidence between `start` and `end` seconds of a video. Times stay relative to the whole video.

    A sentence that the window cuts keeps the words inside.

    Raises:
        EngineError: parameter_invalid. The range is empty or begins after the end of the video.
    """
    if start is None and end is None:
        return evidence
    begin, stop = start or 0.0, evidence.probe.duration_sec if end is None else end
    if not begin < stop:
        length = evidence.probe.duration_sec
        raise invalid(
            "end_time" if end is not None else "start_time",
            f"end_time must be greater than start_time; you sent start_time {begin:g} and end_time {stop:g}, "
            f"and the video has {length:.2f} seconds."
            if end is not None
            else f"It must be less than the length of the video, {length:.2f} seconds.",
            end if end is not None else start,
        )
    return replace(
        evidence,
        clips=tuple(clip for clip in evidence.clips if clip.end_sec > begin and clip.start_sec < stop),
        speech=tuple(part for span in evidence.speech if (part := part_within(span, begin, stop))),
        shown=tuple(span for span in evidence.shown if span.end_sec > begin and span.start_sec < stop),
    )
