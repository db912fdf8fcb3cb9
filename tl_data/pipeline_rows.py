"""The rows of `videos` and `errors`: what is said of a video, once for each source key that means it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from tl_data.looking import Look, is_current
from tl_data.records import Failure
from tl_data.report import Refusal

FACTS = ("index_id", "task_id", "status", "duration_sec", "width", "height", "fps", "size_bytes")


def video_rows(
    here: Look, record: Mapping[str, Any], model: str, names: Sequence[str]
) -> list[dict[str, Any]]:
    """Rows of `videos` for a video that is in.

    Args:
        record: of the indexed video, as `types.VIDEO`.
        names: of the outputs that the job wants, all of which are made.
    """
    assert here.identity is not None
    return [
        {
            "source_key": key,
            "url": here.item.url,
            "canonical_url": here.item.canonical,
            "content_key": here.identity.content_key,
            "video_id": str(record["video_id"]),
            **{name: record.get(name) for name in FACTS},
            "model": model,
            "made": sorted({*names, *here.needed, *here.kept, *_made_before(here, key, model)}),
            "indexed_at": _indexed_at(here, key),
        }
        for key in here.item.keys
    ]


def error_rows(here: Look, told: Refusal) -> list[dict[str, Any]]:
    """Rows of `errors` for a video that was refused or failed."""
    assert here.error is not None
    failure = Failure.of(here.error)
    return [
        {
            "source_key": key,
            "url": here.item.url,
            "class": told.kind,
            "code": told.code,
            "message": told.message,
            "retryable": told.retryable,
            "http_status": failure.http_status,
            "request_id": failure.request_id,
            "attempt": here.item.attempts.get(key, 0) + 1,
            "content_key": here.identity.content_key if here.identity else None,
            "at": datetime.now(UTC),
        }
        for key in here.item.keys
    ]


def _made_before(here: Look, key: str, model: str) -> tuple[str, ...]:
    """Outputs of an earlier job that are in the tables still: the same content by the same model."""
    row = here.item.keys[key]
    assert here.identity is not None
    return row.made if row and is_current(row, here.identity, model) else ()


def _indexed_at(here: Look, key: str) -> datetime:
    """Now; of a video that is only embedded anew, when it first came in."""
    row = here.item.keys[key]
    return (here.kept_of and row and row.indexed_at) or datetime.now(UTC)
