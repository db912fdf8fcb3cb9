"""The jobs as definitions of Dagster: `dagster dev -f definitions.py`.

TL_JOBS names the folder of the job files, TL_DATA the program (`tl-data` on the path by default), which may
be in an environment of its own: these definitions import nothing of it. `submit` and `collect` are jobs with
schedules of their own, so that nothing runs and waits between them.
"""

import json
import os
import shlex
import subprocess
from pathlib import Path

from dagster import (
    Definitions,
    Failure,
    In,
    JobDefinition,
    MetadataValue,
    Nothing,
    OpDefinition,
    OpExecutionContext,
    Out,
    RetryRequested,
    ScheduleDefinition,
    job,
    op,
)

#: Annotations are read while the ops are made: no `from __future__ import annotations` here.
JOBS = Path(os.environ.get("TL_JOBS", "/srv/jobs"))
SHOWN = ("rows", "submitted", "reused", "failed", "video_minutes", "price", "paid_twice", "digest")


def tl_data(name: str, verb: str, file: str) -> OpDefinition:
    """An op that runs `tl-data VERB FILE` and keeps its numbers as metadata."""

    @op(name=name, ins={"after": In(Nothing)}, out=Out(Nothing))
    def run(context: OpExecutionContext) -> None:
        program = shlex.split(os.environ.get("TL_DATA", "tl-data"))
        command = [*program, verb, str(JOBS / f"{file}.toml"), "--json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        facts = json.loads(done.stdout) if done.stdout.strip() else {}
        context.add_output_metadata({n: MetadataValue.text(str(facts[n])) for n in SHOWN if n in facts})
        said = f"tl-data {verb} {file} ended with exit code {done.returncode}"
        if done.returncode == 3:  # stopped at a limit or by trouble: once more may help
            raise RetryRequested(max_retries=2, seconds_to_wait=1200) from Failure(said)
        if done.returncode:
            raise Failure(said, allow_retries=False)
        context.log.info(said)

    return run


def alone(name: str, verb: str, file: str) -> JobDefinition:
    """A job of one op."""
    one = tl_data(f"{name}_op", verb, file)

    @job(name=name)
    def made() -> None:
        one()

    return made


submit = alone("catalog_submit", "submit", "nightly_catalog")
collect = alone("catalog_collect", "collect", "nightly_catalog")
alerts = alone("saved_search_alerts", "run", "saved_search_alerts")
digest = alone("weekly_digest", "run", "weekly_digest")
refresh = alone("refresh_embeddings", "run", "refresh_embeddings")  # started by hand: see its plan first

definitions = Definitions(
    jobs=[submit, collect, alerts, digest, refresh],
    schedules=[
        ScheduleDefinition(job=submit, cron_schedule="0 22 * * *"),
        ScheduleDefinition(job=collect, cron_schedule="0 5 * * *"),
        ScheduleDefinition(job=alerts, cron_schedule="0 6 * * *"),
        ScheduleDefinition(job=digest, cron_schedule="0 7 * * 1"),
    ],
)
