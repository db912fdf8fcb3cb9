"""What a plan, a run and a status say: records for programs, sentences for people.

What a run tells OpenTelemetry: a span a run, a span a video, and counts of videos, minutes and money.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, Protocol, TypeVar

from tl_data.billing import Bill, Prices
from tl_data.pipeline.inspect import VideoStatus
from tl_data.pipeline.progress import Step, duration
from tl_data.pipeline.worklist import SourceVideo
from tl_data.runtime.telemetry import count, span

RunStatus = Literal["done", "partial", "budget", "failures", "stopped", "interrupted"]


@dataclass(frozen=True)
class Refusal:
    """A video that will not get in, and why."""

    source_key: str
    url: str
    kind: str
    code: str
    message: str
    retryable: bool
    output: str | None = None  # the output that failed; None: the video itself
    new: bool = True  # whether it is not the failure that `errors` has of the video already

    @property
    def who(self) -> str:
        """The row that it is about, for people: its key, and its URL where that is another text."""
        output = f" ({self.output})" if self.output else ""
        if not self.url or self.url == self.source_key:
            return self.source_key + output
        return f"{self.source_key}: {self.url}{output}"


@dataclass
class Plan:
    """What a run would do. Nothing was paid to find out."""

    job: str
    rows: int
    distinct: int
    prices: Prices
    unchanged: int = 0  # in the tables already, with everything the job wants
    known: int = 0  # indexed before; some outputs are missing
    attached: int = 0  # submitted by an earlier run, to be waited for
    new: int = 0
    refreshed: int = 0  # of these and of the known: the same content that another model embedded
    refused: list[Refusal] = field(default_factory=list)  # the first thousand
    codes: dict[str, int] = field(default_factory=dict)  # how many are refused for what, of all
    removed: int = 0  # videos that the source no longer lists and that would be marked or deleted
    alike: int = (
        0  # videos that have ETag and length in common with another URL: the same bytes, in all likelihood
    )
    unmeasured: int = 0  # new videos whose length could not be read from their headers
    bill: Bill = field(default_factory=Bill)
    output_tokens_at_most: int = 0
    seconds: float | None = None  # that the limits take at least; None: no limit is known
    limits_told: datetime | None = None  # when the service told the limits; None: they are set
    coming: dict[str, str] = field(default_factory=dict)  # with alerts: source key -> content key

    @property
    def refused_count(self) -> int:
        """How many videos will not get in."""
        return sum(self.codes.values())

    @property
    def reused(self) -> int:
        return self.unchanged + self.known + self.attached

    @property
    def video_minutes(self) -> float:
        return self.bill.video_minutes

    @property
    def calls(self) -> int:
        return self.bill.calls

    @property
    def price(self) -> float:
        """For minutes and calls; exact. What is written costs at most `price_of_tokens` more."""
        return self.bill.price(self.prices, tokens=False)

    @property
    def price_of_tokens(self) -> float:
        """For the text that will be written, at most."""
        return self.prices.of("analyze", output_tokens=self.output_tokens_at_most)

    def sentence(self) -> str:
        """The plan in one sentence."""
        money = self.prices.currency
        tokens = f" (+ at most {self.price_of_tokens:.2f} for written text)" if self.price_of_tokens else ""
        told = f" as the service told on {self.limits_told:%Y-%m-%d}" if self.limits_told else ""
        time = "" if self.seconds is None else f", {duration(self.seconds)} at the limits{told}"
        return (
            f"{_count(self.rows, 'row')}, {_count(self.distinct, 'distinct video')}: "
            f"{self.unchanged} unchanged, {self.known + self.attached} known, {self.new} to submit, "
            f"{self.refused_count} refused; "
            f"{self.video_minutes:.2f} video minutes, {self.calls} paid calls, "
            f"price {self.price:.2f} {money}{tokens}{time}"
        )

    def lines(self) -> list[str]:
        """The plan for a person: the sentence, the refusals, the price list."""
        lines = [self.sentence()]
        lines += [f"  refused: {r.who}: {r.message} ({r.code})" for r in self.refused[:50]]
        if self.refused_count > 50:
            counts = Counter(self.codes).most_common()
            lines.append("  in all: " + ", ".join(f"{n} x {code}" for code, n in counts))
        if self.refreshed:
            lines.append(
                f"  {_count(self.refreshed, 'video')} embedded anew; summaries and chapters are kept"
            )
        if self.removed:
            lines.append(f"  {_count(self.removed, 'video')} no longer in the source will leave the tables")
        if self.alike:
            lines.append(
                f"  {_count(self.alike, 'video')} may be a copy: ETag and length are those of another URL. "
                'same_content = "likely" takes them for one'
            )
        if self.unmeasured:
            lines.append(
                f"  {self.unmeasured} videos do not say how long they are; their minutes are not included"
            )
        lines.append(f"  prices of {self.prices.as_of}: {self.prices.source}")
        return lines


@dataclass
class Report:
    """What a run did."""

    job: str
    run_id: str
    status: RunStatus = "done"
    reason: str = ""  # why it stopped before its end
    rows: int = 0
    distinct: int = 0
    unchanged: int = 0
    reused: int = 0  # taken from the tables, the ledger or an earlier run's task instead of being paid
    pending: int = 0  # submitted and not collected: `collect` or the next run waits for them
    failed: int = 0
    new_failures: int = 0  # of these, videos that had not failed alike in the run before
    removed: int = 0  # videos marked or deleted because the source no longer lists them
    bill: Bill = field(default_factory=Bill)
    prices: Prices = field(default_factory=Prices.free)
    paid_twice: int | None = None  # None: it could not be measured
    model: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    tables: Mapping[str, str] = field(default_factory=dict)  # name -> where it is
    errors: list[Refusal] = field(default_factory=list)  # the first hundred
    left_behind: str = ""  # of a refresh: which videos another model's vectors are left of

    @property
    def submitted(self) -> int:
        """Indexing tasks newly made."""
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
        """0 nothing new failed; 1 something did; 3 stopped, run again; 130 interrupted."""
        if self.status == "interrupted":
            return 130
        if self.status not in ("done", "partial"):
            return 3
        return 1 if self.new_failures or self.left_behind else 0

    def sentence(self) -> str:
        """The run in one sentence: what everybody wants to know at its end."""
        twice = "not measured" if self.paid_twice is None else self.paid_twice
        pending = f", {self.pending} pending" if self.pending else ""
        known = f" ({self.new_failures} new)" if self.failed != self.new_failures else ""
        removed = f", {self.removed} removed" if self.removed else ""
        return (
            f"{_count(self.rows, 'row')}, {_count(self.distinct, 'distinct video')}, {self.reused} reused, "
            f"{self.submitted} submitted{pending}, {self.failed} failed{known}{removed}, "
            f"{self.video_minutes:.2f} video minutes, price {self.price:.2f} {self.prices.currency}, "
            f"paid twice: {twice}"
        )

    def lines(self) -> list[str]:
        """The run for a person: why it stopped, what failed, the sentence."""
        lines = [said for said in (self.reason, self.left_behind) if said]
        lines += [f"failed: {e.who}: {e.message} ({e.code})" for e in self.errors[:20]]
        if (failures := max(len(self.errors), self.failed)) > 20:
            lines.append(f"... and {failures - 20} more; all are in the table errors")
        return [*lines, self.sentence()]

    def step(self, phase: str, ended: int, minutes: float, elapsed: float) -> Step:
        """Where the run is, so many videos and minutes of them on and so many seconds after it began."""
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
    """An amount as the table `runs` has it."""
    return Decimal(repr(amount)).quantize(Decimal("0.000000001"))


def billed(bill: Bill, prices: Prices) -> dict[str, Any]:
    """The columns of the table `runs` that a bill fills."""
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
    """What the tables of a job hold; read from the tables alone."""

    job: str
    folder: str
    rows: Mapping[str, int]  # of each table
    video_minutes: float
    errors: Mapping[str, int]  # by code
    retryable: int  # errors that the next run tries again
    runs: list[dict[str, Any]]  # the last five, newest first

    def lines(self) -> list[str]:
        """The status for a person."""
        lines = [f"{self.job}: {self.folder}"]
        lines.append("  " + ", ".join(f"{name} {count}" for name, count in self.rows.items()))
        lines.append(f"  {self.video_minutes:.2f} video minutes in the tables")
        if self.errors:
            codes = ", ".join(f"{n} x {code}" for code, n in sorted(self.errors.items()))
            rest = ", the others once their file is there or another"
            rest = rest if self.retryable < sum(self.errors.values()) else ""
            lines.append(f"  errors: {codes}; the next run tries {self.retryable} again{rest}")
        for run in self.runs:
            when = f"{run['started_at']:%Y-%m-%d %H:%M}"
            lines.append(
                f"  {when} {run['status']}: {run['submitted']} submitted, {run['reused']} reused, "
                f"{run['failed']} failed, {run['price']:.2f} {run['currency']}"
            )
        return lines


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


class Traced(Protocol):
    """A run, as far as it is told of."""

    report: Report

    async def go(self) -> Report:
        """Do it."""


async def traced(run: Traced) -> Report:
    """Do the run, in a span that ends with the row of the table `runs`."""
    report = run.report
    with span("tl_data.run", job=report.job, run_id=report.run_id, model=report.model) as told:
        try:
            return await run.go()
        finally:
            told.set(**report.row())
            if report.status not in ("done", "partial"):
                told.fail(report.reason)
            # A run that only corrects what another one billed may have less than nothing: no count goes down.
            for operation, units in report.bill.operations.items():
                count("tl_data.video_minutes", max(0.0, units.video_minutes), operation=operation)
            count("tl_data.price", max(0.0, report.price), currency=report.prices.currency)


Video = TypeVar("Video", SourceVideo, VideoStatus)


def traced_video(one: Callable[[Video], Awaitable[VideoStatus]]) -> Callable[[Video], Awaitable[None]]:
    """The same work on a video, in a span; outcomes are unchanged, new, known, attached and failed."""

    async def work(video: Video) -> None:
        item = video.item if isinstance(video, VideoStatus) else video
        with span("tl_data.video", video=item.canonical) as traced:
            status = await one(video)
            outcome = "failed" if status.error else status.state
            traced.set(outcome=outcome, seconds=status.seconds)
            if status.error:
                traced.set(error=status.error.kind, code=status.error.code)
                traced.fail(str(status.error))
            count("tl_data.videos", 1, outcome=outcome)

    return work
