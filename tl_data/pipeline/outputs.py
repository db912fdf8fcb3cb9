"""The outputs of a video: rows of the tables, created by the functions of the catalog."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from tl_data import catalog
from tl_data.errors import (
    LakeError,
    LedgerError,
    NotAllowed,
    QuotaExhausted,
    SchemaMismatch,
    SettingsError,
    TLDataError,
)
from tl_data.lake.base import Group, rows_of
from tl_data.lake.schemas import CLIPS, FRAMES, SUMMARIES, TABLES, VECTORS
from tl_data.ledger.models import Unreadable
from tl_data.media.frames import frames_of
from tl_data.media.identity import Identity
from tl_data.pipeline.job import Job
from tl_data.pipeline.texts import Texts, ref_of
from tl_data.session import Session
from tl_data.usage import receipt

Json = dict[str, Any]

#: Errors that concern all videos: to continue would only add rows to `errors`.
FATAL = (NotAllowed, QuotaExhausted, LedgerError, LakeError, SchemaMismatch, SettingsError)


def wanted(job: Job) -> tuple[str, ...]:
    """The names of the outputs of a job. The name of a summary includes its prompt."""
    names = []
    for table in job.tables:
        names += [f"summaries:{prompt}" for prompt in job.prompts] if table == "summaries" else [table]
    return tuple(names)


def is_text(name: str) -> bool:
    """Whether an output is a text, which does not depend on the model of vectors."""
    return name == "chapters" or name.startswith("summaries:")


def passed_over(rows: pa.Table, video_id: str, content_key: str) -> pa.Table:
    """The rows of a video, changed to another id of the same content."""
    for name, value in (("video_id", video_id), ("content_key", content_key)):
        values = pa.array([value] * rows.num_rows, pa.string())
        rows = rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), values)
    return rows


def groups(
    names: Iterable[str], video_id: str | None, content_key: str | None = None
) -> dict[str, list[Group]]:
    """The groups of the rows of these outputs, by table. Texts are grouped by content.

    Rows of the previous release have the video's id instead of the content's key.
    """
    found: dict[str, list[Group]] = {}
    keys = [key for key in (content_key, f"video:{video_id}" if video_id else None) if key]
    for name in names:
        if name.startswith("summaries:"):
            prompt = name.removeprefix("summaries:")
            found.setdefault("summaries", []).extend((key, prompt) for key in keys)
        elif name == "chapters":
            found["chapters"] = [(key,) for key in keys]
        elif name in TABLES and video_id:
            found[name] = [(video_id,)]
    return found


@dataclass
class Made:
    """The created outputs of one video, and the failed ones."""

    tables: dict[str, pa.Table] = field(default_factory=dict)  # rows by table
    names: list[str] = field(default_factory=list)  # the created outputs
    failures: dict[str, TLDataError] = field(default_factory=dict)  # by output

    def add(self, name: str, rows: pa.Table) -> None:
        """Add the rows of an output."""
        self.names.append(name)
        table = name.partition(":")[0]
        before = self.tables.get(table)
        self.tables[table] = rows if before is None else pa.concat_tables([before, rows])


async def make(
    session: Session,
    names: Sequence[str],
    record: Mapping[str, Any],
    source: str,
    identity: Identity,
    lane: asyncio.Semaphore,
) -> Made:
    """Create outputs of a video: rows by table. The ledger has their cost.

    A failed output does not affect the others.

    Args:
        record: of the indexed video, as `types.VIDEO`; without `video_id` only texts can be made.
        source: path or URL of the video, for its pictures.
        lane: limits the concurrent calls. Analyses by tasks are not counted: they only wait, and more waiting
            tasks make larger batches.

    Raises:
        TLDataError: an error that is not specific to this video: `guardrails.FATAL`.
    """
    made = Made()
    video_id = str(record.get("video_id"))

    async def ask(name: str, **arguments: Any) -> Any:
        function = catalog.FUNCTIONS[name]
        given = function.arguments({"video": video_id, "index_id": record["index_id"], **arguments})
        with receipt():  # counts the tokens of this call alone
            return await function.run(session, **given)

    async def attempt(name: str, rows: Callable[[], Awaitable[pa.Table]]) -> None:
        try:
            found = await rows()
        except Unreadable as error:  # a damaged ledger record of this call alone
            made.failures[name] = error
            return
        except FATAL:
            raise
        except TLDataError as error:
            made.failures[name] = error
            return
        made.add(name, found)

    async def clips() -> pa.Table:
        model = {"video_id": video_id, "model": session.vectors_by}
        return rows_of(CLIPS, [{**model, **_kept(clip)} for clip in await ask("clips")])

    async def vectors() -> pa.Table:
        return _vectors(session, video_id, await ask("video_vectors"))

    async def frames() -> pa.Table:
        pictures = await asyncio.to_thread(frames_of, source, record.get("duration_sec"))
        return rows_of(FRAMES, [{"video_id": video_id, **picture} for picture in pictures])

    async def summary(prompt: str) -> pa.Table:
        gist = await ask("gist")  # paid once for all prompts, through the ledger
        row = {
            "video_id": video_id,
            "prompt": prompt,
            "summary": await ask("summarize", prompt=prompt or None),
            **gist,
            "model": session.texts_by,
            "made_at": datetime.now(UTC),
        }
        return rows_of(SUMMARIES, [row])

    for name, rows in (("clips", clips), ("vectors", vectors), ("frames", frames)):
        if name in names:
            async with lane:
                await attempt(name, rows)
    if (texts := Texts.of(names)) is None:
        return made
    known = {"content_key": identity.content_key, "canonical": identity.canonical}
    try:
        ref = await ref_of(session, record, source, **known)
        at_once = await session.client.account_generation() == "2025"
        async with lane if at_once else nullcontext():
            found, errors = await texts.make(session, ref)
    except FATAL:
        raise
    except TLDataError as failed:
        found, errors = {}, dict.fromkeys(texts.outputs, failed)
    for error in errors.values():
        if isinstance(error, FATAL) and not isinstance(error, Unreadable):
            raise error
    made.failures |= errors
    for name, table in found.items():
        made.add(name, table)
    return made


def _vectors(session: Session, video_id: str, segments: list[Json]) -> pa.Table:
    # Converted to float32 here: a run keeps the vectors of many videos until it writes them.
    rows = [
        {
            "video_id": video_id,
            "model": session.vectors_by,
            "dimension": len(segment["vector"]),
            **segment,
            "vector": pa.array(segment["vector"], pa.float32()),
        }
        for segment in segments
    ]
    return rows_of(VECTORS, rows)


def _kept(clip: Mapping[str, Any]) -> Json:
    """A clip as a row, without the link to its thumbnail, which expires after an hour."""
    return {n: v for n, v in clip.items() if n not in ("vector", "thumbnail_url")}
