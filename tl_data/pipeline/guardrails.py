"""The limits that stop a run: the budget, the number of failures, an outage of the platform."""

from __future__ import annotations

import asyncio
import math

from tl_data.billing import Bill, Prices
from tl_data.errors import (
    APIError,
    ConnectionFailed,
    RateLimited,
    ServerFailed,
    TLDataError,
)
from tl_data.pipeline.inspect import VideoStatus
from tl_data.pipeline.job import Job
from tl_data.pipeline.report import Report, RunStatus

#: Errors that may show an outage of the platform.
OUTAGE_ERRORS = (ConnectionFailed, ServerFailed, RateLimited)
OUTAGE_COUNT = 20  # so many such errors in a row count as an outage
ASSUMED_SECONDS = 4 * 3600.0  # length of a video of unknown length, for upper bounds of its cost


class Draining(Exception):
    """Raised in place of beginning work on a video while the run drains."""


class WorkSlots:
    """Slots for concurrent calls of videos of which nothing is sent yet. There are none while `drain` is set.

    Many videos wait for a slot at the same time: those that still wait when the run drains are left to the
    next run.
    """

    def __init__(self, count: int, drain: asyncio.Event) -> None:
        self._free, self._drain = asyncio.Semaphore(count), drain

    async def __aenter__(self) -> None:
        """Wait for a slot. Raises Draining if `drain` is set."""
        await self._free.acquire()
        if self._drain.is_set():
            self._free.release()
            raise Draining

    async def __aexit__(self, *_: object) -> None:
        self._free.release()


class Guardrails:
    """Enforces the limits of one run.

    At a limit, `drain` is set: no new video is begun, and videos in progress are finished. The report has the
    reason.
    """

    def __init__(self, job: Job, report: Report) -> None:
        self._job, self._report = job, report
        self.drain = asyncio.Event()
        self._reserved = 0.0  # upper bound of the price of work in progress
        self._reservations = 0  # videos with a reservation
        self.spent_before = 0.0  # amount spent by other runs of the job that share the budget
        self._failed = 0  # failed videos of this run that count for `max_failures`
        self._released = asyncio.Event()
        self.outage_errors = 0  # consecutive errors of OUTAGE_ERRORS

    def end(self, status: RunStatus, reason: str) -> None:
        """Let no new work begin. The report keeps the first reason."""
        if self._report.status == "done":
            self._report.status, self._report.reason = status, reason
        self.drain.set()

    async def reserve(self, price: float) -> bool:
        """Reserve the upper bound of a video's cost, so that all work in progress stays within the budget.

        If the budget is reserved by other videos, wait until they release a part of it. Returns False if the
        price does not fit into the budget, or the run drains during this wait; the video must not be started
        then.
        """
        budget = self._job.budget
        while budget is not None and price and self._spent + self._reserved + price > budget:
            if not self._reservations or self._spent + price > budget:
                self.end("budget", self._over_budget(budget, price))
                return False
            self._released.clear()
            await self._released.wait()
            if self.drain.is_set():
                return False
        self._reserved += price
        self._reservations += 1
        return True

    @property
    def _spent(self) -> float:
        return self.spent_before + self._report.price

    def _over_budget(self, budget: float, price: float) -> str:
        currency = self._report.prices.currency
        before, hours = "", self._job.budget_hours
        if self.spent_before:
            before = f", {self.spent_before:.2f} of it spent by runs of the last {hours:g} hours"
        later = "Run again later, or " if before else "Run again to continue, or "
        if price > budget:  # more than the whole budget
            later = ""
        advice = f"{later}raise the budget" if later else "Raise the budget"
        return (
            f"the budget of {budget:g} {currency} is reached{before}: the next video could cost up to "
            f"{price:.2g} with all its text. {advice}"
        )

    def release(self, price: float, *, ended: bool = False) -> None:
        """Release a reserved amount. Its actual cost, if any, is in the report.

        Args:
            ended: whether the video has no reservation left.
        """
        self._reserved -= price
        self._reservations -= ended
        self._released.set()

    def count_failure(self) -> None:
        """Count a failed video for `max_failures`, and end the run if there are more."""
        self._failed += 1
        allowed = self._job.failures_allowed(self._report.distinct)
        if self._failed > allowed:
            self.end(
                "failures",
                f"{self._failed} videos failed and max_failures is {math.floor(allowed)}: the run stopped. "
                "The table errors has the reasons; run again to continue",
            )

    def note_error(self, error: TLDataError) -> None:
        """Count an error of the platform, and end the run in an outage."""
        if isinstance(error, OUTAGE_ERRORS) and isinstance(error, APIError) and not _is_of_file_server(error):
            self.outage_errors += 1
            if self.outage_errors >= OUTAGE_COUNT:
                self.end("stopped", f"stopped: the platform failed {OUTAGE_COUNT} times in a row: {error}")


def price_at_most(video: VideoStatus, prices: Prices, *, analyzing: bool) -> tuple[float, float]:
    """Upper bounds of a video's cost: the price of indexing, and the price of analyses and of their text."""
    seconds = video.seconds if video.seconds is not None else ASSUMED_SECONDS
    index, analyses = Bill(), Bill()
    if video.state == "new" and video.indexing:
        index.add("index", seconds)
    for analysis in video.analyses if analyzing else ():
        length = ASSUMED_SECONDS if analysis.seconds is None else analysis.seconds
        analyses.add("analyze", length, tokens=(0, analysis.tokens))
    return index.price(prices), analyses.price(prices)


def _is_of_file_server(error: APIError) -> bool:
    """Whether the error is about the server of the video's file, not about the platform."""
    return (error.code or "").startswith("video_url")
