"""What is left of the limits, as the headers of the API's answers say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from tl_data.responses import moment, number, seconds_until
from tl_data.storage import steady

#: Dimensions of a limit, and how the API's headers call them. The unnamed generation counted requests.
DIMENSIONS = {"requests": ("", "request-"), "minutes": ("duration-",), "tokens": ("outputtoken-",)}

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
                found[dimension] = limit, left, rest
    return found
