"""Runs that are interrupted or killed: the tables stay whole, the next run goes on, nobody pays twice."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import httpx
import pytest
from deltalake import DeltaTable

from tests.conftest import Engine
from tests.pipeline.conftest import both, indexings
from tests.support.odd_server import OddServer
from tests.support.processes import wait_for
from tl_data import pipeline
from tl_data.cli import jobs
from tl_data.connection import connect
from tl_data.lake.lake import Format, Lake
from tl_data.lake.schemas import CLIPS, RUNS, VECTORS, VIDEOS
from tl_data.pipeline.job import Job
from tl_data.pipeline.progress import Step

PROGRAM = """
import json, sys
from pathlib import Path
from tl_data import pipeline
from tl_data.pipeline.job import Job, Source
from tl_data.pipeline.progress import show_progress
said = json.loads(Path(sys.argv[1]).read_text())
source = Source(**{**said.pop("source"), "place": tuple(said["place"])})
job = Job(source, **{n: tuple(v) if isinstance(v, list) else v for n, v in said.items() if n != "place"})
with show_progress() as progress:
    report = pipeline.run(job, progress=progress)
print(report.sentence())
sys.exit(report.exit_code)
"""


def started(job: Job, folder: Path) -> subprocess.Popen[str]:
    said = asdict(job)
    said["place"] = said["source"].pop("place")
    (folder / "job.json").write_text(json.dumps(said))
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder / "job.json")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONWARNINGS": "error::ResourceWarning"},
    )  # fmt: skip


def consistent(job: Job) -> int:
    """The number of videos in the tables; each of them with its clips and vectors."""
    lake = Lake(job.folder, job.format)
    videos = lake.read(VIDEOS).to_pylist()
    ids = {row["video_id"] for row in videos}
    assert len(ids) == len(videos)
    for declared in (CLIPS, VECTORS):
        assert ids <= set(lake.read(declared, ["video_id"]).column("video_id").to_pylist())
    return len(ids)


@pytest.mark.parametrize(
    ("profile", "how", "kind"),
    [
        ("today", signal.SIGINT, "delta"),
        ("today", signal.SIGKILL, "delta"),
        ("today", signal.SIGKILL, "parquet"),
        ("2025", signal.SIGTERM, "parquet"),
        ("2025", signal.SIGKILL, "delta"),
    ],
)
def test_ended_in_the_middle_and_started_again(
    put: Callable[..., str],
    files: OddServer,
    make_job: Callable[..., Job],
    tmp_path: Path,
    how: signal.Signals,
    kind: Format,
) -> None:
    urls: list[str | None] = [put(f"{n}.mp4") for n in range(4)]
    urls[3] = files.odd("held", "3.mp4")
    job = make_job(urls, format=kind, tables=("clips", "vectors"), commit_videos=1)
    process = started(job, tmp_path)
    lake = Lake(job.folder, kind)
    wait_for(lambda: lake.read(VIDEOS, ["source_key"]).num_rows > 0, process)
    began = time.monotonic()
    process.send_signal(how)
    out, err = process.communicate(timeout=30)
    took = time.monotonic() - began
    there = consistent(job)
    assert there >= 1
    [run] = lake.read(RUNS).to_pylist()
    if how is signal.SIGKILL:
        assert (process.returncode, run["status"]) == (-signal.SIGKILL, "running")
    else:
        assert (process.returncode, run["status"]) == (130, "interrupted"), err
        assert "Traceback" not in err
        assert re.search(r"4 distinct videos, 0 reused, [1-4] submitted.*, 0 failed", out)
        assert took < 10
    files.released.set()
    last = pipeline.run(job)
    assert (last.status, last.failed, last.unchanged) == ("done", 0, there)
    ended = {row["run_id"]: row["status"] for row in lake.read(RUNS).to_pylist()}
    assert ended == {run["run_id"]: "interrupted", last.run_id: "done"}
    assert (last.paid_twice, consistent(job), indexings(job)) == (0, 4, 4)


def test_two_simultaneous_signals_count_as_one() -> None:
    """As GNU timeout sends them. Only another one, later, is for the handler of before."""
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    try:
        stop = pipeline.Stop()
        with pipeline._signals(stop):
            for pause in (0.05, 0.05, pipeline.SAME_SIGNAL):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(pause)
            assert stop._requested.is_set()
            assert seen == []
            os.kill(os.getpid(), signal.SIGTERM)
            assert seen == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


@both
def test_an_analysis_in_progress_is_completed(
    put: Callable[..., str],
    make_job: Callable[..., Job],
    tmp_path: Path,
    shared_engine: Engine,
    profile: str,
) -> None:
    """It is paid for: a stopped run waits for the answer, and the next run does not repeat the call."""
    control = shared_engine.base_url.removesuffix("/v1.3") + "/_engine"

    def analyses() -> int:
        return int(httpx.get(f"{control}/bill").json().get("analyze", {}).get("calls", 0))

    before = analyses()
    job = make_job([put(f"{n}.mp4") for n in range(2)], tables=("chapters",))
    route = "/analyze/batches" if profile == "today" else "/summarize"
    slow = {"kind": "slow_body", "route": route, "method": "POST", "seconds": 4}
    httpx.put(f"{control}/faults", json={"fault": [slow]}).raise_for_status()
    try:
        process = started(job, tmp_path)
        claims = (tmp_path / "ledger" / "calls").rglob
        wait_for(lambda: sum('"chapter"' in file.read_text() for file in claims("*.claim")) == 2, process)
        time.sleep(1.0)
        process.terminate()
        _, err = process.communicate(timeout=60)
    finally:
        httpx.delete(f"{control}/faults").raise_for_status()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert '"phase": "ending"' in err
    last = pipeline.run(job)
    assert (last.status, last.submitted, last.calls) == ("done", 0, 0)
    assert analyses() - before == 2
    rows = Lake(job.folder).read(RUNS).to_pylist()
    calls = {row["status"]: row["calls"] - row["submitted"] for row in rows}
    assert calls == {"interrupted": 2, "done": 0}


def test_a_plan_that_is_interrupted(
    put: Callable[..., str], make_job: Callable[..., Job], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    job = make_job([put(f"{n}.mp4") for n in range(40)], settings={"concurrency": 1})
    seen: list[Step] = []

    def interrupted(step: Step) -> None:
        if not seen:
            os.kill(os.getpid(), signal.SIGINT)
        seen.append(step)

    with pytest.raises(SystemExit) as ended:
        jobs._or_exit(lambda: pipeline.plan(job, progress=interrupted))
    assert ended.value.code == 130
    assert "the plan was interrupted; nothing was paid" in capfd.readouterr().err
    assert 1 <= len(seen) < 40
    connect(job.load_settings()).close()


@both
def test_a_plan_after_a_kill_is_the_bill_of_the_rest(
    put: Callable[..., str], make_job: Callable[..., Job], tmp_path: Path
) -> None:
    """To the last digit, in the report and in the table of runs."""
    (tmp_path / "prices.toml").write_text(
        "as_of = 2026-11-01\n[index]\nvideo_minute = 0.042\n[analyze]\nvideo_minute = 0.0292\ncall = 0.001\n"
    )
    urls: list[str | None] = [put(f"{n}.mp4") for n in range(4)]
    job = make_job(urls, tables=("clips", "summaries"), commit_videos=1, prices=str(tmp_path / "prices.toml"))
    whole = pipeline.plan(job)
    process = started(job.but(limit=2), tmp_path)
    lake = Lake(job.folder)
    wait_for(lambda: lake.exists(VIDEOS) and lake.read(VIDEOS, ["source_key"]).num_rows > 0, process)
    process.kill()
    process.communicate()
    there = lake.read(VIDEOS, ["source_key"]).num_rows
    rest = pipeline.plan(job)
    last = pipeline.run(job)
    assert (rest.unchanged, rest.distinct) == (there, 4)
    assert (last.video_minutes, last.calls, last.price) == (rest.video_minutes, rest.calls, rest.price)
    assert 0 < rest.price < whole.price
    [row] = [row for row in lake.read(RUNS).to_pylist() if row["status"] == "done"]
    assert row["video_minutes"] == rest.video_minutes
    assert float(row["price"]) == pytest.approx(rest.price, abs=1e-9)
    assert row["calls"] == rest.calls
    assert (pipeline.plan(job).price, indexings(job)) == (0, 4)


def test_tables_grow_while_a_run_goes_on(
    put: Callable[..., str], make_job: Callable[..., Job], tmp_path: Path
) -> None:
    """Every chunk is a commit of its own; a log line a step tells where the run is."""
    urls: list[str | None] = [put(f"{n}.mp4") for n in range(3)]
    job = make_job(urls, tables=("clips",), commit_videos=1)
    process = started(job, tmp_path)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out.startswith("3 rows, 3 distinct videos, 0 reused, 3 submitted, 0 failed")
    phases = [json.loads(line)["phase"] for line in err.splitlines()]
    assert (phases[0], phases[-1]) == ("working", "done")
    table = DeltaTable(f"{job.folder}/videos")
    sizes = []
    for version in range(table.version() + 1):
        table.load_as_version(version)
        sizes.append(table.count())
    assert sizes == sorted(sizes)
    assert sizes[0] == 0
    assert len(set(sizes)) > 2


def test_two_runs_of_one_job_at_once_pay_once(
    put: Callable[..., str], make_job: Callable[..., Job], tmp_path: Path
) -> None:
    urls: list[str | None] = [put(f"{n}.mp4") for n in range(3)]
    job = make_job(urls, tables=("clips", "vectors"), commit_videos=1)
    processes = [started(job, tmp_path) for _ in range(2)]
    outs = [process.communicate(timeout=150) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outs
    assert all("3 distinct videos" in out and out.endswith("paid twice: 0\n") for out, _ in outs)
    assert sum(int(re.findall(r"(\d) submitted", out)[0]) for out, _ in outs) == 3
    assert (indexings(job), consistent(job)) == (3, 3)
    clips = Lake(job.folder).read(CLIPS, ["video_id", "clip_number"])
    assert clips.num_rows == len({tuple(row.values()) for row in clips.to_pylist()})
