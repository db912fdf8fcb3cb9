"""What is known of a video before anything is paid: from the tables, the ledger and the file's headers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tl_data.errors import APIError, MediaRefused, MissingExtra, TLDataError
from tl_data.identity import Identity, identify
from tl_data.lake import Lake
from tl_data.lake_tables import ERRORS, VIDEOS
from tl_data.outputs import analyses
from tl_data.records import Call, Unreadable
from tl_data.session import Session
from tl_data.source import Item

State = Literal["unchanged", "known", "attached", "new", "refused"]


@dataclass(frozen=True)
class Row:
    """What the table `videos` says of a source key."""

    content_key: str
    video_id: str
    model: str
    made: tuple[str, ...]


@dataclass
class Past:
    """What the tables hold from earlier runs."""

    videos: dict[str, Row] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)  # of the keys in `errors`

    @classmethod
    def read(cls, lake: Lake) -> Past:
        """Read what concerns the next run."""
        past = cls()
        same: dict[tuple[str, ...], tuple[str, ...]] = {}  # most videos have the same outputs
        columns = ["source_key", "content_key", "video_id", "model", "made"]
        for batch in lake.read(VIDEOS, columns).to_batches():
            for row in batch.to_pylist():
                made = tuple(row["made"] or ())
                past.videos[row["source_key"]] = Row(
                    row["content_key"], row["video_id"], row["model"], same.setdefault(made, made)
                )
        for row in lake.read(ERRORS, ["source_key", "attempt"]).to_pylist():
            past.attempts[row["source_key"]] = row["attempt"] or 0
        return past


@dataclass
class Look:
    """A distinct video and what would have to be done for it."""

    item: Item
    state: State
    identity: Identity | None = None
    seconds: float | None = None  # length: the platform's word, or else the header's
    record: Mapping[str, Any] | None = None  # of an indexed video, as `types.VIDEO`
    needed: tuple[str, ...] = ()  # outputs that the tables do not have
    asked: int = 0  # analyses that have not been paid for
    error: TLDataError | None = None


async def look(
    session: Session, index_id: str | None, past: Past, names: tuple[str, ...], item: Item, *, measure: bool
) -> Look:
    """Find out about one video without paying.

    Args:
        index_id: of the index it would go into; None when there is no such index yet.
        names: of the outputs that the job wants.
        measure: whether to read the length and size of a new video from its headers, which may refuse it.

    Raises:
        LedgerError: the ledger cannot be read.
        APIError: the platform cannot be used, whatever the video.
    """
    if item.fault:
        return Look(item, "refused", error=item.fault)
    try:
        identity = await identify(session.client, item.video)
    except (MediaRefused, APIError) as error:
        return Look(item, "refused", error=error)
    needed = _needed(past, item, identity, names, session.search_model)
    if not needed and all(key in past.videos for key in item.keys):
        return Look(item, "unchanged", identity)
    here = Look(item, "new", identity, needed=needed)
    if index_id is not None:
        try:
            await _remember(session, here, session.index_call(identity, index_id))
        except Unreadable as error:
            return Look(item, "refused", identity, error=error)
        if here.state == "known" or here.error:
            return here
    here.asked = len(analyses(session, needed, ""))
    if measure:
        await _measure(session, here)
    return here


def _needed(
    past: Past, item: Item, identity: Identity, names: tuple[str, ...], model: str
) -> tuple[str, ...]:
    """The outputs that some of the item's keys lack: all of them, when the content or the model is new."""
    rows = [past.videos.get(key) for key in item.keys]
    current = [
        set(row.made) if row and row.content_key == identity.content_key and row.model == model else set()
        for row in rows
    ]
    return tuple(name for name in names if not all(name in made for made in current))


async def _remember(session: Session, here: Look, call: Call) -> None:
    """Add what the ledger knows of the video."""
    entry = await session.ledger.get(call)
    if entry is None or entry.state == "claimed":
        return
    if entry.state == "failed":
        if entry.failure and not entry.failure.retryable:
            here.state, here.error = "refused", entry.failure.exception(call.key)
        return
    if entry.state == "submitted":
        here.state = "attached"
        return
    here.state, here.record = "known", entry.result
    here.seconds = entry.result.get("duration_sec")
    paid = [await session.ledger.get(c) for c in analyses(session, here.needed, entry.result["video_id"])]
    here.asked = sum(1 for known in paid if known is None or known.state != "done")


async def _measure(session: Session, here: Look) -> None:
    """Read length and size from the container's header, and refuse what the platform would refuse."""
    from tl_data.preflight import facts_of, limits_of, refusal

    refused: TLDataError | None = None
    try:
        facts = await facts_of(session.client, here.item.video)
        limits = limits_of(session.search_model, session.analyze_model)
        if facts is not None:
            here.seconds = facts.duration_sec
            refused = refusal(facts, limits) if limits else None
    except (MediaRefused, APIError) as error:
        refused = error
    except MissingExtra:
        return  # without the package that reads headers, the platform's own check has to do
    if refused and here.state == "new":
        here.state, here.error = "refused", refused
