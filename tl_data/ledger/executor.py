"""One call, settled by one process: claim it, look for what others sent, make it, write it down.

Of all processes that want a call one holds the claim; the others wait for what it writes. Whoever takes over
from an owner that is gone looks for its task on the platform before it sends anything.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tl_data.billing import Charge, charged, current_account, enter_charge
from tl_data.errors import LedgerError
from tl_data.ledger.lease import Lease, LeaseLost, Owner, Watch
from tl_data.ledger.models import Billed, Call, Doubt, Entry, Failure, entry_of
from tl_data.ledger.records import Journal, View
from tl_data.object_store import Storage, steady
from tl_data.usage import current

log = logging.getLogger("tl_data.ledger")

Act = Callable[[], Awaitable[Any]]
Find = Callable[[], Awaitable[str | Doubt | None]]


@dataclass
class Settling:
    """How this process settles calls. `lease` and `settling` in seconds, as for `Ledger.open`."""

    storage: Storage
    journal: Journal
    secrets: tuple[str, ...]
    lease: float
    settling: float

    def __post_init__(self) -> None:
        self._me = Owner()
        self._watch = Watch(self.storage, self._me)

    async def settled(self, call: Call, act: Act, find: Find | None) -> Entry:
        """What becomes of the call, made here or by another process. Raises its failure."""
        places = call.folders()
        folder = places[-1]
        for place in reversed(places):
            entry = await self.journal.done(place, call.key)
            if entry is not None and not expired(call, entry):
                return replace(entry, reused=True)
        if len(places) > 1:
            # A call that was begun in the slot before may still be in flight there: wait for it.
            view, _ = await self.journal.read(places[0], call.key)
            folder = places[0] if view.state == "claimed" else folder
        attempt, gone, under_way = 1, False, current_account()
        claim = {
            **call.described(),
            "owner": self._me.signature(),
            "video_minutes": call.video_minutes,
            **({"run": under_way.run} if under_way else {}),
        }
        while True:
            record = {**claim, "begun": time.time()}
            lease = Lease(self.storage, f"{folder}/{attempt:04d}.claim", record, self.lease)
            if await lease.take(durable=call.scope is None):
                try:
                    return await self._own(call, folder, attempt, lease, act, find, gone)
                except LeaseLost:
                    _unsettled(find)
                    log.warning(
                        "%s of %s: this process gave no sign for so long that its claim may be another's; it "
                        "looks what has become of it",
                        call.operation,
                        _whose(call),
                    )
            known = await self._others(call, folder)
            if isinstance(known, Entry):
                return replace(known, reused=True)
            attempt, gone = known

    async def _others(self, call: Call, folder: str) -> Entry | tuple[int, bool]:
        """What others make of the call: their answer; or the number of the claim to take, and whether the
        owner of the last one was killed a moment ago. Raises their failure.
        """
        waited, delay, told = False, 0.05, steady() + self.lease / 2
        while True:
            view, entry = await self.journal.read(folder, call.key)
            if entry is not None and entry.state in ("done", "submitted"):
                return entry
            if entry is not None and entry.failure is not None:
                if waited or not entry.failure.retryable:
                    raise entry.failure.exception(call.key if call.scope is None else None)
                return view.last + 1, False
            if view.state is None:
                return 1, False
            claim = view.items.get(f"{view.last:04d}.claim")
            if claim is None:
                return view.last + 1, False
            record = await self.journal.record(claim.path)
            over = await self._watch.is_over(claim, record)
            if over:
                return view.last + 1, over == "gone"
            waited = True
            if steady() > told:
                told = math.inf
                log.warning("%s", _waiting(call, record, self.lease))
            await asyncio.sleep(delay)
            delay = min(delay * 1.5, 2.0)

    async def _own(
        self, call: Call, folder: str, attempt: int, lease: Lease, act: Act, find: Find | None, gone: bool
    ) -> Entry:
        """Make the call, as the owner of its claim."""
        doubt: Doubt | None = None
        slip = current()
        read, written = slip.input_tokens, slip.output_tokens
        async with lease:
            try:
                if attempt > 1:
                    view, entry = await self.journal.read(folder, call.key)
                    if entry is not None and entry.state in ("done", "submitted"):
                        return replace(entry, reused=True)
                    if find is not None:
                        found = await self._find(view, lease, find, gone)
                        if isinstance(found, str):
                            charge = await self._senders(call, view)
                            entry = await self.journal.write_submitted(
                                call, folder, attempt, found, charge=charge
                            )
                            return replace(entry, reused=True)
                        doubt = found
                        if doubt:
                            log.warning(
                                "%s %s may be paid for twice: %s", call.operation, call.key, doubt.said
                            )
                answer = await lease.guard(act)
            except LeaseLost:
                raise
            except LedgerError:
                await lease.release()
                raise
            except asyncio.CancelledError:
                await asyncio.shield(lease.release())
                raise
            except Exception as error:
                maybe_sent = find is not None and bool(getattr(error, "maybe_done", False))
                if find is not None and maybe_sent:
                    found = await self._find(View.of({}), lease, find, gone=True)
                    if isinstance(found, str):
                        charge = charged(call.operation, call.video_minutes)
                        return await self.journal.write_submitted(call, folder, attempt, found, charge=charge)
                    _unsettled(find)
                failure = Failure.of(error, secrets=self.secrets)
                tokens = slip.input_tokens - read, slip.output_tokens - written
                # An answer that cannot be used was written, and is paid, all the same.
                minutes = getattr(error, "minutes_about", 0.0) or call.video_minutes
                charge = charged(call.operation, minutes, tokens=tokens) if any(tokens) else None
                try:
                    await self.journal.write_failed(
                        call, folder, attempt, failure, charge, maybe_sent=maybe_sent
                    )
                except LedgerError as trouble:
                    log.warning("%s", trouble)
                raise
            minutes = call.video_minutes
            if isinstance(answer, Billed):
                answer, minutes = answer.answer, answer.video_minutes
            tokens = slip.input_tokens - read, slip.output_tokens - written
            charge = charged(call.operation, minutes, tokens=tokens)
            if find is not None:
                return await _kept(
                    self.journal.write_submitted(call, folder, attempt, str(answer), doubt, charge)
                )
            try:
                return await _kept(
                    self.journal.write_done(call, folder, attempt, answer, None, minutes, charge=charge)
                )
            except LedgerError as trouble:
                enter_charge(charge)
                # It is paid for: the caller gets it, and the ledger's trouble stops the next claim.
                log.error("an answer could not be kept and would be paid for again: %s", trouble)
                said = {**call.described(), "at": time.time(), "video_minutes": minutes}
                return entry_of(call.key, "done", attempt, said, answer)

    async def _senders(self, call: Call, view: View) -> Charge | None:
        """The charge for a task that was found: to the run that sent it, the first that may have."""
        for claim in await self.journal.open_claims(view):
            run = claim.get("run")
            return charged(call.operation, call.video_minutes, run=str(run)) if run else None
        return None

    async def _find(self, view: View, lease: Lease, find: Find, gone: bool) -> str | Doubt | None:
        """Look for a task that an earlier owner submitted and could not write down."""
        failed = set()
        for name, item in view.items.items():
            if name.endswith(".failed"):
                record = await self.journal.record(item.path)
                failed.add(((record or {}).get("failure") or {}).get("task_id"))
        found = await lease.guard(find)
        if not isinstance(found, str) and gone:
            await asyncio.sleep(self.settling)
            found = await lease.guard(find)
        return None if found in failed else found


def _whose(call: Call) -> str:
    """What a call is about, for people."""
    return str(call.described()["content"] or call.content_key)


def _waiting(call: Call, claim: Mapping[str, Any] | None, lease: float) -> str:
    """What a call waits for whose claim another process holds."""
    owner, what = (claim or {}).get("owner") or {}, _whose(call)
    whose = f"process {owner.get('pid')} on {owner.get('host')}" if owner else "a claim that cannot be read"
    return (
        f"{call.operation} of {what} waits for {whose}; it is taken over when that has given no sign for "
        f"{lease:g} s"
    )


def _unsettled(find: Find | None) -> None:
    """Note that a task may have been made whose id this run does not know."""
    under_way = current_account()
    if find is not None and under_way is not None:
        under_way.unsettled += 1


async def _kept(writing: Coroutine[Any, Any, Entry]) -> Entry:
    """Write to the end what was paid for, even if its caller is cancelled meanwhile."""
    task = asyncio.create_task(writing)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise


def expired(call: Call, entry: Entry) -> bool:
    """Whether an answer that is only shared for a while is too old."""
    return call.scope is not None and entry.at + call.keep < time.time()
