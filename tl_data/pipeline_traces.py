"""What a run tells OpenTelemetry: a span a run, a span a video, and counts of videos, minutes and money."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from tl_data.looking import Look
from tl_data.report import Report
from tl_data.source_items import Item
from tl_data.telemetry import count, span


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
            if report.status != "done":
                told.fail(report.reason)
            # A run that only corrects what another one billed may have less than nothing: no count goes down.
            for operation, units in report.bill.operations.items():
                count("tl_data.video_minutes", max(0.0, units.video_minutes), operation=operation)
            count("tl_data.price", max(0.0, report.price), currency=report.prices.currency)


def traced_video(one: Callable[[Item], Awaitable[Look]]) -> Callable[[Item], Awaitable[None]]:
    """The same work on a video, in a span; outcomes are unchanged, new, known, attached and failed."""

    async def work(item: Item) -> None:
        with span("tl_data.video", video=item.canonical) as told:
            here = await one(item)
            outcome = "failed" if here.error else here.state
            told.set(outcome=outcome, seconds=here.seconds)
            if here.error:
                told.set(error=here.error.kind, code=here.error.code)
                told.fail(str(here.error))
            count("tl_data.videos", 1, outcome=outcome)

    return work
