"""The jobs as assets of Dagster: `dagster dev -f definitions.py`.

TL_JOBS names the folder of the job files, TL_DATA the program (by default `tl-data` on the PATH), which may
be in a separate environment: these definitions do not import it. `catalog_submit` and `catalog_collect` have
separate schedules, so that no process waits between them.

The assets are the results of the jobs: `catalog` (the tables of videos, clips, vectors and texts), `alerts`
and `digest`. Each materialization has the counts and the price of its run as metadata. If TL_VIEW_URL is the
address that a running `tl-data view` printed, it also has links to the poster and the page of the video that
was written last.
"""

import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from dagster import (
    AssetExecutionContext,
    AssetsDefinition,
    Definitions,
    Failure,
    JobDefinition,
    MaterializeResult,
    MetadataValue,
    OpExecutionContext,
    RetryRequested,
    ScheduleDefinition,
    asset,
    define_asset_job,
    job,
    op,
)

# Dagster evaluates the annotations of ops and assets: no `from __future__ import annotations` in this file.
JOBS = Path(os.environ.get("TL_JOBS", "/srv/jobs"))
#: The fields of the output of `tl-data --json` that become metadata: whole numbers, numbers and texts.
COUNTS = (
    *("rows", "distinct_videos", "unchanged", "submitted"),
    *("reused", "failed", "new_failures", "paid_twice"),
)
SUMS = ("video_minutes", "price")
TEXTS = ("run_id", "status", "currency", "model", "digest")


def tl_data(context: OpExecutionContext | AssetExecutionContext, verb: str, file: str) -> dict[str, Any]:
    """Run `tl-data VERB FILE` and return the facts of the run as metadata.

    Raises:
        RetryRequested: exit code 3, but neither the budget nor max_failures stopped the run.
        Failure: any other exit code than 0; it is not retried.
    """
    program = shlex.split(os.environ.get("TL_DATA", "tl-data"))
    command = [*program, verb, str(JOBS / f"{file}.toml"), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    facts = json.loads(done.stdout) if done.stdout.strip() else {}
    numbers = metadata(facts)
    ended = f"tl-data {verb} {file} ended with exit code {done.returncode}"
    context.log.info(ended)
    if done.returncode:
        failure = Failure(ended, metadata=numbers, allow_retries=False)
        if done.returncode == 3 and facts.get("status") not in ("budget", "failures"):
            raise RetryRequested(max_retries=2, seconds_to_wait=1200) from failure
        raise failure
    return numbers


def metadata(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts of a run, from the output of `tl-data --json`, as metadata of Dagster."""
    known = {name: facts[name] for name in (*COUNTS, *SUMS, *TEXTS) if facts.get(name) is not None}
    shown: dict[str, Any] = {name: MetadataValue.int(int(known[name])) for name in COUNTS if name in known}
    shown |= {name: MetadataValue.float(float(known[name])) for name in SUMS if name in known}
    shown |= {name: MetadataValue.text(str(known[name])) for name in TEXTS if name in known}
    if "rows" in known:
        shown["dagster/row_count"] = MetadataValue.int(int(known["rows"]))
    if facts.get("tables"):
        shown["tables"] = MetadataValue.json(facts["tables"])  # name -> address
    if isinstance(alerts := facts.get("alerts"), dict):
        shown["alerts"] = MetadataValue.json(alerts)
    view, latest = os.environ.get("TL_VIEW_URL", ""), facts.get("latest")
    if view and latest:
        parts = urlsplit(view)
        query = (f"{parts.query}&" if parts.query else "") + urlencode({"id": latest})
        path = f"{parts.path.rstrip('/')}/poster"
        poster = parts._replace(path=path, query=query, fragment="").geturl()
        shown["newest video"] = MetadataValue.url(f"{view.partition('#')[0]}#video={quote(latest, safe='')}")
        shown["poster"] = MetadataValue.url(poster)
    return shown


def table(name: str, file: str, verb: str = "run", after: tuple[str, ...] = ()) -> AssetsDefinition:
    """An asset that a job file writes."""

    @asset(name=name, deps=list(after), group_name="tl_data", kinds={"tl_data", "deltalake"})
    def made(context: AssetExecutionContext) -> MaterializeResult:
        return MaterializeResult(metadata=tl_data(context, verb, file))

    return made


def job_without_asset(name: str, verb: str, file: str) -> JobDefinition:
    """A job of Dagster with one op, for a command that is not the materialization of an asset."""

    @op(name=f"{name}_op")
    def one(context: OpExecutionContext) -> None:
        context.add_output_metadata(tl_data(context, verb, file))

    @job(name=name)
    def made() -> None:
        one()

    return made


catalog = table("catalog", "nightly_catalog", "collect")
alerts = table("alerts", "saved_search_alerts", after=("catalog",))
digest = table("digest", "weekly_digest", after=("catalog", "alerts"))

submit = job_without_asset("catalog_submit", "submit", "nightly_catalog")
# Started by hand: first read what `tl-data plan` prints.
refresh = job_without_asset("refresh_embeddings", "run", "refresh_embeddings")
collect = define_asset_job("catalog_collect", selection=[catalog])
search = define_asset_job("saved_search_alerts", selection=[alerts])
page = define_asset_job("weekly_digest", selection=[digest])

definitions = Definitions(
    assets=[catalog, alerts, digest],
    jobs=[submit, collect, search, page, refresh],
    schedules=[
        ScheduleDefinition(job=submit, cron_schedule="0 22 * * *"),
        ScheduleDefinition(job=collect, cron_schedule="0 5 * * *"),
        ScheduleDefinition(job=search, cron_schedule="0 6 * * *"),
        ScheduleDefinition(job=page, cron_schedule="0 7 * * 1"),
    ],
)
