"""How fast one process may send when nobody tells it: additive growth, multiplicative retreat.

The rate doubles until the first refusal. After a refusal it falls below the rate that was refused, comes
back to just under it, stays there for a while and only then tries more (the cubic curve of congestion
control): the share of refused calls stays small although nobody knows the limit, and processes that
cannot see each other end up sharing it.
"""

from __future__ import annotations

import asyncio

from tl_data.object_store import steady

FIRST = 3.0  # calls a second to begin with
DOUBLING = 0.5  # seconds in which the rate doubles before the first refusal
PLATEAU = 2.5  # seconds after a refusal at which the refused rate is reached again
RETREAT = 0.85  # part of the rate that is left after a refusal
STEP = 0.08  # calls a second that are added each second: who has little gains more, until all have alike
EPOCH = 0.5  # seconds in which further refusals tell nothing new
SLOWEST = 0.02  # calls a second that are always tried


class AdaptiveRate:
    """Times between calls."""

    def __init__(self) -> None:
        self._line = asyncio.Lock()
        self._base = FIRST  # the rate that growth began from; after a refusal: the one refused
        self._refused = False
        self.free = False  # no pace is needed before the first refusal
        self._grown = 0.0  # seconds of growth: only while the pace, not the demand, is what limits
        self._cut = 0.0
        self._last = 0.0
        self._asked = 0.0
        self._done: list[float] = []  # when recent calls were answered, for what is really achieved

    @property
    def rate(self) -> float:
        """Calls a second at this moment."""
        if self._refused:
            curve = (self._grown - PLATEAU) / PLATEAU
            rate = self._base * (1 + (1 - RETREAT) * curve**3) + STEP * self._grown
        else:
            rate = self._base * 2 ** min(self._grown / DOUBLING, 40)
        return max(rate, SLOWEST)

    async def turn(self) -> None:
        """Wait until the next call may be made."""
        async with self._line:
            due, now, waited = self._last + 1 / self.rate, steady(), False
            while due > now and (self._refused or not self.free):
                await asyncio.sleep(min(due - now, 0.1))
                waited = True
                now = self._grow()
                due = self._last + 1 / self.rate
            if not waited:
                self._asked = now
            # A timer that rang late is caught up with; a pause of the caller is not.
            self._last = max(due, now - 0.05)

    def _grow(self) -> float:
        """Let the rate grow by the time that was spent waiting for it."""
        now = steady()
        if self._asked:
            self._grown += min(now - self._asked, 0.25)
        self._asked = now
        return now

    def answered(self) -> None:
        """A call was let through."""
        now = steady()
        self._done.append(now)
        if len(self._done) > 4096 or self._done[0] < now - 10:
            self._done = [t for t in self._done if t > now - 2]

    def refused(self) -> None:
        """A call was refused: fall back, once for all refusals of the same moment."""
        now = steady()
        if now - self._cut < EPOCH:
            return
        rate = self.rate
        if not self._refused:
            # The first: what came through in the last second tells more than the rate that was tried.
            achieved = float(sum(t > now - 1 for t in self._done))
            rate = min(rate, max(achieved, rate / 4, FIRST / 2))
        elif self._grown < PLATEAU / 2:
            rate *= RETREAT  # refused again before the old rate was reached: it is no longer to be had
        self._base, self._refused, self._grown, self._cut = rate, True, 0.0, now
