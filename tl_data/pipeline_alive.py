"""Is a run that the table `runs` calls running still alive? A lease in the ledger says so.

A run renews its lease while it works. A run that was killed cannot write how it ended: the next one that
comes upon its row judges the lease, by the process where it can be seen to be gone, by the clock of the store
otherwise, and writes `interrupted`. Without a lease nothing is known, and the row is left as it is: the run
may use another ledger.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tl_data.errors import LedgerError
from tl_data.lake import LakeTable, rows_of
from tl_data.lake_tables import RUNS
from tl_data.lease import LEASE, Lease, Owner, Watch
from tl_data.records import Unreadable, decode
from tl_data.storage import Storage


@asynccontextmanager
async def alive(storage: Storage, run_id: str, seconds: float = LEASE) -> AsyncIterator[None]:
    """Hold the lease of a run. It is removed at the end, and given up when the run ends with an error."""
    record = {"operation": "run", "content_key": run_id, "owner": Owner().signature()}
    lease = Lease(storage, _path(run_id), record, seconds)
    await lease.take()
    try:
        async with lease:
            yield
    except BaseException:
        await lease.release()
        raise
    with suppress(LedgerError):  # it expires, and the row no longer says that it runs
        await storage.delete(_path(run_id))


async def mark_interrupted(storage: Storage, runs: LakeTable) -> list[str]:
    """Write `interrupted` to the rows of runs that have died; gives their ids."""
    rows = await asyncio.to_thread(lambda: runs.batches().read_all().to_pylist())
    watch, dead = Watch(storage, Owner()), []
    for row in rows:
        if row["status"] != "running" or (lease := await storage.item(_path(row["run_id"]))) is None:
            continue
        try:
            body = await storage.read(lease.path)
            record = decode(body, lease.path) if body is not None else {}
        except Unreadable:
            record = {}
        if await watch.is_over(lease, record):
            dead.append({**row, "status": "interrupted"})
    if dead:
        await asyncio.to_thread(runs.replace_groups, rows_of(RUNS, dead))
    for row in dead:
        await storage.delete(_path(row["run_id"]))
    return [row["run_id"] for row in dead]


def _path(run_id: str) -> str:
    return f"runs/{run_id}"
