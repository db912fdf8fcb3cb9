"""Rows of `videos` and `errors`, one per source key of a video."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from tl_data.errors import TLDataError
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import VIDEOS
from tl_data.ledger.models import Failure
from tl_data.pipeline.inspect import VideoStatus, is_current
from tl_data.pipeline.report import Refusal

TOGETHER = 2_000  # rows per commit
FACTS = ("index_id", "task_id", "status", "duration_sec", "width", "height", "fps", "size_bytes")


def video_rows(
    video: VideoStatus, record: Mapping[str, Any], model: str, made: Collection[str], job: str
) -> list[dict[str, Any]]:
    """Rows of `videos` for a finished video.

    Args:
        record: of the indexed video, as `types.VIDEO`.
        made: names of its outputs in the tables.
    """
    assert video.identity is not None
    return [
        {
            "source_key": key,
            "url": video.item.urls.get(key, video.item.url),
            "canonical_url": video.item.canonical,
            "content_key": video.identity.content_key,
            "video_id": record.get("video_id"),
            **{name: record.get(name) for name in FACTS},
            "model": model,
            "made": sorted({*made, *video.kept, *_made_before(video, key, model)}),
            "indexed_at": _indexed_at(video, key),
            "asset_id": record.get("asset_id"),
            "job": job,
        }
        for key in video.item.keys
    ]


def error_rows(video: VideoStatus, refusal: Refusal, error: TLDataError) -> list[dict[str, Any]]:
    """Rows of `errors` for a refused or failed video, or an output of it."""
    failure = Failure.of(error)
    return [
        {
            "source_key": key,
            "url": video.item.urls.get(key, video.item.url),
            "class": refusal.kind,
            "code": refusal.code,
            "message": refusal.message,
            "retryable": refusal.retryable,
            "http_status": failure.http_status,
            "request_id": failure.request_id,
            "attempt": video.item.attempts.get(key, 0) + 1,
            "content_key": video.identity.content_key if video.identity else None,
            "output": refusal.output,
            "failed_at": datetime.now(UTC),
        }
        for key in video.item.keys
    ]


def forget_lost(lake: Lake, lost: Collection[str]) -> None:
    """Remove outputs whose table was deleted from `videos.made`, before the table is created again.

    They are then created as missing outputs, from the ledger, also if the run is killed in between.
    """
    rows = lake.read(VIDEOS)
    before = [made or [] for made in rows.column("made").to_pylist()]
    after = [[name for name in made if name.partition(":")[0] not in lost] for made in before]
    changed = [at for at, made in enumerate(after) if made != before[at]]
    column = rows.schema.get_field_index("made")
    rows = rows.set_column(column, rows.schema.field(column), pa.array(after, rows.schema.field(column).type))
    for start in range(0, len(changed), TOGETHER):
        lake.table(VIDEOS).replace_groups(rows.take(changed[start : start + TOGETHER]))


def mark_removed(lake: Lake, keys: Collection[str], at: datetime | None, job: str) -> None:
    """Set `removed_at` of rows; None: the source lists them, and they are of this job."""
    rows, wanted = lake.read(VIDEOS), set(keys)
    chosen = [n for n, key in enumerate(rows.column("source_key").to_pylist()) if key in wanted]
    for start in range(0, len(chosen), TOGETHER):
        part = rows.take(chosen[start : start + TOGETHER])
        changes: dict[str, list[Any]] = {"removed_at": [at] * part.num_rows}
        if at is None:
            changes["job"] = [job] * part.num_rows
        for name, values in changes.items():
            field = part.schema.field(name)
            part = part.set_column(part.schema.get_field_index(name), field, pa.array(values, field.type))
        lake.table(VIDEOS).replace_groups(part)


def _made_before(video: VideoStatus, key: str, model: str) -> tuple[str, ...]:
    """Outputs of an earlier job in the tables, of the same content by the same model."""
    row = video.item.keys[key]
    assert video.identity is not None
    return row.made if row and is_current(row, video.identity, model) else ()


def _indexed_at(video: VideoStatus, key: str) -> datetime:
    """The time of indexing: now, or for new vectors of a known video the original time."""
    row = video.item.keys[key]
    return (video.kept_of and row and row.indexed_at) or datetime.now(UTC)
