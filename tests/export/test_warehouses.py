"""Files and scripts for warehouses: parsed in their own dialects, and run in DuckDB."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest

import tl_data
from tests.support.export_lake import needs, vector, write_vectors
from tl_data.errors import SchemaMismatch, SettingsError
from tl_data.export.runner import Report
from tl_data.lake.lake import Lake

PLACES = {
    "snowflake": "@video/tl_data",
    "bigquery": "gs://bucket/tl data",
    "databricks": "/Volumes/main/video/files",
}
each = pytest.mark.parametrize("tool", [*PLACES])


def _export(lake: Lake, tool: str, folder: Path, **how: object) -> dict[str, Report]:
    query = f"?place={quote(PLACES[tool], safe='')}&schema=main.video"
    return {r.table: r for r in tl_data.export(lake.folder, f"{tool}://{folder}{query}", **how)}


@needs("sqlglot", "dev")
@each
def test_every_statement_is_parsed(tool: str, lake: Lake, tmp_path: Path) -> None:
    import sqlglot
    from sqlglot import exp

    made = _export(lake, tool, tmp_path / "out")
    assert {*made} == {"videos", "clips", "summaries", "chapters", "vectors", "alerts"}
    write_vectors(lake, [("v-news.mp4", 0.0, 10.0, vector(99))])
    _export(lake, tool, tmp_path / "out", table="vectors")
    scripts = sorted((tmp_path / "out").rglob("*.sql"))
    assert len(scripts) == 13
    kinds: set[type] = set()
    for script in scripts:
        for statement in sqlglot.parse(script.read_text(), dialect=tool):
            assert statement is not None
            assert not isinstance(statement, exp.Command), statement.sql()  # what it does not understand
            kinds.add(type(statement))
    assert {exp.Create, exp.Merge, exp.Delete} <= kinds
    [create] = sqlglot.parse((tmp_path / "out/vectors/create.sql").read_text(), dialect=tool)
    columns = {c.name: c.kind.sql(dialect=tool) for c in create.find_all(exp.ColumnDef)}
    assert (
        columns["vector"]
        == {
            "snowflake": "VECTOR(FLOAT, 8)",
            "bigquery": "ARRAY<FLOAT64>",
            "databricks": "ARRAY<FLOAT>",
        }[tool]
    )
    assert columns["dimension"] in ("BIGINT", "INT64")


@each
def test_files_hold_what_changed(tool: str, lake: Lake, tmp_path: Path) -> None:
    base = tmp_path / "out" / "vectors"
    first = _export(lake, tool, tmp_path / "out", table="vectors")["vectors"]
    assert (first.upserted, pq.read_table(base / "000001" / "rows").num_rows) == (9, 9)
    _export(lake, tool, tmp_path / "out", table="vectors")
    assert sorted(p.name for p in base.iterdir()) == ["000001", "create.sql"]
    write_vectors(lake, [("v-news.mp4", 0.0, 10.0, vector(99)), ("v-talk.mp4", 0.0, 10.0, vector(6))])
    second = _export(lake, tool, tmp_path / "out", table="vectors")["vectors"]
    assert (second.upserted, second.unchanged, second.deleted) == (1, 1, 7)
    assert pq.read_table(base / "000002" / "rows").column("video_id").to_pylist() == ["v-news.mp4"]
    assert pq.read_table(base / "000002" / "gone").num_rows == 7
    assert f"{PLACES[tool]}/vectors/000002" in (base / "000002" / "load.sql").read_text()


def test_the_scripts_do_what_they_say(lake: Lake, tmp_path: Path) -> None:
    """DuckDB runs the statements of Databricks, with the files of this machine in the place of the volume."""
    import duckdb

    out = tmp_path / "out"
    con = duckdb.connect()
    con.execute("ATTACH ':memory:' AS main2; CREATE SCHEMA main2.video")

    def run(script: Path) -> None:
        text = script.read_text().replace("`main`", "main2").replace(" USING DELTA", "").replace("`", '"')
        text = text.replace("ARRAY<FLOAT>", "FLOAT[]").replace("STRING", "VARCHAR")
        for kind in ("rows", "gone"):
            place = f'{PLACES["databricks"]}/vectors/{script.parent.name}/{kind}"'
            text = text.replace(f'parquet."{place}', f"read_parquet('{script.parent}/{kind}/*.parquet')")
        con.execute(text)

    _export(lake, "databricks", out, table="vectors")
    run(out / "vectors" / "create.sql")
    run(out / "vectors" / "000001" / "load.sql")
    write_vectors(lake, [("v-news.mp4", 0.0, 10.0, vector(99)), ("v-new", 0.0, 10.0, vector(6))])
    _export(lake, "databricks", out, table="vectors")
    for _ in range(2):  # safe to repeat
        run(out / "vectors" / "000002" / "load.sql")
    found = con.execute("SELECT video_id, vector FROM main2.video.vectors ORDER BY 1").fetchall()
    con.close()
    assert [video for video, _ in found] == ["v-new", "v-news.mp4"]
    assert found[1][1] == pytest.approx(vector(99), abs=1e-6)


def test_the_script_of_a_killed_export_is_written_later(lake: Lake, tmp_path: Path) -> None:
    base = tmp_path / "out" / "vectors"
    _export(lake, "databricks", tmp_path / "out", table="vectors")
    said = (base / "000001" / "load.sql").read_text()
    (base / "000001" / "load.sql").unlink()
    write_vectors(lake, [("v-news.mp4", 0.0, 10.0, vector(99))])
    _export(lake, "databricks", tmp_path / "out", table="vectors")
    assert (base / "000001" / "load.sql").read_text() == said
    assert (base / "000002" / "load.sql").is_file()


def test_bad_targets_are_refused(lake: Lake, tmp_path: Path) -> None:
    for target in (f"bigquery://{tmp_path}/a", f"snowflake://{tmp_path}/a?place=s3://b"):
        with pytest.raises(SettingsError):
            tl_data.export(lake.folder, target)
    with pytest.raises(SettingsError):
        tl_data.export(lake.folder, f"bigquery://{tmp_path}/a?place=gs://b'%3B")
    _export(lake, "snowflake", tmp_path / "out", table="vectors")
    write_vectors(lake, [("v", 0.0, 1.0, vector(1, 16))])
    with pytest.raises(SchemaMismatch):
        _export(lake, "snowflake", tmp_path / "out", table="vectors")
