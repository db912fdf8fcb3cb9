"""Makes plans: the work, time and cost of a run, and the videos that it will refuse."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

from tl_data.billing import Prices, Units
from tl_data.client.analyze import EXPECTED_TOKENS
from tl_data.errors import Cancelled, TLDataError
from tl_data.lake.lake import Lake
from tl_data.ledger.models import Failure
from tl_data.pipeline.inspect import VideoStatus, inspect_video
from tl_data.pipeline.job import Job
from tl_data.pipeline.model_check import check_index_model, check_table_models
from tl_data.pipeline.outputs import output_names
from tl_data.pipeline.progress import Progress, Step
from tl_data.pipeline.report import Plan, VideoFailure
from tl_data.pipeline.worklist import SourceVideo, Worklist, failure_name
from tl_data.ratelimit.limiter import PER_MINUTE, quota_settings, quota_windows
from tl_data.ratelimit.reported import LimitStore
from tl_data.ratelimit.shared import SharedLimits
from tl_data.runtime.concurrency import in_parallel
from tl_data.session import Session
from tl_data.settings import SERVICE_URL
from tl_data.urls import redacted

MAX_REFUSALS = 1_000  # a plan lists so many refusals, and counts all
#: Concurrent inspections per concurrent call. Most inspections wait for the servers of the files.
INSPECTIONS_PER_CALL = 4


async def make_plan(session: Session, job: Job, progress: Progress, interrupt: asyncio.Event) -> Plan:
    """Inspect every video of the source and add up the work of the job."""
    began = time.monotonic()
    lake = Lake(job.folder, job.format)
    prices = prices_of(job, session)
    names, index_id = output_names(job), await session.find_index()  # an invalid API key fails here
    await asyncio.to_thread(check_table_models, lake, job, session, prices)
    await check_index_model(session, index_id)
    source = await asyncio.to_thread(Worklist, job, lake)
    result = Plan(job.name, source.rows, source.distinct, prices)
    inspected, contents = 0, set[str]()

    async def inspect(item: SourceVideo) -> None:
        nonlocal inspected
        video = await inspect_video(
            session, index_id, names, item, measure=True, refresh=job.refresh, record=False
        )
        _count(result, video, contents)
        if job.alerts and video.identity and video.error is None and video.state != "unchanged":
            result.upcoming |= dict.fromkeys(item.keys, video.identity.content_key)
        inspected += 1
        progress(
            Step(
                "inspecting",
                inspected,
                source.distinct,
                result.video_minutes,
                result.refused_count,
                result.price,
                prices.currency,
                time.monotonic() - began,
                None,
            )
        )

    width = session.settings.concurrency * INSPECTIONS_PER_CALL
    result.removed = len(source.unlisted()) if job.removed != "keep" else 0
    with source:
        completed = await in_parallel(
            source.items(), inspect, width=width, drain=asyncio.Event(), cancel=interrupt
        )
    if not completed:
        raise Cancelled("the plan was interrupted; nothing was paid or written")
    result.refused.sort(key=lambda failure: failure.source_key)
    result.seconds, result.limits_reported = await _time_by_limits(session, result)
    return result


def _count(plan: Plan, video: VideoStatus, contents: set[str]) -> None:
    """Add the work of a video to a plan. Of several videos with the same content only one is paid.

    Args:
        contents: the keys of the contents that the plan has so far; the key of this video is added.
    """
    if video.error is not None:
        refused = video_failure(video, video.error)
        plan.codes[refused.code] = plan.codes.get(refused.code, 0) + 1
        if len(plan.refused) < MAX_REFUSALS:
            plan.refused.append(refused)
        return
    plan.refreshed += video.kept_of is not None
    if video.identity and video.state != "unchanged":
        if video.identity.content_key in contents:
            plan.known += 1
            return
        contents.add(video.identity.content_key)
        if likely := video.identity.likely:
            plan.likely_copies += likely in contents
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
    if video.service_refusal is not None and video.state == "new":
        note = video_failure(video, video.service_refusal)
        plan.service_codes[note.code] = plan.service_codes.get(note.code, 0) + 1
        if len(plan.service_refused) < MAX_REFUSALS:
            plan.service_refused.append(note)
    plan.requests += video.requests
    plan.unmeasured += video.state in ("new", "attached") and video.seconds is None
    for analysis in video.analyses:
        plan.bill.add("analyze", analysis.seconds)
        plan.output_tokens_at_most += analysis.tokens
    for output, error in video.output_errors.items():
        refused = video_failure(video, error, output)
        plan.codes[refused.code] = plan.codes.get(refused.code, 0) + 1
        if len(plan.refused) < MAX_REFUSALS:
            plan.refused.append(refused)


def video_failure(video: VideoStatus, error: TLDataError, output: str | None = None) -> VideoFailure:
    """The error of a video or of one of its outputs, as a record."""
    failure = Failure.of(error)
    code = failure.code or failure.kind
    return VideoFailure(
        next(iter(video.item.keys)),
        redacted(video.item.url),  # without its signature, because it is printed and logged
        failure.kind,
        code,
        failure.message,
        failure.retryable,
        output,
        failure_name(output, code) not in video.item.failures,
    )


def prices_of(job: Job, session: Session) -> Prices:
    """The price list of the job. The embedded engine is free unless a price list is configured."""
    import os

    if session.embedded and not job.prices and not os.environ.get("TL_PRICES"):
        return Prices.free()
    return Prices.load(job.prices)


async def _time_by_limits(session: Session, plan: Plan) -> tuple[float | None, datetime | None]:
    """The shortest time in seconds that the rate limits allow, and when the service reported these limits.

    Configured limits per minute override reported ones. The API limits indexing and analysis separately, and
    a run does both concurrently, so the longer time counts. The time is None if no limit is known.
    """
    settings, storage = session.settings, session.ledger.storage
    reported = LimitStore(storage, settings)
    shared = SharedLimits(storage, settings.base_url or SERVICE_URL)
    configured = {dimension: getattr(settings, name) for name, (dimension, _) in PER_MINUTE.items()}
    now, seconds, reported_at = time.time(), list[float](), list[float]()
    for operation in ("index", "analyze"):
        units = plan.bill.operations.get(operation, Units())
        costs = {"requests": float(units.calls), "minutes": units.video_minutes}
        if operation == "analyze":  # the limiter reserves the most tokens; the service counts the actual ones
            costs["tokens"] = float(units.calls * EXPECTED_TOKENS)
        for name, (dimension, length) in PER_MINUTE.items():
            if dimension in costs and (amount := getattr(settings, name)):
                seconds.append(costs[dimension] / amount * length)
        for dimension, allowance in quota_windows(quota_settings(settings), operation, shared):
            if dimension in costs:
                seconds.append((await allowance.snapshot()).seconds(costs[dimension], now))
        for dimension, snapshot in (await reported.read(operation)).items():
            if dimension in costs and dimension != "tokens" and not configured.get(dimension):
                seconds.append(snapshot.seconds(costs[dimension], now))
                reported_at.append(snapshot.at)
    oldest = datetime.fromtimestamp(min(reported_at), UTC) if reported_at else None
    return max(seconds, default=None), oldest
