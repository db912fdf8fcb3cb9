"""The entries of `jobs/` for schedulers: each is loaded by the real thing, and runs a real job."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Engine
from tests.support.environments import ROOT, environment, python_with
from tests.support.library import Library
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import ALERTS, VIDEOS

pytestmark = pytest.mark.timeout(800)  # the environments are made in it, once

#: Alerts of an account of today: its model ranks every clip, here two for each of two questions.
RANKED = 4

#: Versions of their own: what these programs need is no part of this package's locks.
AIRFLOW = ("apache-airflow-core==3.3.*", "apache-airflow-providers-standard>=1.20,<2")
DAGSTER = ("dagster==1.13.*",)
BUNDLES = ("databricks-bundles==1.22.*", "pyyaml>=6")


@pytest.fixture
def folder(library: Library, tmp_path: Path) -> Path:
    """A copy of the jobs with an index of their own and one video in the source."""
    place = tmp_path / "jobs"
    shutil.copytree(ROOT / "jobs", place)
    own = uuid.uuid4().hex[:8]
    for file in place.glob("*.toml"):
        text = re.sub(r'(?m)^index = "([^"]+)"', rf'index = "\1-{own}"', file.read_text())
        file.write_text(text)
    (place / "videos.csv").write_text(f"id,url\n1,{library.urls[0]}\n")
    return place


@pytest.fixture
def variables(today: Engine, folder: Path, tmp_path: Path) -> dict[str, str]:
    """The environment of a scheduler's process; `tl-data` is in another environment than the scheduler."""
    return environment(
        TL_BASE_URL=today.base_url,
        TL_API_KEY="tlk_A0KEY",
        TL_LEDGER=str(tmp_path / "ledger"),
        TL_HOME=str(tmp_path / "home"),
        TL_POLL_INTERVAL="0.5",
        TL_JOBS=str(folder),
        TL_DATA=f"env PYTHONPATH={ROOT} {sys.executable} -m tl_data",
        AIRFLOW_HOME=str(tmp_path / "airflow"),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        DAGSTER_DISABLE_TELEMETRY="yes",
    )


def said_by(
    python: Path, script: str, variables: dict[str, str], folder: Path, *words: str
) -> dict[str, object]:
    """The last line that a script prints, which is JSON. It runs where nothing of this checkout is seen."""
    own = {name: value for name, value in variables.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(python), "-c", script, *words],
        cwd=folder, env=own, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return dict(json.loads(done.stdout.splitlines()[-1]))


AIRFLOW_SCRIPT = """
import asyncio, json, sys
from datetime import timedelta
from importlib import import_module
from pathlib import Path
sys.path.append(sys.argv[1] + "/plugins")
from airflow.sdk.exceptions import TaskDeferred
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.exceptions import AirflowException, AirflowFailException
bag = DagBag(dag_folder=sys.argv[1], safe_mode=False)
nightly = bag.dags["nightly_catalog"]
nightly.get_task("catalog").poll = timedelta(seconds=2)
numbers = {}
try:
    nightly.get_task("catalog").execute({})
except TaskDeferred as deferred:
    trigger, after = deferred.trigger, deferred.kwargs
    kind, arguments = trigger.serialize()
    module, _, name = kind.rpartition(".")
    trigger = getattr(import_module(module), name)(**arguments)  # as the triggerer makes it

    async def fired():
        async for event in trigger.run():
            return event.payload

    event = asyncio.run(fired())
    numbers["catalog"] = nightly.get_task("catalog").collect({}, event=event, **after)
links = {link.name: link.get_link(nightly.get_task("catalog"), ti_key=None)
    for link in nightly.get_task("catalog").operator_extra_links}
numbers["alerts"] = nightly.get_task("alerts").execute({})
job = Path(sys.argv[2], "weekly_digest.toml")
job.write_text(job.read_text().replace("days", "dayz"))
raised = {}
try:
    bag.dags["weekly_digest"].get_task("digest").execute({})
except AirflowException as error:
    raised["digest"] = type(error).__name__
print(json.dumps({
    "errors": bag.import_errors,
    "order": {n: [t.task_id for t in d.topological_sort()] for n, d in bag.dags.items()},
    "after": {t.task_id: sorted(t.downstream_task_ids) for t in nightly.tasks},
    "rules": {t.task_id: t.trigger_rule for t in nightly.tasks},
    "event": event,
    "numbers": numbers,
    "links": links,
    "raised": raised,
}))
"""


def test_airflow_loads_the_dags_and_runs_the_tasks(folder: Path, variables: dict[str, str]) -> None:
    python = python_with("airflow-3.3", *AIRFLOW)
    variables |= {"TL_VIEW_URL": "http://127.0.0.1:9/token/"}
    said = said_by(python, AIRFLOW_SCRIPT, variables, folder, str(folder / "airflow"), str(folder))
    assert said["errors"] == {}
    assert said["links"] == {
        "Poster of the newest video": "http://127.0.0.1:9/token/poster?id=1",
        "Newest video": "http://127.0.0.1:9/token/#video=1",
        "Runs and counts": "http://127.0.0.1:9/token/#runs",
    }
    assert said["order"] == {
        "nightly_catalog": ["catalog", "alerts", "any_failure"],
        "weekly_digest": ["digest"],
        "refresh_embeddings": ["refresh"],
    }
    # The run is red when a task failed, though the last one runs all the same.
    assert said["rules"] == {"catalog": "all_success", "alerts": "all_done", "any_failure": "one_failed"}
    assert said["after"]["alerts"] == ["any_failure"]
    assert said["after"]["catalog"] == ["alerts", "any_failure"]
    assert said["event"]["unfinished"] == 0
    assert said["numbers"]["catalog"]["failed"] == 0
    assert said["raised"]["digest"] == "AirflowFailException", "a job that is wrong is not tried again"
    lake = Lake(str(folder / "lake"))
    assert (lake.read(VIDEOS).num_rows, lake.read(ALERTS).num_rows) == (1, RANKED)


DAGSTER_SCRIPT = """
import json, sys
from pathlib import Path
from dagster import DagsterInstance, load_definitions_from_module
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location("definitions", sys.argv[1])
module = module_from_spec(spec)
spec.loader.exec_module(module)
given = module.definitions
given.get_repository_def().load_all_definitions()
done, numbers, assets = {}, {}, {}
for name in ("catalog_submit", "catalog_collect", "saved_search_alerts"):
    with DagsterInstance.ephemeral() as instance:
        result = given.resolve_job_def(name).execute_in_process(instance=instance, raise_on_error=False)
    done[name] = result.success
    for event in result.all_node_events:
        if event.is_successful_output:
            numbers[name] = {k: v.value for k, v in event.step_output_data.metadata.items()}
    for event in result.get_asset_materialization_events():
        made = event.materialization
        assets[made.asset_key.to_user_string()] = {k: v.value for k, v in made.metadata.items()}
    if name == "catalog_collect":
        Path(sys.argv[2], "videos.csv").unlink()
        with DagsterInstance.ephemeral() as instance:
            result = given.resolve_job_def(name).execute_in_process(instance=instance, raise_on_error=False)
        done["without source"] = result.success
        failures = [e for e in result.all_events if e.is_step_failure]
        done["failure"] = failures[0].step_failure_data.error.message
graph = given.get_repository_def().asset_graph
print(json.dumps({"done": done, "numbers": numbers, "assets": assets,
    "after": {k.to_user_string(): sorted(p.to_user_string() for p in graph.get(k).parent_keys)
        for k in graph.get_all_asset_keys()},
    "schedules": {s.job_name: s.cron_schedule for s in given.get_repository_def().schedule_defs}}))
"""


def test_dagster_loads_the_definitions_and_runs_the_jobs(folder: Path, variables: dict[str, str]) -> None:
    python = python_with("dagster-1.13", *DAGSTER)
    file = str(folder / "dagster" / "definitions.py")
    variables |= {"TL_VIEW_URL": "http://127.0.0.1:9/token/"}
    said: Any = said_by(python, DAGSTER_SCRIPT, variables, folder, file, str(folder))
    done = said["done"]
    assert [done[name] for name in ("catalog_submit", "catalog_collect", "saved_search_alerts")] == [True] * 3
    assert (done["without source"], "exit code 2" in done["failure"]) == (False, True)
    assert said["numbers"]["catalog_submit"]["submitted"] == 1
    assert said["after"] == {
        "catalog": [],
        "alerts": ["catalog"],
        "digest": ["alerts", "catalog"],
    }
    catalog = said["assets"]["catalog"]
    assert (catalog["rows"], catalog["dagster/row_count"], catalog["failed"]) == (1, 1, 0)
    assert catalog["poster"] == "http://127.0.0.1:9/token/poster?id=1"
    assert catalog["newest video"] == "http://127.0.0.1:9/token/#video=1"
    assert set(catalog["tables"]) >= {"videos", "clips", "vectors"}
    assert "alerts" in said["assets"]["alerts"]
    assert set(said["schedules"]) == {
        "catalog_submit",
        "catalog_collect",
        "saved_search_alerts",
        "weekly_digest",
    }
    lake = Lake(str(folder / "lake"))
    assert (lake.read(VIDEOS).num_rows, lake.read(ALERTS).num_rows) == (1, RANKED)


BUNDLE_SCRIPT = """
import json, sys, warnings
from pathlib import Path
import yaml
from databricks.bundles.jobs import ClusterSpec, Job
warnings.simplefilter("error")
bundle = yaml.safe_load(Path(sys.argv[1]).read_text())
jobs = {name: Job.from_dict(said).as_dict() for name, said in bundle["resources"]["jobs"].items()}
cluster = ClusterSpec.from_dict(bundle["variables"]["cluster"]["default"]).as_dict()
wrong = []
for change in ({"task": 1}, {"max_concurrent_runs": {"a": 1}}, {"tasks": [{"spark_python_task": {}}]}):
    try:
        Job.from_dict({**bundle["resources"]["jobs"]["catalog_submit"], **change})
    except Exception as error:
        wrong.append(str(error))
print(json.dumps({"bundle": bundle, "jobs": jobs, "cluster": cluster, "wrong": wrong}))
"""


def test_databricks_takes_the_bundle(folder: Path, variables: dict[str, str]) -> None:
    """By the classes that Databricks makes of its own schema: other keys, types and gaps are refused."""
    python = python_with("databricks-bundles-1.22", *BUNDLES)
    place = folder / "databricks"
    said = said_by(python, BUNDLE_SCRIPT, variables, folder, str(place / "databricks.yml"))
    bundle, jobs = said["bundle"], said["jobs"]
    assert len(said["wrong"]) == 3, "the classes refuse nothing"  # type: ignore[arg-type]
    assert jobs == bundle["resources"]["jobs"], "something was not understood"  # type: ignore[index]
    assert said["cluster"] == bundle["variables"]["cluster"]["default"]  # type: ignore[index]
    assert set(bundle) == {"bundle", "sync", "variables", "targets", "resources"}  # type: ignore[call-overload]
    names = set(bundle["variables"])  # type: ignore[index]
    assert set(re.findall(r"\$\{var\.(\w+)\}", json.dumps(jobs))) == names
    for job in jobs.values():  # type: ignore[attr-defined]
        for task in job["tasks"]:
            python_task = task["spark_python_task"]
            assert (place / python_task["python_file"]).is_file()
            verb, file = python_task["parameters"]
            assert verb in ("plan", "run", "submit", "collect")
            assert (folder / file.removeprefix("${workspace.file_path}/")).is_file()


def test_a_task_of_databricks_runs_a_job(folder: Path, variables: dict[str, str]) -> None:
    task = str(folder / "databricks" / "tl_data_task.py")

    def run(verb: str, name: str) -> int:
        command = [sys.executable, task, verb, str(folder / f"{name}.toml")]
        return subprocess.run(
            command, env=variables, capture_output=True, timeout=100, check=False
        ).returncode

    assert [run("run", "nightly_catalog"), run("run", "saved_search_alerts")] == [0, 0]
    assert Lake(str(folder / "lake")).read(ALERTS).num_rows == RANKED
    (folder / "weekly_digest.toml").write_text("days = 7\n")
    assert run("run", "weekly_digest") == 2


Cron = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def cron(folder: Path, variables: dict[str, str]) -> Cron:
    """Run a job as cron does: hardly any variables, and settings from the file beside the script."""
    assignments = [f"{name}='{value}'" for name, value in variables.items() if name.startswith("TL_")]
    (folder / "cron" / "tl-data.env").write_text("\n".join(assignments) + "\n")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(folder / "cron" / "tl-job"), *words],
            cwd="/", env={"PATH": os.environ["PATH"], "HOME": str(folder)},
            capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip

    return run


def test_cron_is_silent_unless_something_fails(folder: Path, cron: Cron, library: Library) -> None:
    nightly = str(folder / "nightly_catalog.toml")
    done = cron("run", nightly)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    log = (folder / "logs" / "nightly_catalog.log").read_text()
    assert "1 submitted" in log
    assert "exit code 0" in log
    (folder / "videos.csv").write_text(f"id,url\n1,{library.urls[0]}\n2,{library.urls[0]}.gone\n")
    failed = cron("run", nightly)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "ended with exit code 1" in failed.stderr
    assert "1 reused, 0 submitted, 1 failed" in failed.stderr
    assert "1 submitted, 0 failed" not in failed.stderr, "the log of the night before is not mailed again"
    assert cron("run").returncode == 2
    assert cron("run", str(folder / "none.toml")).returncode == 2


def test_the_crontab_refers_to_existing_files() -> None:
    lines = (ROOT / "jobs" / "cron" / "crontab").read_text().splitlines()
    entries = [line.split(None, 5) for line in lines if line.startswith(" ")]
    assert len(entries) == 3
    for *times, command in entries:
        assert all(re.fullmatch(r"[\d*]+|mon", time) for time in times)
        for name in re.findall(r"/srv/jobs/(\S+?)(?:;|\s|$)", command):
            assert (ROOT / "jobs" / name).is_file(), name


def test_cron_starts_no_job_twice(folder: Path, cron: Cron) -> None:
    (folder / "logs").mkdir()
    with (folder / "logs" / ".nightly_catalog.lock").open("w") as lock:
        holder = subprocess.Popen(["flock", lock.name, "sleep", "60"])
        try:
            deadline = time.monotonic() + 20
            while (again := cron("run", str(folder / "nightly_catalog.toml"))).returncode != 3:
                assert time.monotonic() < deadline, again
        finally:
            holder.terminate()
            holder.wait()
    assert "nightly_catalog is still running" in again.stderr
