"""The commands for jobs and their tables: init, plan, run, submit, collect, status and others."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from tl_data.cli.ledger import ledger
from tl_data.cli.output import echo, json_value, show
from tl_data.errors import (
    Cancelled,
    ExitCode,
    MissingExtra,
    NotAllowed,
    SchemaMismatch,
    SettingsError,
    TLDataError,
)

if TYPE_CHECKING:
    from tl_data.pipeline.job import Job

_FILE = click.argument("file", type=click.Path(dir_okay=False))
_LIMIT = click.option("--limit", type=click.IntRange(min=1), help="only the first videos of the source")
_JSON = click.option("--json", "as_json", is_flag=True, help="the result as one JSON object on stdout")


@click.command()
@click.argument("file", default="tl-job.toml", type=click.Path(dir_okay=False))
def init(file: str) -> None:
    """Write a commented job file as a start (tl-job.toml).

    \b
    FILE: the path; an existing file is never overwritten
    """
    from tl_data.pipeline.job import init_text

    path = Path(file)
    if path.exists():
        raise SettingsError(f"{file} already exists; name another file: tl-data init FILE")
    try:
        path.write_text(init_text(), encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{file} cannot be written: {error.strerror}") from error
    echo(f"{file} written. Edit it, then type: tl-data plan {file}")


@click.command()
@_FILE
@_LIMIT
@_JSON
def plan(file: str, limit: int | None, as_json: bool) -> None:
    """Print what a run of a job would do, how long it would take and what it would cost. Nothing is paid.

    \b
    FILE: a job in TOML
    """
    _print_plan(file, limit, as_json)


@click.command()
@_FILE
@_LIMIT
@click.option("--dry-run", is_flag=True, help="only print what it would do, as plan does")
@_JSON
def run(file: str, limit: int | None, dry_run: bool, as_json: bool) -> None:
    """Run a job: new and changed videos, failures that can be retried; then its alerts, digest and exports.

    Exit codes: 0 no new failures, 1 a video failed for the first time or in a new way (table errors), 2 the
    job is wrong, 3 stopped at a limit or by an outage (run it again), 130 interrupted (run it again). An
    alert that finds clips is not a failure.

    \b
    FILE: a job in TOML
    """
    if dry_run:
        _print_plan(file, limit, as_json)
        return
    _run_job("run", file, limit, as_json)


@click.command()
@_FILE
@_LIMIT
@_JSON
def submit(file: str, limit: int | None, as_json: bool) -> None:
    """Create the indexing tasks of a job without waiting. `collect` waits for them later.

    \b
    FILE: a job in TOML
    """
    _run_job("submit", file, limit, as_json)


@click.command()
@_FILE
@_LIMIT
@_JSON
def collect(file: str, limit: int | None, as_json: bool) -> None:
    """Wait for submitted tasks, create the outputs and write the tables. Nothing new is indexed.

    Alerts, digest and exports of the job follow, as in `run`.

    \b
    FILE: a job in TOML
    """
    _run_job("collect", file, limit, as_json)


@click.command()
@_FILE
@click.option("--platform", is_flag=True, help="also ask the platform for the tasks that it still works on")
@_JSON
def status(file: str, platform: bool, as_json: bool) -> None:
    """Print a summary of the tables of a job.

    \b
    FILE: a job in TOML
    """
    from tl_data import pipeline
    from tl_data.pipeline.job import Job

    job = Job.load(file)
    summary = pipeline.status(job)
    lines, facts = summary.lines(), asdict(summary)
    if platform:
        facts["unfinished"] = _or_exit(lambda: pipeline.unfinished(job))
        lines.append(f"{facts['unfinished']} submitted tasks are not finished")
    _print(lines, facts, as_json)


@click.command()
@click.argument("index", required=False)
@click.option("--dry-run", is_flag=True, help="only print what it would do")
@_JSON
def reindex(index: str | None, dry_run: bool, as_json: bool) -> None:
    """Reanalyze the videos that the embedded engine analyzed with other models or in an earlier version.

    Use it after a change of the engine's models (TL_LOCAL_CLIP, TL_LOCAL_WHISPER, ...) or of the version.
    Exit codes: 0 all videos are up to date, 1 some videos failed.

    \b
    INDEX: name or id of an index [default: every index]
    """
    from tl_data.cli.reindex import reindex as reanalyze

    result = reanalyze(index, dry_run=dry_run)
    _print(result.lines(dry_run), asdict(result), as_json)
    sys.exit(ExitCode.FAILED if result.failed and not dry_run else 0)


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("videos", nargs=-1)
@click.option("--folder", default="demo-lake", show_default=True, help="the folder for the tables")
def demo(videos: tuple[str, ...], folder: str) -> None:
    """Run an example job on generated videos, or your own, with the embedded engine.

    \b
    VIDEOS: a folder, a glob or files [default: generated videos]
    """
    try:
        from tl_data.demo.run import run_demo
    except ModuleNotFoundError as error:
        raise MissingExtra(str(error.name), "demo") from error
    sys.exit(run_demo(list(videos), Path(folder)))


@click.command()
@click.argument("videos", nargs=-1, required=True)
@click.option(
    "--job", "file", default="tl-job.toml", show_default=True, help="the job whose tables list the videos"
)
@click.option("--platform", is_flag=True, help="also delete their videos and assets on the platform")
@_JSON
def remove(videos: tuple[str, ...], file: str, platform: bool, as_json: bool) -> None:
    """Remove videos: their rows, their ledger records and, with --platform, the platform's copies.

    Exit codes: 0 all was removed, 1 the platform kept something, 2 the tables have no such video.

    \b
    VIDEOS: source keys, URLs, paths or video ids, as in the table videos
    """
    from tl_data import pipeline
    from tl_data.pipeline.job import Job

    job = Job.load(file)
    report = _or_exit(lambda: pipeline.remove(job, videos, platform=platform))
    _print(report.lines(), asdict(report), as_json)
    sys.exit(report.exit_code)


@click.group()
def lake() -> None:
    """Work on the tables of a job."""


@lake.command("migrate")
@_FILE
def _migrate(file: str) -> None:
    """Migrate the tables of an earlier release: add this release's columns and descriptions.

    The first write of a run does the same, without the descriptions.

    \b
    FILE: a job in TOML
    """
    from tl_data.lake.lake import Lake
    from tl_data.lake.schemas import TABLES
    from tl_data.pipeline.job import Job

    job = Job.load(file)

    def migrate_all() -> None:
        tables = Lake(job.folder, job.format)
        for name, declared in TABLES.items():
            if tables.exists(declared):
                table = tables.table(declared)
                changed, described = table.migrate(), table.add_missing_comments()
                echo(f"{name}: {'migrated' if changed else 'up to date'}, {described} columns described")

    _or_exit(migrate_all)


def _print_plan(file: str, limit: int | None, as_json: bool) -> None:
    from tl_data import pipeline
    from tl_data.pipeline.digest import digest_file
    from tl_data.pipeline.job import Job
    from tl_data.pipeline.progress import show_progress

    job = _limit_job(Job.load(file), limit)
    lines: list[str] = []
    facts: dict[str, Any] = {}
    if job.has_source:
        with show_progress() as progress:
            planned = _or_exit(lambda: pipeline.plan(job, progress=progress))
        lines += planned.lines()
        facts |= {
            "video_minutes": planned.video_minutes,
            "calls": planned.calls,
            "price": planned.price,
            "price_of_tokens_at_most": planned.price_of_tokens,
            **{name: value for name, value in asdict(planned).items() if name != "upcoming"},
        }
    if job.alerts:
        alerts = pipeline.plan_alert(job, upcoming=planned.upcoming if job.has_source else None)
        lines.append(alerts.sentence())
        facts["alerts"] = asdict(alerts)
    if job.digest:
        facts["digest"] = str(digest_file(job.digest, datetime.now(UTC)))
        lines.append(f"digest: {facts['digest']}, the last {job.digest.days} days")
    if targets := _targets(job):
        facts["exports"] = targets
        lines += [f"export: {target}" for target in targets]
    _print(lines, facts, as_json)


def _run_job(verb: str, file: str, limit: int | None, as_json: bool) -> None:
    """Call the function `verb` of `pipeline`, then run alerts, digest and exports. Ends the process."""
    from tl_data import pipeline
    from tl_data.pipeline.alerts import saved_questions
    from tl_data.pipeline.job import Job
    from tl_data.pipeline.progress import show_progress

    job = _limit_job(Job.load(file), limit)
    if verb != "run" and not job.has_source:
        raise SettingsError(f"{file} has no [source]: there is nothing to {verb}; type: tl-data run {file}")
    if job.alerts and verb != "submit":
        alerts = job.alerts  # checked here, so that invalid alerts end the run before anything is paid
        _or_exit(lambda: saved_questions(job, alerts))
    if verb != "submit":
        _targets(job)
    facts: dict[str, Any] = {}
    codes = []
    if job.has_source:
        with show_progress() as progress:
            report = _or_exit(lambda: getattr(pipeline, verb)(job, progress=progress))
        facts |= report.row() | {"reason": report.reason, "tables": dict(report.tables)}
        facts["latest"] = report.latest
        facts["errors"] = [asdict(error) for error in report.errors]
        codes.append(report.exit_code)
        if not as_json:
            _print(report.lines(), {}, as_json)
    if ExitCode.INTERRUPTED not in codes and verb != "submit":
        spent = facts.get("price", 0.0)
        codes += _or_exit(lambda: _run_follow_ups(job, spent, facts, as_json))
    if as_json:
        _print([], facts, as_json)
    sys.exit(max(codes, default=0))


def _or_exit(work: Callable[[], Any]) -> Any:
    """Call `work`. An error of the platform, ledger or tables ends the process with `TRY_AGAIN`."""
    try:
        return work()
    except (SettingsError, SchemaMismatch, MissingExtra):
        raise
    except NotAllowed as error:
        raise SettingsError(str(error)) from error
    except Cancelled as error:
        echo(f"Stopped: {error}", err=True)
        sys.exit(ExitCode.INTERRUPTED)
    except TLDataError as error:
        echo(f"Failed: {error}\nFinished videos are kept. Fix the cause and run it again", err=True)
        sys.exit(ExitCode.TRY_AGAIN)


def _run_follow_ups(job: Job, spent: float, facts: dict[str, Any], as_json: bool) -> list[int]:
    """Run the alerts, the digest and the exports, which follow the videos.

    Args:
        spent: the price of the run so far, which counts against its budget.
        facts: receives the results, for --json.

    Returns:
        The exit codes.
    """
    from tl_data import pipeline
    from tl_data.lake.base import rows_of
    from tl_data.lake.schemas import ALERTS
    from tl_data.pipeline.digest import write_digest

    codes = []
    if job.alerts:
        alerts = pipeline.alert(job, spent=spent)
        outcome = {"failures": alerts.failures, "max_clips_reached": [*alerts.full], "clips": alerts.found}
        facts["alerts"] = {**outcome, **alerts.run.row()}
        codes.append(alerts.exit_code)
        if not as_json:
            columns = ["question", "url", "start_sec", "end_sec", "confidence", "transcription"]
            if alerts.found:
                show(rows_of(ALERTS, alerts.found).select(columns))
            _print(alerts.lines(), {}, as_json)
    if job.digest and ExitCode.INTERRUPTED not in codes:
        page = write_digest(job, job.digest)
        facts["digest"] = page.file
        if not as_json:
            _print(page.lines(), {}, as_json)
    if job.exports and ExitCode.INTERRUPTED not in codes:
        codes += _run_exports(job, facts, as_json)
    return codes


def _targets(job: Job) -> list[str]:
    """The export targets of a job, without passwords. Raises for an invalid one, before anything is paid."""
    from tl_data.export.runner import checked_target

    return [checked_target(target, needs_table=True)[1].name for target in job.exports]


def _run_exports(job: Job, facts: dict[str, Any], as_json: bool) -> list[int]:
    """Export to each target, also if another one is unavailable. Returns the exit codes."""
    from tl_data.errors import ExportError
    from tl_data.export.runner import export
    from tl_data.lake.lake import Lake

    codes: list[int] = []
    facts["exports"] = []
    for target in job.exports:
        try:
            reports = export(Lake(job.folder, job.format), target)
        except ExportError as error:
            click.echo(f"Failed: {error}", err=True)
            codes.append(ExitCode.TRY_AGAIN)
            continue
        codes += [report.exit_code for report in reports]
        facts["exports"] += [asdict(report) for report in reports]
        if not as_json:
            _print([line for report in reports for line in report.lines()], {}, as_json)
    return codes


def _limit_job(job: Job, limit: int | None) -> Job:
    return job if limit is None else job.but(limit=limit)


def _print(lines: list[str], facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        sys.stdout.buffer.write(orjson.dumps(facts, option=orjson.OPT_INDENT_2, default=json_value) + b"\n")
    else:
        for line in lines:
            echo(line)


COMMANDS: list[click.Command] = [
    init,
    plan,
    run,
    submit,
    collect,
    status,
    reindex,
    ledger,
    demo,
    remove,
    lake,
]
