"""Leases of runs, reconciliation of killed runs, and a check for tasks that were paid twice.

A run holds a lease in the ledger while it works, and removes it when its row in `runs` has everything that it
paid. A run that was killed or interrupted, or that sent a request without an answer, leaves its lease behind.
Without a lease the state is unknown and the row is left unchanged: the run may use another ledger.

A killed run cannot write the cost since its last commit. The ledger's records have the id of the paying run,
so the next run completes the row. A request without an answer may have created a task. The process that takes
over the call finds the task and bills it to the run that sent it. At its end the next run looks for such
tasks again, also those of videos that the source no longer lists.

`paid_twice` compares the tasks on the platform with the ledger.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tl_data.billing import Prices, RunAccount
from tl_data.errors import APIError, LedgerError, NotFound, StillRunning, TaskFailed, TLDataError
from tl_data.lake.base import LakeTable, rows_of
from tl_data.lake.schemas import RUNS
from tl_data.ledger.accounting import Account, accounts_of, read_again
from tl_data.ledger.lease import LEASE, RUN_LEASES, Lease, Owner, Watch, begun_at
from tl_data.ledger.models import Call, Entry, Unreadable, decode
from tl_data.ledger.recovery import INDEXED_ASSET, lost_indexing
from tl_data.object_store import Item, Storage
from tl_data.pipeline.report import Report, billed
from tl_data.session import METADATA_KEY, Session


@asynccontextmanager
async def run_lease(
    storage: Storage, book: RunAccount, tables: str, prices: Prices | None = None, seconds: float = LEASE
) -> AsyncIterator[None]:
    """Hold the lease of a run over the tables at this address.

    At the end the lease is removed if the run's account is complete, else released, also after an error.
    """
    record = {
        "operation": "run",
        "content_key": book.run,
        "owner": Owner().signature(),
        "begun": time.time(),
        "tables": tables,
        **({"prices": prices.to_record()} if prices else {}),
    }
    lease = Lease(storage, f"{RUN_LEASES}/{book.run}", record, seconds)
    await lease.take()
    try:
        async with lease:
            yield
    except BaseException:
        await lease.release()
        raise
    if book.unsettled:
        await lease.release()
        return
    with suppress(LedgerError):  # the lease expires, and the row has its final status
        await storage.delete(lease.path)


@dataclass(frozen=True)
class StaleRun:
    """The lease of a run that has ended without closing its account."""

    item: Item
    record: Mapping[str, Any]

    @property
    def begun(self) -> float:
        """The start of the run or earlier, in epoch seconds by the clock of the store."""
        return begun_at(self.record, self.item)

    @property
    def prices(self) -> Prices | None:
        """The price list of the run."""
        return Prices.from_record(self.record.get("prices"))


async def find_stale(storage: Storage, watch: Watch, item: Item) -> StaleRun | None:
    """The lease of a run if it has ended, by its process on this machine, else by the clock of the store."""
    body = await storage.read(item.path)
    if body is None:
        return None
    try:
        record = decode(body, item.path)
    except Unreadable:
        record = {}
    return StaleRun(item, record) if await watch.is_over(item, record) else None


log = logging.getLogger("tl_data.pipeline")

EARLIER = 86400.0  # largest change of a clock during a run, in seconds
LOOKING = 60.0  # timeout of the search for tasks without a record, in seconds


@dataclass
class _OpenRun:
    """A run whose account is open."""

    row: dict[str, Any]  # of the table `runs`
    lease: StaleRun
    account: Account | None = None  # None: the ledger could not be read


class NothingSent(LedgerError):
    """Raised instead of sending a request: only earlier tasks are searched."""


class RunReconciler:
    """Reconciles the open accounts of one table `runs`."""

    def __init__(self, session: Session, runs: LakeTable, prices: Prices, tables: str) -> None:
        self._session, self._runs, self._prices, self._tables = session, runs, prices, tables
        self._storage = session.ledger.storage
        self._open: dict[str, _OpenRun] = {}
        self._reading: asyncio.Task[None] | None = None

    async def find_interrupted(self) -> list[str]:
        """Find ended runs and mark killed ones as interrupted; returns the ids of these.

        Their costs are read in the background; call `close` or `leave` at the end.
        """
        rows = await asyncio.to_thread(lambda: self._runs.batches().read_all().to_pylist())
        by_id, watch = {row["run_id"]: row for row in rows}, Watch(self._storage, Owner())
        leases = [item async for item in self._storage.below(RUN_LEASES)]
        for item in leases:
            run = item.path.rpartition("/")[2]
            if (lease := await find_stale(self._storage, watch, item)) is None:
                continue
            if row := by_id.get(run):
                self._open[run] = _OpenRun(row, lease)
            elif lease.record.get("tables") == self._tables:  # killed before it had a row: it paid nothing
                await self._storage.delete(item.path)
        died = [run for run, open_ in self._open.items() if open_.row["status"] == "running"]
        await self._write(died)
        if self._open:
            self._reading = asyncio.create_task(self._read())
        return died

    async def _read(self) -> None:
        """Read their accounts from the ledger, which takes minutes if it is very large."""
        began = [o.lease.begun for o in self._open.values()]
        began += [o.row["started_at"].timestamp() for o in self._open.values() if o.row["started_at"]]
        accounts = await accounts_of(self._storage, self._open, min(began) - EARLIER)
        for run, account in accounts.items():
            self._open[run].account = account
        await self._write(list(self._open))
        for run, account in accounts.items():
            if not account.open:
                await self._close(run)

    async def read(self) -> None:
        """Wait until the rows of interrupted runs have the costs in the ledger."""
        if self._reading is not None:
            await asyncio.shield(self._reading)

    async def close(self) -> None:
        """Look for remaining tasks, and close the accounts that are complete. Never raises: the next run
        continues."""
        if self._reading is None:
            return
        try:
            await self._reading
            async with asyncio.timeout(LOOKING):
                for run, open_ in list(self._open.items()):
                    if open_.account is not None:
                        await self._settle(run, open_.account)
        except (TLDataError, TimeoutError) as error:
            log.warning("earlier runs could not be reconciled; the next run retries: %s", error or "timeout")

    async def leave(self) -> None:
        """Leave open accounts to the next run."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _settle(self, run: str, account: Account) -> None:
        settled = await asyncio.gather(*(self._looked_for(call) for call, _ in account.open))
        self._open[run].account = await read_again(self._storage, run, account)
        await self._write([run])
        if all(settled):
            await self._close(run)

    async def _looked_for(self, call: Call) -> bool:
        """Record the task of a call, if there is one; returns whether that is decided."""
        session, index = self._session, str(call.params.get("index_id"))

        async def send() -> str:
            raise NothingSent("nothing is sent")

        async def find() -> str | None:
            return await lost_indexing(session.client, session.watcher, index, call.key)

        try:
            await session.ledger.submit(call, send, find)
        except NothingSent:
            return True
        except LedgerError:
            return False
        except TLDataError as error:
            return not error.retryable
        return True

    async def _write(self, runs: list[str]) -> None:
        changed = []
        for run in runs:
            open_ = self._open[run]
            row = {**open_.row, **self._paid(open_)}
            if row["status"] == "running":
                row["status"] = "interrupted"
            if row != open_.row:
                changed.append(row)
                open_.row = row
        if changed:
            await asyncio.to_thread(self._runs.replace_groups, rows_of(RUNS, changed))

    def _paid(self, open_: _OpenRun) -> dict[str, Any]:
        """The costs in the ledger. If the row has more, records were lost or removed."""
        bill = open_.account.bill if open_.account else None
        if bill is None or bill.calls < (open_.row["calls"] or 0):
            return {}
        return billed(bill, open_.lease.prices or self._prices)

    async def _close(self, run: str) -> None:
        await self._storage.delete(self._open.pop(run).lease.item.path)


def spent_lately(runs: LakeTable, report: Report, hours: float) -> Callable[[], float]:
    """The cost of other runs of a job within the last hours, in the currency of this one."""
    assert report.started_at is not None
    since = report.started_at - timedelta(hours=hours)

    def spent() -> float:
        rows = runs.batches(["run_id", "job", "price", "currency", "started_at"]).read_all().to_pylist()
        return math.fsum(
            float(row["price"] or 0)
            for row in rows
            if hours
            and row["job"] == report.job
            and row["currency"] == report.prices.currency
            and row["run_id"] != report.run_id
            and row["started_at"]
            and row["started_at"] > since
        )

    return spent


CLOCKS = timedelta(minutes=5)  # largest difference between the platform's clock and ours


class Tasks:
    """The tasks that a run submitted or awaited: compact ids, and the time of the first."""

    def __init__(self) -> None:
        self._ids: set[bytes] = set()
        self._open: set[bytes] = set()  # uncollected
        self.since: float | None = None  # epoch seconds

    def add(self, entry: Entry) -> None:
        """Add a task of the ledger."""
        brief = _brief(str(entry.task_id))
        self._ids.add(brief)
        if entry.state != "done":
            self._open.add(brief)
        self.since = entry.at if self.since is None else min(self.since, entry.at)

    @property
    def pending(self) -> int:
        """The number of uncollected tasks. Files with the same content share one."""
        return len(self._open)

    def ended(self, entry: Entry) -> None:
        """Remove a task that is collected or has a final failure."""
        self._open.discard(_brief(str(entry.task_id)))

    def __contains__(self, task_id: object) -> bool:
        return _brief(str(task_id)) in self._ids


def _plain(task_id: str) -> str:
    """The id of a task or an indexed asset without what the ledger puts before the latter."""
    return task_id.removeprefix(INDEXED_ASSET)


def _brief(task_id: str) -> bytes:
    task_id = _plain(task_id)
    return bytes.fromhex(task_id) if len(task_id) == 24 else task_id.encode()


READ_AHEAD = 64  # records of the ledger read concurrently


async def paid_twice(session: Session, tasks: Tasks, seconds: float) -> int | None:
    """The number of indexing tasks on the platform beyond one per key of the ledger.

    It lists all tasks of the index since our oldest one, with the keys of their videos, and reads only the
    ledger records of these keys. A video that is not ready shows no key and is awaited. None if the platform
    or the ledger cannot be read, or a task takes too long.

    Args:
        seconds: timeout of the measurement.
    """
    if tasks.since is None:
        return 0  # nothing was submitted
    since = datetime.fromtimestamp(tasks.since, UTC) - CLOCKS
    try:
        async with asyncio.timeout(seconds):
            others: dict[str, set[str]] = {}
            async for task_id, key in _others(session, tasks, since):
                others.setdefault(key, set()).add(task_id)
            keys, beyond = list(others), 0
            for start in range(0, len(keys), READ_AHEAD):
                part = keys[start : start + READ_AHEAD]
                entries = await asyncio.gather(*map(session.ledger.show, part))
                beyond += sum(_beyond_one(others[k], entry) for k, entry in zip(part, entries, strict=True))
            return beyond
    except (APIError, LedgerError, StillRunning, TimeoutError):
        return None


def _beyond_one(ids: set[str], entry: Entry | None) -> int:
    """The number of surplus tasks of a key. One may lack a record: that of a process that was killed before
    recording it, which the next owner finds, or that is about to record it."""
    if entry is None:
        return 0  # of another ledger
    return len(ids) - (entry.task_id is None or _plain(entry.task_id) in ids)


async def _others(session: Session, tasks: Tasks, since: datetime) -> AsyncIterator[tuple[str, str]]:
    """What others indexed since a time, by tasks or as assets, each with its key, if it has one.

    The listing of videos has the keys of ready ones. Of the others, those that the ledger has as submitted
    are awaited elsewhere; other records are not read.
    """
    index = await session.index_id()
    asked = since.strftime("%Y-%m-%dT%H:%M:%SZ")
    by_asset = session.models is None and await session.client.account_generation() == "today"
    listed = (
        session.client.list_indexed_assets(index, created_at=asked)
        if by_asset
        else session.client.list_tasks(index_id=index, created_at=asked)
    )
    others = [t async for t in listed if t["_id"] not in tasks and t.get("status") != "failed"]
    if not others:
        return
    keys = {
        str(video["_id"]): (video.get("user_metadata") or {}).get(METADATA_KEY)
        async for video in session.client.list_videos(index, created_at=asked)
    }
    if any(task.get("status") != "ready" for task in others):
        entries = session.ledger.entries(state="submitted", operation="index")
        running = {_plain(str(entry.task_id)) async for entry in entries}
        others = [t for t in others if t.get("status") == "ready" or t["_id"] not in running]
    for task in others:
        key = keys.get(str(task["_id"] if by_asset else task.get("video_id")))
        if key is None:
            try:
                video = await _when_ready(session, index, str(task["_id"]), by_asset)
            except (TaskFailed, NotFound):
                continue  # failed tasks and deleted videos are not billed twice
            key = (video.get("user_metadata") or {}).get(METADATA_KEY)
        if key:
            yield str(task["_id"]), str(key)


async def _when_ready(session: Session, index: str, task_id: str, by_asset: bool) -> dict[str, Any]:
    """The video of a task or an indexed asset, when it is ready."""
    if by_asset:
        await session.watcher.wait_indexed(task_id, index)
        return await session.client.retrieve_indexed_asset(index, task_id)
    ended = await session.watcher.wait(task_id, index)
    return await session.client.retrieve_video(index, str(ended["video_id"]))
