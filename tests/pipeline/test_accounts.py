"""What an account does to a job: assets that are never ready, batches that fail in part, answers that are
lost, another generation of the API the next night. Each is a row that says so, and nothing is paid twice."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.conftest import Engine
from tests.pipeline.conftest import Account, account_of
from tests.support import media
from tl_data import pipeline
from tl_data.connection import connect
from tl_data.errors import SchemaMismatch
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import ERRORS, SUMMARIES, VIDEOS
from tl_data.pipeline.job import Job

TEXTS = ("summaries", "chapters")


def errors(job: Job) -> list[tuple[str, str | None, bool]]:
    rows = Lake(job.folder).read(ERRORS).to_pylist()
    assert all(len(row["message"]) > 20 for row in rows)
    return sorted((row["code"], row["output"], row["retryable"]) for row in rows)


def paid(account: Account, before: dict[str, tuple[int, int]]) -> dict[str, int]:
    """Calls that were billed since then."""
    after = account.bill()
    found = {name: calls - before.get(name, (0, 0))[1] for name, (_, calls) in after.items()}
    return {name: calls for name, calls in found.items() if calls}


def test_unfinished_tasks_are_counted(account: Account) -> None:
    """Until the platform has indexed them; on an account of today they are indexed assets."""
    job = account.job(tables=("clips",))
    assert pipeline.unfinished(job) == 0
    route = "/indexes/*/indexed-assets" if account.today else "/tasks"
    account.faults({"kind": "stuck", "route": route, "method": "POST", "state": "indexing", "count": 1})
    pipeline.submit(job)
    account.faults()
    deadline = time.monotonic() + 120
    while (left := pipeline.unfinished(job)) > 1 and time.monotonic() < deadline:
        time.sleep(0.3)
    assert left == 1  # the one that stays


def test_a_failed_asset_is_created_again(of_today: Account) -> None:
    """As when a signature ran out before the service fetched the file: the next run may have a new one."""
    job = of_today.job(tables=TEXTS)
    before, sent = of_today.bill(), of_today.requests().get("POST /assets", 0)
    rule = {"kind": "failed", "route": "/assets", "method": "POST", "count": 1, "state": "processing"}
    of_today.faults(
        rule | {"code": "video_url_not_accessible", "message": "The URL cannot be accessed: 403."}
    )
    assert pipeline.run(job).failed == 1
    assert errors(job) == [("task_failed", None, True)]
    done = pipeline.run(job)
    assert (done.failed, done.unchanged, Lake(job.folder).read(SUMMARIES).num_rows) == (0, 3, 4)
    assert of_today.requests()["POST /assets"] - sent == 5
    assert (errors(job), paid(of_today, before)) == ([], {"analyze": 4})


def test_taking_a_video_down_takes_its_asset(of_today: Account) -> None:
    """Of texts alone, nothing else holds the file."""
    job = of_today.job(urls=of_today.urls[:2], tables=TEXTS)
    assert pipeline.run(job).failed == 0
    assets = {row["url"]: row["asset_id"] for row in Lake(job.folder).read(VIDEOS).to_pylist()}
    removed = pipeline.remove(job, of_today.urls[:1], platform=True)
    gone, stays = (assets[url] for url in of_today.urls[:2])
    assert (removed.deleted, removed.failures) == ([gone], [])
    codes = [httpx.get(f"{of_today.base_url}/assets/{each}").status_code for each in (gone, stays)]
    assert codes == [404, 200]


def test_an_asset_stays_with_a_video_that_the_platform_did_not_delete(of_today: Account) -> None:
    job = of_today.job(urls=of_today.urls[:1], tables=("clips",))
    assert pipeline.run(job).failed == 0
    [row] = Lake(job.folder).read(VIDEOS).to_pylist()
    of_today.faults({"kind": "status", "status": 403, "method": "DELETE", "route": "/indexes/*"})
    removed = pipeline.remove(job, of_today.urls[:1], platform=True)
    of_today.faults()
    assert (removed.deleted, len(removed.failures), removed.exit_code) == ([], 1, 1)
    video = f"{of_today.base_url}/indexes/{row['index_id']}/videos/{row['video_id']}"
    assert row["asset_id"]
    assets = f"{of_today.base_url}/assets/{row['asset_id']}"
    assert [httpx.get(address).status_code for address in (video, assets)] == [200, 200]


def test_an_asset_that_was_deleted_is_uploaded_again(of_today: Account) -> None:
    """By somebody, between the upload and the analysis."""
    job = of_today.job(urls=of_today.urls[:1], tables=TEXTS)
    session = connect(job.load_settings())
    asset = session.run(session.session.asset(of_today.urls[0]))
    httpx.delete(f"{of_today.base_url}/assets/{asset['_id']}?force=true").raise_for_status()
    before = of_today.bill()
    assert pipeline.run(job).failed == 1
    assert {retryable for _, _, retryable in errors(job)} == {True}
    done = pipeline.run(job)
    assert (done.failed, Lake(job.folder).read(SUMMARIES).num_rows) == (0, 1), done.lines()
    assert paid(of_today, before) == {"analyze": 1}


def test_an_asset_that_never_gets_ready_is_waited_for_once(of_today: Account) -> None:
    job = of_today.job(tables=TEXTS, settings={"task_deadline": 10.0})
    before, sent = of_today.bill(), of_today.requests().get("POST /assets", 0)
    of_today.faults(
        {"kind": "stuck", "route": "/assets", "method": "POST", "count": 1, "state": "processing"}
    )
    done = pipeline.run(job)
    assert (done.failed, done.exit_code) == (1, 1)
    assert errors(job) == [("task_still_running", None, True)]
    assert Lake(job.folder).read(SUMMARIES).num_rows == 3
    again = pipeline.run(job)  # it waits for the same asset
    assert (again.failed, again.unchanged) == (1, 3)
    assert of_today.requests()["POST /assets"] - sent == 4
    assert paid(of_today, before) == {"analyze": 3}


def test_half_of_a_batch_fails(of_today: Account) -> None:
    job = of_today.job(tables=TEXTS)
    before = of_today.bill()
    rule = {"kind": "failed", "route": "/analyze/batches", "method": "POST", "state": "processing"}
    of_today.faults(
        rule | {"share": 1.0, "count": 1, "code": "internal_error", "message": "The analysis broke off."}
    )
    done = pipeline.run(job)
    lost = 4 - Lake(job.folder).read(SUMMARIES).num_rows
    assert lost > 0
    assert (done.failed, done.status) == (lost, "partial")
    assert errors(job) == sorted([("internal_error", n, True) for n in ("summaries:", "chapters")] * lost)
    assert Lake(job.folder).read(VIDEOS).num_rows == 4  # a failed output keeps no video out
    of_today.faults()
    planned = pipeline.plan(job)
    again = pipeline.run(job)
    assert (planned.calls, again.calls, again.failed) == (lost, lost, 0)
    assert (errors(job), paid(of_today, before)) == ([], {"analyze": 4})
    assert Lake(job.folder).read(SUMMARIES).num_rows == 4


def test_a_batch_that_expires_is_sent_again_in_part(
    start_engine: Callable[..., Engine], four_videos: Path, tmp_path: Path
) -> None:
    options = ("--allow-private", "--profile", "today", "--workers", "1", "--batch-seconds", "10")
    with contextmanager(account_of)("today", start_engine(*options), four_videos, tmp_path) as account:
        assert pipeline.run(account.job(tables=("clips",))).failed == 0  # now all four are ready at once
        before, job = account.bill(), account.job(tables=("clips", *TEXTS))
        rule = {"kind": "stuck", "route": "/analyze/batches", "method": "POST", "state": "processing"}
        account.faults(rule | {"share": 0.5})
        done = pipeline.run(job)
        account.faults()
        texts = Lake(job.folder).read(SUMMARIES).num_rows
        lost = 4 - texts
        assert 0 < lost < 4
        assert (done.failed, done.status) == (lost, "partial"), done.lines()
        assert paid(account, before) == {"analyze": texts}
        billed_us = account.bill()["analyze"][0] - before.get("analyze", (0, 0))[0]
        assert done.bill.operations["analyze"].video_us == billed_us  # what expired costs nothing
        expired = [("batch_processing_timeout", n, True) for n in ("summaries:", "chapters")]
        assert errors(job) == sorted(expired * lost)
        planned = pipeline.plan(job)
        again = pipeline.run(job)
        assert (planned.calls, again.calls, again.failed) == (lost, lost, 0)
        assert (errors(job), paid(account, before)) == ([], {"analyze": 4})


def test_an_analysis_that_does_not_end_is_waited_for_and_not_sent_again(of_today: Account) -> None:
    job = of_today.job(tables=TEXTS, settings={"task_deadline": 8.0})
    before, sent = of_today.bill(), of_today.requests()
    rule = {"kind": "stuck", "route": "/analyze/batches", "method": "POST", "state": "processing"}
    of_today.faults(rule | {"share": 1.0})
    assert pipeline.run(job).failed == 4
    running = sorted([("task_still_running", n, True) for n in ("summaries:", "chapters")] * 4)
    assert errors(job) == running
    of_today.faults()
    batches = of_today.requests()["POST /analyze/batches"]
    again = pipeline.run(job)
    assert (again.failed, again.calls, errors(job)) == (4, 0, running)
    after = of_today.requests()
    assert after["POST /analyze/batches"] == batches
    assert after.get("POST /analyze/tasks", 0) == sent.get("POST /analyze/tasks", 0)
    assert paid(of_today, before) == {}


def test_a_batch_whose_answer_was_lost_is_found_by_its_keys(of_today: Account) -> None:
    """Neither the answer nor the look for the tasks comes through; a later run finds all four."""
    job = of_today.job(tables=TEXTS, settings={"retries": 0})
    before = of_today.bill()
    assert pipeline.plan(job).calls == 4  # the kind of the account is known from here on
    lost = {"kind": "reset", "route": "/analyze/batches", "method": "POST", "after": True}
    of_today.faults(lost, {"kind": "status", "status": 503, "route": "/analyze/tasks", "method": "GET"})
    first = pipeline.run(job)
    assert first.failed == 4, first.lines()
    assert all(retryable for _, _, retryable in errors(job))
    of_today.faults()
    sent = of_today.requests().get("POST /analyze/batches", 0)
    done = pipeline.run(job)
    assert (done.failed, Lake(job.folder).read(SUMMARIES).num_rows) == (0, 4), done.lines()
    assert of_today.requests().get("POST /analyze/batches", 0) == sent
    assert paid(of_today, before) == {"analyze": 4}


def test_an_indexed_asset_whose_answer_was_lost_is_found_by_its_own_key(of_today: Account) -> None:
    """Beside others that are being indexed: none is taken for another video's."""
    job = of_today.job(tables=("clips",), settings={"retries": 0})
    before, sent = of_today.bill(), Counter(of_today.requests())
    route = "/indexes/*/indexed-assets"
    of_today.faults({"kind": "reset", "route": route, "method": "POST", "after": True, "count": 3})
    done = pipeline.run(job)
    assert (done.failed, done.paid_twice) == (0, 0), done.lines()
    rows = Lake(job.folder).read(VIDEOS).to_pylist()
    assert len({row["video_id"] for row in rows}) == 4
    made = Counter(of_today.requests()) - sent
    assert made["POST /indexes/{index_id}/indexed-assets"] == 4
    assert paid(of_today, before) == {"index": 4}


def test_a_schema_that_the_service_refuses_blames_the_release(of_today: Account) -> None:
    job = of_today.job(tables=TEXTS)
    before = of_today.bill()
    refusal = {"kind": "status", "status": 422, "method": "POST", "code": "unprocessable"}
    refusal["message"] = "Array length constraints (maxItems) are not supported."
    of_today.faults(*({**refusal, "route": route} for route in ("/analyze/batches", "/analyze/tasks")))
    assert pipeline.run(job).failed == 4
    assert errors(job) == sorted([("unprocessable", n, True) for n in ("summaries:", "chapters")] * 4)
    of_today.faults()
    assert pipeline.run(job).failed == 0
    assert (errors(job), paid(of_today, before)) == ([], {"analyze": 4})


def test_the_account_is_of_today_the_next_night(
    today: Engine, account_2025: Engine, four_videos: Path, tmp_path: Path
) -> None:
    """The texts stay paid for. Vectors of another model are refused before anything is sent."""
    paths = [str(path) for path in sorted(four_videos.glob("*.mp4"))[:2]]
    with contextmanager(account_of)("2025", account_2025, four_videos, tmp_path) as old:
        assert pipeline.run(old.job(urls=paths, tables=("vectors", *TEXTS))).failed == 0
    with contextmanager(account_of)("today", today, four_videos, tmp_path) as new:
        before, sent = new.bill(), new.sent()
        with pytest.raises(SchemaMismatch):
            pipeline.run(new.job(urls=paths, tables=("vectors", *TEXTS)))
        done = pipeline.run(new.job(urls=paths, tables=TEXTS))
        assert (done.failed, done.calls, done.submitted) == (0, 0, 0), done.lines()
        assert Lake(new.job().folder).read(SUMMARIES).num_rows == 2
        assert (new.sent(), paid(new, before)) == (sent, {})


def test_an_index_of_the_other_generation_is_refused(account: Account) -> None:
    """A job whose model is of another generation than its index: nothing is made, nothing is paid."""
    job = account.job(urls=account.urls[:1], tables=("clips",))
    assert pipeline.run(job).failed == 0
    model = "marengo2.7" if account.today else "marengo3.0"
    other = account.job(urls=account.urls, tables=("clips",), settings={"search_model": model})
    before, sent = account.bill(), account.sent()
    for verb in (pipeline.plan, pipeline.run):
        with pytest.raises(SchemaMismatch, match="An index keeps its model"):
            verb(other)
    assert (account.sent(), paid(account, before)) == (sent, {})
    assert Lake(job.folder).read(VIDEOS).num_rows == 1


def test_a_video_longer_than_every_limit_is_refused_unsent(account: Account, tmp_path: Path) -> None:
    path = media.write(
        tmp_path / "long.mp4", times=[n * 300.0 for n in range(61)], width=360, height=360, fps=1, audio=None
    )
    for tables in (TEXTS, ("clips", "summaries")):
        job = account.job(urls=[str(path)], tables=tables)
        sent = account.sent()
        planned = pipeline.plan(job)
        done = pipeline.run(job)
        assert planned.codes == {"video_duration_too_long": 1}
        assert (planned.calls, planned.requests, done.calls, done.failed) == (0, 0, 0, 1)
        assert errors(job) == [("video_duration_too_long", None, False)]
        assert account.sent() - sent in (0, 1)  # a new index, perhaps
