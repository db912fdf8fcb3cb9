"""What came of the rows of a pool, and the answers of the recent past that it uses again."""

from __future__ import annotations

import sys
import time
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from tl_data.usage import Receipt


@dataclass(frozen=True)
class Outcome:
    """What became of a row: exactly one of value and error is meant, and what it cost."""

    value: Any
    error: Exception | None
    receipt: Receipt


def again(outcome: Outcome) -> Outcome:
    """The outcome of a row that shares the call of an equal one: the same answer, paid once."""
    was = outcome.receipt
    shared = Receipt(
        reused=1,
        model=was.model,
        task_id=was.task_id,
        request_id=was.request_id,
        content_key=was.content_key,
    )
    return Outcome(outcome.value, outcome.error, shared)


class Memory:
    """Answers of the recent past; the ones not used for longest go first."""

    def __init__(self, seconds: float, entries: int, size: int) -> None:
        self.seconds, self.entries, self.size = seconds, entries, size
        self._kept: OrderedDict[Hashable, tuple[float, int, Outcome]] = OrderedDict()
        self._bytes = 0

    def get(self, name: Hashable) -> Outcome | None:
        found = self._kept.get(name)
        if found is None:
            return None
        if found[0] < time.monotonic():
            self._drop(name)
            return None
        self._kept.move_to_end(name)
        return found[2]

    def keep(self, name: Hashable, outcome: Outcome, size: int) -> None:
        if self.seconds <= 0 or size > self.size // 4:
            return
        self._drop(name)
        self._kept[name] = (time.monotonic() + self.seconds, size, outcome)
        self._bytes += size
        while self._kept and (len(self._kept) > self.entries or self._bytes > self.size):
            self._drop(next(iter(self._kept)))

    def clear(self) -> None:
        self._kept.clear()
        self._bytes = 0

    def _drop(self, name: Hashable) -> None:
        found = self._kept.pop(name, None)
        if found is not None:
            self._bytes -= found[1]


def weight(value: Any) -> int:
    """About how many bytes a value holds; long lists are judged by their first elements."""
    size = sys.getsizeof(value, 64)
    if isinstance(value, dict):
        return size + sum(weight(k) + weight(v) for k, v in value.items())
    if isinstance(value, list | tuple):
        if len(value) <= 16:
            return size + sum(map(weight, value))
        return size + sum(map(weight, value[:16])) * len(value) // 16
    return int(getattr(value, "nbytes", size)) if not isinstance(value, memoryview) else size + value.nbytes
