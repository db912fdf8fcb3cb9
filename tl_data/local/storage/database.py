"""The state of the engine in one SQLite file (WAL mode), which survives restarts and `kill -9`.

Rows are dicts. Names of tables and columns come from `SCHEMA`, and every value is a bound parameter, so user
input never becomes part of an SQL statement.
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

#: Table -> column -> SQL type. JSON columns are stored as TEXT.
#:
#: - `fate`: the outcome that an injected fault gives to the row. `stuck`: 1 if the fault keeps it unfinished.
#: - `looked_by`, `form`: the model that analyzed the video, and the format version of its evidence.
#: - `imported`: 1 for a video of `tl-data serve --lake`, which is removed when the lake no longer has it.
#: - `again`, `again_error`: the state of a requested new analysis of the video, and its error.
#: - `place`: the position of an analysis in its batch.
SCHEMA: dict[str, dict[str, str]] = {
    "indexes": {
        "id": "TEXT PRIMARY KEY", "index_name": "TEXT UNIQUE", "models": "JSON", "addons": "JSON",
        "created_at": "TEXT", "updated_at": "TEXT",
    },
    "tasks": {
        "id": "TEXT PRIMARY KEY", "index_id": "TEXT", "video_id": "TEXT", "status": "TEXT",
        "created_at": "TEXT", "updated_at": "TEXT", "url": "TEXT", "filename": "TEXT", "duration": "REAL",
        "width": "INTEGER", "height": "INTEGER", "fps": "REAL", "size": "INTEGER", "sha256": "TEXT",
        "stream": "INTEGER", "user_metadata": "JSON", "error": "JSON", "fate": "JSON",
        "stuck": "INTEGER DEFAULT 0", "import_id": "TEXT", "asset_id": "TEXT",
    },
    "videos": {
        "id": "TEXT PRIMARY KEY", "index_id": "TEXT", "created_at": "TEXT", "updated_at": "TEXT",
        "indexed_at": "TEXT", "filename": "TEXT", "duration": "REAL", "width": "INTEGER",
        "height": "INTEGER", "fps": "REAL", "size": "INTEGER", "sha256": "TEXT", "stream": "INTEGER",
        "user_metadata": "JSON", "video_title": "TEXT", "hls_status": "TEXT", "hls_updated_at": "TEXT",
        "looked_by": "TEXT DEFAULT 'tl-local-1'", "again": "TEXT", "again_error": "TEXT",
        "form": "INTEGER DEFAULT 0", "imported": "INTEGER DEFAULT 0",
    },
    "embed_tasks": {
        "id": "TEXT PRIMARY KEY", "status": "TEXT", "model_name": "TEXT", "created_at": "TEXT",
        "updated_at": "TEXT", "url": "TEXT", "filename": "TEXT", "sha256": "TEXT",
        "duration": "REAL", "start": "REAL", "options": "JSON", "kind": "TEXT DEFAULT 'video'",
        "end": "REAL", "clip_length": "REAL", "scopes": "JSON", "segments": "JSON", "error": "JSON",
        "fate": "JSON", "stuck": "INTEGER DEFAULT 0", "dimension": "INTEGER", "fused": "INTEGER DEFAULT 0",
    },
    "analyze_tasks": {
        "id": "TEXT PRIMARY KEY", "status": "TEXT", "created_at": "TEXT", "updated_at": "TEXT",
        "completed_at": "TEXT", "custom_id": "TEXT", "url": "TEXT", "asset_id": "TEXT", "body": "JSON",
        "result": "JSON", "error": "JSON", "fate": "JSON", "stuck": "INTEGER DEFAULT 0",
        "idempotency_key": "TEXT", "batch_id": "TEXT", "mode": "TEXT DEFAULT 'general'", "duration": "REAL",
        "place": "INTEGER DEFAULT 0",
    },
    "batches": {
        "id": "TEXT PRIMARY KEY", "status": "TEXT", "created_at": "TEXT", "updated_at": "TEXT",
        "expires_at": "TEXT", "completed_at": "TEXT", "canceled_at": "TEXT", "expired_at": "TEXT",
        "model_name": "TEXT", "mode": "TEXT", "total_items": "INTEGER",
    },
    "collections": {
        "id": "TEXT PRIMARY KEY", "name": "TEXT", "description": "TEXT", "created_at": "TEXT",
        "updated_at": "TEXT",
    },
    "entities": {
        "id": "TEXT PRIMARY KEY", "collection_id": "TEXT", "name": "TEXT", "description": "TEXT",
        "metadata": "JSON", "asset_ids": "JSON", "ready_at": "TEXT", "created_at": "TEXT",
        "updated_at": "TEXT",
    },
    "assets": {
        "id": "TEXT PRIMARY KEY", "status": "TEXT", "method": "TEXT", "created_at": "TEXT",
        "updated_at": "TEXT", "url": "TEXT", "filename": "TEXT", "sha256": "TEXT", "size": "INTEGER",
        "duration": "REAL", "user_metadata": "JSON", "error": "JSON", "fate": "JSON",
        "stuck": "INTEGER DEFAULT 0", "ready_at": "TEXT", "kind": "TEXT", "hls": "INTEGER",
        "thumbnail": "INTEGER", "width": "INTEGER", "height": "INTEGER", "fps": "REAL",
    },
    "uploads": {
        "id": "TEXT PRIMARY KEY", "asset_id": "TEXT", "status": "TEXT", "created_at": "TEXT",
        "updated_at": "TEXT", "filename": "TEXT", "total_size": "INTEGER", "user_metadata": "JSON",
        "chunks": "JSON", "fate": "JSON",
    },
    "searches": {
        "id": "TEXT PRIMARY KEY", "created_at": "TEXT", "expires_at": "TEXT", "index_id": "TEXT",
        "request": "JSON", "pool": "JSON", "items": "JSON",
    },
    "imports": {
        "id": "TEXT PRIMARY KEY", "integration_id": "TEXT", "index_id": "TEXT", "created_at": "TEXT",
        "ended_at": "TEXT", "failed_files": "JSON",
    },
    "counts": {"id": "TEXT PRIMARY KEY", "value": "REAL"},
}  # fmt: skip
INDEXES = (
    "CREATE INDEX IF NOT EXISTS tasks_by_status ON tasks (status, created_at)",
    "CREATE INDEX IF NOT EXISTS tasks_by_index ON tasks (index_id, created_at)",
    "CREATE INDEX IF NOT EXISTS videos_by_index ON videos (index_id, created_at)",
    "CREATE INDEX IF NOT EXISTS videos_by_content ON videos (sha256)",
)


def create_tables(db: sqlite3.Connection) -> None:
    """Create missing tables, indexes and columns. A file of an earlier version may lack some."""
    for table, columns in SCHEMA.items():
        types = {name: kind.replace("JSON", "TEXT") for name, kind in columns.items()}
        spec = ", ".join(f'"{name}" {kind}' for name, kind in types.items())
        db.execute(f'CREATE TABLE IF NOT EXISTS "{table}" ({spec})')
        existing = {row["name"] for row in db.execute(f'PRAGMA table_info("{table}")')}
        for name in columns.keys() - existing:
            db.execute(f'ALTER TABLE "{table}" ADD COLUMN "{name}" {types[name]}')
    for statement in INDEXES:
        db.execute(statement)


def column(table: str, name: str) -> str:
    """The quoted name of a column, for an SQL statement.

    Raises:
        KeyError: the table has no such column.
    """
    if name not in SCHEMA[table]:
        raise KeyError(f"{table} has no column {name!r}")
    return f'"{name}"'


def encode_row(table: str, row: Mapping[str, Any]) -> list[Any]:
    """The values of a row as SQLite stores them, in the order of the keys of the row."""
    return [
        json.dumps(value) if SCHEMA[table][name] == "JSON" and value is not None else value
        for name, value in row.items()
    ]


def decode_row(table: str, row: sqlite3.Row) -> dict[str, Any]:
    """Convert a row, or some columns of one, to a dict of Python values."""
    types = SCHEMA[table]
    return {
        name: json.loads(row[name]) if types[name] == "JSON" and row[name] is not None else row[name]
        for name in row.keys()  # noqa: SIM118  (a sqlite3.Row iterates over its values)
    }


Row = dict[str, Any]
ID = re.compile(r"[0-9a-f]{24}")

OPERATORS = {"=": "=", "gte": ">=", "lte": "<=", "gt": ">", "lt": "<"}


@dataclass(frozen=True)
class Where:
    """A condition on rows: a comparison of a column with a value.

    With `metadata`, `name` is a key of the user metadata instead of a column. The operators are those of
    `OPERATORS`, `in` with a list, and `empty` with a boolean. With `untyped`, the value comes from a query
    string and may match a text, a number or a boolean.
    """

    name: str
    operator: str
    value: Any
    metadata: bool = False
    untyped: bool = False


def new_id() -> str:
    """A new id: 24 lower-case hex digits. They begin with the time in seconds, so ids sort by age."""
    return f"{int(time.time()):08x}{secrets.token_hex(8)}"


def now(offset: float = 0.0) -> str:
    """The current time as the API writes it, with milliseconds and `Z`, plus `offset` seconds."""
    return stamp(time.time() + offset)


def stamp(seconds: float) -> str:
    """Format seconds since 1970 as the API writes times. These texts sort by time."""
    at = datetime.fromtimestamp(seconds, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"


def seconds_of(text: str) -> float:
    """Seconds since 1970 of a time in the format of `stamp`, which cuts off fractions of a millisecond."""
    return datetime.fromisoformat(text).timestamp()


class Store:
    """The database. Methods are thread-safe, and each is one transaction."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=10000"):
            self._db.execute(f"PRAGMA {pragma}")
        create_tables(self._db)

    def close(self) -> None:
        """Checkpoint the log and close the file."""
        with self._lock:
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all changes in the block, or roll them back if it raises. May be nested."""
        with self._lock:
            if self._db.in_transaction:
                yield
                return
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite itself rolls back when the disk is full
                    self._db.execute("ROLLBACK")
                raise

    def add(self, table: str, row: Mapping[str, Any]) -> None:
        """Insert one row.

        Raises:
            sqlite3.IntegrityError: the id, or the name of an index, already exists.
        """
        names = ", ".join(column(table, name) for name in row)
        placeholders = ", ".join("?" for _ in row)
        with self._lock:
            self._db.execute(
                f'INSERT INTO "{table}" ({names}) VALUES ({placeholders})', encode_row(table, row)
            )

    def change(self, table: str, row_id: str, /, **values: Any) -> bool:
        """Set columns of one row; returns False if there is no such row."""
        sets = ", ".join(f"{column(table, name)} = ?" for name in values)
        with self._lock:
            cursor = self._db.execute(
                f'UPDATE "{table}" SET {sets} WHERE id = ?', [*encode_row(table, values), row_id]
            )
            return cursor.rowcount > 0

    def change_if(self, table: str, row_id: str, state: str, /, **values: Any) -> bool:
        """Set columns of one row if its status is `state`; returns False if no row matches."""
        sets = ", ".join(f"{column(table, name)} = ?" for name in values)
        with self._lock:
            cursor = self._db.execute(
                f'UPDATE "{table}" SET {sets} WHERE id = ? AND status = ?',
                [*encode_row(table, values), row_id, state],
            )
            return cursor.rowcount > 0

    def get(self, table: str, row_id: str) -> Row | None:
        """The row with an id, or None."""
        return next(iter(self.rows(table, [Where("id", "=", row_id)], sort_by="id")), None)

    def remove(self, table: str, where: Sequence[Where]) -> int:
        """Delete the rows that meet every condition; returns their number."""
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
        """Rows that meet every condition, sorted; rows with equal keys keep their order of insertion."""
        text, values = _conditions(table, where)
        direction = "DESC" if descending else "ASC"
        order = f"{column(table, sort_by)} {direction}, rowid {direction}"
        names = ", ".join(column(table, name) for name in columns) or "*"
        with self._lock:
            result = self._db.execute(
                f'SELECT {names} FROM "{table}"{text} ORDER BY {order} LIMIT ? OFFSET ?',
                [*values, limit, offset],
            ).fetchall()
        return [decode_row(table, row) for row in result]

    def total(self, table: str, where: Sequence[Where] = (), sum_of: str | None = None) -> float:
        """The number of rows that meet every condition, or with `sum_of` the sum of that column."""
        text, values = _conditions(table, where)
        aggregate = f"COALESCE(SUM({column(table, sum_of)}), 0)" if sum_of else "COUNT(*)"
        with self._lock:
            return float(self._db.execute(f'SELECT {aggregate} FROM "{table}"{text}', values).fetchone()[0])

    def increment(self, name: str, amount: float = 1.0) -> None:
        """Add an amount to a persistent counter."""
        with self._lock:
            self._db.execute(
                'INSERT INTO "counts" (id, value) VALUES (?, ?) '
                "ON CONFLICT (id) DO UPDATE SET value = value + excluded.value",
                [name, amount],
            )

    def reset_counter(self, name: str) -> None:
        """Set a counter to 0."""
        with self._lock:
            self._db.execute('DELETE FROM "counts" WHERE id = ?', [name])

    def counters(self) -> dict[str, float]:
        """All counters by name."""
        with self._lock:
            return {row["id"]: row["value"] for row in self._db.execute('SELECT * FROM "counts"')}


def _conditions(table: str, where: Sequence[Where]) -> tuple[str, list[Any]]:
    texts: list[str] = []
    values: list[Any] = []
    for condition in where:
        text, bound = (
            _metadata_condition(condition) if condition.metadata else _column_condition(table, condition)
        )
        texts.append(text)
        values += bound
    return (f" WHERE {' AND '.join(texts)}" if texts else ""), values


def _column_condition(table: str, condition: Where) -> tuple[str, list[Any]]:
    name = column(table, condition.name)
    if condition.operator == "empty":
        return f"COALESCE({name}, '') {'=' if condition.value else '<>'} ''", []
    if condition.operator == "in":
        return f"{name} IN (SELECT value FROM json_each(?))", [json.dumps(list(condition.value))]
    return f"{name} {OPERATORS[condition.operator]} ?", [condition.value]


def _metadata_condition(condition: Where) -> tuple[str, list[Any]]:
    """The SQL of a condition on the user metadata, with its bound values: the key and the value."""
    value, operator = condition.value, OPERATORS[condition.operator]
    tests: list[str] = []
    values: list[Any] = [condition.name]
    if condition.untyped:
        tests.append("(each.type = 'text' AND each.value = ?)")
        values.append(value)
        tests.append("each.type = ?")
        # The types of JSON booleans are `true` and `false`. No value has the type `never`.
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
