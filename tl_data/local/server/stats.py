"""The engine's own counts, for comparing with what a client says it did."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tl_data.local.storage.database import Store


class Stats:
    """Requests since the start; what was created and worked on, ever."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._answers: Counter[tuple[str, str]] = Counter()
        self.in_flight = 0
        self.most_in_flight = 0

    def answered(self, route: str, status: str) -> None:
        """Count one request: `GET /tasks`, and its status or `lost`, `reset`."""
        self._answers[route, status] += 1

    def begin(self) -> None:
        """A request has come in."""
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)

    def end(self) -> None:
        """A request is over."""
        self.in_flight -= 1

    def clear(self) -> None:
        """Forget the requests; what was created stays counted."""
        self._answers.clear()
        self.most_in_flight = self.in_flight

    def answer(self) -> dict[str, Any]:
        """Everything as JSON."""
        requests: dict[str, dict[str, int]] = {}
        for (route, status), number in sorted(self._answers.items()):
            requests.setdefault(route, {})[status] = number
        counts = self._store.counts()
        by_index = {
            name.removeprefix("tasks created in "): int(value)
            for name, value in counts.items()
            if name.startswith("tasks created in ")
        }
        return {
            "requests": requests,
            "requests_total": sum(self._answers.values()),
            "most_in_flight": self.most_in_flight,
            "tasks_created": int(counts.get("tasks created", 0)),
            "tasks_created_by_index": by_index,
            "embed_tasks_created": int(counts.get("embed tasks created", 0)),
            "searches": int(counts.get("searches", 0)),
            "video_minutes_indexed": round(counts.get("video minutes indexed", 0.0), 6),
            "video_minutes_embedded": round(counts.get("video minutes embedded", 0.0), 6),
            "output_tokens": int(counts.get("output tokens", 0)),
        }
