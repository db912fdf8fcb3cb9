"""The four jobs of `jobs/`, as they are started by schedulers, over small videos and the embedded engine."""

from __future__ import annotations

import json
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.environments import ROOT
from tests.support.library import Library
from tl_data.cli.main import exit_code
from tl_data.connection import connect
from tl_data.lake.base import rows_of
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import ALERTS, ERRORS, RUNS, SUMMARIES, VECTORS, VIDEOS
from tl_data.pipeline.digest import write_digest
from tl_data.pipeline.job import Digest, Job

JOBS = sorted(path.name for path in (ROOT / "jobs").glob("*.toml"))

Do = Callable[..., tuple[int, str]]


@pytest.fixture
def folder(library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the jobs, with indexes of their own, and settings of the environment as a scheduler sets."""
    place = tmp_path / "jobs"
    place.mkdir()
    for name in (*JOBS, "questions.csv"):
        shutil.copyfile(ROOT / "jobs" / name, place / name)
    own = uuid.uuid4().hex[:8]
    for name in JOBS:
        text = (place / name).read_text()
        (place / name).write_text(re.sub(r'(?m)^index = "([^"]+)"', rf'index = "\1-{own}"', text))
    monkeypatch.setenv("TL_BASE_URL", str(library.settings.base_url))
    monkeypatch.setenv("TL_LEDGER", str(tmp_path / "ledger"))
    monkeypatch.setenv("TL_POLL_INTERVAL", "0.5")
    monkeypatch.chdir(tmp_path)
    yield place
    for name in JOBS:
        connect(Job.load(place / name).load_settings()).close()


@pytest.fixture
def do(folder: Path, capfd: pytest.CaptureFixture[str]) -> Do:
    """Type a command: its exit code and what it printed."""

    def did(*words: str) -> tuple[int, str]:
        capfd.readouterr()
        code = exit_code(*words)
        return code, capfd.readouterr().out

    return did


def test_a_week_of_jobs(library: Library, folder: Path, do: Do) -> None:
    lake = Lake(str(folder / "lake"))
    nightly, alerts = str(folder / "nightly_catalog.toml"), str(folder / "saved_search_alerts.toml")
    plant, soup = library.urls
    (folder / "videos.csv").write_text(f"id,url\n1,{soup}\n")
    assert do("run", alerts)[0] == 2, "before the first night there is nothing to ask"

    # the first night: submitted by one task, collected by another
    code, said = do("submit", nightly)
    assert (code, "1 submitted" in said) == (0, True)
    assert do("collect", nightly)[0] == 0
    code, said = do("run", alerts)
    assert (code, "alerts: 0 new clips; 2 questions, 1 videos asked, 2 searches" in said) == (0, True), said

    # the second: one video more, and one that cannot be read
    (folder / "videos.csv").write_text(f"id,url\n1,{soup}\n2,{plant}\n3,{plant}.gone\n")
    code, said = do("run", nightly)
    assert (code, "1 reused, 1 submitted, 1 failed" in said) == (1, True), said
    assert do("plan", alerts)[1].startswith(
        "alerts: 2 questions, 1 videos to ask, 2 searches, price 0.00 USD"
    )
    code, said = do("run", alerts, "--json")
    clips = json.loads(said)["alerts"]["clips"]
    assert code == 0
    assert {(clip["question"], clip["source_key"]) for clip in clips} == {
        ("someone wears a safety helmet", "2"),
        ("keep the emergency exit clear", "2"),
    }
    assert json.loads(do("run", alerts, "--json")[1])["alerts"]["clips"] == []

    # the week's digest
    code, said = do("run", str(folder / "weekly_digest.toml"))
    [page] = folder.glob("digest-20*.md")
    text = page.read_text()
    assert (code, str(page) in said) == (0, True)
    assert f"2 new videos, 0.25 video minutes; {len(clips)} alerts; 1 failures; price 0.00 USD in" in text
    for part in (
        "## Topics",
        "keep the emergency exit clear",
        "video_url_not_found",
        plant.rpartition("/")[2],
    ):
        assert part in text

    # another model
    refresh = str(folder / "refresh_embeddings.toml")
    came_in = {row["source_key"]: row["indexed_at"] for row in lake.read(VIDEOS).to_pylist()}
    assert "2 to submit" in do("run", refresh, "--dry-run")[1]
    assert do("run", refresh)[0] == 0
    assert set(lake.read(VECTORS, ["model"]).column(0).to_pylist()) == {"tl-local-2 as marengo3.0"}
    assert {row["source_key"]: row["indexed_at"] for row in lake.read(VIDEOS).to_pylist()} == came_in
    assert do("run", nightly)[0] == 2, "the nightly job still names the old model"
    said = (folder / "refresh_embeddings.toml").read_text().partition("[settings]\n")[2]
    (folder / "nightly_catalog.toml").write_text(
        Path(nightly).read_text().partition("[settings]\n")[0] + "[settings]\n" + said
    )
    code, said = do("run", nightly)
    assert (code, "2 reused, 0 submitted, 1 failed (0 new)" in said) == (0, True), (
        said
    )  # it failed alike before
    assert json.loads(do("run", alerts, "--json")[1])["alerts"]["clips"] == []


@pytest.mark.parametrize("profile", ["today", "2025"])
def test_two_nights_on_an_account_of_the_service(
    request: pytest.FixtureRequest,
    library: Library,
    folder: Path,
    do: Do,
    monkeypatch: pytest.MonkeyPatch,
    profile: str,
) -> None:
    """The files as they come, with a key: the model of today only ranks, so the best clips are reported."""
    engine = request.getfixturevalue({"today": "today", "2025": "account_2025"}[profile])
    monkeypatch.setenv("TL_BASE_URL", engine.base_url)
    monkeypatch.setenv("TL_API_KEY", "tlk_A0KEY")
    nightly, alerts = str(folder / "nightly_catalog.toml"), str(folder / "saved_search_alerts.toml")
    (folder / "videos.csv").write_text(f"id,url\n2,{library.urls[0]}\n")
    assert do("submit", nightly)[0] == 0
    assert do("collect", nightly)[0] == 0
    code, said = do("run", alerts, "--json")
    clips = json.loads(said)["alerts"]["clips"]
    assert code == 0
    assert {clip["question"] for clip in clips} == {
        "someone wears a safety helmet",
        "keep the emergency exit clear",
    }
    assert all(1 <= clip["rank"] <= 10 for clip in clips)
    assert json.loads(do("run", alerts, "--json")[1])["alerts"]["clips"] == []
    assert do("run", nightly)[0] == 0
    model = {"today": "marengo3.0", "2025": "marengo2.7"}[profile]
    assert set(Lake(str(folder / "lake")).read(VECTORS, ["model"]).column(0).to_pylist()) == {model}


def test_one_file_may_hold_all_of_it(library: Library, folder: Path, do: Do) -> None:
    """Source, alerts and digest; what is wrong with the questions is said before anything is paid."""
    job, tasks = folder / "all.toml", library.stats()["tasks_created"]
    text = (
        (folder / "nightly_catalog.toml")
        .read_text()
        .replace('files = "videos.csv"', f"urls = {library.urls[1:]}")
    )
    text = (
        text.replace('key = "id"\n', "")
        + '[digest]\nfile = "page.html"\n[alerts]\nquestions = ["tomato soup", " "]\n'
    )
    job.write_text(text)
    assert do("run", str(job))[0] == 2
    assert library.stats()["tasks_created"] == tasks
    job.write_text(text.replace('" "', '"simple tomato soup"'))
    code, said = do("plan", str(job))
    assert (code, "2 questions, 1 videos to ask, 2 searches" in said) == (0, True), said
    code, said = do("run", str(job))
    assert code == 0
    assert library.stats()["tasks_created"] == tasks + 1
    for part in ("1 submitted", "question", "2 new clips; 2 questions, 1 videos asked", "page.html"):
        assert part in said
    assert "<td>simple tomato soup</td>" in (folder / "page.html").read_text()
    assert do("submit", str(folder / "weekly_digest.toml"))[0] == 2, "there is nothing to submit"


@pytest.mark.parametrize("indexed", [True, False])  # a job of texts has videos without an index
def test_a_digest_escapes_texts_and_counts_only_its_days(folder: Path, indexed: bool) -> None:
    job = Job.load(folder / "weekly_digest.toml")
    lake, now = Lake(job.folder), datetime(2026, 11, 20, tzinfo=UTC)
    days = {"new": 1, "old": 8}
    lake.table(VIDEOS).append(
        rows_of(
            VIDEOS,
            [
                {
                    "source_key": name,
                    "url": f"https://example.com/{name}_1.mp4?X-Amz-Signature=hidden",
                    "video_id": name if indexed else None,
                    "content_key": f"content of {name}",
                    "duration_sec": 90.0,
                    "indexed_at": now - timedelta(days=ago),
                }
                for name, ago in days.items()
            ],
        )
    )
    summary = {"title": "<b>A | B</b>", "summary": "[x](y)\n# no heading", "topics": ["a|b"]}
    ids = {v: {"content_key": f"content of {v}"} | ({"video_id": v} if indexed else {}) for v in days}
    lake.table(SUMMARIES).append(rows_of(SUMMARIES, [{**ids[v], "prompt": "", **summary} for v in days]))
    for table, key, at in ((ERRORS, "source_key", "at"), (RUNS, "run_id", "started_at")):
        rows = [{key: name, at: now - timedelta(days=ago)} for name, ago in days.items()]
        more = {"price": 1.25, "currency": "USD"} if table is RUNS else {"code": "x", "retryable": True}
        lake.table(table).append(rows_of(table, [row | more for row in rows]))
    lake.table(ALERTS).append(rows_of(ALERTS, []))
    for name in ("page.md", "page.html"):
        done = write_digest(job, Digest(str(folder / "pages" / name)), now)
        text = Path(done.file).read_text()
        sentence = "1 new videos, 1.50 video minutes; 0 alerts; 1 failures; price 1.25 USD in 1 runs"
        assert done.sentence == sentence
        assert sentence in text
        assert "old" not in text
        assert "hidden" not in text
        assert "<b>" not in text
    assert (
        "| \\<b\\>A \\| B\\</b\\> | https://example.com/new_1.mp4 | 1.50 |"
        in (folder / "pages/page.md").read_text()
    )
    assert "&lt;b&gt;A | B&lt;/b&gt;" in (folder / "pages/page.html").read_text()


@pytest.mark.parametrize("name", JOBS)
def test_each_job_is_named_as_its_file(name: str) -> None:
    assert Job.load(ROOT / "jobs" / name).name == Path(name).stem
