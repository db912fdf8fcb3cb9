"""Incremental jobs from a source of videos to tables: plan, submit, collect, run, status.

    plan(job)       what a run would do and cost; pays nothing
    run(job)        `submit` and `collect` in one call
    submit(job)     create the indexing tasks without waiting
    collect(job)    wait for them, create the outputs, write the tables
    alert(job)      run the saved questions on new videos
    status(job)     a summary of the tables

Each can be restarted at any time, and two can run concurrently: finished work is in the tables, paid calls
are in the ledger, and only the rest is done.
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
from tl_data.pipeline.progress import Progress, silent
from tl_data.pipeline.removal import RemovalReport, remove_videos
from tl_data.pipeline.report import Plan, Report, Status, traced
from tl_data.pipeline.runner import Run
from tl_data.session import Session

T = TypeVar("T")

SAME_SIGNAL = 1.0  # seconds within which a second signal counts as the first one


def plan(job: Job, *, connection: Connection | None = None, progress: Progress = silent) -> Plan:
    """Compute what a run of the job would do and cost. Nothing is paid and nothing is written.

    Raises:
        SettingsError, SchemaMismatch: the job does not match its source, its tables or its settings.
        APIError: the platform cannot be reached.
    """
    return _drive(job, connection, lambda session, stop: make_plan(session, job, progress, stop))


def run(job: Job, *, connection: Connection | None = None, progress: Progress = silent) -> Report:
    """Run the job: all new and changed videos, and failures that can be retried.

    Ctrl-C and SIGTERM end it cleanly: finished videos are in the tables. Raises as `plan` does.
    """
    return _drive(job, connection, lambda session, stop: traced(Run(session, job, progress, stop)))


def submit(job: Job, *, connection: Connection | None = None, progress: Progress = silent) -> Report:
    """Create the indexing tasks of all new videos without waiting. Refused videos are in `errors`."""
    return _drive(
        job, connection, lambda session, stop: traced(Run(session, job, progress, stop, collect=False))
    )


def collect(job: Job, *, connection: Connection | None = None, progress: Progress = silent) -> Report:
    """Wait for submitted tasks, create the outputs and write the tables. Nothing new is indexed."""
    return _drive(
        job, connection, lambda session, stop: traced(Run(session, job, progress, stop, submit=False))
    )


def alert(job: Job, *, connection: Connection | None = None, spent: float = 0.0) -> AlertReport:
    """Run the saved questions of a job on all videos on which they have not run.

    Args:
        spent: the part of the job's budget that the run before has spent.

    Raises:
        SettingsError, SchemaMismatch: the questions or the tables are invalid; no search was made.
    """
    return _drive(job, connection, lambda session, stop: run_alerts(session, job, _alerts(job), stop, spent))


def plan_alert(
    job: Job, *, connection: Connection | None = None, coming: Mapping[str, str] | None = None
) -> AlertPlan:
    """The number of searches that `alert` would pay for, and their price. No search is made.

    Args:
        coming: the videos that a run will add before, from `Plan.coming`.
    """
    return _drive(job, connection, lambda session, stop: plan_alerts(session, job, _alerts(job), coming))


def _alerts(job: Job) -> Alerts:
    if job.alerts is None:
        raise SettingsError(f"the job {job.name} has no saved questions: give it a section [alerts]")
    return job.alerts


def status(job: Job) -> Status:
    """A summary of the tables of the job, from the tables alone."""
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
        dict(Counter(str(e["code"]) for e in errors)),  # a Counter does not survive `asdict`
        sum(1 for e in errors if e["retryable"]),
        [r for r in runs if r["job"] == job.name and r["digest_until"] is None][:5],
    )


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
    """A request to stop, from a signal handler to the event loop."""

    def __init__(self) -> None:
        self._event: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wished = threading.Event()

    def arm(self) -> asyncio.Event:
        """Create the event; must be called in the loop."""
        self._loop, self._event = asyncio.get_running_loop(), asyncio.Event()
        if self._wished.is_set():
            self._event.set()
        return self._event

    def request(self) -> None:
        """Request the stop, from any thread."""
        self._wished.set()
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

        async def driven() -> T:
            return await work(session, stop.arm())

        return connection.run(driven())


@contextmanager
def _signals(stop: Stop) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM requests a stop; another one after SAME_SIGNAL seconds aborts.

    GNU `timeout` sends two at once: one to the process, one to its group.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can handle signals; the caller must cancel another thread
        return
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    first: float | None = None

    def restore() -> None:
        for s, handler in before.items():
            signal.signal(s, handler)

    def asked(number: int, frame: object) -> None:
        nonlocal first
        if first is None:
            first = time.monotonic()
            stop.request()
        elif time.monotonic() - first > SAME_SIGNAL:
            restore()
            signal.raise_signal(number)

    for s in before:
        signal.signal(s, asked)
    try:
        yield
    finally:
        if (
            first is None or time.monotonic() - first > SAME_SIGNAL
        ):  # else it is the same request, delivered twice
            restore()
