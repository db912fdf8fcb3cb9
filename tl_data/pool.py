"""Rows -> distinct calls -> rows: one continuous pool across batches.

    pool = Pool(concurrency=64)
    async for outcome in pool.map(run, rows): ...

A free place is filled with the next distinct row at once, however far the oldest unfinished row is behind: a
slow row delays nobody but itself, until `window` rows wait for it. Rows come back in the order they went in.
Equal rows share one call, also across maps and with answers of the recent past: engines evaluate the same
expression several times and throw away what they have.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Hashable,
    Iterable,
)
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from tl_data.errors import RowFailed, TLDataError
from tl_data.identity import redact
from tl_data.pool_memory import Memory, again, weight
from tl_data.pool_memory import Outcome as Outcome
from tl_data.pool_source import chunks_of
from tl_data.usage import receipt

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Work:
    """One call in flight, and for how many rows it is made."""

    __slots__ = ("closing", "future", "notes", "rows", "size", "task")

    def __init__(self) -> None:
        self.future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None] | None = None
        self.notes: list[Callable[[_Work, Outcome], None]] = []
        self.rows = 0
        self.size = 0
        self.closing = False


@dataclass
class _Row(Generic[K]):
    """A row that was read and not yet given back."""

    number: int
    key: K
    work: _Work | None
    outcome: Outcome | None  # known without a call
    first: bool = False  # whose receipt tells what the call cost; its equals cost nothing

    async def answer(self) -> Outcome:
        assert self.work is not None
        return await asyncio.shield(self.work.future)


class Pool:
    """At most `concurrency` calls at once, over all maps of this pool. Belongs to one event loop.

    Args:
        concurrency: calls in flight.
        remember: seconds for which an answer is used again instead of being asked for again. Failures are
            known to the map that met them only.
        entries, memory: how many answers, and bytes of them, are remembered at most.
        buffer: bytes of answers that may wait for an earlier row; beyond, no new row starts.
    """

    def __init__(
        self,
        concurrency: int,
        *,
        remember: float = 300.0,
        entries: int = 20_000,
        memory: int = 64 << 20,
        buffer: int = 256 << 20,
    ) -> None:
        self.concurrency = concurrency
        self.buffer = buffer
        self._places = asyncio.Semaphore(concurrency)
        self._flying: dict[Hashable, _Work] = {}
        self._memory = Memory(remember, entries, memory)

    def forget(self) -> None:
        """Drop the remembered answers: something has changed that they may depend on."""
        self._memory.clear()

    def map(
        self,
        run: Callable[[K], Awaitable[V]],
        rows: Iterable[K] | AsyncIterable[K],
        *,
        group: Hashable = None,
        window: int | None = None,
        stop_on_error: bool = False,
    ) -> AsyncGenerator[Outcome, None]:
        """Outcomes in the order of the rows. What a row raises is its outcome and disturbs no other row.

        Args:
            run: makes one call. Equal rows of one group must mean the same call.
            rows: hashable; may be endless. An iterator is read in a thread, since its source may block.
            group: what tells these calls from others of the pool with equal rows; `run` itself by default.
            window: rows read and not yet given back, at most; 32 a place by default, and 256 at least.
            stop_on_error: after the first failure no further row starts; those in flight end, the rows before
                the failed one are given, and then the failure is raised.

        Raises:
            RowFailed: with `stop_on_error`, which row failed and why.
        """
        return _Map(
            self, run, rows, group, window or max(256, 32 * self.concurrency), stop_on_error
        ).outcomes()


class _Map(Generic[K, V]):
    """One run over rows."""

    def __init__(
        self,
        pool: Pool,
        run: Callable[[K], Awaitable[V]],
        rows: Iterable[K] | AsyncIterable[K],
        group: Hashable,
        window: int,
        stop_on_error: bool,
    ) -> None:
        self._pool, self._run, self._source = pool, run, rows
        self._group = run if group is None else group
        self._room = asyncio.Semaphore(window)
        self._order: asyncio.Queue[_Row[K] | Exception | None] = asyncio.Queue()
        self._failures: OrderedDict[K, Outcome] = OrderedDict()
        self._stop_on_error = stop_on_error
        self._stopped = False
        self._held = 0  # bytes of answers that wait for an earlier row
        self._lighter = asyncio.Event()

    async def outcomes(self) -> AsyncGenerator[Outcome, None]:
        feeder = asyncio.create_task(self._feed())
        row: _Row[K] | Exception | None = None
        try:
            while (row := await self._order.get()) is not None:
                if isinstance(row, Exception):
                    raise row
                outcome = row.outcome or await row.answer()
                if self._stop_on_error and outcome.error is not None:
                    await self._finish(feeder)
                    raise _row_failed(row, outcome.error) from outcome.error
                self._leave(row)
                done, row = row, None
                yield outcome if done.first or done.outcome else again(outcome)
        finally:
            await self._close(feeder, row)

    async def _feed(self) -> None:
        """Read rows and start their calls, as far as places and window allow."""
        try:
            number = 0
            async for chunk in chunks_of(self._source):
                for key in chunk:
                    await self._room.acquire()
                    row = await self._enter(number, key)
                    if row is None:
                        self._order.put_nowait(None)
                        return
                    self._order.put_nowait(row)
                    number += 1
            self._order.put_nowait(None)
        except Exception as error:  # noqa: BLE001 - of the source; raised to the reader, in its turn
            self._order.put_nowait(error)

    async def _enter(self, number: int, key: K) -> _Row[K] | None:
        """Find or start the call of a row; None when no further row may start."""
        pool, name = self._pool, (self._group, key)
        known = self._known(name)
        if known is not None:
            return self._row(number, key, known)
        while self._held > pool.buffer and not self._stopped:
            self._lighter.clear()
            await self._lighter.wait()
        await pool._places.acquire()
        known = self._known(name)  # another map, or a failure here, may have been quicker
        if self._stopped or known is not None:
            pool._places.release()
            return None if known is None else self._row(number, key, known)
        work = pool._flying[name] = _Work()
        work.task = asyncio.create_task(self._call(work, key, name))
        row = self._row(number, key, work)
        row.first = True
        return row

    def _known(self, name: tuple[Hashable, K]) -> _Work | Outcome | None:
        pool = self._pool
        return pool._flying.get(name) or self._failures.get(name[1]) or pool._memory.get(name)

    def _row(self, number: int, key: K, known: _Work | Outcome) -> _Row[K]:
        if isinstance(known, Outcome):
            return _Row(number, key, None, again(known))
        known.rows += 1
        known.notes.append(partial(self._note, key))
        return _Row(number, key, known, None)

    def _note(self, key: K, work: _Work, outcome: Outcome) -> None:
        """The call of a row of this map has ended."""
        self._held += work.size
        if outcome.error is not None:
            self._stopped = self._stopped or self._stop_on_error
            self._failures[key] = outcome
            if len(self._failures) > self._pool._memory.entries:
                self._failures.popitem(last=False)

    async def _call(self, work: _Work, key: K, name: tuple[Hashable, K]) -> None:
        pool = self._pool
        try:
            with receipt() as slip:
                try:
                    outcome = Outcome(await self._run(key), None, slip)
                except Exception as error:  # noqa: BLE001 - every failure is the outcome of its row
                    outcome = Outcome(None, error, slip)
                except asyncio.CancelledError:
                    if work.closing:
                        raise
                    outcome = Outcome(None, TLDataError("the call was cancelled from within"), slip)
            work.size = weight(outcome.value)
            if outcome.error is None:
                pool._memory.keep(name, outcome, work.size)
            for note in work.notes:  # at once, before any map can take another step
                note(work, outcome)
            work.future.set_result(outcome)
        finally:
            work.future.cancel()
            if pool._flying.get(name) is work:
                del pool._flying[name]
            pool._places.release()

    def _leave(self, row: _Row[K]) -> None:
        """A row is given back: room for the next."""
        self._room.release()
        if row.work is not None:
            row.work.rows -= 1
            self._held -= row.work.size
            self._lighter.set()

    async def _finish(self, feeder: asyncio.Task[None]) -> None:
        """Let everything in flight end, starting nothing new."""
        self._stopped = True
        self._lighter.set()
        left = self._left()
        for row in left:
            self._order.put_nowait(row)
        futures = [row.work.future for row in left if row.work is not None]
        if futures:
            await asyncio.wait(futures)

    async def _close(self, feeder: asyncio.Task[None], last: _Row[K] | Exception | None) -> None:
        """End the feeder, and the calls that no other map waits for."""
        feeder.cancel()
        with suppress(asyncio.CancelledError):
            await feeder
        ending = []
        for row in [*([last] if isinstance(last, _Row) else []), *self._left()]:
            work = row.work
            if work is None:
                continue
            work.rows -= 1
            if work.rows == 0 and not work.future.done() and work.task is not None:
                work.closing = True
                self._pool._flying.pop((self._group, row.key), None)
                work.task.cancel()
                ending.append(work.task)
        if ending:
            await asyncio.wait(ending)

    def _left(self) -> list[_Row[K]]:
        rows = []
        while not self._order.empty():
            row = self._order.get_nowait()
            if isinstance(row, _Row):
                rows.append(row)
        return rows


def _row_failed(row: _Row[Any], error: Exception) -> RowFailed:
    shown = redact(repr(row.key))
    shown = shown if len(shown) <= 200 else f"{shown[:197]}..."
    return RowFailed(
        f"row {row.number + 1} ({shown}) failed: {type(error).__name__}: {error}. "
        "Rows that were finished are kept: a re-run does not pay for them again"
    )
