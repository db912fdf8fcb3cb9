"""The rate limiter: requests, tokens and video minutes, set or learnt from the API's own headers.

Three sources of knowledge, each used as far as it goes:

- a limit that is set (`requests_per_minute`, `video_minutes_per_day`, ...) is kept to the letter; with a
  budget, by all processes together that share the ledger. Calls and tokens of a minute are evenly apart; what
  is allowed in an hour or a day is used as it comes, and then it stops until the next one;
- what the API's headers say is left of a minute is spread over that time: nothing is held back while
  plenty is left, and less and less is sent as the end comes near. Every process sees the same number, so
  this holds for many of them, too. What is left of an hour or a day is used as it comes, and then it stops;
- refusals, where nothing else is known: see pace.py.

A refusal with a long wait stops the category for that long; a wait beyond `max_wait` seconds fails at once.
Jobs wait for the next hour, others a few minutes: `Settings.max_wait`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping

from tl_data.errors import QuotaExhausted
from tl_data.ledger.lease import fence
from tl_data.object_store import Storage, steady
from tl_data.ratelimit.aimd import AdaptiveRate
from tl_data.ratelimit.reported import (
    CLOCKS,
    COARSE,
    DIMENSIONS,
    LimitSnapshot,
    LimitStore,
    Quota,
    heard,
    quotas_of,
)
from tl_data.ratelimit.shared import Budget, Limit, Line, Meter, QuotaWindow
from tl_data.runtime.shutdown import NOTABLE, announce, wait_turn
from tl_data.settings import SERVICE_URL, Settings

SHORT = 2.0  # seconds of a wait hint up to which it means "a little slower", not "stop"
LONG = 5.0  # seconds to a reset from which a process need not feel its way to the limit
TRUST = 10.0  # seconds for which what another process heard holds calls back, without an answer of their own
KEEP = 10.0  # seconds between two times of keeping what was heard
UNLIMITED = frozenset({"read"})  # categories that the API does not count: only refusals slow them

#: Settings of limits that are spread over their time: dimension and seconds.
SPREAD_OUT = {
    "requests_per_minute": ("requests", 60.0),
    "tokens_per_minute": ("tokens", 60.0),
}
#: Settings of limits that are used as it comes.
AS_IT_COMES = {
    "requests_per_hour": ("requests", 3600.0),
    "requests_per_day": ("requests", 86400.0),
    "video_minutes_per_hour": ("minutes", 3600.0),
    "video_minutes_per_day": ("minutes", 86400.0),
    "tokens_per_hour": ("tokens", 3600.0),
    "tokens_per_day": ("tokens", 86400.0),
}


class Limiter:
    """Tells every call when it may be sent. Belongs to one event loop.

    Args:
        limits: the limits that are set, by dimension: `requests`, `minutes` or `tokens`; they hold for each
            category on its own, as the API counts them.
        allowed: those of an hour or a day that are used as it comes, by the name of their setting.
        budget: shares them with all other processes.
        memory: where what the service tells is kept, and what it told other processes is read.
        max_wait: seconds; a longer wait for a quota is an error instead.
    """

    def __init__(
        self,
        limits: Mapping[str, Limit] | None = None,
        *,
        allowed: Mapping[str, float] | None = None,
        budget: Budget | None = None,
        memory: LimitStore | None = None,
        max_wait: float = 300.0,
    ) -> None:
        self._limits, self._allowed = dict(limits or {}), dict(allowed or {})
        self._budget, self._memory = budget, memory
        self._max_wait = max_wait
        self._lanes: dict[str, _Lane] = {}

    @classmethod
    def of(cls, settings: Settings, storage: Storage | None = None) -> Limiter:
        """What the settings ask for; one budget with all who share the storage, if it is given."""
        limits = {
            dimension: Limit(amount, seconds)
            for name, (dimension, seconds) in SPREAD_OUT.items()
            if (amount := getattr(settings, name)) is not None
        }
        budget = Budget(storage, settings.base_url or SERVICE_URL) if storage is not None else None
        memory = LimitStore(storage, settings) if storage is not None else None
        return cls(
            limits, allowed=allowed_by(settings), budget=budget, memory=memory, max_wait=settings.max_wait
        )

    async def aclose(self) -> None:
        """Keep what was heard last."""
        for lane in self._lanes.values():
            await lane.keep(always=True)

    async def acquire(self, category: str, video_minutes: float = 0.0, tokens: float = 0) -> None:
        """Wait until a call may be sent that costs one request and these minutes and tokens.

        Raises:
            QuotaExhausted: nothing is left, and the reset is further away than `max_wait`.
        """
        costs = {"requests": 1.0, "minutes": video_minutes, "tokens": float(tokens)}
        await self._lane(category).acquire(costs)
        fence()  # the wait may have been longer than the claim under which the call is made

    def observe(
        self, category: str, headers: Mapping[str, str], status: int, retry_after: float | None = None
    ) -> None:
        """Learn from an answer: headers, whether it was a 429, and the wait in seconds it asked for."""
        self._lane(category).observe({k.lower(): v for k, v in headers.items()}, status, retry_after)

    def _lane(self, category: str) -> _Lane:
        if category not in self._lanes:
            counted = category not in UNLIMITED
            limits, memory = (self._limits, self._memory) if counted else ({}, None)
            allowances = allowances_of(self._allowed if counted else {}, category, self._budget)
            self._lanes[category] = _Lane(category, limits, allowances, self._budget, memory, self._max_wait)
        return self._lanes[category]


def allowed_by(settings: Settings) -> dict[str, float]:
    """The limits of an hour or a day that the settings say and that are used as it comes."""
    said = {name: getattr(settings, name) for name in AS_IT_COMES}
    return {name: amount for name, amount in said.items() if amount is not None}


def allowances_of(
    allowed: Mapping[str, float], category: str, budget: Budget | None
) -> list[tuple[str, QuotaWindow]]:
    """What is allowed to a category, with the dimension of each; shared with others through the budget."""
    if not allowed:
        return []
    shared = budget or Budget(Storage("memory:"), "")
    return [
        (dimension, shared.allowance(category, dimension, name, allowed[name], seconds))
        for name, (dimension, seconds) in AS_IT_COMES.items()
        if name in allowed
    ]


class _Lane:
    """One category of endpoints, which the API counts on its own."""

    def __init__(
        self,
        category: str,
        limits: Mapping[str, Limit],
        allowances: list[tuple[str, QuotaWindow]],
        budget: Budget | None,
        memory: LimitStore | None,
        max_wait: float,
    ) -> None:
        self._category, self._max_wait, self._allowances = category, max_wait, allowances
        self._meters: dict[str, Line | Meter] = {
            dimension: budget.line(category, dimension, limit) if budget else Meter(limit)
            for dimension, limit in limits.items()
        }
        self._pace = AdaptiveRate()
        self._paced = "requests" not in limits and category not in UNLIMITED
        self._refusals = 0.0  # share of recent calls that were refused
        self._quotas: dict[str, Quota] = {}
        self._memory, self._remembered = memory, memory is None
        self._told: dict[str, LimitSnapshot] = {}
        self._kept: tuple[float, dict[str, LimitSnapshot]] = (0.0, {})  # when, and what
        self._queue = asyncio.Lock()
        self._stop = 0.0  # steady time until which nothing is sent
        self._said = 0.0  # steady time until which people were told that calls wait

    async def acquire(self, costs: Mapping[str, float]) -> None:
        taken: list[tuple[QuotaWindow, float, int]] = []
        try:
            for dimension, allowance in self._allowances:
                if (cost := costs[dimension]) > 0:
                    taken.append((allowance, cost, await allowance.take(cost, self._max_wait)))
            await self._admitted(costs)
        except BaseException:
            for allowance, cost, window in taken:
                allowance.give_back(cost, window)
            raise

    async def _admitted(self, costs: Mapping[str, float]) -> None:
        async with self._queue:
            if not self._remembered:
                await self._remember()
            await self._resume()
            for dimension in list(self._quotas):
                if costs[dimension] > 0 and dimension not in self._meters:
                    await self._spread(dimension, costs[dimension])
        for dimension, meter in self._meters.items():
            if costs[dimension] > 0:
                await meter.take(costs[dimension])
        if self._paced:
            await self._pace.turn()
        await self.keep()
        await self._resume()

    async def _remember(self) -> None:
        """Start from what the service told other processes, as far as it still holds."""
        assert self._memory is not None
        self._remembered = True
        self._told = {**await self._memory.read(self._category), **self._told}
        self._kept = (steady(), dict(self._told))
        for dimension in (set(DIMENSIONS) & set(self._told)) - set(self._quotas):
            told = self._told[dimension]
            rest = told.resets - time.time()
            if COARSE < rest <= told.window * CLOCKS:
                self._quotas[dimension] = Quota(told.limit, told.left, steady() + rest, steady() + TRUST)
                self._pace.free = self._pace.free or (dimension == "requests" and rest > LONG)

    async def keep(self, *, always: bool = False) -> None:
        """Keep what was heard for others, now and then."""
        at, kept = self._kept
        if self._memory is not None and kept != self._told and (always or steady() - at > KEEP):
            self._kept = (steady(), dict(self._told))
            await self._memory.write(self._category, self._told)

    def observe(self, headers: Mapping[str, str], status: int, retry_after: float | None) -> None:
        for dimension, told in quotas_of(headers).items():
            self._learn(dimension, *told)
        self._quotas = {name: quota for name, quota in self._quotas.items() if quota.own}
        refused = status == 429
        self._refusals = 0.95 * self._refusals + 0.05 * refused
        if not refused:
            self._pace.answered()
        elif retry_after is not None and retry_after > SHORT:
            spread = random.uniform(0, min(retry_after / 10, 2.0))
            self._stop = max(self._stop, steady() + retry_after + spread)
        else:
            # Within a limit that was set a refusal is bad luck; many mean that it was set too high.
            self._paced = self._paced or "requests" not in self._meters or self._refusals > 0.15
            self._pace.refused()

    async def _resume(self) -> None:
        """Wait out a stop."""
        while (wait := self._stop - steady()) > 0:
            if wait > self._max_wait:
                raise QuotaExhausted(
                    f"the limit of the category '{self._category}' is used up for another {wait:,.0f} s; "
                    "run again then: what is done is not paid for again",
                    "too_many_requests",
                    429,
                    None,
                    wait,
                )
            self._announce(self._stop, wait)
            await wait_turn(min(wait, 1.0), wait)

    async def _spread(self, dimension: str, cost: float) -> None:
        """Leave as much time before a call as makes what is left last until the reset."""
        began = steady()
        while True:
            quota = self._quotas.get(dimension)  # looked up again: answers arrive meanwhile
            if quota is None or steady() > quota.trusted:
                self._quotas.pop(dimension, None)
                return
            if not (quota.own or quota.asked):
                quota.asked = True  # one call is let through: its answer says what holds by now
                return
            wait = quota.due(began, cost) - steady()
            if wait <= 0:
                quota.left -= cost
                return
            if wait > self._max_wait and quota.own:
                self._stop = max(self._stop, steady() + wait)
                await self._resume()
            self._announce(quota.resets, wait)
            await wait_turn(min(wait, 1.0 if quota.own else 0.1), wait)

    def _announce(self, resets: float, wait: float) -> None:
        """Tell once of each time that is waited for."""
        if wait > NOTABLE and resets > self._said + COARSE:
            self._said = resets
            announce(f"the limit of the category '{self._category}'", wait)

    def _learn(self, dimension: str, limit: float, left: float, rest: float) -> None:
        was, resets = self._quotas.get(dimension), steady() + rest
        self._told[dimension] = heard(limit, left, rest, self._told.get(dimension))
        if was is not None and was.own and was.limit == limit and abs(was.resets - resets) < 2.0:
            left = min(left, was.left)  # answers overtake each other, and more calls are under way
        self._quotas[dimension] = Quota(limit, left, resets)
        if dimension == "requests" and rest > LONG:
            self._pace.free = True  # what is told of a minute can be kept to; of a second, it is past
