"""The limits that the API reports in its headers, kept beside the ledger for other processes and plans.

There is one small object per category of endpoints, under a hash of base URL and API key. The headers give a
limit, the remaining amount and the time of the reset, but not the length of the window. It is estimated from
the longest time to a reset seen so far, rounded up to a second, a minute, an hour or a day.

Stored limits may be outdated. A process that starts from them sends its first call without delay, and the
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

#: Dimensions of a limit, and their names in the API's headers. Headers of 2025 without a name count requests.
DIMENSIONS = {"requests": ("", "request-"), "minutes": ("duration-",), "tokens": ("outputtoken-",)}

#: Factors from the unit of a header to the unit of a dimension: headers count seconds of video.
UNITS = {"requests": 1.0, "minutes": 1 / 60, "tokens": 1.0}

MIN_RESET = 1.0  # seconds; resets are in whole seconds, so nearer ones carry no information
SPREAD = 120.0  # seconds; limits with a reset further away are used without spacing


@dataclass
class Quota:
    """The remaining amount of a limit, from the latest headers."""

    limit: float
    left: float
    resets: float  # steady time
    trusted: float = math.inf  # steady time until which it delays calls; limited for another process's report
    asked: bool = False  # for another process's report: a call is in flight whose response replaces it

    def due(self, began: float, cost: float) -> float:
        """The steady time of a call requested at `began`, so that the remaining amount lasts to the reset."""
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
        """Whether this process received the headers; another's delay calls only until its first response."""
        return self.trusted == math.inf


def quotas_of(headers: Mapping[str, str]) -> dict[str, tuple[float, float, float]]:
    """The reported limits by dimension: limit, remaining amount, and seconds until the reset.

    Args:
        headers: of one response, with names in lower case.
    """
    found = {}
    clock = moment(headers.get("date")) or datetime.now(UTC)
    for dimension, names in DIMENSIONS.items():
        for name in names:
            limit, left, reset = (
                number(headers.get(f"x-ratelimit-{name}{what}")) for what in ("limit", "remaining", "reset")
            )
            if not limit or left is None or reset is None or min(limit, left, reset) < 0:
                continue
            rest = seconds_until(reset, clock)
            if rest > MIN_RESET:
                found[dimension] = limit * UNITS[dimension], left * UNITS[dimension], rest
    return found


log = logging.getLogger("tl_data.limits")

FORMAT = 2  # 1 held seconds of video as minutes
WINDOWS = (1.0, 60.0, 3600.0, 86400.0)  # seconds; usual lengths of a limit's window
TOLERANCE = 1.05  # factor for different clocks and rounded seconds


@dataclass(frozen=True)
class LimitSnapshot:
    """One limit at the time of a response. Times are Unix seconds."""

    limit: float
    left: float
    resets: float
    at: float  # time of the response
    longest: float = 0.0  # longest time to a reset seen so far, in seconds

    @property
    def window(self) -> float:
        """The estimated length of the window in seconds, at most a day."""
        return next((w for w in WINDOWS if w * TOLERANCE >= self.longest), WINDOWS[-1])

    def seconds(self, amount: float, now: float) -> float:
        """The least seconds to spend an amount: the rest of this window at once, then by windows."""
        # A reset further away than a window comes from a machine with another clock.
        fresh = now < self.resets <= now + self.window * TOLERANCE
        over = amount - (self.left if fresh else self.limit)
        if over <= 0:
            return 0.0
        more = math.ceil(over / self.limit) - 1  # full windows after the next reset
        return (self.resets - now if fresh else self.window) + more * self.window


class LimitStore:
    """The stored limits of one account beside a ledger. They are optional: failures are logged only."""

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
            found = {
                name: LimitSnapshot(**{k: float(v) for k, v in fields.items()})
                for name, fields in record["told"].items()
            }
            return {name: limit for name, limit in found.items() if limit.limit > 0 and limit.left >= 0}
        except (LedgerError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.info("cannot read the stored limits of %s: %s", category, error)
            return {}

    async def write(self, category: str, snapshots: Mapping[str, LimitSnapshot]) -> None:
        """Store the limits of a category. The last writer wins; all processes see the same headers."""
        record = {"tl_limits": FORMAT, "told": {name: asdict(each) for name, each in snapshots.items()}}
        try:
            await self._storage.write(f"{self._folder}/{category}", orjson.dumps(record))
        except LedgerError as error:
            log.info("cannot store the limits of %s: %s", category, error)


def snapshot(limit: float, left: float, rest: float, before: LimitSnapshot | None) -> LimitSnapshot:
    """The snapshot of a limit that was just reported, `rest` seconds before its reset."""
    now = time.time()
    longest = max(rest, before.longest if before and before.limit == limit else 0.0)
    return LimitSnapshot(limit, left, now + rest, now, longest)
