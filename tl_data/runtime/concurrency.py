"""An event loop in a background thread for synchronous callers, and concurrent work on many items."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import aclosing, contextmanager
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from tl_data.errors import Cancelled
from tl_data.runtime.context import CallContext, call_context, current_context

T = TypeVar("T")


@contextmanager
def calls_of(owner: object) -> Iterator[None]:
    """Mark the calls in this block with an owner. `connection.cancel(owner)` cancels only these calls."""
    with call_context(owner=owner, began=time.monotonic()):
        yield


class Loop:
    """An event loop in a daemon thread, started at first use."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._tasks: dict[asyncio.Task[Any], object | None] = {}  # running task -> its owner
        # Owner -> time of its last cancellation. An owner may have no running task when it is cancelled, so
        # the time is kept and the owner's next call stops.
        self._cancelled: WeakKeyDictionary[object, float] = WeakKeyDictionary()
        self._all_cancelled = float("-inf")

    def _started(self) -> asyncio.AbstractEventLoop:
        """The event loop. It is started if needed."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="tl_data", daemon=True)
                self._thread.start()
            return self._loop

    def run(self, work: Coroutine[Any, Any, T], *, anyway: bool = False) -> T:
        """Run a coroutine and wait for it. Ctrl-C cancels it and waits for its cleanup.

        Args:
            anyway: run the coroutine even if its owner was cancelled. For cleanup.

        Raises:
            Cancelled: `cancel` stopped the coroutine.
        """
        context = current_context()

        async def run_as_task() -> T:
            task = asyncio.current_task()
            assert task is not None
            if not anyway and self._is_cancelled(context):
                work.close()
                raise asyncio.CancelledError
            self._tasks[task] = context.owner
            try:
                return await work
            finally:
                del self._tasks[task]

        future = asyncio.run_coroutine_threadsafe(run_as_task(), self._started())
        try:
            return future.result()
        except CancelledError:
            raise Cancelled("cancelled; answers in the ledger are not charged again") from None
        except KeyboardInterrupt:
            # Ctrl-C reaches the waiting thread: cancel the work and wait for its cleanup.
            future.cancel()
            self._wait_for_tasks()
            raise

    def cancel(self, owner: object | None = None) -> None:
        """Cancel all calls, or those of an owner. `run` raises `Cancelled` when they have ended."""

        if owner is None:
            self._all_cancelled = time.monotonic()
        else:
            self._cancelled[owner] = time.monotonic()

        def cancel() -> None:
            for task, task_owner in self._tasks.items():
                if owner is None or task_owner is owner:
                    task.cancel()

        if self._loop is not None:
            self._loop.call_soon_threadsafe(cancel)

    def _is_cancelled(self, context: CallContext) -> bool:
        cancelled = float("-inf")
        if context.owner is not None:
            cancelled = self._cancelled.get(context.owner, cancelled)
        return context.began <= max(cancelled, self._all_cancelled)

    def _wait_for_tasks(self) -> None:
        """Wait at most five seconds for cancelled calls to end."""
        until = time.monotonic() + 5
        while self._tasks and time.monotonic() < until:
            time.sleep(0.01)

    def iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        """The items of an async iterator. Each is awaited when it is requested."""
        try:
            while True:
                item = self.run(_next(items))
                if isinstance(item, _End):
                    return
                yield item
        finally:
            close = getattr(items, "aclose", None)
            if close is not None and self._loop is not None:
                self.run(close(), anyway=True)

    def iterate_chunks(self, chunks: AsyncIterator[list[T]]) -> Iterator[T]:
        """The items of lists, one by one. Each list crosses the threads once."""
        for chunk in self.iterate(chunks):
            yield from chunk

    def collect_chunks(self, chunks: AsyncGenerator[list[T], None]) -> Iterator[T]:
        """The items of lists, after the last list has arrived. All lists cross the threads together."""

        async def collect() -> list[T]:
            async with aclosing(chunks):
                return [item async for chunk in chunks for item in chunk]

        yield from self.run(collect())

    def close(self) -> None:
        """Stop the loop and its thread."""
        with self._lock:
            if self._loop is None or self._thread is None:
                return
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=10)
            self._loop.close()
            self._loop = None


class _End:
    """Marks the end of an iteration: a coroutine cannot raise StopAsyncIteration."""


async def _next(items: AsyncIterator[T]) -> T | _End:
    try:
        return await anext(items)
    except StopAsyncIteration:
        return _End()


async def in_parallel(
    items: Iterable[T],
    work: Callable[[T], Awaitable[None]],
    *,
    width: int,
    drain: asyncio.Event,
    cancel: asyncio.Event,
) -> bool:
    """Call `work` on items, at most `width` at a time. Returns whether all items were finished.

    Args:
        drain: when it is set, no new work starts and running work continues.
        cancel: when it is set, no new work starts and running work is cancelled.

    Raises:
        The first exception of `work`; the others are cancelled first.
    """
    running: set[asyncio.Future[Any]] = set()
    stopped: asyncio.Future[Any] = asyncio.ensure_future(cancel.wait())

    async def wait_until_at_most(count: int) -> None:
        while len(running) > count and not cancel.is_set():
            done, _ = await asyncio.wait({*running, stopped}, return_when=asyncio.FIRST_COMPLETED)
            ended = running & done
            running.difference_update(ended)
            for result in await asyncio.gather(*ended, return_exceptions=True):
                if isinstance(result, BaseException):
                    raise result

    try:
        for item in items:
            await wait_until_at_most(width - 1)
            if drain.is_set() or cancel.is_set():
                break
            running.add(asyncio.ensure_future(work(item)))
        await wait_until_at_most(0)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        stopped.cancel()
    return not (drain.is_set() or cancel.is_set())
