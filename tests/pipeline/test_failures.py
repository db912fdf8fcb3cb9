"""What fails of a video, and what is known of it afterwards: one output, an outage, a row that left."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Engine
from tests.support.odd_server import OddServer
from tl_data import pipeline
from tl_data.connection import connect
from tl_data.errors import SettingsError
from tl_data.lake.base import rows_of
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import ALERTS, ASKED, CHAPTERS, CLIPS, ERRORS, RUNS, SUMMARIES, VECTORS, VIDEOS
from tl_data.ledger.models import Call, Failure, entry_of
from tl_data.pipeline.digest import beginning, write_digest
from tl_data.pipeline.job import Digest, Job, Source
from tl_data.pipeline.worklist import Worklist
from tl_data.runtime.scratch import PREFIX

Put = Callable[..., str]
MakeJob = Callable[..., Job]


@dataclass
class Faults:
    """Faults of an engine, by its control address."""

    url: str

    @classmethod
    def of(cls, engine: Engine) -> Faults:
        return cls(engine.base_url.partition("/v1")[0] + "/_engine/faults")

    def set(self, *rules: dict[str, Any]) -> None:
        httpx.put(self.url, json={"fault": list(rules)}).raise_for_status()

    def clear(self) -> None:
        httpx.delete(self.url).raise_for_status()


@pytest.fixture
def faults(shared_engine: Engine) -> Iterator[Faults]:
    found = Faults.of(shared_engine)
    yield found
    found.clear()


#: Refuses the texts of one of two videos: each video's are one analysis, in a batch where there are two.
TEXTS_OF_ONE = (
    {"route": "/analyze/batches", "method": "POST"},
    {"route": "/analyze/tasks", "method": "POST", "count": 1},
)
#: Refuses two of six texts, where each is a call of its own.
TWO_TEXTS = ({"route": "/summarize", "count": 2},)


@pytest.mark.parametrize(
    ("profile", "rules", "refused"),
    [("today", TEXTS_OF_ONE, 3), ("2025", TWO_TEXTS, 2)],
    ids=["one analysis a video", "one call a text"],
)
def test_an_output_that_fails_keeps_nothing_else_out(
    put: Put,
    make_job: MakeJob,
    faults: Faults,
    profile: str,
    rules: tuple[dict[str, Any], ...],
    refused: int,
) -> None:
    settings = {"api_key": "tlk_A0KEY"}
    job = make_job([put("a.mp4"), put("b.mp4")], prompts=("", "Short."), settings=settings)
    faults.set(*({"kind": "status", "status": 400, "code": "parameter_invalid", **rule} for rule in rules))
    first = pipeline.run(job)
    faults.clear()
    lake = Lake(job.folder)
    assert (first.submitted, first.status, first.exit_code) == (2, "partial", 1)
    failed = lake.read(ERRORS).to_pylist()
    assert len(failed) == refused
    outputs = [row["output"] for row in failed]
    assert set(outputs) <= {"chapters", "summaries:", "summaries:Short."}
    assert {(row["code"], row["attempt"]) for row in failed} == {("parameter_invalid", 1)}
    assert len({row["source_key"] for row in failed}) == first.failed == first.new_failures
    if profile == "today":
        assert first.failed == 1  # the texts of the other video are in
    videos = lake.read(VIDEOS).to_pylist()
    assert len(videos) == 2
    made = {name for row in videos for name in row["made"]}
    assert {"clips", "vectors"} <= made
    whole = {"clips", "vectors", "chapters", "summaries:", "summaries:Short."}
    missing = sorted(name for row in videos for name in whole - set(row["made"]))
    assert missing == sorted(outputs)
    assert lake.read(CLIPS).num_rows > 0
    assert lake.read(VECTORS).num_rows > 0

    # The next run asks for what is missing alone. The refusals are in the ledger: nothing is paid again.
    again = pipeline.run(job)
    assert (again.submitted, again.failed, again.new_failures, again.exit_code) == (0, first.failed, 0, 0)
    assert {row["attempt"] for row in lake.read(ERRORS).to_pylist()} == {2}
    session = connect(job.load_settings()).session

    async def forget() -> None:
        for entry in [e async for e in session.ledger.entries(state="failed")]:
            await session.ledger.forget(entry.key)

    connect(job.load_settings()).run(forget())
    planned = pipeline.plan(job)
    calls = 1 if profile == "today" else refused
    assert (planned.known, planned.new, planned.calls) == (first.failed, 0, calls)
    healed = pipeline.run(job)
    assert (healed.calls, healed.failed, healed.status, healed.exit_code) == (calls, 0, "done", 0)
    assert lake.read(ERRORS).num_rows == 0
    assert lake.read(SUMMARIES).num_rows == 4
    assert len(set(lake.read(CHAPTERS, ["video_id"]).column("video_id").to_pylist())) == 2


@pytest.mark.parametrize("profile", ["2025"])  # of today, an asset fails: see test_accounts.py
def test_a_passing_failure_of_the_videos_host_is_tried_again(
    put: Put, make_job: MakeJob, faults: Faults
) -> None:
    job = make_job([put("a.mp4")], tables=("clips",))
    faults.set(
        {"kind": "failed", "state": "validating", "code": "video_url_not_accessible", "route": "/tasks"}
    )
    first = pipeline.run(job)
    [row] = Lake(job.folder).read(ERRORS).to_pylist()
    assert (first.failed, row["code"], row["retryable"]) == (1, "task_failed", True)  # it gives no reason
    faults.set()
    again = pipeline.run(job)
    assert (again.submitted, again.failed, again.exit_code) == (1, 0, 0)


def test_what_an_earlier_release_took_for_final_is_tried_again() -> None:
    call = Call("index", "k")
    failure = vars(Failure("TaskFailed", "m", False, "video_url_not_accessible"))
    known = entry_of(call.key, "failed", 1, {**call.described(), "failure": failure})
    assert known.failure is not None
    assert known.failure.retryable


def test_nothing_new_failed_is_no_failure(put: Put, make_job: MakeJob) -> None:
    job = make_job([put("a.mp4"), "nothing here", None], tables=("clips",))
    runs = [pipeline.run(job) for _ in range(2)]
    assert [(r.status, r.failed, r.new_failures, r.exit_code) for r in runs] == [
        ("partial", 2, 2, 1),
        ("partial", 2, 0, 0),
    ]
    assert sorted((r["failed"], r["new_failures"]) for r in Lake(job.folder).read(RUNS).to_pylist()) == [
        (2, 0),
        (2, 2),
    ]


@pytest.mark.parametrize("removed", ["keep", "mark", "delete"])
def test_rows_that_leave_the_source(put: Put, make_job: MakeJob, tmp_path: Path, removed: str) -> None:
    source = tmp_path / "videos.csv"
    source.write_text(f"id,url\n1,{put('a.mp4')}\n2,{put('b.mp4')}\n3,{put('b.mp4')}\n")
    listed = Source("files", str(source), key="id")
    job = make_job(listed, tables=("clips",), removed=removed, name="mine")
    pipeline.run(job)
    # Another job's videos are its own.
    pipeline.run(make_job([put("other.mp4")], tables=("clips",), removed=removed, name="other"))
    lake = Lake(job.folder)
    ids = {row["source_key"]: row["video_id"] for row in lake.read(VIDEOS).to_pylist()}
    whole = source.read_text()
    source.write_text("id,url\n")
    assert pipeline.run(job).removed == 0  # an empty source is a fault of the source, not 3 removals
    source.write_text("".join(whole.splitlines(keepends=True)[:2]))
    assert pipeline.plan(job).removed == (0 if removed == "keep" else 2)
    assert pipeline.run(job.but(limit=1)).removed == 0
    left = pipeline.run(job)
    rows = {row["source_key"]: row for row in lake.read(VIDEOS).to_pylist()}
    clips = set(lake.read(CLIPS, ["video_id"]).column("video_id").to_pylist())
    assert left.removed == (0 if removed == "keep" else 2)
    gone = removed == "delete"
    assert set(rows) == set(ids) - ({"2", "3"} if gone else set())
    assert (ids["2"] in clips) != gone
    assert {key for key, row in rows.items() if row["removed_at"]} == (
        {"2", "3"} if removed == "mark" else set()
    )
    assert [r["removed"] for r in lake.read(RUNS).to_pylist() if r["run_id"] == left.run_id] == [left.removed]
    assert pipeline.run(job).removed == 0
    source.write_text(whole)
    back = pipeline.run(job)
    rows = {row["source_key"]: row for row in lake.read(VIDEOS).to_pylist()}
    assert (back.submitted, len(rows)) == (0, 4)  # from the ledger, not paid again
    assert {row["removed_at"] for row in rows.values()} == {None}
    assert ids["2"] in lake.read(CLIPS, ["video_id"]).column("video_id").to_pylist()


def test_a_video_is_taken_down_everywhere(put: Put, make_job: MakeJob) -> None:
    urls = [put("a.mp4"), put("b.mp4")]
    job = make_job(urls, tables=("clips", "summaries"))
    pipeline.run(job)
    lake = Lake(job.folder)
    rows = {row["url"]: row for row in lake.read(VIDEOS).to_pylist()}
    away = rows[urls[0]]
    for declared in (ALERTS, ASKED):
        row = {"question": "q", "content_key": away["content_key"], "video_id": away["video_id"]}
        lake.table(declared).replace_groups(
            rows_of(declared, [{k: v for k, v in row.items() if k in declared.schema.names}])
        )
    with pytest.raises(SettingsError):
        pipeline.remove(job, ["https://nowhere.invalid/x.mp4"])
    report = pipeline.remove(job, [urls[0] + "?X-Amz-Signature=new"], platform=True)
    deleted = [away["video_id"], away["asset_id"]]
    assert (report.removed, report.deleted, report.exit_code) == ([away["source_key"]], deleted, 0)
    assert report.forgotten == 4  # the asset, its indexing, a summary, a gist
    for declared in (VIDEOS, CLIPS, SUMMARIES, ALERTS, ASKED):
        columns = [c for c in ("video_id", "content_key") if c in declared.schema.names]
        left = {value for row in lake.read(declared, columns).to_pylist() for value in row.values()}
        assert not left & {away["video_id"], away["content_key"]}, declared.name
    assert rows[urls[1]]["video_id"] in lake.read(SUMMARIES, ["video_id"]).column("video_id").to_pylist()
    session = connect(job.load_settings()).session

    async def there() -> list[str]:
        found = session.client.list_videos(await session.index_id())
        return [str(video["_id"]) async for video in found]

    assert connect(job.load_settings()).run(there()) == [rows[urls[1]]["video_id"]]
    assert [r["removed"] for r in lake.read(RUNS).to_pylist() if r["run_id"] == report.run_id] == [1]


def test_a_link_to_a_thumbnail_is_not_kept_as_if_it_lasted(put: Put, make_job: MakeJob) -> None:
    job = make_job([put("a.mp4")], tables=("clips",))
    pipeline.run(job)
    rows = Lake(job.folder).read(CLIPS).to_pylist()
    assert {row["thumbnail_url"] for row in rows} == {None}


@pytest.mark.parametrize("way", ["resethead", "failhead"])
def test_a_server_that_hangs_up_on_head_is_asked_by_get(
    put: Put, files: OddServer, make_job: MakeJob, way: str
) -> None:
    put("a.mp4")
    planned = pipeline.plan(make_job([files.odd(way, "a.mp4")], tables=("clips",)))
    assert (planned.new, planned.refused_count) == (1, 0)
    assert planned.video_minutes == pytest.approx(4 / 60, abs=0.01)


def test_a_header_that_cannot_be_read_is_an_error_of_its_row(
    put: Put, quick: Path, make_job: MakeJob
) -> None:
    folder = quick.parent / "odd"
    folder.mkdir(exist_ok=True)
    (folder / "unknown.mp4").write_bytes(quick.read_bytes().replace(b"avc1", b"brxq"))
    job = make_job([put("a.mp4"), str(folder / "unknown.mp4")], tables=("clips",))
    planned = pipeline.plan(job)
    assert (planned.new, dict(planned.codes)) == (1, {"video_file_broken": 1})
    done = pipeline.run(job)
    assert (done.submitted, done.failed) == (1, 1)


def test_folders_of_killed_processes_are_removed(put: Put, make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job([put("a.mp4")], tables=("clips",))
    old = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        (old / "source.duckdb").write_bytes(b"x")
        (old / "lock").write_bytes(b"")
        past = time.time() - 60
        with Worklist(job, Lake(job.folder)) as first:
            assert old.exists()  # it may be about to take its lock
            os.utime(old, (past, past))
            with Worklist(job, Lake(job.folder)) as second:
                assert not old.exists()
                os.utime(first._scratch.path, (past, past))
                Worklist(job, Lake(job.folder)).close()
                assert first._scratch.path.exists()  # its process lives
                assert second._scratch.path.stat().st_mode & 0o077 == 0
    finally:
        shutil.rmtree(old, ignore_errors=True)


def test_a_digest_begins_where_the_one_before_ended(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    digest = Digest(str(tmp_path / "digest-%Y-%m-%d.md"))
    job = Job(Source("urls", ()), lake.folder, name="weekly", digest=digest)
    first = datetime(2026, 10, 19, 5, 0, tzinfo=UTC)
    assert beginning(lake, job.name, digest, first) == first - timedelta(days=7)
    write_digest(job, digest, first)
    later = datetime(2026, 10, 26, 6, 0, tzinfo=UTC)  # the same hour, after the clocks went back
    assert beginning(lake, job.name, digest, later) == first
    write_digest(job, digest, later)
    # Written again on the same day, it covers the same time; and every day, the last seven days.
    assert beginning(lake, job.name, digest, later + timedelta(minutes=20)) == first
    assert beginning(lake, "another", digest, later) == later - timedelta(days=7)
    weeks = later + timedelta(days=21)
    assert beginning(lake, job.name, digest, weeks) == later
    assert {row["status"] for row in lake.read(RUNS).to_pylist()} == {"digest"}
    assert pipeline.status(job).runs == []
