"""Incremental jobs from a source of videos to tables: plan, submit, collect, run, status.

    plan(job)       what a run would do and cost; pays nothing
    run(job)        `submit` and `collect` in one call
    submit(job)     create the indexing tasks without waiting
    collect(job)    wait for them, create the outputs, write the tables
    plan_alert(job) what `alert` would cost; pays nothing
    alert(job)      run the saved questions on videos on which they have not run
    unfinished(job) how many submitted tasks the platform still works on
    status(job)     a summary of the tables
    remove(job)     remove videos from the tables, the ledger and optionally the platform

Each of these can be interrupted and repeated at any time, and two of them can run concurrently. Finished work
is in the tables and paid calls are in the ledger, so that only the remaining work is done. In a notebook,
functions with the argument `progress` show a progress bar if it is not given. `digest.py` writes the page of
a job with [digest].
"""

from __future__ import annotations

import asyncio
import math
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import tl_data.functions  # noqa: F401 - fills the registry
from tl_data.connection import Connection, connect
from tl_data.errors import SettingsError
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import ERRORS, RUNS, TABLES
from tl_data.pipeline.alerts import AlertPlan, AlertReport, plan_alerts
from tl_data.pipeline.alerts import alert as run_alerts
from tl_data.pipeline.job import Alerts, Job
from tl_data.pipeline.model_check import lengths
from tl_data.pipeline.planner import make_plan
from tl_data.pipeline.progress import Progress, in_cell
from tl_data.pipeline.recovery import unfinished_tasks
from tl_data.pipeline.removal import RemovalReport, remove_videos
from tl_data.pipeline.report import Plan, Report, Status, trace_run
from tl_data.pipeline.runner import Run
from tl_data.session import Session

T = TypeVar("T")

#: A signal that is repeated within so many seconds counts as the same request.
SAME_SIGNAL = 1.0


def plan(job: Job, *, connection: Connection | None = None, progress: Progress | None = None) -> Plan:
    """Compute what a run of the job would do and cost. Nothing is paid and nothing is written.

    Raises:
        SettingsError, SchemaMismatch: the job does not match its source, its tables or its settings.
        APIError: the platform cannot be reached.
        Cancelled: Ctrl-C or SIGTERM ended the plan.
    """
    with in_cell(progress) as shown:
        return _drive(job, connection, lambda session, interrupt: make_plan(session, job, shown, interrupt))


def run(job: Job, *, connection: Connection | None = None, progress: Progress | None = None) -> Report:
    """Run the job: all new and changed videos, and failures that can be retried.

    Ctrl-C and SIGTERM end it cleanly: finished videos are in the tables, and the report has the status
    `interrupted`.

    Raises:
        SettingsError, SchemaMismatch, APIError: as for `plan`.
        LakeError: the tables cannot be written; paid answers are in the ledger.
    """
    with in_cell(progress) as shown:
        return _drive(
            job, connection, lambda session, interrupt: trace_run(Run(session, job, shown, interrupt))
        )


def submit(job: Job, *, connection: Connection | None = None, progress: Progress | None = None) -> Report:
    """Create the indexing tasks of all new videos without waiting. Refused videos are in `errors`."""
    with in_cell(progress) as shown:
        return _drive(
            job,
            connection,
            lambda session, interrupt: trace_run(Run(session, job, shown, interrupt, collect=False)),
        )


def collect(job: Job, *, connection: Connection | None = None, progress: Progress | None = None) -> Report:
    """Wait for submitted tasks, create the outputs and write the tables. Nothing new is indexed."""
    with in_cell(progress) as shown:
        return _drive(
            job,
            connection,
            lambda session, interrupt: trace_run(Run(session, job, shown, interrupt, submit=False)),
        )


def alert(job: Job, *, connection: Connection | None = None, spent: float = 0.0) -> AlertReport:
    """Run the saved questions of a job on all videos on which they have not run.

    Args:
        spent: the amount of the job's budget that the preceding run has spent.

    Raises:
        SettingsError, SchemaMismatch: the questions or the tables are invalid; no search was made.
    """
    return _drive(
        job, connection, lambda session, interrupt: run_alerts(session, job, _alerts(job), interrupt, spent)
    )


def plan_alert(
    job: Job, *, connection: Connection | None = None, upcoming: Mapping[str, str] | None = None
) -> AlertPlan:
    """The number of searches that `alert` would pay for, and their price. No search is made.

    Args:
        upcoming: the videos that the preceding run will add, from `Plan.upcoming`.
    """
    return _drive(
        job, connection, lambda session, interrupt: plan_alerts(session, job, _alerts(job), upcoming)
    )


def _alerts(job: Job) -> Alerts:
    if job.alerts is None:
        raise SettingsError(f"the job {job.name} has no saved questions: give it a section [alerts]")
    return job.alerts


def status(job: Job) -> Status:
    """A summary of the job's tables. Neither the platform nor the ledger is read."""
    lake = Lake(job.folder, job.format)
    counts = {}
    for declared in TABLES.values():
        if lake.exists(declared):
            counts[declared.name] = sum(b.num_rows for b in lake.batches(declared, declared.by))
    errors = lake.read(ERRORS, ["code", "retryable"]).to_pylist()
    runs = sorted(lake.read(RUNS).to_pylist(), key=lambda r: r["started_at"], reverse=True)
    seconds = math.fsum(length or 0.0 for length in lengths(lake))
    return Status(
        job.name,
        job.folder,
        counts,
        seconds / 60,
        dict(Counter(str(e["code"]) for e in errors)),  # `asdict` cannot copy a Counter
        sum(1 for e in errors if e["retryable"]),
        [r for r in runs if r["job"] == job.name and r["digest_until"] is None][:5],
    )


def unfinished(job: Job, *, connection: Connection | None = None) -> int:
    """The number of indexing tasks in the job's index that the ledger has and the platform still works on.

    Jobs with the same index share these tasks. Nothing is paid.
    """
    return _drive(job, connection, lambda session, _: unfinished_tasks(session))


def remove(
    job: Job, videos: Sequence[str], *, platform: bool = False, connection: Connection | None = None
) -> RemovalReport:
    """Remove videos from the tables of the job, from the ledger and optionally from the platform.

    Args:
        videos: source keys, URLs, paths or video ids.

    Raises:
        SettingsError: the tables have no such video; nothing was removed.
    """
    return _drive(job, connection, lambda session, _: remove_videos(session, job, videos, platform=platform))


class Stop:
    """Passes a request to stop from a signal handler to the event loop."""

    def __init__(self) -> None:
        self._event: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._requested = threading.Event()

    def arm(self) -> asyncio.Event:
        """Return the event that `request` sets. It must be called in the event loop."""
        self._loop, self._event = asyncio.get_running_loop(), asyncio.Event()
        if self._requested.is_set():
            self._event.set()
        return self._event

    def request(self) -> None:
        """Request the stop, from any thread."""
        self._requested.set()
        if self._loop is not None and self._event is not None:
            self._loop.call_soon_threadsafe(self._event.set)


def _drive(
    job: Job,
    connection: Connection | None,
    work: Callable[[Session, asyncio.Event], Coroutine[Any, Any, T]],
) -> T:
    """Run async work for a job on its connection. Ctrl-C and SIGTERM end it cleanly."""
    connection = connection or connect(job.load_settings())
    stop = Stop()
    with _signals(stop):
        session = connection.session

        async def run_work() -> T:
            return await work(session, stop.arm())

        return connection.run(run_work())


@contextmanager
def _signals(stop: Stop) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM requests a stop; another one after SAME_SIGNAL seconds aborts.

    GNU `timeout` sends two signals at once: one to the process and one to its process group.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can handle signals; the caller must cancel work in other threads
        return
    handlers = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    first_at: float | None = None

    def restore() -> None:
        for s, handler in handlers.items():
            signal.signal(s, handler)

    def handle(number: int, frame: object) -> None:
        nonlocal first_at
        if first_at is None:
            first_at = time.monotonic()
            stop.request()
        elif time.monotonic() - first_at > SAME_SIGNAL:
            restore()
            signal.raise_signal(number)

    for s in handlers:
        signal.signal(s, handle)
    try:
        yield
    finally:
        # Within SAME_SIGNAL seconds the same request may be delivered again: it must not abort the process.
        if first_at is None or time.monotonic() - first_at > SAME_SIGNAL:
            restore()
