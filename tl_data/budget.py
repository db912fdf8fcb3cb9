"""One budget for all processes that share a ledger: the allowed rate as a line of time, leased in pieces.

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
from hashlib import sha256

from tl_data.allowance import Allowance
from tl_data.patience import NOTABLE, pause
from tl_data.storage import Storage, steady

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
            await pause(seconds)
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
            await pause(begin - now)


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
    ) -> Allowance:
        """What a category may use as it comes in an hour or a day; `setting` says it."""
        path = f"budget/{self._account}/{category}-{dimension}"
        return Allowance(self._storage, path, category, setting, amount, seconds)
