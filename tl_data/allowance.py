"""So much an hour or a day, for all processes that share a ledger: used as it comes, and then it stops.

A minute's limit is a line of time in which every call waits for its place (budget.py). What is allowed in an
hour or a day is there to be used up: it is cut into numbered tickets of equal worth, anew at each full hour
or at midnight UTC. Who creates the object of a ticket first has it. No ticket exists twice, so the sum cannot
exceed the limit, and what a process that died had not used is free again in the next hour or day.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from tl_data.errors import QuotaExhausted
from tl_data.patience import NOTABLE, announce, pause
from tl_data.storage import Storage
from tl_data.told import Told

TICKETS = 1000  # that a limit is cut into at most
DUST = 1e-9  # part of a limit that sums of fractions may miss


class Allowance:
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
                await pause(min(wait, 1.0) + 0.01, wait)

    def give_back(self, amount: float, window: int) -> None:
        """What was taken of that hour or day was not used: the call was given up before it was sent."""
        if window == self._window:
            self._left += min(amount, self._amount)

    async def told(self) -> Told:
        """The limit and what is left of it now, in the form of what the service tells of its own."""
        now = await self._turn()
        left = self._amount - await self._taken() * self._worth + self._left
        return Told(self._amount, max(left, 0.0), (self._window + 1) * self._seconds, now, self._seconds)

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
