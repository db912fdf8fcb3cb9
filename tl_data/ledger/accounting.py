"""Reconstructs from the ledger's records what earlier runs paid. Needed for runs that were killed."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tl_data.billing import Bill, Charge
from tl_data.ledger.models import BILLED_KEEP, Call
from tl_data.ledger.records import Journal, View
from tl_data.object_store import Item, Storage

READ_AHEAD = 64  # folders read concurrently

#: Operations of jobs whose tasks can be found on the platform if the ledger has no record of them.
FINDABLE = ("index", "summary", "gist", "chapter", "highlight", "annotation", "verify")


@dataclass
class Account:
    """What one run paid."""

    #: The charges that are final.
    settled: Bill = field(default_factory=Bill)
    #: Calls that may have a task without a record, each with the charges of its records so far.
    open: list[tuple[Call, list[Charge]]] = field(default_factory=list)

    @property
    def bill(self) -> Bill:
        """The sum of the charges in the records."""
        whole = Bill({name: replace(units) for name, units in self.settled.operations.items()})
        for charge in (charge for _, charges in self.open for charge in charges):
            whole.enter(charge)
        return whole


async def accounts_of(storage: Storage, runs: Collection[str], since: float) -> dict[str, Account]:
    """The accounts of runs, by the ids of the runs. Lists all records and reads those written after `since`.

    Args:
        since: the start of the first run or an earlier time, in epoch seconds by the clock of the store.

    Raises:
        LedgerError: the ledger cannot be read, or has a record of a newer version.
    """
    journal, accounts = Journal(storage), {run: Account() for run in runs}
    shared = [f for f in await storage.folders("shared") if f.startswith(f"shared/{BILLED_KEEP:.0f}-")]
    for shard in [*await storage.folders("calls"), *shared]:
        calls: dict[str, dict[str, Item]] = {}
        async for item in storage.below(shard):
            folder, _, name = item.path.rpartition("/")
            calls.setdefault(folder, {})[name] = item
        recent = [
            View.of(items)
            for items in calls.values()
            if any(item.modified.timestamp() >= since for item in items.values())
        ]
        for start in range(0, len(recent), READ_AHEAD):
            part = recent[start : start + READ_AHEAD]
            await asyncio.gather(*(_read(journal, view, accounts, since) for view in part))
    return accounts


async def read_again(storage: Storage, run: str, account: Account) -> Account:
    """The account of a run after its open calls are read again. Raises the same errors as `accounts_of`."""
    journal, updated = Journal(storage), Account(account.settled)
    for call, _ in account.open:
        items = {item.path.rpartition("/")[2]: item async for item in storage.below(call.folder)}
        await _read(journal, View.of(items), {run: updated}, 0.0)
    return updated


async def _read(journal: Journal, view: View, accounts: dict[str, Account], since: float) -> None:
    """Add one call to the accounts of the runs that paid for it or may have paid for it."""
    charges: dict[str, list[Charge]] = {}
    tasks = set()
    for name, item in sorted(view.items.items()):
        if item.modified.timestamp() < since or not name.endswith(("submitted", "failed", "done")):
            continue
        record = await journal.record(item.path) or {}
        if name.endswith("submitted"):
            # Two records may name the same task: a slow owner records its task after another process has
            # taken the claim over and found the task.
            if record.get("task_id") in tasks:
                continue
            tasks.add(record.get("task_id"))
        if (charge := Charge.from_record(record)) is not None and charge.run in accounts:
            charges.setdefault(charge.run, []).append(charge)
    if view.state in ("claimed", "failed"):
        for claim in await journal.open_claims(view):
            run, call = claim.get("run"), _call(claim)
            if run in accounts and call.operation in FINDABLE and call.folder == _folder(view):
                accounts[run].open.append((call, charges.pop(run, [])))
    for run, run_charges in charges.items():
        for charge in run_charges:
            accounts[run].settled.enter(charge)


def _call(claim: Mapping[str, Any]) -> Call:
    return Call(
        claim.get("operation", ""),
        claim.get("content_key", ""),
        claim.get("params") or {},
        claim.get("model"),
        content=claim.get("content"),
        video_minutes=float(claim.get("video_minutes") or 0.0),
    )


def _folder(view: View) -> str:
    return next(iter(view.items.values())).path.rpartition("/")[0]
