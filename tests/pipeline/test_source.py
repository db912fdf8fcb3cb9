"""Sources: files, Delta, queries, folders; and the errors when they are not as expected."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from tl_data.errors import SchemaMismatch, SettingsError
from tl_data.lake.lake import Lake
from tl_data.media.listing import files_below
from tl_data.pipeline.job import Job, Source
from tl_data.pipeline.worklist import SourceVideo, Worklist

URLS = ["https://example.com/a.mp4", "https://example.com/b.mp4", None, "https://example.com/a.mp4"]
TABLE = pa.table({"id": [1, 2, 3, 4], "url": URLS, "size": [1.0, 2.0, 3.0, 4.0]})


@dataclass
class Found:
    rows: int
    distinct: int
    items: list[SourceVideo]


def read(folder: Path, kind: Any, place: Any, **more: Any) -> Found:
    limit = more.pop("limit", None)
    job = Job(Source(kind, place, **more), str(folder / "lake"), limit=limit, base=str(folder))
    with Worklist(job, Lake(job.folder)) as source:
        found = Found(source.rows, source.distinct, list(source.items()))
    assert found.distinct == len(found.items)
    return found


def in_every_form(folder: Path) -> dict[str, tuple[str, str, dict[str, Any]]]:
    pq.write_table(TABLE, folder / "v.parquet")
    duckdb.from_arrow(TABLE).write_csv(str(folder / "v.csv"))
    (folder / "v.jsonl").write_text("\n".join(json.dumps(row) for row in TABLE.to_pylist()))
    write_deltalake(str(folder / "v_delta"), TABLE)
    with duckdb.connect(str(folder / "v.duckdb")) as con:
        con.execute("CREATE TABLE assets AS SELECT * FROM 'PATH'".replace("PATH", str(folder / "v.parquet")))
    (folder / "many").mkdir()
    for number in range(2):
        pq.write_table(TABLE.slice(number * 2, 2), folder / "many" / f"{number}.parquet")
    return {
        "parquet": ("files", str(folder / "v.parquet"), {}),
        "csv": ("files", str(folder / "v.csv"), {}),
        "json": ("files", str(folder / "v.jsonl"), {}),
        "glob": ("files", str(folder / "many" / "*.parquet"), {}),
        "delta": ("delta", str(folder / "v_delta"), {}),
        "delta as files": ("files", str(folder / "v_delta"), {}),
        "query": ("query", "SELECT id, url FROM assets", {"database": str(folder / "v.duckdb")}),
        "query of a file": ("query", "SELECT * FROM 'v.parquet'", {}),
    }


def test_every_form_of_source_reads_the_same(tmp_path: Path) -> None:
    for name, (kind, place, more) in in_every_form(tmp_path).items():
        found = read(tmp_path, kind, place, **more)
        assert found.rows == 4, name
        assert [list(item.keys) for item in found.items] == [
            ["https://example.com/a.mp4"], ["https://example.com/b.mp4"], ["NULL"],
        ], name  # fmt: skip
        keyed = read(tmp_path, kind, place, key="id", **more)
        assert [list(item.keys) for item in keyed.items] == [["1", "4"], ["2"], ["3"]], name
        assert (
            str(keyed.items[-1].error) == "the row has no URL: its value is NULL or empty (video_url_missing)"
        )


def test_a_folder_of_videos_and_paths_in_a_column(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for name in ("b.MP4", "a b.mov", "deep/c.webm", "notes.txt"):
        (tmp_path / "in" / name).write_bytes(b"x")
    found = read(tmp_path, "folder", str(tmp_path / "in"))
    assert [Path(item.location).name for item in found.items] == ["a b.mov", "b.MP4", "c.webm"]
    assert found.items[0].canonical == (tmp_path / "in" / "a b.mov").as_uri()
    paths = read(tmp_path, "urls", ("in/b.MP4", (tmp_path / "in" / "b.MP4").as_uri(), "in/none.mp4"))
    assert [item.error is None for item in paths.items] == [True, False]
    assert paths.rows == 3
    assert "'in/none.mp4' is neither a URL" in str(paths.items[1].error)


def test_files_and_folders_that_cannot_be_read(tmp_path: Path) -> None:
    (folder := tmp_path / "in").mkdir()
    (folder / "good.mp4").write_bytes(b"x")
    (folder / "loop.mp4").symlink_to("loop.mp4")
    (folder / "gone.mp4").symlink_to("nowhere.mp4")
    (folder / "folder.mp4").mkdir()
    os.mkfifo(folder / "pipe.mp4")
    found = read(tmp_path, "folder", str(folder))
    assert [(Path(item.location).name, item.error is None) for item in found.items] == [
        ("good.mp4", True),
        ("loop.mp4", False),
    ]
    listed = {Path(file.address).name: file.size_bytes for file in files_below(str(folder))}
    assert listed == {"good.mp4": 1, "loop.mp4": None}


def test_signatures_do_not_make_another_video(tmp_path: Path) -> None:
    signed = "https://b.s3.amazonaws.com/a.mp4?X-Amz-Signature=1&X-Amz-Date=2"
    found = read(tmp_path, "urls", (signed, signed.replace("=1", "=9"), "https://b.s3.amazonaws.com/a.mp4"))
    [item] = found.items
    assert (found.rows, item.location, item.canonical) == (3, signed, "https://b.s3.amazonaws.com/a.mp4")


def test_limit_counts_videos(tmp_path: Path) -> None:
    found = read(tmp_path, "urls", tuple(f"https://example.com/{n}.mp4" for n in range(100)), limit=7)
    assert len(found.items) == found.rows == 7


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ({"url": "link"}, "the source has no column 'link'; it has id, url, size"),
        ({"url": "size"}, "column 'size' of the source is double; it must be text: URLs or paths"),
        ({"key": "ref"}, "the source has no column 'ref'"),
    ],
)
def test_a_source_whose_schema_changed(tmp_path: Path, column: dict[str, str], said: str) -> None:
    pq.write_table(TABLE, tmp_path / "v.parquet")
    with pytest.raises(SchemaMismatch, match=said):
        read(tmp_path, "files", str(tmp_path / "v.parquet"), **column)


@pytest.mark.parametrize(
    ("kind", "place", "said"),
    [
        ("files", "none.parquet", r"none\.parquet cannot be read: .*No files found"),
        ("files", "videos.xlsx", r"videos\.xlsx must end in one of \.parquet, \.csv"),
        ("query", "SELEC 1", "source.query: SELEC 1 cannot be read: .*syntax error"),
        ("folder", "nowhere", "nowhere is not a folder"),
        ("folder", ".", "has no video files"),
    ],
)
def test_sources_that_cannot_be_read(tmp_path: Path, kind: str, place: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        read(tmp_path, kind, place)


def test_a_row_without_a_key_is_an_error(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1, None], "url": URLS[:2]}), tmp_path / "v.parquet")
    with pytest.raises(SchemaMismatch, match=r"NULL for https://example\.com/b\.mp4; set a key in every row"):
        read(tmp_path, "files", str(tmp_path / "v.parquet"), key="id")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("big.json", '[{"url": "/a", "id": 12345678901234567890123}, {"url": "/b", "id": 1}]'),
        ("mixed.json", '[{"url": "/a", "id": 9007199254740993}, {"url": "/b", "id": 1.5}]'),
        ("comma.csv", "id,url\n1,https://e.com/w_500,h_300/a.mp4\n"),
        ("few.csv", "id,url,x,y\n1,/a\n2,/b,c,d\n"),
    ],
)
def test_what_would_lose_a_part_of_a_key_or_url_is_refused(tmp_path: Path, name: str, text: str) -> None:
    """Numbers that a double cannot tell apart; lines of more or fewer fields than the first."""
    (tmp_path / name).write_text(text)
    with pytest.raises(SchemaMismatch):
        read(tmp_path, "files", str(tmp_path / name), key="id")
