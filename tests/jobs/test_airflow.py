"""The DAGs of `jobs/airflow` under a real scheduler and triggerer: `make test-airflow` (minutes)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Engine
from tests.jobs.test_schedulers import AIRFLOW, folder, variables
from tests.support.environments import python_with

__all__ = ["folder", "variables"]

pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not os.environ.get("TEST_AIRFLOW"), reason="make test-airflow runs it"),
]

MINUTES = 15 * 60


class Airflow:
    """A running Airflow, and its command line."""

    def __init__(self, program: Path, environment: dict[str, str], home: Path) -> None:
        self.program, self.environment, self.home = program, environment, home
        self.log = (home / "standalone.log").open("wb")
        self.process = subprocess.Popen(
            [str(program), "standalone"],
            env=environment, stdout=self.log, stderr=self.log, cwd=home, start_new_session=True,
        )  # fmt: skip

    def call(self, *words: str) -> Any:
        """What a command prints as JSON; None if it fails, as it does before Airflow is up."""
        done = subprocess.run(
            [str(self.program), *words, "--output", "json"],
            env=self.environment, capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        lines = [line for line in done.stdout.splitlines() if line.startswith(("[{", "[]"))]
        return json.loads(lines[-1]) if done.returncode == 0 and lines else None

    def run(self, dag: str, name: str) -> tuple[str, dict[str, str]]:
        """Start a run and wait for its end; its state and those of its tasks."""
        deadline = time.monotonic() + MINUTES
        while not any(row["dag_id"] == dag for row in self.call("dags", "list") or []):
            assert time.monotonic() < deadline, (self.home / "standalone.log").read_text()[-4000:]
            time.sleep(5)
        for words in (("dags", "unpause", dag, "--yes"), ("dags", "trigger", dag, "--run-id", name)):
            subprocess.run(
                [str(self.program), *words],
                env=self.environment,
                check=True,
                capture_output=True,
                timeout=300,
            )
        while True:
            runs = {row["run_id"]: row["state"] for row in self.call("dags", "list-runs", dag) or []}
            tasks = {
                row["task_id"]: row["state"]
                for row in self.call("tasks", "states-for-dag-run", dag, name) or []
            }
            if runs.get(name) in ("success", "failed"):
                return runs[name], tasks
            assert time.monotonic() < deadline, (runs, tasks)
            time.sleep(5)

    def links(self, dag: str, run: str, task: str) -> dict[str, str]:
        """The links of a task, as the scheduler's database has them."""
        with sqlite3.connect(f"file:{self.home / 'airflow.db'}?mode=ro", uri=True) as db:
            rows = db.execute(
                "SELECT key, value FROM xcom WHERE dag_id = ? AND run_id = ? AND task_id = ?",
                (dag, run, task),
            ).fetchall()
        return {key: json.loads(value) for key, value in rows if key.startswith("_link_")}

    def close(self) -> None:
        """End it and all that it started."""
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.log.close()


@pytest.fixture
def airflow(folder: Path, variables: dict[str, str], today: Engine, tmp_path: Path) -> Iterator[Airflow]:
    home, dags = tmp_path / "airflow", tmp_path / "dags"
    home.mkdir()
    dags.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    text = (folder / "airflow" / "tl_data_jobs.py").read_text()
    assert '"0 22 * * *"' in text
    # After ten at night Airflow would also make up for the run of ten.
    (dags / "tl_data_jobs.py").write_text(text.replace('"0 22 * * *"', "None"))
    shutil.copytree(folder / "airflow" / "plugins", home / "plugins")
    python = python_with("airflow-3.3", *AIRFLOW)
    environment = {
        **{name: value for name, value in variables.items() if name != "PYTHONPATH"},
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(home / "plugins"),
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",  # on a busy machine the first answer takes long
        "TL_BASE_URL": today.base_url,  # an account of today
        "TL_POLL_SECONDS": "5",
        "TL_VIEW_URL": "http://127.0.0.1:9/token/",
    }
    started = Airflow(python.parent / "airflow", environment, home)
    try:
        yield started
    finally:
        started.close()


def test_runs_are_green_when_all_is_in_and_red_when_something_failed(airflow: Airflow, folder: Path) -> None:
    state, tasks = airflow.run("nightly_catalog", "good")
    assert (state, tasks) == (
        "success",
        {"catalog": "success", "alerts": "success", "any_failure": "skipped"},
    )
    links = airflow.links("nightly_catalog", "good", "catalog")
    assert links["_link_PosterLink"] == "http://127.0.0.1:9/token/poster?id=1"
    assert links["_link_RunsLink"] == "http://127.0.0.1:9/token/#runs"
    with (folder / "videos.csv").open("a") as rows:
        rows.write("2,http://127.0.0.1:9/none.mp4\n")
    state, tasks = airflow.run("nightly_catalog", "bad")
    assert (state, tasks["catalog"], tasks["any_failure"]) == ("failed", "failed", "failed")
    assert tasks["alerts"] == "success", "what is in is searched all the same"
    log = "".join(p.read_text(errors="replace") for p in (airflow.home / "logs").rglob("*attempt=1.log"))
    assert "waited_sec" in log, "the task was deferred and came back"
    assert not list((airflow.home / "logs").rglob("*attempt=2.log")), "nothing was tried again"
