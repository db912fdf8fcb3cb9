"""The results of `plan`, `run` and `status`, as records and as text; and the telemetry of runs.

OpenTelemetry receives a span per run, a span per video, and counters of videos, video minutes and cost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, Protocol, TypeVar

from tl_data.billing import Bill, Prices
from tl_data.errors import ExitCode
from tl_data.pipeline.inspect import VideoStatus
from tl_data.pipeline.progress import Step, counted, duration
from tl_data.pipeline.worklist import SourceVideo
from tl_data.runtime.telemetry import count, span

RunStatus = Literal["done", "partial", "budget", "failures", "stopped", "interrupted"]


@dataclass(frozen=True)
class VideoFailure:
    """A refused or failed video, with the reason."""

    source_key: str
    url: str
    kind: str
    code: str
    message: str
    retryable: bool
    output: str | None = None  # the failed output; None: the whole video
    new: bool = True  # whether the table `errors` does not have this failure yet

    @property
    def who(self) -> str:
        """The name of the source row in messages: its key, and its URL if that differs."""
        output = f" ({self.output})" if self.output else ""
        if not self.url or self.url == self.source_key:
            return self.source_key + output
        return f"{self.source_key}: {self.url}{output}"


@dataclass
class Plan:
    """The plan of a run. Numbers are of videos, unless stated otherwise."""

    job: str
    rows: int  # rows of the source
    distinct: int  # distinct videos of the source
    prices: Prices
    unchanged: int = 0  # the tables have all their outputs
    known: int = 0  # the tables lack outputs, but nothing is indexed again: see `inspect.State`
    attached: int = 0  # submitted by an earlier run and not finished
    new: int = 0  # to index, or to analyze without an index
    refreshed: int = 0  # whose vectors of another model are replaced; counted in `known` or `new` too
    refused: list[VideoFailure] = field(default_factory=list)  # the first thousand
    codes: dict[str, int] = field(default_factory=dict)  # number of refusals by error code, complete
    #: The new videos that the embedded engine accepts and the service would refuse: the first thousand.
    service_refused: list[VideoFailure] = field(default_factory=list)
    service_codes: dict[str, int] = field(default_factory=dict)  # their number by error code, complete
    removed: int = 0  # to mark or delete, because the source no longer lists them
    likely_copies: int = 0  # with the ETag and length of another URL, so probably a copy
    unmeasured: int = 0  # of unknown length
    bill: Bill = field(default_factory=Bill)
    output_tokens_at_most: int = 0
    requests: int = 0  # requests to the API about single videos; polls and batches are not included
    seconds: float | None = None  # shortest time that the rate limits allow; None: no limit is known
    limits_reported: datetime | None = None  # when the service reported the limits; None: configured
    #: If the job has alerts, the videos that the run will add: source key -> content key.
    upcoming: dict[str, str] = field(default_factory=dict)

    @property
    def refused_count(self) -> int:
        """The number of refused videos."""
        return sum(self.codes.values())

    @property
    def reused(self) -> int:
        """The number of videos that need no new indexing task."""
        return self.unchanged + self.known + self.attached

    @property
    def video_minutes(self) -> float:
        return self.bill.video_minutes

    @property
    def calls(self) -> int:
        return self.bill.calls

    @property
    def price(self) -> float:
        """The price of video minutes and calls. Written text costs at most `price_of_tokens` more."""
        return self.bill.price(self.prices, tokens=False)

    @property
    def price_of_tokens(self) -> float:
        """An upper bound of the price of written text."""
        return self.prices.of("analyze", output_tokens=self.output_tokens_at_most)

    def sentence(self) -> str:
        """The plan in one sentence."""
        money = self.prices.currency
        tokens = f" (+ at most {self.price_of_tokens:.2f} for written text)" if self.price_of_tokens else ""
        reported = (
            f" as the service reported on {self.limits_reported:%Y-%m-%d}" if self.limits_reported else ""
        )
        time = "" if self.seconds is None else f", {duration(self.seconds)} at the limits{reported}"
        return (
            f"{counted(self.rows, 'row')}, {counted(self.distinct, 'distinct video')}: "
            f"{self.unchanged} unchanged, {self.known + self.attached} known, {self.new} to submit, "
            f"{self.refused_count} refused; "
            f"{self.video_minutes:.2f} video minutes, {self.calls} paid calls, "
            f"{counted(self.requests, 'request')}, "
            f"price {self.price:.2f} {money}{tokens}{time}"
        )

    def lines(self) -> list[str]:
        """The plan as text: the summary, the refusals, the price list."""
        lines = [self.sentence()]
        lines += [f"  refused: {r.who}: {r.message} ({r.code})" for r in self.refused[:50]]
        if self.refused_count > 50:
            counts = Counter(self.codes).most_common()
            lines.append("  all refusals: " + ", ".join(f"{n} x {code}" for code, n in counts))
        if self.service_codes:
            number = sum(self.service_codes.values())
            codes = ", ".join(f"{n} x {code}" for code, n in sorted(self.service_codes.items()))
            lines.append(
                f"  {counted(number, 'video')} that the embedded engine accepts would be refused by the "
                f"service: {codes}"
            )
            lines += [f"    {r.who}: {r.message} ({r.code})" for r in self.service_refused[:10]]
        if self.refreshed:
            lines.append(
                f"  {counted(self.refreshed, 'video')} with new vectors; summaries and chapters are kept"
            )
        if self.removed:
            lines.append(f"  {counted(self.removed, 'video')} no longer in the source, to be removed")
        if self.likely_copies:
            videos = counted(self.likely_copies, "video")
            lines.append(
                f"  {videos} may be a copy: another URL has the same ETag and length. "
                'same_content = "likely" treats them as one'
            )
        if self.unmeasured:
            lines.append(f"  {self.unmeasured} videos of unknown length; their minutes are not included")
        lines.append(f"  prices of {self.prices.as_of}: {self.prices.source}")
        return lines


@dataclass
class Report:
    """The result of a run. Numbers are of videos, unless stated otherwise."""

    job: str
    run_id: str
    status: RunStatus = "done"
    reason: str = ""  # why the run stopped early
    rows: int = 0  # rows of the source
    distinct: int = 0  # distinct videos of the source
    unchanged: int = 0  # the tables had all their outputs
    reused: int = 0  # not indexed again: in the tables, the ledger or an earlier run's task
    pending: int = 0  # tasks that are not collected; `collect` or the next run waits for them
    failed: int = 0
    new_failures: int = 0  # failed videos with an error that the table `errors` did not have
    removed: int = 0  # marked or deleted, because the source no longer lists them
    bill: Bill = field(default_factory=Bill)
    prices: Prices = field(default_factory=Prices.free)
    paid_twice: int | None = None  # surplus indexing tasks on the platform; None: not measured
    model: str = ""  # the model of the vectors
    started_at: datetime | None = None
    ended_at: datetime | None = None
    tables: Mapping[str, str] = field(default_factory=dict)  # name -> address, as of `LakeTable.where`
    errors: list[VideoFailure] = field(default_factory=list)  # the first ones: see `runner.REPORTED_ERRORS`
    latest: str | None = None  # the source key of a video that this run wrote last
    left_behind: str = ""  # after a refresh: a sentence about remaining vectors of another model

    @property
    def submitted(self) -> int:
        """The number of new indexing tasks."""
        return self.bill.submitted

    @property
    def video_minutes(self) -> float:
        return self.bill.video_minutes

    @property
    def calls(self) -> int:
        return self.bill.calls

    @property
    def price(self) -> float:
        return self.bill.price(self.prices)

    @property
    def exit_code(self) -> int:
        """The exit code of the command.

        0: no new failures. 1: new failures, or vectors of another model remain after a refresh. 3: the run
        stopped; run again. 130: interrupted.
        """
        if self.status == "interrupted":
            return ExitCode.INTERRUPTED
        if self.status not in ("done", "partial"):
            return ExitCode.TRY_AGAIN
        return ExitCode.FAILED if self.new_failures or self.left_behind else ExitCode.DONE

    def sentence(self) -> str:
        """The summary of the run."""
        twice = "not measured" if self.paid_twice is None else self.paid_twice
        pending = f", {self.pending} pending" if self.pending else ""
        known = f" ({self.new_failures} new)" if self.failed != self.new_failures else ""
        removed = f", {self.removed} removed" if self.removed else ""
        return (
            f"{counted(self.rows, 'row')}, {counted(self.distinct, 'distinct video')}, {self.reused} reused, "
            f"{self.submitted} submitted{pending}, {self.failed} failed{known}{removed}, "
            f"{self.video_minutes:.2f} video minutes, price {self.price:.2f} {self.prices.currency}, "
            f"paid twice: {twice}"
        )

    def lines(self) -> list[str]:
        """The report as text: the reason of a stop, the failures, the summary."""
        lines = [text for text in (self.reason, self.left_behind) if text]
        lines += [f"failed: {e.who}: {e.message} ({e.code})" for e in self.errors[:20]]
        if (failures := max(len(self.errors), self.failed)) > 20:
            lines.append(f"... and {failures - 20} more; all are in the table errors")
        return [*lines, self.sentence()]

    def step(self, phase: str, ended: int, minutes: float, elapsed: float) -> Step:
        """The progress of the run.

        Args:
            ended: number of finished videos.
            minutes: their video minutes.
            elapsed: seconds since the start.
        """
        left = elapsed / ended * (self.distinct - ended) if ended else None
        money, currency = self.price, self.prices.currency
        return Step(phase, ended, self.distinct, minutes, self.failed, money, currency, elapsed, left)

    def row(self) -> dict[str, Any]:
        """The row of the table `runs`."""
        return {
            "run_id": self.run_id,
            "job": self.job,
            "status": self.status if self.ended_at else "running",
            "rows": self.rows,
            "distinct_videos": self.distinct,
            "unchanged": self.unchanged,
            "reused": self.reused,
            "failed": self.failed,
            "new_failures": self.new_failures,
            "removed": self.removed,
            **billed(self.bill, self.prices),
            "currency": self.prices.currency,
            "paid_twice": self.paid_twice,
            "model": self.model,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
        }


def money(amount: float) -> Decimal:
    """An amount as a value of the table `runs`."""
    return Decimal(repr(amount)).quantize(Decimal("0.000000001"))


def billed(bill: Bill, prices: Prices) -> dict[str, Any]:
    """The columns of the table `runs` for a bill."""
    return {
        "submitted": bill.submitted,
        "video_minutes": bill.video_minutes,
        "calls": bill.calls,
        "input_tokens": bill.input_tokens,
        "output_tokens": bill.output_tokens,
        "price": money(bill.price(prices)),
    }


@dataclass(frozen=True)
class Status:
    """A summary of the tables of a job."""

    job: str
    folder: str
    rows: Mapping[str, int]  # number of rows by table
    video_minutes: float
    errors: Mapping[str, int]  # number of errors by code
    retryable: int  # number of errors that the next run retries
    runs: list[dict[str, Any]]  # rows of the last five runs, newest first

    def lines(self) -> list[str]:
        """The status as text."""
        lines = [f"{self.job}: {self.folder}"]
        lines.append("  " + ", ".join(f"{name} {count}" for name, count in self.rows.items()))
        lines.append(f"  {self.video_minutes:.2f} video minutes in the tables")
        if self.errors:
            codes = ", ".join(f"{n} x {code}" for code, n in sorted(self.errors.items()))
            rest = ", the others when their file has changed"
            rest = rest if self.retryable < sum(self.errors.values()) else ""
            lines.append(f"  errors: {codes}; the next run tries {self.retryable} again{rest}")
        for run in self.runs:
            when = f"{run['started_at']:%Y-%m-%d %H:%M}"
            lines.append(
                f"  {when} {run['status']}: {run['submitted']} submitted, {run['reused']} reused, "
                f"{run['failed']} failed, {run['price']:.2f} {run['currency']}"
            )
        return lines


class TraceableRun(Protocol):
    """The part of a run that `trace_run` uses."""

    report: Report

    async def run(self) -> Report:
        """Run the job."""


async def trace_run(run: TraceableRun) -> Report:
    """Run a job in a span. The attributes of the span are the columns of the table `runs`."""
    report = run.report
    with span("tl_data.run", job=report.job, run_id=report.run_id, model=report.model) as run_span:
        try:
            return await run.run()
        finally:
            run_span.set(**report.row())
            if report.status not in ("done", "partial"):
                run_span.fail(report.reason)
            # Values may be negative if the run corrects the bill of another one. Counters cannot decrease.
            for operation, units in report.bill.operations.items():
                count("tl_data.video_minutes", max(0.0, units.video_minutes), operation=operation)
            count("tl_data.price", max(0.0, report.price), currency=report.prices.currency)


Video = TypeVar("Video", SourceVideo, VideoStatus)


def trace_video(process: Callable[[Video], Awaitable[VideoStatus]]) -> Callable[[Video], Awaitable[None]]:
    """Process each video in a span. Its outcome is unchanged, new, known, attached or failed."""

    async def work(video: Video) -> None:
        item = video.item if isinstance(video, VideoStatus) else video
        with span("tl_data.video", video=item.canonical) as video_span:
            status = await process(video)
            outcome = "failed" if status.error else status.state
            video_span.set(outcome=outcome, seconds=status.seconds)
            if status.error:
                video_span.set(error=status.error.kind, code=status.error.code)
                video_span.fail(str(status.error))
            count("tl_data.videos", 1, outcome=outcome)

    return work
