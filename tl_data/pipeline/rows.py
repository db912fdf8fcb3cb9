"""Makes and changes rows of `videos` and `errors`. A video has one row per source key."""

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
from tl_data.pipeline.job import Job
from tl_data.pipeline.report import VideoFailure
from tl_data.urls import redacted

ROWS_PER_COMMIT = 2_000
#: Columns of `videos` that come unchanged from the record of the indexed video.
RECORD_COLUMNS = ("index_id", "task_id", "status", "duration_sec", "width", "height", "fps", "size_bytes")


def video_rows(
    video: VideoStatus, record: Mapping[str, Any], model: str, made: Collection[str], job: Job
) -> list[dict[str, Any]]:
    """Rows of `videos` for a finished video.

    Args:
        record: the record of the indexed video, of type `types.VIDEO`.
        made: the names of its outputs that the tables have.
    """
    assert video.identity is not None
    canonical = video.item.canonical if job.urls == "given" else redacted(video.item.canonical)
    return [
        {
            "source_key": key,
            "url": video.item.urls.get(key, video.item.url),
            "canonical_url": canonical,
            "content_key": video.identity.content_key,
            "video_id": record.get("video_id"),
            **{name: record.get(name) for name in RECORD_COLUMNS},
            "model": model,
            "made": sorted({*made, *video.kept, *_made_before(video, key, model)}),
            "indexed_at": _indexed_at(video, key),
            "asset_id": record.get("asset_id"),
            "job": job.name,
        }
        for key in video.item.keys
    ]


def error_rows(video: VideoStatus, video_failure: VideoFailure, error: TLDataError) -> list[dict[str, Any]]:
    """Rows of `errors` for a refused or failed video, or for a failed output of it."""
    failure = Failure.of(error)
    return [
        {
            "source_key": key,
            "url": video.item.urls.get(key, video.item.url),
            "class": video_failure.kind,
            "code": video_failure.code,
            "message": video_failure.message,
            "retryable": video_failure.retryable,
            "http_status": failure.http_status,
            "request_id": failure.request_id,
            "attempt": video.item.attempts.get(key, 0) + 1,
            "content_key": video.identity.content_key if video.identity else None,
            "output": video_failure.output,
            "failed_at": datetime.now(UTC),
        }
        for key in video.item.keys
    ]


def unlist_deleted_outputs(lake: Lake, deleted_outputs: Collection[str]) -> None:
    """Remove the outputs of deleted tables from the column `made` of `videos`.

    The run then creates them again from the ledger. This must happen before the tables are created again: if
    the run is killed in between, the next one still finds what to create.

    Args:
        deleted_outputs: the names of the deleted tables.
    """
    rows = lake.read(VIDEOS)
    before = [made or [] for made in rows.column("made").to_pylist()]
    after = [[name for name in made if name.partition(":")[0] not in deleted_outputs] for made in before]
    changed = [number for number, made in enumerate(after) if made != before[number]]
    column = rows.schema.get_field_index("made")
    rows = rows.set_column(column, rows.schema.field(column), pa.array(after, rows.schema.field(column).type))
    for start in range(0, len(changed), ROWS_PER_COMMIT):
        lake.table(VIDEOS).replace_groups(rows.take(changed[start : start + ROWS_PER_COMMIT]))


def mark_removed(lake: Lake, keys: Collection[str], at: datetime | None, job: str) -> None:
    """Set the column `removed_at` of the rows with these source keys.

    Args:
        at: None if the source lists the rows again; they get the name of this job then.
    """
    rows, key_set = lake.read(VIDEOS), set(keys)
    selected = [n for n, key in enumerate(rows.column("source_key").to_pylist()) if key in key_set]
    for start in range(0, len(selected), ROWS_PER_COMMIT):
        part = rows.take(selected[start : start + ROWS_PER_COMMIT])
        changes: dict[str, list[Any]] = {"removed_at": [at] * part.num_rows}
        if at is None:
            changes["job"] = [job] * part.num_rows
        for name, values in changes.items():
            field = part.schema.field(name)
            part = part.set_column(part.schema.get_field_index(name), field, pa.array(values, field.type))
        lake.table(VIDEOS).replace_groups(part)


def _made_before(video: VideoStatus, key: str, model: str) -> tuple[str, ...]:
    """The outputs that the tables have from an earlier job, for the same content and model."""
    row = video.item.keys[key]
    assert video.identity is not None
    return row.made if row and is_current(row, video.identity, model) else ()


def _indexed_at(video: VideoStatus, key: str) -> datetime:
    """The value of `indexed_at`: now, or the former value if only the vectors are replaced."""
    row = video.item.keys[key]
    return (video.kept_of and row and row.indexed_at) or datetime.now(UTC)
