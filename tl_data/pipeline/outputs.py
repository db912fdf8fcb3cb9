"""What a job makes of an indexed video: rows of the tables, by the functions of the catalog."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from tl_data import catalog
from tl_data.lake.base import Group, rows_of
from tl_data.lake.schemas import CHAPTERS, CLIPS, SUMMARIES, TABLES, VECTORS
from tl_data.ledger.models import Call
from tl_data.pipeline.job import Job
from tl_data.session import Session
from tl_data.usage import receipt

Json = dict[str, Any]

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


async def make(session: Session, names: Sequence[str], record: Mapping[str, Any]) -> dict[str, pa.Table]:
    """Make these outputs of an indexed video: rows by table. What they cost is in the ledger.

    Raises:
        TLDataError: the first that goes wrong; what was paid for is in the ledger.
    """
    made: dict[str, pa.Table] = {}
    video_id = str(record["video_id"])

    async def ask(name: str, **arguments: Any) -> Any:
        function = catalog.FUNCTIONS[name]
        given = function.arguments({"video": video_id, "index_id": record["index_id"], **arguments})
        with receipt():  # counts the tokens of this call alone
            return await function.run(session, **given)

    if "clips" in names:
        model: Json = {"video_id": video_id, "model": session.vectors_by}
        made["clips"] = rows_of(CLIPS, [{**model, **_without(c, "vector")} for c in await ask("clips")])
    if "vectors" in names:
        made["vectors"] = _vectors(session, video_id, await ask("video_vectors"))
    if "chapters" in names:
        model = {"video_id": video_id, "model": session.texts_by}
        made["chapters"] = rows_of(CHAPTERS, [{**model, **c} for c in await ask("chapters")])
    if prompts := prompts_of(names):
        gist = await ask("gist")
        rows = [
            {
                "video_id": video_id,
                "prompt": prompt,
                "summary": await ask("summarize", prompt=prompt or None),
                **gist,
                "model": session.texts_by,
                "at": datetime.now(UTC),
            }
            for prompt in prompts
        ]
        made["summaries"] = rows_of(SUMMARIES, rows)
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


def _without(row: Mapping[str, Any], name: str) -> Json:
    return {n: v for n, v in row.items() if n != name}
