"""The jobs as DAGs of Airflow 3. Put this file into the DAGs folder, `plugins/` into the plugins folder.

TL_JOBS names the folder of the job files, TL_DATA the program (by default `tl-data` on the PATH), which may
be in a separate environment: these DAGs do not import it. TL_POLL_SECONDS is the time between two checks of
the tasks. While the platform works, the task is deferred to the triggerer and occupies no worker.
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
DEFAULT_ARGS = {"retries": 2, "retry_delay": timedelta(minutes=20)}


def tl_data(name: str, job: str, verb: str = "run", rule: str = "all_success") -> TlDataOperator:
    """A task that runs a job file.

    Args:
        name: the id of the task.
        job: the name of the job file, without its extension.
        verb: as for `TlDataOperator`.
        rule: the trigger rule of the task.
    """
    return TlDataOperator(
        task_id=name, job=str(JOBS / f"{job}.toml"), verb=verb, poll=POLL, trigger_rule=rule
    )


@task(trigger_rule="one_failed", retries=0)
def any_failure() -> None:
    """Fails if an upstream task failed. Without it, the state of a DAG run would be that of its last task."""
    raise AirflowFailException("a task of this run failed")


def dag(name: str, schedule: str | None) -> DAG:
    """A DAG with one run at a time. Missed runs are not repeated, because a run processes all new videos."""
    return DAG(
        name,
        schedule=schedule,
        start_date=datetime(2026, 1, 1),
        catchup=False,
        max_active_runs=1,
        default_args=DEFAULT_ARGS,
        tags=["tl_data"],
    )


with dag("nightly_catalog", "0 22 * * *"):
    catalog = tl_data("catalog", "nightly_catalog", "submit")
    # "all_done": also if some videos failed, because the others are in the tables and can be searched.
    alerts = tl_data("alerts", "saved_search_alerts", rule="all_done")
    catalog >> alerts
    [catalog, alerts] >> any_failure()

with dag("weekly_digest", "0 7 * * 1"):
    tl_data("digest", "weekly_digest")

with dag("refresh_embeddings", None):  # started by hand: first read what `tl-data plan` prints
    tl_data("refresh", "refresh_embeddings")
