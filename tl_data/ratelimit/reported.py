"""The limits that the API reports in its headers, stored with the ledger for other processes and for plans.

The storage contains one small object per category of endpoints. Its path contains a hash of the base URL and
the API key. The headers give a limit, the remaining amount and the time of the reset, but not the length of
the window. The length is estimated from the longest time to a reset so far, rounded up to a second, a minute,
an hour or a day.

Stored limits may be outdated. So a process that starts with them sends its first call without delay, and the
headers of the response replace them.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256

import orjson

from tl_data.errors import LedgerError
from tl_data.object_store import Storage, steady
from tl_data.ratelimit.headers import moment, number, seconds_until
from tl_data.settings import SERVICE_URL, Settings

#: Dimensions of limits, with their names in the API's headers. In 2025, headers without name count requests.
DIMENSIONS = {"requests": ("", "request-"), "minutes": ("duration-",), "tokens": ("outputtoken-",)}

#: Factors that convert the unit of a header to the unit of the dimension: headers count seconds of video.
UNITS = {"requests": 1.0, "minutes": 1 / 60, "tokens": 1.0}

MIN_RESET = 1.0  # seconds; a nearer reset is ignored, because the headers give whole seconds
SPREAD = 120.0  # seconds; limits with a reset further away do not space the calls


@dataclass
class ReportedLimit:
    """A limit and its remaining amount, from the latest headers or from the storage."""

    limit: float
    left: float  # remaining amount
    resets: float  # steady time of the reset
    trusted: float = math.inf  # steady time until which it delays calls; infinity if from this process
    refreshing: bool = False  # a call was sent whose response replaces this limit of another process

    def due(self, began: float, cost: float) -> float:
        """The steady time at which to send a call, so that the remaining amount lasts until the reset.

        Args:
            began: the steady time at which the call began to wait.
            cost: the amount that the call uses.
        """
        now = steady()
        if self.resets <= now or self.left >= self.limit:
            return began
        if self.left < min(cost, 1.0):
            return self.resets
        if self.resets - now > SPREAD:
            return began
        share = cost / self.left * (1 - self.left / self.limit) ** 2
        return min(began + share * (self.resets - now), self.resets)

    @property
    def own(self) -> bool:
        """Whether this process received the headers. Those of another one apply until its first response."""
        return self.trusted == math.inf


def reported_limits(headers: Mapping[str, str]) -> dict[str, tuple[float, float, float]]:
    """The limits in the headers of a response by dimension: limit, remaining amount, seconds to the reset.

    Args:
        headers: with names in lower case.
    """
    limits: dict[str, tuple[float, float, float]] = {}
    if not any(name.startswith("x-ratelimit-") for name in headers):
        return limits  # most servers report no limits, and each call would parse the date
    clock = moment(headers.get("date")) or datetime.now(UTC)
    for dimension, names in DIMENSIONS.items():
        for name in names:
            limit, left, reset = (
                number(headers.get(f"x-ratelimit-{name}{field}")) for field in ("limit", "remaining", "reset")
            )
            if not limit or left is None or reset is None or min(limit, left, reset) < 0:
                continue
            until_reset = seconds_until(reset, clock)
            if until_reset > MIN_RESET:
                limits[dimension] = limit * UNITS[dimension], left * UNITS[dimension], until_reset
    return limits


log = logging.getLogger("tl_data.limits")

FORMAT = 2  # version of the stored objects; version 1 contained seconds of video in place of minutes
WINDOWS = (1.0, 60.0, 3600.0, 86400.0)  # usual lengths of a limit's window in seconds
TOLERANCE = 1.05  # factor that allows for differences of clocks and for rounded seconds


@dataclass(frozen=True)
class LimitSnapshot:
    """One limit at the time of a response. Times are Unix seconds."""

    limit: float
    left: float  # remaining amount
    resets: float  # time of the reset
    at: float  # time of the response
    longest: float = 0.0  # longest time to a reset so far, in seconds

    @property
    def window(self) -> float:
        """The estimated length of the window in seconds, at most a day."""
        return next((w for w in WINDOWS if w * TOLERANCE >= self.longest), WINDOWS[-1])

    def seconds(self, amount: float, now: float) -> float:
        """The minimum of seconds until an amount is used: `left` at once, then `limit` in each window."""
        # A reset further away than a window comes from a machine with a different clock.
        is_current = now < self.resets <= now + self.window * TOLERANCE
        excess = amount - (self.left if is_current else self.limit)
        if excess <= 0:
            return 0.0
        full_windows = math.ceil(excess / self.limit) - 1  # after the next reset
        return (self.resets - now if is_current else self.window) + full_windows * self.window


class LimitStore:
    """The stored limits of one account. They are optional, so a failure is only logged."""

    def __init__(self, storage: Storage, settings: Settings) -> None:
        account = f"{settings.base_url or SERVICE_URL}\0{settings.api_key or ''}"
        self._storage = storage
        self._folder = f"limits/{sha256(account.encode()).hexdigest()[:16]}"

    async def read(self, category: str) -> dict[str, LimitSnapshot]:
        """The stored limits of a category by dimension; {} if there are none."""
        try:
            body = await self._storage.read(f"{self._folder}/{category}")
            record = orjson.loads(body) if body is not None else {}
            if not record or record["tl_limits"] != FORMAT:
                return {}
            snapshots = {
                name: LimitSnapshot(**{k: float(v) for k, v in fields.items()})
                for name, fields in record["told"].items()
            }
            return {name: limit for name, limit in snapshots.items() if limit.limit > 0 and limit.left >= 0}
        except (LedgerError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.info("cannot read the stored limits of %s: %s", category, error)
            return {}

    async def write(self, category: str, snapshots: Mapping[str, LimitSnapshot]) -> None:
        """Store the limits of a category. The last write counts: all processes see the same headers."""
        record = {"tl_limits": FORMAT, "told": {name: asdict(each) for name, each in snapshots.items()}}
        try:
            await self._storage.write(f"{self._folder}/{category}", orjson.dumps(record))
        except LedgerError as error:
            log.info("cannot store the limits of %s: %s", category, error)


def snapshot(limit: float, left: float, until_reset: float, before: LimitSnapshot | None) -> LimitSnapshot:
    """The snapshot of a limit that was just reported.

    Args:
        left: remaining amount.
        until_reset: seconds until the reset.
        before: the previous snapshot of the limit.
    """
    now = time.time()
    longest = max(until_reset, before.longest if before and before.limit == limit else 0.0)
    return LimitSnapshot(limit, left, now + until_reset, now, longest)
