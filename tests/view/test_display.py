"""Rows in notebooks: small, escaped, and without anything that signs an address."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pytest

import tl_data
from tests.view.conftest import EVIL, make_lake
from tl_data.display import MAX_ROWS, Rows
from tl_data.lake.base import rows_of
from tl_data.lake.schemas import FRAMES
from tl_data.media.frames import frames_of


def hits(count: int, **more: object) -> list[dict[str, object]]:
    return [{"video_id": f"{n:024x}", "start_sec": 5.0, "end_sec": 10.0, **more} for n in range(count)]


def test_pictures_of_a_lake_stand_at_their_moment(tmp_path: Path, video: Path) -> None:
    lake = make_lake(tmp_path, lambda n: "https://example.com/gone.mp4", 3)
    frames = frames_of(str(video), 20.0)
    lake.table(FRAMES).append(rows_of(FRAMES, [{"video_id": f"{1:024x}", **f} for f in frames]))
    shown = tl_data.show(hits(3), lake=str(tmp_path))
    assert list(shown.pictures) == [1]
    first_within = next(f for f in frames if 5.0 <= f["sec"] < 10.0)
    assert first_within != min(frames, key=lambda f: abs(f["sec"] - 5.0))  # that is of the clip before
    assert shown.pictures[1] == first_within["jpeg"]
    html = shown._repr_html_()
    assert html.count("data:image/jpeg") == 1
    assert "0:05 – 0:10" in html


def test_files_of_this_machine_have_pictures_and_no_path_is_kept(video: Path) -> None:
    html = tl_data.show(hits(2, url=str(video)))._repr_html_()
    assert html.count("data:image/jpeg") == 2
    assert str(video.parent) not in html
    assert len(html) < 20_000


def test_nothing_signed_is_kept_and_plain_addresses_play() -> None:
    signed = "https://cdn.example/a.mp4?X-Amz-Signature=secret"
    thumbnail = "https://cdn.example/t.jpg?sig=secret"
    rows = hits(1, url=signed, thumbnail_url=thumbnail) + hits(1, url="https://user:secret@cdn.example/b.mp4")
    shown = tl_data.show(rows)
    assert "secret" not in shown._repr_html_()
    assert "secret" not in repr(shown)
    assert "<video" not in shown._repr_html_()
    html = tl_data.show(hits(1, url="https://cdn.example/a b.mp4"))._repr_html_()
    assert 'src="https://cdn.example/a%20b.mp4#t=5,10"' in html


def test_texts_do_not_act() -> None:
    for html in (
        tl_data.show(hits(1, transcription=EVIL, title=EVIL))._repr_html_(),
        tl_data.show([{"answer": EVIL, EVIL: "x"}])._repr_html_(),
    ):
        assert "<script" not in html
        assert "<img src=x" not in html


def test_at_most_twenty() -> None:
    shown = tl_data.show(hits(500))
    assert len(shown.rows) == MAX_ROWS
    assert "480 more" in shown._repr_html_()
    assert "480 more" in repr(shown)


def test_every_kind_of_frame() -> None:
    table = pa.Table.from_pylist(hits(2))
    with duckdb.connect() as con:
        con.register("hits", table)
        relation = tl_data.show(con.sql("FROM hits")).rows
    frame = tl_data.show(pd.DataFrame(hits(2))).rows
    assert relation == frame == tl_data.show(table).rows == tl_data.show(table.to_reader()).rows == hits(2)
    with pytest.raises(TypeError):
        tl_data.show(5)


def test_answers_show_themselves_and_are_lists() -> None:
    rows = Rows(hits(1, transcription="open"))
    assert rows == hits(1, transcription="open")
    assert "open" in rows._repr_html_()
    assert Rows()._repr_html_() == "<p>no rows</p>"
