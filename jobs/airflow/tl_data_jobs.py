"""The jobs as DAGs of Airflow 3. Put this file into the DAGs folder, plugins/ into the folder of plugins.

TL_JOBS names the folder of the job files, TL_DATA the program (`tl-data` on the path by default), which may
be in an environment of its own: these DAGs import nothing of it. While the platform works, the task is
deferred to the triggerer: no worker is held.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path

from airflow.sdk import DAG, task
from airflow.sdk.exceptions import AirflowFailException
from tl_data_operator import TlDataOperator

JOBS = Path(os.environ.get("TL_JOBS", "/srv/jobs"))
POLL = timedelta(seconds=float(os.environ.get("TL_POLL_SECONDS", "300")))
USUAL = {"retries": 2, "retry_delay": timedelta(minutes=20)}


def tl_data(name: str, job: str, verb: str = "run", rule: str = "all_success") -> TlDataOperator:
    """A task that does a job."""
    return TlDataOperator(
        task_id=name, job=str(JOBS / f"{job}.toml"), verb=verb, poll=POLL, trigger_rule=rule
    )


@task(trigger_rule="one_failed", retries=0)
def any_failure() -> None:
    """Fails when a task before it did. Without it a run would be as green as its last task."""
    raise AirflowFailException("a task of this run failed")


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
    catalog = tl_data("catalog", "nightly_catalog", "submit")
    # "all_done": also when some videos failed. The others are in, and are searched.
    alerts = tl_data("alerts", "saved_search_alerts", rule="all_done")
    catalog >> alerts
    [catalog, alerts] >> any_failure()

with dag("weekly_digest", "0 7 * * 1"):
    tl_data("digest", "weekly_digest")

with dag("refresh_embeddings", None):  # started by hand, after a look at what tl-data plan says
    tl_data("refresh", "refresh_embeddings")
