"""The rate limiter for requests, tokens and video minutes.

It combines three sources:

- Configured limits (`requests_per_minute`, `video_minutes_per_day`, ...) are never exceeded; with a budget,
  by all processes together that share the ledger. Limits per minute space the calls evenly. Limits per hour
  or day are used without spacing; when they are exhausted, calls wait for the next hour or day.
- The remaining amount in the API's headers. Short limits are spread over the time to their reset: calls are
  not delayed while much remains, and more and more toward the end. Every process sees the same number, so
  this also works for many of them. Limits per hour or day are used without spacing.
- 429s, where no limit is known: see `aimd`.

A 429 with a long wait stops the category for that time. A wait longer than `Settings.max_wait` fails at once.
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
    DIMENSIONS,
    MIN_RESET,
    TOLERANCE,
    LimitSnapshot,
    LimitStore,
    Quota,
    quotas_of,
    snapshot,
)
from tl_data.ratelimit.shared import Budget, Limit, Line, Meter, QuotaWindow
from tl_data.runtime.shutdown import NOTABLE, announce, wait_turn
from tl_data.settings import SERVICE_URL, Settings

SHORT_WAIT = 2.0  # seconds; a shorter Retry-After reduces the rate, a longer one stops the category
LONG_RESET = 5.0  # seconds; with a reset this far away, the headers suffice and no adaptive rate is needed
TRUST_SECONDS = 10.0  # seconds for which limits that another process stored delay calls
STORE_INTERVAL = 10.0  # seconds between writes of the reported limits
UNLIMITED = frozenset({"read"})  # categories without a limit of the API; only 429s slow them

#: Settings of limits whose calls are spaced evenly: dimension and seconds.
PER_MINUTE = {
    "requests_per_minute": ("requests", 60.0),
    "tokens_per_minute": ("tokens", 60.0),
}
#: Settings of limits that are used without spacing.
PER_HOUR_OR_DAY = {
    "requests_per_hour": ("requests", 3600.0),
    "requests_per_day": ("requests", 86400.0),
    "video_minutes_per_hour": ("minutes", 3600.0),
    "video_minutes_per_day": ("minutes", 86400.0),
    "tokens_per_hour": ("tokens", 3600.0),
    "tokens_per_day": ("tokens", 86400.0),
}


class Limiter:
    """Delays each call until the limits allow it. Belongs to one event loop.

    Args:
        limits: configured limits by dimension (`requests`, `minutes`, `tokens`). They apply to each category
            separately, as the API counts them.
        quotas: configured limits per hour or day, by the name of the setting.
        budget: shares the limits with all other processes.
        store: keeps the limits that the service reports, for all processes.
        max_wait: seconds; a longer wait raises QuotaExhausted.
    """

    def __init__(
        self,
        limits: Mapping[str, Limit] | None = None,
        *,
        quotas: Mapping[str, float] | None = None,
        budget: Budget | None = None,
        store: LimitStore | None = None,
        max_wait: float = 300.0,
    ) -> None:
        self._limits, self._quota_settings = dict(limits or {}), dict(quotas or {})
        self._budget, self._store = budget, store
        self._max_wait = max_wait
        self._lanes: dict[str, _Lane] = {}

    @classmethod
    def of(cls, settings: Settings, storage: Storage | None = None) -> Limiter:
        """Create the limiter for the settings; limits are shared with all processes that use the storage."""
        limits = {
            dimension: Limit(amount, seconds)
            for name, (dimension, seconds) in PER_MINUTE.items()
            if (amount := getattr(settings, name)) is not None
        }
        budget = Budget(storage, settings.base_url or SERVICE_URL) if storage is not None else None
        store = LimitStore(storage, settings) if storage is not None else None
        return cls(
            limits, quotas=quota_settings(settings), budget=budget, store=store, max_wait=settings.max_wait
        )

    async def aclose(self) -> None:
        """Store the latest reported limits."""
        for lane in self._lanes.values():
            await lane.store_snapshots(always=True)

    async def acquire(self, category: str, video_minutes: float = 0.0, tokens: float = 0) -> None:
        """Wait until the limits allow a call of one request and these minutes and tokens.

        Raises:
            QuotaExhausted: a limit is exhausted, and its reset is further away than `max_wait`.
        """
        costs = {"requests": 1.0, "minutes": video_minutes, "tokens": float(tokens)}
        await self._lane(category).acquire(costs)
        fence()  # the lease of the call may have expired during the wait

    def observe(
        self, category: str, headers: Mapping[str, str], status: int, retry_after: float | None = None
    ) -> None:
        """Update the limits from a response: its headers, its status and its Retry-After in seconds."""
        self._lane(category).observe({k.lower(): v for k, v in headers.items()}, status, retry_after)

    def _lane(self, category: str) -> _Lane:
        if category not in self._lanes:
            counted = category not in UNLIMITED
            limits, store = (self._limits, self._store) if counted else ({}, None)
            windows = quota_windows(self._quota_settings if counted else {}, category, self._budget)
            self._lanes[category] = _Lane(category, limits, windows, self._budget, store, self._max_wait)
        return self._lanes[category]


def quota_settings(settings: Settings) -> dict[str, float]:
    """The limits per hour or day in the settings, by the name of the setting."""
    amounts = {name: getattr(settings, name) for name in PER_HOUR_OR_DAY}
    return {name: amount for name, amount in amounts.items() if amount is not None}


def quota_windows(
    quotas: Mapping[str, float], category: str, budget: Budget | None
) -> list[tuple[str, QuotaWindow]]:
    """A category's windows of the limits per hour or day, with their dimensions."""
    if not quotas:
        return []
    shared = budget or Budget(Storage("memory:"), "")
    return [
        (dimension, shared.quota_window(category, dimension, name, quotas[name], seconds))
        for name, (dimension, seconds) in PER_HOUR_OR_DAY.items()
        if name in quotas
    ]


class _Lane:
    """One category of endpoints, whose limits the API counts separately."""

    def __init__(
        self,
        category: str,
        limits: Mapping[str, Limit],
        windows: list[tuple[str, QuotaWindow]],
        budget: Budget | None,
        store: LimitStore | None,
        max_wait: float,
    ) -> None:
        self._category, self._max_wait, self._windows = category, max_wait, windows
        self._meters: dict[str, Line | Meter] = {
            dimension: budget.line(category, dimension, limit) if budget else Meter(limit)
            for dimension, limit in limits.items()
        }
        self._rate = AdaptiveRate()
        self._adaptive = "requests" not in limits and category not in UNLIMITED
        self._refusals = 0.0  # moving average of the share of 429s
        self._quotas: dict[str, Quota] = {}
        self._store, self._loaded = store, store is None
        self._snapshots: dict[str, LimitSnapshot] = {}
        self._stored: tuple[float, dict[str, LimitSnapshot]] = (0.0, {})  # when, and what
        self._queue = asyncio.Lock()
        self._blocked_until = 0.0  # steady time
        self._announced_until = 0.0  # steady time of the last wait that was logged

    async def acquire(self, costs: Mapping[str, float]) -> None:
        taken: list[tuple[QuotaWindow, float, int]] = []
        try:
            for dimension, window in self._windows:
                if (cost := costs[dimension]) > 0:
                    taken.append((window, cost, await window.take(cost, self._max_wait)))
            await self._wait_for_turn(costs)
        except BaseException:
            for window, cost, number in taken:
                window.give_back(cost, number)
            raise

    async def _wait_for_turn(self, costs: Mapping[str, float]) -> None:
        async with self._queue:
            if not self._loaded:
                await self._load()
            await self._wait_until_unblocked()
            for dimension in list(self._quotas):
                if costs[dimension] > 0 and dimension not in self._meters:
                    await self._spread(dimension, costs[dimension])
        for dimension, meter in self._meters.items():
            if costs[dimension] > 0:
                await meter.take(costs[dimension])
        if self._adaptive:
            await self._rate.turn()
        await self.store_snapshots()
        await self._wait_until_unblocked()

    async def _load(self) -> None:
        """Start from the limits that other processes stored, if they are still current."""
        assert self._store is not None
        self._loaded = True
        self._snapshots = {**await self._store.read(self._category), **self._snapshots}
        self._stored = (steady(), dict(self._snapshots))
        for dimension in (set(DIMENSIONS) & set(self._snapshots)) - set(self._quotas):
            stored = self._snapshots[dimension]
            rest = stored.resets - time.time()
            if MIN_RESET < rest <= stored.window * TOLERANCE:
                trusted = steady() + TRUST_SECONDS
                self._quotas[dimension] = Quota(stored.limit, stored.left, steady() + rest, trusted)
                self._rate.free = self._rate.free or (dimension == "requests" and rest > LONG_RESET)

    async def store_snapshots(self, *, always: bool = False) -> None:
        """Store the reported limits for other processes, at most once per interval."""
        at, stored = self._stored
        if (
            self._store is not None
            and stored != self._snapshots
            and (always or steady() - at > STORE_INTERVAL)
        ):
            self._stored = (steady(), dict(self._snapshots))
            await self._store.write(self._category, self._snapshots)

    def observe(self, headers: Mapping[str, str], status: int, retry_after: float | None) -> None:
        for dimension, reported in quotas_of(headers).items():
            self._update_quota(dimension, *reported)
        self._quotas = {name: quota for name, quota in self._quotas.items() if quota.own}
        refused = status == 429
        self._refusals = 0.95 * self._refusals + 0.05 * refused
        if not refused:
            self._rate.record_success()
        elif retry_after is not None and retry_after > SHORT_WAIT:
            spread = random.uniform(0, min(retry_after / 10, 2.0))
            self._blocked_until = max(self._blocked_until, steady() + retry_after + spread)
        else:
            # With a configured limit a single 429 is ignored; many mean that it is set too high.
            self._adaptive = self._adaptive or "requests" not in self._meters or self._refusals > 0.15
            self._rate.refused()

    async def _wait_until_unblocked(self) -> None:
        """Wait until the end of a stop that a 429 or an exhausted limit caused."""
        while (wait := self._blocked_until - steady()) > 0:
            if wait > self._max_wait:
                raise QuotaExhausted(
                    f"the limit of the category '{self._category}' is exhausted for another {wait:,.0f} s; "
                    "run again then. Finished work is not charged again",
                    "too_many_requests",
                    429,
                    None,
                    wait,
                )
            self._announce(self._blocked_until, wait)
            await wait_turn(min(wait, 1.0), wait)

    async def _spread(self, dimension: str, cost: float) -> None:
        """Delay a call so that the remaining amount lasts until the reset."""
        began = steady()
        while True:
            quota = self._quotas.get(dimension)  # may change during the wait, with other responses
            if quota is None or steady() > quota.trusted:
                self._quotas.pop(dimension, None)
                return
            if not (quota.own or quota.asked):
                quota.asked = True  # the response of one call replaces the stored limits
                return
            wait = quota.due(began, cost) - steady()
            if wait <= 0:
                quota.left -= cost
                return
            if wait > self._max_wait and quota.own:
                self._blocked_until = max(self._blocked_until, steady() + wait)
                await self._wait_until_unblocked()
            self._announce(quota.resets, wait)
            await wait_turn(min(wait, 1.0 if quota.own else 0.1), wait)

    def _announce(self, resets: float, wait: float) -> None:
        """Log a wait, once for each reset."""
        if wait > NOTABLE and resets > self._announced_until + MIN_RESET:
            self._announced_until = resets
            announce(f"the limit of the category '{self._category}'", wait)

    def _update_quota(self, dimension: str, limit: float, left: float, rest: float) -> None:
        was, resets = self._quotas.get(dimension), steady() + rest
        self._snapshots[dimension] = snapshot(limit, left, rest, self._snapshots.get(dimension))
        if was is not None and was.own and was.limit == limit and abs(was.resets - resets) < 2.0:
            left = min(left, was.left)  # responses arrive out of order, and other calls are in flight
        self._quotas[dimension] = Quota(limit, left, resets)
        if dimension == "requests" and rest > LONG_RESET:
            self._rate.free = True  # the headers suffice for long windows; for short ones they are outdated
