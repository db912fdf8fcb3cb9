"""Finds the state of a video before anything is paid, from the tables, the ledger and the file's header.

If the header shows that the platform would refuse a file, this refusal is cached, so that later runs do not
read the file again. The cache has one small object per content, in the ledger's storage. The name of the
object includes the model's limits and the version of this package, so that a video is inspected again with
another model, release or file. The cache is only read for videos in the table `errors`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, Literal

import orjson

from tl_data._version import __version__
from tl_data.analysis import VideoRef
from tl_data.client.assets import DIRECT
from tl_data.errors import APIError, LedgerError, MediaRefused, MissingExtra, TLDataError
from tl_data.ledger.models import Call, Unreadable
from tl_data.ledger.recovery import lost_indexing
from tl_data.media.identity import Identity, Remote, is_url
from tl_data.media.preflight import Limits, facts_of, limits_of, refusal
from tl_data.models import SEARCH_MODEL, text_model
from tl_data.object_store import Storage
from tl_data.pipeline.outputs import is_text
from tl_data.pipeline.texts import Analysis, Texts
from tl_data.pipeline.worklist import KnownVideo, SourceVideo
from tl_data.session import Session

log = logging.getLogger("tl_data.ledger")


async def cached_refusal(storage: Storage, identity: Identity, limits: Limits | None) -> MediaRefused | None:
    """The cached refusal of a content; None if there is none.

    Raises:
        LedgerError: the cache cannot be read.
    """
    body = await storage.read(_path(identity, limits))
    if body is None:
        return None
    try:
        record = orjson.loads(body)
        return MediaRefused(str(record["message"]), str(record["code"]))
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None


async def cache_refusal(
    storage: Storage, identity: Identity, limits: Limits | None, error: MediaRefused
) -> None:
    """Cache the refusal of a content. If it cannot be written, the next run inspects the file again."""
    record = {"message": str(error.args[0]), "code": error.code, "canonical": identity.canonical}
    try:
        await storage.write(_path(identity, limits), orjson.dumps(record))
    except LedgerError as ledger_error:
        log.info("a refusal could not be cached: %s", ledger_error)


def _path(identity: Identity, limits: Limits | None) -> str:
    """The name of the object that caches a refusal."""
    key = sha256(f"{identity.content_key} {limits} {__version__}".encode()).hexdigest()[:32]
    return f"refused/{key[:2]}/{key}"


#: unchanged: the tables have all outputs. known: the tables lack outputs, but it is indexed already, or it
#: needs only texts that are paid. attached: an earlier run submitted it, and its task is not collected. new:
#: to index, or to analyze without an index. refused: it cannot be processed.
State = Literal["unchanged", "known", "attached", "new", "refused"]


@dataclass
class VideoStatus:
    """The state of a distinct video, and the work that it needs."""

    item: SourceVideo
    state: State
    identity: Identity | None = None
    seconds: float | None = None  # length reported by the platform, else by the header
    record: Mapping[str, Any] | None = None  # record of an indexed video, of type `types.VIDEO`
    needed: tuple[str, ...] = ()  # outputs that are missing in the tables
    analyses: list[Analysis] = field(default_factory=list)  # analyses that are not paid yet
    indexing: bool = True  # whether it needs an index; an account of today needs none for texts alone
    needs_asset: bool = False  # whether an asset is created from it first, for its index or for analyses
    requests: int = 0  # number of requests about this video alone; polls and batches are shared
    output_errors: dict[str, TLDataError] = field(default_factory=dict)  # outputs with a final refusal
    kept: tuple[str, ...] = ()  # in a refresh: outputs to keep from the same content's old video
    kept_of: str | None = None  # the video id of this old video
    error: TLDataError | None = None
    header_refusal: MediaRefused | None = None  # the refusal of the file because of its header
    service_refusal: MediaRefused | None = None  # the embedded engine accepts it, the service would not


async def inspect_video(
    session: Session,
    index_id: str | None,
    names: tuple[str, ...],
    item: SourceVideo,
    *,
    measure: bool,
    refresh: bool = False,
    record: bool = True,
) -> VideoStatus:
    """Inspect one video without paying.

    Args:
        index_id: the index; None if it does not exist yet.
        names: the outputs of the job.
        measure: whether to read length and size of a new video from its header, and refuse it if they exceed
            a limit. A video that needs no index is always measured.
        refresh: whether to replace vectors of another model; summaries and chapters are kept.
        record: whether to write a new content key to the ledger's storage; False for a plan, which writes
            nothing.

    Raises:
        LedgerError: the ledger cannot be read.
        APIError: the platform cannot be used, for a reason that does not concern this video.
    """
    if item.error:
        return VideoStatus(item, "refused", error=item.error)
    try:
        identity = await session.identify(item.location, record=record)
    except (MediaRefused, APIError) as error:
        return VideoStatus(item, "refused", error=error)
    rows = list(item.keys.values())
    current = [row for row in rows if row and is_current(row, identity, session.vectors_by)]
    kept: tuple[str, ...] = ()
    kept_of: str | None = None
    if len(current) < len(rows):
        needed = names
        if refresh:
            needed, kept, kept_of = _refreshed(names, rows, identity, session.vectors_by)
    else:
        needed = tuple(name for name in names if not all(name in row.made for row in current))
        if not needed:
            return VideoStatus(item, "unchanged", identity)
        if any(row.video_id is None for row in current) and not all(map(is_text, needed)):
            needed = names  # all outputs, so that the rows of paid texts get the id of the indexed video
    remote, identity = identity.remote, replace(identity, remote=None)  # a signature is not kept
    video = VideoStatus(item, "new", identity, needed=needed, kept=kept, kept_of=kept_of)
    await _state_of(session, video, index_id, measure, remote)
    if video.error is None:
        await _count_requests(session, video)
    return video


async def _state_of(
    session: Session, video: VideoStatus, index_id: str | None, measure: bool, remote: Remote | None
) -> None:
    """Add the state by ledger and header to a video of which the tables lack outputs."""
    assert video.identity is not None
    if index_id is not None:
        try:
            await _apply_ledger(session, video, index_id, session.index_call(video.identity, index_id))
        except Unreadable as error:
            video.state, video.error = "refused", error
        if video.state == "known" or video.error:
            return
    video.indexing = any(not is_text(name) for name in video.needed) or (
        await session.client.account_generation() == "2025"
    )
    if measure or not video.indexing:
        await _measure(session, video, remote)
    if video.error is None:
        await _count_analyses(session, video)
        if not (video.indexing or video.analyses):
            video.state = "known"  # all of its texts are paid, by SQL or another job


async def _count_requests(session: Session, video: VideoStatus) -> None:
    """Count the requests about this video alone, and decide whether it becomes an asset."""
    assert video.identity is not None
    reads_index = bool({"clips", "vectors"}.intersection(video.needed))
    analyses, today = len(video.analyses), await session.client.account_generation() == "today"
    batched = await session.batches_texts()
    if video.state == "known":
        video.requests = int(reads_index)
        if analyses and today and video.indexing and not (video.record or {}).get("asset_id"):
            video.requests += 1  # to look up its asset
    elif video.state == "attached":
        video.requests = 2  # to poll the task, and to read the indexed video
    elif video.indexing:
        video.needs_asset = await session.indexes_assets(video.item.location)
        video.requests = 2
    else:
        video.needs_asset = bool(analyses) and (batched or not await session.is_fetched(video.item.location))
    if video.needs_asset:
        video.requests += await _asset_requests(session, video.item.location, video.identity)
    if not batched:
        video.requests += analyses * (
            2 if today else 1
        )  # today a task and its result, else one synchronous call


async def _asset_requests(session: Session, video: str, identity: Identity) -> int:
    """The number of requests that create the asset of a video; 0 if the ledger has it."""
    entry = await session.ledger.get(session.asset_call(identity))
    if entry is not None and entry.state in ("submitted", "done"):
        return 0
    if await session.is_fetched(video) or (identity.size_bytes or 0) <= DIRECT:
        return 1
    return 3  # of an upload in parts: begin, look up, complete; very large files take more


def is_current(row: KnownVideo | None, identity: Identity, model: str) -> bool:
    """Whether a row of `videos` is about this content and this model."""
    return row is not None and (row.content_key, row.model) == (identity.content_key, model)


def _refreshed(
    names: tuple[str, ...], rows: list[KnownVideo | None], identity: Identity, model: str
) -> tuple[tuple[str, ...], tuple[str, ...], str | None]:
    """Split the outputs of a video that has vectors of another model.

    Returns:
        The outputs to create, the outputs to keep, and the id of the old video; None without an old video.
    """
    old = [r for r in rows if r and r.content_key == identity.content_key and r.model != model]
    if not old:
        return names, (), None
    made = {name for row in old if row.video_id == old[0].video_id for name in row.made}
    kept = tuple(sorted(name for name in made if is_text(name)))
    # Outputs of earlier jobs are created again, because their rows are deleted with the old video's id.
    return tuple(dict.fromkeys(n for n in (*names, *sorted(made)) if n not in kept)), kept, old[0].video_id


async def _apply_ledger(session: Session, video: VideoStatus, index_id: str, call: Call) -> None:
    """Set the state of the video from its record in the ledger, if there is one."""
    entry = await session.ledger.get(call)
    if entry is None:
        return
    if entry.state == "claimed":
        # The claiming process may have been killed between sending and recording: ask the platform.
        if await lost_indexing(session.client, None, index_id, call.key) is not None:
            video.state = "attached"
        return
    if entry.state == "failed":
        if entry.failure and not entry.failure.retryable:
            video.state, video.error = "refused", entry.failure.exception(call.key)
        return
    if entry.state == "submitted":
        video.state = "attached"
        return
    video.state, video.record = "known", entry.record("video_id", "index_id")
    video.seconds = video.record.get("duration_sec")
    await _count_analyses(session, video)


async def _count_analyses(session: Session, video: VideoStatus) -> None:
    """Set the unpaid analyses of the video's texts, and its outputs with a final refusal."""
    if (texts := Texts.of(video.needed)) is None or video.identity is None:
        return
    ref = ref_of(video, {**(video.record or {}), "duration_sec": video.seconds})
    video.analyses, video.output_errors = await texts.missing(session, ref)


def ref_of(video: VideoStatus, record: Mapping[str, Any]) -> VideoRef:
    """A reference with all identifiers of a video: those of its record, its URL, and the ids that the tables
    have for the same content.
    """
    assert video.identity is not None
    key, url = video.identity.content_key, video.item.location
    rows = [row for row in video.item.keys.values() if row and row.content_key == key]
    return VideoRef.of(
        record,
        url=url if is_url(url) else None,
        content_key=key,
        canonical=video.identity.canonical,
        former_ids=tuple(dict.fromkeys(row.video_id for row in rows if row.video_id)),
    )


async def _measure(session: Session, video: VideoStatus, remote: Remote | None) -> None:
    """Read length and size from the file's header, and refuse a video that the platform would refuse."""
    limits = _limits(session, video)
    refused: TLDataError | None = None
    if video.item.attempts and video.state == "new" and video.identity is not None:
        refused = await cached_refusal(session.ledger.storage, video.identity, limits)
    if refused is None:
        try:
            facts = await facts_of(session.client, video.item.location, remote)
            video.seconds = facts.duration_sec
            refused = refusal(facts, limits) if limits else None
            if session.models is not None and (service_limits := limits_of(SEARCH_MODEL)):
                video.service_refusal = refusal(facts, service_limits)
        except (MediaRefused, APIError) as error:
            refused = error
        except MissingExtra:
            return  # the package that reads headers is not installed: the platform checks the file
        except Exception as error:  # a malformed header must not stop other videos
            log.warning("%s: reading its header failed", video.item.canonical, exc_info=True)
            refused = MediaRefused(f"its header cannot be read ({type(error).__name__}: {error})")
        if isinstance(refused, MediaRefused) and not (refused.code or "").startswith("video_url"):
            video.header_refusal = refused
    if refused and video.state == "new":
        video.state, video.error = "refused", refused


async def cache_header_refusal(session: Session, video: VideoStatus) -> None:
    """Cache the refusal of a file because of its header, for the next run."""
    if video.header_refusal is not None and video.identity is not None:
        limits = _limits(session, video)
        await cache_refusal(session.ledger.storage, video.identity, limits, video.header_refusal)


def _limits(session: Session, video: VideoStatus) -> Limits | None:
    """The limits of the models that process the video.

    On an account of today an index has only a search model, so a video that is too long for texts still gets
    clips.
    """
    if session.models is not None or session.client.generation == "2025":
        return limits_of(session.search_model, session.analyze_model)
    if video.indexing:
        return limits_of(session.search_model)
    limits, model = limits_of(session.analyze_model), text_model(session.analyze_model)
    if limits is not None and model is not None and model.windows:
        return replace(limits, longest_sec=model.windowed_sec)  # a long video is analyzed in windows
    return limits
