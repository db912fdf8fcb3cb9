"""The limits of an account as the service told them, kept beside the ledger for other processes and plans.

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
from hashlib import sha256

import orjson

from tl_data.errors import LedgerError
from tl_data.settings import SERVICE_URL, Settings
from tl_data.storage import Storage

log = logging.getLogger("tl_data.limits")

FORMAT = 1
WINDOWS = (1.0, 60.0, 3600.0, 86400.0)  # seconds for which limits are given
CLOCKS = 1.05  # by so much clocks, and seconds told in whole numbers, may exceed it


@dataclass(frozen=True)
class Told:
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


class Memory:
    """The records of one account below a ledger's address. What cannot be read or written is done without."""

    def __init__(self, storage: Storage, settings: Settings) -> None:
        account = f"{settings.base_url or SERVICE_URL}\0{settings.api_key or ''}"
        self._storage = storage
        self._folder = f"limits/{sha256(account.encode()).hexdigest()[:16]}"

    async def read(self, category: str) -> dict[str, Told]:
        """What is known of a category, by dimension."""
        try:
            body = await self._storage.read(f"{self._folder}/{category}")
            said = orjson.loads(body) if body is not None else {}
            if not said or said["tl_limits"] != FORMAT:
                return {}
            found = {n: Told(**{k: float(v) for k, v in told.items()}) for n, told in said["told"].items()}
            return {name: told for name, told in found.items() if told.limit > 0 and told.left >= 0}
        except (LedgerError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.info("the limits of %s that were told before cannot be read: %s", category, error)
            return {}

    async def write(self, category: str, told: Mapping[str, Told]) -> None:
        """Keep what was heard; the last one to say so wins, since all hear the same."""
        said = {"tl_limits": FORMAT, "told": {name: asdict(each) for name, each in told.items()}}
        try:
            await self._storage.write(f"{self._folder}/{category}", orjson.dumps(said))
        except LedgerError as error:
            log.info("the limits of %s cannot be kept: %s", category, error)


def heard(limit: float, left: float, rest: float, before: Told | None) -> Told:
    """A limit that was just told, `rest` seconds before its reset, after what was known of it before."""
    now = time.time()
    longest = max(rest, before.longest if before and before.limit == limit else 0.0)
    return Told(limit, left, now + rest, now, longest)
