"""Alerts of saved questions: each question runs once on every video, and each clip is reported once.

The table `asked` lists the questions that were run on a video, the table `alerts` the found clips. Both refer
to the content of a video, so that a video with new vectors or a second URL is not reported again. `alerts` is
written first: after a crash between the two writes, the next run gets the same answers from the ledger and
reports no clip again.

Each search is paid once. Its answer stays in the ledger for a week, so that a killed run can be repeated
without paying again. After that only the table `asked` records that the question was run.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from itertools import islice
from typing import Any

import orjson

from tl_data import catalog
from tl_data.analysis import Part, TextRequest, VideoRef, Window
from tl_data.billing import Prices, RunAccount, Units, recording
from tl_data.errors import BadRequest, SettingsError, TLDataError
from tl_data.lake.base import rows_of
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import ALERTS, ASKED, RUNS, VIDEOS
from tl_data.ledger.models import BILLED_KEEP, Call
from tl_data.models import search_model, text_model
from tl_data.pipeline.job import Alerts, Job
from tl_data.pipeline.planner import prices_of
from tl_data.pipeline.recovery import RunReconciler, run_lease, spent_lately
from tl_data.pipeline.report import Report
from tl_data.pipeline.source import pairs
from tl_data.runtime.concurrency import in_parallel
from tl_data.session import Session

Json = dict[str, Any]

SCOPE = "alerts"  # part of the ledger's keys
GONE = "search_video_not_in_same_index"  # the API's error code if a searched video has left its index


class _Refused(TLDataError):
    """A search that the API refused. It is not recorded, and the next run repeats it."""

    retryable = True

    def __init__(self, cause: BadRequest) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Searches:
    """Searches for the best clips that match a question in given videos."""

    def __init__(self, session: Session, alerts: Alerts, ranked: bool) -> None:
        """
        Args:
            ranked: whether the model only ranks clips (see `ranks_only`). If so, no threshold is sent.
        """
        self._session, self._alerts = session, alerts
        self._threshold = None if ranked else alerts.threshold or "high"
        self._search = catalog.FUNCTIONS["search"]

    async def known(self, index_id: str, question: str, ids: Sequence[str]) -> bool:
        """Whether the ledger has the answer of the search, paid by a run that did not write its tables."""
        entry = await self._session.ledger.get(self._call(self._arguments(index_id, question, ids)))
        return entry is not None and entry.state == "done"

    async def hits(self, index_id: str, question: str, ids: Sequence[str]) -> tuple[list[Json], bool]:
        """The best clips, as rows of the function `search`, and whether more clips may match.

        The API refuses a search if one video is no longer in the index. Bisection finds such videos, and
        they are left out.
        """
        arguments = self._arguments(index_id, question, ids)

        async def search() -> list[Json]:
            try:
                return list(await self._search.run(self._session, **self._search.arguments(arguments)))
            except BadRequest as error:
                raise _Refused(error) from error

        try:
            hits = (await self._session.ledger.once(self._call(arguments), search)).result
        except _Refused as refused:
            if refused.cause.code != GONE:
                raise refused.cause from None
            if len(ids) == 1:
                return [], False
            half = len(ids) // 2
            first, more = await self.hits(index_id, question, ids[:half])
            rest, still_more = await self.hits(index_id, question, ids[half:])
            return [*first, *rest], more or still_more
        return [hit for hit in hits if hit["video_id"] in ids], len(hits) >= self._alerts.most_clips

    def _arguments(self, index_id: str, question: str, ids: Sequence[str]) -> Json:
        threshold = {} if self._threshold is None else {"threshold": self._threshold}
        return {
            "index_id": index_id,
            "query_text": question,
            "max_hits": self._alerts.most_clips,
            **threshold,
            "filter": orjson.dumps({"id": list(ids)}).decode(),
        }

    def _call(self, arguments: Json) -> Call:
        digest = sha256(orjson.dumps(arguments, option=orjson.OPT_SORT_KEYS)).hexdigest()
        return Call("search", digest, model=self._session.vectors_by, scope=SCOPE, keep=BILLED_KEEP)


async def ranks_only(session: Session, alerts: Alerts, index_ids: Sequence[str]) -> bool:
    """Whether the indexes' search model only ranks clips and returns no confidence.

    Raises:
        SettingsError: an option of [alerts] needs a feature that the models lack; the message names an
            alternative.
    """
    if session.models is not None:  # the embedded engine returns a confidence
        return False
    rows = [await session.index_search_model(index_id) for index_id in index_ids]
    if not rows:
        rows = [search_model(session.search_model)]
    ranked = [row for row in rows if row is not None and row.ranks_only]
    writer = text_model(session.analyze_model)
    if alerts.verify and writer is not None and not writer.windows:
        raise SettingsError(
            f"[alerts]: verify needs a model that analyzes a part of a video, and {writer.name} does not: "
            "set threshold instead"
        )
    if not ranked:
        return False
    if alerts.threshold not in (None, "none"):
        raise SettingsError(
            f"[alerts]: {ranked[0].name} only ranks clips, and threshold = {alerts.threshold!r} would be "
            "ignored. Remove it, and set max_clips, verify = true or both"
        )
    if alerts.max_clips is None and not alerts.verify:
        raise SettingsError(
            f"[alerts]: {ranked[0].name} only ranks clips: it returns a best clip for every video, even "
            "if none matches. Set verify = true to check each clip, or max_clips to report the best ones"
        )
    return True


CHECK_SECONDS = 30.0  # longest time range that a check analyses, around the middle of the clip
CHECK_TOKENS = 512  # largest number of output tokens of a check
CHECK = "Answer whether this is to be seen or heard in this part of the video: {question}"
ANSWER = {
    "type": "json_schema",
    "json_schema": {
        "type": "object",
        "properties": {
            "matches": {"type": "boolean", "description": "whether it is there"},
            "reason": {"type": "string", "description": "one short sentence"},
        },
        "required": ["matches", "reason"],
    },
}


def check_of(question: str, hit: Mapping[str, Any], index_id: str) -> TextRequest:
    """The analysis that checks a hit: a window around its middle, whose length determines the price."""
    start, end = float(hit["start_sec"]), float(hit["end_sec"])
    if end - start > CHECK_SECONDS:
        middle = (start + end) / 2
        start, end = middle - CHECK_SECONDS / 2, middle + CHECK_SECONDS / 2
    part = Part("verify", {"question": question}, CHECK.format(question=question), response_format=ANSWER)
    video = VideoRef(video_id=hit["video_id"], index_id=index_id)
    return TextRequest(video, (part,), Window(start, end), max_tokens=CHECK_TOKENS)


async def confirm(
    session: Session, index_id: str, question: str, hits: Sequence[Json]
) -> list[tuple[Json, str]]:
    """Check hits by analyses, and return the confirmed ones, each with the reason of its check.

    Raises:
        TLDataError: the error of the first check that failed; answers of other checks are in the ledger.
    """
    results = await session.analyze_many([check_of(question, hit, index_id) for hit in hits])
    confirmed = []
    for hit, result in zip(hits, results, strict=True):
        answer = orjson.loads(result.raised().answers[0]["data"])
        if answer.get("matches") is True:
            confirmed.append((hit, str(answer.get("reason") or "")))
    return confirmed


VIDEOS_PER_SEARCH = 200  # largest number of videos of one search, whose ids are in its filter


@dataclass
class AlertPlan:
    """The estimate of an alert run."""

    questions: int
    videos: int  # videos on which at least one question has not run
    searches: int  # searches that are not paid yet
    price: float  # price of these searches
    currency: str
    checks: int = 0  # upper bound of the analyses that check clips, with `verify`
    price_of_checks: float = 0.0  # upper bound of their price

    def sentence(self) -> str:
        """The estimate in one sentence."""
        checks = ""
        if self.checks:
            checks = f" (+ at most {self.price_of_checks:.2f} for {self.checks} checks)"
        return (
            f"alerts: {self.questions} questions, {self.videos} videos to ask, {self.searches} searches, "
            f"price {self.price:.2f} {self.currency}{checks}"
        )


@dataclass
class Chunk:
    """Videos of one index that are searched together, and their questions."""

    index_id: str
    videos: dict[str, Json]  # video id -> row of the table `videos`, and its questions in `asked`
    asks: dict[str, list[str]]  # question -> ids of the videos on which it has not run


def saved_questions(job: Job, alerts: Alerts) -> list[str]:
    """The distinct saved questions, in order.

    Raises:
        SettingsError: there is none, one is empty, or the table cannot be read.
        SchemaMismatch: the column is missing or is not text.
    """
    found: dict[str, None] = {}
    for number, (_, question) in enumerate(pairs(job.but(source=alerts.questions)), 1):
        if question is None or not question.strip():
            raise SettingsError(f"[alerts]: question {number} is {'NULL' if question is None else 'empty'}")
        if "\ufffd" in question:  # how Spark replaces bytes that are not UTF-8
            raise SettingsError(
                f"[alerts]: question {number} has characters that are not UTF-8: save the table as UTF-8"
            )
        found[question.strip()] = None
    if not found:
        raise SettingsError("[alerts]: no saved questions")
    return list(found)


async def plan_alerts(
    session: Session, job: Job, alerts: Alerts, upcoming: Mapping[str, str] | None = None
) -> AlertPlan:
    """The number of searches that the run would pay for, and their price. Raises as `saved_questions` does.

    Args:
        upcoming: source key -> content key of the videos that the preceding run will add.
    """
    index_id = await session.find_index() if upcoming else None
    questions = await asyncio.to_thread(saved_questions, job, alerts)
    lake, prices = Lake(job.folder, job.format), prices_of(job, session)
    chunks = await asyncio.to_thread(lambda: list(due(lake, questions, job.limit, upcoming, index_id or "")))
    ranked = await ranks_only(session, alerts, sorted({chunk.index_id for chunk in chunks} - {""}))
    searches = await unpaid(Searches(session, alerts, ranked), chunks)
    videos = sum(len(chunk.videos) for chunk in chunks)
    plan = AlertPlan(len(questions), videos, searches, price_of(prices, searches), prices.currency)
    plan.checks = searches * alerts.most_clips if alerts.verify else 0
    plan.price_of_checks = price_of_checks(prices, plan.checks)
    return plan


async def unpaid(searches: Searches, chunks: Sequence[Chunk]) -> int:
    """The number of unpaid searches.

    A run makes the searches chunk by chunk. So after the first chunk without a paid search, none is paid.
    """
    count = sum(len(chunk.asks) for chunk in chunks)
    for chunk in chunks:
        paid = sum(
            await asyncio.gather(
                *(searches.known(chunk.index_id, question, ids) for question, ids in chunk.asks.items())
            )
        )
        count -= paid
        if not paid:
            break
    return count


def due(
    lake: Lake,
    questions: Sequence[str],
    limit: int | None,
    upcoming: Mapping[str, str] | None = None,
    index_id: str = "",
) -> Iterator[Chunk]:
    """The videos on which some question has not run, in chunks of one index each.

    They are sorted by index and then by `indexed_at`, oldest first; `limit` counts in this order.
    Videos of `upcoming` (source key -> content key) count as if the tables had them, in the index `index_id`.
    """
    if upcoming is None and not lake.exists(VIDEOS):
        raise SettingsError(
            f"{lake.folder} has no table videos: run the job that fills it first, with the same folder and "
            "format in [outputs]"
        )
    all_questions, shared_sets = frozenset(questions), dict[frozenset[str], frozenset[str]]()
    asked: dict[str, frozenset[str]] = {}
    for batch in lake.batches(ASKED, ["content_key", "questions"]):
        for row in batch.to_pylist():
            known = frozenset(row["questions"] or ())
            asked[row["content_key"]] = shared_sets.setdefault(known, known)  # equal sets share one object
    todo: dict[str, Json] = {}  # content key -> row of `videos`, with the questions that were run
    columns = ["indexed_at", "content_key", "video_id", "source_key", "url", "index_id", "removed_at"]
    for batch in lake.batches(VIDEOS, columns):
        for row in batch.to_pylist():
            if row["video_id"] is None or row["removed_at"] is not None:
                continue  # not indexed, or no longer in the source
            before = asked.get(row["content_key"], frozenset())
            replaced = upcoming is not None and row["source_key"] in upcoming
            if not (replaced or all_questions <= before or row["content_key"] in todo):
                todo[row["content_key"]] = {**row, "asked": before}
    coming_row = {"index_id": index_id, "indexed_at": datetime.max.replace(tzinfo=UTC)}
    for key in (upcoming or {}).values():
        before = asked.get(key, frozenset())
        if not (all_questions <= before or key in todo):
            todo[key] = {"content_key": key, "video_id": key, "asked": before, **coming_row}
    ordered = sorted(todo.values(), key=lambda v: (v["index_id"], v["indexed_at"], v["content_key"]))
    by_index: dict[str, list[Json]] = {}
    for video in islice(ordered, limit):
        by_index.setdefault(video["index_id"], []).append(video)
    for index_id, videos in by_index.items():
        for start in range(0, len(videos), VIDEOS_PER_SEARCH):
            part = {v["video_id"]: v for v in videos[start : start + VIDEOS_PER_SEARCH]}
            asks = {q: [i for i, v in part.items() if q not in v["asked"]] for q in questions}
            yield Chunk(index_id, part, {q: ids for q, ids in asks.items() if ids})


def price_of(prices: Prices, searches: int) -> float:
    return prices.of("search", calls=searches)


def price_of_checks(prices: Prices, checks: int) -> float:
    """An upper bound of the price of checks."""
    tokens = checks * CHECK_TOKENS
    return prices.of("analyze", video_minutes=checks * CHECK_SECONDS / 60, calls=checks, output_tokens=tokens)


@dataclass
class AlertReport:
    """The report of an alert run: the report of the run, and the found clips."""

    run: Report
    questions: int
    found: list[Json] = field(default_factory=list)  # new rows of the table `alerts`
    failures: list[str] = field(default_factory=list)
    full: dict[str, None] = field(default_factory=dict)  # questions that reached max_clips

    @property
    def exit_code(self) -> int:
        """0: all searches were made. 1: a search failed. 3 and 130: as in `Report.exit_code`."""
        return self.run.exit_code

    def lines(self) -> list[str]:
        """The report as text: failures and the summary, without the clips."""
        lines = [self.run.reason] if self.run.reason else []
        lines += [f"failed: {reason}" for reason in self.failures[:20]]
        lines += [f"{q!r} may match more clips: max_clips was reached" for q in list(self.full)[:20]]
        run, operations = self.run, self.run.bill.operations
        checks = f", {operations['analyze'].calls} checks" if "analyze" in operations else ""
        return [
            *lines,
            f"alerts: {len(self.found)} new clips; {self.questions} questions, {run.distinct} videos asked, "
            f"{operations.get('search', Units()).calls} searches{checks}, {run.failed} failed, "
            f"price {run.price:.2f} {run.prices.currency}",
        ]


async def alert(
    session: Session, job: Job, alerts: Alerts, interrupt: asyncio.Event, spent: float = 0.0
) -> AlertReport:
    """Run the questions that have not run yet, and write the found clips.

    Args:
        spent: the amount of the job's budget that is already spent.

    Raises:
        SettingsError, SchemaMismatch: the questions or the tables are invalid; no search was made.
        LakeError: a table cannot be written; the next run repeats the missing searches.
    """
    questions = await asyncio.to_thread(saved_questions, job, alerts)
    lake, prices, now = Lake(job.folder, job.format), prices_of(job, session), datetime.now(UTC)
    run_id = f"{now:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
    run = Report(job.name, run_id, prices=prices, model=session.vectors_by, started_at=now)
    report = AlertReport(run, len(questions))
    chunks = await asyncio.to_thread(lambda: list(due(lake, questions, job.limit)))
    alerts_table, asked_table, runs_table = await asyncio.to_thread(
        lambda: [lake.table(t) for t in (ALERTS, ASKED, RUNS)]
    )
    ranked = await ranks_only(session, alerts, sorted({chunk.index_id for chunk in chunks}))
    searches = await unpaid(Searches(session, alerts, ranked), chunks)
    price = price_of(prices, searches)
    if alerts.verify:
        price += price_of_checks(prices, searches * alerts.most_clips)
    if job.budget is not None and job.budget_hours:
        # `spent` and the table `runs` may count the same run: take the larger amount instead of the sum.
        spent = max(spent, await asyncio.to_thread(spent_lately(runs_table, run, job.budget_hours)))
    if job.budget is not None and price and spent + price > job.budget:
        already = f", of which {spent:g} is spent; run again or raise the budget" if spent else ""
        money = f"{price:g} {prices.currency}"
        run.status = "budget"
        run.reason = f"alerts skipped: they would cost {money}, the budget is {job.budget:g}{already}"
        chunks = []
    run.rows = run.distinct = sum(len(chunk.videos) for chunk in chunks)
    reported = await asyncio.to_thread(
        _reported, lake, {v["content_key"] for c in chunks for v in c.videos.values()}
    )
    asking = _Asking(session, alerts, report, reported, ranked)
    with recording(RunAccount(run_id, run.bill)) as account:
        async with run_lease(session.ledger.storage, account, job.folder, prices):
            # For the rows of other runs; this run writes its own row through `runs_table`.
            runs = await asyncio.to_thread(lake.table, RUNS)
            reconciler = RunReconciler(session, runs, prices, job.folder)
            await reconciler.find_interrupted()
            for chunk in chunks:
                await asyncio.to_thread(runs_table.replace_groups, rows_of(RUNS, [run.row()]))
                alert_rows, asked_rows = await asking.ask(chunk, interrupt)
                # `alerts` before `asked`, because a question in `asked` never runs again.
                await asyncio.to_thread(alerts_table.replace_groups, rows_of(ALERTS, alert_rows))
                await asyncio.to_thread(asked_table.replace_groups, rows_of(ASKED, asked_rows))
                if interrupt.is_set():
                    run.status = "interrupted"
                    run.reason = "interrupted: finished searches are in the tables; run again to continue"
                    break
            run.ended_at = datetime.now(UTC)
            await asyncio.to_thread(runs_table.replace_groups, rows_of(RUNS, [run.row()]))
            if not interrupt.is_set():
                await reconciler.close()
            await reconciler.leave()
    return report


class _Asking:
    """Runs the questions of chunks, and collects the new clips."""

    def __init__(
        self,
        session: Session,
        alerts: Alerts,
        report: AlertReport,
        reported: dict[tuple[str, str], list[Json]],
        ranked: bool,
    ) -> None:
        self._session, self._report, self._reported = session, report, reported
        self._searches, self._verify = Searches(session, alerts, ranked), alerts.verify

    async def ask(self, chunk: Chunk, interrupt: asyncio.Event) -> tuple[list[Json], list[Json]]:
        """Run the questions of a chunk.

        Returns:
            The rows of `alerts`, with the earlier rows of each changed group, and the rows of `asked`.
        """
        changed: dict[tuple[str, str], None] = {}
        answered: dict[str, list[str]] = {}

        async def ask_one(question_and_ids: tuple[str, list[str]]) -> None:
            question, ids = question_and_ids
            try:
                hits, more = await self._searches.hits(chunk.index_id, question, ids)
                clips: list[tuple[Json, str | None]] = [(hit, None) for hit in hits]
                if self._verify:
                    clips = [*await confirm(self._session, chunk.index_id, question, hits)]
            except TLDataError as error:
                self._report.run.failed += 1
                self._report.run.new_failures += 1
                self._report.failures.append(f"{question!r}: {error}")
                return
            answered[question] = ids
            if more:
                self._report.full[question] = None
            for hit, answer in clips:
                video = chunk.videos[hit["video_id"]]
                if row := self._new(question, video, hit, answer):
                    self._report.found.append(row)
                    changed[question, video["content_key"]] = None

        width = self._session.settings.concurrency
        await in_parallel(chunk.asks.items(), ask_one, width=width, drain=asyncio.Event(), cancel=interrupt)
        now, asked = datetime.now(UTC), {i: set(v["asked"]) for i, v in chunk.videos.items()}
        for question, ids in answered.items():
            for video_id in ids:
                asked[video_id].add(question)
        rows = [
            {"content_key": video["content_key"], "questions": sorted(asked[i]), "asked_at": now}
            for i, video in chunk.videos.items()
            if asked[i] != set(video["asked"])
        ]
        return [row for group in changed for row in self._reported[group]], rows

    def _new(
        self, question: str, video: Mapping[str, Any], hit: Mapping[str, Any], answer: str | None
    ) -> Json | None:
        """The row of a clip; None if it overlaps a clip that was reported for this question."""
        earlier = self._reported.setdefault((question, video["content_key"]), [])
        if any(hit["start_sec"] < old["end_sec"] and old["start_sec"] < hit["end_sec"] for old in earlier):
            return None
        row = {
            "question": question,
            **{n: video[n] for n in ("content_key", "video_id", "source_key", "url")},
            **{n: hit[n] for n in ("start_sec", "end_sec", "confidence", "rank", "transcription")},
            "model": self._session.vectors_by,
            "run_id": self._report.run.run_id,
            "found_at": datetime.now(UTC),
            "answer": answer,
        }
        earlier.append(row)
        return row


def _reported(lake: Lake, content_keys: set[str]) -> dict[tuple[str, str], list[Json]]:
    """The rows of `alerts` about these videos, by question and content key."""
    groups: dict[tuple[str, str], list[Json]] = {}
    for batch in lake.batches(ALERTS):
        for row in batch.to_pylist():
            if row["content_key"] in content_keys:
                groups.setdefault((row["question"], row["content_key"]), []).append(row)
    return groups
