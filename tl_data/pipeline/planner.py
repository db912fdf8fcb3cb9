"""Plans: the work, time and cost of a run, and the videos that will be refused."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

from tl_data.billing import Prices, Units
from tl_data.client.analyze import EXPECTED_TOKENS
from tl_data.errors import Cancelled, NotFound, TLDataError
from tl_data.lake.lake import Lake
from tl_data.ledger.models import Failure
from tl_data.pipeline.inspect import VideoStatus, inspect_video
from tl_data.pipeline.job import Job
from tl_data.pipeline.model_check import refuse_index, refuse_mixing
from tl_data.pipeline.outputs import wanted
from tl_data.pipeline.progress import Progress, Step
from tl_data.pipeline.report import Plan, Refusal
from tl_data.pipeline.worklist import SourceVideo, Worklist, failure_name
from tl_data.ratelimit.limiter import PER_MINUTE, quota_settings, quota_windows
from tl_data.ratelimit.reported import LimitStore
from tl_data.ratelimit.shared import Budget
from tl_data.runtime.concurrency import in_parallel
from tl_data.session import Session
from tl_data.settings import SERVICE_URL
from tl_data.urls import redacted

REFUSALS = 1_000  # most refusals that a plan lists; all are counted
LOOKS = 4  # concurrent inspections per concurrent call: most of them wait for the videos' servers


async def make_plan(session: Session, job: Job, progress: Progress, stop: asyncio.Event) -> Plan:
    """Inspect every video of the source and add up the work of the job."""
    began = time.monotonic()
    lake = Lake(job.folder, job.format)
    prices = prices_of(job, session)
    names, index_id = wanted(job), await known_index(session)  # an invalid API key fails here
    await asyncio.to_thread(refuse_mixing, lake, job, session, prices)
    await refuse_index(session, index_id)
    source = await asyncio.to_thread(Worklist, job, lake)
    found = Plan(job.name, source.rows, source.distinct, prices)
    seen, contents = 0, set[str]()

    async def one(item: SourceVideo) -> None:
        nonlocal seen
        video = await inspect_video(
            session, index_id, names, item, measure=True, refresh=job.refresh, claim=False
        )
        _count(found, video, contents)
        if job.alerts and video.identity and video.error is None and video.state != "unchanged":
            found.coming |= dict.fromkeys(item.keys, video.identity.content_key)
        seen += 1
        progress(
            Step(
                "looking",
                seen,
                source.distinct,
                found.video_minutes,
                found.refused_count,
                found.price,
                prices.currency,
                time.monotonic() - began,
                None,
            )
        )

    width = session.settings.concurrency * LOOKS
    found.removed = len(source.gone()) if job.removed != "keep" else 0
    with source:
        all_seen = await in_parallel(source.items(), one, width=width, halt=asyncio.Event(), stop=stop)
    if not all_seen:
        raise Cancelled("the plan was interrupted; nothing was paid or written")
    found.refused.sort(key=lambda refusal: refusal.source_key)
    found.seconds, found.limits_reported = await _at_the_limits(session, found)
    return found


def _count(plan: Plan, video: VideoStatus, contents: set[str]) -> None:
    """Add a video. Of several with the same content (keys in `contents`) only one is paid."""
    if video.error is not None:
        refused = refusal(video, video.error)
        plan.codes[refused.code] = plan.codes.get(refused.code, 0) + 1
        if len(plan.refused) < REFUSALS:
            plan.refused.append(refused)
        return
    plan.refreshed += video.kept_of is not None
    if video.identity and video.state != "unchanged":
        if video.identity.content_key in contents:
            plan.known += 1
            return
        contents.add(video.identity.content_key)
        if likely := video.identity.likely:
            plan.alike += likely in contents
            contents.add(likely)
    match video.state:
        case "unchanged":
            plan.unchanged += 1
        case "known":
            plan.known += 1
        case "attached":
            plan.attached += 1
        case _:
            plan.new += 1
            if video.indexing:
                plan.bill.add("index", video.seconds)
    plan.requests += video.requests
    plan.unmeasured += video.state in ("new", "attached") and video.seconds is None
    for analysis in video.analyses:
        plan.bill.add("analyze", analysis.seconds)
        plan.output_tokens_at_most += analysis.tokens
    for output, error in video.output_errors.items():
        refused = refusal(video, error, output)
        plan.codes[refused.code] = plan.codes.get(refused.code, 0) + 1
        if len(plan.refused) < REFUSALS:
            plan.refused.append(refused)


def refusal(video: VideoStatus, error: TLDataError, output: str | None = None) -> Refusal:
    """The error of a video or of one of its outputs, as a record."""
    failure = Failure.of(error)
    code = failure.code or failure.kind
    return Refusal(
        next(iter(video.item.keys)),
        redacted(video.item.url),  # printed and logged: without its signature
        failure.kind,
        code,
        failure.message,
        failure.retryable,
        output,
        failure_name(output, code) not in video.item.failures,
    )


async def known_index(session: Session) -> str | None:
    """The id of the session's index; None if it does not exist."""
    try:
        return await session.index_id()
    except NotFound as missing:
        if missing.http_status is not None:  # the list of indexes itself is missing: a wrong URL
            raise
        return None


def prices_of(job: Job, session: Session) -> Prices:
    """The price list of the job. The embedded engine is free, unless a list is configured."""
    import os

    if session.embedded and not job.prices and not os.environ.get("TL_PRICES"):
        return Prices.free()
    return Prices.load(job.prices)


async def _at_the_limits(session: Session, plan: Plan) -> tuple[float | None, datetime | None]:
    """The least seconds by the rate limits, and when the service reported them.

    Configured requests per minute override reported ones. The API limits indexing and analysis separately,
    and a run does both concurrently, so the longer time counts. None: no limit is known.
    """
    settings, storage = session.settings, session.ledger.storage
    memory, budget = LimitStore(storage, settings), Budget(storage, settings.base_url or SERVICE_URL)
    set_ = {dimension: getattr(settings, name) for name, (dimension, _) in PER_MINUTE.items()}
    now, seconds, reported_at = time.time(), list[float](), list[float]()
    for operation in ("index", "analyze"):
        units = plan.bill.operations.get(operation, Units())
        costs = {"requests": float(units.calls), "minutes": units.video_minutes}
        if operation == "analyze":  # the limiter reserves the most tokens; the service counts the actual ones
            costs["tokens"] = float(units.calls * EXPECTED_TOKENS)
        for name, (dimension, length) in PER_MINUTE.items():
            if dimension in costs and (amount := getattr(settings, name)):
                seconds.append(costs[dimension] / amount * length)
        for dimension, allowance in quota_windows(quota_settings(settings), operation, budget):
            if dimension in costs:
                seconds.append((await allowance.snapshot()).seconds(costs[dimension], now))
        for dimension, snapshot in (await memory.read(operation)).items():
            if dimension in costs and dimension != "tokens" and not set_.get(dimension):
                seconds.append(snapshot.seconds(costs[dimension], now))
                reported_at.append(snapshot.at)
    oldest = datetime.fromtimestamp(min(reported_at), UTC) if reported_at else None
    return max(seconds, default=None), oldest
