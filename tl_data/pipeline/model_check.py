"""Ensures that the table `vectors` has vectors of one model only.

Vectors of different models are not comparable. A run refuses to add vectors of another model to the table.
With `refresh = true` it replaces the old vectors instead, video by video. The column `model` has the model of
each row, so an interrupted refresh continues where it stopped. An index has a fixed model, so the new vectors
come from another index.
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from tl_data.billing import Bill, Prices
from tl_data.client.local_server import requested_model
from tl_data.errors import SchemaMismatch
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import TABLES, VECTORS, VIDEOS
from tl_data.lake.writer import Commits
from tl_data.models import short_name
from tl_data.pipeline.inspect import VideoStatus
from tl_data.pipeline.job import Job
from tl_data.pipeline.outputs import replace_ids
from tl_data.pipeline.progress import counted
from tl_data.pipeline.worklist import Worklist
from tl_data.session import Session


def check_table_models(lake: Lake, job: Job, session: Session, prices: Prices) -> None:
    """Refuse a job if its table has vectors of another model and the job does not refresh them.

    Raises:
        SchemaMismatch: the table has vectors of another model. The message has the alternatives, and the cost
            of new vectors.
    """
    if job.refresh or "vectors" not in job.tables:
        return
    model = session.vectors_by
    if other := sorted(set(models(lake)) - {model}):
        seconds, bill = lengths(lake), Bill()
        for length in seconds:
            bill.add("index", length)
        raise SchemaMismatch(
            f"the table vectors in {job.folder} has vectors of {', '.join(other)}, and this run would add "
            f"vectors of {model}, which are not comparable with them. To keep the model, set search_model = "
            f"{requested_model(other[0])!r} in [settings]. To replace the vectors, set another index in "
            "[settings] and refresh = true in [outputs]: "
            f"new vectors of the {counted(len(seconds), 'video')} in the tables cost "
            f"{bill.price(prices):.2f} {prices.currency} for {bill.video_minutes:.2f} video minutes. "
            "With these settings, tl-data plan shows the details before you pay"
        )


async def check_index_model(session: Session, index_id: str | None) -> None:
    """Refuse an index of another model, because its vectors would be recorded under the wrong model name.

    Raises:
        SchemaMismatch: the index has another model; the message has the next step.
    """
    if index_id is None:
        return
    index = await session.client.retrieve_index(index_id)
    # The embedded engine returns its own name of a model, and in `requested_as` the requested one.
    values = [m.get(key) for m in index.get("models") or [] for key in ("model_name", "requested_as")]
    names = sorted({name for name in values if name})
    if names and short_name(session.search_model) not in map(short_name, names):
        name = index.get("index_name") or index_id
        if session.models and session.search_model == session.models.search:
            advice = f"Analyze its videos again with the engine's models (tl-data reindex {index_id}), or set"
        else:
            advice = "An index keeps its model: set"
        raise SchemaMismatch(
            f"the index {name} has the model {', '.join(names)}, and the search model of this run is "
            f"{session.search_model}. {advice} another index in [settings], such as "
            f'index = "{name}-{session.search_model}"'
        )


def models(lake: Lake) -> dict[str, set[str]]:
    """The models of the table `vectors`, with the ids of their videos."""
    ids: dict[str, set[str]] = {}
    for batch in lake.batches(VECTORS, ["model", "video_id"]):
        pairs = pa.Table.from_batches([batch]).group_by(["model", "video_id"]).aggregate([])
        for row in pairs.to_pylist():
            ids.setdefault(row["model"], set()).add(row["video_id"])
    return ids


def describe_other_models(lake: Lake, model: str) -> str:
    """A sentence about videos that still have vectors of another model; "" if there are none."""
    other = {name: len(ids) for name, ids in models(lake).items() if name != model}
    if not other:
        return ""
    videos = ", ".join(f"{counted(count, 'video')} of {name}" for name, count in sorted(other.items()))
    return (
        f"the table vectors still has {videos}: they failed (see the table errors), or the source does not "
        "list them. Run again with the table videos as the source to include all"
    )


def lengths(lake: Lake) -> list[float | None]:
    """The length in seconds of each distinct video in the tables, also of those without an index."""
    seconds: dict[str, float | None] = {}
    for batch in lake.batches(VIDEOS, ["video_id", "content_key", "duration_sec"]):
        for row in batch.to_pylist():
            seconds[row["video_id"] or row["content_key"]] = row["duration_sec"]
    return list(seconds.values())


def keep_texts(source: Worklist, commits: Commits, video: VideoStatus, video_id: str | None) -> None:
    """Queue the texts that a refreshed video keeps (summaries, chapters, highlights, annotations), under its
    new id.
    """
    if video.kept_of is None or video.kept_of == video_id or video_id is None or video.identity is None:
        return
    for name in _tables(video.kept):
        rows = replace_ids(source.texts(TABLES[name], video.kept_of), video_id, video.identity.content_key)
        # Not the content key alone: rows of another prompt that this run created may be queued under it.
        commits.add(name, f"{video.identity.content_key} kept", rows)


def _tables(names: Iterable[str]) -> list[str]:
    return sorted({name.partition(":")[0] for name in names})
