"""An adaptive request rate for unknown limits: additive increase, multiplicative decrease.

The rate doubles until the first 429. After a 429 it drops below the rejected rate, returns to just under it,
stays there for a while, and only then grows further (the curve of CUBIC congestion control). So only few
requests are rejected, and processes that do not communicate converge to equal shares of the limit.
"""

from __future__ import annotations

import asyncio

from tl_data.object_store import steady

FIRST_RATE = 3.0  # calls per second at the start
DOUBLING = 0.5  # seconds in which the rate doubles before the first 429
PLATEAU = 2.5  # seconds after a 429 until the rejected rate is reached again
BACKOFF = 0.85  # factor of the rate after a 429
GROWTH = 0.08  # calls per second added each second; equal steps let the rates of processes converge
SAME_EVENT = 0.5  # seconds after a 429 in which further ones do not reduce the rate again
MIN_RATE = 0.02  # minimum of calls per second


class AdaptiveRate:
    """Spaces the calls of one process at a rate that adapts to 429s."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        # Times are in seconds of the steady clock.
        self._base = FIRST_RATE  # the rate from which growth starts; after a 429, the rejected rate
        self._refused = False  # whether there was a 429
        self.free = False  # whether calls are not spaced before the first 429
        self._grown = 0.0  # seconds of growth; only the time in which this rate limits the calls is counted
        self._last_cut = 0.0  # time at which a 429 last reduced the rate
        self._last = 0.0  # time of the last call
        self._last_grown = 0.0  # time at which `_grown` was last updated
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
            # A delay of the timer, up to 0.05 s, shortens the next wait. A pause of the callers does not.
            self._last = max(due, now - 0.05)

    def _grow(self) -> float:
        """Add the time since the last update to `_grown`, and return the current time."""
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

    def record_refusal(self) -> None:
        """Record a 429 and reduce the rate, but only once within `SAME_EVENT` seconds."""
        now = steady()
        if now - self._last_cut < SAME_EVENT:
            return
        rate = self.rate
        if not self._refused:
            # At the first 429, the responses of the last second estimate the limit better than the rate.
            achieved = float(sum(t > now - 1 for t in self._responses))
            rate = min(rate, max(achieved, rate / 4, FIRST_RATE / 2))
        elif self._grown < PLATEAU / 2:
            rate *= BACKOFF  # the limit is lower now: the 429 came before the last rejected rate was reached
        self._base, self._refused, self._grown, self._last_cut = rate, True, 0.0, now
