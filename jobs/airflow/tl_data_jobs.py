"""The jobs as DAGs of Airflow 3. Put this file into the DAGs folder.

TL_JOBS names the folder of the job files, TL_DATA the program (`tl-data` on the path by default), which may
be in an environment of its own: these DAGs import nothing of it. Between `submit` and `collect`, the wait is
deferred to the triggerer: no worker is held.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from datetime import datetime, timedelta
from pathlib import Path

from airflow.providers.standard.sensors.time_delta import WaitSensor
from airflow.sdk import DAG, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException

JOBS = Path(os.environ.get("TL_JOBS", "/srv/jobs"))
USUAL = {"retries": 2, "retry_delay": timedelta(minutes=20)}


@task
def tl_data(verb: str, job: str) -> None:
    """Run `tl-data VERB JOB`. A job that is wrong (exit code 2) is not tried again; it would not help."""
    program = shlex.split(os.environ.get("TL_DATA", "tl-data"))
    code = subprocess.run([*program, verb, str(JOBS / f"{job}.toml")], check=False).returncode
    if code:
        what = {
            1: "some videos failed: see the table errors",
            2: "the job is wrong",
            3: "stopped; run it again",
        }
        said = f"tl-data {verb} {job} ended with exit code {code} ({what.get(code, 'interrupted')})"
        raise AirflowFailException(said) if code == 2 else AirflowException(said)


def dag(name: str, schedule: str | None) -> DAG:
    """One run at a time; nights that were missed are not made up for: a run does everything that is new."""
    return DAG(
        name,
        schedule=schedule,
        start_date=datetime(2026, 1, 1),
        catchup=False,
        max_active_runs=1,
        default_args=USUAL,
        tags=["tl_data"],
    )


with dag("nightly_catalog", "0 22 * * *"):
    submit = tl_data.override(task_id="submit")("submit", "nightly_catalog")
    # "all_done": also when some videos failed. The others were submitted, and are in.
    wait = WaitSensor(
        task_id="wait", time_to_wait=timedelta(hours=6), deferrable=True, trigger_rule="all_done"
    )
    collect = tl_data.override(task_id="collect")("collect", "nightly_catalog")
    alerts = tl_data.override(task_id="alerts", trigger_rule="all_done")("run", "saved_search_alerts")
    submit >> wait >> collect >> alerts

with dag("weekly_digest", "0 7 * * 1"):
    tl_data.override(task_id="digest")("run", "weekly_digest")

with dag("refresh_embeddings", None):  # started by hand, after a look at what the plan says
    plan = tl_data.override(task_id="plan")("plan", "refresh_embeddings")
    refresh = tl_data.override(task_id="refresh")("run", "refresh_embeddings")
    plan >> refresh
