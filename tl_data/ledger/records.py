"""Reads and writes the records of calls, and moves damaged records to the folder `aside`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa

from tl_data.billing import Charge, enter_charge
from tl_data.errors import LedgerError
from tl_data.ledger.models import (
    AmbiguousTask,
    Call,
    Entry,
    Failure,
    State,
    Unreadable,
    decode,
    encode,
    entry_of,
)
from tl_data.object_store import Item, Storage

log = logging.getLogger("tl_data.ledger")

#: Largest result, in bytes of JSON, that is stored inside the record `done`.
INLINE = 32 << 10


@dataclass(frozen=True)
class View:
    """The state of a call, determined from the names of its records."""

    state: State | None
    attempt: int  # the number of the claim that led to the state
    last: int  # the number of the last claim
    items: Mapping[str, Item]  # name -> object

    @classmethod
    def of(cls, items: Mapping[str, Item]) -> View:
        numbers: dict[str, set[int]] = {"claim": set(), "submitted": set(), "failed": set()}
        for name in items:
            number, _, kind = name.partition(".")
            if kind in numbers and number.isdigit():
                numbers[kind].add(int(number))
        last = max((n for of_kind in numbers.values() for n in of_kind), default=0)
        # A slow owner may record its task after another process took over. As long as this task has not
        # failed, it determines the state, even if there are later claims, because it is paid for.
        running = numbers["submitted"] - numbers["failed"]
        if "done" in items:
            return cls("done", last, last, items)
        if running:
            return cls("submitted", max(running), last, items)
        if last in numbers["failed"]:
            return cls("failed", last, last, items)
        return cls("claimed" if last else None, last, last, items)

    @property
    def name(self) -> str:
        """The name of the record that describes the state."""
        suffix = {"claimed": "claim", "submitted": "submitted", "failed": "failed"}
        return "done" if self.state == "done" else f"{self.attempt:04d}.{suffix[self.state or 'claimed']}"


class Journal:
    """The records at one address, with one folder per call."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def read(self, folder: str, key: str) -> tuple[View, Entry | None]:
        """State and entry of a call. Damaged records are moved aside.

        Raises:
            Unreadable: the result of a finished call is damaged, and there is no task to fetch it from again.
        """
        while True:
            items: dict[str, Item] = {}
            async for item in self._storage.below(folder):
                items[item.path.rpartition("/")[2]] = item
            view = View.of(items)
            if view.state is None:
                return view, None
            try:
                entry = await self.entry(folder, view)
            except Unreadable as error:
                if view.state == "claimed":
                    return view, None  # the claim keeps its number and expires like any other
                if view.state == "done" and not any(name.endswith(".submitted") for name in items):
                    # With a task, its result can be fetched again at no cost. Without one, a new call costs
                    # again: the user decides.
                    raise
                log.warning("%s", error)
                continue
            if entry is not None:
                return view, entry

    async def entry(self, folder: str, view: View, large: bool = True) -> Entry | None:
        """The entry of a call in this state; None if its record was removed in the meantime.

        Args:
            large: whether to read a result that is stored in its own object.

        Raises:
            Unreadable: the record or its result is damaged and was set aside.
        """
        path = f"{folder}/{view.name}"
        body = await self._storage.read(path)
        if body is None:
            return None
        try:
            record = decode(body, path)
            read_result = view.state == "done" and large
            result = await self._result(folder, record) if read_result else record.get("result")
            return entry_of(folder.rpartition("/")[2], view.state or "claimed", view.attempt, record, result)
        except Unreadable as error:
            raise await self._set_aside(path, body, error) from error

    async def done(self, folder: str, key: str) -> Entry | None:
        """The entry of a finished call, or None. Reads one object and lists none."""
        with suppress(Unreadable):  # `read`, which the caller calls next, handles a damaged record
            body = await self._storage.read(f"{folder}/done")
            if body is not None:
                record = decode(body, f"{folder}/done")
                return entry_of(key, "done", 1, record, await self._result(folder, record))
        return None

    async def record(self, path: str) -> dict[str, Any] | None:
        """A record; None if it is missing or damaged."""
        body = await self._storage.read(path)
        with suppress(Unreadable):
            return None if body is None else decode(body, path)
        return None

    async def open_claims(self, view: View) -> list[dict[str, Any]]:
        """The claims whose owner may have sent a request without recording its task, in order."""
        claims = []
        for number in (f"{n:04d}" for n in range(1, view.last + 1)):
            claim, failed = view.items.get(f"{number}.claim"), view.items.get(f"{number}.failed")
            if claim is None or f"{number}.submitted" in view.items:
                continue
            if failed is None or (await self.record(failed.path) or {}).get("maybe_sent"):
                claims.append(await self.record(claim.path) or {})
        return claims

    async def _set_aside(self, path: str, body: bytes, error: Unreadable) -> Unreadable:
        """Move a damaged record aside. A claim is copied and not deleted, so that its number stays in use."""
        path_aside = f"aside/{path}-{time.time_ns()}"
        await self._storage.write(path_aside, body)
        if not path.endswith(".claim"):
            await self._storage.delete(path)
        return Unreadable(
            f"{error}; it was set aside as {self._storage.url}/{path_aside}. Restore it from a copy, or run "
            "again: tasks that the platform still has are used, other calls are made and paid again"
        )

    async def _result(self, folder: str, record: Mapping[str, Any]) -> Any:
        name = record.get("result_at")
        if not name:
            return record.get("result")
        body = await self._storage.read(f"{folder}/{name}")
        try:
            if body is None:
                raise ValueError("missing")
            if name.endswith(".arrow"):
                return pa.ipc.open_file(pa.BufferReader(body)).read_all()
            return orjson.loads(body)
        except (ValueError, pa.ArrowException) as error:
            raise Unreadable(f"the ledger result {folder}/{name} is damaged or missing ({error})") from error

    async def write_done(
        self,
        call: Call,
        folder: str,
        attempt: int,
        result: Any,
        task_id: str | None,
        minutes: float,
        doubt: AmbiguousTask | None = None,
        charge: Charge | None = None,
    ) -> Entry:
        """Record the result of a call. If the call has a result already, that one is kept and returned.

        Raises:
            LedgerError: the record cannot be written, or the result is neither JSON nor Arrow.
        """
        record = _record(call, attempt, task_id, doubt, charge, video_minutes=minutes)
        if isinstance(result, pa.RecordBatch):
            result = pa.Table.from_batches([result])
        if isinstance(result, pa.Table):
            record["result_at"] = f"{attempt:04d}.result.arrow"
            body = _arrow(result)
        else:
            try:
                body = orjson.dumps(result, option=orjson.OPT_SERIALIZE_NUMPY)
            except TypeError as error:
                raise LedgerError(
                    f"the result of {call.operation} is neither JSON nor Arrow: {error}"
                ) from error
            result = orjson.loads(body)
            if len(body) <= INLINE:
                record["result"] = result
            else:
                record["result_at"] = f"{attempt:04d}.result.json"
        durable = call.scope is None
        if "result_at" in record:
            await self._storage.write(f"{folder}/{record['result_at']}", body)
        won = await self._storage.create(f"{folder}/done", encode(record), durable=durable)
        earlier = None if won else await self.done(folder, call.key)
        # If two owners both got an answer, both are billed: this charge is entered, too.
        if earlier is None or (charge is not None and charge.calls):
            enter_charge(charge)
        if earlier is not None:
            return earlier
        return entry_of(call.key, "done", attempt, record, result)

    async def write_submitted(
        self,
        call: Call,
        folder: str,
        attempt: int,
        task_id: str,
        doubt: AmbiguousTask | None = None,
        charge: Charge | None = None,
    ) -> Entry:
        """Record the remote task of a call. A failed write is retried three times: the task is paid for."""
        record = _record(call, attempt, task_id, doubt, charge, video_minutes=call.video_minutes)
        path, body = f"{folder}/{attempt:04d}.submitted", encode(record)
        for pause in (0.2, 1.0, 3.0, None):
            try:
                await self._storage.create(path, body, durable=True)
                break
            except LedgerError as error:
                if pause is None:
                    raise LedgerError(
                        f"task {task_id} was accepted, but could not be recorded: {error}. "
                        "The next run looks for it on the platform before it submits again"
                    ) from error
                await asyncio.sleep(pause)
        enter_charge(charge)
        return entry_of(call.key, "submitted", attempt, record)

    async def write_failed(
        self,
        call: Call,
        folder: str,
        attempt: int,
        failure: Failure,
        charge: Charge | None = None,
        *,
        maybe_sent: bool = False,
    ) -> Entry:
        """Record the failure of a call.

        Args:
            maybe_sent: whether the call may have created a task although its answer was lost.
        """
        sent = {"maybe_sent": True} if maybe_sent else {}
        record = _record(call, attempt, failure.task_id, None, charge, failure=vars(failure), **sent)
        if await self._storage.create(f"{folder}/{attempt:04d}.failed", encode(record)):
            enter_charge(charge)
        return entry_of(call.key, "failed", attempt, record)


def _record(
    call: Call,
    attempt: int,
    task_id: str | None,
    doubt: AmbiguousTask | None,
    charge: Charge | None,
    **fields: Any,
) -> dict[str, Any]:
    """A record of an attempt: the fields that all kinds of records have, and the `fields` of this kind."""
    return {
        **call.described(),
        "attempt": attempt,
        "task_id": task_id,
        **fields,
        "at": time.time(),
        **({"doubt": doubt.reason} if doubt else {}),
        **(charge.in_record() if charge else {}),
    }


def _arrow(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())
