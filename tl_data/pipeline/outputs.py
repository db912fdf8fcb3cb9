"""What a job makes of an indexed video: rows of the tables, by the functions of the catalog."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
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
from tl_data.lake.schemas import CHAPTERS, CLIPS, FRAMES, SUMMARIES, TABLES, VECTORS
from tl_data.ledger.models import Call, Unreadable
from tl_data.media.frames import frames_of
from tl_data.pipeline.job import Job
from tl_data.session import Session
from tl_data.usage import receipt

Json = dict[str, Any]

#: What is wrong with more than one video: going on would only make more rows in `errors`.
FATAL = (NotAllowed, QuotaExhausted, LedgerError, LakeError, SchemaMismatch, SettingsError)

#: Most tokens one analysis writes: the service's own bound (docs, "Pegasus").
MOST_TOKENS = 4096


def wanted(job: Job) -> tuple[str, ...]:
    """Names of the outputs of a job; a summary is named with its prompt."""
    names = []
    for table in job.tables:
        names += [f"summaries:{prompt}" for prompt in job.prompts] if table == "summaries" else [table]
    return tuple(names)


def prompts_of(names: Iterable[str]) -> list[str]:
    """The prompts among the names of outputs."""
    return [name.removeprefix("summaries:") for name in names if name.startswith("summaries:")]


def is_text(name: str) -> bool:
    """Whether an output is text about the video, which no model of embeddings has a part in."""
    return name == "chapters" or name.startswith("summaries:")


def analyses(session: Session, names: Sequence[str], video_id: str) -> list[Call]:
    """The paid calls that these outputs take, as the ledger knows them. An index's own data is free."""
    asked: list[tuple[str, Json]] = [("summary", {"prompt": p} if p else {}) for p in prompts_of(names)]
    asked += [("gist", {})] if asked else []
    asked += [("chapter", {})] if "chapters" in names else []
    return [session.paid_call(operation, video_id, params) for operation, params in asked]


def passed_over(rows: pa.Table, video_id: str) -> pa.Table:
    """Rows about a video as rows about the same content under another id."""
    ids = pa.array([video_id] * rows.num_rows, pa.string())
    return rows.set_column(rows.schema.get_field_index("video_id"), "video_id", ids)


def groups(names: Iterable[str], video_id: str) -> dict[str, list[Group]]:
    """The groups of rows that these outputs of a video are, by table."""
    found: dict[str, list[Group]] = {name: [(video_id,)] for name in names if name in TABLES}
    if prompts := prompts_of(names):
        found["summaries"] = [(video_id, prompt) for prompt in prompts]
    return found


@dataclass
class Made:
    """What came of the outputs of one video."""

    tables: dict[str, pa.Table] = field(default_factory=dict)  # rows by table
    names: list[str] = field(default_factory=list)  # of the outputs that these are
    failures: dict[str, TLDataError] = field(default_factory=dict)  # of the others, by output

    @property
    def stays_out(self) -> bool:
        """Whether nothing at all came of it."""
        return bool(self.failures) and not self.names


async def make(session: Session, names: Sequence[str], record: Mapping[str, Any], source: str) -> Made:
    """Make these outputs of an indexed video: rows by table. What they cost is in the ledger.

    An output that fails keeps none of the others out.

    Args:
        source: path or URL of the video, for its pictures.

    Raises:
        TLDataError: something is wrong that is not this video's: `guardrails.FATAL`.
    """
    made = Made()
    video_id = str(record["video_id"])

    async def ask(name: str, **arguments: Any) -> Any:
        function = catalog.FUNCTIONS[name]
        given = function.arguments({"video": video_id, "index_id": record["index_id"], **arguments})
        with receipt():  # counts the tokens of this call alone
            return await function.run(session, **given)

    async def attempt(name: str, rows: Callable[[], Awaitable[pa.Table]]) -> None:
        try:
            found = await rows()
        except Unreadable as error:  # the ledger's record of this call alone
            made.failures[name] = error
            return
        except FATAL:
            raise
        except TLDataError as error:
            made.failures[name] = error
            return
        made.names.append(name)
        table = name.partition(":")[0]
        before = made.tables.get(table)
        made.tables[table] = found if before is None else pa.concat_tables([before, found])

    async def clips() -> pa.Table:
        model = {"video_id": video_id, "model": session.vectors_by}
        return rows_of(CLIPS, [{**model, **_kept(clip)} for clip in await ask("clips")])

    async def vectors() -> pa.Table:
        return _vectors(session, video_id, await ask("video_vectors"))

    async def chapters() -> pa.Table:
        model = {"video_id": video_id, "model": session.texts_by}
        return rows_of(CHAPTERS, [{**model, **chapter} for chapter in await ask("chapters")])

    async def frames() -> pa.Table:
        pictures = await asyncio.to_thread(frames_of, source, record.get("duration_sec"))
        return rows_of(FRAMES, [{"video_id": video_id, **picture} for picture in pictures])

    async def summary(prompt: str) -> pa.Table:
        gist = await ask("gist")  # paid once for all prompts: the ledger has it
        row = {
            "video_id": video_id,
            "prompt": prompt,
            "summary": await ask("summarize", prompt=prompt or None),
            **gist,
            "model": session.texts_by,
            "made_at": datetime.now(UTC),
        }
        return rows_of(SUMMARIES, [row])

    made_by = (("clips", clips), ("vectors", vectors), ("chapters", chapters), ("frames", frames))
    for name, rows in made_by:
        if name in names:
            await attempt(name, rows)
    for prompt in prompts_of(names):
        await attempt(f"summaries:{prompt}", partial(summary, prompt))
    return made


def _vectors(session: Session, video_id: str, segments: list[Json]) -> pa.Table:
    # As float32 at once: a run holds the vectors of many videos until it writes them.
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
    """What the table keeps of a clip: a link to a thumbnail is signed for an hour and would soon be dead."""
    return {n: v for n, v in clip.items() if n not in ("vector", "thumbnail_url")}
