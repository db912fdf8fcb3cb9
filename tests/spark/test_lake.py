"""The lake and Spark: what one writes the other reads, vectors bit by bit; Spark tables as sources."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tl_data.errors import SchemaMismatch, SettingsError
from tl_data.lake.base import rows_of
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import SUMMARIES, VECTORS
from tl_data.pipeline.job import Job, Source
from tl_data.pipeline.worklist import Worklist

if TYPE_CHECKING:
    from tests.spark.conftest import Java

pytestmark = pytest.mark.spark

URLS = ["https://example.com/a.mp4", "https://example.com/b.mp4", None]


def keys(job: Job) -> list[list[str]]:
    with Worklist(job, Lake(job.folder)) as source:
        return [list(item.keys) for item in source.items()]


def test_spark_reads_what_the_lake_wrote_and_writes_to_it(java: Java, tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    values = np.random.default_rng(3).standard_normal(512).astype(np.float32)
    table = lake.table(VECTORS)
    for video in ("a", "b"):
        row = {"video_id": video, "start_sec": 0.5, "model": "m", "dimension": 512, "vector": values}
        table.replace_groups(rows_of(VECTORS, [row]))
    frame = java.spark.read.format("delta").load(table.sql_path())
    [first, _] = frame.orderBy("video_id").collect()
    assert struct.pack("512f", *first["vector"]) == values.tobytes()

    frame.limit(1).selectExpr("'c' AS video_id", "* EXCEPT (video_id)").write.format("delta").mode(
        "append"
    ).save(table.sql_path())
    back = {row["video_id"]: row["vector"] for row in table.batches().read_all().to_pylist()}
    assert set(back) == {"a", "b", "c"}
    assert struct.pack("512f", *back["c"]) == values.tobytes()
    table.replace_groups(
        rows_of(VECTORS, [{"video_id": "c", "model": "m", "start_sec": 9.0}]), delete=[("a",)]
    )
    assert sorted(lake.read(VECTORS, ["video_id"]).column("video_id").to_pylist()) == ["b", "c"]


def test_a_table_that_spark_created_is_gone_on_with(java: Java, tmp_path: Path) -> None:
    java.spark.sql(
        "SELECT 'v' AS video_id, 'p' AS prompt, 's' AS summary, 't' AS title, array('x') AS topics, "
        "array('y') AS hashtags, 'm' AS model, current_timestamp() AS at"
    ).write.format("delta").save(str(tmp_path / "summaries"))
    table = Lake(str(tmp_path)).table(SUMMARIES)
    table.replace_groups(rows_of(SUMMARIES, [{"video_id": "v", "prompt": "p", "summary": "new"}]))
    [row] = table.batches().read_all().to_pylist()
    assert (row["summary"], row["topics"]) == ("new", None)


def test_sources_of_spark(java: Java, tmp_path: Path) -> None:
    frame = java.spark.createDataFrame([(n, url) for n, url in enumerate(URLS)], "id long, url string")
    frame.write.format("delta").save(str(tmp_path / "delta"))
    frame.createOrReplaceTempView("assets_of_a_test")
    wanted = [["0"], ["1"], ["2"]]
    for source in (
        Source("delta", str(tmp_path / "delta"), key="id"),
        Source("spark_table", "assets_of_a_test", key="id"),
        Source("spark_query", "SELECT * FROM assets_of_a_test ORDER BY id", key="id"),
    ):
        job = Job(source, str(tmp_path / "lake"), engine="spark")
        assert sorted(keys(job)) == wanted


def test_spark_reads_the_files_that_duckdb_reads(java: Java, tmp_path: Path) -> None:
    rows = [{"id": f"00{n}", "url": url} for n, url in enumerate(URLS)]
    (tmp_path / "a.csv").write_text(
        "note,id,url\n" + "".join(f'"a ""b"",\nc",{r["id"]},{r["url"] or ""}\n' for r in rows)
    )
    (tmp_path / "a.tsv").write_text("id\turl\n" + "".join(f"{r['id']}\t{r['url'] or ''}\n" for r in rows))
    (tmp_path / "array.json").write_text(json.dumps(rows, indent=1))
    (tmp_path / "lines.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "p").mkdir()
    for number, row in enumerate(rows):
        pq.write_table(
            pa.Table.from_pylist([row], pa.schema({"id": "string", "url": "string"})),
            tmp_path / "p" / f"{number}.parquet",
        )
    (tmp_path / "semicolons.csv").write_text(
        "price;id;url\n" + "".join(f"1,5;{r['id']};{r['url'] or ''}\n" for r in rows)
    )
    for name in ("a.csv", "a.tsv", "semicolons.csv", "array.json", "lines.jsonl", "p/*.parquet"):
        job = Job(Source("files", str(tmp_path / name), key="id"), str(tmp_path / "lake"))
        assert keys(job.but(engine="spark")) == keys(job) == [["000"], ["001"], ["002"]], name


@pytest.mark.parametrize(
    "text",
    [
        b"id,url\n1,https://e.com/w_500,h_300/a.mp4\n",
        b"url\nhttps://e.com/w_500,h_300/a.mp4\n",
    ],
    ids=["one comma too many", "alone in its line"],
)
def test_spark_loses_no_part_of_a_url(java: Java, tmp_path: Path, text: bytes) -> None:
    (tmp_path / "a.csv").write_bytes(text)
    with pytest.raises((SettingsError, SchemaMismatch)):
        keys(Job(Source("files", str(tmp_path / "a.csv")), str(tmp_path / "lake"), engine="spark"))


def test_spark_refuses_a_url_that_is_not_utf_8(java: Java, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("id,url\n1,https://e.com/\u00fc.mp4\n".encode("latin-1"))
    job = Job(Source("files", str(tmp_path / "a.csv")), str(tmp_path / "lake"), engine="spark")
    with Worklist(job, Lake(job.folder)) as source:
        [item] = source.items()
    assert item.error is not None
    assert item.error.code == "video_url_invalid", item.error


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            Source("files", "/nowhere/*.parquet"),
            r"source.files: /nowhere/\*.parquet cannot be .*PATH_NOT_FOUND",
        ),
        (
            Source("spark_table", "no_such_table"),
            "source.spark_table: no_such_table cannot be .*NOT_FOUND",
        ),
        (Source("spark_query", "SELEC url"), "source.spark_query: SELEC url cannot be .*SYNTAX_ERROR"),
    ],
)
def test_what_spark_cannot_read_is_named(java: Java, tmp_path: Path, source: Source, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        keys(Job(source, str(tmp_path / "lake"), engine="spark"))


def test_deletion_vectors_are_refused_with_a_way_out(java: Java, tmp_path: Path) -> None:
    place = str(tmp_path / "delta")
    java.spark.range(100).selectExpr("CAST(id AS STRING) AS url").coalesce(1).write.format("delta").option(
        "delta.enableDeletionVectors", "true"
    ).save(place)
    java.spark.sql(f"DELETE FROM delta.`{place}` WHERE url = '7'")
    job = Job(Source("delta", place), str(tmp_path / "lake"))
    with pytest.raises(SettingsError, match="cannot be read without Spark"):
        keys(job)
    assert len(keys(job.but(engine="spark"))) == 99
