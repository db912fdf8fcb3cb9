"""Graceful shutdown: long waits for a rate limit end at once; a paid request that was sent may be answered.

    with cancel_waits_on(stop), grace_period(15.0): ...

A request that is in flight has cost its money. Its answer is written down and not paid for again.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime, timedelta

from tl_data.runtime.context import CallContext, call_context, current_context

log = logging.getLogger("tl_data.limits")

NOTABLE = 30.0  # seconds; shorter waits are neither logged nor given up


@contextmanager
def cancel_waits_on(stop: asyncio.Event) -> Iterator[None]:
    """Long waits for a limit, in the block and in tasks begun there, are given up once `stop` is set."""
    with call_context(stop=stop):
        yield


async def wait_turn(seconds: float, total: float | None = None) -> None:
    """Wait before a request that was not sent yet.

    Args:
        total: how long the wait is in all, if these seconds are a part of it.

    Raises:
        asyncio.CancelledError: the run is shutting down.
    """
    stop = current_context().stop
    if stop is None or (total or seconds) <= NOTABLE:
        await asyncio.sleep(seconds)
        return
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
        raise asyncio.CancelledError("the run is shutting down")


def was_abandoned() -> bool:
    """Whether the running task gave up a wait by itself: the run is shutting down, nobody cancelled it."""
    stop, task = current_context().stop, asyncio.current_task()
    return stop is not None and stop.is_set() and task is not None and task.cancelling() == 0


@contextmanager
def grace_period(seconds: float) -> Iterator[None]:
    """Paid requests that are cancelled inside the block, or in tasks begun there, get so long to finish."""
    with call_context(grace_seconds=seconds):
        yield


def mark_in_flight(sent: bool) -> None:
    """Note that the running work has sent a paid request; False: the request was refused or lost."""
    if (grace := current_context().grace) is not None:
        grace.sent = sent


class Grace:
    """The time that one piece of work gets to its answer. Tasks begun in its `with` block belong to it."""

    def __init__(self) -> None:
        self.sent = False  # a paid request is in flight
        self._ends = math.inf
        self._block: AbstractContextManager[CallContext]

    def __enter__(self) -> None:
        self._block = call_context(grace=self)
        self._block.__enter__()

    def __exit__(self, *_: object) -> None:
        self._block.__exit__(None, None, None)

    def begin(self) -> bool:
        """The work is cancelled. True if it gets time: only once, and only if a paid request is in flight."""
        seconds = current_context().grace_seconds
        if self._ends < math.inf or not self.sent or not seconds:
            return False
        self._ends = time.monotonic() + seconds
        return True

    @property
    def left(self) -> float:
        """Seconds."""
        return max(0.01, self._ends - time.monotonic())

    def check(self) -> None:
        """Raises asyncio.CancelledError when the time is over."""
        if time.monotonic() > self._ends:
            raise asyncio.CancelledError("no response within the grace period")


def announce(limit: str, seconds: float) -> None:
    """Log that calls wait so long for a limit, so that the wait does not look like a hang."""
    at = datetime.now(UTC) + timedelta(seconds=seconds)
    log.warning("%s is used up: calls wait until %s UTC (%.0f s)", limit, f"{at:%H:%M:%S}", seconds)
