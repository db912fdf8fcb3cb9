"""The tables of the engine's state: their columns, how a file gets them, and how rows are written there."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

#: Table -> column -> SQL type. Columns of type JSON are texts in the file.
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
        "form": "INTEGER DEFAULT 0",
    },
    "embed_tasks": {
        "id": "TEXT PRIMARY KEY", "status": "TEXT", "model_name": "TEXT", "created_at": "TEXT",
        "updated_at": "TEXT", "url": "TEXT", "filename": "TEXT", "sha256": "TEXT",
        "duration": "REAL", "start": "REAL", "options": "JSON", "kind": "TEXT DEFAULT 'video'",
        "end": "REAL", "clip_length": "REAL", "scopes": "JSON", "segments": "JSON", "error": "JSON",
        "fate": "JSON", "stuck": "INTEGER DEFAULT 0",
    },
    "analyze_tasks": {
        "id": "TEXT PRIMARY KEY", "status": "TEXT", "created_at": "TEXT", "updated_at": "TEXT",
        "completed_at": "TEXT", "custom_id": "TEXT", "url": "TEXT", "asset_id": "TEXT", "body": "JSON",
        "result": "JSON", "error": "JSON", "fate": "JSON", "stuck": "INTEGER DEFAULT 0",
    },
    "assets": {
        "id": "TEXT PRIMARY KEY", "status": "TEXT", "method": "TEXT", "created_at": "TEXT",
        "updated_at": "TEXT", "url": "TEXT", "filename": "TEXT", "sha256": "TEXT", "size": "INTEGER",
        "duration": "REAL", "user_metadata": "JSON", "error": "JSON", "fate": "JSON",
        "stuck": "INTEGER DEFAULT 0",
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


def lay_out(db: sqlite3.Connection) -> None:
    """Make the tables and indexes that are missing, and columns that a file of an earlier version lacks."""
    for table, columns in SCHEMA.items():
        types = {name: kind.replace("JSON", "TEXT") for name, kind in columns.items()}
        spec = ", ".join(f'"{name}" {kind}' for name, kind in types.items())
        db.execute(f'CREATE TABLE IF NOT EXISTS "{table}" ({spec})')
        there = {row["name"] for row in db.execute(f'PRAGMA table_info("{table}")')}
        for name in columns.keys() - there:
            db.execute(f'ALTER TABLE "{table}" ADD COLUMN "{name}" {types[name]}')
    for statement in INDEXES:
        db.execute(statement)


def column(table: str, name: str) -> str:
    """The name of a column for an SQL text.

    Raises:
        KeyError: the table has no such column.
    """
    if name not in SCHEMA[table]:
        raise KeyError(f"{table} has no column {name!r}")
    return f'"{name}"'


def encode(table: str, row: Mapping[str, Any]) -> list[Any]:
    """The values of a row as the file has them, in the order of the row."""
    return [
        json.dumps(value) if SCHEMA[table][name] == "JSON" and value is not None else value
        for name, value in row.items()
    ]


def decode(table: str, row: sqlite3.Row) -> dict[str, Any]:
    """A row, or some columns of it, as a dict of Python's values."""
    kinds = SCHEMA[table]
    return {
        name: json.loads(row[name]) if kinds[name] == "JSON" and row[name] is not None else row[name]
        for name in row.keys()  # noqa: SIM118  (a sqlite3.Row iterates over its values)
    }
