"""The work: hundreds of tasks may wait, a bounded number is worked on, and all state is in the store.

An indexing task goes validating -> pending -> queued -> indexing -> ready, or from anywhere to failed. What
is done in each state stands in steps.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any
from urllib.parse import urlsplit

from tl_data.local.config import Config
from tl_data.local.errors import MediaProblem, StorageFull, is_full
from tl_data.local.rate_limits import RateLimits
from tl_data.local.service import Stages
from tl_data.local.storage.database import Row, Store, Where, now
from tl_data.local.tasks import reindex
from tl_data.local.tasks.handlers import Steps, Stuck

log = logging.getLogger("tl_data.local")

CHECKERS = 4  # container checks of uploaded files at the same time
DOWNLOADS = 8  # of tasks by URL; uploads never wait behind them
DOWNLOADS_OF_HOST = 4  # a slow host leaves lanes to others
SEEN_ROWS = 200  # waiting rows among which one of another host is looked for
UNFINISHED = ("validating", "pending", "queued", "indexing")
SWEEP_SEC = 20.0
RETRY_SEC, MOST_RETRY_SEC = 0.5, 15.0  # until work that a full disk has stopped is tried again
LEAST_ROOM = 256 << 10  # bytes; with less, a failed step is blamed on the disk, not on the video

FREE = Where("stuck", "=", 0)  # not held for ever by an injected fault

Step = Callable[[Row], Awaitable[None]]


class Queue:
    """Takes work from the store and brings it to its end."""

    def __init__(self, config: Config, store: Store, stages: Stages, rates: RateLimits) -> None:
        self._config = config
        self._store = store
        self.steps = Steps(config, store, stages, rates)
        self._wake = asyncio.Condition()
        self._held: set[str] = set()  # ids being worked on
        self._hosts: dict[str, str] = {}  # ids being downloaded, and from where
        self._lanes: list[asyncio.Task[None]] = []
        self._troubles: dict[object, dict[str, Any]] = {}  # lane -> what keeps it from working
        self.analyse: Step | None = None  # what an analysis task does: it needs more than this queue has

    def start(self) -> None:
        """Begin, with what an earlier process left unfinished put back in line."""
        for row in self._store.rows("tasks", [Where("status", "in", ("queued", "indexing")), FREE]):
            self._store.change("tasks", row["id"], status="pending", updated_at=now())
        self._sweep()
        lanes: list[Coroutine[Any, Any, None]] = []
        for table, state, step in (
            ("tasks", "validating", self.steps.check),
            ("assets", "processing", self.steps.bring),
        ):
            lanes += [self._lane(table, (state,), step, by_url=False) for _ in range(CHECKERS)]
            lanes += [self._lane(table, (state,), step, by_url=True) for _ in range(DOWNLOADS)]
        lanes += [self._lane("tasks", ("pending",), self.steps.index) for _ in range(self._config.workers)]
        lanes += [
            self._lane("embed_tasks", ("processing",), self.steps.embed) for _ in range(self._config.workers)
        ]
        if self.analyse:
            lanes += [
                self._lane("analyze_tasks", ("queued", "processing"), self.analyse)
                for _ in range(self._config.workers)
            ]
        lanes += [self._lane("videos", ("PROCESSING",), self.steps.stream, "hls_status"), self._sweeping()]
        lanes += [
            self._lane("videos", (reindex.WANTED,), self.steps.look_again, "again")
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
        waiting += self._store.total("videos", [Where("again", "=", reindex.WANTED)])
        return not self._held and not waiting

    def holds(self, task_id: str) -> bool:
        """Whether a task is being worked on right now; its files are then the queue's to remove."""
        return task_id in self._held

    async def settled(self, table: str, row_id: str, seconds: float) -> None:
        """Wait until a row is ready or failed, at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._wake:
                await self._wake.wait_for(
                    lambda: (self._store.get(table, row_id) or {}).get("status") in ("ready", "failed", None)
                )

    async def wake(self) -> None:
        """Say that there may be new work."""
        async with self._wake:
            self._wake.notify_all()

    def problems(self) -> list[dict[str, Any]]:
        """What keeps lanes from working, as `{"code", "message", "since"}`; empty when all is well."""
        found = {problem["code"]: problem for problem in self._troubles.values()}
        if not self._has_room():
            message = f"Less than {LEAST_ROOM >> 10} KB are free for {self._config.home}."
            found.setdefault("storage_full", {"code": "storage_full", "message": message, "since": now()})
        if any(lane.done() for lane in self._lanes):
            message = "A part of the queue has ended. Restart the engine; nothing is lost."
            found["queue_stopped"] = {"code": "queue_stopped", "message": message, "since": now()}
        return list(found.values())

    def _has_room(self) -> bool:
        try:
            return shutil.disk_usage(self._config.home).free >= LEAST_ROOM
        except OSError:
            return False

    async def _lane(
        self,
        table: str,
        states: tuple[str, ...],
        step: Step,
        column: str = "status",
        by_url: bool | None = None,
    ) -> None:
        """One row after another, oldest first, as long as the process lives.

        What fails because the state or a file cannot be written is done again: a row is only marked as failed
        for what is wrong with its video.
        """
        where = [Where(column, "in", states)]
        where += [FREE] if table != "videos" else []
        where += [Where("url", "empty", not by_url)] if by_url is not None else []
        name, wait = object(), RETRY_SEC
        undo: Row | None = None  # a row whose step was broken off by a full disk
        while True:
            try:
                if undo is not None:
                    self._put_back(table, undo)
                    self._release(undo)
                    undo = None
                row = self._claim(table, where, by_host=by_url is True)
                if row is None:
                    self._troubles.pop(name, None)
                    async with self._wake:
                        with contextlib.suppress(TimeoutError):
                            await asyncio.wait_for(self._wake.wait(), SWEEP_SEC)
                    continue
                undo = row
                await self._work(table, row, step)
                undo = None
                self._release(row)
                self._troubles.pop(name, None)
                wait = RETRY_SEC
                await self.wake()
            except Exception as error:  # noqa: BLE001 - the lane goes on
                self._report(name, error)
                await asyncio.sleep(wait)
                wait = min(2 * wait, MOST_RETRY_SEC)

    async def _work(self, table: str, row: Row, step: Step) -> None:
        """One step of one row, and its end if the video is at fault.

        Raises:
            StorageFull: or another error of the disk or database; the row is as good as before.
        """
        try:
            await step(row)
        except Stuck:
            pass
        except Exception as error:
            # A worker process only reports that it could not write, so room is asked for, too.
            if is_full(error) or not self._has_room():
                raise StorageFull from error
            if isinstance(error, MediaProblem):
                self._fail(table, row, error.code, error.message)
                return
            log.exception("%s %s", table, row["id"])
            self._fail(table, row, "internal_error", "The engine could not work on this video.")

    def _put_back(self, table: str, row: Row) -> None:
        """The state from which the step of a row can be done once more."""
        if table == "tasks":
            there = self._store.get("tasks", row["id"])
            if there is not None and there["status"] in ("queued", "indexing"):
                self._store.change("tasks", row["id"], status="pending", updated_at=now())

    def _report(self, lane: object, error: Exception) -> None:
        code = "storage_full" if is_full(error) else "queue_error"
        message = f"The disk with {self._config.home} is full: tasks wait for room."
        if code == "queue_error":
            message = f"The queue cannot read or write its state: {type(error).__name__}: {error}"
        before = self._troubles.get(lane)
        if before is None or before["code"] != code:
            log.warning("%s", message, exc_info=code == "queue_error")
            before = {"code": code, "message": message, "since": now()}
        self._troubles[lane] = before

    def _claim(self, table: str, where: list[Where], by_host: bool) -> Row | None:
        """The oldest row that nobody works on; with `by_host`, of a host that has not its share of lanes."""
        limit = len(self._held) + (SEEN_ROWS if by_host else 1)
        for row in self._store.rows(table, where, descending=False, limit=limit):
            if row["id"] in self._held:
                continue
            if by_host and (host := _host(row["url"])):
                if list(self._hosts.values()).count(host) >= DOWNLOADS_OF_HOST:
                    continue
                self._hosts[row["id"]] = host
            self._held.add(row["id"])
            return row
        return None

    def _release(self, row: Row) -> None:
        self._held.discard(row["id"])
        self._hosts.pop(row["id"], None)

    def _fail(self, table: str, row: Row, code: str, message: str) -> None:
        if table == "videos":
            self._store.change("videos", row["id"], hls_status="ERROR", hls_updated_at=now())
            return
        error = {"code": code, "message": message}
        if table == "analyze_tasks":
            self._store.change(table, row["id"], completed_at=now())
        self._store.change(table, row["id"], status="failed", error=error, updated_at=now())
        folder = {"tasks": self._config.folder, "assets": self._config.asset}.get(table, self.steps.scratch)(
            row["video_id" if table == "tasks" else "id"]
        )
        shutil.rmtree(folder, ignore_errors=True)

    async def _sweeping(self) -> None:
        name = object()
        while True:
            await asyncio.sleep(SWEEP_SEC)
            try:
                self._sweep()
                self._troubles.pop(name, None)
            except Exception as error:  # noqa: BLE001 - swept the next time
                self._report(name, error)

    def _sweep(self) -> None:
        """Drop expired results, and folders that belong to nothing any more."""
        self._store.remove("searches", [Where("expires_at", "lt", now(-3600))])
        self._store.remove("embed_tasks", [Where("created_at", "lt", now(-self._config.embed_task_seconds))])


def _host(url: str) -> str:
    """The host of an address; "" if it has none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
