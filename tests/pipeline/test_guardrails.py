"""Runs within limits: how long they take, what they wait for, and when they stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from tests.conftest import Engine
from tests.support.odd_server import OddServer
from tl_data import pipeline
from tl_data.connection import connect
from tl_data.functions import FUNCTIONS
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import SUMMARIES, VIDEOS
from tl_data.pipeline.job import Job
from tl_data.ratelimit.headers import moment
from tl_data.settings import JOB_WAIT

Put = Callable[..., str]
MakeJob = Callable[..., Job]
HOUR = 3600.0


def without_pictures(path: Path) -> None:
    """Empty the media of a file whose headers stay good: the platform finds it while it works."""
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") - 4
    end = start + int.from_bytes(data[start : start + 4])
    data[start + 8 : end] = bytes(end - start - 8)
    path.write_bytes(data)


def rates(engine: Engine, **limits: list[dict[str, object]]) -> None:
    """Limit an engine."""
    address = engine.base_url.removesuffix("/v1.3") + "/_engine/rates"
    httpx.put(address, json={"generation": "2026", "limits": limits}).raise_for_status()


def test_a_plan_says_how_long_the_limits_take_and_a_run_keeps_to_them(
    put: Put, make_job: MakeJob, tmp_path: Path
) -> None:
    urls: list[str | None] = [put(f"{n}.mp4") for n in range(3)]
    job = make_job(urls, tables=("clips",), settings={"requests_per_minute": 30.0})
    planned = pipeline.plan(job)
    assert planned.seconds == pytest.approx(6, rel=1e-3)
    assert "6 s at the limits" in planned.lines()[0]
    assert pipeline.run(job).submitted == 3
    leased = [p for p in (tmp_path / "ledger" / "budget").rglob("index-requests-*/**/*") if p.is_file()]
    assert len(leased) >= 3  # one for each task that was made
    assert pipeline.plan(job).seconds == 0
    more = make_job(urls, tables=("clips", "summaries"), settings={"requests_per_minute": 60.0})
    assert pipeline.plan(more).seconds == 3  # an analysis each
    few = make_job(urls, tables=("clips", "summaries"), settings={"tokens_per_minute": 600.0})
    assert pipeline.plan(few).seconds == 90  # 300 are set aside for each
    for used in (job, more, few):
        connect(used.load_settings()).close()


def test_an_hours_minutes_are_used_as_they_come(put: Put, make_job: MakeJob) -> None:
    """Two videos of 4 s at once, not 4 s of video in 24 s; the third has to wait for the next hour."""
    urls: list[str | None] = [put(f"{n}.mp4") for n in range(3)]
    settings = {"video_minutes_per_hour": 10 / 60, "max_wait": 0}
    job = make_job(urls, tables=("clips",), settings=settings)
    assert pipeline.plan(job).seconds == pytest.approx(HOUR - time.time() % HOUR, abs=10)
    assert pipeline.plan(job.but(limit=2)).seconds == 0
    stopped = pipeline.run(job)
    if stopped.submitted < 3:  # no hour has begun meanwhile
        assert (stopped.status, stopped.submitted, stopped.exit_code) == ("stopped", 2, 3)
        assert "video_minutes_per_hour = " in stopped.reason
    connect(job.load_settings()).close()


def test_a_job_waits_for_the_next_hour_by_default(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job([])
    assert job.load_settings().max_wait == JOB_WAIT > HOUR
    monkeypatch.setenv("TL_MAX_WAIT", "77")
    assert job.load_settings().max_wait == 77
    assert make_job([], settings={"max_wait": 5}).load_settings().max_wait == 5


def test_what_waits_for_its_limit_holds_up_nothing_else(
    put: Put, make_job: MakeJob, start_engine: Callable[..., Engine]
) -> None:
    """Two tasks in 20 s are allowed, and one call in flight: both are analyzed while the third one waits."""
    own = start_engine("--allow-private", "--profile", "2025")  # of today, texts wait for their batch
    # The first video takes as long as the models take to load: it must not use up the 20 seconds.
    elsewhere = connect(make_job([], settings={"base_url": own.base_url, "index": "warm"}).load_settings())
    elsewhere.call(FUNCTIONS["index_video"], video=put("warm.mp4"))
    rates(own, index=[{"limit": 2, "seconds": 20, "dimension": "Request"}])
    urls: list[str | None] = [put(f"{n}.mp4") for n in range(3)]
    settings = {"base_url": own.base_url, "concurrency": 1}
    job = make_job(urls, tables=("clips", "summaries"), settings=settings)
    done = pipeline.run(job)
    assert (done.status, done.submitted, done.failed) == ("done", 3, 0)
    lake = Lake(job.folder)
    session = connect(job.load_settings()).session

    async def begun() -> dict[str, datetime | None]:
        tasks = session.client.list_tasks(index_id=await session.index_id())
        return {str(task["video_id"]): moment(task["created_at"]) async for task in tasks}

    created = connect(job.load_settings()).run(begun())
    last = max(at for at in created.values() if at)
    waited = [row["made_at"] for row in lake.read(SUMMARIES).to_pylist() if created[row["video_id"]] != last]
    assert lake.read(VIDEOS).num_rows == 3
    assert len(waited) == 2
    assert max(waited) < last
    connect(job.load_settings()).close()


@pytest.mark.parametrize("profile", ["2025"])  # of today, what fails never counts as indexed
def test_a_run_that_is_to_end_waits_for_no_limit(files: OddServer, put: Put, make_job: MakeJob) -> None:
    """The last video waits for tomorrow; then another one fails at the platform, which is one too many."""
    good: list[str | None] = [put("0.mp4"), put("1.mp4")]
    bad = put("bad.mp4")
    without_pictures(files.folder / "bad.mp4")
    settings = {"video_minutes_per_day": 9 / 60, "max_wait": 100_000, "concurrency": 1}
    job = make_job([good[0], bad, good[1]], tables=("clips",), max_failures=0, settings=settings)
    began = time.monotonic()
    stopped = pipeline.run(job)
    assert (stopped.status, stopped.submitted, stopped.failed, stopped.exit_code) == ("failures", 2, 1, 3)
    assert Lake(job.folder).read(VIDEOS).num_rows == 1
    assert time.monotonic() - began < 60, "not until midnight"
    on = make_job(good, tables=("clips",), settings={**settings, "video_minutes_per_day": 5})
    assert (pipeline.run(on).submitted, pipeline.run(on).unchanged) == (1, 2)
    for used in (job, on):
        connect(used.load_settings()).close()


def test_a_daily_limit_is_used_up_and_stops_the_run(files: OddServer, put: Put, make_job: MakeJob) -> None:
    """Videos of 4 s each: 12 s of indexing, and as much of each analysis, which is counted apart."""

    def allowed(minutes: float, *tables: str) -> Job:
        day: dict[str, object] = {"video_minutes_per_day": minutes, "concurrency": 1, "max_wait": 0}
        return make_job(urls, tables=tables, settings=day)

    urls: list[str | None] = [put(f"{n}.mp4") for n in range(3)]
    urls[0] = str(files.folder / "0.mp4")  # a file that is uploaded counts as one that is fetched
    job = allowed(10 / 60, "clips")
    planned = pipeline.plan(job)
    assert planned.seconds == pytest.approx(86400 - time.time() % 86400, abs=5)  # the third has to wait
    stopped = pipeline.run(job)
    assert (stopped.status, stopped.submitted, stopped.failed, stopped.exit_code) == ("stopped", 2, 0, 3)
    assert "video_minutes_per_day = " in stopped.reason
    assert "the category 'index' until" in stopped.reason
    again = pipeline.run(job)
    assert (again.submitted, again.unchanged, again.exit_code) == (0, 2, 3)
    more = allowed(14 / 60, "clips", "summaries")
    whole = pipeline.run(more)
    assert (whole.status, whole.submitted, whole.exit_code) == ("done", 1, 0)
    later = ("clips", "summaries", "chapters")  # an analysis each for the chapters
    stopped = pipeline.run(more.but(tables=later))
    assert (stopped.status, stopped.submitted, stopped.exit_code) == ("stopped", 0, 3)
    assert "the category 'analyze' until" in stopped.reason
    enough = allowed(30 / 60, *later)
    assert pipeline.plan(enough).seconds == 0
    assert pipeline.run(enough).exit_code == 0
    for used in (job, more, enough):
        connect(used.load_settings()).close()


def test_a_plan_uses_limits_reported_to_an_earlier_run(
    put: Put, make_job: MakeJob, tmp_path: Path, start_engine: Callable[..., Engine]
) -> None:
    """Nothing is set: the service's headers alone say that two tasks an hour are allowed."""
    own = start_engine("--allow-private", "--profile", "today")
    job = make_job([put("0.mp4")], tables=("clips",), settings={"base_url": own.base_url})
    assert "limits" not in pipeline.plan(job).sentence()
    minutes = {"limit": 100, "seconds": 3600, "dimension": "Duration"}
    rates(own, index=[{"limit": 2, "seconds": 3600, "dimension": "Request"}, minutes])
    assert pipeline.run(job).submitted == 1
    connect(job.load_settings()).close()  # as the end of its process would
    more = make_job(
        [put(f"{n}.mp4") for n in range(5)], tables=("clips",), settings={"base_url": own.base_url}
    )
    planned = pipeline.plan(more)
    assert planned.new == 4  # one now, and one each half hour, as the limit refills
    assert planned.seconds == pytest.approx(3 * 1800, abs=90)
    assert (
        f"90 min at the limits as the service reported on {datetime.now(UTC):%Y-%m-%d}" in planned.sentence()
    )
    connect(more.load_settings()).close()
