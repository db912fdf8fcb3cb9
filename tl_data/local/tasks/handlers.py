"""The steps of a task, from one state to the next: what is done to a row that the queue hands over.

The video and the state `ready` appear in one transaction, after everything of the video is on disk; so
a process that dies at any point leaves nothing half-written in a list, and the next one does the step again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
from dataclasses import replace
from pathlib import Path

from tl_data.local.config import Config
from tl_data.local.errors import MediaProblem, is_full
from tl_data.local.media_validation import check_duration, check_sound, check_video, is_image
from tl_data.local.models import embed_options
from tl_data.local.perception.evidence import FORM, Evidence, Probe
from tl_data.local.rate_limits import RateLimits
from tl_data.local.service import Stages
from tl_data.local.storage.counters import Bill
from tl_data.local.storage.database import Row, Store, Where, now, seconds_of, stamp
from tl_data.local.tasks import reindex
from tl_data.local.tasks.download import fetch
from tl_data.local.tasks.hls import make_stream

log = logging.getLogger("tl_data.local")

MAX_STREAM_SEC = 4 * 3600.0


class Stuck(Exception):
    """Leaves the task as it is."""


class Steps:
    """What can be done to assets, tasks and videos. Every step may raise `MediaProblem` and `Stuck`."""

    def __init__(self, config: Config, store: Store, stages: Stages, rates: RateLimits) -> None:
        self._config = config
        self._rates = rates
        self._store = store
        self._stages = stages
        self._room = asyncio.Semaphore(config.workers)
        self._begun = now()

    def scratch(self, task_id: str) -> Path:
        """The folder of an embedding task while it is worked on."""
        return self._config.home / "embeds" / task_id

    def suffer(self, table: str, row: Row, state: str) -> None:
        """Let an injected fault have its way: fail in this state, or stay in it for ever."""
        fate = row["fate"]
        if not fate or fate["kind"] == "warning" or fate["state"] != state:
            return
        if fate["kind"] == "failed":
            raise MediaProblem(fate["code"], fate["message"])
        self._store.change(table, row["id"], stuck=1)
        raise Stuck

    async def bring(self, row: Row) -> None:
        """processing -> ready, for an asset: get the file, look at its container."""
        self.suffer("assets", row, "processing")
        folder = self._config.asset(row["id"])
        try:
            probe = await self._source(row, folder, "assets", "file")
            facts: Row = {
                "size": probe.size_bytes, "duration": round(probe.duration_sec, 3), "width": probe.width,
                "height": probe.height, "fps": round(probe.fps, 3),
                "kind": "video" if probe.width else "audio",
            }  # fmt: skip
        except MediaProblem:
            if not await asyncio.to_thread(is_image, folder / "source"):
                raise
            facts = {"size": (folder / "source").stat().st_size, "duration": None, "kind": "image"}
        facts |= {"ready_at": stamp(seconds_of(row["created_at"]) + self._config.asset_delay)}
        if not self._store.change("assets", row["id"], status="ready", updated_at=now(), **facts):
            shutil.rmtree(folder, ignore_errors=True)  # deleted meanwhile

    async def check(self, row: Row) -> None:
        """validating -> pending: get the file, look at its container."""
        self.suffer("tasks", row, "validating")
        folder = self._config.folder(row["video_id"])
        probe = await self._source(row, folder, "tasks")
        check_video(probe)
        self._rates.consume("index", "Duration", probe.duration_sec / 60)
        if not self._store.change(
            "tasks", row["id"], status="pending", updated_at=now(), duration=round(probe.duration_sec, 3),
            width=probe.width, height=probe.height, fps=round(probe.fps, 3), size=probe.size_bytes,
        ):  # fmt: skip
            shutil.rmtree(folder, ignore_errors=True)  # deleted meanwhile

    async def _source(self, row: Row, folder: Path, table: str, what: str = "video") -> Probe:
        source = folder / "source"
        os.makedirs(folder, exist_ok=True)
        if not source.exists():
            if not row["url"]:
                raise MediaProblem("video_file_broken", "The uploaded file is gone.")
            fetched = await fetch(
                row["url"], source, self._config,
                limit=self._config.max_video_bytes, seconds=self._config.download_seconds, what=what,
            )  # fmt: skip
            row |= {"filename": fetched.filename, "sha256": fetched.sha256}
            self._store.change(table, row["id"], filename=fetched.filename, sha256=fetched.sha256)
        return await self._stages.probe(source)

    async def index(self, row: Row) -> None:
        """pending -> queued -> indexing -> ready."""
        task_id, video_id = row["id"], row["video_id"]
        self.suffer("tasks", row, "pending")
        self._store.change("tasks", task_id, status="queued", updated_at=now())
        async with self._room:
            self.suffer("tasks", row, "queued")
            self._store.change("tasks", task_id, status="indexing", updated_at=now())
            self.suffer("tasks", row, "indexing")
            folder = self._config.folder(video_id)
            evidence = await self._look(row, folder)
            if (seconds := round(evidence.probe.duration_sec, 3)) > row["duration"]:  # its header says less
                check_duration(seconds)
                self._store.change("tasks", task_id, duration=seconds)
            await self._stages.add(row["index_id"], video_id, evidence, folder / "frames")
        if not self._finish(row):  # deleted meanwhile, alone or with its index
            await self._stages.remove(video_id)
            shutil.rmtree(folder, ignore_errors=True)
        elif not row["stream"]:
            (folder / "source").unlink(missing_ok=True)

    async def _look(self, row: Row, folder: Path) -> Evidence:
        """Look at the file, unless this process has looked at the same bytes before."""
        same = [Where("sha256", "=", row["sha256"]), Where("indexed_at", "gte", self._begun)]
        for twin in self._store.rows("videos", same, columns=["id"]):
            frames = self._config.folder(twin["id"]) / "frames"
            with contextlib.suppress(KeyError, OSError):  # deleted at this moment
                evidence = await self._stages.evidence(twin["id"])
                await asyncio.to_thread(shutil.copytree, frames, folder / "frames", dirs_exist_ok=True)
                return evidence
        return await self._stages.analyze(folder / "source", folder / "frames")

    def _finish(self, row: Row) -> bool:
        at = now()
        with self._store.transaction():
            task = self._store.get("tasks", row["id"])
            if task is None or self._store.get("indexes", row["index_id"]) is None:
                return False
            names = ("index_id", "filename", "duration", "width", "height", "fps", "size", "sha256", "stream")
            video = {name: task[name] for name in names} | {
                "id": row["video_id"], "created_at": row["created_at"], "updated_at": at, "indexed_at": at,
                "user_metadata": task["user_metadata"] or {}, "hls_updated_at": at,
                "hls_status": "PROCESSING" if row["stream"] else None,
                "looked_by": self._config.tiers.search_model, "form": FORM,
            }  # fmt: skip
            self._store.remove("videos", [Where("id", "=", row["video_id"])])
            self._store.add("videos", video)
            self._store.change("tasks", row["id"], status="ready", updated_at=at)
            self._store.change("indexes", row["index_id"], updated_at=at)
            self._store.increment("video minutes indexed", task["duration"] / 60)
            Bill(self._store).charge("index", seconds=task["duration"])
        return True

    async def embed(self, row: Row) -> None:
        """processing -> ready, for an embedding task."""
        self.suffer("embed_tasks", row, "processing")
        folder = self.scratch(row["id"])
        probe = await self._source(row, folder, "embed_tasks", row["kind"])
        (check_sound if row["kind"] == "audio" else check_video)(probe)
        end = probe.duration_sec if row["end"] is None else row["end"]
        if end > probe.duration_sec + 0.5:
            name = "end_sec" if row["options"] else "video_end_offset_sec"
            raise MediaProblem(
                "parameter_invalid",
                f"The {name} parameter is invalid. It should be at most the duration of the "
                f"{row['kind']}, {probe.duration_sec:.2f} seconds. You sent {end:g}.",
            )
        start = row["start"] or 0.0
        if row["kind"] == "video":
            check_duration(end - start, min(4.0, row["clip_length"] or 4.0))
        self._rates.consume("embed", "Duration", (end - start) / 60)
        async with self._room:
            evidence = await self._look(row, folder)
            options = row["options"] if row["kind"] == "audio" else embed_options(row["model_name"])
            segments = await self._stages.segments_of(
                evidence, options, row["scopes"], row["clip_length"], start, min(end, probe.duration_sec)
            )
        self._store.change(
            "embed_tasks", row["id"], status="ready", segments=segments,
            duration=round(probe.duration_sec, 3), updated_at=now(),
        )  # fmt: skip
        self._store.increment("video minutes embedded", (end - start) / 60)
        Bill(self._store).charge(f"embed_{row['kind']}", seconds=round(end - start, 3))
        shutil.rmtree(folder, ignore_errors=True)

    async def stream(self, row: Row) -> None:
        """Make the HLS stream of a video that is ready; then its source is needed no more."""
        folder = self._config.folder(row["id"])
        trouble = await make_stream(folder / "source", folder / "hls", MAX_STREAM_SEC)
        state = "ERROR" if trouble else "COMPLETE"
        if not self._store.change("videos", row["id"], hls_status=state, hls_updated_at=now()):
            shutil.rmtree(folder, ignore_errors=True)  # deleted meanwhile
            return
        (folder / "source").unlink(missing_ok=True)
        if trouble:
            log.warning("no stream of video %s: %s", row["id"], trouble)

    async def look_again(self, row: Row) -> None:
        """Bring a video that other models or an earlier version looked at to what is at work."""
        folder = self._config.folder(row["id"])
        try:
            async with self._room:
                evidence = await self._stages.evidence(row["id"])
                if evidence.form == FORM and evidence.eyes == self._config.tiers.eyes:
                    await self._add_changed(row, evidence, folder / "frames")
                else:
                    await self._add_anew(row, evidence, folder / "frames")
        except MediaProblem as problem:
            self._store.change("videos", row["id"], again=reindex.FAILED, again_error=problem.message)
            return
        except Exception as error:
            if is_full(error):
                raise
            log.exception("again %s", row["id"])
            text = "The engine could not look at this video again. Its log says why."
            self._store.change("videos", row["id"], again=reindex.FAILED, again_error=text)
            return
        model = self._config.tiers.search_model
        self._store.increment("video minutes looked at again", row["duration"] / 60)
        if not self._store.change(
            "videos", row["id"], looked_by=model, form=FORM, again=None, again_error=None, updated_at=now()
        ):
            await self._stages.remove(row["id"])  # deleted meanwhile
            shutil.rmtree(folder, ignore_errors=True)

    async def _add_changed(self, row: Row, evidence: Evidence, frames: Path) -> None:
        """The evidence with what other models see in its keyframes and hear in its sound."""
        file = frames / "none"
        async with contextlib.AsyncExitStack() as kept:
            if evidence.ears != self._config.tiers.ears and evidence.probe.audio_codec:
                file = await kept.enter_async_context(reindex.file_of(row, self._store, self._config))
            fresh = await self._stages.reanalyze(evidence, file, frames)
        await self._stages.add(row["index_id"], row["id"], fresh, frames)

    async def _add_anew(self, row: Row, evidence: Evidence, frames: Path) -> None:
        """Everything looked at anew, into a folder of its own: the keyframes may be others."""
        beside = frames.with_name("frames.again")
        await asyncio.to_thread(shutil.rmtree, beside, ignore_errors=True)
        async with reindex.file_of(row, self._store, self._config) as file:
            fresh = await self._stages.analyze(file, beside)
        # First the pictures: after a kill the evidence still is the old one, and all of it is done over.
        await asyncio.to_thread(_put_in_place, beside, frames)
        # The file may be the stream, which was packed anew: the facts are those of the video that was given.
        fresh = replace(fresh, probe=evidence.probe)
        await self._stages.add(row["index_id"], row["id"], fresh, frames)


def _put_in_place(fresh: Path, old: Path) -> None:
    """A folder in the place of another."""
    shutil.rmtree(old, ignore_errors=True)
    fresh.rename(old)
