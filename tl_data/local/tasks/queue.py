"""The work: hundreds of tasks may wait, a bounded number is worked on, and all state is in the store.

An indexing task goes validating -> pending -> queued -> indexing -> ready, or from anywhere to failed. What
is done in each state stands in steps.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Awaitable, Callable

from tl_data.local.config import Config
from tl_data.local.errors import MediaProblem
from tl_data.local.rate_limits import Rates
from tl_data.local.service import Stages
from tl_data.local.storage.database import Row, Store, Where, now
from tl_data.local.tasks import reindex
from tl_data.local.tasks.handlers import Steps, Stuck

log = logging.getLogger("tl_data.local")

CHECKERS = 4  # downloads and container checks at the same time
UNFINISHED = ("validating", "pending", "queued", "indexing")
SWEEP_SEC = 20.0

FREE = Where("stuck", "=", 0)  # not held for ever by an injected fault

Step = Callable[[Row], Awaitable[None]]


class Queue:
    """Takes work from the store and brings it to its end."""

    def __init__(self, config: Config, store: Store, stages: Stages, rates: Rates) -> None:
        self._config = config
        self._store = store
        self.steps = Steps(config, store, stages, rates)
        self._wake = asyncio.Condition()
        self._held: set[str] = set()  # ids being worked on
        self._lanes: list[asyncio.Task[None]] = []
        self.analyse: Step | None = None  # what an analysis task does: it needs more than this queue has

    def start(self) -> None:
        """Begin, with what an earlier process left unfinished put back in line."""
        for row in self._store.rows("tasks", [Where("status", "in", ("queued", "indexing")), FREE]):
            self._store.change("tasks", row["id"], status="pending", updated_at=now())
        self._sweep()
        lanes = [self._lane("tasks", ("validating",), self.steps.check) for _ in range(CHECKERS)]
        lanes += [self._lane("tasks", ("pending",), self.steps.index) for _ in range(self._config.workers)]
        lanes += [
            self._lane("embed_tasks", ("processing",), self.steps.embed) for _ in range(self._config.workers)
        ]
        if self.analyse:
            lanes += [
                self._lane("analyze_tasks", ("queued", "processing"), self.analyse)
                for _ in range(self._config.workers)
            ]
        lanes += [self._lane("assets", ("processing",), self.steps.bring) for _ in range(CHECKERS)]
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
            except Stuck:
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
        folder = {"tasks": self._config.folder, "assets": self._config.asset}.get(table, self.steps.scratch)(
            row["video_id" if table == "tasks" else "id"]
        )
        shutil.rmtree(folder, ignore_errors=True)

    async def _sweeping(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SEC)
            self._sweep()

    def _sweep(self) -> None:
        """Drop expired results, and folders that belong to nothing any more."""
        self._store.remove("searches", [Where("expires_at", "lt", now(-3600))])
        self._store.remove("embed_tasks", [Where("created_at", "lt", now(-self._config.embed_task_seconds))])
