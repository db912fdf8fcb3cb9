"""Objects in buckets as videos in SQL: DuckDB, the embedded engine and a real S3-compatible server."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import httpx
import pytest

import tl_data
from benchmarks.films import with_label
from tests.support.buckets import CREDENTIALS, Bucket
from tests.support.library import Library
from tests.support.odd_server import OddServer
from tl_data.errors import SettingsError
from tl_data.media.listing import files_below

#: Keys of the bucket in which three are videos. `BUCKET_KEYS=100000` takes minutes to fill.
KEYS = int(os.environ.get("BUCKET_KEYS", "300"))


@pytest.fixture
def bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty bucket that the environment has credentials for."""
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": s3_endpoint}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    return Bucket.make(s3_endpoint)


@pytest.fixture
def con(library: Library) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as con:
        tl_data.register(con, library.settings, index=f"bucket-{os.urandom(4).hex()}")
        yield con


def test_a_pattern_is_a_source_and_copies_are_one_video(
    con: duckdb.DuckDBPyConnection, bucket: Bucket, library: Library, quick: Path
) -> None:
    body = with_label(quick.read_bytes(), bucket.name)
    for key in ("in/2026/a b.mp4", "in/2026/copy é.mp4", "in/c.mp4", "out/d.mp4", "in/notes.txt"):
        bucket.put(key, with_label(body, "c") if key == "in/c.mp4" else body)
    before = library.requests("POST /tasks")
    rows = con.sql(
        "SELECT f.video, f.size_bytes, v.video_id, v.status FROM (SELECT video, size_bytes, "
        f"tl_index_video(video) AS v FROM tl_files('s3://{bucket.name}/in/**/*.mp4')) f ORDER BY 1"
    ).fetchall()
    assert [(video, status) for video, _, _, status in rows] == [
        (f"s3://{bucket.name}/in/{key}", "ready") for key in ("2026/a b.mp4", "2026/copy é.mp4", "c.mp4")
    ]
    assert [size for _, size, *_ in rows] == [len(body), len(body), len(body) + 9]
    assert rows[0][2] == rows[1][2] != rows[2][2]
    assert library.requests("POST /tasks") == before + 2
    [(clips,)] = con.sql(f"SELECT count(*) FROM tl_clips('s3://{bucket.name}/out/d.mp4')").fetchall()
    assert clips == 1
    assert library.requests("POST /tasks") == before + 2, "the object elsewhere has the same bytes"


def test_a_new_version_of_an_object_is_a_new_video(
    con: duckdb.DuckDBPyConnection, bucket: Bucket, library: Library, quick: Path
) -> None:
    bucket.keep_versions()
    index = f"versions-{bucket.name}"
    statement = f"SELECT tl_index_video(video).video_id FROM tl_files('s3://{bucket.name}/')"
    ids = []
    for word in ("one", "two"):
        bucket.put("v.mp4", with_label(quick.read_bytes(), bucket.name + word))
        tl_data.register(con, library.settings, index=index, concurrency=8 + len(ids))  # a new session
        ids.append(con.sql(statement).fetchall())
    assert [len(rows) for rows in ids] == [1, 1], "a listing has the newest version alone"
    assert ids[0] != ids[1]


def test_what_may_not_be_listed_or_read(
    con: duckdb.DuckDBPyConnection,
    bucket: Bucket,
    library: Library,
    quick: Path,
    files: OddServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address = bucket.put("v.mp4", with_label(quick.read_bytes(), bucket.name))
    bucket.deny("s3:GetObject")
    before = library.stats()["video_minutes_indexed"]
    [(code, retryable)] = con.sql(
        f"SELECT o.error.code, o.error.retryable FROM (SELECT try_tl_index_video('{address}') AS o)"
    ).fetchall()
    assert (code, retryable) == ("video_url_not_accessible", False)
    assert library.stats()["video_minutes_indexed"] == before
    assert [file.address for file in files_below(f"s3://{bucket.name}/")] == [address]
    monkeypatch.setenv("AWS_ENDPOINT_URL", files.odd("403", "").rstrip("/"))
    with pytest.raises(SettingsError, match="no permission"):
        list(files_below(f"s3://{bucket.name}/"))
    with pytest.raises(duckdb.Error, match="no permission"):
        con.sql(f"SELECT * FROM tl_files('s3://{bucket.name}/')").fetchall()


def test_three_videos_among_many_keys(
    con: duckdb.DuckDBPyConnection, bucket: Bucket, s3_endpoint: str
) -> None:
    """Pages of a listing are not kept: the memory does not grow with the keys."""
    with httpx.Client() as client, ThreadPoolExecutor(4) as pool:

        def put(number: int) -> int:
            url = f"{s3_endpoint}/{bucket.name}/logs/{number:06}.json"
            return client.put(url, content=b"{}").status_code

        assert set(pool.map(put, range(KEYS))) == {200}
    for key in ("a.mp4", "logs/000200.mov", "z/last.webm"):
        bucket.put(key, b"1")
    tracemalloc.start()
    found = [file.address for file in files_below(f"s3://{bucket.name}/")]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == [f"s3://{bucket.name}/{key}" for key in ("a.mp4", "logs/000200.mov", "z/last.webm")]
    assert peak < 4e6
    assert con.sql(f"SELECT count(*) FROM tl_files('s3://{bucket.name}/')").fetchall() == [(3,)]


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("gs://bucket/v.mp4", "video_url_not_allowed"),
        ("az://container/v.mp4", "video_url_not_allowed"),
        ("abfss://c@account.dfs.core.windows.net/v.mp4", "video_url_not_allowed"),
        ("s3://bucket", "video_url_invalid"),
        ("dbfs:/Volumes/c/s/v/none.mp4", "video_file_unreadable"),
        ("/Volumes/c/s/v/none.mp4", "video_file_unreadable"),
        ("file:///none/v.mp4", "video_file_unreadable"),
    ],
)
def test_addresses_that_cannot_be_read_are_outcomes(
    con: duckdb.DuckDBPyConnection, library: Library, monkeypatch: pytest.MonkeyPatch, address: str, code: str
) -> None:
    for name in [name for name in os.environ if name.startswith(("AZURE_", "GOOGLE_", "AWS_"))]:
        monkeypatch.delenv(name)
    before = library.requests("POST /tasks")
    [(found, retryable)] = con.execute(
        "SELECT o.error.code, o.error.retryable FROM (SELECT try_tl_index_video($1) AS o)", [address]
    ).fetchall()
    assert (found, retryable) == (code, False)
    assert library.requests("POST /tasks") == before


def test_files_by_url_are_uploaded(con: duckdb.DuckDBPyConnection, quick: Path, tmp_path: Path) -> None:
    file = tmp_path / "own é.mp4"
    file.write_bytes(with_label(quick.read_bytes(), "own"))
    statement = "SELECT tl_index_video($1).video_id = tl_index_video($2).video_id"
    assert con.execute(statement, [str(file), file.as_uri()]).fetchall() == [(True,)]
