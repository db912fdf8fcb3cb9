"""Rate limits: those of a published plan, or any limits set while the engine runs. Off by default.

Each limit allows an amount in a window of time, which begins with its first request. With the profile
`today`, a limit refills continuously instead. A request is refused if a limit of its category is exhausted.
Minutes of video and tokens are added to the used amount as soon as they are known. The headers are those of
the service before January 2026 (`X-Ratelimit-Limit` ...), after it (`X-Ratelimit-Request-Limit` ...), or
both.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tl_data.local.errors import invalid as invalid_parameter
from tl_data.local.errors import one_of, rate_exceeded

DAY, HOUR, MINUTE = 86400.0, 3600.0, 60.0
DIMENSIONS = ("Duration", "Request", "OutputToken")  # minutes of video, requests, tokens of answers
#: Names of the headers: those until 2025, those since 2026, or both.
GENERATIONS = ("2025", "2026", "both")

#: (method, path after the version) -> category of its limits; * stands for an id. Others have no limits.
CATEGORIES = {
    ("POST", "/tasks"): "index",
    ("POST", "/indexes/*/indexed-assets"): "index",
    ("POST", "/search"): "search",
    ("POST", "/analyze"): "analyze",
    ("POST", "/analyze/tasks"): "analyze",
    ("POST", "/analyze/batches"): "analyze",
    ("POST", "/generate"): "analyze",
    ("POST", "/gist"): "analyze",
    ("POST", "/summarize"): "analyze",
    ("POST", "/embed"): "embed_text",
    ("POST", "/embed/tasks"): "embed",
    ("POST", "/embed-v2"): "embed_text",
    ("POST", "/embed-v2/tasks"): "embed",
    ("POST", "/assets"): "upload",
    ("POST", "/assets/multipart-uploads"): "upload",
}
Table = dict[str, list[tuple[str, float, float]]]  # category -> its limits: (dimension, amount, seconds)


def _daily(search: int, analyze: int, embed: int, index: int) -> Table:
    """The limits of a plan that limits only requests per day."""
    amounts = {"search": search, "analyze": analyze, "embed": embed, "embed_text": embed, "index": index}
    return {name: [("Request", float(amount), DAY)] for name, amount in amounts.items()}


def _tier(
    scale: int, *, analyze_day: int, tokens_day: int, embed: tuple[int, int], text: tuple[int, int]
) -> Table:
    """The limits of a plan since 2026.

    Args:
        scale: multiple of the smallest plan's limits, for those without an argument of their own.
        analyze_day: requests per day.
        tokens_day: thousands of tokens per day.
        embed: requests per day and per minute.
        text: the same for embeddings of texts.
    """
    # Minutes of video. Some limits of requests have the same numbers.
    day, hour = 3000.0 * scale, 600.0 * scale
    video = [("Duration", day, DAY), ("Duration", hour, HOUR)]
    return {
        "index": [*video, ("Request", day, DAY), ("Request", 60.0 * scale, MINUTE)],
        "upload": [("Request", day, DAY), ("Request", 60.0 * scale, MINUTE)],
        "search": [("Request", day, DAY), ("Request", hour, MINUTE)],
        "analyze": [
            *video,
            ("Request", float(analyze_day), DAY), ("Request", 60.0 * scale, MINUTE),
            ("OutputToken", tokens_day * 1000.0, DAY), ("OutputToken", 30_000.0 * scale, MINUTE),
        ],
        "embed": [*video, ("Request", float(embed[0]), DAY), ("Request", float(embed[1]), MINUTE)],
        "embed_text": [("Request", float(text[0]), DAY), ("Request", float(text[1]), MINUTE)],
    }  # fmt: skip


#: Plan -> generation of its headers (see `GENERATIONS`), and its limits.
PLANS: dict[str, tuple[str, Table]] = {
    "free-2025": ("2025", _daily(50, 50, 100, 50)),
    "developer-2025": ("2025", _daily(3000, 3000, 1000, 1000)),
    "free": ("2026", _tier(1, analyze_day=1000, tokens_day=500, embed=(3000, 25), text=(3000, 600))),
    "tier1": ("2026", _tier(1, analyze_day=1000, tokens_day=500, embed=(3000, 25), text=(3000, 600))),
    "tier2": ("2026", _tier(2, analyze_day=2000, tokens_day=1000, embed=(6000, 50), text=(12000, 1200))),
    "tier3": ("2026", _tier(4, analyze_day=3000, tokens_day=1500, embed=(9000, 75), text=(30000, 2400))),
}


@dataclass
class Limit:
    """A limit on one dimension, with its current window or its state of refilling."""

    dimension: str
    amount: float  # largest amount in a window
    seconds: float  # length of the window
    used: float = 0.0  # amount that is used and not refilled
    until: float = 0.0  # end of the window, or the time at which all is refilled; seconds since 1970
    refills: bool = False  # whether it refills continuously and not at the end of the window
    updated: float = 0.0  # time of the last refill, seconds since 1970

    def roll(self, now: float) -> None:
        """Begin a new window if the current one has ended, or refill for the time since `updated`."""
        if self.refills:
            self.used = max(0.0, self.used - max(0.0, now - self.updated) * self.amount / self.seconds)
            self.updated, self.until = now, now + self.used * self.seconds / self.amount
        elif now >= self.until:
            self.used, self.until = 0.0, now + self.seconds

    def free_at(self, amount: float) -> float:
        """The time at which `amount` is available, in seconds since 1970. A window frees all at its end."""
        if not self.refills:
            return self.until
        return self.updated + max(0.0, self.used + amount - self.amount) * self.seconds / self.amount

    @property
    def remaining(self) -> float:
        """The amount that is left."""
        return max(0.0, self.amount - self.used)

    @property
    def text(self) -> str:
        """The limit as the messages of the service show it: `100req/1day`."""
        unit = {"Request": "req", "Duration": "min", "OutputToken": "tokens"}[self.dimension]
        for size, name in ((DAY, "day"), (HOUR, "hour"), (MINUTE, "minute")):
            if self.seconds >= size:
                return f"{self.amount:g}{unit}/{self.seconds / size:g}{name}"
        return f"{self.amount:g}{unit}/{self.seconds:g}second"


class RateLimits:
    """The limits in effect."""

    def __init__(self, plan: str | None = None, *, refills: bool = False) -> None:
        self._refills = refills
        self._plan: str | None = None
        self._generation = "both"
        self._limits: dict[str, list[Limit]] = {}
        if plan:
            self.use_plan(plan)

    def use_plan(self, plan: str) -> None:
        """Apply a published plan with full limits.

        Raises:
            EngineError: unknown plan.
        """
        if plan not in PLANS:
            raise one_of("plan", PLANS, plan)
        generation, table = PLANS[plan]
        self._set(plan, generation, table)

    def _set(self, plan: str | None, generation: str, table: Table) -> None:
        """Replace all limits. The new ones start unused."""
        self._plan, self._generation = plan, generation
        self._limits = {
            name: [Limit(*limit, refills=self._refills) for limit in limits] for name, limits in table.items()
        }

    def configure(self, body: dict[str, Any]) -> None:
        """Apply the limits of a request body.

        The body is `{"plan": NAME}`, or `{"limits": {CATEGORY: [LIMIT]}, "generation": ...}`, where a limit
        is `{"dimension": ..., "limit": ..., "seconds": ...}`.

        Raises:
            EngineError: the body has another form.
        """
        if isinstance(body.get("plan"), str):
            self.use_plan(body["plan"])
            return
        limits, generation = body.get("limits"), body.get("generation", "both")
        if generation not in GENERATIONS:
            raise one_of("generation", GENERATIONS, generation)
        if not isinstance(limits, dict):
            raise invalid_parameter("limits", "It must be an object of categories.", limits)
        table: Table = {}
        for category, entries in limits.items():
            if category not in CATEGORIES.values():
                raise one_of("limits", sorted(set(CATEGORIES.values())), category)
            table[category] = [
                _validate_limit(entry) for entry in (entries if isinstance(entries, list) else [entries])
            ]
        self._set(None, generation, table)

    def clear(self) -> None:
        """Remove all limits."""
        self._set(None, "both", {})

    def as_dict(self) -> dict[str, Any]:
        """The limits in effect, for a JSON response."""
        return {
            "plan": self._plan,
            "generation": self._generation,
            "plans": list(PLANS),
            "limits": {
                name: [
                    {
                        "dimension": limit.dimension,
                        "limit": limit.amount,
                        "seconds": limit.seconds,
                        "used": limit.used,
                    }
                    for limit in limits
                ]
                for name, limits in self._limits.items()
            },
        }

    def consume(self, category: str, dimension: str, amount: float) -> None:
        """Add minutes or tokens after a request. If they exceed the limit, later requests are refused."""
        now = time.time()
        for limit in self._limits.get(category, []):
            if limit.dimension == dimension:
                limit.roll(now)
                limit.used += amount

    def admit(self, method: str, path: str) -> dict[str, str]:
        """Count a request and return the rate limit headers of its response.

        Raises:
            EngineError: 429, a limit is exhausted. The request is not counted.
        """
        limits = self._limits.get(_category(method, path), [])
        now = time.time()
        for limit in limits:
            limit.roll(now)
        exhausted = [
            limit for limit in limits if limit.remaining < (1 if limit.dimension == "Request" else 1e-9)
        ]
        if exhausted:
            latest = max(exhausted, key=lambda limit: limit.free_at(1))
            free_at = latest.free_at(1)
            wait = max(1, math.ceil(free_at - now))
            retry_at = datetime.fromtimestamp(math.ceil(free_at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            raise rate_exceeded(latest.text, retry_at, {"Retry-After": str(wait), **self._headers(limits)})
        for limit in limits:
            if limit.dimension == "Request":
                limit.used += 1
        return self._headers(limits)

    def _headers(self, limits: list[Limit]) -> dict[str, str]:
        """The headers for the limit of each dimension with the least left."""
        headers: dict[str, str] = {}
        by_dimension = {
            dimension: min(candidates, key=lambda limit: limit.remaining)
            for dimension in DIMENSIONS
            if (candidates := [limit for limit in limits if limit.dimension == dimension])
        }
        request = by_dimension.get("Request")
        if request and self._generation in ("2025", "both"):
            headers |= {
                "X-Ratelimit-Limit": f"{request.amount:g}",
                "X-Ratelimit-Remaining": f"{math.floor(request.remaining)}",
                "X-Ratelimit-Used": f"{request.used:g}",
                "X-Ratelimit-Reset": str(math.ceil(request.until)),
            }
        if by_dimension and self._generation in ("2026", "both"):
            headers["X-Ratelimit-Dimensions"] = ",".join(by_dimension)
            for dimension, limit in by_dimension.items():
                # The headers for durations count seconds, not minutes.
                unit = 60.0 if dimension == "Duration" else 1.0
                until = (
                    limit.updated + limit.used * limit.seconds / limit.amount
                    if limit.refills
                    else limit.until
                )
                headers |= {
                    f"X-Ratelimit-{dimension}-Limit": f"{limit.amount * unit:.0f}",
                    f"X-Ratelimit-{dimension}-Remaining": f"{math.floor(limit.remaining * unit)}",
                    f"X-Ratelimit-{dimension}-Reset": str(math.ceil(until)),
                }
        return headers


def _category(method: str, path: str) -> str:
    """The category of a request; "" if it is not limited."""
    if (parts := path.split("/"))[1:2] == ["indexes"] and len(parts) == 4:
        path = f"/indexes/*/{parts[3]}"
    return CATEGORIES.get((method, path), "")


def _validate_limit(entry: Any) -> tuple[str, float, float]:
    """Validate one limit of a request body."""
    if not isinstance(entry, dict):
        raise invalid_parameter("limits", "Each limit is an object with limit, seconds and dimension.", entry)
    dimension, amount, seconds = entry.get("dimension", "Request"), entry.get("limit"), entry.get("seconds")
    if dimension not in DIMENSIONS:
        raise one_of("dimension", DIMENSIONS, dimension)
    for name, value in (("limit", amount), ("seconds", seconds)):
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise invalid_parameter(name, "It must be a number above 0.", value)
    return dimension, float(amount), float(seconds)  # type: ignore[arg-type]
