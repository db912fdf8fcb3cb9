"""Videos whose own headers spoke against them: remembered, so that the same bytes are not read every night.

One small object beside the ledger for each content that was refused, under the limits it was measured by and
the version that measured it: another model, another release or another file is looked at anew. It is only
asked for a video that is in the table `errors`; what is not there costs nothing more.

What is known of a video before anything is paid: from the tables, the ledger and the file's headers.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal

import orjson

from tl_data._version import __version__
from tl_data.analysis import VideoRef
from tl_data.errors import APIError, LedgerError, MediaRefused, MissingExtra, TLDataError
from tl_data.ledger.models import Call, Unreadable
from tl_data.ledger.recovery import indexing_task
from tl_data.media.identity import Identity
from tl_data.media.preflight import Limits, facts_of, limits_of, refusal
from tl_data.object_store import Storage
from tl_data.pipeline.outputs import is_text
from tl_data.pipeline.texts import Analysis, Texts
from tl_data.pipeline.worklist import KnownVideo, SourceVideo
from tl_data.session import Session

log = logging.getLogger("tl_data.ledger")


async def refused_before(storage: Storage, identity: Identity, limits: Limits | None) -> MediaRefused | None:
    """How this content was refused when its headers were read; None when nothing is known.

    Raises:
        LedgerError: the place cannot be read.
    """
    body = await storage.read(_path(identity, limits))
    if body is None:
        return None
    try:
        said = orjson.loads(body)
        return MediaRefused(str(said["message"]), str(said["code"]))
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None


async def remember_refusal(
    storage: Storage, identity: Identity, limits: Limits | None, error: MediaRefused
) -> None:
    """Note how a content was refused. What cannot be noted is found out again."""
    said = {"message": str(error.args[0]), "code": error.code, "canonical": identity.canonical}
    try:
        await storage.write(_path(identity, limits), orjson.dumps(said))
    except LedgerError as trouble:
        log.info("a refusal could not be noted: %s", trouble)


def _path(identity: Identity, limits: Limits | None) -> str:
    key = sha256(f"{identity.content_key} {limits} {__version__}".encode()).hexdigest()[:32]
    return f"refused/{key[:2]}/{key}"


State = Literal["unchanged", "known", "attached", "new", "refused"]


@dataclass
class VideoStatus:
    """A distinct video and what would have to be done for it."""

    item: SourceVideo
    state: State
    identity: Identity | None = None
    seconds: float | None = None  # length: the platform's word, or else the header's
    record: Mapping[str, Any] | None = None  # of an indexed video, as `types.VIDEO`
    needed: tuple[str, ...] = ()  # outputs that the tables do not have
    analyses: list[Analysis] = field(default_factory=list)  # that have not been paid for
    indexing: bool = True  # whether it is to be in the index; texts alone need none on an account of today
    output_errors: dict[str, TLDataError] = field(default_factory=dict)  # outputs that are refused for good
    kept: tuple[str, ...] = ()  # outputs that pass over from the same content by another model
    kept_of: str | None = None  # the id of that video
    error: TLDataError | None = None
    by_header: MediaRefused | None = None  # how the header that was just read spoke against it


async def inspect_video(
    session: Session,
    index_id: str | None,
    names: tuple[str, ...],
    item: SourceVideo,
    *,
    measure: bool,
    refresh: bool = False,
    claim: bool = True,
) -> VideoStatus:
    """Find out about one video without paying.

    Args:
        index_id: of the index it would go into; None when there is no such index yet.
        names: of the outputs that the job wants.
        measure: whether to read the length and size of a new video from its headers, which may refuse it.
        refresh: whether what another model made of the same content is made anew, as far as a model of
            embeddings matters: summaries and chapters are kept.
        claim: whether a new content gets its key in the ledger; a plan writes nothing.

    Raises:
        LedgerError: the ledger cannot be read.
        APIError: the platform cannot be used, whatever the video.
    """
    if item.fault:
        return VideoStatus(item, "refused", error=item.fault)
    try:
        identity = await session.identify(item.video, claim=claim)
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
            needed = names  # its texts, which are paid for, get the id of the indexed video
    video = VideoStatus(item, "new", identity, needed=needed, kept=kept, kept_of=kept_of)
    if index_id is not None:
        try:
            await _remember(session, video, index_id, session.index_call(identity, index_id))
        except Unreadable as error:
            return VideoStatus(item, "refused", identity, error=error)
        if video.state == "known" or video.error:
            return video
    video.indexing = any(not is_text(name) for name in needed) or (
        await session.client.account_generation() == "2025"
    )
    if measure or not video.indexing:
        await _measure(session, video)
    if video.error is None:
        await _count_analyses(session, video)
        if not (video.indexing or video.analyses):
            video.state = "known"  # SQL or another job paid for all of its texts
    return video


def is_current(row: KnownVideo | None, identity: Identity, model: str) -> bool:
    """Whether the tables have this very content by this model."""
    return row is not None and (row.content_key, row.model) == (identity.content_key, model)


def _refreshed(
    names: tuple[str, ...], rows: list[KnownVideo | None], identity: Identity, model: str
) -> tuple[tuple[str, ...], tuple[str, ...], str | None]:
    """What to make anew of a video that another model embedded, what to keep of it, and its id."""
    old = [r for r in rows if r and r.content_key == identity.content_key and r.model != model]
    if not old:
        return names, (), None
    made = {name for row in old if row.video_id == old[0].video_id for name in row.made}
    kept = tuple(sorted(name for name in made if is_text(name)))
    # What earlier jobs made and this one does not ask for would be lost with the old video's id.
    return tuple(dict.fromkeys(n for n in (*names, *sorted(made)) if n not in kept)), kept, old[0].video_id


async def _remember(session: Session, video: VideoStatus, index_id: str, call: Call) -> None:
    """Add what the ledger knows of the video."""
    entry = await session.ledger.get(call)
    if entry is None:
        return
    if entry.state == "claimed":
        # Its owner may have been stopped between sending and writing it down: the platform knows.
        if await indexing_task(session.client, None, index_id, call.key) is not None:
            video.state = "attached"
        return
    if entry.state == "failed":
        if entry.failure and not entry.failure.retryable:
            video.state, video.error = "refused", entry.failure.exception(call.key)
        return
    if entry.state == "submitted":
        video.state = "attached"
        return
    video.state, video.record = "known", entry.result
    video.seconds = entry.result.get("duration_sec")
    await _count_analyses(session, video)


async def _count_analyses(session: Session, video: VideoStatus) -> None:
    """Find out which analyses its texts still take, and which of them are refused for good."""
    if (texts := Texts.of(video.needed)) is None or video.identity is None:
        return
    identity, names = video.identity, ("video_id", "index_id", "asset_id")
    ref = VideoRef(
        **{name: (video.record or {}).get(name) for name in names},
        content_key=identity.content_key,
        canonical=identity.canonical,
        duration_sec=video.seconds,
    )
    video.analyses, video.output_errors = await texts.missing(session, ref)


async def _measure(session: Session, video: VideoStatus) -> None:
    """Read length and size from the container's header, and refuse what the platform would refuse."""
    limits = _limits(session, video)
    refused: TLDataError | None = None
    if video.item.attempts and video.state == "new" and video.identity is not None:
        refused = await refused_before(session.ledger.storage, video.identity, limits)
    if refused is None:
        try:
            facts = await facts_of(session.client, video.item.video)
            video.seconds = facts.duration_sec
            refused = refusal(facts, limits) if limits else None
        except (MediaRefused, APIError) as error:
            refused = error
        except MissingExtra:
            return  # without the package that reads headers, the platform's own check has to do
        except Exception as error:  # a header may hold anything, and must stop no other video
            log.warning("%s: reading its header failed", video.item.canonical, exc_info=True)
            refused = MediaRefused(f"its header cannot be read ({type(error).__name__}: {error})")
        by_header = isinstance(refused, MediaRefused) and not (refused.code or "").startswith("video_url")
        video.by_header = refused if by_header and isinstance(refused, MediaRefused) else None
    if refused and video.state == "new":
        video.state, video.error = "refused", refused


async def note_refusal(session: Session, video: VideoStatus) -> None:
    """Keep for the next run what the header said against a video."""
    if video.by_header is not None and video.identity is not None:
        limits = _limits(session, video)
        await remember_refusal(session.ledger.storage, video.identity, limits, video.by_header)


def _limits(session: Session, video: VideoStatus) -> Limits | None:
    """What the models take that look at the video. On an account of today the index has a search model alone,
    and a video that is too long for texts has its clips all the same."""
    if session.models is not None or session.client.generation == "2025":
        return limits_of(session.search_model, session.analyze_model)
    return limits_of(session.search_model if video.indexing else session.analyze_model)
