"""Creates the outputs of a video, as rows of the tables. One request reads its clips and vectors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from tl_data.analysis import VideoRef
from tl_data.errors import (
    LakeError,
    LedgerError,
    NotAllowed,
    NotFound,
    QuotaExhausted,
    SchemaMismatch,
    SettingsError,
    TLDataError,
)
from tl_data.functions.embed import segments
from tl_data.functions.index import clip_rows
from tl_data.lake.base import Group, rows_of
from tl_data.lake.schemas import CLIPS, FRAMES, TABLES, TEXT_TABLES, VECTORS
from tl_data.ledger.models import Unreadable
from tl_data.media.frames import frames_of
from tl_data.pipeline.job import Job
from tl_data.pipeline.texts import Texts
from tl_data.session import Session

Json = dict[str, Any]

#: Errors that concern all videos. They stop a run, because every further video would fail too.
FATAL = (NotAllowed, QuotaExhausted, LedgerError, LakeError, SchemaMismatch, SettingsError)


def output_names(job: Job) -> tuple[str, ...]:
    """The names of the outputs of a job. The name of a summary includes its prompt."""
    names = []
    for table in job.tables:
        names += [f"summaries:{prompt}" for prompt in job.prompts] if table == "summaries" else [table]
    return tuple(names)


def is_text(name: str) -> bool:
    """Whether an output is a text: summaries, chapters, highlights or annotations.

    Texts come from analyses. They do not depend on the model of vectors, and may need no index.
    """
    return name.partition(":")[0] in (table.name for table in TEXT_TABLES)


def replace_ids(rows: pa.Table, video_id: str, content_key: str) -> pa.Table:
    """The rows of a video with another video id and content key."""
    for name, value in (("video_id", video_id), ("content_key", content_key)):
        values = pa.array([value] * rows.num_rows, pa.string())
        rows = rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), values)
    return rows


def groups(
    names: Iterable[str], video_id: str | None, content_key: str | None = None
) -> dict[str, list[Group]]:
    """The keys of the row groups that these outputs of a video have, by table.

    Texts are grouped by the content of the video. Rows of the previous release have `video:` and the video's
    id instead of the content key.
    """
    by_table: dict[str, list[Group]] = {}
    keys = [key for key in (content_key, f"video:{video_id}" if video_id else None) if key]
    for name in names:
        if name.startswith("summaries:"):
            prompt = name.removeprefix("summaries:")
            by_table.setdefault("summaries", []).extend((key, prompt) for key in keys)
        elif is_text(name):
            by_table[name] = [(key,) for key in keys]
        elif name in TABLES and video_id:
            by_table[name] = [(video_id,)]
    return by_table


@dataclass
class CreatedOutputs:
    """The created outputs of one video, and the errors of failed ones."""

    tables: dict[str, pa.Table] = field(default_factory=dict)  # rows by table
    names: list[str] = field(default_factory=list)  # the created outputs
    failures: dict[str, TLDataError] = field(default_factory=dict)  # by output

    def add(self, name: str, rows: pa.Table) -> None:
        """Add the rows of an output."""
        self.names.append(name)
        table = name.partition(":")[0]
        before = self.tables.get(table)
        self.tables[table] = rows if before is None else pa.concat_tables([before, rows])


#: Reads a video in its index by one request, with `embedding_option` and `transcription` as arguments.
#: Returns the record of the video and the API's answer.
Read = Callable[..., Awaitable[tuple[Json, Json]]]


async def make_texts(
    session: Session,
    names: Sequence[str],
    video: VideoRef,
    created: CreatedOutputs,
    slots: asyncio.Semaphore,
) -> None:
    """Create the texts among these outputs of a video. Their cost is recorded in the ledger.

    A failed output does not affect the others.

    Args:
        video: a reference with all known identifiers.
        created: receives the rows.
        slots: limits the concurrent calls. Analyses by tasks take no slot: they only wait, and more waiting
            tasks make larger batches.

    Raises:
        TLDataError: an error that does not concern this video alone: one of FATAL.
    """
    if (texts := Texts.of(names)) is None:
        return
    try:
        at_once = await session.client.account_generation() == "2025"
        async with slots if at_once else nullcontext():
            tables, errors = await texts.make(session, video)
    except FATAL:
        raise
    except TLDataError as failed:
        tables, errors = {}, dict.fromkeys(texts.outputs, failed)
    for error in errors.values():
        if isinstance(error, FATAL) and not isinstance(error, Unreadable):
            raise error
    created.failures |= errors
    for name, table in tables.items():
        created.add(name, table)


async def make_from_index(
    session: Session,
    names: Sequence[str],
    record: Json,
    read: Read,
    source: str,
    created: CreatedOutputs,
    slots: asyncio.Semaphore,
) -> Json:
    """Create the clips, vectors and frames among these outputs of an indexed video.

    One request reads clips and vectors, so they fail together, and frames with them. Failed frames do not
    affect the other outputs.

    Args:
        record: the record of the video of type `types.VIDEO`; it may lack fields.
        source: path or URL of the video, from which frames are read.
        created: receives the rows.
        slots: limits the concurrent calls.

    Returns:
        The complete record of the video.

    Raises:
        NotFound: the video is no longer in the index.
        TLDataError: an error that does not concern this video alone: one of FATAL.
    """
    index_id, options = str(record["index_id"]), dict[str, Any]()
    if "vectors" in names:
        options["embedding_option"] = await session.index_vectors(index_id)
    if "clips" in names:
        visual = session.embedding_option("visual")
        options["embedding_option"] = list(dict.fromkeys([visual, *options.get("embedding_option", ())]))
        options["transcription"] = True
    try:
        async with slots:
            record, answer = await read(**options)
    except (NotFound, *FATAL):
        raise
    except TLDataError as error:
        index_outputs = [name for name in names if not is_text(name)]
        if not index_outputs:
            raise
        created.failures |= dict.fromkeys(index_outputs, error)
        return record
    video_id = str(record["video_id"])
    if "clips" in names:
        key = {"video_id": video_id, "model": session.vectors_by}
        clips = clip_rows(answer, session.embedding_option("visual"))
        created.add("clips", rows_of(CLIPS, [{**key, **_without_links(clip)} for clip in clips]))
    if "vectors" in names:
        created.add("vectors", _vectors(session, video_id, segments(answer)))
    if "frames" in names:
        async with slots:
            try:
                pictures = await asyncio.to_thread(frames_of, source, record.get("duration_sec"))
                created.add("frames", rows_of(FRAMES, [{"video_id": video_id, **p} for p in pictures]))
            except FATAL:
                raise
            except TLDataError as error:
                created.failures["frames"] = error
    return record


def _vectors(session: Session, video_id: str, segments: list[Json]) -> pa.Table:
    # float32 saves memory: a run holds the vectors of many videos until it writes them.
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


def _without_links(clip: Mapping[str, Any]) -> Json:
    """A clip as a row, without its vector and without the thumbnail's URL, which expires after an hour."""
    return {n: v for n, v in clip.items() if n not in ("vector", "thumbnail_url")}
