"""Saved-search alerts: new videos are searched, each clip is reported once, failures are reported."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from tests.conftest import Engine
from tests.support.library import Library, make_library
from tl_data import pipeline
from tl_data.demo.file_server import FileServer
from tl_data.errors import SchemaMismatch, SettingsError
from tl_data.lake.lake import Format, Lake
from tl_data.lake.schemas import ALERTS, ASKED, RUNS, VIDEOS
from tl_data.pipeline.alerts import AlertReport
from tl_data.pipeline.job import Alerts, Job, Source

HELMET, SOUP = "all visitors must wear a safety helmet", "today we are making a simple tomato soup"
EXIT = "keep the emergency exit clear"
Watch = Callable[..., Job]


@pytest.fixture(scope="module")
def library(account_2025: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """Two videos on an account of 2025, whose model tells a confidence; of today: pipeline/test_texts.py."""
    folder = tmp_path_factory.mktemp("library")
    with FileServer(folder) as server:
        yield make_library(folder, server.url, account_2025.base_url)


@pytest.fixture
def watch(library: Library, tmp_path: Path) -> Watch:
    """A job over videos of the library with saved questions, a lake of its own, and prices that show."""
    prices = tmp_path / "prices.toml"
    prices.write_text("as_of = 2026-11-01\n[search]\ncall = 0.25\n")
    settings = {n: v for n, v in asdict(library.settings).items() if v is not None}
    shutil.rmtree(Path(library.settings.ledger_url, "shared"), ignore_errors=True)  # answers of other tests

    def made(urls: list[str], *questions: str, **changes: Any) -> Job:
        alerts = Alerts(Source("urls", questions, section="alerts"))
        job = Job(Source("urls", tuple(urls)), str(tmp_path / "lake"), alerts=alerts, settings=settings)
        return job.but(prices=str(prices), tables=("clips",), **changes)

    return made


def found(report: AlertReport) -> set[tuple[str, str]]:
    """Question and file name of each reported clip."""
    return {(row["question"], row["url"].rpartition("/")[2]) for row in report.found}


@pytest.mark.parametrize("kind", ["delta", "parquet"])
def test_each_clip_is_reported_once(library: Library, watch: Watch, kind: Format) -> None:
    plant, soup = library.urls
    job = watch([plant], HELMET, SOUP, format=kind)
    pipeline.run(job)
    planned = pipeline.plan_alert(job)
    first = pipeline.alert(job)
    assert found(first) == {(HELMET, "plant.mp4")}
    assert (planned.videos, planned.searches, planned.price) == (1, 2, 0.5)
    assert (first.run.distinct, first.run.calls, first.run.price, first.exit_code) == (1, 2, 0.5, 0)

    searches = library.requests("POST /search")
    again = pipeline.alert(job)
    assert (again.found, again.run.calls, again.run.price) == ([], 0, 0)
    assert library.requests("POST /search") == searches, "nothing is new: nothing is asked"

    both = watch([plant, soup], HELMET, SOUP, format=kind)
    pipeline.run(both)
    second = pipeline.alert(both)
    assert found(second) == {(SOUP, "soup.mp4")}
    assert second.run.calls == 2

    more = watch([plant, soup], HELMET, SOUP, EXIT, format=kind)
    third = pipeline.alert(more)
    assert found(third) == {(EXIT, "plant.mp4")}
    assert third.run.calls == 1, "the other questions have been asked"
    lake = Lake(job.folder, kind)
    rows = lake.read(ALERTS).to_pylist()
    assert len(rows) == len(first.found) + len(second.found) + len(third.found)
    assert {len(row["questions"]) for row in lake.read(ASKED).to_pylist()} == {3}
    assert sorted(r["calls"] for r in lake.read(RUNS).to_pylist() if r["price"]) == [1, 2, 2]


def test_a_run_says_that_there_may_be_more_clips_than_it_tells_of(library: Library, watch: Watch) -> None:
    job = watch(library.urls, HELMET, "nothing of the kind is anywhere")
    pipeline.run(job)
    alerts = Alerts(Source("urls", (HELMET,), section="alerts"), max_clips=1)
    report = pipeline.alert(job.but(alerts=alerts))
    assert len(report.found) == 1
    assert f"{HELMET!r} may match more clips: max_clips was reached" in report.lines()
    again = pipeline.alert(job)
    assert again.run.calls == 1
    assert not again.full


def test_a_run_that_died_before_its_end_tells_nothing_twice(library: Library, watch: Watch) -> None:
    """As after a kill between the two commits: `alerts` is written, `asked` is not."""
    job = watch(library.urls, HELMET, SOUP)
    pipeline.run(job)
    first = pipeline.alert(job)
    lake = Lake(job.folder)
    before = lake.read(ALERTS).to_pylist()
    lake.table(ASKED).replace(ASKED.schema.empty_table())
    again = pipeline.alert(job)
    assert first.found
    assert (again.run.calls, again.found) == (0, []), "the answers are in the ledger"
    assert lake.read(ALERTS).to_pylist() == before
    assert lake.read(ASKED).num_rows == 2


def test_a_run_that_is_killed_pays_for_no_search_twice(
    library: Library, watch: Watch, tmp_path: Path, start_engine: Callable[..., Engine]
) -> None:
    """Killed while the second of three searches takes long: the next run makes the two that are left."""
    own = start_engine("--allow-private", "--profile", "2025")
    settings = {"base_url": own.base_url, "ledger": str(tmp_path / "ledger"), "concurrency": 1}
    job = watch(library.urls, HELMET, SOUP, EXIT)
    job = job.but(settings={**job.settings, **settings})
    pipeline.run(job)
    faults = own.base_url.removesuffix("/v1.3") + "/_engine/faults"
    slow = {"kind": "latency", "route": "/search", "seconds": 3}
    httpx.put(faults, json={"fault": [slow]}).raise_for_status()
    (tmp_path / "job").write_bytes(pickle.dumps(job))
    script = (
        "import pickle, sys; from tl_data import pipeline as p; p.alert(pickle.load(open(sys.argv[1], 'rb')))"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "job")])
    while not list((tmp_path / "ledger" / "shared").rglob("done")):
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    httpx.delete(faults).raise_for_status()
    planned = pipeline.plan_alert(job)
    rest = pipeline.alert(job)
    assert (planned.searches, rest.run.calls, planned.price, rest.run.price) == (2, 2, 0.5, 0.5)
    assert found(rest) == {(HELMET, "plant.mp4"), (SOUP, "soup.mp4"), (EXIT, "plant.mp4")}
    asked = [row for row in Lake(job.folder).read(RUNS).to_pylist() if row["run_id"] != rest.run.run_id]
    assert sorted((row["status"], row["calls"], row["price"]) for row in asked) == [
        ("done", 2, 0.0),
        ("interrupted", 1, 0.25),
    ]


def test_the_same_content_under_another_id_is_not_new(library: Library, watch: Watch) -> None:
    """As after embedding anew: other ids, the same content."""
    job = watch(library.urls, HELMET)
    pipeline.run(job)
    assert pipeline.alert(job).found
    lake = Lake(job.folder)
    rows = lake.read(VIDEOS)
    ids = pa.array([f"{number:024x}" for number in range(rows.num_rows)])
    at = rows.schema.get_field_index("video_id")
    lake.table(VIDEOS).replace(rows.set_column(at, rows.schema.field(at), ids))
    assert pipeline.plan_alert(job).searches == 0


def test_a_video_that_left_the_index_hides_no_other(library: Library, watch: Watch) -> None:
    job = watch(library.urls, HELMET, SOUP)
    pipeline.run(job)
    lake = Lake(job.folder)
    row = lake.read(VIDEOS).to_pylist()[0]
    gone = {"source_key": "gone", "content_key": "gone", "video_id": f"{7:024x}"}
    lake.table(VIDEOS).append(pa.Table.from_pylist([row | gone], VIDEOS.schema))
    report = pipeline.alert(job)
    assert found(report) == {(HELMET, "plant.mp4"), (SOUP, "soup.mp4")}
    assert report.exit_code == 0


def test_a_search_that_fails_is_made_again_the_next_time(library: Library, watch: Watch) -> None:
    job = watch(library.urls, HELMET, SOUP)
    pipeline.run(job)
    too_long = job.but(alerts=Alerts(Source("urls", (HELMET, "soup " * 900), section="alerts")))
    report = pipeline.alert(too_long)
    assert (report.run.failed, report.exit_code, found(report)) == (1, 1, {(HELMET, "plant.mp4")})
    assert "failed: 'soup soup" in report.lines()[0]
    assert {tuple(row["questions"]) for row in Lake(job.folder).read(ASKED).to_pylist()} == {(HELMET,)}
    assert pipeline.plan_alert(too_long).searches == 1


def test_limits(library: Library, watch: Watch) -> None:
    job = watch(library.urls, HELMET, SOUP)
    pipeline.run(job)
    dear = pipeline.alert(job.but(budget=0.4))
    assert (dear.run.status, dear.exit_code, dear.run.calls) == ("budget", 3, 0)
    assert "would cost 0.5 USD, the budget is 0.4" in dear.lines()[0]
    spent = pipeline.alert(job.but(budget=0.6), spent=0.2)
    assert (spent.run.status, spent.exit_code, spent.run.calls) == ("budget", 3, 0)
    assert "the budget is 0.6, of which 0.2 is spent" in spent.lines()[0]
    some = pipeline.alert(job.but(limit=1))
    rest = pipeline.alert(job)
    assert (some.run.distinct, rest.run.distinct) == (1, 1)
    assert found(some) | found(rest) == {(HELMET, "plant.mp4"), (SOUP, "soup.mp4")}


def test_questions_from_tables(library: Library, watch: Watch, tmp_path: Path) -> None:
    job = watch(library.urls, HELMET)
    pipeline.run(job)
    (tmp_path / "q.csv").write_text(f"id,asks\n1,{SOUP}\n2, {SOUP} \n")
    pq.write_table(pa.table({"question": [HELMET]}), tmp_path / "q.parquet")
    write_deltalake(str(tmp_path / "q"), pa.table({"question": [HELMET, SOUP]}))
    sources = [
        Source("files", str(tmp_path / "q.csv"), url="asks", section="alerts"),
        Source("files", str(tmp_path / "q.parquet"), url="question", section="alerts"),
        Source("delta", str(tmp_path / "q"), url="question", section="alerts"),
        Source("query", "SELECT 'x' || 1 AS question", url="question", section="alerts"),
    ]
    assert [pipeline.plan_alert(job.but(alerts=Alerts(s))).questions for s in sources] == [1, 1, 2, 1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ask\nhelmet\n", "the table of saved questions has no column 'question'; it has ask"),
        ('question,n\nhelmet,1\n" ",2\n', r"\[alerts\]: question 2 is empty"),
        ("question,n\nhelmet,1\n,2\n", r"\[alerts\]: question 2 is NULL"),
        ("question,n\n", r"\[alerts\]: no saved questions"),
    ],
)
def test_questions_that_are_none(watch: Watch, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "q.csv").write_text(text)
    asked = Alerts(Source("files", str(tmp_path / "q.csv"), url="question", section="alerts"))
    with pytest.raises((SettingsError, SchemaMismatch), match=said):
        pipeline.plan_alert(watch([]).but(alerts=asked))


def test_questions_that_are_numbers(watch: Watch, tmp_path: Path) -> None:
    pq.write_table(pa.table({"question": [1, 2]}), tmp_path / "q.parquet")
    asked = Alerts(Source("files", str(tmp_path / "q.parquet"), url="question", section="alerts"))
    with pytest.raises(
        SchemaMismatch, match="of the table of saved questions is int64; it must be text: que"
    ):
        pipeline.alert(watch([]).but(alerts=asked))


def test_tables_that_cannot_be_used(library: Library, watch: Watch, tmp_path: Path) -> None:
    job = watch(library.urls, HELMET)
    with pytest.raises(SettingsError, match="has no table videos: run the job that fills it first"):
        pipeline.alert(job)
    pipeline.run(job)
    searches = library.requests("POST /search")
    write_deltalake(str(tmp_path / "lake" / "alerts"), pa.table({"question": ["x"], "mine": [1]}))
    with pytest.raises(SchemaMismatch, match=r"alerts: column content_key \(string\) is missing"):
        pipeline.alert(job)
    assert library.requests("POST /search") == searches, "nothing was asked that could not be written"
    with pytest.raises(SettingsError, match=r"has no saved questions: give it a section \[alerts\]"):
        pipeline.alert(job.but(alerts=None))
