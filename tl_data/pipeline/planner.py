"""Before anything is paid: how much, how long, what for, and what will be refused."""

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

REFUSALS = 1_000  # that a plan names one by one; it counts them all
LOOKS = 4  # looks in flight for each call that may be: they ask the videos' own servers, mostly


async def make_plan(session: Session, job: Job, progress: Progress, stop: asyncio.Event) -> Plan:
    """VideoStatus at every video of the source and add up what the job would take."""
    began = time.monotonic()
    lake = Lake(job.folder, job.format)
    prices = prices_of(job, session)
    names, index_id = wanted(job), await known_index(session)  # a wrong key is told before what it leads to
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
        raise Cancelled("the plan was interrupted; nothing was paid and nothing written")
    found.refused.sort(key=lambda refusal: refusal.source_key)
    found.seconds, found.limits_told = await _at_the_limits(session, found)
    return found


def _count(plan: Plan, video: VideoStatus, contents: set[str]) -> None:
    """Add a video. Of several with the same bytes (`contents` holds their keys) only one will be paid for."""
    if video.error is not None:
        told = refusal(video, video.error)
        plan.codes[told.code] = plan.codes.get(told.code, 0) + 1
        if len(plan.refused) < REFUSALS:
            plan.refused.append(told)
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
    plan.unmeasured += video.state in ("new", "attached") and video.seconds is None
    for analysis in video.analyses:
        plan.bill.add("analyze", analysis.seconds)
        plan.output_tokens_at_most += analysis.tokens
    for output, error in video.output_errors.items():
        told = refusal(video, error, output)
        plan.codes[told.code] = plan.codes.get(told.code, 0) + 1
        if len(plan.refused) < REFUSALS:
            plan.refused.append(told)


def refusal(video: VideoStatus, error: TLDataError, output: str | None = None) -> Refusal:
    """What is wrong with a video or one of its outputs, as a record."""
    failure = Failure.of(error)
    code = failure.code or failure.kind
    return Refusal(
        next(iter(video.item.keys)),
        redacted(video.item.url),  # it is printed and logged: what signs it is a secret
        failure.kind,
        code,
        failure.message,
        failure.retryable,
        output,
        failure_name(output, code) not in video.item.failures,
    )


async def known_index(session: Session) -> str | None:
    """The id of the session's index; None when there is none yet."""
    try:
        return await session.index_id()
    except NotFound as missing:
        if missing.http_status is not None:  # the list of indexes itself is not there: another address
            raise
        return None


def prices_of(job: Job, session: Session) -> Prices:
    """The job's price list. The embedded engine costs nothing, unless a list was named."""
    import os

    if session.embedded and not job.prices and not os.environ.get("TL_PRICES"):
        return Prices.free()
    return Prices.load(job.prices)


async def _at_the_limits(session: Session, plan: Plan) -> tuple[float | None, datetime | None]:
    """Seconds that the limits force, whatever the speed of the platform; and when the service told them.

    Requests a minute that are set take the place of what was told. The API counts indexing and analysis
    apart, and a run does both at once: the longest decides. None: no limit is known.
    """
    settings, storage = session.settings, session.ledger.storage
    memory, budget = LimitStore(storage, settings), Budget(storage, settings.base_url or SERVICE_URL)
    set_ = {dimension: getattr(settings, name) for name, (dimension, _) in PER_MINUTE.items()}
    now, seconds, heard = time.time(), list[float](), list[float]()
    for operation in ("index", "analyze"):
        units = plan.bill.operations.get(operation, Units())
        costs = {"requests": float(units.calls), "minutes": units.video_minutes}
        if operation == "analyze":  # what the limiter sets aside; the service counts what is really written
            costs["tokens"] = float(units.calls * EXPECTED_TOKENS)
        for name, (dimension, length) in PER_MINUTE.items():
            if dimension in costs and (amount := getattr(settings, name)):
                seconds.append(costs[dimension] / amount * length)
        for dimension, allowance in quota_windows(quota_settings(settings), operation, budget):
            if dimension in costs:
                seconds.append((await allowance.snapshot()).seconds(costs[dimension], now))
        for dimension, told in (await memory.read(operation)).items():
            if dimension in costs and dimension != "tokens" and not set_.get(dimension):
                seconds.append(told.seconds(costs[dimension], now))
                heard.append(told.at)
    as_told = datetime.fromtimestamp(min(heard), UTC) if heard else None
    return max(seconds, default=None), as_told
