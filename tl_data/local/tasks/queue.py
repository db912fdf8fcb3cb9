"""The task queue. Any number of tasks wait, a limited number run, and the store has all state.

A lane is a loop that processes the rows of some states, one row at a time.

An indexing task goes validating -> pending -> queued -> indexing -> ready, or from any state to failed. The
work of each state is in handlers.py.
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
from tl_data.local.errors import MediaError, StorageFull, is_full
from tl_data.local.rate_limits import RateLimits
from tl_data.local.service import Stages
from tl_data.local.storage.database import Row, Store, Where, now
from tl_data.local.tasks import reindex
from tl_data.local.tasks.handlers import HeldByFault, TaskHandlers

log = logging.getLogger("tl_data.local")

# CHECKERS and DOWNLOADS are limits for each of the tables `tasks` and `assets`.
CHECKERS = 4  # concurrent container checks of uploaded files
DOWNLOADS = 8  # concurrent downloads; uploads have lanes of their own
#: Concurrent downloads of all tables from one host, so that a slow host does not occupy all lanes.
DOWNLOADS_OF_HOST = 4
SCANNED_ROWS = 200  # waiting rows that are scanned for a URL of another host
UNFINISHED = ("validating", "pending", "queued", "indexing")
SWEEP_SEC = 20.0  # seconds between sweeps, and between looks for new rows
RETRY_SEC, MAX_RETRY_SEC = 0.5, 15.0  # first and longest wait between retries while the disk is full
MIN_FREE_BYTES = 256 << 10  # if less is free, a failed step counts as an error of the disk, not of the video

#: Selects the rows that no injected fault keeps unfinished.
NOT_STUCK = Where("stuck", "=", 0)

Step = Callable[[Row], Awaitable[None]]


class Queue:
    """Runs the handlers on the rows of the store."""

    def __init__(self, config: Config, store: Store, stages: Stages, rates: RateLimits) -> None:
        self._config = config
        self._store = store
        self.handlers = TaskHandlers(config, store, stages, rates)
        self._wake = asyncio.Condition()
        self._claimed: set[str] = set()  # ids of the rows in progress
        self._hosts: dict[str, str] = {}  # ids of the rows that are being downloaded -> host
        self._lanes: list[asyncio.Task[None]] = []
        self._lane_problems: dict[object, dict[str, Any]] = {}  # lane -> the error that blocks it
        #: The handler of analysis tasks. The app sets it, because it needs the whole engine.
        self.run_analysis: Step | None = None

    def start(self) -> None:
        """Start the lanes. Tasks that an earlier process left queued or indexing become pending again."""
        for row in self._store.rows("tasks", [Where("status", "in", ("queued", "indexing")), NOT_STUCK]):
            self._store.change("tasks", row["id"], status="pending", updated_at=now())
        self._sweep()
        lanes: list[Coroutine[Any, Any, None]] = []
        for table, state, step in (
            ("tasks", "validating", self.handlers.validate),
            ("assets", "processing", self.handlers.prepare_asset),
        ):
            lanes += [self._lane(table, (state,), step, by_url=False) for _ in range(CHECKERS)]
            lanes += [self._lane(table, (state,), step, by_url=True) for _ in range(DOWNLOADS)]
        lanes += [self._lane("tasks", ("pending",), self.handlers.index) for _ in range(self._config.workers)]
        lanes += [
            self._lane("embed_tasks", ("processing",), self.handlers.embed)
            for _ in range(self._config.workers)
        ]
        if self.run_analysis:
            lanes += [
                self._lane("analyze_tasks", ("queued", "processing"), self.run_analysis)
                for _ in range(self._config.workers)
            ]
        lanes += [
            self._lane("videos", ("PROCESSING",), self.handlers.package_stream, "hls_status"),
            self._sweep_lane(),
        ]
        lanes += [
            # The column `again` has the state of a requested new analysis.
            self._lane("videos", (reindex.WANTED,), self.handlers.reanalyze, "again")
            for _ in range(self._config.workers)
        ]
        self._lanes = [asyncio.create_task(lane) for lane in lanes]

    async def stop(self) -> None:
        """Cancel the lanes; the next process repeats the unfinished steps."""
        for lane in self._lanes:
            lane.cancel()
        await asyncio.gather(*self._lanes, return_exceptions=True)

    @property
    def idle(self) -> bool:
        """Whether no row is waiting or in progress.

        Rows that an injected fault keeps unfinished, and videos that wait for the packaging of their stream,
        do not count as waiting.
        """
        waiting = self._store.total("tasks", [Where("status", "in", UNFINISHED), NOT_STUCK])
        for table in ("embed_tasks", "assets", "analyze_tasks"):
            states = Where("status", "in", ("queued", "processing"))
            waiting += self._store.total(table, [states, NOT_STUCK])
        waiting += self._store.total("videos", [Where("again", "=", reindex.WANTED)])
        return not self._claimed and not waiting

    def holds(self, task_id: str) -> bool:
        """Whether a step of a task is in progress. The step deletes the files of a task that is deleted."""
        return task_id in self._claimed

    async def wait_until_done(self, table: str, row_id: str, seconds: float) -> None:
        """Wait until a row is ready or failed, at most `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._wake:
                await self._wake.wait_for(
                    lambda: (self._store.get(table, row_id) or {}).get("status") in ("ready", "failed", None)
                )

    async def wake(self) -> None:
        """Notify the lanes of new work."""
        async with self._wake:
            self._wake.notify_all()

    def problems(self) -> list[dict[str, Any]]:
        """The errors that block lanes, as `{"code", "message", "since"}`; empty if there are none."""
        problems = {problem["code"]: problem for problem in self._lane_problems.values()}
        if not self._has_free_space():
            message = f"Less than {MIN_FREE_BYTES >> 10} KB are free for {self._config.home}."
            problems.setdefault("storage_full", {"code": "storage_full", "message": message, "since": now()})
        if any(lane.done() for lane in self._lanes):
            message = "A lane of the queue has ended. Restart the engine; no task is lost."
            problems["queue_stopped"] = {"code": "queue_stopped", "message": message, "since": now()}
        return list(problems.values())

    def _has_free_space(self) -> bool:
        try:
            return shutil.disk_usage(self._config.home).free >= MIN_FREE_BYTES
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
        """Process the rows in `states` forever, one after another, oldest first.

        A step is repeated if the disk is full, or if the lane cannot read or write the state of the row. Any
        other error of a step fails its row; see `_run`.

        Args:
            column: the column of the table that has the state.
            by_url: process only rows with a URL (True) or only rows without one (False); None: all rows.
        """
        where = [Where(column, "in", states)]
        where += [NOT_STUCK] if table != "videos" else []
        where += [Where("url", "empty", not by_url)] if by_url is not None else []
        name, wait = object(), RETRY_SEC  # the name identifies this lane in `_lane_problems`
        undo: Row | None = None  # a row whose step was interrupted by an error
        while True:
            try:
                if undo is not None:
                    self._put_back(table, undo)
                    self._release(undo)
                    undo = None
                row = self._claim(table, where, by_host=by_url is True)
                if row is None:
                    self._lane_problems.pop(name, None)
                    async with self._wake:
                        with contextlib.suppress(TimeoutError):
                            await asyncio.wait_for(self._wake.wait(), SWEEP_SEC)
                    continue
                undo = row
                await self._run(table, row, step)
                undo = None
                self._release(row)
                self._lane_problems.pop(name, None)
                wait = RETRY_SEC
                await self.wake()
            except Exception as error:  # noqa: BLE001 - the lane continues
                self._report(name, error)
                await asyncio.sleep(wait)
                wait = min(2 * wait, MAX_RETRY_SEC)

    async def _run(self, table: str, row: Row, step: Step) -> None:
        """Run one step of one row. If it fails, mark the row as failed.

        The row gets the code of the error if it is an error of the video (MediaError), otherwise
        `internal_error`.

        Raises:
            StorageFull: the disk is full; the step can be repeated.
            Exception: the failure cannot be recorded; the step can be repeated.
        """
        try:
            await step(row)
        except HeldByFault:
            pass
        except Exception as error:
            # A worker process reports a write error without its cause, so the free space is checked as well.
            if is_full(error) or not self._has_free_space():
                raise StorageFull from error
            if isinstance(error, MediaError):
                self._fail(table, row, error.code, error.message)
                return
            log.exception("step of %s %s failed", table, row["id"])
            self._fail(
                table,
                row,
                "internal_error",
                "Internal error while processing this video. See the log of the engine.",
            )

    def _put_back(self, table: str, row: Row) -> None:
        """Reset a row to the state from which its step can be repeated."""
        if table == "tasks":
            task = self._store.get("tasks", row["id"])
            if task is not None and task["status"] in ("queued", "indexing"):
                self._store.change("tasks", row["id"], status="pending", updated_at=now())

    def _report(self, lane: object, error: Exception) -> None:
        """Record the error that blocks a lane, and log it once."""
        code = "storage_full" if is_full(error) else "queue_error"
        message = f"The disk with {self._config.home} is full. Tasks wait until space is freed."
        if code == "queue_error":
            message = f"The queue cannot read or write its state: {type(error).__name__}: {error}"
        problem = self._lane_problems.get(lane)
        if problem is None or problem["code"] != code:
            log.warning("%s", message, exc_info=code == "queue_error")
            problem = {"code": code, "message": message, "since": now()}
        self._lane_problems[lane] = problem

    def _claim(self, table: str, where: list[Where], by_host: bool) -> Row | None:
        """Claim the oldest unclaimed row. With `by_host`, skip hosts with `DOWNLOADS_OF_HOST` downloads."""
        limit = len(self._claimed) + (SCANNED_ROWS if by_host else 1)
        for row in self._store.rows(table, where, descending=False, limit=limit):
            if row["id"] in self._claimed:
                continue
            if by_host and (host := _host(row["url"])):
                if list(self._hosts.values()).count(host) >= DOWNLOADS_OF_HOST:
                    continue
                self._hosts[row["id"]] = host
            self._claimed.add(row["id"])
            return row
        return None

    def _release(self, row: Row) -> None:
        self._claimed.discard(row["id"])
        self._hosts.pop(row["id"], None)

    def _fail(self, table: str, row: Row, code: str, message: str) -> None:
        if table == "videos":
            self._store.change("videos", row["id"], hls_status="ERROR", hls_updated_at=now())
            return
        error = {"code": code, "message": message}
        if table == "analyze_tasks":
            self._store.change(table, row["id"], completed_at=now())
        self._store.change(table, row["id"], status="failed", error=error, updated_at=now())
        folder = {"tasks": self._config.folder, "assets": self._config.asset}.get(
            table, self.handlers.scratch
        )(row["video_id" if table == "tasks" else "id"])
        shutil.rmtree(folder, ignore_errors=True)

    async def _sweep_lane(self) -> None:
        name = object()  # identifies this lane in `_lane_problems`
        while True:
            await asyncio.sleep(SWEEP_SEC)
            try:
                self._sweep()
                self._lane_problems.pop(name, None)
            except Exception as error:  # noqa: BLE001 - repeated at the next sweep
                self._report(name, error)

    def _sweep(self) -> None:
        """Delete expired search results and embedding tasks."""
        self._store.remove("searches", [Where("expires_at", "lt", now(-3600))])
        self._store.remove("embed_tasks", [Where("created_at", "lt", now(-self._config.embed_task_seconds))])


def _host(url: str) -> str:
    """The host of a URL; "" if it has none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
