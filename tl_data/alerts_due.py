"""Which saved questions are to be asked of which videos, and what that costs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from tl_data.alert_searches import Searches
from tl_data.errors import SettingsError
from tl_data.jobs import Alerts, Job
from tl_data.lake import Lake
from tl_data.lake_tables import ASKED, VIDEOS
from tl_data.pipeline_plan import known_index, prices_of
from tl_data.prices import Prices
from tl_data.session import Session
from tl_data.source import pairs

Json = dict[str, Any]

TOGETHER = 200  # videos that one search covers


@dataclass
class AlertPlan:
    """What asking would take. Nothing was asked to find out."""

    questions: int
    videos: int  # that have not been asked everything
    searches: int  # that are to be paid for
    price: float
    currency: str

    def sentence(self) -> str:
        """The plan in one sentence."""
        return (
            f"alerts: {self.questions} questions, {self.videos} videos to ask, {self.searches} searches, "
            f"price {self.price:.2f} {self.currency}"
        )


@dataclass
class Chunk:
    """Videos that are asked together: those of one index, by id, and the questions for each of them."""

    index_id: str
    videos: dict[str, Json]
    asks: dict[str, list[str]]  # question -> ids


def saved_questions(job: Job, alerts: Alerts) -> list[str]:
    """The saved questions, each once, in their order.

    Raises:
        SettingsError: there are none, one is empty, or the table cannot be read.
        SchemaMismatch: the table has no such column, or it is not text.
    """
    found: dict[str, None] = {}
    for number, (_, said) in enumerate(pairs(job.but(source=alerts.questions)), 1):
        if said is None or not said.strip():
            raise SettingsError(f"[alerts]: question {number} is {'NULL' if said is None else 'empty'}")
        found[said.strip()] = None
    if not found:
        raise SettingsError("[alerts]: there is no saved question")
    return list(found)


async def plan_alerts(
    session: Session, job: Job, alerts: Alerts, coming: Mapping[str, str] | None = None
) -> AlertPlan:
    """How many searches the run would pay for, and their price. Raises what `saved_questions` raises.

    Args:
        coming: source key -> content key of videos that will be in the tables by then.
    """
    index_id = await known_index(session) if coming else None
    questions = await asyncio.to_thread(saved_questions, job, alerts)
    lake, prices = Lake(job.folder, job.format), prices_of(job, session)
    chunks = await asyncio.to_thread(lambda: list(due(lake, questions, job.limit, coming, index_id or "")))
    searches = await unpaid(Searches(session, alerts), chunks)
    videos = sum(len(chunk.videos) for chunk in chunks)
    return AlertPlan(len(questions), videos, searches, price_of(prices, searches), prices.currency)


async def unpaid(searches: Searches, chunks: Sequence[Chunk]) -> int:
    """How many searches have not been paid for. A run asks chunk by chunk: behind one that has no answers
    yet, none has."""
    count = sum(len(chunk.asks) for chunk in chunks)
    for chunk in chunks:
        asked = chunk.asks.items()
        known = sum(await asyncio.gather(*(searches.known(chunk.index_id, q, ids) for q, ids in asked)))
        count -= known
        if not known:
            break
    return count


def due(
    lake: Lake,
    questions: Sequence[str],
    limit: int | None,
    coming: Mapping[str, str] | None = None,
    index_id: str = "",
) -> Iterator[Chunk]:
    """The videos that have not been asked everything, oldest first, in chunks of one index each.

    With `coming`, as if these rows (source key -> content key) were in the tables, in that index.
    """
    if coming is None and not lake.exists(VIDEOS):
        raise SettingsError(
            f"{lake.folder} has no table videos: run the job that fills it first, with the same folder and "
            "format in [outputs]"
        )
    wanted, sets = frozenset(questions), dict[frozenset[str], frozenset[str]]()
    asked: dict[str, frozenset[str]] = {}
    for batch in lake.batches(ASKED, ["content_key", "questions"]):
        for row in batch.to_pylist():
            known = frozenset(row["questions"] or ())
            asked[row["content_key"]] = sets.setdefault(known, known)  # mostly the same set: held once
    todo: dict[str, Json] = {}
    columns = ["indexed_at", "content_key", "video_id", "source_key", "url", "index_id"]
    for batch in lake.batches(VIDEOS, columns):
        for row in batch.to_pylist():
            before = asked.get(row["content_key"], frozenset())
            replaced = coming is not None and row["source_key"] in coming
            if not (replaced or wanted <= before or row["content_key"] in todo):
                todo[row["content_key"]] = {**row, "asked": before}
    later = {"index_id": index_id, "indexed_at": datetime.max.replace(tzinfo=UTC)}
    for key in (coming or {}).values():
        before = asked.get(key, frozenset())
        if not (wanted <= before or key in todo):
            todo[key] = {"content_key": key, "video_id": key, "asked": before, **later}
    ordered = sorted(todo.values(), key=lambda v: (v["index_id"], v["indexed_at"], v["content_key"]))
    by_index: dict[str, list[Json]] = {}
    for video in islice(ordered, limit):
        by_index.setdefault(video["index_id"], []).append(video)
    for index_id, videos in by_index.items():
        for start in range(0, len(videos), TOGETHER):
            part = {v["video_id"]: v for v in videos[start : start + TOGETHER]}
            asks = {q: [i for i, v in part.items() if q not in v["asked"]] for q in questions}
            yield Chunk(index_id, part, {q: ids for q, ids in asks.items() if ids})


def price_of(prices: Prices, searches: int) -> float:
    return prices.of("search", calls=searches)
