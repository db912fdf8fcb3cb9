"""The work: hundreds of tasks may wait, a bounded number is worked on, and all state is in the store.

An indexing task goes validating -> pending -> queued -> indexing -> ready, or from anywhere to failed.
The video and the state `ready` appear in one transaction, after everything of the video is on disk; so
a process that dies at any point leaves nothing half-written in a list, and the next one does the step again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

from tl_data.local import again
from tl_data.local.config import Config
from tl_data.local.errors import MediaProblem
from tl_data.local.evidence import Evidence, Probe
from tl_data.local.fetch import fetch
from tl_data.local.hls import make_stream
from tl_data.local.images import is_image
from tl_data.local.models import embed_options
from tl_data.local.rates import Rates
from tl_data.local.requirements import check_duration, check_sound, check_video
from tl_data.local.stages import Stages
from tl_data.local.store import Row, Store, Where, now

log = logging.getLogger("tl_data.local")

CHECKERS = 4  # downloads and container checks at the same time
UNFINISHED = ("validating", "pending", "queued", "indexing")
MAX_STREAM_SEC = 4 * 3600.0
SWEEP_SEC = 20.0

FREE = Where("stuck", "=", 0)  # not held for ever by an injected fault

Step = Callable[[Row], Awaitable[None]]


class Queue:
    """Takes work from the store and brings it to its end."""

    def __init__(self, config: Config, store: Store, stages: Stages, rates: Rates) -> None:
        self._config = config
        self._rates = rates
        self._store = store
        self._stages = stages
        self._wake = asyncio.Condition()
        self._room = asyncio.Semaphore(config.workers)
        self._held: set[str] = set()  # ids being worked on
        self._begun = now()
        self._lanes: list[asyncio.Task[None]] = []
        self.analyse: Step | None = None  # what an analysis task does: it needs more than this queue has

    def start(self) -> None:
        """Begin, with what an earlier process left unfinished put back in line."""
        for row in self._store.rows("tasks", [Where("status", "in", ("queued", "indexing")), FREE]):
            self._store.change("tasks", row["id"], status="pending", updated_at=now())
        self._sweep()
        lanes = [self._lane("tasks", ("validating",), self._check) for _ in range(CHECKERS)]
        lanes += [self._lane("tasks", ("pending",), self._index) for _ in range(self._config.workers)]
        lanes += [
            self._lane("embed_tasks", ("processing",), self._embed) for _ in range(self._config.workers)
        ]
        if self.analyse:
            lanes += [
                self._lane("analyze_tasks", ("queued", "processing"), self.analyse)
                for _ in range(self._config.workers)
            ]
        lanes += [self._lane("assets", ("processing",), self._bring) for _ in range(CHECKERS)]
        lanes += [self._lane("videos", ("PROCESSING",), self._stream, "hls_status"), self._sweeping()]
        lanes += [
            self._lane("videos", (again.WANTED,), self._look_again, "again")
            for _ in range(self._config.workers)
        ]
        self._lanes = [asyncio.create_task(lane) for lane in lanes]

    async def stop(self) -> None:
        """End at once; what was worked on is done again by the next process."""
        for lane in self._lanes:
            lane.cancel()
        await asyncio.gather(*self._lanes, return_exceptions=True)

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is worked on."""
        waiting = self._store.total("tasks", [Where("status", "in", UNFINISHED), FREE])
        for table in ("embed_tasks", "assets", "analyze_tasks"):
            states = Where("status", "in", ("queued", "processing"))
            waiting += self._store.total(table, [states, FREE])
        waiting += self._store.total("videos", [Where("again", "=", again.WANTED)])
        return not self._held and not waiting

    def holds(self, task_id: str) -> bool:
        """Whether a task is being worked on right now; its files are then the queue's to remove."""
        return task_id in self._held

    async def wake(self) -> None:
        """Say that there may be new work."""
        async with self._wake:
            self._wake.notify_all()

    async def _lane(self, table: str, states: tuple[str, ...], step: Step, column: str = "status") -> None:
        """One row after another, oldest first, as long as the process lives."""
        where = [Where(column, "in", states)]
        where += [FREE] if table != "videos" else []
        while True:
            row = self._claim(table, where)
            if row is None:
                async with self._wake:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._wake.wait(), SWEEP_SEC)
                continue
            try:
                await step(row)
            except _Stuck:
                pass
            except MediaProblem as problem:
                self._fail(table, row, problem.code, problem.message)
            except Exception:  # the lane must go on, whatever one video does
                log.exception("%s %s", table, row["id"])
                self._fail(table, row, "internal_error", "The engine could not work on this video.")
            finally:
                self._held.discard(row["id"])
            await self.wake()

    def _claim(self, table: str, where: list[Where]) -> Row | None:
        for row in self._store.rows(table, where, descending=False, limit=len(self._held) + 1):
            if row["id"] not in self._held:
                self._held.add(row["id"])
                return row
        return None

    def _fail(self, table: str, row: Row, code: str, message: str) -> None:
        if table == "videos":
            self._store.change("videos", row["id"], hls_status="ERROR", hls_updated_at=now())
            return
        error = {"code": code, "message": message}
        if table == "analyze_tasks":
            self._store.change(table, row["id"], completed_at=now())
        self._store.change(table, row["id"], status="failed", error=error, updated_at=now())
        folder = {"tasks": self._config.folder, "assets": self._config.asset}.get(table, self._scratch)(
            row["video_id" if table == "tasks" else "id"]
        )
        shutil.rmtree(folder, ignore_errors=True)

    def _scratch(self, task_id: str) -> Path:
        return self._config.home / "embeds" / task_id

    async def _bring(self, row: Row) -> None:
        """processing -> ready, for an asset: get the file, look at its container."""
        self.suffer("assets", row, "processing")
        folder = self._config.asset(row["id"])
        try:
            probe = await self._source(row, folder, "assets", "file")
            size, duration = probe.size_bytes, round(probe.duration_sec, 3)
        except MediaProblem:
            if not await asyncio.to_thread(is_image, folder / "source"):
                raise
            size, duration = (folder / "source").stat().st_size, None
        if not self._store.change(
            "assets", row["id"], status="ready", updated_at=now(), size=size, duration=duration
        ):
            shutil.rmtree(folder, ignore_errors=True)  # deleted meanwhile

    async def _check(self, row: Row) -> None:
        """validating -> pending: get the file, look at its container."""
        self.suffer("tasks", row, "validating")
        folder = self._config.folder(row["video_id"])
        probe = await self._source(row, folder, "tasks")
        check_video(probe)
        self._rates.spend("index", "Duration", probe.duration_sec / 60)
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

    async def _index(self, row: Row) -> None:
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
        return await self._stages.look(folder / "source", folder / "frames")

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
                "looked_by": self._config.tiers.search_model,
            }  # fmt: skip
            self._store.remove("videos", [Where("id", "=", row["video_id"])])
            self._store.add("videos", video)
            self._store.change("tasks", row["id"], status="ready", updated_at=at)
            self._store.change("indexes", row["index_id"], updated_at=at)
            self._store.count("video minutes indexed", task["duration"] / 60)
        return True

    async def _embed(self, row: Row) -> None:
        """processing -> ready, for an embedding task."""
        self.suffer("embed_tasks", row, "processing")
        folder = self._scratch(row["id"])
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
            check_duration(end - start, min(4.0, row["clip_length"]))
        self._rates.spend("embed", "Duration", (end - start) / 60)
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
        self._store.count("video minutes embedded", (end - start) / 60)
        shutil.rmtree(folder, ignore_errors=True)

    async def _stream(self, row: Row) -> None:
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

    async def _look_again(self, row: Row) -> None:
        """Bring a video that other models looked at to those at work."""
        folder = self._config.folder(row["id"])
        try:
            async with self._room:
                evidence = await self._stages.evidence(row["id"])
                sound = folder / "none"
                async with contextlib.AsyncExitStack() as kept:
                    if evidence.ears != self._config.tiers.ears and evidence.probe.audio_codec:
                        sound = await kept.enter_async_context(again.sound_of(row, self._store, self._config))
                    fresh = await self._stages.look_again(evidence, sound, folder / "frames")
                await self._stages.add(row["index_id"], row["id"], fresh, folder / "frames")
        except MediaProblem as problem:
            self._store.change("videos", row["id"], again=again.FAILED, again_error=problem.message)
            return
        except Exception:
            log.exception("again %s", row["id"])
            text = "The engine could not look at this video again. Its log says why."
            self._store.change("videos", row["id"], again=again.FAILED, again_error=text)
            return
        model = self._config.tiers.search_model
        self._store.count("video minutes looked at again", row["duration"] / 60)
        if not self._store.change(
            "videos", row["id"], looked_by=model, again=None, again_error=None, updated_at=now()
        ):
            await self._stages.remove(row["id"])  # deleted meanwhile

    def suffer(self, table: str, row: Row, state: str) -> None:
        """Let an injected fault have its way: fail in this state, or stay in it for ever."""
        fate = row["fate"]
        if not fate or fate["state"] != state:
            return
        if fate["kind"] == "failed":
            raise MediaProblem(fate["code"], fate["message"])
        self._store.change(table, row["id"], stuck=1)
        raise _Stuck

    async def _sweeping(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SEC)
            self._sweep()

    def _sweep(self) -> None:
        """Drop expired results, and folders that belong to nothing any more."""
        self._store.remove("searches", [Where("expires_at", "lt", now(-3600))])
        self._store.remove("embed_tasks", [Where("created_at", "lt", now(-self._config.embed_task_seconds))])


class _Stuck(Exception):
    """Leaves the task as it is."""
