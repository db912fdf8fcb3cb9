"""Rows -> distinct calls -> rows: one continuous pool across batches.

    pool = Pool(concurrency=64)
    async for outcome in pool.map(run, rows): ...

A free place is filled with the next distinct row at once, however far the oldest unfinished row is behind: a
slow row delays nobody but itself, until `window` rows wait for it. Rows come back in the order they went in.
Equal rows share one call, also across maps and with answers of the recent past: engines evaluate the same
expression several times and throw away what they have.

At the end the last calls leave places empty. Only who knows beforehand, if roughly, which calls are long can
begin these early and so avoid it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Generic, TypeVar

from tl_data.errors import TLDataError
from tl_data.pool_memory import Memory, again, weight
from tl_data.pool_memory import Outcome as Outcome
from tl_data.pool_source import chunks_of
from tl_data.pool_waiting import Waiting, Work
from tl_data.usage import receipt

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass
class _Row(Generic[K]):
    """A row that was read and not yet given back."""

    key: K
    work: Work | None
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
        self._flying: dict[Hashable, Work] = {}
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
        length: Callable[[K], float | None] | None = None,
        stop_on_error: bool = False,
    ) -> AsyncGenerator[Outcome, None]:
        """Outcomes in the order of the rows. What a row raises is its outcome and disturbs no other row.

        Args:
            run: makes one call. Equal rows of one group must mean the same call.
            rows: hashable; may be endless. An iterator is read in a thread, since its source may block.
            group: what tells these calls from others with equal rows; `run` itself by default.
            window: rows read and not yet given back, at most; 32 a place by default, and 256 at least.
            length: how long a call will take beside the others, in any unit and as roughly as it may be;
                None for a row of which it is not known.
            stop_on_error: after the first failure no row behind it starts, and those in flight end; the rows
                before it are given, and the failed one is the last.
        """
        most = window or max(256, 32 * self.concurrency)
        return _Map(self, run, rows, group, most, length, stop_on_error).outcomes()


class _Map(Generic[K, V]):
    """One run over rows."""

    def __init__(
        self,
        pool: Pool,
        run: Callable[[K], Awaitable[V]],
        rows: Iterable[K] | AsyncIterable[K],
        group: Hashable,
        window: int,
        length: Callable[[K], float | None] | None,
        stop_on_error: bool,
    ) -> None:
        self._pool, self._run, self._source = pool, run, rows
        self._group = run if group is None else group
        self._length = length
        self._room = asyncio.Semaphore(window)
        self._order: asyncio.Queue[_Row[K] | Exception | None] = asyncio.Queue()
        self._waiting = Waiting(window if length else pool.concurrency)
        self._failures: OrderedDict[K, Outcome] = OrderedDict()
        self._stop_on_error = stop_on_error
        self._last: float = inf  # no row behind this one starts
        self._held = 0  # bytes of answers that wait for an earlier row

    async def outcomes(self) -> AsyncGenerator[Outcome, None]:
        working = [asyncio.create_task(self._read()), asyncio.create_task(self._begin())]
        row: _Row[K] | Exception | None = None
        try:
            while (row := await self._order.get()) is not None:
                if isinstance(row, Exception):
                    raise row
                if row.work is not None:
                    row.work.hurry()
                outcome = row.outcome or await row.answer()
                failed = self._stop_on_error and outcome.error is not None
                if failed:
                    await self._finish()
                self._leave(row)
                done, row = row, None
                yield outcome if done.first or done.outcome else again(outcome)
                if failed:
                    return
        finally:
            await self._close(working, row)

    async def _read(self) -> None:
        """Read rows, as far as the window allows."""
        try:
            number = 0
            async for chunk in chunks_of(self._source):
                for key in chunk:
                    await self._room.acquire()
                    if self._known(key) is None:
                        await self._waiting.room()
                    if number > self._last:
                        return
                    self._order.put_nowait(self._enter(number, key))
                    number += 1
            self._order.put_nowait(None)
        except Exception as error:  # noqa: BLE001 - of the source; raised to the reader, in its turn
            self._order.put_nowait(error)

    async def _begin(self) -> None:
        """Begin calls, as far as there are places and memory."""
        places = self._pool._places
        while True:
            await self._waiting.ready(self._may_hold_more)
            await places.acquire()
            work = self._waiting.take(self._may_hold_more)
            if work is None:
                places.release()
            elif work.number > self._last and not work.shared:
                places.release()
                self._drop(work)
            else:
                work.begin()

    def _may_hold_more(self) -> bool:
        return self._held <= self._pool.buffer

    def _enter(self, number: int, key: K) -> _Row[K]:
        """Find the call of a row, or let it wait for a place."""
        known = self._known(key)
        if known is not None:
            return self._row(number, key, known)
        name = (self._group, key)
        work = self._pool._flying[name] = Work(name, number, self._waiting)
        work.call = partial(self._call, work, key)
        row = self._row(number, key, work)
        row.first = True
        self._waiting.put(work, self._length(key) if self._length else None)
        return row

    def _known(self, key: K) -> Work | Outcome | None:
        pool, name = self._pool, (self._group, key)
        return pool._flying.get(name) or self._failures.get(key) or pool._memory.get(name)

    def _row(self, number: int, key: K, known: Work | Outcome) -> _Row[K]:
        if isinstance(known, Outcome):
            return _Row(key, None, again(known))
        known.rows += 1
        known.shared = known.shared or known.waiting is not self._waiting
        known.notes.append(partial(self._note, number, key))
        return _Row(key, known, None)

    def _note(self, number: int, key: K, work: Work, outcome: Outcome) -> None:
        """The call of a row of this map has ended."""
        self._held += work.size
        if outcome.error is not None:
            if self._stop_on_error:
                self._last = min(self._last, number)
            self._failures[key] = outcome
            if len(self._failures) > self._pool._memory.entries:
                self._failures.popitem(last=False)

    async def _call(self, work: Work, key: K) -> None:
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
                pool._memory.keep(work.name, outcome, work.size)
            for note in work.notes:  # at once, before any map can take another step
                note(work, outcome)
            work.future.set_result(outcome)
        finally:
            self._drop(work)
            pool._places.release()

    def _drop(self, work: Work) -> None:
        """Nobody shall find the call any more."""
        work.future.cancel()
        if self._pool._flying.get(work.name) is work:
            del self._pool._flying[work.name]

    def _leave(self, row: _Row[K]) -> None:
        """A row is given back: room for the next."""
        self._room.release()
        if row.work is not None:
            row.work.rows -= 1
            self._held -= row.work.size
            self._waiting.look_again()

    async def _finish(self) -> None:
        """Let everything in flight end; nothing new of this map begins."""
        left = self._left()
        for row in left:
            self._order.put_nowait(row)
        flying = [row.work.task for row in left if row.work is not None and row.work.task is not None]
        if flying:
            await asyncio.wait(flying)

    async def _close(self, working: Iterable[asyncio.Task[None]], last: _Row[K] | Exception | None) -> None:
        """End reading and beginning, and the calls that no other map waits for."""
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)
        left = [*([last] if isinstance(last, _Row) else []), *self._left()]
        works = [row.work for row in left if row.work is not None]
        for work in works:
            work.rows -= 1
        ending = []
        for work in dict.fromkeys(works):
            if work.rows and work.cell and work.waiting is self._waiting:
                self._waiting.leave(work)
                work.begin(self._pool._places)  # another map waits for it
            elif not work.rows and not work.future.done():
                work.closing = True
                work.waiting.leave(work)
                self._drop(work)
                if work.task is not None:
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
