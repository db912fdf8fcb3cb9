"""What is left of the limits, as the headers of the API's answers say.

The limits of an account as the service told them, kept beside the ledger for other processes and plans.

One small object a category of endpoints, under a fingerprint of address and key. The headers say a limit,
what is left of it and when it is full again, but not for how long it is given: the longest time to a reset
that was ever told, rounded up to a minute, an hour or a day, is taken for that. A record is never believed
against the service: a process that starts from one lets its first call through, and what the answer says
replaces it.
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

#: Dimensions of a limit, and how the API's headers call them. The unnamed generation counted requests.
DIMENSIONS = {"requests": ("", "request-"), "minutes": ("duration-",), "tokens": ("outputtoken-",)}

#: What one unit of a header is of a dimension: those of video count seconds.
UNITS = {"requests": 1.0, "minutes": 1 / 60, "tokens": 1.0}

COARSE = 1.0  # seconds to a reset that is told in whole seconds: too near to say anything
SPREAD = 120.0  # seconds to the reset up to which the rest is spread; a day's quota is there to be used up


@dataclass
class Quota:
    """What is left of a limit, as last heard."""

    limit: float
    left: float
    resets: float  # on the steady clock
    trusted: float = math.inf  # steady time until which it holds calls back
    asked: bool = False  # of what another process heard: the call is sent whose answer will say more

    def due(self, began: float, cost: float) -> float:
        """When so much may be spent that was asked for at `began`, so that the rest lasts until the reset."""
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
        """Whether this process heard it; another's holds calls back only until this one has an answer."""
        return self.trusted == math.inf


def quotas_of(headers: Mapping[str, str]) -> dict[str, tuple[float, float, float]]:
    """By dimension: the limit, what is left of it, and the seconds until it is full again.

    Args:
        headers: of one answer, their names in lower case.
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
            if rest > COARSE:
                found[dimension] = limit * UNITS[dimension], left * UNITS[dimension], rest
    return found


log = logging.getLogger("tl_data.limits")

FORMAT = 2  # before 2, seconds of video stood there as minutes
WINDOWS = (1.0, 60.0, 3600.0, 86400.0)  # seconds for which limits are given
CLOCKS = 1.05  # by so much clocks, and seconds told in whole numbers, may exceed it


@dataclass(frozen=True)
class LimitSnapshot:
    """One limit, as last heard. Times are UTC epoch seconds."""

    limit: float
    left: float
    resets: float
    at: float  # when it was heard
    longest: float = 0.0  # seconds to a reset, at most, of all that was heard of it

    @property
    def window(self) -> float:
        """Seconds for which the limit is given; a day, if it is longer than all that is usual."""
        return next((w for w in WINDOWS if w * CLOCKS >= self.longest), WINDOWS[-1])

    def seconds(self, amount: float, now: float) -> float:
        """The time that so much takes at least: what is left at once, the rest window by window."""
        # A reset that is further away than the limit lasts was told to a machine with another clock.
        fresh = now < self.resets <= now + self.window * CLOCKS
        over = amount - (self.left if fresh else self.limit)
        if over <= 0:
            return 0.0
        more = math.ceil(over / self.limit) - 1  # whole windows after the next reset
        return (self.resets - now if fresh else self.window) + more * self.window


class LimitStore:
    """The records of one account below a ledger's address. What cannot be read or written is done without."""

    def __init__(self, storage: Storage, settings: Settings) -> None:
        account = f"{settings.base_url or SERVICE_URL}\0{settings.api_key or ''}"
        self._storage = storage
        self._folder = f"limits/{sha256(account.encode()).hexdigest()[:16]}"

    async def read(self, category: str) -> dict[str, LimitSnapshot]:
        """What is known of a category, by dimension."""
        try:
            body = await self._storage.read(f"{self._folder}/{category}")
            said = orjson.loads(body) if body is not None else {}
            if not said or said["tl_limits"] != FORMAT:
                return {}
            found = {
                n: LimitSnapshot(**{k: float(v) for k, v in told.items()}) for n, told in said["told"].items()
            }
            return {name: told for name, told in found.items() if told.limit > 0 and told.left >= 0}
        except (LedgerError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.info("the limits of %s that were told before cannot be read: %s", category, error)
            return {}

    async def write(self, category: str, told: Mapping[str, LimitSnapshot]) -> None:
        """Keep what was heard; the last one to say so wins, since all hear the same."""
        said = {"tl_limits": FORMAT, "told": {name: asdict(each) for name, each in told.items()}}
        try:
            await self._storage.write(f"{self._folder}/{category}", orjson.dumps(said))
        except LedgerError as error:
            log.info("the limits of %s cannot be kept: %s", category, error)


def heard(limit: float, left: float, rest: float, before: LimitSnapshot | None) -> LimitSnapshot:
    """A limit that was just told, `rest` seconds before its reset, after what was known of it before."""
    now = time.time()
    longest = max(rest, before.longest if before and before.limit == limit else 0.0)
    return LimitSnapshot(limit, left, now + rest, now, longest)
