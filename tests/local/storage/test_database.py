"""The store: nothing sent is ever SQL, nothing half-done stays, files of earlier versions open."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tl_data.local.storage.database import ID, Store, Where, new_id, now, stamp


def row(**more: object) -> dict[str, object]:
    """An index."""
    return {"id": new_id(), "index_name": "x", "models": [], "addons": [], "created_at": now(), **more}


def test_names_that_are_no_columns_are_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    for bad in ('id"; DROP TABLE tasks; --', "", "ID "):
        with pytest.raises(KeyError):
            store.rows("tasks", [Where(bad, "=", "x")])
        with pytest.raises(KeyError):
            store.rows("tasks", sort_by=bad)
        with pytest.raises(KeyError):
            store.add("tasks", {bad: 1})
    with pytest.raises(KeyError):
        store.rows("tasks", [Where("id", "= 1 OR 1", "x")])


def test_all_or_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")

    def twice() -> None:
        with store.transaction():
            store.add("indexes", row())
            store.increment("made")
            store.add("indexes", row())

    with pytest.raises(sqlite3.IntegrityError):
        twice()
    assert store.rows("indexes") == []
    assert store.counters() == {}
    with store.transaction(), store.transaction():
        store.increment("made", 2)
    assert store.counters() == {"made": 2}


def test_a_file_of_an_earlier_version(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "db") as old:
        old.execute("CREATE TABLE indexes (id TEXT PRIMARY KEY, index_name TEXT, created_at TEXT)")
        old.execute("INSERT INTO indexes VALUES ('a', 'b', 'c')")
    old.close()
    store = Store(tmp_path / "db")
    assert store.get("indexes", "a") == {
        "id": "a", "index_name": "b", "created_at": "c", "models": None, "addons": None, "updated_at": None,
    }  # fmt: skip
    store.add("indexes", row())


def test_ids_and_times_sort_by_age() -> None:
    assert ID.fullmatch(new_id())
    assert stamp(0) == "1970-01-01T00:00:00.000Z"
    assert stamp(9.9996) < stamp(10)
    assert now(-1) < now() < now(1)
