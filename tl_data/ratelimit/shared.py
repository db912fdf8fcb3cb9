"""So much an hour or a day, for all processes that share a ledger: used as it comes, and then it stops.

A minute's limit is a line of time in which every call waits for its place (budget.py). What is allowed in an
hour or a day is there to be used up: it is cut into numbered tickets of equal worth, anew at each full hour
or at midnight UTC. Who creates the object of a ticket first has it. No ticket exists twice, so the sum cannot
exceed the limit, and what a process that died had not used is free again in the next hour or day.

One budget for all processes that share a ledger: the allowed rate as a line of time, leased in pieces.

The line is cut into intervals, each worth a fixed amount; interval 7 of a line that starts at 0 with 0.1
seconds each may be spent from 0.7 on. Who creates the object of an interval first has leased what it is
worth. Nobody needs to know the others, there is no counter to update, a lease of a process that died
passes by itself, and the sum cannot exceed the rate, because no interval exists twice.
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

TICKETS = 1000  # that a limit is cut into at most
DUST = 1e-9  # part of a limit that sums of fractions may miss


class QuotaWindow:
    """One limit of one account, shared through a store.

    Args:
        path: of its tickets in the store.
        category: of endpoints, which the API counts on its own.
        setting: the name of the setting that says it.
        amount: in `seconds`, which are an hour or a day.
    """

    def __init__(
        self, storage: Storage, path: str, category: str, setting: str, amount: float, seconds: float
    ) -> None:
        self._storage, self._category, self._setting = storage, category, setting
        self._amount, self._seconds = amount, seconds
        self._path = f"{path}-{amount:g}-in-{seconds:g}s"
        self._count = max(1, min(TICKETS, int(amount)))
        self._worth = amount / self._count
        self._window = self._waited = -1  # the hour or day, counted from 1970; and whose end was waited for
        self._next = 0  # no ticket before this one can be free
        self._left = 0.0  # of the tickets that are held
        self._line = asyncio.Lock()

    async def take(self, amount: float, max_wait: float) -> int:
        """Take so much, first come first served; more than all of it takes all of it. Gives the hour or day.

        Raises:
            QuotaExhausted: too little is left, and the next hour or day is further away than `max_wait`.
        """
        needed = min(amount, self._amount) - DUST * self._amount
        async with self._line:
            while True:
                now = await self._turn()
                while self._left < needed and await self._ticket():
                    self._left += self._worth
                if self._left >= needed:
                    self._left -= min(amount, self._amount)
                    return self._window
                wait = (self._window + 1) * self._seconds - now
                if wait > max_wait:
                    raise self._used_up(wait)
                if wait > NOTABLE and self._waited != self._window:
                    self._waited = self._window
                    announce(f"{self._setting} = {self._amount:g} for '{self._category}'", wait)
                await wait_turn(min(wait, 1.0) + 0.01, wait)

    def give_back(self, amount: float, window: int) -> None:
        """What was taken of that hour or day was not used: the call was given up before it was sent."""
        if window == self._window:
            self._left += min(amount, self._amount)

    async def told(self) -> LimitSnapshot:
        """The limit and what is left of it now, in the form of what the service tells of its own."""
        now = await self._turn()
        left = self._amount - await self._taken() * self._worth + self._left
        return LimitSnapshot(
            self._amount, max(left, 0.0), (self._window + 1) * self._seconds, now, self._seconds
        )

    async def _turn(self) -> float:
        """The time by the store's clock, and a new beginning when another hour or day has begun."""
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
            if refused == 2:  # others are far ahead: one look at the list instead of a try each
                self._next = max(self._next, await self._taken())
        return False

    async def _taken(self) -> int:
        """How many tickets are taken: they are, in order, from the first one on."""
        return len([item async for item in self._storage.below(self._folder)])

    async def _sweep(self) -> None:
        for folder in await self._storage.folders(self._path):
            if folder < self._folder:
                await self._storage.drop(folder)

    @property
    def _folder(self) -> str:
        return f"{self._path}/{self._window:012d}"

    def _used_up(self, wait: float) -> QuotaExhausted:
        until = datetime.fromtimestamp((self._window + 1) * self._seconds, UTC)
        return QuotaExhausted(
            f"too little is left of {self._setting} = {self._amount:g} for the category '{self._category}' "
            f"until {until:%Y-%m-%d %H:%M} UTC; run again then, or set it higher: what is done is not paid "
            "for again",
            "limit_used_up",
            None,
            None,
            wait,
        )


log = logging.getLogger("tl_data.limits")

AHEAD = 0.25  # seconds that leases are taken before they may be spent; hides the time a store takes
BUCKET = 250  # intervals a folder: old ones are removed as a whole


@dataclass(frozen=True)
class Limit:
    """So much in so many seconds. `burst`: what may be spent at once after a time of rest."""

    amount: float
    seconds: float
    burst: float = 0.0

    @property
    def rate(self) -> float:
        """A second."""
        return self.amount / self.seconds


class Line:
    """One limit of one account, shared through a store."""

    def __init__(self, storage: Storage, name: str, limit: Limit) -> None:
        self._storage, self.limit = storage, limit
        # A bucket answers in tens of milliseconds: larger pieces there, at the same number of writes.
        shortest = 0.04 if storage.folder is not None else 0.5
        whole = 1.0 if limit.seconds <= 60 and limit.rate * shortest >= 1 else 0.0
        self._worth = max(limit.rate * shortest, limit.amount / 600, 1.0 if limit.seconds <= 60 else 0.0)
        self._worth = float(int(self._worth)) if whole else self._worth
        self._interval = self._worth / limit.rate
        self._path = f"budget/{name}-{limit.amount:g}-in-{limit.seconds:g}s"
        self._next = 0  # no interval before this one can be free
        self._leased: deque[tuple[float, float]] = deque()  # from when (store time), how much
        self._line = asyncio.Lock()
        self._what, self._told = name.rpartition("-")[2], False
        self._swept = False

    async def take(self, amount: float) -> None:
        """Wait until so much may be spent, first come first served; what does not fit now delays the next."""
        async with self._line:
            begin, got = None, 0.0
            while got < amount or begin is None:
                start, worth = await self._piece()
                begin = start if begin is None else begin
                got += worth
            if got > amount:
                self._leased.appendleft((start + (worth - got + amount) / self.limit.rate, got - amount))
            wait = begin - await self._storage.now()
            if wait > AHEAD:
                self._tell(wait)
                await self._pause(wait - AHEAD, begin, amount)
        if wait > 0:
            await self._pause(min(wait, AHEAD), begin, amount)

    def _tell(self, wait: float) -> None:
        """Say once that calls wait long for their turn: nothing seems to go on meanwhile."""
        if wait > NOTABLE and not self._told:
            self._told = True
            limit = f"{self.limit.amount:g} {self._what} in {self.limit.seconds:g} s"
            log.warning("the limit of %s makes calls wait for their turn: this one %.0f s", limit, wait)

    async def _pause(self, seconds: float, begin: float, amount: float) -> None:
        try:
            await wait_turn(seconds)
        except asyncio.CancelledError:
            self._leased.appendleft((begin, amount))
            raise

    async def _piece(self) -> tuple[float, float]:
        """The next leased piece that has not passed; a new one if there is none."""
        now = await self._storage.now()
        late = max(self._interval, 0.5)
        while self._leased:
            start, worth = self._leased.popleft()
            if start + worth / self.limit.rate + late > now:
                return start, worth
        index = await self._lease(now)
        return index * self._interval, self._worth

    async def _lease(self, now: float) -> int:
        """Lease the first free interval that is not in the past."""
        earliest = int((now - self.limit.burst / self.limit.rate) / self._interval)
        index = max(self._next, earliest)
        refused = 0
        while not await self._storage.create(self._object(index), b""):
            index += 1
            refused += 1
            if refused == 2:  # others are far ahead: one look at the list instead of a try each
                index = max(index, await self._front(index))
        self._next = index + 1
        if not self._swept or index % BUCKET == 0:
            self._swept = True
            await self._sweep(earliest)
        return index

    async def _front(self, index: int) -> int:
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
    """A limit that this process keeps on its own: as a line of the budget, without the store."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self._free = 0.0  # steady time from which the next unit may be spent

    async def take(self, amount: float) -> None:
        """Wait until so much may be spent, first come first served; it delays the next."""
        now = steady()
        begin = max(self._free, now - self.limit.burst / self.limit.rate)
        self._free = begin + amount / self.limit.rate
        if begin > now:
            await wait_turn(begin - now)


class Budget:
    """The lines of one account."""

    def __init__(self, storage: Storage, account: str) -> None:
        self._storage = storage
        self._account = sha256(account.encode()).hexdigest()[:12]
        self._lines: dict[tuple[str, str, Limit], Line] = {}

    def line(self, category: str, dimension: str, limit: Limit) -> Line:
        """The line of one limit; the same one for every process that says the same limit."""
        key = (category, dimension, limit)
        if key not in self._lines:
            self._lines[key] = Line(self._storage, f"{self._account}/{category}-{dimension}", limit)
        return self._lines[key]

    def allowance(
        self, category: str, dimension: str, setting: str, amount: float, seconds: float
    ) -> QuotaWindow:
        """What a category may use as it comes in an hour or a day; `setting` says it."""
        path = f"budget/{self._account}/{category}-{dimension}"
        return QuotaWindow(self._storage, path, category, setting, amount, seconds)
