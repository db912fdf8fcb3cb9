"""Graceful shutdown: long waits for a limit end at once, and paid requests get time to receive their answer.

    with cancel_waits_on(stop), grace_period(15.0): ...

A request that was sent is already paid for. Its answer is recorded, so that it is not paid for again.
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

LONG_WAIT = 30.0  # seconds; only longer waits for a limit are logged, and cancelled by a shutdown


@contextmanager
def cancel_waits_on(stop: asyncio.Event) -> Iterator[None]:
    """When `stop` is set, cancel long waits for a limit in the block and in tasks that start there."""
    with call_context(stop=stop):
        yield


async def wait_for_limit(seconds: float, total: float | None = None) -> None:
    """Wait for a limit before a request is sent.

    Args:
        seconds: how long to wait.
        total: the whole wait, if `seconds` is only a part of it.

    Raises:
        asyncio.CancelledError: the run is shutting down, and the wait is longer than `LONG_WAIT`.
    """
    stop = current_context().stop
    if stop is None or (total or seconds) <= LONG_WAIT:
        await asyncio.sleep(seconds)
        return
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
        raise asyncio.CancelledError("the run is shutting down")


def was_cancelled_by_shutdown() -> bool:
    """Whether the running task cancelled its own wait because the run is shutting down."""
    stop, task = current_context().stop, asyncio.current_task()
    return stop is not None and stop.is_set() and task is not None and task.cancelling() == 0


@contextmanager
def grace_period(seconds: float) -> Iterator[None]:
    """Give cancelled paid requests of the block, and of tasks that start there, this time to finish."""
    with call_context(grace_seconds=seconds):
        yield


def mark_in_flight(sent: bool) -> None:
    """Record whether a paid request is in flight. False: it was refused or lost."""
    if (grace := current_context().grace) is not None:
        grace.sent = sent


class Grace:
    """The grace period of one piece of work, which includes the tasks that start in its `with` block."""

    def __init__(self) -> None:
        self.sent = False  # whether a paid request is in flight
        self._ends = math.inf
        self._block: AbstractContextManager[CallContext]

    def __enter__(self) -> None:
        self._block = call_context(grace=self)
        self._block.__enter__()

    def __exit__(self, *_: object) -> None:
        self._block.__exit__(None, None, None)

    def begin(self) -> bool:
        """Begin the grace period of work that was cancelled.

        Returns False if the period has begun before, or if no paid request is in flight.
        """
        seconds = current_context().grace_seconds
        if self._ends < math.inf or not self.sent or not seconds:
            return False
        self._ends = time.monotonic() + seconds
        return True

    @property
    def left(self) -> float:
        """Seconds until the end of the grace period."""
        return max(0.01, self._ends - time.monotonic())

    def check(self) -> None:
        """Raise asyncio.CancelledError if the grace period is over."""
        if time.monotonic() > self._ends:
            raise asyncio.CancelledError("no response within the grace period")


def log_wait(limit: str, seconds: float) -> None:
    """Log a long wait for a limit, so that it does not look like a hang."""
    at = datetime.now(UTC) + timedelta(seconds=seconds)
    log.warning("%s is used up: calls wait until %s UTC (%.0f s)", limit, f"{at:%H:%M:%S}", seconds)
