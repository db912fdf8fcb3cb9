"""Requests, calls and minutes of a job: what the plan says is what the engine counts and bills, on both kinds
of account."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmarks.films import with_label
from benchmarks.request_counts import requests_of
from tests.pipeline.conftest import Account, account_of
from tests.support import media
from tl_data import __version__, pipeline
from tl_data.catalog import FUNCTIONS, LISTINGS
from tl_data.client.task_poller import DIRECT_AFTER
from tl_data.connection import connect
from tl_data.demo.file_server import FileServer, Handler
from tl_data.pipeline.job import Job
from tl_data.pipeline.report import Plan

#: Routes whose requests are about one video: what is made of it, and reading it once.
MADE = (
    "POST /assets",
    "POST /tasks",
    "POST /indexes/{index_id}/indexed-assets",
    "POST /summarize",
    "POST /gist",
)
READ = (
    "GET /indexes/{index_id}/videos/{video_id}",
    "GET /indexes/{index_id}/indexed-assets/{indexed_asset_id}",
)
POLLS = (
    "GET /assets", "GET /tasks", "GET /tasks/{task_id}", "GET /indexes/{index_id}/indexed-assets",
    "GET /analyze/batches/{batch_id}",
)  # fmt: skip


def counted(account: Account, job: Job, planned: Plan) -> Counter[str]:
    """The requests of a run in which nothing fails, and whose bill is the plan's and the engine's."""
    before, requests, tokens = account.bill(), Counter(account.requests()), account.output_tokens()
    done = pipeline.run(job)
    assert (done.status, done.failed) == ("done", 0), done.lines()
    billed = {name: (u.video_us, u.calls) for name, u in done.bill.operations.items()}
    assert billed == {name: (u.video_us, u.calls) for name, u in planned.bill.operations.items()}
    earlier = {name: before.get(name, (0, 0)) for name in account.bill()}
    billed = {n: (us - earlier[n][0], c - earlier[n][1]) for n, (us, c) in account.bill().items()}
    expected = {name: (u.video_us, u.calls) for name, u in planned.bill.operations.items()}
    assert {name: units for name, units in billed.items() if any(units)} == expected
    assert planned.price == pytest.approx(done.bill.price(done.prices, tokens=False), rel=1e-12)
    assert done.bill.output_tokens == account.output_tokens() - tokens
    assert done.bill.output_tokens <= planned.output_tokens_at_most
    return Counter(account.requests()) - requests


def about_videos(found: Counter[str]) -> int:
    """Those about single videos, without the reads by which polls make sure that a list is complete."""
    most_probes = sum(found[route] for route in POLLS) // DIRECT_AFTER
    reads = sum(found[route] for route in READ)
    assert reads == 0 or 4 <= reads <= 4 + most_probes, found  # four videos, each read once
    return sum(found[route] for route in MADE) + (4 if reads else 0)


@pytest.mark.parametrize(
    ("tables", "requests_today", "requests_2025"),
    [
        (("clips", "vectors"), 3, 2),  # asset, indexed asset, read; task, read
        (("summaries", "chapters"), 1, 2 + 3),  # asset; on this account texts need the index
    ],
)
def test_requests_a_video(
    account: Account, tables: tuple[str, ...], requests_today: int, requests_2025: int
) -> None:
    each = requests_today if account.today else requests_2025
    job = account.job(tables=tables, settings={"poll_interval": 1.0})
    planned = pipeline.plan(job)
    found = counted(account, job, planned)
    assert planned.requests == 4 * each
    assert about_videos(found) == 4 * each, found
    batches = found["POST /analyze/batches"]
    assert (1 <= batches <= 4) if account.today and "summaries" in tables else batches == 0
    assert found["GET /analyze/batches/{batch_id}/results"] == batches
    # What is left is shared by all videos: polls, and once a run the index and the kind of the account.
    shared = found.total() - sum(found[r] for r in (*MADE, *READ, *POLLS)) - 2 * batches
    assert shared <= 8, found
    again = pipeline.plan(job)
    assert (again.requests, again.calls) == (0, 0)


@pytest.mark.parametrize("profile", ["today", "2025"])
def test_forty_videos_share_everything_else(
    profile: str, request: pytest.FixtureRequest, four_videos: Path, tmp_path: Path
) -> None:
    """On an account of today at most 3.4 requests a video with its texts, of 2025 at most 2.4 without them;
    and to the host of the videos one HEAD and one GET."""
    engine = request.getfixturevalue("today" if profile == "today" else "account_2025")
    (films := tmp_path / "films").mkdir()
    for number in range(40):
        data = with_label((four_videos / "0.mp4").read_bytes(), f"one of forty {number}")
        (films / f"{number}.mp4").write_bytes(data)
    answered: list[str] = []

    class Noting(Handler):
        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            if self.headers["User-Agent"] == f"tl_data/{__version__}":  # the engine has another
                answered.append(self.command)

    with FileServer(films, handler=Noting) as server:
        urls = [server.url(f"{number}.mp4") for number in range(40)]
        for account in account_of(profile, engine, four_videos, tmp_path):
            texts = ("summaries", "chapters") if account.today else ()
            job = account.job(urls=urls, tables=("clips", "vectors", *texts), settings={"poll_interval": 5.0})
            planned = pipeline.plan(job)
            answered.clear()
            found = counted(account, job, planned)
    assert planned.requests == 40 * (3 if account.today else 2)
    made = {route: number for route in MADE if (number := found[route])}
    assert made == dict.fromkeys(
        ["POST /assets", "POST /indexes/{index_id}/indexed-assets"] if account.today else ["POST /tasks"], 40
    )
    assert found.total() <= 40 * (3.4 if account.today else 2.4), found
    assert found["GET /indexes"] <= 2
    assert Counter(answered) == {"HEAD": 40, "GET": 40}


def test_a_known_video_takes_only_the_missing_requests(account: Account) -> None:
    first = account.job(tables=("clips",))
    counted(account, first, pipeline.plan(first))
    more = account.job(tables=("clips", "vectors", "summaries"))
    planned = pipeline.plan(more)
    found = counted(account, more, planned)
    # Clips and vectors come with one read; the assets are there for the batch.
    assert planned.requests == (4 if account.today else 4 + 4 * 2)
    assert about_videos(found) == planned.requests, found


def test_a_long_video_is_planned_by_its_windows(of_today: Account, tmp_path: Path) -> None:
    """Three hours: two analyses, of half of it each."""
    path = media.write(
        tmp_path / "long.mp4", times=[n * 300.0 for n in range(37)], width=360, height=360, fps=1, audio=None
    )
    planned = pipeline.plan(of_today.job(urls=[str(path)], tables=("summaries", "chapters")))
    assert (planned.refused_count, planned.calls, planned.requests) == (0, 2, 1)
    assert planned.bill.operations["analyze"].video_minutes == pytest.approx(180, abs=0.2)


SEGMENTS = [{"id": name, "description": f"A {name}", "fields": []} for name in ("shape", "word", "cut")]


@pytest.mark.parametrize(
    ("name", "arguments", "seconds"),
    [
        ("segments", {"definitions": json.dumps(SEGMENTS)}, 3 * 4),  # the length, once a definition
        ("analyze", {"prompt": "What is seen?", "start_sec": 1.0, "end_sec": 3.5}, 2.5),
        ("segments", {"definitions": json.dumps(SEGMENTS[:2]), "start_sec": 0.0, "end_sec": 2.0}, 2 * 2),
    ],
)
def test_segments_and_windows_are_billed_as_estimated(
    of_today: Account, name: str, arguments: dict[str, Any], seconds: float
) -> None:
    """Only models of today make segments and analyze a window."""
    account = of_today
    connection = connect(account.job().load_settings())
    session = connection.session

    async def estimated() -> dict[str, Any]:
        pages = LISTINGS["estimate"].pages(session, name, [account.urls[0]], json.dumps(arguments))
        return [row async for page in pages for row in page].pop()

    estimate = connection.run(estimated())
    before = account.bill().get("analyze", (0, 0))
    [found] = connection.map(FUNCTIONS[name], [{"video": account.urls[0], **arguments}])
    assert found.error is None
    video_us, calls = account.bill()["analyze"]
    assert (estimate["calls"], estimate["video_minutes"]) == (1, pytest.approx(seconds / 60))
    assert (calls - before[1], (video_us - before[0]) / 60e6) == (1, pytest.approx(estimate["video_minutes"]))


def test_two_hundred_videos_share_their_polls(tmp_path: Path) -> None:
    """At most 1.2 requests a video for texts alone, the asset included."""
    counted = requests_of(200, 2.0, tmp_path)
    assert counted["POST /v1.3/assets"] == 200
    assert counted.total() <= 1.2 * 200, counted
