"""Sources that are wrong late, oddly or for now: each is read, or refused with a sentence before any cost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tl_data.errors import SchemaMismatch, SettingsError
from tl_data.pipeline.job import Job, Source
from tl_data.pipeline.source import SourceLocked, pairs

MANY = 25_000  # rows: more than DuckDB looks at before it decides what a file is like


def job(path: Path, key: str | None = None) -> Job:
    return Job(Source("files", str(path), key=key), str(path.parent / "lake"), base=str(path.parent))


def read(path: Path, key: str | None = None) -> list[tuple[str | None, str | None]]:
    return list(pairs(job(path, key)))


def test_a_quote_that_comes_late_is_a_quote(tmp_path: Path) -> None:
    path = tmp_path / "late.csv"
    rows = [f"{n},http://h/{n}.mp4" for n in range(MANY)]
    path.write_text("\n".join(["id,url", *rows, 'x,"http://h/a,b.mp4"']) + "\n")
    found = read(path, "id")
    assert (len(found), found[-1]) == (MANY + 1, ("x", "http://h/a,b.mp4"))


@pytest.mark.parametrize(
    ("name", "line"),
    [("extra.csv", b"1,2,3,4\n"), ("latin.csv", "1,http://h/\u00fc.mp4\n".encode("latin-1"))],
)
def test_late_errors_have_a_message(tmp_path: Path, name: str, line: bytes) -> None:
    path = tmp_path / name
    rows = "".join(f"{n},http://h/{n}.mp4\n" for n in range(MANY))
    path.write_bytes(b"id,url\n" + rows.encode() + line)
    with pytest.raises(SettingsError):
        read(path, "id")


def test_a_broken_line_of_json_late_in_the_file_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "late.jsonl"
    path.write_text("".join(f'{{"url": "http://h/{n}.mp4"}}\n' for n in range(MANY)) + '{"url": \n')
    with pytest.raises(SettingsError):
        read(path)


@pytest.mark.parametrize(
    "keys",
    [
        pa.array([[1, 2]]),
        pa.array([{"a": 1}]),
        pa.array([b"\xff\xfe"], pa.binary()),
    ],
)
def test_a_key_that_is_no_single_value_is_refused(tmp_path: Path, keys: pa.Array) -> None:
    path = tmp_path / "keys.parquet"
    pq.write_table(pa.table({"id": keys, "url": ["http://h/a.mp4"]}), path)
    with pytest.raises(SchemaMismatch, match="'id'"):
        read(path, "id")


def test_byte_order_marks(tmp_path: Path) -> None:
    csv, json, toml = tmp_path / "a.csv", tmp_path / "a.json", tmp_path / "job.toml"
    csv.write_bytes(b"\xef\xbb\xbfurl\nhttp://h/a.mp4\n")
    assert read(csv) == [(None, "http://h/a.mp4")]
    json.write_bytes(b'\xef\xbb\xbf[{"url": "http://h/a.mp4"}]')
    with pytest.raises(SettingsError, match="byte order mark"):
        read(json)
    toml.write_bytes(b"\xef\xbb\xbf[source]\nfiles = 'a.csv'\n[outputs]\nfolder = 'lake'\n")
    assert Job.load(toml).source.place == str(csv)


def test_a_job_in_a_folder_with_brackets(tmp_path: Path) -> None:
    folder = tmp_path / "year [2024]"
    folder.mkdir()
    for name in ("a.csv", "[1] b.csv"):
        (folder / name).write_text(f"url\nhttp://h/{name[-5]}.mp4\n")
    found = {url for _, url in read(folder / "*.csv")}
    assert found == {"http://h/a.mp4", "http://h/b.mp4"}
    assert read(folder / "[1] b.csv") == [(None, "http://h/b.mp4")]


def test_a_database_that_another_process_holds_is_free_later(tmp_path: Path) -> None:
    path = tmp_path / "videos.duckdb"
    with duckdb.connect(str(path)) as con:
        con.execute("CREATE TABLE v AS SELECT 'http://h/a.mp4' AS url")
    source = Source("query", "FROM v", database=str(path))
    asked = Job(source, str(tmp_path / "lake"))
    hold = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline()
        (tmp_path / "job.toml").write_text(
            f"[source]\nquery = 'FROM v'\ndatabase = '{path.name}'\n[outputs]\nfolder = 'lake'\n"
        )
        with pytest.raises(SourceLocked) as locked:
            list(pairs(asked))
        assert locked.value.retryable
    finally:
        holder.communicate(b"")
    assert list(pairs(asked)) == [(None, "http://h/a.mp4")]
