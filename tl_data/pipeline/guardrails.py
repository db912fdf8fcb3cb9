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

TROUBLE = (ConnectionFailed, ServerFailed, RateLimited)
TROUBLES = 20  # consecutive videos without an answer of the platform that count as an outage
LONGEST = 4 * 3600.0  # assumed seconds of a video of unknown length, if there is a budget


class Guardrails:
    """The limits of one run. `halt` is set when no new work may begin; the report has the reason."""

    def __init__(self, job: Job, report: Report) -> None:
        self._job, self._report = job, report
        self.halt = asyncio.Event()
        self._reserved = 0.0  # upper bound of the price of work in progress
        self._under_way = 0  # videos with a reservation
        self.spent_before = 0.0  # by other runs of the job that share the budget
        self._failed = 0  # failed videos of this run, including repeated failures
        self._released = asyncio.Event()
        self.troubles = 0  # consecutive videos without an answer of the platform

    def end(self, status: RunStatus, reason: str) -> None:
        """Stop new work. The first reason is kept."""
        if self._report.status == "done":
            self._report.status, self._report.reason = status, reason
        self.halt.set()

    async def reserve(self, price: float) -> bool:
        """Reserve the largest cost of a video, so that all work in progress stays within the budget.

        It waits while other videos may still cost less than reserved. Returns False if the price does not
        fit; then the run ends.
        """
        budget = self._job.budget
        while budget is not None and price and self._spent + self._reserved + price > budget:
            if not self._under_way or self._spent + price > budget:
                self.end("budget", self._over_budget(budget, price))
                return False
            self._released.clear()
            await self._released.wait()
            if self.halt.is_set():
                return False
        self._reserved += price
        self._under_way += 1
        return True

    @property
    def _spent(self) -> float:
        return self.spent_before + self._report.price

    def _over_budget(self, budget: float, price: float) -> str:
        currency = self._report.prices.currency
        before, hours = "", self._job.budget_hours
        if self.spent_before:
            before = f", {self.spent_before:.2f} of it spent by runs of the last {hours:g} hours"
        later = "" if price > budget else "Run again after them, or " if before else "Run again to go on, or "
        advice = f"{later}raise the budget" if later else "Raise the budget"
        return (
            f"the budget of {budget:g} {currency} is reached{before}: the next video could cost up to "
            f"{price:.2g} with all its text. {advice}"
        )

    def release(self, price: float, *, ended: bool = False) -> None:
        """Release a reservation: the cost is in the report, or is not incurred.

        `ended`: the video is finished.
        """
        self._reserved -= price
        self._under_way -= ended
        self._released.set()

    def failed(self) -> None:
        """Count a failed video, unless its failure is final since an earlier run; stop at `max_failures`."""
        self._failed += 1
        allowed = self._job.failures_allowed(self._report.distinct)
        if self._failed > allowed:
            self.end(
                "failures",
                f"{self._failed} videos failed and max_failures is {math.floor(allowed)}: the run stopped. "
                "The table errors has the reasons; run again to continue",
            )

    def note_error(self, error: TLDataError) -> None:
        """Count an error of the platform, and stop the run in an outage."""
        if isinstance(error, TROUBLE) and isinstance(error, APIError) and not _of_the_video(error):
            self.troubles += 1
            if self.troubles >= TROUBLES:
                self.end("stopped", f"stopped: the platform failed {TROUBLES} times in a row: {error}")


def price_at_most(video: VideoStatus, prices: Prices, *, analysing: bool) -> tuple[float, float]:
    """Upper bounds of a video's cost: indexing, and analyses with their text."""
    seconds = video.seconds if video.seconds is not None else LONGEST
    index, analyses = Bill(), Bill()
    if video.state == "new" and video.indexing:
        index.add("index", seconds)
    for analysis in video.analyses if analysing else ():
        length = LONGEST if analysis.seconds is None else analysis.seconds
        analyses.add("analyze", length, tokens=(0, analysis.tokens))
    return index.price(prices), analyses.price(prices)


def _of_the_video(error: APIError) -> bool:
    """Whether the server of the video failed, not the platform."""
    return (error.code or "").startswith("video_url")
