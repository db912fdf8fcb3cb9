"""`make demo`, as a user meets it: the whole job twice, and every labelled question asked of the result."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import duckdb
import pytest

from tests.demo.conftest import run, running_in
from tests.support import media
from tl_data.demo.run import _MIN_SCORE, demo_sources
from tl_data.demo.videos import DemoVideo, Question
from tl_data.errors import SettingsError
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import CHAPTERS, CLIPS, ERRORS, FRAMES, RUNS, SUMMARIES, VECTORS, VIDEOS
from tl_data.local.search.query import MEDIUM

pytestmark = pytest.mark.timeout(900)


def test_the_first_run_writes_tables_and_says_what_it_did(
    first: subprocess.CompletedProcess[str], lake: Lake, videos: list[DemoVideo], place: Path
) -> None:
    count = len(videos)
    sentence = first.stdout.strip().splitlines()[-2]
    assert re.fullmatch(
        rf"{count} rows, {count} distinct videos, 0 reused, {count} submitted, 0 failed, "
        r"\d\.\d\d video minutes, price 0\.00 USD, paid twice: 0",
        sentence,
    )
    for table in (VIDEOS, CLIPS, SUMMARIES, CHAPTERS, VECTORS):
        assert lake.read(table).num_rows >= count
        assert f"demo-lake/{table.name}" in first.stdout
    assert lake.read(ERRORS).num_rows == 0
    assert set(lake.read(VIDEOS).column("source_key").to_pylist()) == {v.path.name for v in videos}
    assert first.stdout.count("SELECT") == 4
    assert "Warning" not in first.stderr
    assert "Traceback" not in first.stderr
    assert running_in(place) == []


def test_the_lake_has_pictures_of_every_video(lake: Lake, videos: list[DemoVideo]) -> None:
    frames = lake.read(FRAMES)
    kinds = frames.group_by(["video_id", "kind"]).aggregate([("sec", "count")]).to_pylist()
    assert {(row["kind"], row["sec_count"]) for row in kinds} == {("poster", 1), ("moment", 11)}
    assert len(kinds) == 2 * len(videos)
    assert all(row.startswith(b"\xff\xd8") for row in frames.column("jpeg").to_pylist())


def test_the_second_run_reuses_everything(lake: Lake, videos: list[DemoVideo], place: Path) -> None:
    before = lake.read(CLIPS)
    second = run(cwd=place)
    assert second.returncode == 0, second.stderr
    count = len(videos)
    assert f"{count} reused, 0 submitted, 0 failed, 0.00 video minutes" in second.stdout
    assert "Nothing was new: everything was reused" in second.stdout
    assert lake.read(CLIPS).equals(before)
    assert lake.read(RUNS).num_rows == 2
    assert running_in(place) == []


def test_each_labelled_question_finds_its_moment_first(
    con: duckdb.DuckDBPyConnection, videos: list[DemoVideo]
) -> None:
    missed = []
    for question in [q for video in videos for q in video.questions]:
        hit = con.execute(
            "SELECT v.source_key, c.start_sec, c.end_sec FROM tl_search('demo', ?, max_hits := 1) c "
            "JOIN videos v USING (video_id)",
            [question.text],
        ).fetchone()
        if hit is None or not _answers(question, *hit):
            missed.append(f"{question} found {hit}")
    assert not missed, "\n".join(missed)


def _answers(question: Question, video: str, start: float, end: float) -> bool:
    """Whether most of the hit lies in the scene that was meant."""
    shared = min(end, question.end_sec) - max(start, question.start_sec)
    return video == question.video and shared > (end - start) / 2


def test_own_videos_and_one_that_is_none(place: Path) -> None:
    own = place / "own videos"
    own.mkdir()
    media.plain(own).rename(own / "Führung 1.mp4")
    (own / "notes.mp4").write_text("bread, butter\n" * 300)
    done = run(str(own), cwd=place)
    assert done.returncode == 1, done.stderr
    assert "notes.mp4" in done.stdout
    assert "video_file_broken" in done.stdout
    assert "2 rows, 2 distinct videos, " in done.stdout.splitlines()[-2]
    assert Lake(str(place / "demo-lake" / "own")).read(VIDEOS).num_rows == 1
    assert running_in(place) == []


def test_good_hits_have_the_confidence_medium() -> None:
    assert _MIN_SCORE == MEDIUM


def test_sources_are_found_in_folders_and_by_globs(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.mp4", "a.MOV", "notes.txt", "sub/c.webm"):
        (tmp_path / name).write_bytes(b"x")

    def names(*places: str) -> list[str]:
        return [video.path.name for video in demo_sources(*places)]

    assert names(str(tmp_path)) == ["a.MOV", "b.mp4", "c.webm"]
    assert names(f"{tmp_path}/*.mp4", str(tmp_path / "sub")) == ["b.mp4", "c.webm"]
    with pytest.raises(SettingsError, match=r"nothing\*: no video file there"):
        names(f"{tmp_path}/nothing*")
