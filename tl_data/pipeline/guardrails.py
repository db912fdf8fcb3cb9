"""What ends a run before all is done: its budget, too many failures, a platform that is down."""

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
TROUBLES = 20  # videos in a row that the platform did not answer for: it is down
LONGEST = 4 * 3600.0  # seconds; what a video of unknown length is taken for where a budget is kept


class Guardrails:
    """The limits of one run. `halt` is set when nothing new is to begin; why stands in the report."""

    def __init__(self, job: Job, report: Report) -> None:
        self._job, self._report = job, report
        self.halt = asyncio.Event()
        self._reserved = 0.0  # price of what is about to be paid, at most
        self._under_way = 0  # videos that it is reserved for
        self.spent_before = 0.0  # by the other runs of the job that share the budget
        self._failed = 0  # videos, in this run for the first time or once more
        self._released = asyncio.Event()
        self.troubles = 0  # videos in a row that the platform did not answer for

    def end(self, status: RunStatus, reason: str) -> None:
        """Begin nothing new; the first reason counts."""
        if self._report.status == "done":
            self._report.status, self._report.reason = status, reason
        self.halt.set()

    async def reserve(self, price: float) -> bool:
        """Set aside what a video costs at most, so that all under way together stay within the budget.

        Waits while others may yet turn out to cost less than was set aside for them. Gives False when there
        is no room for it: then the run ends.
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
        """It is paid, and in the report, or will not be; `ended`: nothing is left to pay for the video."""
        self._reserved -= price
        self._under_way -= ended
        self._released.set()

    def failed(self) -> None:
        """Count a video that failed, unless an earlier run refused it for good; stop at `max_failures`."""
        self._failed += 1
        allowed = self._job.failures_allowed(self._report.distinct)
        if self._failed > allowed:
            self.end(
                "failures",
                f"{self._failed} videos failed and max_failures is {math.floor(allowed)}: the run stopped. "
                "The table errors says why; run again to go on",
            )

    def note_error(self, error: TLDataError) -> None:
        """Notice that the platform is down: the videos are not to blame."""
        if isinstance(error, TROUBLE) and isinstance(error, APIError) and not _of_the_video(error):
            self.troubles += 1
            if self.troubles >= TROUBLES:
                self.end("stopped", f"stopped: the platform failed {TROUBLES} times in a row: {error}")


def price_at_most(video: VideoStatus, prices: Prices, *, analysing: bool) -> tuple[float, float]:
    """What a video will cost from video on, at most: indexing, and analyses with the text they write."""
    seconds = video.seconds if video.seconds is not None else LONGEST
    index, analyses = Bill(), Bill()
    if video.state == "new" and video.indexing:
        index.add("index", seconds)
    for analysis in video.analyses if analysing else ():
        length = LONGEST if analysis.seconds is None else analysis.seconds
        analyses.add("analyze", length, tokens=(0, analysis.tokens))
    return index.price(prices), analyses.price(prices)


def _of_the_video(error: APIError) -> bool:
    """Whether the video's own server failed, not the platform."""
    return (error.code or "").startswith("video_url")
