"""Objects in buckets as videos in Spark: SQL, columns and DataFrames, with a real S3-compatible server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tl_data
from benchmarks.films import with_label
from tests.support.buckets import Bucket
from tests.support.library import Library
from tests.support.odd_server import OddServer
from tl_data.spark import functions as tl

#: An index of its own: other tests count what is in the library's.
INDEX = "spark-buckets"


@pytest.fixture(scope="module")
def registered(spark: Any, library: Library) -> Any:
    tl_data.register(spark, library.settings, index=INDEX)
    return spark


def test_sql_and_columns_take_objects_and_pay_once(
    registered: Any, s3_endpoint: str, library: Library, quick: Path
) -> None:
    spark, bucket = registered, Bucket.make(s3_endpoint)
    body = with_label(quick.read_bytes(), bucket.name)
    addresses = [bucket.put(key, body) for key in ("in/a b.mp4", "in/x/copy é.mp4")]
    bucket.put("in/notes.txt", b"no video")
    before = library.requests("POST /tasks")
    listed = spark.sql(f"SELECT video, size_bytes FROM tl_files('s3://{bucket.name}/in/**/*.mp4') ORDER BY 1")
    assert [tuple(row) for row in listed.collect()] == [(address, len(body)) for address in addresses]
    listed.createOrReplaceTempView("objects")
    rows = spark.sql("SELECT video, tl_index_video(video) AS v FROM objects ORDER BY video").collect()
    assert [row.v.status for row in rows] == ["ready", "ready"]
    assert rows[0].v.video_id == rows[1].v.video_id
    assert library.requests("POST /tasks") == before + 1, "the copy has the same bytes"
    clips = spark.sql("SELECT count(*) FROM objects o, LATERAL tl_clips(o.video) c").collect()
    assert clips[0][0] == 2
    columns = listed.select(
        tl.index_video("video", settings=library.settings.but(index=INDEX)).alias("v")
    ).collect()
    assert {row.v.video_id for row in columns} == {rows[0].v.video_id}
    assert library.requests("POST /tasks") == before + 1


def test_an_object_that_may_not_be_read_is_an_outcome(
    registered: Any, s3_endpoint: str, library: Library, quick: Path
) -> None:
    bucket = Bucket.make(s3_endpoint)
    address = bucket.put("v.mp4", with_label(quick.read_bytes(), bucket.name))
    bucket.deny("s3:GetObject")
    before = library.stats()["video_minutes_indexed"]
    [row] = registered.sql(f"SELECT try_tl_index_video('{address}') AS o").collect()
    assert (row.o.error.code, row.o.error.retryable) == ("video_url_not_accessible", False)
    assert library.stats()["video_minutes_indexed"] == before


def test_workers_send_the_headers_of_a_host(
    spark: Any, library: Library, quick: Path, files: OddServer, tmp_path: Path
) -> None:
    (files.folder / "v.mp4").write_bytes(with_label(quick.read_bytes(), "headers in spark"))
    headers = tmp_path / "headers.toml"
    headers.write_text('["127.0.0.1"]\nAuthorization = "Bearer S3CRET"\n')
    settings = library.settings.but(http_headers=str(headers), index=INDEX)
    rows = spark.createDataFrame([(files.url("v.mp4"),)], ["url"])
    [row] = rows.select(tl.index_video("url", settings=settings).alias("v")).collect()
    assert row.v.status == "ready"
    assert {asked.get("authorization") for asked in files.headers} == {"Bearer S3CRET"}
