"""Handlers of the queue: each performs the step from one state of an asset, a task or a video to the next.

The video and the state `ready` are written in one transaction, after the keyframes and the evidence are on
disk. The stream follows later. A process that dies leaves no half-written video in a listing, and the next
process repeats the step.
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
from tl_data.local.errors import MediaError, is_full
from tl_data.local.media_validation import (
    check_duration,
    check_sound,
    check_video,
    is_image,
    shortest_video,
)
from tl_data.local.models import OWN_LONGEST, embed_options, longest_video
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


class HeldByFault(Exception):
    """An injected fault holds the task in its state."""


class TaskHandlers:
    """The handlers. Each may raise `MediaError`, `HeldByFault` and `StorageFull`."""

    def __init__(self, config: Config, store: Store, stages: Stages, rates: RateLimits) -> None:
        self._config = config
        self._rates = rates
        self._store = store
        self._stages = stages
        self._slots = asyncio.Semaphore(config.workers)
        self._started_at = now()

    def scratch(self, task_id: str) -> Path:
        """The working folder of an embedding task."""
        return self._config.home / "embeds" / task_id

    def apply_fault(self, table: str, row: Row, state: str) -> None:
        """Apply the outcome that a fault injects into a task in `state`, if there is one.

        Raises:
            MediaError: the task fails in this state.
            HeldByFault: the task stays in this state.
        """
        outcome = row["fate"]
        if not outcome or outcome["kind"] == "warning" or outcome["state"] != state:
            return
        if outcome["kind"] == "failed":
            raise MediaError(outcome["code"], outcome["message"])
        self._store.change(table, row["id"], stuck=1)
        raise HeldByFault

    async def prepare_asset(self, row: Row) -> None:
        """Asset, processing -> ready: fetch the file and read its container."""
        self.apply_fault("assets", row, "processing")
        folder = self._config.asset(row["id"])
        try:
            probe = await self._source(row, folder, "assets", "file")
            facts: Row = {
                "size": probe.size_bytes, "duration": round(probe.duration_sec, 3), "width": probe.width,
                "height": probe.height, "fps": round(probe.fps, 3),
                "kind": "video" if probe.width else "audio",
            }  # fmt: skip
        except MediaError:
            if not await asyncio.to_thread(is_image, folder / "source"):
                raise
            facts = {"size": (folder / "source").stat().st_size, "duration": None, "kind": "image"}
        facts |= {"ready_at": stamp(seconds_of(row["created_at"]) + self._config.asset_delay)}
        if not self._store.change("assets", row["id"], status="ready", updated_at=now(), **facts):
            shutil.rmtree(folder, ignore_errors=True)  # the asset was deleted meanwhile

    async def validate(self, row: Row) -> None:
        """Task, validating -> pending: fetch the file and validate its container."""
        self.apply_fault("tasks", row, "validating")
        folder = self._config.folder(row["video_id"])
        probe = await self._source(row, folder, "tasks")
        check_video(probe, self._config.profile, self._longest(row))
        self._rates.consume("index", "Duration", probe.duration_sec / 60)
        if not self._store.change(
            "tasks", row["id"], status="pending", updated_at=now(), duration=round(probe.duration_sec, 3),
            width=probe.width, height=probe.height, fps=round(probe.fps, 3), size=probe.size_bytes,
        ):  # fmt: skip
            shutil.rmtree(folder, ignore_errors=True)  # the task was deleted meanwhile

    async def _source(self, row: Row, folder: Path, table: str, what: str = "video") -> Probe:
        """Download the file if it is missing, and read its container."""
        source = folder / "source"
        os.makedirs(folder, exist_ok=True)
        if not source.exists():
            if not row["url"]:
                raise MediaError("video_file_broken", "The uploaded file is gone.")
            fetched = await fetch(
                row["url"], source, self._config,
                limit=self._config.video_bytes, seconds=self._config.download_seconds, what=what,
            )  # fmt: skip
            row |= {"filename": fetched.filename, "sha256": fetched.sha256}
            self._store.change(table, row["id"], filename=fetched.filename, sha256=fetched.sha256)
        return await self._stages.probe(source)

    async def index(self, row: Row) -> None:
        """Task, pending -> queued -> indexing -> ready."""
        task_id, video_id = row["id"], row["video_id"]
        self.apply_fault("tasks", row, "pending")
        self._store.change("tasks", task_id, status="queued", updated_at=now())
        async with self._slots:
            self.apply_fault("tasks", row, "queued")
            self._store.change("tasks", task_id, status="indexing", updated_at=now())
            self.apply_fault("tasks", row, "indexing")
            folder = self._config.folder(video_id)
            evidence = await self._analyze(row, folder)
            seconds = round(evidence.probe.duration_sec, 3)
            if seconds > row["duration"]:  # the header has a shorter duration than the decoded video
                check_duration(seconds, shortest_video(self._config.profile), self._longest(row))
                self._store.change("tasks", task_id, duration=seconds)
            await self._stages.add(row["index_id"], video_id, evidence, folder / "frames")
        if not self._mark_ready(row):  # the task or its index was deleted meanwhile
            await self._stages.remove(video_id)
            shutil.rmtree(folder, ignore_errors=True)
        elif not row["stream"]:
            (folder / "source").unlink(missing_ok=True)

    def _longest(self, row: Row) -> float:
        """The maximum length in seconds of a video that the models of the task's index accept."""
        index = self._store.get("indexes", row["index_id"])
        names = [model["model_name"] for model in index["models"]] if index else []
        return longest_video(names, self._config.profile) if names else OWN_LONGEST

    async def _analyze(self, row: Row, folder: Path) -> Evidence:
        """Analyze the file, or reuse the evidence of an identical file that this process has indexed."""
        same = [Where("sha256", "=", row["sha256"]), Where("indexed_at", "gte", self._started_at)]
        for duplicate in self._store.rows("videos", same, columns=["id"]):
            frames = self._config.folder(duplicate["id"]) / "frames"
            with contextlib.suppress(KeyError, OSError):  # the other video is being deleted
                evidence = await self._stages.evidence(duplicate["id"])
                await asyncio.to_thread(shutil.copytree, frames, folder / "frames", dirs_exist_ok=True)
                return evidence
        return await self._stages.analyze(folder / "source", folder / "frames")

    def _mark_ready(self, row: Row) -> bool:
        """Write the video and the state `ready`; False if the task or its index was deleted."""
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
        """Embedding task, processing -> ready."""
        self.apply_fault("embed_tasks", row, "processing")
        folder = self.scratch(row["id"])
        probe = await self._source(row, folder, "embed_tasks", row["kind"])
        longest = longest_video([row["model_name"]], self._config.profile)
        if row["kind"] == "audio":
            check_sound(probe)
        else:
            check_video(probe, self._config.profile, longest)
        end = probe.duration_sec if row["end"] is None else row["end"]
        if end > probe.duration_sec + 0.5:
            name = "end_sec" if row["options"] else "video_end_offset_sec"
            raise MediaError(
                "parameter_invalid",
                f"The {name} parameter is invalid. It should be at most the duration of the "
                f"{row['kind']}, {probe.duration_sec:.2f} seconds. You sent {end:g}.",
            )
        start = row["start"] or 0.0
        if row["kind"] == "video":
            shortest = shortest_video(self._config.profile)
            check_duration(end - start, min(shortest, row["clip_length"] or shortest), longest)
        self._rates.consume("embed", "Duration", (end - start) / 60)
        async with self._slots:
            evidence = await self._analyze(row, folder)
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

    async def package_stream(self, row: Row) -> None:
        """Write the HLS stream of a ready video, then delete its source."""
        folder = self._config.folder(row["id"])
        failure = await make_stream(folder / "source", folder / "hls", MAX_STREAM_SEC)
        state = "ERROR" if failure else "COMPLETE"
        if not self._store.change("videos", row["id"], hls_status=state, hls_updated_at=now()):
            shutil.rmtree(folder, ignore_errors=True)  # the video was deleted meanwhile
            return
        (folder / "source").unlink(missing_ok=True)
        if failure:
            log.warning("cannot write the stream of video %s: %s", row["id"], failure)

    async def reanalyze(self, row: Row) -> None:
        """Update evidence that other models or an earlier version created, with the active models."""
        folder = self._config.folder(row["id"])
        try:
            async with self._slots:
                evidence = await self._stages.evidence(row["id"])
                if evidence.form == FORM and evidence.object_models == self._config.tiers.object_models:
                    await self._update_evidence(row, evidence, folder / "frames")
                else:
                    await self._rebuild_evidence(row, evidence, folder / "frames")
        except MediaError as error:
            self._store.change("videos", row["id"], again=reindex.FAILED, again_error=error.message)
            return
        except Exception as error:
            if is_full(error):
                raise
            log.exception("cannot reanalyze video %s", row["id"])
            text = "Internal error while analyzing this video again. See the log of the engine."
            self._store.change("videos", row["id"], again=reindex.FAILED, again_error=text)
            return
        model = self._config.tiers.search_model
        self._store.increment("video minutes looked at again", row["duration"] / 60)
        if not self._store.change(
            "videos", row["id"], looked_by=model, form=FORM, again=None, again_error=None, updated_at=now()
        ):
            await self._stages.remove(row["id"])  # the video was deleted meanwhile
            shutil.rmtree(folder, ignore_errors=True)

    async def _update_evidence(self, row: Row, evidence: Evidence, frames: Path) -> None:
        """Rerun only the models that changed, on the keyframes or on the sound."""
        file = frames / "none"  # a placeholder: the file is only read if the speech model changed
        async with contextlib.AsyncExitStack() as stack:
            if evidence.speech_model != self._config.tiers.speech_model and evidence.probe.audio_codec:
                file = await stack.enter_async_context(reindex.file_of(row, self._store, self._config))
            fresh = await self._stages.reanalyze(evidence, file, frames)
        await self._stages.add(row["index_id"], row["id"], fresh, frames)

    async def _rebuild_evidence(self, row: Row, evidence: Evidence, frames: Path) -> None:
        """Analyze the file from scratch, into a separate folder: the keyframes may differ."""
        fresh_frames = frames.with_name("frames.again")
        await asyncio.to_thread(shutil.rmtree, fresh_frames, ignore_errors=True)
        async with reindex.file_of(row, self._store, self._config) as file:
            fresh = await self._stages.analyze(file, fresh_frames)
        # Keyframes are replaced first: if the process is killed, the old evidence is still stored, and the
        # next process repeats the whole step.
        await asyncio.to_thread(_replace_folder, fresh_frames, frames)
        # The file may be the repackaged stream, so the facts about the original container are kept.
        fresh = replace(fresh, probe=evidence.probe)
        await self._stages.add(row["index_id"], row["id"], fresh, frames)


def _replace_folder(fresh: Path, old: Path) -> None:
    """Replace the folder `old` by the folder `fresh`."""
    shutil.rmtree(old, ignore_errors=True)
    fresh.rename(old)
