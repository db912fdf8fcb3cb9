"""Runs of jobs: incremental, resumable, within limits, and at exactly the planned cost."""

from __future__ import annotations

import os
import shutil
import signal
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.conftest import Engine
from tests.pipeline.conftest import both, index_again, indexings, submitted
from tests.support.odd_server import OddServer
from tl_data import pipeline
from tl_data.connection import connect
from tl_data.errors import APIError, NotAllowed, SchemaMismatch
from tl_data.lake.base import rows_of
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import CLIPS, ERRORS, RUNS, SUMMARIES, VECTORS, VIDEOS
from tl_data.pipeline.job import Job, Source
from tl_data.pipeline.progress import Step
from tl_data.pipeline.recovery import Tasks, paid_twice
from tl_data.pipeline.worklist import Worklist

Put = Callable[..., str]
MakeJob = Callable[..., Job]


def prices(folder: Path) -> str:
    """A price list with prices that show in the last digit."""
    path = folder / "prices.toml"
    path.write_text(
        "as_of = 2026-11-01\n[index]\nvideo_minute = 0.042\n[analyze]\nvideo_minute = 0.0292\ncall = 0.001\n"
    )
    return str(path)


@both
def test_a_second_run_processes_new_and_changed_videos(put: Put, make_job: MakeJob) -> None:
    a, b = put("a.mp4"), put("b.mp4")
    job = make_job([a, b])
    steps: list[Step] = []
    first = pipeline.run(job, progress=steps.append)
    assert (first.submitted, first.reused, first.failed, first.exit_code) == (2, 0, 0, 0)
    assert first.sentence() == (
        "2 rows, 2 distinct videos, 0 reused, 2 submitted, 0 failed, 0.13 video minutes, "
        f"price {first.price:.2f} USD, paid twice: 0"
    )
    assert first.price > 0
    assert (steps[-1].phase, steps[-1].videos, steps[-1].of_videos) == ("done", 2, 2)
    assert steps[-1].video_minutes == pytest.approx(8 / 60, abs=0.01)
    lake = Lake(job.folder)
    before = {row["url"]: row for row in lake.read(VIDEOS).to_pylist()}

    c = put("c.mp4")
    put("b.mp4", again=1)
    second = pipeline.run(make_job([a, b, c]))
    after = {row["url"]: row for row in lake.read(VIDEOS).to_pylist()}
    assert (second.unchanged, second.submitted, second.failed) == (1, 2, 0)
    assert after[a] == before[a]
    assert after[b]["video_id"] != before[b]["video_id"]
    ids = {row["video_id"] for row in after.values()}
    for table in (CLIPS, SUMMARIES, VECTORS):
        assert set(lake.read(table, ["video_id"]).column("video_id").to_pylist()) == ids
    assert indexings(job) == 4


def test_more_outputs_later_cost_only_themselves(put: Put, make_job: MakeJob, tmp_path: Path) -> None:
    urls = [put("a.mp4")]
    pipeline.run(make_job(urls, tables=("clips",)))
    more = make_job(urls, prompts=("", 'It\'s about "ships"?'), prices=prices(tmp_path))
    planned = pipeline.plan(more)
    done = pipeline.run(more)
    assert (planned.known, planned.calls, done.calls) == (
        1,
        1,
        1,
    )  # two summaries, a gist, the chapters: one analysis
    assert (done.submitted, done.reused, done.video_minutes) == (0, 1, 0)
    assert planned.price == done.price > 0
    found = Lake(more.folder).read(SUMMARIES).to_pylist()
    assert {row["prompt"] for row in found} == {"", 'It\'s about "ships"?'}
    assert all(row["summary"] and row["title"] for row in found)
    assert pipeline.plan(more).calls == 0


def test_a_plan_is_the_bill(put: Put, make_job: MakeJob, tmp_path: Path) -> None:
    urls = [put(name) for name in ("a.mp4", "b.mp4", "c.mp4")]
    job = make_job([*urls, urls[0], None], prices=prices(tmp_path), prompts=("", "Short."))
    planned = pipeline.plan(job)
    assert (planned.rows, planned.distinct, planned.new, planned.unmeasured) == (5, 4, 3, 0)
    assert "4 distinct videos" in planned.lines()[0]
    half = pipeline.run(job.but(limit=1))
    assert half.submitted == 1
    rest = pipeline.plan(job)
    done = pipeline.run(job)
    assert (rest.unchanged, rest.new) == (1, 2)
    assert rest.video_minutes == done.video_minutes > 0
    assert (rest.calls, rest.price) == (done.calls, done.price)
    assert planned.video_minutes == pytest.approx(half.video_minutes + done.video_minutes, rel=1e-12)
    assert planned.calls == half.calls + done.calls == 3 * (1 + 1)
    assert planned.price == pytest.approx(half.price + done.price, rel=1e-12)
    assert pipeline.plan(job).price == 0


def test_copies_of_a_file_are_planned_and_paid_once(quick: Path, make_job: MakeJob, tmp_path: Path) -> None:
    (folder := tmp_path / "videos").mkdir()
    for name in ("a.mp4", "b.mp4"):
        shutil.copyfile(quick, folder / name)
    job = make_job(Source("folder", str(folder)), prices=prices(tmp_path), tables=("clips", "chapters"))
    planned = pipeline.plan(job)
    assert (planned.distinct, planned.new, planned.known, planned.calls) == (2, 1, 1, 2)
    sent = pipeline.submit(job)
    assert (sent.submitted, sent.pending) == (1, 1)
    done = pipeline.run(job)
    assert (done.submitted, done.pending, sent.calls + done.calls) == (0, 0, planned.calls)
    assert (sent.video_minutes, sent.price + done.price) == (planned.video_minutes, planned.price)
    more = job.but(tables=("chapters", "summaries"))  # both are in the tables, and lack what is asked for now
    planned = pipeline.plan(more)
    assert (planned.known, planned.calls) == (2, 1)
    assert pipeline.run(more).calls == 1


@both
def test_submit_and_collect_apart(put: Put, make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job([put("a.mp4"), put("b.mp4"), None], prices=prices(tmp_path))
    assert pipeline.collect(job).submitted == 0
    sent = pipeline.submit(job)
    assert (sent.submitted, sent.pending, sent.failed, sent.exit_code) == (2, 2, 1, 0)
    assert Lake(job.folder).read(VIDEOS).num_rows == 0
    planned = pipeline.plan(job)
    assert (planned.attached + planned.known, planned.new, planned.video_minutes) == (2, 0, 0)
    got = pipeline.collect(job)
    assert (got.submitted, got.reused, got.pending, got.failed, got.video_minutes) == (0, 2, 0, 1, 0)
    assert planned.price == got.price
    assert Lake(job.folder).read(VIDEOS).num_rows == 2
    assert indexings(job) == 2


def test_a_budget_stops_before_it_is_exceeded(put: Put, make_job: MakeJob, tmp_path: Path) -> None:
    urls = [put(f"{n}.mp4") for n in range(3)]
    job = make_job(urls, prices=prices(tmp_path), tables=("clips",))
    whole = pipeline.plan(job).price
    stopped = pipeline.run(job.but(budget=whole * 0.7))
    assert (stopped.status, stopped.submitted, stopped.failed, stopped.exit_code) == ("budget", 2, 0, 3)
    assert stopped.price <= whole * 0.7
    assert Lake(job.folder).read(VIDEOS).num_rows == 2
    # A retry shares the budget with the run before; a budget for each run is asked for.
    same = pipeline.run(job.but(budget=whole * 0.7))
    assert (same.status, same.submitted, same.exit_code) == ("budget", 0, 3)
    on = pipeline.run(job.but(budget=whole * 0.7, budget_hours=0))
    assert (on.status, on.submitted, on.reused) == ("done", 1, 2)


def test_a_budget_includes_output_tokens(put: Put, make_job: MakeJob, tmp_path: Path) -> None:
    list_ = tmp_path / "texts.toml"
    list_.write_text("as_of = 2026-11-01\n[analyze]\noutput_token = 0.001\n")
    job = make_job([put(f"{n}.mp4") for n in range(3)], prices=str(list_), tables=("summaries",))
    most = pipeline.plan(job.but(limit=1)).price_of_tokens
    none = pipeline.run(job.but(budget=most * 0.99))
    assert (none.status, none.submitted, none.price) == ("budget", 0, 0.0)
    # What is written is less than what was set aside for it: the others wait for that, and get it.
    whole = pipeline.run(job.but(budget=most * 1.2))
    assert (whole.status, whole.submitted, whole.calls) == ("done", 0, 3)  # texts alone need no index
    assert 0 < whole.price <= most * 1.2


def test_only_a_table_that_was_filled_and_removed_is_lost(put: Put, make_job: MakeJob) -> None:
    """A job of clips alone has no table of chapters, and nothing to make anew of it."""
    job = make_job([put("a.mp4")], tables=("clips", "vectors"))
    pipeline.run(job)
    lake = Lake(job.folder)
    with Worklist(job, lake) as source:
        assert source.deleted_outputs == ()
    shutil.rmtree(Path(job.folder) / "vectors")
    with Worklist(job, lake) as source:
        assert source.deleted_outputs == ("vectors",)


def test_too_many_failures_stop_the_run(put: Put, make_job: MakeJob) -> None:
    urls: list[str | None] = [put("a.mp4"), *(f"nothing {n}" for n in range(9))]
    job = make_job(urls, tables=("clips",))
    stopped = pipeline.run(job.but(max_failures=4, settings={**job.settings, "concurrency": 1}))
    assert (stopped.status, stopped.exit_code) == ("failures", 3)
    assert 4 < stopped.failed <= 9
    assert Lake(job.folder).read(ERRORS).num_rows == stopped.failed
    assert (stopped.submitted, stopped.calls) == (0, 0)  # it was known before anything was paid
    whole = pipeline.run(job.but(max_failures="90%"))
    assert (whole.status, whole.submitted) == ("partial", 1)
    # They are refused for good: a later run is not stopped by them before it comes to what is new.
    more = make_job([*urls, put("b.mp4")], tables=("clips",), max_failures=0)
    again = pipeline.run(more)
    assert (again.status, again.submitted, again.failed, again.exit_code) == ("partial", 1, 9, 0)
    [errors] = [line for line in pipeline.status(more).lines() if "errors: 9 x" in line]
    assert errors.endswith("the next run tries 0 again, the others when their file has changed")
    # A final failure counts if the one before was another.
    now = {"class": "ServerFailed", "code": "x", "retryable": True, "attempt": 1, "at": datetime.now(UTC)}
    Lake(job.folder).table(ERRORS).replace_groups(rows_of(ERRORS, [{"source_key": "nothing 3", **now}]))
    other = pipeline.run(more)
    assert (other.status, other.new_failures, other.exit_code) == ("failures", 1, 3)


@both
def test_a_task_made_twice_is_counted(put: Put, make_job: MakeJob) -> None:
    """`paid twice` is measured: a second task for the same content, made behind our back, shows."""
    url = put("a.mp4")
    job = make_job([url], tables=("clips",))
    assert pipeline.submit(job).paid_twice == 0
    index_again(job, url)
    report = pipeline.run(job)
    assert report.paid_twice == 1
    assert report.sentence().endswith("paid twice: 1")
    assert [r["paid_twice"] for r in Lake(job.folder).read(RUNS).to_pylist() if r["reused"]] == [1]


@both
def test_a_task_without_its_record_is_not_paid_twice(put: Put, make_job: MakeJob, tmp_path: Path) -> None:
    """Another process made it, and lives, or was killed before it could write it down: one task still."""
    url = put("a.mp4")
    job = make_job([url], tables=("clips",))
    pipeline.submit(job)
    connection = connect(job.load_settings())
    session = connection.session

    async def counted() -> int | None:
        tasks = Tasks()
        tasks.since = time.time()
        return await paid_twice(session, tasks, 60)

    # Only the records of the tasks' keys are read: one that cannot be read would be moved aside.
    damaged = tmp_path / "ledger" / "calls" / "ab" / ("ab" * 16) / "done"
    damaged.parent.mkdir(parents=True)
    damaged.write_text("no record")
    assert connection.run(counted()) == 0
    assert damaged.exists()
    damaged.unlink()
    [record] = submitted(tmp_path / "ledger")
    said = record.read_bytes()
    record.unlink()
    assert connection.run(counted()) == 0
    index_again(job, url)
    assert connection.run(counted()) == 1
    record.write_bytes(said)
    assert connection.run(counted()) == 1


@both
def test_a_plan_knows_a_task_that_was_not_written_down(put: Put, make_job: MakeJob, tmp_path: Path) -> None:
    """Its run was stopped between sending and writing: the next one attaches to it, and so the plan says.

    The row of that run was never written either, so the next run counts the task: rows and platform agree.
    """
    job = make_job([put("a.mp4")], tables=("clips",))
    pipeline.submit(job)
    [record] = submitted(tmp_path / "ledger")
    record.unlink()
    shutil.rmtree(Path(job.folder) / "runs")
    planned = pipeline.plan(job)
    assert (planned.attached, planned.new, planned.video_minutes) == (1, 0, 0.0)
    report = pipeline.run(job)
    assert (report.submitted, report.reused) == (1, 1)
    assert report.video_minutes > 0
    assert indexings(job) == 1
    assert sum(row["submitted"] for row in Lake(job.folder).read(RUNS).to_pylist()) == 1


def test_a_video_that_is_in_leaves_the_errors(put: Put, make_job: MakeJob) -> None:
    """Of two runs at once one failed with it, the other did not, and the failure was written last."""
    url = put("a.mp4")
    job = make_job([url], tables=("clips",))
    pipeline.run(job)
    late = {"source_key": url, "url": url, "class": "ServerFailed", "code": "x", "message": "It broke."}
    row = {**late, "retryable": True, "attempt": 1, "at": datetime.now(UTC)}
    Lake(job.folder).table(ERRORS).replace_groups(rows_of(ERRORS, [row]))
    again = pipeline.run(job)
    assert (again.unchanged, again.failed, again.calls) == (1, 0, 0)
    assert Lake(job.folder).read(ERRORS).num_rows == 0
    assert Lake(job.folder).read(VIDEOS).num_rows == 1


def test_vectors_of_two_models_do_not_mix(put: Put, make_job: MakeJob, tmp_path: Path) -> None:
    newer = {"search_model": "marengo2.7", "index": uuid.uuid4().hex}
    job = make_job([put("a.mp4")])
    pipeline.run(job)
    other = make_job([put("a.mp4")], prices=prices(tmp_path), settings=newer)
    for verb in (pipeline.plan, pipeline.run):
        with pytest.raises(
            SchemaMismatch, match=r"has vectors of marengo3\.0, .* vectors of marengo2\.7"
        ) as no:
            verb(other)
        # 4 s: indexing; summaries and chapters need not be made anew
        assert "new vectors of the 1 video in the tables cost 0.00 USD for 0.07 video minutes" in str(
            no.value
        )
        assert "refresh = true in [outputs]" in str(no.value)
    connect(other.load_settings()).close()
    table = Lake(job.folder).read(VECTORS)
    assert set(table.column("model").to_pylist()) == {"marengo3.0"}
    assert set(table.column("dimension").to_pylist()) == {len(table.column("vector")[0])}


def test_a_wrong_key_is_the_reported_error(
    make_job: MakeJob, start_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the right key nobody tells by which model the vectors would be."""
    own = start_engine("--api-key", "right", "--profile", "today")
    monkeypatch.setenv("TL_API_KEY", "wrong")
    job = make_job(["http://127.0.0.1/a.mp4"], settings={"base_url": own.base_url})
    row = {"video_id": "1", "model": "marengo3.0"}
    Lake(job.folder).table(VECTORS).append(rows_of(VECTORS, [row]))
    for verb in (pipeline.plan, pipeline.run):
        with pytest.raises(NotAllowed, match="Set TL_API_KEY to a valid key"):
            verb(job)
    connect(job.load_settings()).close()


def test_a_platform_that_is_down_is_no_fault_of_the_videos(put: Put, make_job: MakeJob) -> None:
    job = make_job([put("a.mp4")], settings={"base_url": "http://127.0.0.1:9"})
    with pytest.raises(APIError, match=r"127\.0\.0\.1:9"):
        pipeline.run(job)
    assert Lake(job.folder).read(ERRORS).num_rows == 0


def test_keys_and_duplicates(files: OddServer, put: Put, make_job: MakeJob, tmp_path: Path) -> None:
    """Two keys of one video are two rows of one submission; one key of two videos is refused."""

    a, b = put("a.mp4"), put("b.mp4")
    table = tmp_path / "videos.csv"
    table.write_text(f"id,link\n007,{a}\n008,{a}?X-Amz-Signature=1\n009,{a}\n009,{b}\n007,{a}\n")
    job = make_job(Source("files", str(table), url="link", key="id"), tables=("clips",))
    report = pipeline.run(job)
    assert (report.rows, report.submitted, report.failed) == (5, 1, 1)
    videos = Lake(job.folder).read(VIDEOS).to_pylist()
    assert {row["source_key"] for row in videos} == {"007", "008"}
    assert len({row["video_id"] for row in videos}) == 1
    [error] = Lake(job.folder).read(ERRORS).to_pylist()
    assert (error["source_key"], error["code"]) == ("009", "source_key_ambiguous")
    assert "stands for 2 different videos" in error["message"]


def test_status_reads_the_tables(put: Put, make_job: MakeJob) -> None:
    job = make_job([put("a.mp4"), None], tables=("clips",))
    empty = pipeline.status(job)
    assert (dict(empty.rows), empty.video_minutes) == ({}, 0)
    pipeline.run(job)
    now = pipeline.status(job)
    assert now.rows["videos"] == now.rows["runs"] == now.rows["errors"] == 1
    assert dict(now.errors) == {"video_url_missing": 1}
    assert now.video_minutes == pytest.approx(4 / 60, abs=0.01)
    assert "1 submitted, 0 reused, 1 failed" in "\n".join(now.lines())


def test_a_platform_that_goes_down_stops_the_run(
    put: Put, make_job: MakeJob, start_engine: Callable[..., Engine]
) -> None:
    own = start_engine("--allow-private", "--profile", "today")
    urls = [put(f"{n}.mp4") for n in range(60)]
    settings = {"base_url": own.base_url, "concurrency": 2, "retries": 0}
    job = make_job(urls, settings=settings)
    lost: list[Step] = []

    def progress(step: Step) -> None:
        if not lost:
            os.kill(own.pid, signal.SIGKILL)
        lost.append(step)

    report = pipeline.run(job, progress=progress)
    connect(job.load_settings()).close()
    assert (report.status, report.exit_code, report.submitted) == ("stopped", 3, 0)
    assert "the platform failed 20 times in a row" in report.reason
    rows = Lake(job.folder).read(ERRORS).to_pylist()
    assert 20 <= len(rows) < 60
    assert all(row["retryable"] and row["class"] == "ConnectionFailed" for row in rows)
    assert Lake(job.folder).read(RUNS).to_pylist()[0]["status"] == "stopped"
