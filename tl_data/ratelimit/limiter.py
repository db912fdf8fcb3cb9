"""The rate limiter for requests, tokens and video minutes.

The API counts the calls of each category of endpoints separately, and so does the limiter. It combines three
sources:

- Configured limits (`requests_per_minute`, `video_minutes_per_day`, ...) are never exceeded by the expected
  amounts of the calls. A call may use more than expected: the length of its video may be unknown, and its
  answer longer. With `SharedLimits`, a limit applies to the sum of all processes that share the ledger.
  Limits per minute space the calls evenly. Limits per hour or day do not space the calls; when they are
  exhausted, calls wait for the next hour or day.
- The API's headers report the remaining amount of a limit. For a limit with a near reset, calls are spaced so
  that this amount lasts until the reset: there is no delay while much remains, and the delay grows as less
  remains. This also works with many processes, because all of them see the same amount. A limit whose
  reset is more than `reported.SPREAD` away does not space the calls; when it is exhausted, calls wait.
- If `requests_per_minute` is not set, the rate adapts to 429s: see `aimd`. If it is set, the rate adapts only
  after many 429s.

A 429 that asks for a long wait stops the calls of the category for that time. If the wait is longer than
`Settings.max_wait`, they fail at once.
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
    ReportedLimit,
    reported_limits,
    snapshot,
)
from tl_data.ratelimit.shared import Limit, LocalMinuteLimit, MinuteLimit, QuotaWindow, SharedLimits
from tl_data.runtime.shutdown import LONG_WAIT, log_wait, wait_for_limit
from tl_data.settings import SERVICE_URL, Settings

SHORT_WAIT = 2.0  # seconds; a shorter Retry-After reduces the rate, a longer one stops the category
LONG_RESET = 5.0  # seconds; with a reset this far away, the headers suffice and no adaptive rate is needed
TRUST_SECONDS = 10.0  # seconds for which the stored limits of another process may delay calls
STORE_INTERVAL = 10.0  # minimum of seconds between two writes of the reported limits
#: Categories to which configured limits do not apply; only reported limits and 429s slow them down.
UNLIMITED = frozenset({"read"})

#: Settings of limits whose calls are spaced evenly, with the limited dimension and the seconds of the window.
PER_MINUTE = {
    "requests_per_minute": ("requests", 60.0),
    "tokens_per_minute": ("tokens", 60.0),
}
#: Settings of limits that do not space the calls, with the limited dimension and the seconds of the window.
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
        shared: shares the configured limits with all other processes; None: they apply to this process alone.
        store: stores the limits that the service reports, for other processes.
        max_wait: longest wait in seconds; a longer one raises QuotaExhausted.
    """

    def __init__(
        self,
        limits: Mapping[str, Limit] | None = None,
        *,
        quotas: Mapping[str, float] | None = None,
        shared: SharedLimits | None = None,
        store: LimitStore | None = None,
        max_wait: float = 300.0,
    ) -> None:
        self._limits, self._quota_settings = dict(limits or {}), dict(quotas or {})
        self._shared, self._store = shared, store
        self._max_wait = max_wait
        self._categories: dict[str, _CategoryLimiter] = {}

    @classmethod
    def of(cls, settings: Settings, storage: Storage | None = None) -> Limiter:
        """Create the limiter for the settings. All processes that use the storage share the limits."""
        limits = {
            dimension: Limit(amount, seconds)
            for name, (dimension, seconds) in PER_MINUTE.items()
            if (amount := getattr(settings, name)) is not None
        }
        shared = SharedLimits(storage, settings.base_url or SERVICE_URL) if storage is not None else None
        store = LimitStore(storage, settings) if storage is not None else None
        return cls(
            limits, quotas=quota_settings(settings), shared=shared, store=store, max_wait=settings.max_wait
        )

    async def aclose(self) -> None:
        """Store the latest reported limits."""
        for category_limiter in self._categories.values():
            await category_limiter.store_snapshots(always=True)

    async def acquire(self, category: str, video_minutes: float = 0.0, tokens: float = 0) -> None:
        """Wait until the limits allow a call with these expected minutes of video and tokens.

        Raises:
            QuotaExhausted: a limit is exhausted, and its reset is further away than `max_wait`.
        """
        costs = {"requests": 1.0, "minutes": video_minutes, "tokens": float(tokens)}
        await self._category_limiter(category).acquire(costs)
        fence()  # fail if the lease of the call has expired during the wait

    def observe(
        self, category: str, headers: Mapping[str, str], status: int, retry_after: float | None = None
    ) -> None:
        """Update the limits from a response: its headers, its status and its Retry-After in seconds."""
        self._category_limiter(category).observe(
            {k.lower(): v for k, v in headers.items()}, status, retry_after
        )

    def _category_limiter(self, category: str) -> _CategoryLimiter:
        if category not in self._categories:
            counted = category not in UNLIMITED
            limits, store = (self._limits, self._store) if counted else ({}, None)
            windows = quota_windows(self._quota_settings if counted else {}, category, self._shared)
            self._categories[category] = _CategoryLimiter(
                category, limits, windows, self._shared, store, self._max_wait
            )
        return self._categories[category]


def quota_settings(settings: Settings) -> dict[str, float]:
    """The limits per hour or day in the settings, by the name of the setting."""
    amounts = {name: getattr(settings, name) for name in PER_HOUR_OR_DAY}
    return {name: amount for name, amount in amounts.items() if amount is not None}


def quota_windows(
    quotas: Mapping[str, float], category: str, shared: SharedLimits | None
) -> list[tuple[str, QuotaWindow]]:
    """The windows of a category for its limits per hour or day, each with the limited dimension."""
    if not quotas:
        return []
    shared = shared or SharedLimits(Storage("memory:"), "")
    return [
        (dimension, shared.quota_window(category, dimension, name, quotas[name], seconds))
        for name, (dimension, seconds) in PER_HOUR_OR_DAY.items()
        if name in quotas
    ]


class _CategoryLimiter:
    """The limits of one category of endpoints. The API counts each category separately."""

    def __init__(
        self,
        category: str,
        limits: Mapping[str, Limit],
        windows: list[tuple[str, QuotaWindow]],
        shared: SharedLimits | None,
        store: LimitStore | None,
        max_wait: float,
    ) -> None:
        self._category, self._max_wait, self._windows = category, max_wait, windows
        self._minute_limits: dict[str, MinuteLimit | LocalMinuteLimit] = {
            dimension: shared.minute_limit(category, dimension, limit) if shared else LocalMinuteLimit(limit)
            for dimension, limit in limits.items()
        }
        self._rate = AdaptiveRate()
        self._adaptive = "requests" not in limits and category not in UNLIMITED
        self._refusals = 0.0  # moving average of the share of 429s among the responses
        self._reported: dict[str, ReportedLimit] = {}
        self._store, self._loaded = store, store is None
        self._snapshots: dict[str, LimitSnapshot] = {}
        self._stored: tuple[float, dict[str, LimitSnapshot]] = (0.0, {})  # time and content of the last write
        self._queue = asyncio.Lock()
        self._blocked_until = 0.0  # steady time until which no call may be sent
        self._announced_until = 0.0  # steady time at which the last logged wait ends

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
        """Wait until the limits allow a call. The limits per hour or day are checked before."""
        async with self._queue:
            if not self._loaded:
                await self._load()
            await self._wait_until_unblocked()
            for dimension in list(self._reported):
                if costs[dimension] > 0 and dimension not in self._minute_limits:
                    await self._spread(dimension, costs[dimension])
        for dimension, minute_limit in self._minute_limits.items():
            if costs[dimension] > 0:
                await minute_limit.take(costs[dimension])
        if self._adaptive:
            await self._rate.turn()
        await self.store_snapshots()
        await self._wait_until_unblocked()

    async def _load(self) -> None:
        """Start from the limits that other processes stored, unless their reset has passed."""
        assert self._store is not None
        self._loaded = True
        self._snapshots = {**await self._store.read(self._category), **self._snapshots}
        self._stored = (steady(), dict(self._snapshots))
        for dimension in (set(DIMENSIONS) & set(self._snapshots)) - set(self._reported):
            stored = self._snapshots[dimension]
            until_reset = stored.resets - time.time()
            if MIN_RESET < until_reset <= stored.window * TOLERANCE:
                trusted = steady() + TRUST_SECONDS
                self._reported[dimension] = ReportedLimit(
                    stored.limit, stored.left, steady() + until_reset, trusted
                )
                self._rate.free = self._rate.free or (dimension == "requests" and until_reset > LONG_RESET)

    async def store_snapshots(self, *, always: bool = False) -> None:
        """Store the reported limits for other processes, at most once in `STORE_INTERVAL` seconds."""
        stored_at, stored = self._stored
        if (
            self._store is not None
            and stored != self._snapshots
            and (always or steady() - stored_at > STORE_INTERVAL)
        ):
            self._stored = (steady(), dict(self._snapshots))
            await self._store.write(self._category, self._snapshots)

    def observe(self, headers: Mapping[str, str], status: int, retry_after: float | None) -> None:
        for dimension, values in reported_limits(headers).items():
            self._update_reported(dimension, *values)
        self._reported = {name: reported for name, reported in self._reported.items() if reported.own}
        refused = status == 429
        self._refusals = 0.95 * self._refusals + 0.05 * refused
        if not refused:
            self._rate.record_success()
        elif retry_after is not None and retry_after > SHORT_WAIT:
            spread = random.uniform(0, min(retry_after / 10, 2.0))
            self._blocked_until = max(self._blocked_until, steady() + retry_after + spread)
        else:
            # With a configured limit, a single 429 is ignored. Many mean that the limit is set too high.
            self._adaptive = self._adaptive or "requests" not in self._minute_limits or self._refusals > 0.15
            self._rate.record_refusal()

    async def _wait_until_unblocked(self) -> None:
        """Wait while a 429 or an exhausted limit stops the calls of the category."""
        while (wait := self._blocked_until - steady()) > 0:
            if wait > self._max_wait:
                raise QuotaExhausted(
                    f"the limit of the category '{self._category}' is exhausted for another {wait:,.0f} s; "
                    "run again then. Answers in the ledger are not charged again",
                    "too_many_requests",
                    429,
                    None,
                    wait,
                )
            self._announce(self._blocked_until, wait)
            await wait_for_limit(min(wait, 1.0), wait)

    async def _spread(self, dimension: str, cost: float) -> None:
        """Delay a call so that the remaining amount of a limit lasts until its reset."""
        began = steady()
        while True:
            reported = self._reported.get(dimension)  # responses to other calls may replace it meanwhile
            if reported is None or steady() > reported.trusted:
                self._reported.pop(dimension, None)
                return
            if not (reported.own or reported.refreshing):
                reported.refreshing = True  # this call is not delayed; its response replaces the limits
                return
            wait = reported.due(began, cost) - steady()
            if wait <= 0:
                reported.left -= cost
                return
            if wait > self._max_wait and reported.own:
                self._blocked_until = max(self._blocked_until, steady() + wait)
                await self._wait_until_unblocked()
            self._announce(reported.resets, wait)
            await wait_for_limit(min(wait, 1.0 if reported.own else 0.1), wait)

    def _announce(self, resets: float, wait: float) -> None:
        """Log a wait, once for each reset."""
        if wait > LONG_WAIT and resets > self._announced_until + MIN_RESET:
            self._announced_until = resets
            log_wait(f"the limit of the category '{self._category}'", wait)

    def _update_reported(self, dimension: str, limit: float, left: float, until_reset: float) -> None:
        """Update a limit with the values in the headers of a response."""
        before, resets = self._reported.get(dimension), steady() + until_reset
        self._snapshots[dimension] = snapshot(limit, left, until_reset, self._snapshots.get(dimension))
        if before is not None and before.own and before.limit == limit and abs(before.resets - resets) < 2.0:
            left = min(left, before.left)  # responses arrive out of order, and other calls are running
        self._reported[dimension] = ReportedLimit(limit, left, resets)
        if dimension == "requests" and until_reset > LONG_RESET:
            self._rate.free = True  # the headers suffice for long windows; for short ones they come too late
