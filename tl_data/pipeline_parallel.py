"""Work on many items at once, in no order, until they are all done or somebody says stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def in_parallel(
    items: Iterable[T],
    work: Callable[[T], Awaitable[None]],
    *,
    width: int,
    halt: asyncio.Event,
    stop: asyncio.Event,
) -> bool:
    """Work on the items, `width` at a time. Gives whether they were all begun and ended.

    Args:
        halt: when set, nothing new is begun; what is in flight goes to its end.
        stop: when set, what is in flight is cancelled, too.

    Raises:
        whatever `work` raises; the others are cancelled first.
    """
    running: set[asyncio.Future[Any]] = set()
    stopped: asyncio.Future[Any] = asyncio.ensure_future(stop.wait())

    async def room(most: int) -> None:
        while len(running) > most and not stop.is_set():
            done, _ = await asyncio.wait({*running, stopped}, return_when=asyncio.FIRST_COMPLETED)
            ended = running & done
            running.difference_update(ended)
            for said in await asyncio.gather(*ended, return_exceptions=True):  # all are heard, one is raised
                if isinstance(said, BaseException):
                    raise said

    try:
        for item in items:
            await room(width - 1)
            if halt.is_set() or stop.is_set():
                break
            running.add(asyncio.ensure_future(work(item)))
        await room(0)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        stopped.cancel()
    return not (halt.is_set() or stop.is_set())
