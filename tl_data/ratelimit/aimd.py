"""An adaptive request rate for limits that are unknown: additive increase, multiplicative decrease.

The rate doubles until the first 429. After a 429 it drops below the rejected rate, returns to just under it,
stays there for a while, and only then grows further (the curve of CUBIC congestion control). So few requests
are rejected although the limit is unknown, and processes without contact converge to equal shares of it.
"""

from __future__ import annotations

import asyncio

from tl_data.object_store import steady

FIRST_RATE = 3.0  # calls per second at the beginning
DOUBLING = 0.5  # seconds in which the rate doubles before the first 429
PLATEAU = 2.5  # seconds after a 429 until the rejected rate is reached again
BACKOFF = 0.85  # factor of the rate after a 429
GROWTH = 0.08  # calls per second added each second; equal steps let the rates of processes converge
SAME_EVENT = 0.5  # seconds in which further 429s belong to the same event
MIN_RATE = 0.02  # calls per second


class AdaptiveRate:
    """Spaces the calls of one process at a rate that adapts to 429s."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._base = FIRST_RATE  # the rate that growth starts from; after a 429, the rejected rate
        self._refused = False
        self.free = False  # no spacing before the first 429
        self._grown = 0.0  # seconds of growth; counted only while this rate, not the demand, limits the calls
        self._cut = 0.0
        self._last = 0.0
        self._last_grown = 0.0
        self._responses: list[float] = []  # times of recent responses

    @property
    def rate(self) -> float:
        """The current rate in calls per second."""
        if self._refused:
            curve = (self._grown - PLATEAU) / PLATEAU
            rate = self._base * (1 + (1 - BACKOFF) * curve**3) + GROWTH * self._grown
        else:
            rate = self._base * 2 ** min(self._grown / DOUBLING, 40)
        return max(rate, MIN_RATE)

    async def turn(self) -> None:
        """Wait until the next call may be made."""
        async with self._lock:
            due, now, waited = self._last + 1 / self.rate, steady(), False
            while due > now and (self._refused or not self.free):
                await asyncio.sleep(min(due - now, 0.1))
                waited = True
                now = self._grow()
                due = self._last + 1 / self.rate
            if not waited:
                self._last_grown = now
            # A late timer is made up for, within 0.05 s; a pause of the callers is not.
            self._last = max(due, now - 0.05)

    def _grow(self) -> float:
        """Grow the rate by the time spent waiting for it."""
        now = steady()
        if self._last_grown:
            self._grown += min(now - self._last_grown, 0.25)
        self._last_grown = now
        return now

    def record_success(self) -> None:
        """Record a response that is not a 429."""
        now = steady()
        self._responses.append(now)
        if len(self._responses) > 4096 or self._responses[0] < now - 10:
            self._responses = [t for t in self._responses if t > now - 2]

    def refused(self) -> None:
        """Record a 429: reduce the rate, once for all 429s of the same event."""
        now = steady()
        if now - self._cut < SAME_EVENT:
            return
        rate = self.rate
        if not self._refused:
            # At the first 429 the responses of the last second are a better estimate than the tried rate.
            achieved = float(sum(t > now - 1 for t in self._responses))
            rate = min(rate, max(achieved, rate / 4, FIRST_RATE / 2))
        elif self._grown < PLATEAU / 2:
            rate *= BACKOFF  # rejected before the old rate was reached: the limit is lower now
        self._base, self._refused, self._grown, self._cut = rate, True, 0.0, now
