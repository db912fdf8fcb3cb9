"""What the table `runs` says was paid is what the server billed, however the runs ended."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Engine
from tests.pipeline.conftest import both, submitted
from tl_data import pipeline
from tl_data.billing import Prices
from tl_data.connection import connect
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import RUNS
from tl_data.pipeline.job import Job

PRICES = """\
as_of = 2026-11-01
[index]
video_minute = 0.042
[analyze]
video_minute = 0.0292
call = 0.001
output_token = 0.0000075
"""


class Till:
    """What a server bills from here on, and its faults.

    Attributes:
        index: the route that indexes a video.
        analyze: the route that analyzes the videos of a job.
        lists: the routes by which a lost request is looked for.
    """

    def __init__(self, engine: Engine, profile: str) -> None:
        today = profile == "today"
        self.index = "/indexes/*/indexed-assets" if today else "/tasks"
        self.analyze = "/analyze/batches" if today else "/summarize"
        self.lists = (self.index, "/indexes/*/videos", "/tasks")
        self._control = engine.base_url.removesuffix("/v1.3") + "/_engine"
        self._before, self._analyses_before = self._stats(), self._analyses()

    def _stats(self) -> dict[str, Any]:
        return dict(httpx.get(f"{self._control}/stats").json())

    def faults(self, *rules: dict[str, Any]) -> None:
        httpx.put(f"{self._control}/faults", json={"fault": list(rules)}).raise_for_status()

    def _analyses(self) -> int:
        return int(httpx.get(f"{self._control}/bill").json().get("analyze", {}).get("calls", 0))

    def analyses(self) -> int:
        return self._analyses() - self._analyses_before

    def billed(self, name: str) -> float:
        return float(self._stats()[name] - self._before[name])


def wait(process: subprocess.Popen[bytes], until: Callable[[], bool]) -> None:
    """While the process lives."""
    deadline = time.monotonic() + 60
    while not until():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def till(shared_engine: Engine, profile: str) -> Iterator[Till]:
    till = Till(shared_engine, profile)
    yield till
    till.faults()


class Work:
    """A job file over a CSV, for the command line and for this process."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        self.folder = folder
        (folder / "prices.toml").write_text(PRICES)
        self.file = folder / "job.toml"
        self.file.write_text(
            f"""
prices = "prices.toml"
[source]
files = "videos.csv"
[outputs]
folder = "lake"
tables = ["clips", "summaries"]
[limits]
commit_seconds = 600
[settings]
base_url = "{engine.base_url}"
home = "home"
ledger = "ledger"
index = "{folder.parent.name}-{folder.name}"
poll_interval = 0.2
retries = 0
"""
        )

    def over(self, *urls: str) -> None:
        (self.folder / "videos.csv").write_text("\n".join(["url", *urls]))

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        words = words or ("run",)
        return subprocess.Popen(
            [sys.executable, "-m", "tl_data", *words, str(self.file)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ),
        )  # fmt: skip

    def ended(self, process: subprocess.Popen[bytes], how: signal.Signals) -> None:
        process.send_signal(how)
        process.wait(30)

    def run(self) -> pipeline.Report:
        return pipeline.run(self.job)

    @property
    def job(self) -> Job:
        return Job.load(self.file)

    def answers(self, operation: str) -> list[Path]:
        """The records of calls that have ended well."""
        said = f'"operation": "{operation}"'
        return [p for p in (self.folder / "ledger" / "calls").rglob("done") if said in p.read_text()]

    def rows(self) -> list[dict[str, Any]]:
        return sorted(Lake(self.job.folder).read(RUNS).to_pylist(), key=lambda row: row["started_at"])

    def is_what_was_billed(self, till: Till) -> None:
        rows = self.rows()
        calls = sum(row["calls"] - row["submitted"] for row in rows)
        minutes = math.fsum(row["video_minutes"] for row in rows)
        assert sum(row["submitted"] for row in rows) == till.billed("tasks_created")
        assert minutes == pytest.approx(till.billed("video_minutes_indexed"), abs=1e-5)
        assert sum(row["output_tokens"] for row in rows) == till.billed("output_tokens")
        prices = Prices.load(self.folder / "prices.toml")
        analyzed = calls * 4 / 60  # each of a video of four seconds
        price = prices.of("index", video_minutes=minutes) + prices.of(
            "analyze", video_minutes=analyzed, calls=calls, output_tokens=int(till.billed("output_tokens"))
        )
        assert math.fsum(row["price"] for row in rows) == pytest.approx(price, abs=1e-8)


@pytest.fixture
def work(tmp_path: Path, shared_engine: Engine) -> Iterator[Work]:
    work = Work(tmp_path, shared_engine)
    yield work
    work.over("nothing")
    connect(work.job.load_settings()).close()


def test_costs_since_the_last_commit_are_recovered(till: Till, work: Work, put: Callable[..., str]) -> None:
    """Nothing was committed but the empty row: all that was paid stands in the ledger alone."""
    urls = [put(f"{n}.mp4") for n in range(3)]
    work.over(*urls)
    till.faults({"kind": "latency", "seconds": 600, "route": till.analyze, "method": "POST"})
    process = work.start()
    wait(process, lambda: len(submitted(work.folder / "ledger")) == 3)
    work.ended(process, signal.SIGKILL)
    [row] = work.rows()
    assert (row["status"], row["submitted"], row["price"]) == ("running", 0, 0)
    till.faults()
    rest = pipeline.plan(work.job)
    last = work.run()
    assert (last.status, last.submitted, last.video_minutes) == ("done", 0, 0)
    assert (rest.calls, rest.price) == (last.calls, pytest.approx(last.price - tokens(last), rel=1e-9))
    first, second = work.rows()
    assert (first["status"], first["submitted"], second["status"]) == ("interrupted", 3, "done")
    assert first["price"] > 0
    work.is_what_was_billed(till)
    assert not list((work.folder / "ledger" / "runs").iterdir())


def tokens(report: pipeline.Report) -> float:
    """What the text of a run cost."""
    return report.price - report.bill.price(report.prices, tokens=False)


@pytest.mark.parametrize(
    ("profile", "how", "named"),
    [
        ("today", signal.SIGKILL, True),
        ("today", signal.SIGKILL, False),
        ("today", signal.SIGTERM, False),
        ("2025", signal.SIGKILL, True),
        ("2025", signal.SIGTERM, False),
    ],
)
def test_a_task_whose_answer_never_came(
    till: Till, work: Work, put: Callable[..., str], how: signal.Signals, named: bool
) -> None:
    """It is billed to the run that sent it, also when the source does not name its video any more."""
    url, other = put("lost.mp4"), put("other.mp4")
    work.over(url)
    till.faults({"kind": "slow_body", "route": till.index, "method": "POST", "count": 1, "seconds": 600})
    process = work.start()
    wait(process, lambda: till.billed("tasks_created") == 1)
    work.ended(process, how)
    till.faults()
    work.over(other, *([url] if named else []))
    last = work.run()
    assert (last.status, last.submitted, last.paid_twice) == ("done", 1, 0)
    first, _ = work.rows()
    assert (first["status"], first["submitted"]) == ("interrupted", 1)
    assert first["video_minutes"] == pytest.approx(4 / 60, abs=1e-5)
    work.is_what_was_billed(till)
    assert not list((work.folder / "ledger" / "runs").iterdir())


@both
def test_a_task_without_any_search(till: Till, work: Work, put: Callable[..., str]) -> None:
    """Its answer was lost, and the server was away when the run asked for it: the run ends in good order, and
    its row gets the task from the next one."""
    work.over(put("a.mp4"))
    till.faults(
        {"kind": "reset", "route": till.index, "method": "POST", "after": True, "count": 1},
        *({"kind": "status", "status": 503, "route": route, "method": "GET"} for route in till.lists),
    )
    first = work.run()
    assert till.billed("tasks_created") == 1
    assert (first.status, first.failed, first.submitted) == ("partial", 1, 0)
    assert [path.name for path in (work.folder / "ledger" / "runs").iterdir()] == [first.run_id]
    till.faults()
    second = work.run()
    assert (second.status, second.submitted, second.paid_twice) == ("done", 0, 0)
    assert [(row["status"], row["submitted"]) for row in work.rows()] == [("partial", 1), ("done", 0)]
    work.is_what_was_billed(till)
    assert not list((work.folder / "ledger" / "runs").iterdir())


@both
def test_a_run_killed_during_reconciliation(till: Till, work: Work, put: Callable[..., str]) -> None:
    urls = [put(f"{n}.mp4") for n in range(2)]
    work.over(*urls)
    till.faults({"kind": "slow_body", "route": till.index, "method": "POST", "count": 1, "seconds": 600})
    process = work.start("submit")
    wait(process, lambda: till.billed("tasks_created") == 2)
    work.ended(process, signal.SIGKILL)
    till.faults({"kind": "latency", "seconds": 600, "route": till.analyze, "method": "POST"})
    process = work.start()
    wait(process, lambda: [row["status"] for row in work.rows()] == ["interrupted", "running"])
    work.ended(process, signal.SIGKILL)
    till.faults()
    last = work.run()
    calls = (
        2 if till.analyze == "/analyze/batches" else 4
    )  # of a video: one analysis, or a summary and a gist
    assert (last.status, last.submitted, last.calls) == ("done", 0, calls)
    assert [row["status"] for row in work.rows()] == ["interrupted", "interrupted", "done"]
    work.is_what_was_billed(till)


@both
def test_a_task_that_failed_is_not_billed(till: Till, work: Work, put: Callable[..., str]) -> None:
    """It never entered the index; the run that learns of it takes the minutes back."""
    work.over(put("a.mp4"), put("b.mp4"))
    till.faults({"kind": "failed", "route": till.index, "method": "POST", "count": 1, "state": "indexing"})
    sent = pipeline.submit(work.job)
    assert sent.video_minutes == pytest.approx(8 / 60, abs=1e-5)
    collected = pipeline.collect(work.job)
    assert (collected.failed, collected.submitted) == (1, 0)
    assert collected.video_minutes == pytest.approx(-4 / 60, abs=1e-5)
    work.is_what_was_billed(till)


def test_the_records_that_are_gone_take_nothing_off_a_row(
    till: Till, work: Work, put: Callable[..., str]
) -> None:
    """A run whose row says more than the ledger knows: somebody made the ledger forget."""
    work.over(put("a.mp4"))
    first = work.run()
    lease = work.folder / "ledger" / "runs" / first.run_id
    owner = {"id": "x", "host": "h", "pid": 1, "machine": "another", "at": None}
    lease.write_text(
        json.dumps({"tl_ledger": 1, "operation": "run", "content_key": "x", "owner": owner, "lease": 0})
    )
    for record in submitted(work.folder / "ledger"):
        record.unlink()
    work.run()
    assert float(work.rows()[0]["price"]) == pytest.approx(first.price, abs=1e-9)
    assert not lease.exists()
    work.is_what_was_billed(till)


@pytest.mark.parametrize("named", [True, False])
def test_an_analysis_whose_answer_never_came(
    till: Till, work: Work, put: Callable[..., str], named: bool
) -> None:
    """As with a task of indexing: the run that sent it has it, and only that run."""
    url, other = put("lost.mp4"), put("other.mp4")
    work.over(url)
    till.faults({"kind": "slow_body", "route": till.analyze, "method": "POST", "count": 1, "seconds": 600})
    process = work.start()
    wait(process, lambda: till.analyses() == 1)
    work.ended(process, signal.SIGKILL)
    till.faults()
    work.over(*([url] if named else [other]))
    last = work.run()
    assert (last.status, last.submitted, last.calls) == ("done", *((0, 0) if named else (1, 2)))
    first, _ = work.rows()
    assert (first["status"], first["submitted"], first["calls"]) == ("interrupted", 1, 2)
    if named:
        work.is_what_was_billed(till)
    assert till.analyses() == (1 if named else 2)
    assert not list((work.folder / "ledger" / "runs").iterdir())


def test_a_run_of_alerts_that_was_killed_has_its_row(till: Till, work: Work, put: Callable[..., str]) -> None:
    work.over(put("a.mp4"))
    work.run()
    work.file.write_text(work.file.read_text() + '[alerts]\nquestions = ["a ship"]\nmax_clips = 1\n')
    till.faults({"kind": "latency", "seconds": 600, "route": "/search"})
    process = work.start()
    wait(process, lambda: [row["status"] for row in work.rows()] == ["done", "done", "running"])
    work.ended(process, signal.SIGKILL)
    till.faults()
    asked = pipeline.alert(work.job)
    assert (asked.run.calls, asked.exit_code) == (1, 0)
    assert [row["status"] for row in work.rows()] == ["done", "done", "interrupted", "done"]
    assert not list((work.folder / "ledger" / "runs").iterdir())
