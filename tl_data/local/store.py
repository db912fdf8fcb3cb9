"""State of the engine in one SQLite file (WAL): what survives a restart, also `kill -9`.

Rows go in and out as dicts. Names of tables and columns come from `tables.SCHEMA` alone and every value is
a bound parameter, so nothing a user sends is ever part of an SQL text.
"""

from __future__ import annotations

import json
import re
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tl_data.local.tables import column, decode, encode, lay_out

Row = dict[str, Any]
ID = re.compile(r"[0-9a-f]{24}")

OPERATORS = {"=": "=", "gte": ">=", "lte": "<=", "gt": ">", "lt": "<"}


@dataclass(frozen=True)
class Where:
    """One condition: a column, or with `metadata` a key of the user metadata, compared with a value.

    The operators are those of `OPERATORS` and `in`, whose value is a list. With `loose`, the value is a
    text from a query string that stands for a text, a number or a boolean alike.
    """

    name: str
    operator: str
    value: Any
    metadata: bool = False
    loose: bool = False


def new_id() -> str:
    """24 lower-case hex digits, the first eight of them the time: ids sort by age."""
    return f"{int(time.time()):08x}{secrets.token_hex(8)}"


def now(offset: float = 0.0) -> str:
    """The time as the API writes it, milliseconds and `Z`; `offset` in seconds from now."""
    return stamp(time.time() + offset)


def stamp(seconds: float) -> str:
    """Seconds since 1970 as the API writes times; such texts compare like the times they stand for."""
    at = datetime.fromtimestamp(seconds, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"


class Store:
    """The database. All methods may be called from any thread; a method is one transaction."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=10000"):
            self._db.execute(f"PRAGMA {pragma}")
        lay_out(self._db)

    def close(self) -> None:
        """Write the log back and close the file."""
        with self._lock:
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside happens, or nothing of it. May be nested."""
        with self._lock:
            if self._db.in_transaction:
                yield
                return
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def add(self, table: str, row: Mapping[str, Any]) -> None:
        """Insert one row.

        Raises:
            sqlite3.IntegrityError: the id, or the name of an index, is taken.
        """
        names = ", ".join(column(table, name) for name in row)
        marks = ", ".join("?" for _ in row)
        with self._lock:
            self._db.execute(f'INSERT INTO "{table}" ({names}) VALUES ({marks})', encode(table, row))

    def change(self, table: str, row_id: str, /, **values: Any) -> bool:
        """Set columns of one row; False when there is no such row."""
        sets = ", ".join(f"{column(table, name)} = ?" for name in values)
        with self._lock:
            done = self._db.execute(
                f'UPDATE "{table}" SET {sets} WHERE id = ?', [*encode(table, values), row_id]
            )
            return done.rowcount > 0

    def get(self, table: str, row_id: str) -> Row | None:
        """One row by id."""
        return next(iter(self.rows(table, [Where("id", "=", row_id)], sort_by="id")), None)

    def remove(self, table: str, where: Sequence[Where]) -> int:
        """Delete rows; answers how many."""
        text, values = _conditions(table, where)
        with self._lock:
            return self._db.execute(f'DELETE FROM "{table}"{text}', values).rowcount

    def rows(
        self,
        table: str,
        where: Sequence[Where] = (),
        *,
        sort_by: str = "created_at",
        descending: bool = True,
        limit: int = -1,
        offset: int = 0,
        columns: Iterable[str] = (),
    ) -> list[Row]:
        """Rows that meet every condition, in order; ties are broken by insertion."""
        text, values = _conditions(table, where)
        direction = "DESC" if descending else "ASC"
        order = f"{column(table, sort_by)} {direction}, rowid {direction}"
        names = ", ".join(column(table, name) for name in columns) or "*"
        with self._lock:
            found = self._db.execute(
                f'SELECT {names} FROM "{table}"{text} ORDER BY {order} LIMIT ? OFFSET ?',
                [*values, limit, offset],
            ).fetchall()
        return [decode(table, row) for row in found]

    def total(self, table: str, where: Sequence[Where] = (), add_up: str | None = None) -> float:
        """How many rows meet the conditions, or the sum of one of their columns."""
        text, values = _conditions(table, where)
        what = f"COALESCE(SUM({column(table, add_up)}), 0)" if add_up else "COUNT(*)"
        with self._lock:
            return float(self._db.execute(f'SELECT {what} FROM "{table}"{text}', values).fetchone()[0])

    def count(self, name: str, amount: float = 1.0) -> None:
        """Add to a counter that only ever grows, across restarts."""
        with self._lock:
            self._db.execute(
                'INSERT INTO "counts" (id, value) VALUES (?, ?) '
                "ON CONFLICT (id) DO UPDATE SET value = value + excluded.value",
                [name, amount],
            )

    def counts(self) -> dict[str, float]:
        """All counters."""
        with self._lock:
            return {row["id"]: row["value"] for row in self._db.execute('SELECT * FROM "counts"')}


def _conditions(table: str, where: Sequence[Where]) -> tuple[str, list[Any]]:
    texts: list[str] = []
    values: list[Any] = []
    for condition in where:
        text, more = _on_metadata(condition) if condition.metadata else _on_column(table, condition)
        texts.append(text)
        values += more
    return (f" WHERE {' AND '.join(texts)}" if texts else ""), values


def _on_column(table: str, condition: Where) -> tuple[str, list[Any]]:
    name = column(table, condition.name)
    if condition.operator == "in":
        return f"{name} IN (SELECT value FROM json_each(?))", [json.dumps(list(condition.value))]
    return f"{name} {OPERATORS[condition.operator]} ?", [condition.value]


def _on_metadata(condition: Where) -> tuple[str, list[Any]]:
    """Look into the JSON of the row; the key is a bound parameter like the value."""
    value, operator = condition.value, OPERATORS[condition.operator]
    tests: list[str] = []
    values: list[Any] = [condition.name]
    if condition.loose:
        tests.append("(each.type = 'text' AND each.value = ?)")
        values.append(value)
        tests.append("each.type = ?")
        values.append(value.lower() if value.lower() in ("true", "false") else "never")
        number = _number(value)
        if number is not None:
            tests.append("(each.type IN ('integer', 'real') AND each.value = ?)")
            values.append(number)
    elif isinstance(value, bool):
        tests.append("each.type = ?")
        values.append("true" if value else "false")
    else:
        kinds = "('text')" if isinstance(value, str) else "('integer', 'real')"
        tests.append(f"(each.type IN {kinds} AND each.value {operator} ?)")
        values.append(value)
    return (
        f"EXISTS (SELECT 1 FROM json_each(user_metadata) AS each WHERE each.key = ? AND "
        f"({' OR '.join(tests)}))",
        values,
    )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
