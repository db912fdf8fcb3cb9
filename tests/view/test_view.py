"""The viewer's server: what it reads of a lake, whom it answers, and what it never gives away."""

from __future__ import annotations

import csv
import http.client
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.view.conftest import EVIL, TOKEN, Served, make_lake
from tl_data import vectors
from tl_data.errors import SchemaMismatch, SettingsError
from tl_data.lake.base import rows_of
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import CHAPTERS, FRAMES, SUMMARIES, TABLES, VIDEOS
from tl_data.media.frames import frames_of
from tl_data.view.app import Viewer
from tl_data.view.library import Query
from tl_data.view.server import open_lake
from tl_data.view.snapshot import LakeFolder


def get(
    served: Served, path: str, headers: dict[str, str] | None = None, method: str = "GET", **query: Any
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers in lower case and body of a request below the token."""
    parts = urlsplit(served.url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    address = parts.path + path + (f"?{urlencode(query)}" if query else "")
    try:
        connection.request(method, address, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def ask(served: Served, path: str, **query: Any) -> Any:
    status, _, body = get(served, path, **query)
    assert status == 200, body
    return json.loads(body)


def test_the_wall_gives_a_page_of_all_videos(thousand: Served) -> None:
    page = ask(thousand, "api/videos", sort="title", offset=120, limit=60)
    assert page["total"] == 1002  # with the two that failed
    assert len(page["videos"]) == 60
    titles = [v["title"] for v in page["videos"]]
    assert titles == sorted(titles)
    summary = ask(thousand, "api/summary")
    assert summary["states"] == {"ready": 1000, "failed": 2}
    assert summary["counts"]["clips"] == 4000
    assert summary["notes"] == []


@pytest.mark.parametrize(
    ("query", "total"),
    [
        ({"text": "VIDEO 0042"}, 1),  # a title, whatever the case
        ({"text": "harbour number 30 "}, 1),  # a transcript
        ({"state": "failed"}, 2),
        ({"topic": "weather"}, 333),
        ({"until": "2026-11-01", "state": "ready"}, 1000),
        ({"since": "2026-11-02"}, 0),
        ({"text": "nothing says this"}, 0),
    ],
)
def test_filters(thousand: Served, query: dict[str, str], total: int) -> None:
    assert ask(thousand, "api/videos", **query)["total"] == total


def test_a_video_has_its_rows_and_no_others(thousand: Served) -> None:
    video = ask(thousand, "api/video", id=f"{10:024x}")
    assert [clip["start_sec"] for clip in video["clips"]] == [0.0, 5.0, 10.0, 15.0]
    assert {clip["video_id"] for clip in video["clips"]} == {f"{10:024x}"}
    assert len(video["chapters"]) == 2
    assert video["summaries"][0]["summary"] == "Summary 10."
    assert video["play"] == {"kind": "file", "reason": "", "stream": False}
    assert ask(thousand, "api/video", id="key-10")["id"] == video["id"]
    assert get(thousand, "api/video", id="nobody")[0] == 404


def test_the_timeline_has_lanes_of_what_is_seen(thousand: Served) -> None:
    video = ask(thousand, "api/video", id=f"{20:024x}")
    assert [mark["text"] for mark in video["lanes"]["on-screen text"]] == [f"Sign {20:024x} · {EVIL}"]
    assert [mark["text"] for mark in video["lanes"]["objects"]] == ["a crane"]
    assert [row["highlight"] for row in video["highlights"]] == [f"The best of {20:024x}"]
    assert ask(thousand, "api/videos", text=f"sign {20:024x}")["total"] == 1
    [hit] = ask(thousand, "api/search", text=f"Sign {20:024x}")["hits"]
    assert (hit["kind"], hit["id"], hit["known"]) == ("annotation", f"{20:024x}", True)


def test_texts_without_an_index_are_found_by_their_content(
    tmp_path: Path, serve: Callable[[Viewer], Served]
) -> None:
    lake = Lake(str(tmp_path))
    row = {"source_key": "k", "url": "/no/tour.mp4", "content_key": "sha:1", "status": "ready"}
    lake.table(VIDEOS).append(rows_of(VIDEOS, [row]))
    text = {"content_key": "sha:1", "prompt": "", "summary": "A tour of the harbour.", "title": "Tour"}
    lake.table(SUMMARIES).append(rows_of(SUMMARIES, [text]))
    chapter = {"content_key": "sha:1", "chapter_number": 0, "start_sec": 1.0, "end_sec": 9.0, "title": "Quay"}
    lake.table(CHAPTERS).append(rows_of(CHAPTERS, [chapter]))
    served = serve(Viewer(LakeFolder(str(tmp_path)), "texts"))
    [tile] = ask(served, "api/videos", text="harbour")["videos"]
    assert (tile["id"], tile["title"], tile["video_id"]) == ("k", "Tour", None)
    assert [c["title"] for c in ask(served, "api/video", id="k")["chapters"]] == ["Quay"]
    [hit] = ask(served, "api/search", text="quay")["hits"]
    assert (hit["id"], hit["start_sec"]) == ("k", 1.0)


def test_media_are_sent_in_ranges(thousand: Served, video: Path) -> None:
    status, headers, body = get(thousand, "media", {"Range": "bytes=10-19"}, id=f"{1:024x}")
    assert status == 206
    assert headers["content-type"] == "video/webm"
    assert headers["content-range"] == f"bytes 10-19/{video.stat().st_size}"
    assert body == video.read_bytes()[10:20]


def test_pictures_come_from_the_source_at_their_time(thousand: Served) -> None:
    def brightness(second: float) -> float:
        status, headers, body = get(thousand, "poster", id=f"{1:024x}", t=second)
        assert (status, headers["content-type"]) == (200, "image/jpeg")
        with av.open(io.BytesIO(body), format="mjpeg") as picture:
            frame = next(picture.decode(video=0))
        assert frame.width == 320
        return float(frame.to_ndarray(format="gray").mean())

    assert brightness(1.0) < brightness(8.0) < brightness(18.0)


def test_what_has_no_picture_gets_a_sign(thousand: Served) -> None:
    status, headers, _ = get(thousand, "poster", id="bad-1")
    assert (status, headers["content-type"]) == (200, "image/svg+xml")


def test_errors_have_a_next_step_and_a_list_to_retry(thousand: Served) -> None:
    rows = {row["source_key"]: row for row in ask(thousand, "api/errors")["errors"]}
    assert rows["bad-1"]["code"] == "video_duration_too_short"
    assert len(rows["bad-1"]["next_step"]) > 20
    assert "hidden" not in json.dumps(rows)  # what signs an address is in no page
    status, headers, body = get(thousand, "api/retry.csv", code="server_error")
    assert status == 200
    assert headers["content-disposition"] == 'attachment; filename="retry.csv"'
    assert list(csv.reader(io.StringIO(body.decode()))) == [
        ["source_key", "url"],
        ["bad-2", "https://example.com/b.mp4"],
    ]


def test_runs_and_alerts(thousand: Served) -> None:
    runs = ask(thousand, "api/runs")["runs"]
    assert [run["run_id"] for run in runs] == ["r2", "r1", "r0"]
    assert runs[0]["price"] == 0.25
    [alert] = ask(thousand, "api/alerts")["alerts"]
    assert (alert["id"], alert["start_sec"], alert["title"]) == (f"{0:024x}", 5.0, EVIL)


def test_search_in_the_lake_costs_nothing(thousand: Served) -> None:
    hits = ask(thousand, "api/search", kind="words", text="harbour number 990 is")["hits"]
    assert {hit["id"] for hit in hits} == {f"{990:024x}"}
    assert [hit["start_sec"] for hit in hits] == [0.0, 5.0, 10.0, 15.0]
    similar = ask(thousand, "api/search", kind="similar", id=f"{3:024x}", start=12.0)["hits"]
    assert len(similar) == 24
    scores = [hit["score"] for hit in similar]
    assert scores == sorted(scores, reverse=True)
    assert (f"{3:024x}", 10.0) not in {(hit["id"], hit["start_sec"]) for hit in similar}
    assert set(ask(thousand, "api/summary")["costs"]) == {"words", "similar"}


def test_similar_clips_come_from_the_index_when_it_is_there(thousand: Served) -> None:
    """The index has vectors of 16 bits, so its similarities differ from the exact ones by up to 0.01."""
    search = thousand.viewer.search
    exact = search.similar(f"{3:024x}", 12.0)
    folder = search.lake.folder
    try:
        vectors.index(folder)
        by_index = search.similar(f"{3:024x}", 12.0)
        with pytest.raises(SchemaMismatch, match="have 8 numbers, this one has 9"):
            search.nearest(np.ones(9, np.float32), 5)
    finally:
        shutil.rmtree(Path(folder, "_index"))
    names, of_index = ([(hit["id"], hit["start_sec"]) for hit in hits] for hits in (exact, by_index))
    assert len(set(names) & set(of_index)) >= 22
    scores = dict(zip(names, (hit["score"] for hit in exact), strict=True))
    differences = [abs(hit["score"] - scores.get((hit["id"], hit["start_sec"]), 2)) for hit in by_index]
    near = [difference for difference in differences if difference < 1]
    assert 0 < max(near) < 0.01


def test_a_search_without_a_server_has_the_reason(thousand: Served) -> None:
    status, _, body = get(thousand, "api/search", kind="meaning", text="a boat")
    assert status == 409
    assert json.loads(body)["error"]["code"] == "SettingsError"
    assert get(thousand, "api/search", kind="unknown", text="x")[0] == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1"},  # another port
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
    ],
)
def test_other_pages_get_nothing(thousand: Served, headers: dict[str, str]) -> None:
    assert get(thousand, "api/summary", headers)[0] == 403


def test_without_the_token_nothing_is_answered(thousand: Served) -> None:
    parts = urlsplit(thousand.url)
    for path in ("/", "/wrong/", f"/{TOKEN}x/", "/static/app.js"):
        connection = http.client.HTTPConnection(parts.netloc, timeout=30)
        connection.request("GET", path)
        assert connection.getresponse().status == 403, path
        connection.close()


def test_nothing_is_written_and_no_file_but_the_sources_is_sent(thousand: Served) -> None:
    for method in ("POST", "PUT", "DELETE"):
        assert get(thousand, "api/videos", method=method)[0] == 405
    for name in ("../app.py", "..%2fapp.py", "/etc/passwd"):
        assert get(thousand, f"static/{name}")[0] == 404
    assert get(thousand, "media", id="/etc/passwd")[0] == 404


def test_the_policy_names_the_hosts_of_the_lake_alone(
    tmp_path: Path, serve: Callable[[Viewer], Served]
) -> None:
    make_lake(tmp_path, lambda n: f"https://cdn.example:8443/{n}.mp4?X-Amz-Signature=secret", 3)
    served = serve(Viewer(LakeFolder(str(tmp_path)), "signed"))
    _, headers, body = get(served, "")
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["media-src"] == "'self' blob: https://cdn.example:8443 https://example.com"
    assert headers["referrer-policy"] == "no-referrer"
    assert b"<script>" not in body
    assert "secret" not in json.dumps(ask(served, "api/video", id="key-1"))
    assert "secret" not in json.dumps(ask(served, "api/videos"))
    status, headers, _ = get(served, "media", id="key-1")
    assert (status, headers["location"]) == (302, "https://cdn.example:8443/1.mp4?X-Amz-Signature=secret")


def test_a_lake_of_parquet_files_is_read(tmp_path: Path, video: Path) -> None:
    make_lake(tmp_path, lambda n: str(video), 12, "parquet")
    viewer = open_lake(str(tmp_path))
    assert viewer.location.format == "parquet"
    assert viewer.library.page(Query())["total"] == 14
    assert len(viewer.search.similar("key-1", 0.0)) == 23


def test_missing_damaged_and_other_tables_are_notes(tmp_path: Path, video: Path) -> None:
    make_lake(tmp_path, lambda n: str(video), 3, "parquet")
    shutil.rmtree(tmp_path / "runs")
    for file in (tmp_path / "clips").glob("*.parquet"):
        file.write_bytes(b"half")
    for file in (tmp_path / "summaries").glob("*.parquet"):
        rows = pq.read_table(file)
        mood = pa.array(["calm"] * rows.num_rows, pa.string())
        pq.write_table(rows.drop_columns(["hashtags"]).append_column("mood", mood), file)
    viewer = open_lake(str(tmp_path))
    notes = viewer.lake.snapshot().notes
    assert len(notes) == 2
    assert any("runs" in note for note in notes)
    assert any("clips" in note for note in notes)
    found = viewer.library.video("key-1")
    assert found is not None
    assert found["title"] == "Video 0001"
    assert found["clips"] == []


def test_an_empty_lake_and_no_lake(tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        open_lake(str(tmp_path))
    with pytest.raises(SettingsError):
        open_lake(str(tmp_path / "nowhere"))
    for declared in TABLES.values():
        Lake(str(tmp_path)).table(declared)
    viewer = open_lake(str(tmp_path))
    assert viewer.library.page(Query()) == {"total": 0, "videos": []}
    assert viewer.lake.snapshot().notes == []


def test_a_lake_that_changes_is_read_again(tmp_path: Path, video: Path) -> None:
    lake = make_lake(tmp_path, lambda n: str(video), 2)
    viewer = open_lake(str(tmp_path))
    assert viewer.library.page(Query(state="ready"))["total"] == 2
    lake.table(VIDEOS).append(rows_of(VIDEOS, [{"source_key": "new", "url": "x.mp4", "video_id": "f" * 24}]))
    viewer.lake._checked_at -= 60
    assert viewer.library.page(Query(state="ready"))["total"] == 3
    found = viewer.library.video("new")
    assert found is not None


def test_a_source_that_is_gone_has_a_reason(tmp_path: Path, serve: Callable[[Viewer], Served]) -> None:
    make_lake(tmp_path, lambda n: ["/nowhere/gone.mp4", "/etc/passwd", "ftp://host/a.mp4"][n], 3)
    served = serve(Viewer(LakeFolder(str(tmp_path)), "gone"))
    for n in range(3):
        play = ask(served, "api/video", id=f"key-{n}")["play"]
        assert play["kind"] == "none"
        assert len(play["reason"]) > 20
        assert get(served, "media", id=f"key-{n}")[0] == 404


def test_pictures_outlast_their_source(
    tmp_path: Path, video: Path, serve: Callable[[Viewer], Served]
) -> None:
    lake = make_lake(tmp_path, lambda n: "/nowhere/gone.mp4", 2)
    rows = frames_of(str(video), 20.0)
    assert [row["sec"] for row in rows] == pytest.approx([20 * (n + 0.5) / 12 for n in range(12)], abs=0.01)
    assert [row["kind"] for row in rows].count("poster") == 1
    assert {(row["width"], row["height"]) for row in rows} == {(320, 180)}
    lake.table(FRAMES).append(rows_of(FRAMES, [{"video_id": f"{1:024x}", **row} for row in rows]))
    served = serve(Viewer(LakeFolder(str(tmp_path)), "kept"))
    poster = rows[[row["kind"] for row in rows].index("poster")]["jpeg"]
    assert get(served, "poster", id="key-1")[2] == poster
    assert get(served, "poster", id="key-1", t=19.9)[2] == rows[-1]["jpeg"]
    assert get(served, "poster", id="key-0")[1]["content-type"] == "image/svg+xml"


def test_the_reason_of_a_missing_picture_is_logged_once(
    tmp_path: Path, serve: Callable[[Viewer], Served], caplog: pytest.LogCaptureFixture
) -> None:
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(bytes(range(256)) * 40)
    make_lake(tmp_path / "lake", lambda n: str(damaged), 1)
    served = serve(Viewer(LakeFolder(str(tmp_path / "lake")), "damaged"))
    for _ in range(2):
        status, headers, _body = get(served, "poster", id="key-0")
        assert (status, headers["content-type"]) == (200, "image/svg+xml")
    records = [
        r for r in caplog.records if f"cannot read pictures of {damaged}: Invalid data" in r.getMessage()
    ]
    assert [r.name for r in records] == ["tl_data.media"]  # once


def test_copies_of_the_sources_are_played(tmp_path: Path, video: Path) -> None:
    make_lake(tmp_path / "lake", lambda n: f"https://cdn.example/{video.name}?sig=x", 1)
    viewer = open_lake(str(tmp_path / "lake"), str(video.parent))
    tile = viewer.library.find("key-0")
    assert tile is not None
    assert viewer.sources.playable(tile).location == str(video)


@pytest.mark.parametrize("scheme", ["s3", "gs", "az", "azure", "abfss"])
def test_every_bucket_that_jobs_read_is_played(tmp_path: Path, scheme: str) -> None:
    make_lake(tmp_path / "lake", lambda n: f"{scheme}://videos/{n}.mp4", 1)
    viewer = open_lake(str(tmp_path / "lake"))
    tile = viewer.library.find("key-0")
    assert tile is not None
    playable = viewer.sources.playable(tile)
    assert (playable.kind, playable.location) == ("bucket", f"{scheme}://videos/0.mp4")


def test_long_and_right_to_left_titles_are_kept_whole(tmp_path: Path, video: Path) -> None:
    lake = make_lake(tmp_path, lambda n: str(video), 1)
    title = "שלום " * 2000
    row = {"video_id": f"{0:024x}", "prompt": "", "title": title}
    lake.table(SUMMARIES).replace_groups(rows_of(SUMMARIES, [row]))
    found = open_lake(str(tmp_path)).library.video("key-0")
    assert found is not None
    assert found["title"] == title


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ({"kind": "words", "text": "number 990 is"}, f"{990:024x}"),
        ({"kind": "words", "text": f"Sign {20:024x}"}, f"{20:024x}"),  # words on the screen
        ({"kind": "words", "text": 'it\'s """open""" \\ here'}, "0 rows"),
        ({"kind": "errors"}, "bad-1"),
        ({"kind": "similar", "video": f"{3:024x}", "start": 12.0}, f"{3:024x}"),
    ],
)
def test_copied_python_runs(thousand: Served, tmp_path: Path, query: dict[str, Any], shown: str) -> None:
    made = ask(thousand, "api/snippets", **query)
    assert set(made) == {"DuckDB", "Spark", "Python"}
    done = subprocess.run(
        [sys.executable, "-c", made["Python"]], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout
