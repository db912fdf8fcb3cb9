"""Limits that all processes with the same ledger share, by means of objects in its storage.

`QuotaWindow` is a limit per hour or day. Each hour or day (UTC), it is divided into numbered tickets of the
same amount. The process that creates the object of a ticket owns the ticket. The object can be created
only once, so the sum of all processes cannot exceed the limit. If a process dies, its unused tickets are lost
until the next hour or day.

`MinuteLimit` is a limit per minute. Time is divided into intervals, and each interval allows the same amount.
With intervals of 0.1 s, the amount of interval 7 may be used from second 0.7 on. The process that creates the
object of an interval leases the interval. The object can be created only once, so the sum cannot exceed the
rate. There is no counter to update, and the lease of a process that died expires by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from tl_data.errors import QuotaExhausted
from tl_data.object_store import Storage, steady
from tl_data.ratelimit.reported import LimitSnapshot
from tl_data.runtime.shutdown import LONG_WAIT, log_wait, wait_for_limit

TICKETS = 1000  # maximum number of tickets of a limit
ROUNDING = 1e-9  # relative rounding error of a sum of tickets


class QuotaWindow:
    """One limit per hour or day of one account.

    Args:
        path: the path of the tickets in the storage.
        category: the category of endpoints.
        setting: the name of the setting, for messages.
        amount: the limit per window.
        seconds: the length of the window, an hour or a day.
    """

    def __init__(
        self, storage: Storage, path: str, category: str, setting: str, amount: float, seconds: float
    ) -> None:
        self._storage, self._category, self._setting = storage, category, setting
        self._amount, self._seconds = amount, seconds
        self._path = f"{path}-{amount:g}-in-{seconds:g}s"
        self._count = max(1, min(TICKETS, int(amount)))
        self._worth = amount / self._count
        self._window = -1  # number of the current window: hours or days since 1970
        self._logged_window = -1  # the window in which a wait was last logged
        self._next = 0  # number of the first ticket that may be free
        self._left = 0.0  # unused amount of the owned tickets
        self._lock = asyncio.Lock()

    async def take(self, amount: float, max_wait: float) -> int:
        """Take an amount, at most the whole limit, in order of the calls. Returns the number of the window.

        Raises:
            QuotaExhausted: too little is left, and the next window is further away than `max_wait`.
        """
        needed = min(amount, self._amount) - ROUNDING * self._amount
        async with self._lock:
            while True:
                now = await self._turn()
                while self._left < needed and await self._ticket():
                    self._left += self._worth
                if self._left >= needed:
                    self._left -= min(amount, self._amount)
                    return self._window
                wait = (self._window + 1) * self._seconds - now
                if wait > max_wait:
                    raise self._exhausted(wait)
                if wait > LONG_WAIT and self._logged_window != self._window:
                    self._logged_window = self._window
                    log_wait(f"{self._setting} = {self._amount:g} for '{self._category}'", wait)
                await wait_for_limit(min(wait, 1.0) + 0.01, wait)

    def give_back(self, amount: float, window: int) -> None:
        """Return an amount to a window, because its call was cancelled before it was sent."""
        if window == self._window:
            self._left += min(amount, self._amount)

    async def snapshot(self) -> LimitSnapshot:
        """The limit and its remaining amount, in the same form as the limits that the service reports."""
        now = await self._turn()
        left = self._amount - await self._taken() * self._worth + self._left
        return LimitSnapshot(
            self._amount, max(left, 0.0), (self._window + 1) * self._seconds, now, self._seconds
        )

    async def _turn(self) -> float:
        """The current time of the storage's clock. If a new window has begun, the state is reset."""
        now = await self._storage.now()
        window = int(now // self._seconds)
        if window != self._window:
            self._window, self._next, self._left = window, 0, 0.0
        return now

    async def _ticket(self) -> bool:
        """Take the first free ticket; returns False if none is free."""
        taken = 0
        while self._next < self._count:
            number, self._next = self._next, self._next + 1
            if await self._storage.create(f"{self._folder}/{number:04d}", b""):
                if number == 0:
                    await self._sweep()
                return True
            taken += 1
            if taken == 2:  # other processes took several tickets: list them instead of trying each
                self._next = max(self._next, await self._taken())
        return False

    async def _taken(self) -> int:
        """The number of taken tickets. Tickets are taken in order."""
        return len([item async for item in self._storage.below(self._folder)])

    async def _sweep(self) -> None:
        """Delete the tickets of earlier windows."""
        for folder in await self._storage.folders(self._path):
            if folder < self._folder:
                await self._storage.drop(folder)

    @property
    def _folder(self) -> str:
        return f"{self._path}/{self._window:012d}"

    def _exhausted(self, wait: float) -> QuotaExhausted:
        until = datetime.fromtimestamp((self._window + 1) * self._seconds, UTC)
        return QuotaExhausted(
            f"{self._setting} = {self._amount:g} is exhausted for the category '{self._category}' until "
            f"{until:%Y-%m-%d %H:%M} UTC; run again then, or raise the setting. Answers in the ledger are "
            "not charged again",
            "limit_used_up",
            None,
            None,
            wait,
        )


log = logging.getLogger("tl_data.limits")

AHEAD = 0.25  # an interval is leased this many seconds before its start, to hide the latency of the storage
BUCKET = 250  # number of intervals per folder; old folders are deleted as a whole


@dataclass(frozen=True)
class Limit:
    """An amount per number of seconds. After an idle time, the amount `burst` may be used at once."""

    amount: float
    seconds: float
    burst: float = 0.0

    @property
    def rate(self) -> float:
        """The amount per second."""
        return self.amount / self.seconds


class MinuteLimit:
    """One limit per minute of one account, leased in intervals of time."""

    def __init__(self, storage: Storage, name: str, limit: Limit) -> None:
        self._storage, self.limit = storage, limit
        # A request to a bucket takes tens of milliseconds, so its intervals are longer than a local folder's.
        shortest = 0.04 if storage.folder is not None else 0.5
        whole = 1.0 if limit.seconds <= 60 and limit.rate * shortest >= 1 else 0.0
        self._worth = max(limit.rate * shortest, limit.amount / 600, 1.0 if limit.seconds <= 60 else 0.0)
        self._worth = float(int(self._worth)) if whole else self._worth
        self._interval = self._worth / limit.rate
        self._path = f"budget/{name}-{limit.amount:g}-in-{limit.seconds:g}s"
        self._next = 0  # number of the first interval that may be free
        #: Unused parts of the leased intervals: start (time of the storage's clock) and amount.
        self._leased: deque[tuple[float, float]] = deque()
        self._lock = asyncio.Lock()
        self._dimension, self._warned = name.rpartition("-")[2], False
        self._swept = False

    async def take(self, amount: float) -> None:
        """Wait until an amount may be used, in order of the calls. A large amount delays the next call."""
        async with self._lock:
            begin, leased = None, 0.0
            while leased < amount or begin is None:
                start, worth = await self._next_lease()
                begin = start if begin is None else begin
                leased += worth
            if leased > amount:
                unused_start = start + (worth - leased + amount) / self.limit.rate
                self._leased.appendleft((unused_start, leased - amount))
            wait = begin - await self._storage.now()
            if wait > AHEAD:
                self._warn(wait)
                await self._pause(wait - AHEAD, begin, amount)
        if wait > 0:
            await self._pause(min(wait, AHEAD), begin, amount)

    def _warn(self, wait: float) -> None:
        """Log once that calls wait long for the limit, because the user sees nothing else during the wait."""
        if wait > LONG_WAIT and not self._warned:
            self._warned = True
            limit = f"{self.limit.amount:g} {self._dimension} in {self.limit.seconds:g} s"
            log.warning("rate limit of %s reached; waiting %.0f s", limit, wait)

    async def _pause(self, seconds: float, begin: float, amount: float) -> None:
        """Wait. If the call is cancelled, return its lease."""
        try:
            await wait_for_limit(seconds)
        except asyncio.CancelledError:
            self._leased.appendleft((begin, amount))
            raise

    async def _next_lease(self) -> tuple[float, float]:
        """The start and amount of the next leased interval that has not expired, or of a new one."""
        now = await self._storage.now()
        tolerance = max(self._interval, 0.5)
        while self._leased:
            start, worth = self._leased.popleft()
            if start + worth / self.limit.rate + tolerance > now:
                return start, worth
        index = await self._lease(now)
        return index * self._interval, self._worth

    async def _lease(self, now: float) -> int:
        """Lease the first free interval; returns its index.

        Intervals of the past count only as far as the limit's `burst` allows.
        """
        earliest = int((now - self.limit.burst / self.limit.rate) / self._interval)
        index = max(self._next, earliest)
        leased = 0
        while not await self._storage.create(self._object(index), b""):
            index += 1
            leased += 1
            if leased == 2:  # other processes leased several intervals: list them instead of trying each
                index = max(index, await self._first_free(index))
        self._next = index + 1
        if not self._swept or index % BUCKET == 0:
            self._swept = True
            await self._sweep(earliest)
        return index

    async def _first_free(self, index: int) -> int:
        """The first interval from `index` on that the listed folder does not contain."""
        taken = set()
        async for item in self._storage.below(self._object(index).rpartition("/")[0]):
            taken.add(int(item.path.rpartition("/")[2]))
        while index in taken:
            index += 1
        return index

    async def _sweep(self, earliest: int) -> None:
        """Delete the folders of intervals that ended before interval `earliest`."""
        for folder in await self._storage.folders(self._path):
            if int(folder.rpartition("/")[2]) < earliest // BUCKET - 1:
                await self._storage.drop(folder)

    def _object(self, index: int) -> str:
        return f"{self._path}/{index // BUCKET:015d}/{index:018d}"


class LocalMinuteLimit:
    """A limit per minute of this process alone, without storage."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self._free = 0.0  # steady time from which the next amount may be used

    async def take(self, amount: float) -> None:
        """Wait until an amount may be used. Calls are served in order, and each delays the next one."""
        now = steady()
        begin = max(self._free, now - self.limit.burst / self.limit.rate)
        self._free = begin + amount / self.limit.rate
        if begin > now:
            await wait_for_limit(begin - now)


class SharedLimits:
    """The limits that all processes share for one account.

    Args:
        account: a text that identifies the account, such as the base URL.
    """

    def __init__(self, storage: Storage, account: str) -> None:
        self._storage = storage
        self._account = sha256(account.encode()).hexdigest()[:12]
        self._minute_limits: dict[tuple[str, str, Limit], MinuteLimit] = {}

    def minute_limit(self, category: str, dimension: str, limit: Limit) -> MinuteLimit:
        """The `MinuteLimit` of a limit per minute. Processes with the same limit share it."""
        key = (category, dimension, limit)
        if key not in self._minute_limits:
            self._minute_limits[key] = MinuteLimit(
                self._storage, f"{self._account}/{category}-{dimension}", limit
            )
        return self._minute_limits[key]

    def quota_window(
        self, category: str, dimension: str, setting: str, amount: float, seconds: float
    ) -> QuotaWindow:
        """The window of a limit per hour or day; `setting` is the name of the setting, for messages."""
        path = f"budget/{self._account}/{category}-{dimension}"
        return QuotaWindow(self._storage, path, category, setting, amount, seconds)
