"""Closing the books of runs that could not do it themselves: the table `runs` then has all that was paid.

A run that is killed cannot write what it paid since its last commit. The ledger knows it: each of its records
names the run that pays. The next run writes that into the row. Of a request that was never answered nobody
knows yet whether it made a task: whoever takes the call over finds it, and has it billed to the run that sent
it. So at its end the next run looks once more, also for the tasks of videos that the source no longer has.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

from tl_data.accounts import Account, accounts_of, read_again
from tl_data.errors import LedgerError, TLDataError
from tl_data.lake import LakeTable, rows_of
from tl_data.lake_tables import RUNS
from tl_data.lease import Owner, Watch
from tl_data.orphans import indexing_task
from tl_data.pipeline_alive import FOLDER, Left, left
from tl_data.prices import Prices
from tl_data.records import Call
from tl_data.report import billed
from tl_data.session import Session

log = logging.getLogger("tl_data.pipeline")

EARLIER = 86400.0  # seconds by which clocks may have jumped while a run was under way
LOOKING = 60.0  # seconds that looking for tasks nobody wrote down may take


@dataclass
class _Open:
    """A run whose books are open."""

    row: dict[str, Any]  # of the table `runs`
    lease: Left
    account: Account | None = None  # None: the ledger could not be read


class NothingSent(LedgerError):
    """Nothing is to be sent: only what was sent before is looked for."""


class Books:
    """The open books in one table `runs`."""

    def __init__(self, session: Session, runs: LakeTable, prices: Prices, tables: str) -> None:
        self._session, self._runs, self._prices, self._tables = session, runs, prices, tables
        self._storage = session.ledger.storage
        self._open: dict[str, _Open] = {}
        self._reading: asyncio.Task[None] | None = None

    async def look(self) -> list[str]:
        """Find the runs that are over, and call those interrupted that had died; gives the ids of these.

        What they paid is read meanwhile: `close` at the end, or `leave`.
        """
        rows = await asyncio.to_thread(lambda: self._runs.batches().read_all().to_pylist())
        by_id, watch = {row["run_id"]: row for row in rows}, Watch(self._storage, Owner())
        leases = [item async for item in self._storage.below(FOLDER)]
        for item in leases:
            run = item.path.rpartition("/")[2]
            if (lease := await left(self._storage, watch, item)) is None:
                continue
            if row := by_id.get(run):
                self._open[run] = _Open(row, lease)
            elif lease.record.get("tables") == self._tables:  # it died before it had a row, and paid nothing
                await self._storage.delete(item.path)
        died = [run for run, open_ in self._open.items() if open_.row["status"] == "running"]
        await self._write(died)
        if self._open:
            self._reading = asyncio.create_task(self._read())
        return died

    async def _read(self) -> None:
        """Read what the ledger knows of them, which takes minutes where it knows very many calls."""
        began = [o.lease.begun for o in self._open.values()]
        began += [o.row["started_at"].timestamp() for o in self._open.values() if o.row["started_at"]]
        accounts = await accounts_of(self._storage, self._open, min(began) - EARLIER)
        for run, account in accounts.items():
            self._open[run].account = account
        await self._write(list(self._open))
        for run, account in accounts.items():
            if not account.open:
                await self._close(run)

    async def close(self) -> None:
        """Look for what is open still, and close the books that can be closed. Never fails: the next run
        does what is left."""
        if self._reading is None:
            return
        try:
            await self._reading
            async with asyncio.timeout(LOOKING):
                for run, open_ in list(self._open.items()):
                    if open_.account is not None:
                        await self._settle(run, open_.account)
        except (TLDataError, TimeoutError) as error:
            log.warning("the books of earlier runs are left to the next run: %s", error or "it took too long")

    async def leave(self) -> None:
        """Leave what is open to the next run."""
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
        """Have the task of a call written down, if there is one; whether that is decided."""
        session, index = self._session, str(call.params.get("index_id"))

        async def send() -> str:
            raise NothingSent("nothing is sent")

        async def find() -> str | None:
            return await indexing_task(session.client, session.watcher, index, call.key)

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

    def _paid(self, open_: _Open) -> dict[str, Any]:
        """What the ledger says. Where it knows less than the row, records were lost or forgotten."""
        bill = open_.account.bill if open_.account else None
        if bill is None or bill.calls < (open_.row["calls"] or 0):
            return {}
        return billed(bill, open_.lease.prices or self._prices)

    async def _close(self, run: str) -> None:
        await self._storage.delete(self._open.pop(run).lease.item.path)
