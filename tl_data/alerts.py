"""Saved-search alerts: each saved question is asked once of every video, and each clip is told of once.

The table `asked` says which questions a video has been asked, the table `alerts` which clips were found. Both
go by the content of a video, so that a video that is embedded anew, or that a second URL means, is not told
of again. `alerts` is written first: a run that is killed in between is followed by one that has the same
answers, from the ledger, and finds only what was told of.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tl_data.alert_searches import Searches
from tl_data.alerts_due import Chunk, due, price_of, saved_questions, unpaid
from tl_data.bill import Book, kept_in
from tl_data.errors import TLDataError
from tl_data.jobs import Alerts, Job
from tl_data.lake import Lake, rows_of
from tl_data.lake_tables import ALERTS, ASKED, RUNS
from tl_data.pipeline_alive import alive
from tl_data.pipeline_books import Books
from tl_data.pipeline_parallel import in_parallel
from tl_data.pipeline_plan import prices_of
from tl_data.report import Report
from tl_data.session import Session

Json = dict[str, Any]


@dataclass
class AlertReport:
    """What was found, beside what every run says."""

    run: Report
    questions: int
    found: list[Json] = field(default_factory=list)  # rows of the table `alerts`
    failures: list[str] = field(default_factory=list)
    full: dict[str, None] = field(default_factory=dict)  # questions with more clips than are told of, perhaps

    @property
    def exit_code(self) -> int:
        """0 all was asked, whether or not anything was found; 1 a search failed; 3 and 130 as of a run."""
        return self.run.exit_code

    def lines(self) -> list[str]:
        """The run for a person: what failed, and the sentence; the clips are the caller's to show."""
        lines = [self.run.reason] if self.run.reason else []
        lines += [f"failed: {said}" for said in self.failures[:20]]
        lines += [f"{q!r} may match more clips: max_clips was reached" for q in list(self.full)[:20]]
        run = self.run
        return [
            *lines,
            f"alerts: {len(self.found)} new clips; {self.questions} questions, {run.distinct} videos asked, "
            f"{run.calls} searches, {run.failed} failed, price {run.price:.2f} {run.prices.currency}",
        ]


async def alert(
    session: Session, job: Job, alerts: Alerts, stop: asyncio.Event, spent: float = 0.0
) -> AlertReport:
    """Ask what has not been asked, and write what was found. Of the budget, `spent` is gone already.

    Raises:
        SettingsError, SchemaMismatch: the questions or the tables cannot be used; nothing was asked.
        LakeError: a table cannot be written; what it lacks is asked again by the next run.
    """
    questions = await asyncio.to_thread(saved_questions, job, alerts)
    lake, prices, now = Lake(job.folder, job.format), prices_of(job, session), datetime.now(UTC)
    run_id = f"{now:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
    run = Report(job.name, run_id, prices=prices, model=session.vectors_by, started_at=now)
    report = AlertReport(run, len(questions))
    chunks = await asyncio.to_thread(lambda: list(due(lake, questions, job.limit)))
    tables = await asyncio.to_thread(lambda: [lake.table(t) for t in (ALERTS, ASKED, RUNS)])
    price = price_of(prices, await unpaid(Searches(session, alerts), chunks))
    if job.budget is not None and price and spent + price > job.budget:
        gone = f", of which {spent:g} is spent; run again, or with a larger one" if spent else ""
        money = f"{price:g} {prices.currency}"
        run.status = "budget"
        run.reason = f"not asked: it would cost {money}, the budget is {job.budget:g}{gone}"
        chunks = []
    run.rows = run.distinct = sum(len(chunk.videos) for chunk in chunks)
    told = await asyncio.to_thread(_told, lake, {v["content_key"] for c in chunks for v in c.videos.values()})
    asking = _Asking(session, alerts, report, told)
    with kept_in(Book(run_id, run.bill)) as book:
        async with alive(session.ledger.storage, book, job.folder, prices):
            runs = await asyncio.to_thread(lake.table, RUNS)  # written to at the same time
            books = Books(session, runs, prices, job.folder)
            await books.look()
            for chunk in chunks:
                await asyncio.to_thread(tables[2].replace_groups, rows_of(RUNS, [run.row()]))
                found, asked = await asking.ask(chunk, stop)
                # Alerts first: what is in `asked` is never asked again.
                await asyncio.to_thread(tables[0].replace_groups, rows_of(ALERTS, found))
                await asyncio.to_thread(tables[1].replace_groups, rows_of(ASKED, asked))
                if stop.is_set():
                    run.status = "interrupted"
                    run.reason = "interrupted: what was asked is in the tables; run again to go on"
                    break
            run.ended_at = datetime.now(UTC)
            await asyncio.to_thread(tables[2].replace_groups, rows_of(RUNS, [run.row()]))
            if not stop.is_set():
                await books.close()
            await books.leave()
    return report


class _Asking:
    def __init__(
        self, session: Session, alerts: Alerts, report: AlertReport, told: dict[tuple[str, str], list[Json]]
    ) -> None:
        self._session, self._report, self._told = session, report, told
        self._searches = Searches(session, alerts)

    async def ask(self, chunk: Chunk, stop: asyncio.Event) -> tuple[list[Json], list[Json]]:
        """Rows of `alerts`, in whole groups, and rows of `asked`."""
        changed: dict[tuple[str, str], None] = {}
        answered: dict[str, list[str]] = {}

        async def one(asked: tuple[str, list[str]]) -> None:
            question, ids = asked
            try:
                hits, more = await self._searches.hits(chunk.index_id, question, ids)
            except TLDataError as error:
                self._report.run.failed += 1
                self._report.failures.append(f"{question!r}: {error}")
                return
            answered[question] = ids
            if more:
                self._report.full[question] = None
            for hit in hits:
                video = chunk.videos[hit["video_id"]]
                if row := self._new(question, video, hit):
                    self._report.found.append(row)
                    changed[question, video["content_key"]] = None

        width = self._session.settings.concurrency
        await in_parallel(chunk.asks.items(), one, width=width, halt=asyncio.Event(), stop=stop)
        at, asked = datetime.now(UTC), {i: set(v["asked"]) for i, v in chunk.videos.items()}
        for question, ids in answered.items():
            for video_id in ids:
                asked[video_id].add(question)
        rows = [
            {"content_key": video["content_key"], "questions": sorted(asked[i]), "at": at}
            for i, video in chunk.videos.items()
            if asked[i] != set(video["asked"])
        ]
        return [row for group in changed for row in self._told[group]], rows

    def _new(self, question: str, video: Mapping[str, Any], hit: Mapping[str, Any]) -> Json | None:
        """The row of a clip, unless the question was told of this moment before."""
        before = self._told.setdefault((question, video["content_key"]), [])
        if any(hit["start_sec"] < old["end_sec"] and old["start_sec"] < hit["end_sec"] for old in before):
            return None
        row = {
            "question": question,
            **{n: video[n] for n in ("content_key", "video_id", "source_key", "url")},
            **{n: hit[n] for n in ("start_sec", "end_sec", "confidence", "rank", "transcription")},
            "model": self._session.vectors_by,
            "run_id": self._report.run.run_id,
            "at": datetime.now(UTC),
        }
        before.append(row)
        return row


def _told(lake: Lake, content_keys: set[str]) -> dict[tuple[str, str], list[Json]]:
    """The rows of `alerts` about these videos, by group."""
    found: dict[tuple[str, str], list[Json]] = {}
    for batch in lake.batches(ALERTS):
        for row in batch.to_pylist():
            if row["content_key"] in content_keys:
                found.setdefault((row["question"], row["content_key"]), []).append(row)
    return found
