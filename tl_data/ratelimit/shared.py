"""Limits that all processes with the same ledger share, through objects in its storage.

`QuotaWindow`, a limit per hour or day: it is divided into numbered tickets of equal worth, again at each full
hour or at midnight UTC. The process that creates the object of a ticket first owns it. An object is created
once, so the sum cannot exceed the limit. The unused tickets of a process that died are free in the next hour
or day.

`Line`, a limit per minute: time is divided into intervals of equal worth. With intervals of 0.1 s, the worth
of interval 7 may be spent from second 0.7 on. The process that creates the object of an interval first leases
it. There is no counter to update, the lease of a process that died expires by itself, and the sum cannot
exceed the rate, because an interval is leased once.
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
from tl_data.runtime.shutdown import NOTABLE, announce, wait_turn

TICKETS = 1000  # at most per limit
ROUNDING = 1e-9  # relative rounding error of sums of tickets


class QuotaWindow:
    """One limit per hour or day of one account.

    Args:
        path: of its tickets in the storage.
        category: of endpoints.
        setting: the name of the setting, for messages.
        amount: per window.
        seconds: length of the window, an hour or a day.
    """

    def __init__(
        self, storage: Storage, path: str, category: str, setting: str, amount: float, seconds: float
    ) -> None:
        self._storage, self._category, self._setting = storage, category, setting
        self._amount, self._seconds = amount, seconds
        self._path = f"{path}-{amount:g}-in-{seconds:g}s"
        self._count = max(1, min(TICKETS, int(amount)))
        self._worth = amount / self._count
        self._window = self._waited = -1  # hours or days since 1970; the window whose wait was logged
        self._next = 0  # all tickets before this one are taken
        self._left = 0.0  # unspent worth of the owned tickets
        self._lock = asyncio.Lock()

    async def take(self, amount: float, max_wait: float) -> int:
        """Take an amount, at most the whole limit, in order of the calls; returns the window.

        Raises:
            QuotaExhausted: not enough is left, and the next window is further away than `max_wait`.
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
                if wait > NOTABLE and self._waited != self._window:
                    self._waited = self._window
                    announce(f"{self._setting} = {self._amount:g} for '{self._category}'", wait)
                await wait_turn(min(wait, 1.0) + 0.01, wait)

    def give_back(self, amount: float, window: int) -> None:
        """Return an amount of a window: its call was abandoned before it was sent."""
        if window == self._window:
            self._left += min(amount, self._amount)

    async def snapshot(self) -> LimitSnapshot:
        """The limit and its remaining amount, in the form of the limits that the service reports."""
        now = await self._turn()
        left = self._amount - await self._taken() * self._worth + self._left
        return LimitSnapshot(
            self._amount, max(left, 0.0), (self._window + 1) * self._seconds, now, self._seconds
        )

    async def _turn(self) -> float:
        """The time of the storage's clock. In a new window the state starts again."""
        now = await self._storage.now()
        window = int(now // self._seconds)
        if window != self._window:
            self._window, self._next, self._left = window, 0, 0.0
        return now

    async def _ticket(self) -> bool:
        """Create the first free ticket; False when none is left."""
        refused = 0
        while self._next < self._count:
            number, self._next = self._next, self._next + 1
            if await self._storage.create(f"{self._folder}/{number:04d}", b""):
                if number == 0:
                    await self._sweep()
                return True
            refused += 1
            if refused == 2:  # other processes are ahead: list the tickets instead of trying each
                self._next = max(self._next, await self._taken())
        return False

    async def _taken(self) -> int:
        """The number of taken tickets, which are taken in order."""
        return len([item async for item in self._storage.below(self._folder)])

    async def _sweep(self) -> None:
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
            f"{until:%Y-%m-%d %H:%M} UTC; run again then, or raise it. Finished work is not charged again",
            "limit_used_up",
            None,
            None,
            wait,
        )


log = logging.getLogger("tl_data.limits")

AHEAD = 0.25  # seconds before its start that an interval is leased; hides the latency of the storage
BUCKET = 250  # intervals per folder; old folders are removed as a whole


@dataclass(frozen=True)
class Limit:
    """An amount per number of seconds. `burst` may be spent at once after an idle time."""

    amount: float
    seconds: float
    burst: float = 0.0

    @property
    def rate(self) -> float:
        """The amount per second."""
        return self.amount / self.seconds


class Line:
    """One limit per minute of one account, leased in intervals of time."""

    def __init__(self, storage: Storage, name: str, limit: Limit) -> None:
        self._storage, self.limit = storage, limit
        # A bucket needs tens of milliseconds per request, so its intervals are longer than a folder's.
        shortest = 0.04 if storage.folder is not None else 0.5
        whole = 1.0 if limit.seconds <= 60 and limit.rate * shortest >= 1 else 0.0
        self._worth = max(limit.rate * shortest, limit.amount / 600, 1.0 if limit.seconds <= 60 else 0.0)
        self._worth = float(int(self._worth)) if whole else self._worth
        self._interval = self._worth / limit.rate
        self._path = f"budget/{name}-{limit.amount:g}-in-{limit.seconds:g}s"
        self._next = 0  # all intervals before this one are leased
        self._leased: deque[tuple[float, float]] = deque()  # start (storage time) and amount
        self._lock = asyncio.Lock()
        self._dimension, self._warned = name.rpartition("-")[2], False
        self._swept = False

    async def take(self, amount: float) -> None:
        """Wait until an amount may be spent, in order of the calls. A large amount delays the next call."""
        async with self._lock:
            begin, got = None, 0.0
            while got < amount or begin is None:
                start, worth = await self._next_lease()
                begin = start if begin is None else begin
                got += worth
            if got > amount:
                self._leased.appendleft((start + (worth - got + amount) / self.limit.rate, got - amount))
            wait = begin - await self._storage.now()
            if wait > AHEAD:
                self._warn(wait)
                await self._pause(wait - AHEAD, begin, amount)
        if wait > 0:
            await self._pause(min(wait, AHEAD), begin, amount)

    def _warn(self, wait: float) -> None:
        """Log once that calls wait long for the limit, since nothing else is visible meanwhile."""
        if wait > NOTABLE and not self._warned:
            self._warned = True
            limit = f"{self.limit.amount:g} {self._dimension} in {self.limit.seconds:g} s"
            log.warning("rate limit of %s reached; waiting %.0f s", limit, wait)

    async def _pause(self, seconds: float, begin: float, amount: float) -> None:
        try:
            await wait_turn(seconds)
        except asyncio.CancelledError:
            self._leased.appendleft((begin, amount))
            raise

    async def _next_lease(self) -> tuple[float, float]:
        """The next leased interval that has not expired, or a new one."""
        now = await self._storage.now()
        late = max(self._interval, 0.5)
        while self._leased:
            start, worth = self._leased.popleft()
            if start + worth / self.limit.rate + late > now:
                return start, worth
        index = await self._lease(now)
        return index * self._interval, self._worth

    async def _lease(self, now: float) -> int:
        """Lease the first free interval that is not in the past; returns its index."""
        earliest = int((now - self.limit.burst / self.limit.rate) / self._interval)
        index = max(self._next, earliest)
        refused = 0
        while not await self._storage.create(self._object(index), b""):
            index += 1
            refused += 1
            if refused == 2:  # other processes are ahead: list the intervals instead of trying each
                index = max(index, await self._first_free(index))
        self._next = index + 1
        if not self._swept or index % BUCKET == 0:
            self._swept = True
            await self._sweep(earliest)
        return index

    async def _first_free(self, index: int) -> int:
        taken = set()
        async for item in self._storage.below(self._object(index).rpartition("/")[0]):
            taken.add(int(item.path.rpartition("/")[2]))
        while index in taken:
            index += 1
        return index

    async def _sweep(self, earliest: int) -> None:
        for folder in await self._storage.folders(self._path):
            if int(folder.rpartition("/")[2]) < earliest // BUCKET - 1:
                await self._storage.drop(folder)

    def _object(self, index: int) -> str:
        return f"{self._path}/{index // BUCKET:015d}/{index:018d}"


class Meter:
    """A limit per minute of this process alone, without storage."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self._free = 0.0  # steady time from which the next unit may be spent

    async def take(self, amount: float) -> None:
        """Wait until an amount may be spent, in order of the calls; it delays the next call."""
        now = steady()
        begin = max(self._free, now - self.limit.burst / self.limit.rate)
        self._free = begin + amount / self.limit.rate
        if begin > now:
            await wait_turn(begin - now)


class Budget:
    """The shared limits of one account."""

    def __init__(self, storage: Storage, account: str) -> None:
        self._storage = storage
        self._account = sha256(account.encode()).hexdigest()[:12]
        self._lines: dict[tuple[str, str, Limit], Line] = {}

    def line(self, category: str, dimension: str, limit: Limit) -> Line:
        """The line of a limit; processes with the same limit share it."""
        key = (category, dimension, limit)
        if key not in self._lines:
            self._lines[key] = Line(self._storage, f"{self._account}/{category}-{dimension}", limit)
        return self._lines[key]

    def quota_window(
        self, category: str, dimension: str, setting: str, amount: float, seconds: float
    ) -> QuotaWindow:
        """The window of a limit per hour or day; `setting` is its name for messages."""
        path = f"budget/{self._account}/{category}-{dimension}"
        return QuotaWindow(self._storage, path, category, setting, amount, seconds)
