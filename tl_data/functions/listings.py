"""The listings of the API and of files as tables. Importing this module adds them to `catalog.LISTINGS`."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import orjson
import pyarrow as pa

from tl_data.catalog import listing
from tl_data.errors import SchemaMismatch
from tl_data.media.listing import files_below
from tl_data.session import Session
from tl_data.types import COUNT, JSON, NUMBER, TEXT, TEXTS, TIME

Pages = AsyncIterator[list[dict[str, Any]]]

#: Rows per record batch: the largest page of the API.
PAGE = 50
#: Rows per record batch of `files`: the largest page of a bucket.
FILES_PAGE = 1000
#: Query parameters that the API reads as options of the listing, never as fields of metadata.
PAGING = ("page", "page_limit", "sort_by", "sort_option")

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
FILES = pa.schema([("video", TEXT), ("size_bytes", COUNT), ("modified_at", TIME), ("etag", TEXT)])
ASSETS = pa.schema(
    [
        ("asset_id", TEXT),
        ("status", TEXT),
        ("method", TEXT),
        ("filename", TEXT),
        ("file_type", TEXT),
        ("duration_sec", NUMBER),
        ("size_bytes", COUNT),
        ("user_metadata", JSON),
        ("created_at", TIME),
    ]
)
ENTITIES = pa.schema(
    [
        ("entity_id", TEXT),
        ("collection_id", TEXT),
        ("collection_name", TEXT),
        ("name", TEXT),
        ("description", TEXT),
        ("status", TEXT),
        ("asset_ids", TEXTS),
        ("metadata", JSON),
        ("created_at", TIME),
        ("updated_at", TIME),
    ]
)
ANALYZE_TASKS = pa.schema(
    [
        ("task_id", TEXT),
        ("status", TEXT),
        ("custom_id", TEXT),
        ("analysis_mode", TEXT),
        ("video_url", TEXT),
        ("asset_id", TEXT),
        ("duration_sec", NUMBER),
        ("prompt", TEXT),
        ("error_code", TEXT),
        ("error_message", TEXT),
        ("created_at", TIME),
        ("completed_at", TIME),
    ]
)


@listing(INDEXES, index_name=TEXT, model_family=TEXT, created_at=TEXT, updated_at=TEXT, example={})
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
    listed = tl.client.list_indexes(
        index_name=index_name, model_family=model_family, created_at=created_at, updated_at=updated_at
    )
    async for page in _paged(listed):
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


@listing(
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
    filters = _metadata(metadata_filter)
    index = await tl.index_id(index_id)
    listed = tl.client.list_videos(
        index, filename=filename, created_at=created_at, updated_at=updated_at, filters=filters
    )
    async for page in _paged(listed):
        for v in page:
            tl.keep_listed(index, v)
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


@listing(TASKS, index_id=TEXT, status=TEXTS, created_at=TEXT, updated_at=TEXT, example={"index_id": "demo"})
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
    listed = tl.client.list_tasks(index_id=index, status=status, created_at=created_at, updated_at=updated_at)
    async for page in _paged(listed):
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


@listing(EMBED_TASKS, status=TEXT, started_at=TEXT, ended_at=TEXT, example={})
async def embed_tasks(
    tl: Session, status: str | None = None, started_at: str | None = None, ended_at: str | None = None
) -> Pages:
    """The embedding tasks of the account, newest first; by default those of the last seven days.

    Args:
        status: only these: processing, ready, failed.
        started_at: only those created at or after this time (RFC 3339).
        ended_at: only those created at or before this time (RFC 3339).
    """
    listed = tl.client.list_embed_tasks(status=status, started_at=started_at, ended_at=ended_at)
    async for page in _paged(listed):
        yield [
            {
                "task_id": t["_id"],
                "model_name": t.get("model_name"),
                "status": t.get("status"),
                **_times(t, "created_at"),
            }
            for t in page
        ]


@listing(ASSETS, asset_types=TEXTS, filename=TEXT, example={})
async def assets(tl: Session, asset_types: list[str] | None = None, filename: str | None = None) -> Pages:
    """The uploaded files of the account, newest first.

    Args:
        asset_types: only these: video, audio, image, document.
        filename: only those whose name contains this, ignoring case.
    """
    async for page in _paged(tl.client.list_assets(asset_types=asset_types, filename=filename)):
        yield [
            {
                "asset_id": a["_id"],
                "status": a.get("status"),
                "method": a.get("method"),
                "filename": a.get("filename"),
                "file_type": a.get("file_type"),
                "duration_sec": a.get("duration"),
                "size_bytes": a.get("size"),
                "user_metadata": _as_json(a.get("user_metadata")),
                **_times(a, "created_at"),
            }
            for a in page
        ]


@listing(ENTITIES, collection_id=TEXT, name=TEXT, example={})
async def entities(tl: Session, collection_id: str | None = None, name: str | None = None) -> Pages:
    """The entities of the account: people with their pictures. A search text refers to one as `<@entity_id>`.

    To list the clips of each person, search once per entity: `FROM tl_entities() e, LATERAL
    tl_search('demo', '<@' || e.entity_id || '>') c`. A model that ranks without scores returns clips for
    every entity, even if no video shows the person: check the best clips with `tl_filter(c.video_id, ...,
    start_sec => c.start_sec, end_sec => c.end_sec)`.

    Args:
        collection_id: only those of this collection.
        name: only those of this name.
    """
    if collection_id is not None:
        collections = [await tl.client.retrieve_entity_collection(collection_id)]
    else:
        collections = [c async for c in tl.client.list_entity_collections()]
    for collection in collections:
        async for page in _paged(tl.client.list_entities(collection["_id"], name=name)):
            yield [
                {
                    "entity_id": e["_id"],
                    "collection_id": collection["_id"],
                    "collection_name": collection.get("name"),
                    "name": e.get("name"),
                    "description": e.get("description"),
                    "status": e.get("status"),
                    "asset_ids": e.get("asset_ids") or [],
                    "metadata": _as_json(e.get("metadata")),
                    **_times(e, "created_at", "updated_at"),
                }
                for e in page
            ]


@listing(ANALYZE_TASKS, status=TEXT, asset_id=TEXT, video_url=TEXT, analysis_mode=TEXT, example={})
async def analyze_tasks(
    tl: Session,
    status: str | None = None,
    asset_id: str | None = None,
    video_url: str | None = None,
    analysis_mode: str | None = None,
) -> Pages:
    """The analysis tasks of the account, newest first; `custom_id` is the ledger's key.

    Args:
        status: only these: queued, pending, processing, ready, failed, canceled.
        asset_id: only those about this asset.
        video_url: only those about this URL, exactly as it was sent.
        analysis_mode: general or time_based_metadata.
    """
    listed = tl.client.list_analyze_tasks(
        status=status, asset_id=asset_id, video_url=video_url, analysis_mode=analysis_mode
    )
    async for page in _paged(listed):
        yield [analyze_task_row(task) for task in page]


def analyze_task_row(task: dict[str, Any]) -> dict[str, Any]:
    """An analysis task as a row of `ANALYZE_TASKS`."""
    source, params = task.get("video_source") or {}, task.get("request_params") or {}
    error = task.get("error") or {}
    return {
        "task_id": task["task_id"],
        "status": task.get("status"),
        "custom_id": task.get("custom_id"),
        "analysis_mode": params.get("analysis_mode"),
        "video_url": source.get("url"),
        "asset_id": source.get("asset_id"),
        "duration_sec": (source.get("system_metadata") or {}).get("duration"),
        "prompt": params.get("prompt"),
        "error_code": error.get("code"),
        "error_message": error.get("message"),
        **_times(task, "created_at", "completed_at"),
    }


@listing(FILES, place=TEXT, offline=True, example={"place": "s3://bucket/videos/**/*.mp4"})
async def files(tl: Session | None, place: str) -> Pages:
    """The video files of a folder or a bucket: one row per file, whose `video` column functions accept.

    The API is not called. A folder or prefix lists every file below it with a video's file extension. A
    pattern lists the files that match: `*` and `?` within a part of the path, `**` for any number of parts.

    Args:
        place: a folder, `s3://`, `gs://`, `az://` or `abfss://` with bucket and prefix, or a pattern.
    """
    remaining = files_below(place)
    while page := await asyncio.to_thread(lambda: list(itertools.islice(remaining, FILES_PAGE))):
        yield [
            {"video": f.address, "size_bytes": f.size_bytes, "modified_at": f.modified_at, "etag": f.etag}
            for f in page
        ]


def _as_json(metadata: dict[str, Any] | None) -> str | None:
    return orjson.dumps(metadata).decode() if metadata else None


def _metadata(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        metadata = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise SchemaMismatch(f"metadata_filter is not JSON: {error}") from error
    if not isinstance(metadata, dict):
        raise SchemaMismatch('metadata_filter must be a JSON object, such as {"team": "news"}')
    if reserved := [name for name in PAGING if name in metadata]:
        raise SchemaMismatch(
            f"metadata_filter cannot contain {reserved[0]}: the API reads this name as an option of the "
            "listing. Leave it out, and filter the rows by user_metadata instead"
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
