"""Is a run that the table `runs` calls running still alive? A lease in the ledger says so.

A run renews its lease while it works, and removes it when its row says all: what it did, and what it paid.
One that was killed, was interrupted, or sent what was never answered leaves its lease, and with it the word
that its books are not closed; pipeline_books.py closes them. Without a lease nothing is known, and the row is
left as it is: the run may use another ledger.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from tl_data.bill import Book
from tl_data.errors import LedgerError
from tl_data.lease import LEASE, Lease, Owner, Watch, begun_at
from tl_data.prices import Prices
from tl_data.records import Unreadable, decode
from tl_data.storage import Item, Storage

FOLDER = "runs"


@asynccontextmanager
async def alive(
    storage: Storage, book: Book, tables: str, prices: Prices | None = None, seconds: float = LEASE
) -> AsyncIterator[None]:
    """Hold the lease of a run over the tables at this address.

    At the end it is removed, if the run's book has all that it paid, and given up otherwise, also when the
    run ends with an error.
    """
    record = {
        "operation": "run",
        "content_key": book.run,
        "owner": Owner().signature(),
        "begun": time.time(),
        "tables": tables,
        **({"prices": prices.said()} if prices else {}),
    }
    lease = Lease(storage, f"{FOLDER}/{book.run}", record, seconds)
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
    with suppress(LedgerError):  # it expires, and the row no longer says that it runs
        await storage.delete(lease.path)


@dataclass(frozen=True)
class Left:
    """The lease of a run that has ended without closing its books."""

    item: Item
    record: Mapping[str, Any]

    @property
    def begun(self) -> float:
        """When the run began, or earlier (epoch seconds by the clock of the store)."""
        return begun_at(self.record, self.item)

    @property
    def prices(self) -> Prices | None:
        """The price list that the run went by."""
        return Prices.heard(self.record.get("prices"))


async def left(storage: Storage, watch: Watch, item: Item) -> Left | None:
    """The lease of a run, if the run is over: judged by its process where that can be seen to be gone, by the
    clock of the store otherwise."""
    body = await storage.read(item.path)
    if body is None:
        return None
    try:
        record = decode(body, item.path)
    except Unreadable:
        record = {}
    return Left(item, record) if await watch.is_over(item, record) else None
