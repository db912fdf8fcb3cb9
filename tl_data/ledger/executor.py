"""Executes one call in one process: claim it, look for earlier tasks, send it, record the answer.

One of the processes that need a call holds its claim; the others wait for the record. A process that takes
over from a dead owner looks for the owner's task on the platform before it sends anything.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tl_data.billing import Charge, current_account, enter_charge, make_charge
from tl_data.errors import LedgerError, TLDataError
from tl_data.ledger.lease import RUN_LEASES, Lease, LeaseLost, Owner, Watch
from tl_data.ledger.models import AmbiguousTask, Billed, Call, Entry, Failure, entry_of
from tl_data.ledger.records import Journal, View
from tl_data.object_store import Storage, steady
from tl_data.usage import current

log = logging.getLogger("tl_data.ledger")

Act = Callable[[], Awaitable[Any]]
Find = Callable[[], Awaitable[str | AmbiguousTask | None]]


@dataclass
class Attempt:
    """A claim of a call that this process holds, and what it needs to make the call."""

    call: Call
    folder: str  # the folder of the call's records
    number: int  # the number of the claim
    lease: Lease
    act: Act  # makes the call
    find: Find | None  # finds the call's remote task; None for calls that create no task
    owner_gone: bool = False  # whether the previous claim is `gone` (see `lease.Over`), perhaps just now
    doubt: AmbiguousTask | None = None  # a task that may belong to this call, which then is paid twice

    def __post_init__(self) -> None:
        usage = current()
        self._before = usage.input_tokens, usage.output_tokens

    @property
    def tokens(self) -> tuple[int, int]:
        """Input and output tokens since the claim was taken."""
        usage = current()
        return usage.input_tokens - self._before[0], usage.output_tokens - self._before[1]


@dataclass
class CallExecutor:
    """Executes each call once among all processes.

    The steps of a call, each a method:

        _recorded_answer       any process answered it before: return the answer
        _await_other_owner     another process holds the claim: wait for its record
        _execute_owned         this process holds the claim:
            _recover_previous      an earlier owner may have sent the call: find its task
            _find_after_failure    the answer was lost: find the task
            _record_failure        the call failed
            _record_success        the call succeeded

    Args:
        secrets: texts that are never written.
        lease: seconds without a renewal after which a claim expires.
        settling: seconds in which a request of a killed process may still reach the platform.
    """

    storage: Storage
    journal: Journal
    secrets: tuple[str, ...]
    lease: float
    settling: float

    def __post_init__(self) -> None:
        self._me = Owner()
        self._watch = Watch(self.storage, self._me)

    async def execute(self, call: Call, act: Act, find: Find | None) -> Entry:
        """The entry of the call, which this or another process executes. Raises the failure of the call."""
        if (recorded := await self._recorded_answer(call)) is not None:
            return recorded
        folder = await self._folder(call)
        number, owner_gone = 1, False
        while True:
            lease = self._claim(call, folder, number)
            if await lease.take(durable=call.scope is None):
                async with lease:
                    other_slot = await self._check_other_slot(call, folder)
                if other_slot is not None:
                    await lease.release()
                    if isinstance(other_slot, Entry):
                        return other_slot
                    folder = other_slot
                else:
                    try:
                        return await self._execute_owned(
                            Attempt(call, folder, number, lease, act, find, owner_gone)
                        )
                    except LeaseLost:
                        _count_unsettled(find)
                        log.warning(
                            "%s of %s: lease expired while the call was running; checking whether another "
                            "process took it over",
                            call.operation,
                            _content(call),
                        )
            awaited = await self._await_other_owner(call, folder)
            if isinstance(awaited, Entry):
                return replace(awaited, reused=True)
            number, owner_gone = awaited

    async def _recorded_answer(self, call: Call) -> Entry | None:
        """The recorded answer, or None. A shared call may have several; the newest is returned."""
        for folder in reversed(call.folders()):
            entry = await self.journal.done(folder, call.key)
            if entry is not None and not expired(call, entry):
                return replace(entry, reused=True)
        return None

    async def _folder(self, call: Call) -> str:
        """The folder of the call's records. For a shared call it may be that of the previous time slot."""
        folders = call.folders()
        if len(folders) > 1:
            view, entry = await self.journal.read(folders[0], call.key)
            # The call may have ended since `_recorded_answer` read its records.
            fresh = view.state == "done" and entry is not None and not expired(call, entry)
            if fresh or view.state == "claimed":
                return folders[0]
        return folders[-1]

    async def _check_other_slot(self, call: Call, folder: str) -> Entry | str | None:
        """Look for a shared call in its other time slot: its answer, the folder to wait in, or None.

        Near the boundary of two slots, process A may choose the old slot, and process B may find the old slot
        empty and choose the new one before A has written its claim. So each process checks the other slot
        again after it has written its claim, and at least one of them sees the other's claim. A process in
        the new slot waits for the claim in the old one; a process in the old slot gives its claim up.
        """
        if call.scope is None:
            return None
        newest = call.folder
        if folder != newest:
            view, _ = await self.journal.read(newest, call.key)
            return None if view.state is None else newest
        previous = call.folders()[0]
        view, entry = await self.journal.read(previous, call.key)
        if view.state == "claimed":
            awaited = await self._await_other_owner(call, previous)
            entry = awaited if isinstance(awaited, Entry) else None
        if entry is not None and entry.state == "done" and not expired(call, entry):
            return replace(entry, reused=True)
        return None

    def _claim(self, call: Call, folder: str, number: int) -> Lease:
        account = current_account()
        record = {
            **call.described(),
            "owner": self._me.signature(),
            "video_minutes": call.video_minutes,
            **({"run": account.run} if account else {}),
            "begun": time.time(),
        }
        return Lease(self.storage, f"{folder}/{number:04d}.claim", record, self.lease)

    async def _await_other_owner(self, call: Call, folder: str) -> Entry | tuple[int, bool]:
        """Wait for the process that holds the claim. Raises the failure that it records.

        Returns:
            The entry that it records. If it gives up or dies: the number of the next claim, and whether the
            old claim is `gone` (see `lease.Over`).
        """
        waited, delay, warn_at = False, 0.05, steady() + self.lease / 2
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
            reason = await self._watch.is_over(claim, record)
            if reason:
                return view.last + 1, reason == "gone"
            waited = True
            if steady() > warn_at:
                warn_at = math.inf
                log.warning("%s", _waiting_message(call, record, self.lease))
            await asyncio.sleep(delay)
            delay = min(delay * 1.5, 2.0)

    async def _execute_owned(self, attempt: Attempt) -> Entry:
        """Execute the call as the owner of its claim."""
        lease = attempt.lease
        async with lease:
            try:
                if (entry := await self._recover_previous(attempt)) is not None:
                    return entry
                answer = await lease.guard(attempt.act)
            except LeaseLost:
                raise  # another process may own the call now: `execute` waits for it
            except LedgerError:
                await lease.release()  # nothing was sent
                raise
            except asyncio.CancelledError:
                await asyncio.shield(lease.release())
                raise
            except Exception as error:
                maybe_sent = attempt.find is not None and bool(getattr(error, "maybe_done", False))
                if maybe_sent and (entry := await self._find_after_failure(attempt)) is not None:
                    return entry
                await self._record_failure(attempt, error, maybe_sent)
                raise
            return await self._record_success(attempt, answer)

    async def _recover_previous(self, attempt: Attempt) -> Entry | None:
        """The answer or the task of an earlier owner of the claim, or None."""
        if attempt.number == 1:
            return None
        call = attempt.call
        view, entry = await self.journal.read(attempt.folder, call.key)
        if entry is not None and entry.state in ("done", "submitted"):
            return replace(entry, reused=True)
        if attempt.find is None:
            return None
        task = await self._find(view, attempt.lease, attempt.find, attempt.owner_gone)
        if isinstance(task, str):
            charge = await self._charge_of_sender(call, view)
            entry = await self.journal.write_submitted(
                call, attempt.folder, attempt.number, task, charge=charge
            )
            return replace(entry, reused=True)
        attempt.doubt = task
        if task:
            log.warning("%s %s may be paid for twice: %s", call.operation, call.key, task.reason)
        return None

    async def _find_after_failure(self, attempt: Attempt) -> Entry | None:
        """The task of a request whose answer was lost, or None.

        If the platform cannot be reached, such a task may exist: the next owner looks for it, and the account
        of this run stays open until then.
        """
        assert attempt.find is not None
        call = attempt.call
        try:
            task = await self._find(View.of({}), attempt.lease, attempt.find, gone=True)
        except (LedgerError, LeaseLost, asyncio.CancelledError):
            _count_unsettled(attempt.find)
            raise
        except TLDataError as error:
            task = None
            log.warning(
                "%s of %s: a request got no answer, and the platform could not be asked for its task: %s",
                call.operation,
                _content(call),
                error,
            )
        if not isinstance(task, str):
            _count_unsettled(attempt.find)
            return None
        charge = make_charge(call.operation, call.video_minutes, calls=call.units)
        return await self._write_submitted(attempt, task, charge=charge)

    async def _record_failure(self, attempt: Attempt, error: Exception, maybe_sent: bool) -> None:
        """Record the failure. If the platform generated an answer that cannot be used, it is billed."""
        call, charge = attempt.call, None
        if any(attempt.tokens):
            minutes = getattr(error, "minutes_about", 0.0) or call.video_minutes
            charge = make_charge(call.operation, minutes, calls=call.units, tokens=attempt.tokens)
        failure = Failure.of(error, secrets=self.secrets)
        try:
            await self.journal.write_failed(
                call, attempt.folder, attempt.number, failure, charge, maybe_sent=maybe_sent
            )
        except LedgerError as unrecorded:
            log.warning("%s", unrecorded)

    async def _record_success(self, attempt: Attempt, answer: Any) -> Entry:
        """Record the answer, or the id of the remote task."""
        call, minutes = attempt.call, attempt.call.video_minutes
        if isinstance(answer, Billed):
            answer, minutes = answer.answer, answer.video_minutes
        charge = make_charge(call.operation, minutes, calls=call.units, tokens=attempt.tokens)
        if attempt.find is not None:
            return await _finish_writing(self._write_submitted(attempt, str(answer), attempt.doubt, charge))
        try:
            return await _finish_writing(
                self.journal.write_done(
                    call, attempt.folder, attempt.number, answer, None, minutes, charge=charge
                )
            )
        except LedgerError as error:
            enter_charge(charge)
            # The answer is paid for, so the caller gets it. The ledger's error stops the next claim.
            log.error("an answer could not be recorded; the next run would pay for it again: %s", error)
            record = {**call.described(), "at": time.time(), "video_minutes": minutes}
            return entry_of(call.key, "done", attempt.number, record, answer)

    async def _write_submitted(
        self,
        attempt: Attempt,
        task_id: str,
        doubt: AmbiguousTask | None = None,
        charge: Charge | None = None,
    ) -> Entry:
        try:
            return await self.journal.write_submitted(
                attempt.call, attempt.folder, attempt.number, task_id, doubt, charge
            )
        except LedgerError:
            _count_unsettled(attempt.find)  # the task exists without a record
            raise

    async def _charge_of_sender(self, call: Call, view: View) -> Charge | None:
        """The charge for a task that was found on the platform. The first run that may have sent it pays.

        Runs whose account is closed are skipped: it is certain that they sent nothing, and their rows in the
        tables are final. The run of this process is the last candidate.
        """
        runs = [claim.get("run") for claim in await self.journal.open_claims(view)]
        if not runs or not runs[0]:
            return None
        for run in filter(None, runs):
            if await self.storage.read(f"{RUN_LEASES}/{run}") is not None:
                break
        else:
            run = runs[0]  # no run has a lease in this store
        return make_charge(call.operation, call.video_minutes, run=str(run), calls=call.units)

    async def _find(self, view: View, lease: Lease, find: Find, gone: bool) -> str | AmbiguousTask | None:
        """Look on the platform for a task that an earlier owner submitted but did not record.

        Args:
            gone: whether the owner may have ended a moment ago. Its request may still be on the way, so a
                second look follows after `settling` seconds.
        """
        failed = set()
        for name, item in view.items.items():
            if name.endswith(".failed"):
                record = await self.journal.record(item.path)
                failed.add(((record or {}).get("failure") or {}).get("task_id"))
        task = await lease.guard(find)
        if not isinstance(task, str) and gone:
            await asyncio.sleep(self.settling)
            task = await lease.guard(find)
        return None if task in failed else task


def _content(call: Call) -> str:
    """The content of a call, for messages."""
    return str(call.described()["content"] or call.content_key)


def _waiting_message(call: Call, claim: Mapping[str, Any] | None, lease: float) -> str:
    """The message for a call whose claim another process holds."""
    owner, content = (claim or {}).get("owner") or {}, _content(call)
    holder = f"process {owner.get('pid')} on {owner.get('host')}" if owner else "a claim that cannot be read"
    return (
        f"{call.operation} of {content} waits for {holder}; this process takes over after {lease:g} s "
        "without a renewal of the claim"
    )


def _count_unsettled(find: Find | None) -> None:
    """Count, for the current run, a task that may exist but whose id is unknown."""
    account = current_account()
    if find is not None and account is not None:
        account.unsettled += 1


async def _finish_writing(writing: Coroutine[Any, Any, Entry]) -> Entry:
    """Finish writing the record of a paid answer, even if the caller is cancelled."""
    task = asyncio.create_task(writing)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise


def expired(call: Call, entry: Entry) -> bool:
    """Whether a shared answer is too old."""
    return call.scope is not None and entry.at + call.keep < time.time()
