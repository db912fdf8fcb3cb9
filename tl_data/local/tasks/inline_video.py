"""Videos that come with a request instead of lying in an index: looked at while it waits, then remembered."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import os
import shutil
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tl_data.local.config import Config
from tl_data.local.errors import APIProblem, MediaProblem, invalid
from tl_data.local.media_validation import check_video
from tl_data.local.perception.evidence import Evidence, Probe
from tl_data.local.perception.frames import pick
from tl_data.local.service import Stages
from tl_data.local.storage.database import new_id
from tl_data.local.tasks.download import fetch
from tl_data.local.text.writer import Material

KINDS = ("url", "base64_string", "asset_id")  # each is also the name of the member that it needs
REMEMBERED = 64
SECONDS = 300.0  # time for the download
ROOM = 2  # looked at side by side, beside the queue's own


class Given:
    """Looks at such videos, the same bytes once."""

    def __init__(self, config: Config, stages: Stages) -> None:
        self._config = config
        self._stages = stages
        self._known: OrderedDict[str, Material] = OrderedDict()
        self._room = asyncio.Semaphore(ROOM)

    async def material(
        self, video: dict[str, Any], *, check: Callable[[Probe], None] = check_video
    ) -> Material:
        """What is known of `{"type": "url", "url": ...}` or `{"type": "base64_string", ...}`.

        `check` refuses what the request has no use for.

        Raises:
            APIProblem: 400, with the reason why it cannot be taken.
        """
        folder = self._config.home / "embeds" / new_id()
        try:
            async with self._room:
                await asyncio.to_thread(folder.mkdir, parents=True)
                return await self._seen(await self._source(video, folder / "source"), folder, check)
        except MediaProblem as problem:
            if problem.code == "parameter_invalid":
                raise invalid("video", problem.message, video[video["type"]]) from None
            raise APIProblem(400, problem.code, problem.message) from None
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    async def _source(self, video: dict[str, Any], source: Path) -> str:
        """Bring the file to `source`; answers its hash."""
        if video["type"] == "url":
            limit = self._config.max_video_bytes
            fetched = await fetch(
                video["url"], source, self._config, limit=limit, seconds=SECONDS, what="video"
            )
            return fetched.sha256
        if video["type"] == "asset_id":
            asset = self._config.asset(video["asset_id"]) / "source"
            try:
                await asyncio.to_thread(os.link, asset, source)
            except FileNotFoundError:
                raise MediaProblem("parameter_invalid", "The asset is not ready.") from None
            with source.open("rb") as file:
                return (await asyncio.to_thread(hashlib.file_digest, file, "sha256")).hexdigest()
        try:
            data = base64.b64decode(video["base64_string"], validate=True)
        except (binascii.Error, ValueError):
            raise MediaProblem("parameter_invalid", "base64_string is not base64.") from None
        await asyncio.to_thread(source.write_bytes, data)
        return hashlib.sha256(data).hexdigest()

    async def _seen(self, sha256: str, folder: Path, check: Callable[[Probe], None]) -> Material:
        if sha256 in self._known:
            check(self._known[sha256].evidence.probe)
        else:
            check(await self._stages.probe(folder / "source"))
            evidence = await self._stages.look(folder / "source", folder / "frames")
            most = self._stages.writer.frames
            frames = await asyncio.to_thread(pick, evidence, folder / "frames", most)
            self._known[sha256] = Material(evidence, frames)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return self._known[sha256]


def check_given(video: Any) -> dict[str, Any]:
    """The `video` of a request, its form checked.

    Raises:
        APIProblem: parameter_invalid.
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


def stretch(evidence: Evidence, start: float | None, end: float | None) -> Evidence:
    """What is known of a part of a video, its times unchanged."""
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
        speech=tuple(span for span in evidence.speech if span.end_sec > begin and span.start_sec < stop),
        shown=tuple(span for span in evidence.shown if span.end_sec > begin and span.start_sec < stop),
    )
