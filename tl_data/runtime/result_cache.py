"""A cache of recent answers for equal rows, in memory and in a temporary file.

An answer is on one of three levels:

    hot      as Python objects, shared by all equal rows
    packed   as bytes: a vector of 512 numbers takes 2 KB instead of 16
    spilled  in a temporary SQLite file, which the system removes when the process ends

When a level is full, its least recently used answers move to the next one. So a statement over a million
distinct rows makes one call for each in bounded memory, even if equal rows are far apart.
"""

from __future__ import annotations

import hashlib
import logging
import marshal
import sqlite3
import sys
import time
import weakref
from array import array
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from tl_data.usage import Usage

log = logging.getLogger("tl_data.pool")

HOT_DIVISOR = 4  # 1/4 of the memory is for hot answers, the rest for packed ones
FLOAT_BYTES = sys.getsizeof(0.0)
ENTRY_BYTES = 200  # memory of a packed answer in addition to its body
#: Largest size of the temporary file in bytes. Above it the oldest answers are deleted.
MAX_SPILL_BYTES = 8 << 30


@dataclass(frozen=True)
class Outcome:
    """The outcome of a row: a value or an error, and the usage of its call."""

    value: Any
    error: Exception | None
    receipt: Usage


def share_outcome(outcome: Outcome) -> Outcome:
    """The outcome for a further equal row: the same answer without cost."""
    usage = outcome.receipt
    shared = Usage(
        reused=1,
        model=usage.model,
        task_id=usage.task_id,
        request_id=usage.request_id,
        content_key=usage.content_key,
        at=usage.at,
    )
    return Outcome(outcome.value, outcome.error, shared)


class ResultCache:
    """Answers by name. An answer is valid for `seconds`.

    A statement may also reuse an older answer, if the answer arrived after the statement began.

    A cache belongs to one thread.

    Args:
        seconds: time for which an answer is valid; 0 disables the cache.
        entries, size: largest number of answers and largest size in bytes, in memory.
        spill: largest size in bytes of the temporary file; 0 disables the file.
    """

    def __init__(self, seconds: float, entries: int, size: int, spill: int = MAX_SPILL_BYTES) -> None:
        self.seconds, self.entries, self.size, self.spill = seconds, entries, size, spill
        #: Name -> time of the answer, bytes, outcome.
        self._hot: OrderedDict[Hashable, tuple[float, int, Outcome]] = OrderedDict()
        #: Name -> time of the answer, packed outcome.
        self._packed: OrderedDict[Hashable, tuple[float, bytes]] = OrderedDict()
        self._hot_bytes = self._packed_bytes = 0
        self._file: _SpillFile | None = None

    def get(self, name: Hashable, since: float = float("inf")) -> Outcome | None:
        """The answer if it is younger than `seconds` or newer than `since` (`time.monotonic`), else None."""
        if (hot := self._hot.get(name)) is not None:
            if self._is_fresh(hot[0], since):
                self._hot.move_to_end(name)
                return hot[2]
            self._drop(name)
            return None
        created, body = (
            self._packed.get(name) or (self._file.get(name) if self._file else None) or (0.0, None)
        )
        if body is None or not self._is_fresh(created, since):
            return None
        outcome = _unpack(body)
        self._put_hot(name, created, outcome, size_of(outcome.value))
        return outcome

    def has(self, name: Hashable, since: float = float("inf")) -> bool:
        """Whether `get` returns an answer."""
        entry = (
            self._hot.get(name) or self._packed.get(name) or (self._file.get(name) if self._file else None)
        )
        return entry is not None and self._is_fresh(entry[0], since)

    def put(self, name: Hashable, outcome: Outcome, size: int) -> None:
        """Cache an answer of `size` bytes, unless that is more than a quarter of the memory."""
        if self.seconds > 0 and size <= self.size // 4:
            self._drop(name)
            self._put_hot(name, time.monotonic(), outcome, size)

    def clear(self) -> None:
        """Remove all answers."""
        self._hot.clear()
        self._packed.clear()
        self._hot_bytes = self._packed_bytes = 0
        if self._file:
            self._file.close()
            self._file = None

    def _is_fresh(self, created: float, since: float) -> bool:
        return created >= since or time.monotonic() - created < self.seconds

    def _put_hot(self, name: Hashable, created: float, outcome: Outcome, size: int) -> None:
        if (packed := self._packed.pop(name, None)) is not None:
            self._packed_bytes -= len(packed[1]) + ENTRY_BYTES
        self._hot[name] = created, size, outcome
        self._hot_bytes += size
        while len(self._hot) > max(1, self.entries // HOT_DIVISOR) or (
            self._hot_bytes > self.size // HOT_DIVISOR and len(self._hot) > 1
        ):
            self._pack_oldest()

    def _pack_oldest(self) -> None:
        """Pack the least recently used hot answer, and spill packed answers that no longer fit."""
        name, (created, size, outcome) = self._hot.popitem(last=False)
        self._hot_bytes -= size
        body = _pack(outcome)
        if body is None:
            return
        self._packed[name] = created, body
        self._packed_bytes += len(body) + ENTRY_BYTES
        while self._packed and (
            self._packed_bytes > self.size - self.size // HOT_DIVISOR
            or len(self._packed) > self.entries - self.entries // HOT_DIVISOR
        ):
            old_name, (old_created, old_body) = self._packed.popitem(last=False)
            self._packed_bytes -= len(old_body) + ENTRY_BYTES
            if self.spill:
                if self._file is None:
                    self._file = _SpillFile(self.spill)
                self._file.put(old_name, old_created, old_body)

    def _drop(self, name: Hashable) -> None:
        if (hot := self._hot.pop(name, None)) is not None:
            self._hot_bytes -= hot[1]
        if (packed := self._packed.pop(name, None)) is not None:
            self._packed_bytes -= len(packed[1]) + ENTRY_BYTES


class _SpillFile:
    """Packed answers in a temporary file, by a digest of their names."""

    def __init__(self, limit: int) -> None:
        self._limit, self._bytes = limit, 0
        self._groups: dict[Hashable, int] = {}
        self._db: sqlite3.Connection | None = None
        try:
            self._db = sqlite3.connect(
                "", isolation_level=None, check_same_thread=False
            )  # "": a temporary file
            # From Python 3.13 on, a connection that is collected without being closed raises ResourceWarning.
            weakref.finalize(self, self._db.close)
            for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-16384"):
                self._db.execute(f"PRAGMA {pragma}")
            self._db.execute("CREATE TABLE answers (name BLOB UNIQUE, made REAL, body BLOB)")
        except sqlite3.Error as error:
            self._give_up(error)

    def get(self, name: Hashable) -> tuple[float, bytes] | None:
        if self._db is None:
            return None
        try:
            row = self._db.execute(
                "SELECT made, body FROM answers WHERE name = ?", [self._digest(name)]
            ).fetchone()
        except sqlite3.Error as error:
            self._give_up(error)
            return None
        return None if row is None else (float(row[0]), bytes(row[1]))

    def put(self, name: Hashable, created: float, body: bytes) -> None:
        if self._db is None:
            return
        try:
            self._db.execute(
                "INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", [self._digest(name), created, body]
            )
            self._bytes += len(body)
            if self._bytes > self._limit:
                self._db.execute(
                    "DELETE FROM answers WHERE rowid IN "
                    "(SELECT rowid FROM answers ORDER BY rowid LIMIT (SELECT count(*) / 8 + 1 FROM answers))"
                )
                [self._bytes] = self._db.execute(
                    "SELECT coalesce(sum(length(body)), 0) FROM answers"
                ).fetchone()
        except sqlite3.Error as error:
            self._give_up(error)

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _digest(self, name: Hashable) -> bytes:
        group, key = name if isinstance(name, tuple) else (None, name)
        number = self._groups.setdefault(group, len(self._groups))
        return hashlib.blake2b(f"{number} {key!r}".encode("utf-8", "surrogatepass"), digest_size=16).digest()

    def _give_up(self, error: sqlite3.Error) -> None:
        """Disable the file after an error: a full disk must not fail the statement."""
        log.warning("the temporary file of cached answers failed; only memory is used: %s", error)
        self.close()


def size_of(value: Any) -> int:
    """The approximate size of a value in bytes. A long list is estimated from its first elements."""
    size = sys.getsizeof(value, 64)
    if isinstance(value, dict):
        return size + sum(size_of(k) + size_of(v) for k, v in value.items())
    if isinstance(value, list | tuple):
        if value and type(value[0]) is float:
            return size + FLOAT_BYTES * len(value)
        if len(value) <= 16:
            return size + sum(map(size_of, value))
        return size + sum(map(size_of, value[:16])) * len(value) // 16
    return int(getattr(value, "nbytes", size)) if not isinstance(value, memoryview) else size + value.nbytes


def _pack(outcome: Outcome) -> bytes | None:
    """An outcome without error as bytes; None if its value has objects that `marshal` does not support."""
    usage, value = outcome.receipt, outcome.value
    source = usage.model, usage.task_id, usage.request_id, usage.content_key, usage.at
    vector = _float32(value)
    try:
        return marshal.dumps((source, vector is not None, value if vector is None else vector))
    except ValueError:
        return None


def _unpack(body: bytes) -> Outcome:
    (model, task_id, request_id, content_key, at), is_vector, value = marshal.loads(body)
    if is_vector:
        (numbers := array("f")).frombytes(value)
        value = numbers.tolist()
    usage = Usage(model=model, task_id=task_id, request_id=request_id, content_key=content_key, at=at)
    return Outcome(value, None, usage)


def _float32(value: Any) -> bytes | None:
    """A list of numbers as float32 bytes; None for other values and for numbers that float32 would round."""
    if not isinstance(value, list) or len(value) < 16 or not isinstance(value[0], float):
        return None
    try:
        numbers = array("f", value)
    except (TypeError, OverflowError):
        return None
    return numbers.tobytes() if numbers.tolist() == value else None
