"""The listings of the API as tables. Importing this module fills `catalog.TABLES`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import orjson
import pyarrow as pa

from tl_data.catalog import table
from tl_data.client.responses import seconds_of
from tl_data.errors import SchemaMismatch
from tl_data.session import Session
from tl_data.types import COUNT, JSON, NUMBER, TEXT, TEXTS, TIME

Pages = AsyncIterator[list[dict[str, Any]]]

#: Rows a record batch: one page of the API at its largest.
PAGE = 50
PAGING = ("page", "page_limit", "sort_by", "sort_option")  # of the list itself, never of metadata

INDEXES = pa.schema(
    [
        ("index_id", TEXT),
        ("index_name", TEXT),
        ("models", TEXTS),
        ("video_count", COUNT),
        ("total_duration_sec", NUMBER),
        ("created_at", TIME),
        ("updated_at", TIME),
        ("expires_at", TIME),
    ]
)
VIDEOS = pa.schema(
    [
        ("video_id", TEXT),
        ("index_id", TEXT),
        ("filename", TEXT),
        ("duration_sec", NUMBER),
        ("width", COUNT),
        ("height", COUNT),
        ("fps", NUMBER),
        ("size_bytes", COUNT),
        ("user_metadata", JSON),
        ("created_at", TIME),
        ("updated_at", TIME),
        ("indexed_at", TIME),
    ]
)
TASKS = pa.schema(
    [
        ("task_id", TEXT),
        ("index_id", TEXT),
        ("video_id", TEXT),
        ("status", TEXT),
        ("filename", TEXT),
        ("duration_sec", NUMBER),
        ("created_at", TIME),
        ("updated_at", TIME),
    ]
)
EMBED_TASKS = pa.schema([("task_id", TEXT), ("model_name", TEXT), ("status", TEXT), ("created_at", TIME)])


@table(INDEXES, index_name=TEXT, model_family=TEXT, created_at=TEXT, updated_at=TEXT, example={})
async def indexes(
    tl: Session,
    index_name: str | None = None,
    model_family: str | None = None,
    created_at: str | None = None,
    updated_at: str | None = None,
) -> Pages:
    """The indexes of the account, newest first.

    Args:
        index_name: only the index of this name.
        model_family: only indexes with a model of this family: marengo, pegasus.
        created_at: only those created at or after this time (RFC 3339).
        updated_at: only those changed at or after this time (RFC 3339).
    """
    found = tl.client.list_indexes(
        index_name=index_name, model_family=model_family, created_at=created_at, updated_at=updated_at
    )
    async for page in _paged(found):
        yield [
            {
                "index_id": i["_id"],
                "index_name": i.get("index_name"),
                "models": [m.get("model_name") for m in i.get("models") or []],
                "video_count": i.get("video_count"),
                "total_duration_sec": i.get("total_duration"),
                **_times(i, "created_at", "updated_at", "expires_at"),
            }
            for i in page
        ]


@table(
    VIDEOS,
    index_id=TEXT,
    filename=TEXT,
    created_at=TEXT,
    updated_at=TEXT,
    metadata_filter=JSON,
    example={"index_id": "demo"},
)
async def videos(
    tl: Session,
    index_id: str | None = None,
    filename: str | None = None,
    created_at: str | None = None,
    updated_at: str | None = None,
    metadata_filter: str | None = None,
) -> Pages:
    """The ready videos of an index, newest first.

    Args:
        index_id: name or id of the index; NULL is the session's index.
        filename: only videos of this file name.
        created_at: only those created at or after this time (RFC 3339).
        updated_at: only those changed at or after this time (RFC 3339).
        metadata_filter: JSON object of system or user metadata, such as {"team": "news", "width": 1280}.
    """
    more = _metadata(metadata_filter)
    index = await tl.index_id(index_id)
    found = tl.client.list_videos(
        index, filename=filename, created_at=created_at, updated_at=updated_at, filters=more
    )
    async for page in _paged(found):
        for v in page:
            tl.lengths.keep(v["_id"], seconds_of(v))
        yield [
            {
                "video_id": v["_id"],
                "index_id": index,
                "filename": (facts := v.get("system_metadata") or {}).get("filename"),
                "duration_sec": facts.get("duration"),
                "width": facts.get("width"),
                "height": facts.get("height"),
                "fps": facts.get("fps"),
                "size_bytes": facts.get("size"),
                "user_metadata": orjson.dumps(v["user_metadata"]).decode()
                if v.get("user_metadata")
                else None,
                **_times(v, "created_at", "updated_at", "indexed_at"),
            }
            for v in page
        ]


@table(TASKS, index_id=TEXT, status=TEXTS, created_at=TEXT, updated_at=TEXT, example={"index_id": "demo"})
async def tasks(
    tl: Session,
    index_id: str | None = None,
    status: list[str] | None = None,
    created_at: str | None = None,
    updated_at: str | None = None,
) -> Pages:
    """The indexing tasks of the account, newest first.

    Args:
        index_id: name or id of an index; NULL is all of them.
        status: only these: validating, pending, queued, indexing, ready, failed.
        created_at: only those created at or after this time (RFC 3339).
        updated_at: only those changed at or after this time (RFC 3339).
    """
    index = await tl.index_id(index_id) if index_id else None
    found = tl.client.list_tasks(index_id=index, status=status, created_at=created_at, updated_at=updated_at)
    async for page in _paged(found):
        yield [
            {
                "task_id": t["_id"],
                "index_id": t.get("index_id"),
                "video_id": t.get("video_id"),
                "status": t.get("status"),
                "filename": (t.get("system_metadata") or {}).get("filename"),
                "duration_sec": (t.get("system_metadata") or {}).get("duration"),
                **_times(t, "created_at", "updated_at"),
            }
            for t in page
        ]


@table(EMBED_TASKS, status=TEXT, started_at=TEXT, ended_at=TEXT, example={})
async def embed_tasks(
    tl: Session, status: str | None = None, started_at: str | None = None, ended_at: str | None = None
) -> Pages:
    """The embedding tasks of the account, newest first; the last seven days unless told otherwise.

    Args:
        status: only these: processing, ready, failed.
        started_at: only those created at or after this time (RFC 3339).
        ended_at: only those created at or before this time (RFC 3339).
    """
    found = tl.client.list_embed_tasks(status=status, started_at=started_at, ended_at=ended_at)
    async for page in _paged(found):
        yield [
            {
                "task_id": t["_id"],
                "model_name": t.get("model_name"),
                "status": t.get("status"),
                **_times(t, "created_at"),
            }
            for t in page
        ]


def _metadata(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        metadata = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise SchemaMismatch(f"metadata_filter is not JSON: {error}") from error
    if not isinstance(metadata, dict):
        raise SchemaMismatch('metadata_filter must be a JSON object, such as {"team": "news"}')
    if taken := [name for name in PAGING if name in metadata]:
        raise SchemaMismatch(
            f"metadata_filter cannot ask for {taken[0]}: the API takes this name for the pages of the list. "
            "Leave it out, and filter the rows by user_metadata instead"
        )
    return metadata


async def _paged(items: AsyncIterator[dict[str, Any]]) -> Pages:
    page: list[dict[str, Any]] = []
    async for item in items:
        page.append(item)
        if len(page) == PAGE:
            yield page
            page = []
    if page:
        yield page


def _times(item: dict[str, Any], *names: str) -> dict[str, datetime | None]:
    return {n: datetime.fromisoformat(item[n]) if item.get(n) else None for n in names}
