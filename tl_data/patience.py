"""Waiting for a limit, which whoever waits may give up: an hour is long when the work is over meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta

log = logging.getLogger("tl_data.limits")

NOTABLE = 30.0  # seconds; a shorter wait is nothing to tell

_over: ContextVar[asyncio.Event | None] = ContextVar("tl_data_patience", default=None)


@contextmanager
def until(over: asyncio.Event) -> Iterator[None]:
    """What waits for a limit inside the block, or in a task begun there, gives up once `over` is set."""
    token = _over.set(over)
    try:
        yield
    finally:
        _over.reset(token)


async def pause(seconds: float) -> None:
    """Wait for the turn of a call that was not sent yet.

    Raises:
        asyncio.CancelledError: nobody needs the call any more; it is given up as if it had been cancelled.
    """
    over = _over.get()
    if over is None:
        await asyncio.sleep(seconds)
        return
    with suppress(TimeoutError):
        await asyncio.wait_for(over.wait(), seconds)
        raise asyncio.CancelledError("the work that this call is for is over")


def gave_up() -> bool:
    """Whether the running task ended a wait by itself, and nobody cancelled it."""
    over, task = _over.get(), asyncio.current_task()
    return over is not None and over.is_set() and task is not None and task.cancelling() == 0


def announce(limit: str, seconds: float) -> None:
    """Say that calls wait so long for a limit, so that nobody takes it for a standstill."""
    at = datetime.now(UTC) + timedelta(seconds=seconds)
    log.warning("%s is used up: calls wait until %s UTC (%.0f s)", limit, f"{at:%H:%M:%S}", seconds)
