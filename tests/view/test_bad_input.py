"""Lakes and sources that are large, damaged, changing, or not for this browser."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support import media
from tests.support.http_servers import serving
from tests.view.conftest import Served, make_lake
from tests.view.test_browser import CHROMIUM, Opened, browser, opened
from tests.view.test_view import ask
from tl_data.lake.base import rows_of
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import CLIPS, VIDEOS
from tl_data.view.app import Viewer
from tl_data.view.library import Library, Query
from tl_data.view.snapshot import LakeFolder
from tl_data.view.snippets import TableLocation, snippets

__all__ = ["browser", "opened"]  # fixtures

VIDEO_COUNT, CLIPS_EACH = 1_000, 100


def test_a_large_table_of_clips(tmp_path: Path) -> None:
    """100,000 clips; `benchmarks/viewer.py` has a million."""
    lake = Lake(str(tmp_path))
    ids = [f"{n:024x}" for n in range(VIDEO_COUNT)]
    rows = [
        {"source_key": f"k{n}", "url": f"/v/{n}.mp4", "video_id": ids[n], "status": "ready"}
        for n in range(VIDEO_COUNT)
    ]
    lake.table(VIDEOS).append(rows_of(VIDEOS, rows))
    starts = np.tile(np.arange(CLIPS_EACH) * 5.0, VIDEO_COUNT)
    columns = {
        "video_id": np.repeat(np.array(ids), CLIPS_EACH),
        "clip_number": np.tile(np.arange(CLIPS_EACH), VIDEO_COUNT),
        "start_sec": starts,
        "end_sec": starts + 5,
        "transcription": [f"number {n} is open" for n in range(len(starts))],
    }
    arrays = [
        pa.array(columns[f.name]).cast(f.type) if f.name in columns else pa.nulls(len(starts), f.type)
        for f in CLIPS.schema
    ]
    lake.table(CLIPS).append(pa.table(arrays, schema=CLIPS.schema))
    library = Library(LakeFolder(str(tmp_path)))
    assert library.page(Query(text="number 54321 "))["total"] == 1
    [hit] = library.search_words("number 54321 ", 10)
    assert (hit["id"], hit["start_sec"]) == (ids[543], 21 * 5.0)
    found = library.video(ids[543])
    assert found is not None
    assert [clip["clip_number"] for clip in found["clips"]] == list(range(CLIPS_EACH))


def test_words_that_only_another_program_writes_are_found_and_copied(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    clip = {"video_id": "v", "start_sec": 1.0, "end_sec": 2.0, "transcription": 7, "on_screen_text": "EXIT"}
    pq.write_table(pa.Table.from_pylist([clip]), tmp_path / "clips" / "part.parquet")
    library = Library(LakeFolder(str(tmp_path)))
    assert [hit["start_sec"] for hit in library.search_words("exit", 10)] == [1.0]
    assert library.searched_columns() == [("clips", "on_screen_text")], "the other column has no text"
    place = TableLocation(str(tmp_path), "parquet")
    statement = snippets(place, "words", text="exit", searched=library.searched_columns())["DuckDB"]
    with duckdb.connect() as con:
        assert con.sql(statement).fetchall() == [("v", 1.0, 2.0, "EXIT")]


def test_a_half_written_commit_is_a_note(tmp_path: Path, video: Path) -> None:
    make_lake(tmp_path, lambda n: str(video), 3)
    log = tmp_path / "clips" / "_delta_log"
    (log / f"{len(list(log.glob('*.json'))):020}.json").write_text('{"add": {"path": "part-0')
    folder = LakeFolder(str(tmp_path))
    assert any("clips" in note for note in folder.snapshot().notes)
    assert Library(folder).page(Query(state="ready"))["total"] == 3


def test_tables_of_another_release(tmp_path: Path, serve: Callable[[Viewer], Served]) -> None:
    """Columns that an earlier release did not have, and one that a later release may have."""
    columns = {"source_key": ["k"], "url": ["a.mp4"], "video_id": ["1" * 24], "mood": ["calm"]}
    place = tmp_path / "videos"
    place.mkdir()
    pq.write_table(pa.table(columns), place / "part.parquet")
    served = serve(Viewer(LakeFolder(str(tmp_path)), "earlier"))
    [tile] = ask(served, "api/videos")["videos"]
    assert (tile["id"], tile["state"], tile["title"]) == ("1" * 24, "ready", "a.mp4")
    assert ask(served, "api/video", id="k")["record"]["mood"] == "calm"
    assert len(ask(served, "api/summary")["notes"]) == 2  # errors and runs are missing


def test_two_viewers_of_a_lake_that_changes(
    tmp_path: Path, video: Path, serve: Callable[[Viewer], Served]
) -> None:
    lake = make_lake(tmp_path, lambda n: str(video), 5)
    viewers = [serve(Viewer(LakeFolder(str(tmp_path)), f"viewer {n}")) for n in range(2)]
    totals: list[int] = []
    stop = threading.Event()

    def look(served: Served) -> None:
        while not stop.is_set():
            served.viewer.lake._checked_at -= 60  # as if the pause between two looks were over
            totals.append(ask(served, "api/videos", state="ready")["total"])

    threads = [threading.Thread(target=look, args=(served,)) for served in viewers]
    for thread in threads:
        thread.start()
    for n in range(4):
        row = {"source_key": f"new-{n}", "url": "x.mp4", "video_id": f"{n + 10:x}" * 24, "status": "ready"}
        lake.table(VIDEOS).append(rows_of(VIDEOS, [row]))
    stop.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert set(totals) <= set(range(5, 10))
    for served in viewers:
        served.viewer.lake._checked_at -= 60
        assert ask(served, "api/videos", state="ready")["total"] == 9


class _Refusing(BaseHTTPRequestHandler):
    """Answers as stores do: /private needs a login, /expired has a signature of yesterday, /gone is gone."""

    def do_GET(self) -> None:
        status = {"/private.mp4": 401, "/expired.mp4": 403, "/gone.mp4": 404}[self.path]
        body = json.dumps({"error": status}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def refusing() -> Iterator[str]:
    with serving(_Refusing) as url:
        yield url


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_what_cannot_be_played_has_a_reason(
    opened: Opened, refusing: str, tmp_path: Path, serve: Callable[[Viewer], Served]
) -> None:
    hevc = media.hdr(tmp_path)  # HEVC with ten bits, which this browser does not decode
    sources = [f"{refusing}/{name}.mp4" for name in ("private", "expired", "gone")] + [str(hevc)]
    make_lake(tmp_path / "lake", lambda n: sources[n], 4)
    served = serve(Viewer(LakeFolder(str(tmp_path / "lake")), "refused"))
    for n in range(4):
        opened.page.goto(f"{served.url}#video={n:024x}")
        opened.page.reload()
        opened.page.wait_for_selector(".why")
        assert len(opened.page.locator(".why").inner_text()) > 20
        assert opened.page.locator(".player video").count() == 0
        assert opened.page.locator(".lane-clips .mark").count() == 4  # the rest of the page is there
    opened.faults = [f for f in opened.faults if not any(status in f for status in ("401", "403", "404"))]
