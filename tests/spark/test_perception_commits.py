"""The rows that the driver of `perceive` writes for results of executors, over several calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tl_data.lake.base import rows_of
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import CLIPS, ERRORS, EVIDENCE, FRAMES, VECTORS, VIDEOS
from tl_data.local.errors import MediaError
from tl_data.spark.perception import _commit_finished, _pictures
from tl_data.spark.perception_tables import RESULT, Known, Report, Run, failure

pytestmark = pytest.mark.spark

MODEL = "tl-local-1"
OUTPUTS = (CLIPS, VECTORS, EVIDENCE, FRAMES)
FIRST, SECOND = "https://example.com/first.mp4", "https://example.com/second.mp4"
Source = list[tuple[str, str]]  # key and URL


def done(url: str, content: str, **fields: Any) -> dict[str, Any]:
    """The result for an analyzed video whose content is one hex digit."""
    vector = {"start_sec": 0.0, "end_sec": 1.0, "embedding_scope": "clip", "vector": [1.0]}
    clip = {"clip_number": 0, "start_sec": 0.0, "end_sec": 1.0, "transcription": "words"}
    return {
        "canonical_url": url, "state": "done", "content_key": f"key:{content}", "sha256": content * 64,
        "duration_sec": 60.0, "form": 3, "evidence": b"", "clips": [clip], "vectors": [vector],
        "worker": "host:1", "seconds": 1.0,
    } | fields  # fmt: skip


def unchanged(url: str, content: str) -> dict[str, Any]:
    return {"canonical_url": url, "state": "unchanged", "content_key": f"key:{content}"}


def failed(url: str, content: str | None = None) -> dict[str, Any]:
    code = "video_file_broken" if content else "video_url_not_accessible"
    key = f"key:{content}" if content else None
    return {"canonical_url": url, "content_key": key} | failure(MediaError(code, "refused"))


def table(results: Iterable[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(results), RESULT)


def started(lake: Lake, frames: bool = False) -> Run:
    return Run(lake, MODEL, Known.read(lake, MODEL, again=False), frames)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


@pytest.fixture
def call(lake: Lake) -> Callable[..., Report]:
    """One call of `perceive` with a single chunk: its source, and the results of the executors."""

    def make(source: Source, *results: dict[str, Any], frames: bool = False) -> Report:
        run = started(lake, frames)
        inputs = list(run.inputs({"source_key": key, "url": url} for key, url in source))
        assert {row["canonical_url"] for row in inputs} == {row["canonical_url"] for row in results}
        run.commit(table(results))
        run.end("done")
        return run.report

    return make


def videos(lake: Lake) -> dict[str, tuple[str, str]]:
    """Source key -> URL and the digit of the content."""
    rows = lake.read(VIDEOS).to_pylist()
    assert len({row["source_key"] for row in rows}) == len(rows)
    assert all(row["content_key"] == f"key:{row['video_id'][0]}" for row in rows)
    return {row["source_key"]: (row["url"], row["video_id"][0]) for row in rows}


def errors(lake: Lake) -> dict[str, tuple[str, str | None, int]]:
    rows = lake.read(ERRORS).to_pylist()
    return {row["source_key"]: (row["code"], row["output"], row["attempt"]) for row in rows}


def test_a_key_with_a_corrected_url_gets_the_row_of_its_video(
    lake: Lake, call: Callable[..., Report]
) -> None:
    call([("k", FIRST), ("other", SECOND)], done(FIRST, "a"), done(SECOND, "b"))
    assert videos(lake) == {"k": (FIRST, "a"), "other": (SECOND, "b")}
    report = call([("k", SECOND), ("other", SECOND)], unchanged(SECOND, "b"))
    assert (report.videos, report.unchanged) == (1, 1)
    assert videos(lake) == {"k": (SECOND, "b"), "other": (SECOND, "b")}


def test_a_key_with_another_url_leaves_no_rows_of_the_former_video(
    lake: Lake, call: Callable[..., Report]
) -> None:
    poster = [{"sec": 0.0, "kind": "poster", "jpeg": b"x", "width": 1, "height": 1}]
    made = done(FIRST, "a", frames=poster), done(SECOND, "b", frames=poster)
    call([("k", FIRST), ("other", SECOND)], *made, frames=True)
    assert {lake.read(table).num_rows for table in OUTPUTS} == {2}
    third = "https://example.com/third.mp4"
    evidence = lake.read(EVIDENCE).to_pylist()
    older = [row | {"made_at": row["made_at"] - timedelta(hours=2)} for row in evidence]
    lake.table(EVIDENCE).replace_groups(rows_of(EVIDENCE, older), delete=[(r["video_id"],) for r in evidence])
    call([("k", third), ("other", SECOND)], done(third, "c"), unchanged(SECOND, "b"))
    assert videos(lake) == {"k": (third, "c"), "other": (SECOND, "b")}
    for declared in OUTPUTS:  # also of the table that this call does not write
        found = {row[0] for row in lake.read(declared, ["video_id"]).column("video_id").to_pylist()}
        assert found == ({"b"} if declared is FRAMES else {"b", "c"})


def test_a_copy_that_is_analyzed_without_frames_keeps_those_of_its_content(
    lake: Lake, call: Callable[..., Report]
) -> None:
    poster = [{"sec": 0.0, "kind": "poster", "jpeg": b"x", "width": 1, "height": 1}]
    call([("k", FIRST)], done(FIRST, "a", frames=poster), frames=True)
    call([("k", FIRST), ("copy", SECOND)], unchanged(FIRST, "a"), done(SECOND, "a"))
    assert videos(lake) == {"k": (FIRST, "a"), "copy": (SECOND, "a")}
    assert {lake.read(table).num_rows for table in OUTPUTS} == {1}
    assert ["frames" in row["made"] for row in lake.read(VIDEOS).to_pylist()] == [True, True]
    call([("k", FIRST), ("copy", SECOND)], done(FIRST, "b"), done(SECOND, "b"))
    assert lake.read(FRAMES).num_rows == 0
    assert ["frames" in row["made"] for row in lake.read(VIDEOS).to_pylist()] == [False, False]


def test_outputs_of_a_call_whose_clock_is_behind_are_not_deleted(
    lake: Lake, call: Callable[..., Report]
) -> None:
    made = {"video_id": "b" * 24, "model": MODEL}
    for age, kept in ((timedelta(minutes=59), True), (timedelta(minutes=61), False)):
        evidence = made | {"made_at": datetime.now(UTC) - age}
        lake.table(EVIDENCE).replace_groups(rows_of(EVIDENCE, [evidence]))
        call([("k", FIRST)], unchanged(FIRST, "a") if videos(lake) else done(FIRST, "a"))
        assert (made["video_id"] in lake.read(EVIDENCE).column("video_id").to_pylist()) is kept


def test_keys_that_exchange_their_urls_in_two_chunks_keep_both_videos(
    lake: Lake, call: Callable[..., Report]
) -> None:
    call([("k", FIRST), ("other", SECOND)], done(FIRST, "a"), done(SECOND, "b"))
    run = started(lake)
    for key, url, content in (("k", SECOND, "b"), ("other", FIRST, "a")):
        assert len(list(run.inputs([{"source_key": key, "url": url}]))) == 1
        run.commit(table([unchanged(url, content)]))
    run.end("done")
    assert videos(lake) == {"k": (SECOND, "b"), "other": (FIRST, "a")}
    assert lake.read(VECTORS).num_rows == lake.read(EVIDENCE).num_rows == 2


def test_rows_of_keys_outside_the_source_follow_the_content(lake: Lake, call: Callable[..., Report]) -> None:
    call([("k", FIRST), ("absent", FIRST + "?X-Amz-Signature=1")], done(FIRST, "a"))
    call([("k", FIRST)], done(FIRST, "b"))
    assert videos(lake) == {"k": (FIRST, "b"), "absent": (FIRST + "?X-Amz-Signature=1", "b")}
    assert lake.read(VECTORS).column("video_id").to_pylist() == ["b" * 24]


def test_an_error_is_removed_when_the_video_is_unchanged(lake: Lake, call: Callable[..., Report]) -> None:
    call([("k", FIRST)], done(FIRST, "a"))
    for attempt in (1, 2):
        call([("k", FIRST)], failed(FIRST))
        assert errors(lake) == {"k": ("video_url_not_accessible", None, attempt)}
    call([("k", FIRST)], unchanged(FIRST, "a"))
    assert errors(lake) == {}


def test_each_key_of_a_failed_video_has_an_error(lake: Lake, call: Callable[..., Report]) -> None:
    call([("k", FIRST)], failed(FIRST, "a"))
    report = call([("k", FIRST), ("new", FIRST)], unchanged(FIRST, "a"))
    assert (report.unchanged, report.failed) == (0, 1)
    assert errors(lake) == dict.fromkeys(("k", "new"), ("video_file_broken", None, 1))
    call([("new", FIRST)], done(FIRST, "b"))
    assert errors(lake) == {}, "the key outside the source is retried, too"
    call([("k", FIRST), ("new", FIRST)], unchanged(FIRST, "b"))
    assert set(videos(lake)) == {"k", "new"}


def test_a_video_whose_chunk_is_committed_is_counted_once(lake: Lake) -> None:
    run = started(lake)
    pairs = [("a", FIRST), ("b", SECOND), ("late a", FIRST), ("late b", SECOND)]
    inputs = run.inputs({"source_key": key, "url": url} for key, url in pairs)
    next(inputs), next(inputs)
    run.commit(table([done(FIRST, "a"), failed(SECOND)]))
    assert list(inputs) == []
    run.end("done")
    report = run.report
    assert (report.videos, report.analyzed, report.unchanged, report.failed) == (2, 1, 0, 1)
    assert videos(lake) == {"a": (FIRST, "a"), "late a": (FIRST, "a")}
    assert errors(lake) == dict.fromkeys(("b", "late b"), ("video_url_not_accessible", None, 1))


def test_a_video_with_unreadable_frames_keeps_its_analysis(
    lake: Lake, call: Callable[..., Report], tmp_path: Path
) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no film at all" * 100)
    pictures = _pictures(tmp_path / "broken.mp4", 1.0)
    report = call([("k", FIRST)], done(FIRST, "a") | pictures | {"state": "done"}, frames=True)
    assert (report.analyzed, report.failed) == (1, 0)
    [video] = lake.read(VIDEOS).to_pylist()
    assert video["made"] == ["clips", "evidence", "vectors"]
    assert errors(lake) == {"k": ("frames_unreadable", "frames", 1)}
    assert lake.read(FRAMES).num_rows == 0
    report = call([("k", FIRST)], unchanged(FIRST, "a"), frames=True)
    assert (report.unchanged, report.failed) == (1, 0)


def test_a_failed_chunk_does_not_lose_a_finished_one(lake: Lake) -> None:
    run = started(lake)
    assert len(list(run.inputs([{"source_key": "k", "url": FIRST}]))) == 1
    broken, finished, running = Future[pa.Table](), Future[pa.Table](), Future[pa.Table]()
    broken.set_exception(OSError("an executor is lost"))
    finished.set_result(table([done(FIRST, "a")]))
    pending: dict[Future[pa.Table], None] = dict.fromkeys((broken, finished, running))
    assert _commit_finished(run, pending) == [broken]
    assert list(pending) == [running]
    assert videos(lake) == {"k": (FIRST, "a")}
