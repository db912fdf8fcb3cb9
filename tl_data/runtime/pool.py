"""Maps rows to concurrent calls, one call per distinct row, continuously across batches.

    pool = Pool(concurrency=64)
    async for outcome in pool.map(run, rows): ...

A free slot takes the next distinct row at once, so a slow row does not delay others until `window` rows wait
for it. Outcomes are in the order of the rows.

Equal rows share one call, also across maps and with recent answers, because SQL backends evaluate the same
expression several times and discard answers.

Long calls that start last leave slots empty at the end. If lengths are known, roughly, long calls start
early.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import OrderedDict, deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Hashable,
    Iterable,
    Iterator,
)
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from math import inf
from typing import Any, Generic, TypeVar

from tl_data.errors import TLDataError
from tl_data.runtime.result_cache import SPILL, Outcome, ResultCache, again, weight
from tl_data.usage import receipt


@dataclass
class Ticket:
    """The entry of a call in the queues of `Waiting`.

    A ticket is in several queues. When its call begins or is dropped, `work` becomes None and the remaining
    entries are skipped; they keep neither the call nor its answer alive.
    """

    work: Work | None


class Work:
    """One call, and the rows that share it."""

    __slots__ = (
        *("call", "closing", "future", "name", "notes"),
        *("number", "rows", "shared", "size", "task", "ticket", "waiting"),
    )

    def __init__(self, name: Hashable, number: int, waiting: Waiting) -> None:
        self.name = name
        self.call: Callable[[], Coroutine[Any, Any, None]]  # makes the call, when a slot is free
        self.future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None] | None = None  # None while it waits for a slot
        self.notes: list[Callable[[Work, Outcome], None]] = []
        self.number = number  # of the first row, in the map in which it began
        self.rows = 0
        self.shared = False  # with rows of another map
        self.size = 0
        self.closing = False
        self.waiting = waiting
        self.ticket = Ticket(None)  # its entry while it waits

    def begin(self, places: asyncio.Semaphore | None = None) -> None:
        """Make the call in a task, in an acquired slot or in the next free one."""

        call = self.call
        del self.call  # breaks the reference cycle

        async def in_turn(places: asyncio.Semaphore) -> None:
            await places.acquire()
            await call()

        self.task = asyncio.create_task(in_turn(places) if places else call())

    def hurry(self) -> None:
        """Prefer this call: a map cannot return further rows before it."""
        if self.ticket.work:
            self.waiting.hurry(self)


class Waiting:
    """The calls of one map that have not begun.

    Without lengths they begin in order. With lengths, every second slot takes the longest call, so that it
    does not run alone at the end, and the others the oldest one, so that rows are returned continuously.

    Args:
        most: the largest number of waiting calls, among which the longest is chosen.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0  # waiting
        self._by_length = False  # whether the next one is the longest
        self._oldest: deque[Ticket] = deque()
        self._longest: list[tuple[float, int, Ticket]] = []
        self._hurried: deque[Ticket] = deque()
        self._more, self._fewer = asyncio.Event(), asyncio.Event()

    async def room(self) -> None:
        """Wait until there is room for one more call."""
        while self._count >= self._most:
            self._fewer.clear()
            await self._fewer.wait()

    def put(self, work: Work, length: float | None) -> None:
        """Add a call. `length` is relative to the others; None if unknown."""
        work.ticket = Ticket(work)
        self._count += 1
        self._oldest.append(work.ticket)
        if length is not None:
            if len(self._longest) > 2 * self._count + 64:  # most have begun as the oldest
                self._longest = [item for item in self._longest if item[2].work]
                heapq.heapify(self._longest)
            heapq.heappush(self._longest, (-length, work.number, work.ticket))
        self._more.set()

    def hurry(self, work: Work) -> None:
        """Start this call next."""
        self._hurried.append(work.ticket)
        self._more.set()

    def notify(self) -> None:
        """Wake up waiters: there may be room now."""
        self._more.set()

    async def ready(self, room: Callable[[], bool]) -> None:
        """Wait for a call that may begin: any while there is room, else only a preferred one."""
        while not self._hurried and not (self._count and room()):
            self._more.clear()
            await self._more.wait()

    def take(self, room: Callable[[], bool]) -> Work | None:
        """The next call to begin, or None."""
        work = _first(self._hurried)
        if work is None and room():
            if self._by_length:
                while self._longest and work is None:
                    work = heapq.heappop(self._longest)[2].work
            self._by_length = not self._by_length
            work = work or _first(self._oldest)
        if work is not None:
            self.leave(work)
        return work

    def leave(self, work: Work) -> None:
        """Remove a call."""
        if work.ticket.work:
            work.ticket.work = None
            self._count -= 1
            self._fewer.set()
            while self._oldest and not self._oldest[0].work:
                self._oldest.popleft()


def _first(tickets: deque[Ticket]) -> Work | None:
    while tickets:
        if work := tickets.popleft().work:
            return work
    return None


S = TypeVar("S")

READ_SECONDS = 0.005  # longest time in which one read of the source collects rows


async def chunks_of(source: Iterable[S] | AsyncIterable[S]) -> AsyncIterator[Iterable[S]]:
    """The rows of the source in chunks that are available without waiting."""
    if isinstance(source, AsyncIterable):
        async for row in source:
            yield (row,)
        return
    if isinstance(source, list | tuple | range | dict | set | frozenset):
        yield source
        return
    rows = iter(source)
    while chunk := await asyncio.to_thread(_take, rows):
        yield chunk


def _take(rows: Iterator[S]) -> list[S]:
    until = time.monotonic() + READ_SECONDS
    chunk = []
    for row in rows:
        chunk.append(row)
        if len(chunk) >= 256 or time.monotonic() > until:
            break
    return chunk


K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass
class _Row(Generic[K]):
    """A row that was read and not yet returned."""

    key: K
    work: Work | None
    outcome: Outcome | None  # known without a call
    first: bool = False  # whether it carries the cost of the call; equal rows are free

    async def answer(self) -> Outcome:
        assert self.work is not None
        return await asyncio.shield(self.work.future)


class Pool:
    """Limits the concurrent calls of all its maps. Belongs to one event loop.

    Args:
        concurrency: most concurrent calls.
        remember: seconds for which answers are reused. Failures are reused only within their map.
        entries, memory: most cached answers in memory, by number and bytes.
        spill: most bytes of answers in a temporary file, for those that do not fit into memory.
        buffer: most bytes of answers that wait for an earlier row; above it no new row starts.
    """

    def __init__(
        self,
        concurrency: int,
        *,
        remember: float = 300.0,
        entries: int = 20_000,
        memory: int = 64 << 20,
        spill: int = SPILL,
        buffer: int = 256 << 20,
    ) -> None:
        self.concurrency = concurrency
        self.buffer = buffer
        self._places = asyncio.Semaphore(concurrency)
        self._flying: dict[Hashable, Work] = {}
        self._memory = ResultCache(remember, entries, memory, spill)

    def forget(self) -> None:
        """Clear the cache, after a change on which answers may depend."""
        self._memory.clear()

    def knows(self, group: Hashable, key: Hashable, since: float = inf) -> bool:
        """Whether a row of this group is in progress or cached."""
        name = (group, key)
        return name in self._flying or self._memory.has(name, since)

    def map(
        self,
        run: Callable[[K], Awaitable[V]],
        rows: Iterable[K] | AsyncIterable[K],
        *,
        group: Hashable = None,
        window: int | None = None,
        length: Callable[[K], float | None] | None = None,
        stop_on_error: bool = False,
        since: float | None = None,
    ) -> AsyncGenerator[Outcome, None]:
        """Outcomes in the order of the rows. A failed row does not affect the others.

        Args:
            run: makes one call. Equal rows of a group must mean the same call.
            rows: hashable; may be infinite. An iterator is read in a thread, because its source may block.
            group: distinguishes calls with equal rows; `run` by default.
            window: most rows that are read and not yet returned; by default 32 per slot, at least 256.
            length: estimates the relative duration of a call, in any unit; None if unknown.
            stop_on_error: stop at the first failure: later rows do not start, running calls end, and the
                failed row is the last one returned.
            since: `time.monotonic()` at the start of the statement. Answers since then are always reused.
                None: now.
        """
        most = window or max(256, 32 * self.concurrency)
        begun = time.monotonic() if since is None else since
        return _Map(self, run, rows, group, most, length, stop_on_error, begun).outcomes()


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
        since: float,
    ) -> None:
        self._pool, self._run, self._source, self._since = pool, run, rows, since
        self._group = run if group is None else group
        self._length = length
        self._room = asyncio.Semaphore(window)
        self._order: asyncio.Queue[_Row[K] | Exception | None] = asyncio.Queue()
        self._waiting = Waiting(window if length else pool.concurrency)
        self._failures: OrderedDict[K, Outcome] = OrderedDict()
        self._stop_on_error = stop_on_error
        self._last: float = inf  # later rows do not start
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
        """Read rows up to the window."""
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
        """Begin calls while there are free slots and memory."""
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
        """Find the call of a row, or queue a new one."""
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
        return pool._flying.get(name) or self._failures.get(key) or pool._memory.get(name, self._since)

    def _row(self, number: int, key: K, known: Work | Outcome) -> _Row[K]:
        if isinstance(known, Outcome):
            return _Row(key, None, again(known))
        known.rows += 1
        known.shared = known.shared or known.waiting is not self._waiting
        known.notes.append(partial(self._note, number, key))
        return _Row(key, known, None)

    def _note(self, number: int, key: K, work: Work, outcome: Outcome) -> None:
        """Record the end of a row's call."""
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
            with receipt() as usage:
                try:
                    outcome = Outcome(await self._run(key), None, usage)
                except Exception as error:  # noqa: BLE001 - every failure is the outcome of its row
                    outcome = Outcome(None, error, usage)
                except asyncio.CancelledError:
                    if work.closing:
                        raise
                    outcome = Outcome(None, TLDataError("the call was cancelled from within"), usage)
            if usage.calls or usage.reused or usage.submitted:
                usage.at = time.time()
            work.size = weight(outcome.value)
            if outcome.error is None:
                pool._memory.keep(work.name, outcome, work.size)
            for note in work.notes:  # synchronously, before any map continues
                note(work, outcome)
            work.future.set_result(outcome)
        finally:
            self._drop(work)
            pool._places.release()

    def _drop(self, work: Work) -> None:
        """Remove the call from the lookup of equal rows."""
        work.future.cancel()
        if self._pool._flying.get(work.name) is work:
            del self._pool._flying[work.name]

    def _leave(self, row: _Row[K]) -> None:
        """Record that a row was returned, which makes room for the next."""
        self._room.release()
        if row.work is not None:
            row.work.rows -= 1
            self._held -= row.work.size
            self._waiting.notify()

    async def _finish(self) -> None:
        """Wait for running calls; no new ones begin."""
        left = self._left()
        for row in left:
            self._order.put_nowait(row)
        flying = [row.work.task for row in left if row.work is not None and row.work.task is not None]
        if flying:
            await asyncio.wait(flying)

    async def _close(self, working: Iterable[asyncio.Task[None]], last: _Row[K] | Exception | None) -> None:
        """Stop reading, and cancel the calls that no other map waits for."""
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)
        left = [*([last] if isinstance(last, _Row) else []), *self._left()]
        works = [row.work for row in left if row.work is not None]
        for work in works:
            work.rows -= 1
        ending = []
        for work in dict.fromkeys(works):
            if work.rows and work.ticket.work and work.waiting is self._waiting:
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


API_VERSION = "1.3"


def outcome_row(outcome: Outcome) -> dict[str, Any] | None:
    """The outcome as plain Python objects in the shape of `types.outcome_of(...)`.

    Exactly one of value and error is set; a NULL input gives a row whose value and error are both NULL.
    `at` is the end of the call: equal for all rows that share it, NULL without a call.
    """
    usage = outcome.receipt
    return {
        "value": outcome.value,
        "error": None if outcome.error is None else error_row(outcome.error),
        "usage": {
            "calls": usage.calls,
            "video_minutes": usage.video_minutes,
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "reused": usage.reused,
        },
        "provenance": {
            "model": f"{usage.model} ({usage.fallback})" if usage.fallback else usage.model,
            "api_version": API_VERSION,
            "task_id": usage.task_id,
            "content_key": usage.content_key,
            "at": None if usage.at is None else datetime.fromtimestamp(usage.at, UTC),
        },
    }


def error_row(error: BaseException) -> dict[str, Any]:
    """An error as a record of type `types.ERROR`."""
    ours = isinstance(error, TLDataError)
    return {
        "class": type(error).__name__,
        "code": getattr(error, "code", None) if ours else None,
        "http_status": getattr(error, "http_status", None) if ours else None,
        "message": str(error),
        "retryable": bool(getattr(error, "retryable", False)),
        "request_id": getattr(error, "request_id", None) if ours else None,
    }
