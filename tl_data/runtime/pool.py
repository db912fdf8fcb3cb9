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
    """The place of a call in the queues of `Waiting`.

    A ticket stands in several queues at once. When its call begins or is dropped, `work` becomes None. The
    entries that are left are skipped; they keep neither the call nor its answer alive.
    """

    work: Work | None


class Work:
    """One call, and for how many rows it is made."""

    __slots__ = (
        *("call", "closing", "future", "name", "notes"),
        *("number", "rows", "shared", "size", "task", "ticket", "waiting"),
    )

    def __init__(self, name: Hashable, number: int, waiting: Waiting) -> None:
        self.name = name
        self.call: Callable[[], Coroutine[Any, Any, None]]  # makes it, once a place was taken for it
        self.future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None] | None = None  # none while it waits for a place
        self.notes: list[Callable[[Work, Outcome], None]] = []
        self.number = number  # of the first row, in the map that it began in
        self.rows = 0
        self.shared = False  # with rows of another map
        self.size = 0
        self.closing = False
        self.waiting = waiting
        self.ticket = Ticket(None)  # names it while it waits

    def begin(self, places: asyncio.Semaphore | None = None) -> None:
        """Make the call, in a task of its own, at a place that was taken or with the next free one."""

        call = self.call
        del self.call  # it holds this, and both would live until the garbage is collected

        async def in_turn(places: asyncio.Semaphore) -> None:
            await places.acquire()
            await call()

        self.task = asyncio.create_task(in_turn(places) if places else call())

    def hurry(self) -> None:
        """Somebody can give back no further row before this one."""
        if self.ticket.work:
            self.waiting.hurry(self)


class Waiting:
    """The calls of one map that have not begun.

    Without lengths they begin in order. With lengths every other place goes to the longest one, so that it
    is not begun last and then waited for alone; the rest go to the oldest, so that rows come all the time.

    Args:
        most: calls that may wait; the longest can only be found among those.
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
        """Wait until one more may wait."""
        while self._count >= self._most:
            self._fewer.clear()
            await self._fewer.wait()

    def put(self, work: Work, length: float | None) -> None:
        """A call that may begin; `length` beside those of the others, if it is known."""
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
        """Let this call begin next."""
        self._hurried.append(work.ticket)
        self._more.set()

    def look_again(self) -> None:
        """There may be room now."""
        self._more.set()

    async def ready(self, room: Callable[[], bool]) -> None:
        """Wait for a call that may begin: any one while there is room, otherwise only one in a hurry."""
        while not self._hurried and not (self._count and room()):
            self._more.clear()
            await self._more.wait()

    def take(self, room: Callable[[], bool]) -> Work | None:
        """The call that begins next; None if none may after all."""
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
        """The call waits no longer."""
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

READ_SECONDS = 0.005  # how long a reading of the source gathers rows before those there are start


async def chunks_of(source: Iterable[S] | AsyncIterable[S]) -> AsyncIterator[Iterable[S]]:
    """The rows of the source, in pieces that are there without waiting."""
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
        entries, memory: how many answers, and bytes of them, are remembered in memory at most.
        spill: bytes of answers in a temporary file, where those go that do not fit into memory.
        buffer: bytes of answers that may wait for an earlier row; beyond, no new row starts.
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
        """Drop the remembered answers: something has changed that they may depend on."""
        self._memory.clear()

    def knows(self, group: Hashable, key: Hashable, since: float = inf) -> bool:
        """Whether a row of this group is being asked for, or its answer is remembered."""
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
            since: `time.monotonic()` at which the statement began that these rows are of: answers made since
                then are never asked for again. None: now.
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
        return pool._flying.get(name) or self._failures.get(key) or pool._memory.get(name, self._since)

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
    `at` is when the call ended: equal for all rows that share it, NULL when nothing was called.
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
