"""Leases of runs, reconciliation of killed runs, and a check for tasks that were paid twice.

A run holds a lease in the ledger while it works. It removes the lease when its row in `runs` has everything
that it paid. A run that was killed or interrupted, or that sent a request without an answer, leaves its lease
behind. The row of a run without a lease is left unchanged, because that run may have used another ledger.

A killed run cannot write what it paid since its last commit. The ledger's records have the id of the paying
run, so the next run completes the row. A request without an answer may have created a task. The process that
takes over the call finds the task and bills it to the run that sent the request. At its end, the next run
looks for such tasks again, also for those of videos that the source no longer lists.

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
from tl_data.client.task_poller import MAX_CLOCK_DIFFERENCE
from tl_data.errors import APIError, LedgerError, NotFound, StillRunning, TaskFailed, TLDataError
from tl_data.lake.base import LakeTable, rows_of
from tl_data.lake.schemas import RUNS
from tl_data.ledger.accounting import Account, accounts_of, read_again
from tl_data.ledger.lease import LEASE, RUN_LEASES, Lease, Owner, Watch, begun_at
from tl_data.ledger.models import Call, Entry, Unreadable, decode
from tl_data.ledger.recovery import INDEXED_ASSET, UNFINISHED, AnalysisTasks, lost_indexing
from tl_data.object_store import Item, Storage
from tl_data.pipeline.report import Report, billed
from tl_data.session import METADATA_KEY, PLATFORM_ID, Session


@asynccontextmanager
async def run_lease(
    storage: Storage, account: RunAccount, tables: str, prices: Prices | None = None, seconds: float = LEASE
) -> AsyncIterator[None]:
    """Hold the lease of a run that writes the tables at the address `tables`.

    At the end the lease is removed if the run's account is complete. Otherwise, and after an error, it is
    released: it stays, and the next run reconciles the account.
    """
    record = {
        "operation": "run",
        "content_key": account.run,
        "owner": Owner().signature(),
        "begun": time.time(),
        "tables": tables,
        **({"prices": prices.to_record()} if prices else {}),
    }
    lease = Lease(storage, f"{RUN_LEASES}/{account.run}", record, seconds)
    await lease.take()
    try:
        async with lease:
            yield
    except BaseException:
        await lease.release()
        raise
    if account.unsettled:
        await lease.release()
        return
    with suppress(LedgerError):  # the lease expires, and the row has its final status
        await storage.delete(lease.path)


@dataclass(frozen=True)
class StaleRun:
    """The lease of a run that ended before its account was complete."""

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
    """The lease of a run if the run has ended, else None.

    On this machine the run's process decides, otherwise the expiry of the lease by the clock of the store.
    """
    body = await storage.read(item.path)
    if body is None:
        return None
    try:
        record = decode(body, item.path)
    except Unreadable:
        record = {}
    return StaleRun(item, record) if await watch.is_over(item, record) else None


log = logging.getLogger("tl_data.pipeline")

CLOCK_CHANGE = 86400.0  # largest change of a clock during a run, in seconds
SEARCH_TIMEOUT = 60.0  # timeout of the search for tasks without a record, in seconds


@dataclass
class _OpenRun:
    """An ended run whose account is open: its cost may be incomplete."""

    row: dict[str, Any]  # its row of the table `runs`
    lease: StaleRun
    account: Account | None = None  # None: the ledger could not be read


class NothingSent(LedgerError):
    """Raised in place of sending a request, when only an earlier task is looked for."""


class RunReconciler:
    """Reconciles the open accounts of one table `runs`."""

    def __init__(self, session: Session, runs: LakeTable, prices: Prices, tables: str) -> None:
        self._session, self._runs, self._prices, self._tables = session, runs, prices, tables
        self._storage = session.ledger.storage
        self._open: dict[str, _OpenRun] = {}
        self._reading: asyncio.Task[None] | None = None
        self._analyses = AnalysisTasks(session.client, 0.0)

    async def find_interrupted(self) -> list[str]:
        """Find ended runs with open accounts, and mark killed ones as interrupted.

        Their costs are read in the background. Call `close` or `leave` at the end.

        Returns:
            The ids of the killed runs.
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
            elif lease.record.get("tables") == self._tables:
                # Killed before it wrote its row, so it paid nothing.
                await self._storage.delete(item.path)
        killed = [run for run, open_ in self._open.items() if open_.row["status"] == "running"]
        await self._write(killed)
        if self._open:
            self._reading = asyncio.create_task(self._read())
        return killed

    async def _read(self) -> None:
        """Read the accounts of the open runs from the ledger; a very large ledger takes minutes."""
        began = [o.lease.begun for o in self._open.values()]
        began += [o.row["started_at"].timestamp() for o in self._open.values() if o.row["started_at"]]
        self._analyses = AnalysisTasks(self._session.client, min(began))
        accounts = await accounts_of(self._storage, self._open, min(began) - CLOCK_CHANGE)
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
        """Look for tasks without a record, and close the accounts that are complete.

        Failures are logged, not raised, because the next run tries again.
        """
        if self._reading is None:
            return
        try:
            await self._reading
            async with asyncio.timeout(SEARCH_TIMEOUT):
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
        settled = await asyncio.gather(*(self._find_task(call) for call, _ in account.open))
        self._open[run].account = await read_again(self._storage, run, account)
        await self._write([run])
        if all(settled):
            await self._close(run)

    async def _find_task(self, call: Call) -> bool:
        """Look for the task of a call that has no answer, and record it.

        Returns:
            Whether the call is settled: its task was found, does not exist, or no request can find it.
        """
        session, index = self._session, str(call.params.get("index_id"))
        analysis = call.operation != "index"
        if analysis and await session.client.account_generation() == "2025":
            return True  # its answer comes at once, and nothing on the platform shows it

        async def send() -> str:
            raise NothingSent("nothing is sent")

        async def find() -> str | None:
            if analysis:
                return await self._analyses.find(call.key)
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
            row = {**open_.row, **self._costs(open_)}
            if row["status"] == "running":
                row["status"] = "interrupted"
            if row != open_.row:
                changed.append(row)
                open_.row = row
        if changed:
            await asyncio.to_thread(self._runs.replace_groups, rows_of(RUNS, changed))

    def _costs(self, open_: _OpenRun) -> dict[str, Any]:
        """The columns of the run's cost by the ledger.

        {} if the row has more calls than the ledger, which has lost or removed records then.
        """
        bill = open_.account.bill if open_.account else None
        if bill is None or bill.calls < (open_.row["calls"] or 0):
            return {}
        return billed(bill, open_.lease.prices or self._prices)

    async def _close(self, run: str) -> None:
        await self._storage.delete(self._open.pop(run).lease.item.path)


def spent_lately(runs: LakeTable, report: Report, hours: float) -> Callable[[], float]:
    """A function that adds up the cost of the job's other runs that share the budget of a run.

    Runs with another currency than that of `report` are not included.

    Args:
        report: the report of the run.
        hours: other runs count if they began at most so many hours before it; 0: none counts.
    """
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


class Tasks:
    """The tasks that a run submitted or waited for: their ids in compact form, and the time of the first."""

    def __init__(self) -> None:
        self._ids: set[bytes] = set()
        self._open: set[bytes] = set()  # those that are not collected
        self.since: float | None = None  # epoch seconds

    def add(self, entry: Entry) -> None:
        """Add a task of the ledger."""
        compact_id = _compact_id(str(entry.task_id))
        self._ids.add(compact_id)
        if entry.state != "done":
            self._open.add(compact_id)
        self.since = entry.at if self.since is None else min(self.since, entry.at)

    @property
    def pending(self) -> int:
        """The number of tasks that are not collected. Files with the same content share a task."""
        return len(self._open)

    def ended(self, entry: Entry) -> None:
        """Note that a task is collected or has a final failure."""
        self._open.discard(_compact_id(str(entry.task_id)))

    def __contains__(self, task_id: object) -> bool:
        return _compact_id(str(task_id)) in self._ids


def _bare_id(task_id: str) -> str:
    """The id of a task or an indexed asset, without the ledger's prefix for indexed assets."""
    return task_id.removeprefix(INDEXED_ASSET)


def _compact_id(task_id: str) -> bytes:
    """An id as bytes: half as long if it consists of 24 hexadecimal digits."""
    task_id = _bare_id(task_id)
    return bytes.fromhex(task_id) if PLATFORM_ID.fullmatch(task_id) else task_id.encode()


READ_AHEAD = 64  # number of ledger records that are read concurrently


async def paid_twice(session: Session, tasks: Tasks, seconds: float) -> int | None:
    """The number of surplus indexing tasks on the platform. Each key of the ledger should have one task.

    The function lists the tasks of the index since the run's oldest one, with the ledger keys in their
    videos' metadata, and reads the ledger records of these keys only. A video that is not ready shows no key,
    so it is waited for.

    Args:
        seconds: timeout of the measurement.

    Returns:
        None if the platform or the ledger cannot be read, or a task takes too long.
    """
    if tasks.since is None:
        return 0  # nothing was submitted
    since = datetime.fromtimestamp(tasks.since, UTC) - MAX_CLOCK_DIFFERENCE
    try:
        async with asyncio.timeout(seconds):
            others: dict[str, set[str]] = {}
            async for task_id, key in _tasks_of_others(session, tasks, since):
                others.setdefault(key, set()).add(task_id)
            keys, surplus = list(others), 0
            for start in range(0, len(keys), READ_AHEAD):
                part = keys[start : start + READ_AHEAD]
                entries = await asyncio.gather(*map(session.ledger.show, part))
                surplus += sum(_surplus(others[k], entry) for k, entry in zip(part, entries, strict=True))
            return surplus
    except (APIError, LedgerError, StillRunning, TimeoutError):
        return None


def _surplus(ids: set[str], entry: Entry | None) -> int:
    """The number of surplus tasks of a key.

    One task may lack a record: a process was killed before recording it, and the next owner of the call finds
    the task, or a process is about to record it.
    """
    if entry is None:
        return 0  # tasks of another ledger
    return len(ids) - (entry.task_id is None or _bare_id(entry.task_id) in ids)


async def unfinished_tasks(session: Session) -> int:
    """The number of submitted indexing tasks of the session's index that the platform still works on."""
    index = await session.find_index()
    if index is None:
        return 0  # nothing was indexed yet
    entries = session.ledger.entries(state="submitted", operation="index")
    ids = {str(entry.task_id) async for entry in entries if entry.params.get("index_id") == index}
    asset_ids = {_bare_id(task_id) for task_id in ids if task_id.startswith(INDEXED_ASSET)}
    task_ids = {task_id for task_id in ids if not task_id.startswith(INDEXED_ASSET)}
    client, count = session.client, 0
    if asset_ids:
        async for asset in client.list_indexed_assets(index):
            count += asset["_id"] in asset_ids and asset.get("status") not in ("ready", "failed")
    if task_ids:
        async for task in client.list_tasks(index_id=index, status=UNFINISHED):
            count += task["_id"] in task_ids
    return count


async def _tasks_of_others(session: Session, tasks: Tasks, since: datetime) -> AsyncIterator[tuple[str, str]]:
    """The tasks or indexed assets of other runs since a time, each with its ledger key.

    Tasks without a key are left out. The list of videos has the keys of ready videos. A task that is not
    ready is skipped if the ledger has it as submitted, because its run waits for it. This function
    waits for the others.
    """
    index = await session.index_id()
    created_at = since.strftime("%Y-%m-%dT%H:%M:%SZ")
    by_asset = session.models is None and await session.client.account_generation() == "today"
    listed = (
        session.client.list_indexed_assets(index, created_at=created_at)
        if by_asset
        else session.client.list_tasks(index_id=index, created_at=created_at)
    )
    others = [t async for t in listed if t["_id"] not in tasks and t.get("status") != "failed"]
    if not others:
        return
    keys = {
        str(video["_id"]): (video.get("user_metadata") or {}).get(METADATA_KEY)
        async for video in session.client.list_videos(index, created_at=created_at)
    }
    if any(task.get("status") != "ready" for task in others):
        entries = session.ledger.entries(state="submitted", operation="index")
        running = {_bare_id(str(entry.task_id)) async for entry in entries}
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
