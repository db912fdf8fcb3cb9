"""Tables of the release before, columns that somebody added, and two formats in one folder."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, Field, write_deltalake

from tl_data.errors import SchemaMismatch, SettingsError
from tl_data.lake.base import rows_of
from tl_data.lake.lake import Format, Lake
from tl_data.lake.schemas import CHAPTERS, CLIPS, ERRORS, RUNS, SUMMARIES, TABLES, VIDEOS, LakeSchema
from tl_data.types import TIME

FORMATS: list[Format] = ["parquet", "delta"]
formats = pytest.mark.parametrize("kind", FORMATS)
AT = datetime(2026, 11, 1, tzinfo=UTC)


def as_before(declared: LakeSchema) -> pa.Schema:
    """The columns that the release before wrote."""
    kept = [f for f in declared.schema if f.name not in declared.added]
    return pa.schema([pa.field(f.name, declared.former.get(f.name, f.type)) for f in kept])


def put_before(folder: Path, kind: Format, declared: LakeSchema, rows: list[dict[str, object]]) -> None:
    """A table as the release before left it."""
    place = folder / declared.name
    table = pa.Table.from_pylist(rows, as_before(declared))
    if kind == "delta":
        write_deltalake(str(place), table)
    else:
        place.mkdir(parents=True)
        pq.write_table(table, place / "part-000000.parquet")


def stored(folder: Path, kind: Format, declared: LakeSchema) -> pa.Schema:
    """The columns of the files or the log."""
    place = folder / declared.name
    if kind == "delta":
        return pa.schema(DeltaTable(str(place)).schema().to_arrow())
    return pq.read_schema(place / "part-000000.parquet")


@formats
def test_a_table_of_the_release_before_is_read_as_it_is_and_migrated_by_the_first_write(
    tmp_path: Path, kind: Format
) -> None:
    row = {"run_id": "old", "job": "j", "status": "done", "distinct": 3, "price": 1.2345678, "started_at": AT}
    put_before(tmp_path, kind, RUNS, [row])
    put_before(tmp_path, kind, ERRORS, [{"source_key": "k", "code": "c", "at": AT}])
    put_before(tmp_path, kind, VIDEOS, [{"source_key": "k", "video_id": "v", "made": ["clips"]}])
    lake = Lake(str(tmp_path), kind)
    before = stored(tmp_path, kind, RUNS)
    [read] = lake.read(RUNS).to_pylist()
    assert (read["price"], read["distinct_videos"], read["distinct"]) == (Decimal("1.2345678"), 3, 3)
    assert lake.read(RUNS, ["distinct_videos"]).to_pylist() == [{"distinct_videos": 3}]
    assert (read["digest_until"], read["removed"]) == (None, None)
    assert lake.read(ERRORS).to_pylist()[0]["failed_at"] == AT
    assert lake.read(VIDEOS, ["asset_id", "made"]).to_pylist() == [{"asset_id": None, "made": ["clips"]}]
    assert stored(tmp_path, kind, RUNS) == before  # a plan writes nothing

    lake.table(RUNS).replace_groups(rows_of(RUNS, [{"run_id": "new", "distinct_videos": 5, "price": 2}]))
    lake.table(ERRORS).replace_groups(
        rows_of(ERRORS, [{"source_key": "l", "failed_at": AT, "output": "clips"}])
    )
    lake.table(VIDEOS).replace_groups(rows_of(VIDEOS, [{"source_key": "l", "job": "j"}]))
    runs = {r["run_id"]: r for r in lake.read(RUNS).to_pylist()}
    assert {name: (r["distinct"], r["distinct_videos"], r["price"]) for name, r in runs.items()} == {
        "old": (3, 3, Decimal("1.2345678")),
        "new": (5, 5, Decimal(2)),
    }
    assert stored(tmp_path, kind, RUNS).field("price").type == pa.decimal128(18, 9)
    assert {(r["source_key"], r["at"], r["failed_at"]) for r in lake.read(ERRORS).to_pylist()} == {
        ("k", AT, AT),
        ("l", AT, AT),
    }
    assert {r["source_key"]: r["job"] for r in lake.read(VIDEOS).to_pylist()} == {"k": None, "l": "j"}
    assert not lake.table(RUNS).migrate()


@formats
def test_a_table_is_migrated_by_hand(tmp_path: Path, kind: Format) -> None:
    put_before(tmp_path, kind, SUMMARIES, [{"video_id": "v", "prompt": "", "topics": ["a"], "at": AT}])
    table = Lake(str(tmp_path), kind).table(SUMMARIES)
    assert table.migrate()
    assert not table.migrate()
    table.add_missing_comments()
    assert table.add_missing_comments() == 0
    [row] = table.batches().read_all().to_pylist()
    assert (row["topics"], row["made_at"], row["finish_reason"]) == (["a"], AT, None)


@formats
def test_chapters_get_the_key_by_which_they_are_replaced(tmp_path: Path, kind: Format) -> None:
    put_before(tmp_path, kind, CHAPTERS, [{"video_id": "v", "chapter_number": 0}])
    table = Lake(str(tmp_path), kind).table(CHAPTERS)
    assert table.migrate()
    assert table.batches(["content_key"]).read_all().to_pylist() == [{"content_key": "video:v"}]
    table.replace_groups(
        rows_of(CHAPTERS, [{"content_key": "k", "video_id": "v", "chapter_number": 0}]), [("video:v",)]
    )
    assert table.batches(["content_key"]).read_all().to_pylist() == [{"content_key": "k"}]


@formats
def test_every_column_has_a_description_that_others_read(tmp_path: Path, kind: Format) -> None:
    for declared in TABLES.values():
        Lake(str(tmp_path), kind).table(declared)
        found = stored(tmp_path, kind, declared)
        for name in declared.schema.names:
            said = (found.field(name).metadata or {}).get(b"comment", b"").decode()
            assert said == declared.description(name) != "", (declared.name, name)


@formats
def test_columns_added_by_users_are_kept(tmp_path: Path, kind: Format) -> None:
    lake = Lake(str(tmp_path), kind)
    rows = [{"video_id": "v", "clip_number": n} for n in range(2)]
    lake.table(CLIPS).replace_groups(rows_of(CLIPS, rows))
    if kind == "delta":
        DeltaTable(str(tmp_path / "clips")).alter.add_columns([Field("team", "string")])
        DeltaTable(str(tmp_path / "clips")).update({"team": "'news'"})
    else:
        file = tmp_path / "clips" / "part-000000.parquet"
        old = pq.read_table(file)
        pq.write_table(old.append_column("team", pa.array(["news"] * 2)), file)
    table = lake.table(CLIPS)
    table.replace_groups(rows_of(CLIPS, [{"video_id": "w", "clip_number": 0}]))
    table.replace_groups(rows_of(CLIPS, []), delete=[("x",)])
    assert table.batches().schema == CLIPS.schema

    def teams() -> list[tuple[str, str]]:
        if kind == "delta":
            found = DeltaTable(str(tmp_path / "clips")).to_pyarrow_table()
        else:
            found = duckdb.sql(f"FROM read_parquet('{tmp_path}/clips/*.parquet')").to_arrow_table()
        return sorted((r["video_id"], r["team"] or "") for r in found.to_pylist())

    assert teams() == [("v", "news"), ("v", "news"), ("w", "")]
    table.replace(rows_of(CLIPS, [{"video_id": "x", "clip_number": 0}]))
    assert teams() == [("x", "")]


@formats
def test_the_other_format_in_the_same_folder_is_refused(tmp_path: Path, kind: Format) -> None:
    Lake(str(tmp_path), kind).table(CLIPS)
    other: Format = "delta" if kind == "parquet" else "parquet"
    with pytest.raises(SettingsError, match=kind):
        Lake(str(tmp_path), other)
    assert Lake(str(tmp_path), kind).read(CLIPS).num_rows == 0


@pytest.mark.parametrize("name", ["lake [1]", "lake %20", "a|b", "a^b"])
def test_a_folder_that_delta_cannot_take_is_refused_before_anything_is_written(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(SettingsError):
        Lake(str(tmp_path / name), "delta")
    assert Lake(str(tmp_path / name), "parquet").table(CLIPS).batches().read_all().num_rows == 0


@formats
def test_columns_of_another_type_are_refused(tmp_path: Path, kind: Format) -> None:
    put_before(tmp_path, kind, RUNS, [])
    place = tmp_path / "asked"
    wrong = pa.table({"content_key": ["k"], "questions": ["q"], "at": pa.array([AT], TIME)})
    if kind == "delta":
        write_deltalake(str(place), wrong)
    else:
        place.mkdir()
        pq.write_table(wrong, place / "part-000000.parquet")
    with pytest.raises(SchemaMismatch, match="questions is string"):
        Lake(str(tmp_path), kind).table(TABLES["asked"])
