"""The ledger: a persistent record of paid calls, so that no recorded call is paid twice.

    ledger = Ledger.open("s3://bucket/ledger")          # or a path, gs://..., az://...
    entry = await ledger.once(call, do)                 # a call with one answer
    entry = await ledger.submit(call, send, find)       # a remote task
    await ledger.finish(call, result)                   # the task succeeded; ledger.fail(call, error) if not

If several processes need the same call, one of them gets the claim and the others wait for its record. The
call is executed once, by one process, and again only after a retryable failure, or if its owner died and left
no record.

See executor.py for the execution of a call, lease.py for dead and slow owners, models.py for the format of
records, and records.py for reading and writing them.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import orjson
import pyarrow as pa

from tl_data.billing import Bill, Charge, billed_as, make_charge
from tl_data.errors import (
    ConnectionFailed,
    LedgerError,
    NotAllowed,
    QuotaExhausted,
    RateLimited,
    ServerFailed,
    TaskFailed,
)
from tl_data.ledger.executor import Act, CallExecutor, Find, expired
from tl_data.ledger.lease import LEASE, begun_at
from tl_data.ledger.models import AmbiguousTask, Call, Entry, Failure, State, Unreadable
from tl_data.ledger.records import Journal, View
from tl_data.object_store import Item, Storage
from tl_data.runtime.context import Priced, current_context
from tl_data.usage import current

#: The schema of `export()`.
EXPORT = pa.schema(
    {
        "key": pa.string(),
        "state": pa.string(),
        "operation": pa.string(),
        "content": pa.string(),
        "content_key": pa.string(),
        "model": pa.string(),
        "params": pa.string(),
        "attempt": pa.int32(),
        "at": pa.timestamp("us", tz="UTC"),
        "task_id": pa.string(),
        "video_minutes": pa.float64(),
        "error_class": pa.string(),
        "error_code": pa.string(),
        "error_message": pa.string(),
        "retryable": pa.bool_(),
        "owner": pa.string(),
        "perhaps_paid_twice": pa.bool_(),
    }
)


def row_of(entry: Entry) -> dict[str, Any]:
    """An entry as a row of the schema `EXPORT`."""
    failure = entry.failure
    return {
        "key": entry.key,
        "state": entry.state,
        "operation": entry.operation,
        "content": entry.content,
        "content_key": entry.content_key,
        "model": entry.model,
        "params": orjson.dumps(entry.params, option=orjson.OPT_SORT_KEYS).decode(),
        "attempt": entry.attempt,
        "at": int(entry.at * 1_000_000),
        "task_id": entry.task_id,
        "video_minutes": entry.video_minutes,
        "error_class": failure.kind if failure else None,
        "error_code": failure.code if failure else None,
        "error_message": failure.message if failure else None,
        "retryable": failure.retryable if failure else None,
        "owner": entry.owner,
        "perhaps_paid_twice": entry.doubt is not None,
    }


log = logging.getLogger("tl_data.ledger")

READ_AHEAD = 64  # records that a listing reads concurrently
SETTLE = 10.0  # seconds in which a request of a killed process may still arrive at the platform

#: Code of a task that succeeded and is billed, but whose answer cannot be used.
UNREADABLE = "answer_unreadable"

#: Errors of a request about a task. They do not show whether the task itself failed.
REQUEST_ERRORS = (ConnectionFailed, RateLimited, ServerFailed, QuotaExhausted, NotAllowed)

_KEY = re.compile(r"[0-9a-f]{32}")


@dataclass
class _Flight:
    """A call in progress in this process, and the number of callers that wait for it."""

    task: asyncio.Task[Entry]
    waiters: int = 0
    closing: bool = False  # whether it is cancelled, because no caller waits any more


class Ledger:
    """The ledger at one address. An instance belongs to one event loop of one process."""

    def __init__(
        self, storage: Storage, secrets: tuple[str, ...] = (), lease: float = LEASE, settle: float = SETTLE
    ) -> None:
        self.storage, self._secrets = storage, secrets
        self._journal = Journal(storage)
        self._executor = CallExecutor(storage, self._journal, secrets, lease, settle)
        self._flights: dict[str, _Flight] = {}
        #: Call key -> the bills of the statements that submitted its task in this process. The length of the
        #: video, and so the price, may be known only when the task has ended.
        self._billed: dict[str, tuple[Bill, ...]] = {}
        self._sweeping: asyncio.Task[None] | None = None

    @classmethod
    def open(
        cls, url: str, *, secrets: tuple[str, ...] = (), lease: float = LEASE, settle: float = SETTLE
    ) -> Ledger:
        """Open, and create if needed, the ledger at a path or an s3://, gs://, az:// address.

        Args:
            secrets: texts that are never written, such as the API key.
            lease: seconds without a renewal after which a claim expires.
            settle: seconds in which a request of a killed process may still reach the platform.

        Raises:
            LedgerError: the address cannot be opened.
        """
        return cls(Storage(url), secrets, lease, settle)

    async def aclose(self) -> None:
        """Stop background work. Calls in progress end with their callers."""
        if self._sweeping:
            self._sweeping.cancel()
            with suppress(asyncio.CancelledError):
                await self._sweeping

    # ---- calls ----------------------------------------------------------------------------------

    async def once(self, call: Call, do: Act) -> Entry:
        """The answer of a call.

        It is executed once, by one process, and again only after a retryable failure, or if its owner died
        and left no record.

        `do()` returns JSON values or a pyarrow.Table, or one of them inside `Billed`. Its exceptions are
        recorded and raised. After a final failure, later calls raise it again without calling `do`, until
        `forget` removes it.
        """
        return await self._execute_shared(call, do, None)

    async def submit(self, call: Call, send: Callable[[], Awaitable[str]], find: Find) -> Entry:
        """The remote task of a call: state `submitted` with its `task_id`, or `done`.

        The task is submitted once, by one process, and again only after a retryable failure, or if `find()`
        cannot identify the task that another process may have submitted.

        `send()` returns the id of a new task. `find()` looks on the platform for the task of the call, by its
        key or by other features that identify it with certainty. It runs before `send()` if another process
        may have submitted the call, and after `send()` if its response was lost. If the first one returns an
        `AmbiguousTask`, the call is sent and the doubt is recorded.
        """
        return await self._execute_shared(call, send, find)

    async def unsettled_since(self, call: Call) -> float | None:
        """The earliest time at which a request may have been sent whose task is not recorded, or None.

        The time is in epoch seconds. It may be the time of this process's own claim.
        """
        call = await self._recorded_call(call)
        view, _ = await self._journal.read(call.folder, call.key)
        begin_times = []
        for name, item in view.items.items():
            number, _, kind = name.partition(".")
            if kind == "claim" and f"{number}.submitted" not in view.items:
                begin_times.append(begun_at(await self._journal.record(item.path) or {}, item))
        return min(begin_times, default=None)

    async def failures(self, call: Call) -> int:
        """The number of recorded failures of the call. An attempt after a failure is a new request."""
        call = await self._recorded_call(call)
        view, _ = await self._journal.read(call.folder, call.key)
        return sum(name.endswith(".failed") for name in view.items)

    async def finish(
        self,
        call: Call,
        result: Any,
        *,
        video_minutes: float | None = None,
        tokens: tuple[int, int] = (0, 0),
    ) -> Entry:
        """Record the result of a task. The first record wins and is returned.

        Args:
            tokens: input and output tokens, if the submission did not record them.
        """
        call = await self._recorded_call(call)
        folder = call.folder
        view, entry = await self._journal.read(folder, call.key)
        if entry is not None and entry.state == "done":
            return entry
        task_id = entry.task_id if entry else None
        minutes = call.video_minutes if video_minutes is None else video_minutes
        doubt = AmbiguousTask(entry.doubt) if entry and entry.doubt else None
        attempt = max(view.attempt, 1)
        charge = _charge_difference(entry, minutes, tokens)
        self._bill_rest(call, minutes, tokens)
        return await self._journal.write_done(call, folder, attempt, result, task_id, minutes, doubt, charge)

    async def fail(self, call: Call, error: Exception, *, tokens: tuple[int, int] = (0, 0)) -> Entry:
        """Record the failure of a task. After a retryable failure, a later call may submit the task again.

        If the error is that of a request (no connection, no permission, too many requests), nothing is known
        about the task, and it stays `submitted`.
        """
        call = await self._recorded_call(call)
        folder = call.folder
        view, entry = await self._journal.read(folder, call.key)
        if entry is not None:
            is_unchanged = entry.state == "submitted" and isinstance(error, REQUEST_ERRORS)
            if is_unchanged or entry.state in ("done", "failed"):
                return entry
        failure = Failure.of(error, entry.task_id if entry else None, self._secrets)
        # A failed task is not billed, because its video is in no index. The video of a deleted task may be in
        # an index, so that one stays billed.
        unbilled = isinstance(error, TaskFailed) and error.code != UNREADABLE
        billed = entry.charge.video_us / 60e6 if entry is not None and entry.charge is not None else 0.0
        charge = _charge_difference(entry, 0.0 if unbilled else billed, tokens)
        self._bill_rest(call, 0.0 if unbilled else call.video_minutes, tokens)
        return await self._journal.write_failed(call, folder, max(view.attempt, 1), failure, charge)

    def _bill_rest(self, call: Call, video_minutes: float, tokens: tuple[int, int]) -> None:
        """Add what is known only at the end of a task to the bills of the statements that submitted it."""
        difference_us = round((video_minutes - call.video_minutes) * 60e6)
        for bill in self._billed.pop(call.key, ()):
            bill.enter(Charge("", billed_as(call.operation), difference_us, 0, *tokens))

    async def get(self, call: Call) -> Entry | None:
        """The entry of a call, or None."""
        call = await self._recorded_call(call)
        for folder in call.folders():
            _, entry = await self._journal.read(folder, call.key)
            if entry is not None and not expired(call, entry):
                return entry
        return None

    async def _recorded_call(self, call: Call) -> Call:
        """The call with the key that has records: its own, or else one that an earlier release gave it."""
        for candidate in (call, *call.former_calls) if call.former_calls else ():
            view, _ = await self._journal.read(candidate.folder, candidate.key)
            if view.state is not None:
                return candidate
        return call

    # ---- the whole ledger -----------------------------------------------------------------------

    async def entries(
        self, *, state: State | None = None, operation: str | None = None
    ) -> AsyncIterator[Entry]:
        """All durable calls in the order of their keys. Large results are left out; `show` includes them."""
        async for views in self._views():
            matching = [v for v in views if v[1].state is not None and state in (None, v[1].state)]
            for start in range(0, len(matching), READ_AHEAD):
                part = matching[start : start + READ_AHEAD]
                for entry in await asyncio.gather(*(self._read_entry(*v) for v in part)):
                    if entry is not None and operation in (None, entry.operation):
                        yield entry

    async def _views(self) -> AsyncIterator[list[tuple[str, View]]]:
        """Folder and state of every durable call, from object names only.

        Each list has the calls whose keys begin with the same two digits.
        """
        for shard in await self.storage.folders("calls"):
            calls: dict[str, dict[str, Item]] = {}
            async for item in self.storage.below(shard):
                folder, _, name = item.path.rpartition("/")
                calls.setdefault(folder, {})[name] = item
            yield [(folder, View.of(calls[folder])) for folder in sorted(calls)]

    async def count(self) -> dict[State, int]:
        """The number of durable calls per state, without reading records."""
        counts: dict[State, int] = {}
        async for views in self._views():
            for _, view in views:
                if view.state is not None:
                    counts[view.state] = counts.get(view.state, 0) + 1
        return counts

    async def batches(
        self, *, state: State | None = None, operation: str | None = None, rows: int = 1000
    ) -> AsyncIterator[pa.RecordBatch]:
        """Durable calls as batches of the schema `EXPORT`. The ledger may be larger than the memory."""
        batch: list[dict[str, Any]] = []
        async for entry in self.entries(state=state, operation=operation):
            batch.append(row_of(entry))
            if len(batch) >= rows:
                yield pa.RecordBatch.from_pylist(batch, EXPORT)
                batch = []
        if batch:
            yield pa.RecordBatch.from_pylist(batch, EXPORT)

    async def _read_entry(self, folder: str, view: View) -> Entry | None:
        try:
            return await self._journal.entry(folder, view, large=False)
        except Unreadable as error:
            log.warning("%s", error)
            return None

    async def show(self, key: str) -> Entry | None:
        """A durable call by its key, with its result."""
        if not _KEY.fullmatch(key):
            return None
        _, entry = await self._journal.read(f"calls/{key[:2]}/{key}", key)
        return entry

    async def forget(self, key: str) -> bool:
        """Remove all records of a durable call, so that it is made and paid again. False: there were none."""
        if not _KEY.fullmatch(key):
            return False  # a text that is no key could match the folders of several calls
        folder = f"calls/{key[:2]}/{key}"
        paths = [item.path async for item in self.storage.below(folder)]
        # `done` is deleted first. If the process is killed here, the next run finds the record of the task
        # and does not pay again.
        for path in sorted(paths, key=lambda p: (not p.endswith("/done"), p)):
            await self.storage.delete(path)
        return bool(paths)

    async def export(self) -> pa.Table:
        """All durable calls as a table of the schema `EXPORT`."""
        return pa.Table.from_batches([batch async for batch in self.batches()], EXPORT)

    async def sweep(self) -> None:
        """Remove expired shared answers."""
        now = time.time()
        for slot in await self.storage.folders("shared"):
            length, _, index = slot.rpartition("/")[2].partition("-")
            if length.isdigit() and index.isdigit() and (int(index) + 3) * int(length) < now:
                await self.storage.drop(slot)

    # ---- callers of one call in this process ------------------------------------------------------

    async def _execute_shared(self, call: Call, act: Act, find: Find | None) -> Entry:
        """Execute a call once for all its callers in this process."""
        if current_context().quoting:
            return await self._quote(call)
        call = await self._recorded_call(call)
        while (flight := self._flights.get(call.key)) is not None and flight.closing:
            await asyncio.wait((flight.task,))
        first = flight is None
        if flight is None:
            if call.scope is not None and self._sweeping is None:
                self._sweeping = asyncio.create_task(self._sweep_quietly())
            flight = _Flight(asyncio.create_task(self._executor.execute(call, act, find)))
            self._flights[call.key] = flight
            flight.task.add_done_callback(lambda _: self._flights.pop(call.key, None))
        flight.waiters += 1
        try:
            entry = await asyncio.shield(flight.task)
        except asyncio.CancelledError:
            if flight.waiters == 1 and not flight.task.done():
                flight.closing = True
                flight.task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await flight.task
            raise
        finally:
            flight.waiters -= 1
        usage = current()
        usage.content_key, usage.task_id = call.content_key, entry.task_id
        if not first or entry.reused:
            usage.reused += 1
            return replace(entry, reused=True)
        if entry.state == "submitted" and (bills := current_context().bills):
            self._billed[call.key] = bills
        usage.submitted += 1
        usage.video_minutes += entry.video_minutes if entry.state == "done" else call.video_minutes
        return entry

    async def _quote(self, call: Call) -> Entry:
        """The recorded answer. Raises the recorded final failure, or `Priced` if there is no answer yet."""
        entry = await self.get(call)
        if entry is not None and entry.state == "done":
            return replace(entry, reused=True)
        if entry is not None and entry.failure is not None and not entry.failure.retryable:
            raise entry.failure.exception(call.key)
        raise Priced(call.operation, call.video_minutes, entry is not None and entry.state == "submitted")

    async def _sweep_quietly(self) -> None:
        try:
            await self.sweep()
        except LedgerError as error:
            log.info("expired answers could not be removed: %s", error)


def _charge_difference(
    entry: Entry | None, video_minutes: float, tokens: tuple[int, int] = (0, 0)
) -> Charge | None:
    """The charge at the end of a task: the difference to the charge of its submission, for the current run.

    None if the submission was not charged, if nothing differs, or outside of a run.
    """
    if entry is None or entry.charge is None:
        return None
    less_us = entry.charge.video_us
    return make_charge(entry.operation, video_minutes, calls=0, less_us=less_us, tokens=tokens)
