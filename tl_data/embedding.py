"""The vectors of a video that is in no index: by an embedding task of its own, made once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tl_data.errors import NotFound, TaskFailed
from tl_data.identity import identify
from tl_data.orphans import embedding_task, marked_name, source_of
from tl_data.records import Call, Doubt
from tl_data.types import VECTORS
from tl_data.usage import current

if TYPE_CHECKING:
    from tl_data.session import Session

Json = dict[str, Any]

SCHEMA = pa.schema(list(VECTORS.value_type))  # of the rows as the ledger keeps them


async def embed_video(session: Session, video: str, given: Mapping[str, Any]) -> list[Json]:
    """The vectors of a URL or path, as rows of type `types.VECTORS`.

    Args:
        given: the API's own parameters of an embedding task; none of them None.

    Raises:
        MediaRefused, TaskFailed, APIError: as for `Session.index_video`.
    """
    client, ledger = session.client, session.ledger
    identity = await identify(client, video)
    model = current().model = session.embed_model
    call = Call("embed_video", identity.content_key, given, model, content=identity.canonical)
    models = {model} | ({session.models.search} if session.models else set())

    async def send() -> str:
        name = marked_name(video, call.key)
        minutes = await _minutes(session, video, given)
        source = source_of(video)
        return await client.create_embed_task(model, **source, filename=name, video_minutes=minutes, **given)

    async def find() -> str | Doubt | None:
        return await embedding_task(client, session.watcher, ledger, call, video, models)

    entry = await ledger.submit(call, send, find)
    if entry.state == "done":
        known = entry.result  # a list in ledgers of earlier versions
        return list(known.to_pylist() if isinstance(known, pa.Table) else known)
    try:
        task = await session.watcher.wait_embed(str(entry.task_id))
    except (TaskFailed, NotFound) as failed:
        await ledger.fail(call, failed)
        raise
    rows = pa.Table.from_pylist(segments(task), SCHEMA)  # a fifth of what they take as text
    minutes = max(rows["end_sec"].to_pylist(), default=0.0) / 60
    await ledger.finish(call, rows, video_minutes=minutes)
    if not entry.reused:
        current().video_minutes += minutes
    return list(rows.to_pylist())


async def _minutes(session: Session, video: str, given: Mapping[str, Any]) -> float:
    """Minutes of video that a task is about, as far as a limit needs them."""
    start, end = given.get("video_start_offset_sec"), given.get("video_end_offset_sec")
    if start is not None and end is not None:
        return float(end - start) / 60
    return await session.header_seconds(video) / 60


def segments(video: Mapping[str, Any]) -> list[Json]:
    """The embedding segments of a video or an embedding task, as rows of type `types.VECTORS`."""
    block = (video.get("embedding") or video).get("video_embedding") or {}
    return vector_rows(block.get("segments") or [])


def vector_rows(segments: Iterable[Mapping[str, Any]]) -> list[Json]:
    """Segments of the API's answers about vectors, as rows of type `types.VECTORS`."""
    return [
        {
            "start_sec": s.get("start_offset_sec"),
            "end_sec": s.get("end_offset_sec"),
            "embedding_scope": s.get("embedding_scope"),
            "embedding_option": s.get("embedding_option"),
            "vector": s["float"],
        }
        for s in segments
    ]
