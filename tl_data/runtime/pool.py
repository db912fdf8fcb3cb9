"""Maps rows to concurrent calls, one call per distinct row, continuously across batches.

    pool = Pool(concurrency=64)
    async for outcomes in pool.chunks(run, rows): ...

A pool has one slot per concurrent call. A free slot takes the next distinct row at once, so a slow row delays
others only when `window` rows wait for it. Outcomes are returned in the order of the rows.

Equal rows share one call, also if they are in different streams, and recent answers are reused, because SQL
backends evaluate the same expression several times and discard answers.

If long calls started last, slots would be empty at the end. So if lengths are roughly known, long calls start
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
from tl_data.runtime.result_cache import MAX_SPILL_BYTES, Outcome, ResultCache, share_outcome, size_of
from tl_data.usage import receipt


@dataclass
class Ticket:
    """The entry of a call in the queues of `Waiting`.

    A ticket is in several queues. When its call starts or is dropped, `work` becomes None and the queues skip
    the ticket, which then keeps neither the call nor its answer in memory.
    """

    work: Work | None


class Work:
    """One call, and the rows that share it."""

    __slots__ = (
        *("call", "closing", "future", "name", "callbacks"),
        *("number", "rows", "shared", "size", "task", "ticket", "waiting"),
    )

    def __init__(self, name: Hashable, number: int, waiting: Waiting) -> None:
        self.name = name
        self.call: Callable[[], Coroutine[Any, Any, None]]  # makes the call
        self.future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None] | None = None  # None while the call waits for a slot
        self.callbacks: list[Callable[[Work, Outcome], None]] = []
        self.number = number  # the position of its first row in the stream that created the call
        self.rows = 0  # rows that were not returned yet
        self.shared = False  # whether rows of another stream share it
        self.size = 0  # bytes of the answer
        self.closing = False  # whether the stream cancels it
        self.waiting = waiting  # the queues of the stream that created it
        self.ticket = Ticket(None)  # its entry in these queues while it waits

    def start(self, slots: asyncio.Semaphore | None = None) -> None:
        """Make the call in a task.

        Args:
            slots: the task first takes a free slot of these. None: the caller has taken a slot.
        """

        call = self.call
        del self.call  # breaks the reference cycle

        async def call_in_slot(slots: asyncio.Semaphore) -> None:
            await slots.acquire()
            await call()

        self.task = asyncio.create_task(call_in_slot(slots) if slots else call())

    def prefer(self) -> None:
        """Start this call next, because the stream can return no further row before it ends."""
        if self.ticket.work:
            self.waiting.prefer(self)


class Waiting:
    """The calls of one stream that have not started.

    Without lengths, calls start in order. With lengths, every second free slot takes the longest call, so
    that it does not run alone at the end. The other slots take the oldest call, so that rows are returned
    continuously.

    Args:
        limit: the largest number of waiting calls.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._count = 0  # waiting calls
        self._by_length = False  # whether the next free slot takes the longest call
        self._oldest: deque[Ticket] = deque()
        #: A heap of (-length, position of the first row, ticket).
        self._longest: list[tuple[float, int, Ticket]] = []
        self._preferred: deque[Ticket] = deque()
        self._may_start = asyncio.Event()  # a call may start, or memory may be free
        self._fewer = asyncio.Event()  # a call was removed

    async def wait_for_room(self) -> None:
        """Wait until one more call can be added."""
        while self._count >= self._limit:
            self._fewer.clear()
            await self._fewer.wait()

    def put(self, work: Work, length: float | None) -> None:
        """Add a call. `length` is in any unit that all calls share; None if unknown."""
        work.ticket = Ticket(work)
        self._count += 1
        self._oldest.append(work.ticket)
        if length is not None:
            if len(self._longest) > 2 * self._count + 64:  # most entries are of calls that have started
                self._longest = [item for item in self._longest if item[2].work]
                heapq.heapify(self._longest)
            heapq.heappush(self._longest, (-length, work.number, work.ticket))
        self._may_start.set()

    def prefer(self, work: Work) -> None:
        """Make this call the next to start."""
        self._preferred.append(work.ticket)
        self._may_start.set()

    def notify(self) -> None:
        """Let `ready` check again whether a call may start."""
        self._may_start.set()

    async def ready(self, has_memory: Callable[[], bool]) -> None:
        """Wait for a call that may start: any call while there is memory, otherwise a preferred one."""
        while not self._preferred and not (self._count and has_memory()):
            self._may_start.clear()
            await self._may_start.wait()

    def take(self, has_memory: Callable[[], bool]) -> Work | None:
        """Remove and return the next call to start, or None."""
        work = _first(self._preferred)
        if work is None and has_memory():
            if self._by_length:
                while self._longest and work is None:
                    work = heapq.heappop(self._longest)[2].work
            self._by_length = not self._by_length
            work = work or _first(self._oldest)
        if work is not None:
            self.remove(work)
        return work

    def remove(self, work: Work) -> None:
        """Remove a call from the queues."""
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

#: Largest time in seconds for which one read of the source collects rows.
READ_SECONDS = 0.005


async def chunks_of(source: Iterable[S] | AsyncIterable[S]) -> AsyncIterator[Iterable[S]]:
    """The rows of the source in chunks. A chunk does not wait for rows that the source produces slowly."""
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
    outcome: Outcome | None  # the outcome, if it is known without a call
    first: bool = False  # whether the row has the cost of its call; further equal rows have none

    async def answer(self) -> Outcome:
        assert self.work is not None
        return await asyncio.shield(self.work.future)


class Pool:
    """Limits the concurrent calls of all its streams of rows. Belongs to one event loop.

    Args:
        concurrency: largest number of concurrent calls.
        remember: seconds for which answers are reused. Failures are reused only within their stream.
        entries, memory: largest number and largest size in bytes of the cached answers in memory.
        spill: largest size in bytes of the temporary file for answers that do not fit into memory.
        buffer: largest size in bytes of answers that wait for an earlier row. Above it no new row starts.
    """

    def __init__(
        self,
        concurrency: int,
        *,
        remember: float = 300.0,
        entries: int = 20_000,
        memory: int = 64 << 20,
        spill: int = MAX_SPILL_BYTES,
        buffer: int = 256 << 20,
    ) -> None:
        self.concurrency = concurrency
        self.buffer = buffer
        self._slots = asyncio.Semaphore(concurrency)
        self._in_flight: dict[Hashable, Work] = {}
        self._cache = ResultCache(remember, entries, memory, spill)

    def forget(self) -> None:
        """Clear the cache, after a change on which answers may depend."""
        self._cache.clear()

    def knows(self, group: Hashable, key: Hashable, since: float = inf) -> bool:
        """Whether a row of this group is in progress or cached."""
        name = (group, key)
        return name in self._in_flight or self._cache.has(name, since)

    def chunks(
        self,
        run: Callable[[K], Awaitable[V]],
        rows: Iterable[K] | AsyncIterable[K],
        *,
        most: int = 1024,
        group: Hashable = None,
        window: int | None = None,
        length: Callable[[K], float | None] | None = None,
        stop_on_error: bool = False,
        since: float | None = None,
    ) -> AsyncGenerator[list[Outcome], None]:
        """Outcomes in the order of the rows, in lists. A failed row does not affect the others.

        A list has the rows whose outcomes are known when its first one is, so no row waits for a later one.

        Args:
            run: makes the call of a row. Equal rows of a group must need the same call.
            rows: hashable; may be infinite. An iterator is read in a thread, because its source may block.
            most: largest number of outcomes in a list.
            group: rows share a call only if their groups are equal, too. None: `run`.
            window: largest number of rows that are read and not yet returned. None: 32 a slot, at least 256.
            length: estimates the relative duration of a call, in any unit; None if unknown.
            stop_on_error: stop at the first failure. Later rows do not start, running calls finish, and the
                failed row is the last one that is returned.
            since: `time.monotonic()` at the start of the statement. Answers that are newer are always reused.
                None: now.
        """
        rows_ahead = window or max(256, 32 * self.concurrency)
        start = time.monotonic() if since is None else since
        return _Stream(self, run, rows, group, rows_ahead, length, stop_on_error, start).chunks(most)


class _Stream(Generic[K, V]):
    """One call of `Pool.chunks`: a stream of rows and their outcomes."""

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
        self._window = asyncio.Semaphore(window)
        #: The rows to return, an error of the source, and None at the end.
        self._order: asyncio.Queue[_Row[K] | Exception | None] = asyncio.Queue()
        self._waiting = Waiting(window if length else pool.concurrency)
        self._failures: OrderedDict[K, Outcome] = OrderedDict()
        self._stop_on_error = stop_on_error
        self._last: float = inf  # the position of the last row that may start
        self._held = 0  # bytes of answers that wait for an earlier row

    async def chunks(self, most: int) -> AsyncGenerator[list[Outcome], None]:
        """The outcomes in lists of at most `most`: those that are known when the first one is."""
        working = [asyncio.create_task(self._read()), asyncio.create_task(self._start_calls())]
        row: _Row[K] | Exception | None = None
        chunk: list[Outcome] = []
        failed = False
        try:
            while not failed:
                if chunk and (len(chunk) == most or self._order.empty()):
                    returned, chunk = chunk, []
                    yield returned
                row = await self._order.get()
                if not isinstance(row, _Row):
                    break
                if chunk and row.work is not None and not row.work.future.done():
                    returned, chunk = chunk, []
                    yield returned
                if row.work is not None:
                    row.work.prefer()
                outcome = row.outcome or await row.answer()
                if failed := self._stop_on_error and outcome.error is not None:
                    await self._finish()
                self._release(row)
                chunk.append(outcome if row.first or row.outcome else share_outcome(outcome))
                row = None
            if chunk:
                yield chunk
            if isinstance(row, Exception):
                raise row
        finally:
            await self._close(working, row)

    async def _read(self) -> None:
        """Read rows up to the window."""
        try:
            number = 0
            async for chunk in chunks_of(self._source):
                for key in chunk:
                    await self._window.acquire()
                    if self._look_up(key) is None:
                        await self._waiting.wait_for_room()
                    if number > self._last:
                        return
                    self._order.put_nowait(self._enter(number, key))
                    number += 1
            self._order.put_nowait(None)
        except Exception as error:  # noqa: BLE001 - an error of the source: raised after the rows before it
            self._order.put_nowait(error)

    async def _start_calls(self) -> None:
        """Start calls while there are free slots and memory."""
        slots = self._pool._slots
        while True:
            await self._waiting.ready(self._has_memory)
            await slots.acquire()
            work = self._waiting.take(self._has_memory)
            if work is None:
                slots.release()
            elif work.number > self._last and not work.shared:
                slots.release()
                self._drop(work)
            else:
                work.start()

    def _has_memory(self) -> bool:
        """Whether there is memory for further answers that wait for an earlier row."""
        return self._held <= self._pool.buffer

    def _enter(self, number: int, key: K) -> _Row[K]:
        """Find the call of a row, or queue a new one."""
        source = self._look_up(key)
        if source is not None:
            return self._row(number, key, source)
        name = (self._group, key)
        work = self._pool._in_flight[name] = Work(name, number, self._waiting)
        work.call = partial(self._call, work, key)
        row = self._row(number, key, work)
        row.first = True
        self._waiting.put(work, self._length(key) if self._length else None)
        return row

    def _look_up(self, key: K) -> Work | Outcome | None:
        """The call in progress, or the outcome, of an equal row; None if there is neither."""
        pool, name = self._pool, (self._group, key)
        return pool._in_flight.get(name) or self._failures.get(key) or pool._cache.get(name, self._since)

    def _row(self, number: int, key: K, source: Work | Outcome) -> _Row[K]:
        """The row that gets its outcome from `source`."""
        if isinstance(source, Outcome):
            return _Row(key, None, share_outcome(source))
        source.rows += 1
        source.shared = source.shared or source.waiting is not self._waiting
        source.callbacks.append(partial(self._on_end, number, key))
        return _Row(key, source, None)

    def _on_end(self, number: int, key: K, work: Work, outcome: Outcome) -> None:
        """Record that the call of a row has ended."""
        self._held += work.size
        if outcome.error is not None:
            if self._stop_on_error:
                self._last = min(self._last, number)
            self._failures[key] = outcome
            if len(self._failures) > self._pool._cache.entries:
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
                    outcome = Outcome(None, TLDataError("the call cancelled its own task"), usage)
            if usage.calls or usage.reused or usage.submitted:
                usage.at = time.time()
            work.size = size_of(outcome.value)
            if outcome.error is None:
                pool._cache.put(work.name, outcome, work.size)
            for callback in work.callbacks:  # synchronously, before any stream continues
                callback(work, outcome)
            work.future.set_result(outcome)
        finally:
            self._drop(work)
            pool._slots.release()

    def _drop(self, work: Work) -> None:
        """Forget the call, so that later equal rows do not share it."""
        work.future.cancel()
        if self._pool._in_flight.get(work.name) is work:
            del self._pool._in_flight[work.name]

    def _release(self, row: _Row[K]) -> None:
        """Record that a row is returned, so that another one can be read."""
        self._window.release()
        if row.work is not None:
            row.work.rows -= 1
            self._held -= row.work.size
            self._waiting.notify()

    async def _finish(self) -> None:
        """Wait for the calls that are running."""
        rows = self._take_rows()
        for row in rows:
            self._order.put_nowait(row)
        running = [row.work.task for row in rows if row.work is not None and row.work.task is not None]
        if running:
            await asyncio.wait(running)

    async def _close(self, working: Iterable[asyncio.Task[None]], last: _Row[K] | Exception | None) -> None:
        """Stop reading, and cancel the calls that no other stream waits for."""
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)
        unreturned = [*([last] if isinstance(last, _Row) else []), *self._take_rows()]
        works = [row.work for row in unreturned if row.work is not None]
        for work in works:
            work.rows -= 1
        ending = []
        for work in dict.fromkeys(works):
            if work.rows and work.ticket.work and work.waiting is self._waiting:
                self._waiting.remove(work)
                work.start(self._pool._slots)  # another stream waits for this call
            elif not work.rows and not work.future.done():
                work.closing = True
                work.waiting.remove(work)
                self._drop(work)
                if work.task is not None:
                    work.task.cancel()
                    ending.append(work.task)
        if ending:
            await asyncio.wait(ending)

    def _take_rows(self) -> list[_Row[K]]:
        """Remove and return the rows that were read and not returned."""
        rows = []
        while not self._order.empty():
            row = self._order.get_nowait()
            if isinstance(row, _Row):
                rows.append(row)
        return rows


API_VERSION = "1.3"


def outcome_row(outcome: Outcome) -> dict[str, Any] | None:
    """The outcome as plain Python objects in the shape of `types.outcome_of(...)`.

    Exactly one of `value` and `error` is set. For a NULL input both are NULL. `at` is the end of the call:
    the same for all rows that share the call, NULL if there was none.
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
