"""What may be waited for when work is to end: no limit, whose hour is long; but an answer that is being paid.

    with until(over), graceful(15.0): ...

A call that would wait long for its turn gives up at once. One that was sent has cost its money: it may take a
while to its answer, which is then written down and need not be paid for again.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar, Token
from datetime import UTC, datetime, timedelta

log = logging.getLogger("tl_data.limits")

NOTABLE = 30.0  # seconds; a shorter wait is nothing to tell, and short enough to finish what was begun

_over: ContextVar[asyncio.Event | None] = ContextVar("tl_data_patience", default=None)
_allowed: ContextVar[float] = ContextVar("tl_data_grace", default=0.0)
_grace: ContextVar[Grace | None] = ContextVar("tl_data_graced", default=None)


@contextmanager
def until(over: asyncio.Event) -> Iterator[None]:
    """What waits long for a limit in the block, or in a task begun there, gives up once `over` is set."""
    token = _over.set(over)
    try:
        yield
    finally:
        _over.reset(token)


async def pause(seconds: float, whole: float | None = None) -> None:
    """Wait for the turn of a call that was not sent yet.

    Args:
        whole: how long it will wait in all, if these seconds are only a part of it.

    Raises:
        asyncio.CancelledError: nobody needs the call any more; it is given up as if it had been cancelled.
    """
    over = _over.get()
    if over is None or (whole or seconds) <= NOTABLE:
        await asyncio.sleep(seconds)
        return
    with suppress(TimeoutError):
        await asyncio.wait_for(over.wait(), seconds)
        raise asyncio.CancelledError("the work that this call is for is over")


def gave_up() -> bool:
    """Whether the running task ended a wait by itself, and nobody cancelled it."""
    over, task = _over.get(), asyncio.current_task()
    return over is not None and over.is_set() and task is not None and task.cancelling() == 0


@contextmanager
def graceful(seconds: float) -> Iterator[None]:
    """What is cancelled inside the block, or in a task begun there, may take so long to its answer."""
    token = _allowed.set(seconds)
    try:
        yield
    finally:
        _allowed.reset(token)


def under_way(sent: bool) -> None:
    """Note that the running work has sent a request that costs money; or that this was refused or lost."""
    if (grace := _grace.get()) is not None:
        grace.sent = sent


class Grace:
    """The time that one piece of work gets to its answer. Tasks begun in its `with` block belong to it."""

    def __init__(self) -> None:
        self.sent = False  # a request is under way that costs money
        self._ends = math.inf
        self._token: Token[Grace | None]

    def __enter__(self) -> None:
        self._token = _grace.set(self)

    def __exit__(self, *_: object) -> None:
        _grace.reset(self._token)

    def begin(self) -> bool:
        """The work is cancelled: whether it gets time. Not a second time, and not for nothing."""
        if self._ends < math.inf or not self.sent or not _allowed.get():
            return False
        self._ends = time.monotonic() + _allowed.get()
        return True

    @property
    def left(self) -> float:
        """Seconds."""
        return max(0.01, self._ends - time.monotonic())

    def check(self) -> None:
        """Raises asyncio.CancelledError when the time is over."""
        if time.monotonic() > self._ends:
            raise asyncio.CancelledError("no answer came in the time that was given")


def announce(limit: str, seconds: float) -> None:
    """Say that calls wait so long for a limit, so that nobody takes it for a standstill."""
    at = datetime.now(UTC) + timedelta(seconds=seconds)
    log.warning("%s is used up: calls wait until %s UTC (%.0f s)", limit, f"{at:%H:%M:%S}", seconds)
