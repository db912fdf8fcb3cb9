"""Counters of the engine: requests, completed work, and the usage that the service would bill."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tl_data.local.storage.database import Store

OPERATIONS = ("index", "embed_video", "embed_audio", "embed_image", "embed_text", "search", "analyze")
UNITS = ("video_us", "calls", "input_tokens", "output_tokens")


class Stats:
    """Counts of requests since the start of the process, and persistent totals of completed work."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._responses: Counter[tuple[str, str]] = Counter()
        self.in_flight = 0
        self.most_in_flight = 0

    def record(self, route: str, status: str) -> None:
        """Count a finished request.

        Args:
            route: such as `GET /tasks`.
            status: the HTTP status, or `lost` without a response.
        """
        self._responses[route, status] += 1

    def request_started(self) -> None:
        """Count a request as in flight."""
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)

    def request_finished(self) -> None:
        """Count a request as no longer in flight."""
        self.in_flight -= 1

    def clear(self) -> None:
        """Reset the counts of requests; the persistent totals stay."""
        self._responses.clear()
        self.most_in_flight = self.in_flight

    def as_dict(self) -> dict[str, Any]:
        """All counts, for a JSON response."""
        requests: dict[str, dict[str, int]] = {}
        for (route, status), number in sorted(self._responses.items()):
            requests.setdefault(route, {})[status] = number
        counters = self._store.counters()
        by_index = {
            name.removeprefix("tasks created in "): int(value)
            for name, value in counters.items()
            if name.startswith("tasks created in ")
        }
        return {
            "requests": requests,
            "requests_total": sum(self._responses.values()),
            "most_in_flight": self.most_in_flight,
            "tasks_created": int(counters.get("tasks created", 0)),
            "tasks_created_by_index": by_index,
            "embed_tasks_created": int(counters.get("embed tasks created", 0)),
            "searches": int(counters.get("searches", 0)),
            "video_minutes_indexed": round(counters.get("video minutes indexed", 0.0), 6),
            "video_minutes_embedded": round(counters.get("video minutes embedded", 0.0), 6),
            "output_tokens": int(counters.get("output tokens", 0)),
        }


class Bill:
    """Minutes of video, calls and tokens by operation, kept across restarts.

    Lengths are counted in whole microseconds, so that sums are exact.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def charge(
        self,
        operation: str,
        *,
        seconds: float = 0.0,
        calls: int = 1,
        input_tokens: int = 0,
        output_tokens: int = 0,
    ) -> None:
        """Add the usage of `calls` calls.

        Args:
            operation: one of `OPERATIONS`.
            seconds: the billed length, which may be a multiple of the length of the video.

        Raises:
            ValueError: unknown operation.
        """
        if operation not in OPERATIONS:
            raise ValueError(f"unknown operation {operation!r}")
        amounts = (round(seconds * 1_000_000), calls, input_tokens, output_tokens)
        with self._store.transaction():
            for unit, amount in zip(UNITS, amounts, strict=True):
                if amount:
                    self._store.increment(f"bill {operation} {unit}", amount)

    def clear(self) -> None:
        """Set all charges to 0."""
        for name in self._store.counters():
            if name.startswith("bill "):
                self._store.reset_counter(name)

    def as_dict(self) -> dict[str, Any]:
        """Operation -> `video_us`, `video_minutes`, `calls`, `input_tokens`, `output_tokens`."""
        counters = self._store.counters()
        bill: dict[str, Any] = {}
        for operation in OPERATIONS:
            units = {unit: int(counters.get(f"bill {operation} {unit}", 0)) for unit in UNITS}
            if any(units.values()):
                bill[operation] = units | {"video_minutes": units["video_us"] / 60e6}
        return bill
