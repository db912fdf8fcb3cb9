"""/tasks/transfers: imports. The media folder (`--media`) takes the place of a cloud bucket.

The engine has one integration. Its id is derived from the path of the folder, and `engine.json` contains it.
"""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tl_data.local.errors import (
    EngineError,
    format_bytes,
    invalid,
    not_provided,
    one_of,
    safe_file_name,
    unknown_resource,
)
from tl_data.local.server.context import Engine, check_id, engine_of
from tl_data.local.server.forms import read_json
from tl_data.local.server.metadata import check_metadata, merge_metadata
from tl_data.local.server.routes.tasks import add_task
from tl_data.local.storage.database import Row, Where, new_id, now
from tl_data.local.tasks.queue import UNFINISHED

SUFFIXES = frozenset(
    (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".ts", ".mpg", ".mpeg", ".flv", ".wmv", ".3gp", ".ogv")
)
MAX_FILES = 10_000


def integration_id(media: Path) -> str:
    """The id of the integration that imports from the media folder."""
    return hashlib.sha256(str(media.resolve()).encode()).hexdigest()[:24]


def _find_integration(request: Request, engine: Engine) -> tuple[str, Path]:
    """Return the id of the integration in the path, and its folder."""
    requested_id = check_id("integration_id", request.path_params["integration_id"])
    media = engine.config.media
    if media is None or integration_id(media) != requested_id:
        raise unknown_resource(requested_id, "integrations")
    return requested_id, media


def _find_files(media: Path) -> list[Path]:
    """The video files below the media folder, at most MAX_FILES. Links that lead outside are left out."""
    root = media.resolve()
    candidates = (path for path in sorted(root.rglob("*")) if path.suffix.lower() in SUFFIXES)
    inside = (path for path in candidates if path.is_file() and path.resolve().is_relative_to(root))
    return [path for path, _ in zip(inside, range(MAX_FILES), strict=False)]


async def start(request: Request) -> Response:
    """POST /tasks/transfers/import/{integration_id}"""
    engine = engine_of(request)
    integration, media = _find_integration(request, engine)
    body = await read_json(request, engine.config.max_body_bytes)
    index = _find_index(engine, body.get("index_id"))
    flags = {"incremental_import": True, "retry_failed": False} | {
        name: body[name] for name in ("incremental_import", "retry_failed") if name in body
    }
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise one_of(name, ("true", "false"), value)
    metadata = merge_metadata({}, check_metadata("user_metadata", body.get("user_metadata", {})))
    async with engine.importing:  # held until the import is stored, so that a concurrent import finds it
        if any(row["ended_at"] is None for row in _find_imports(engine, integration)):
            raise EngineError(400, "generic_error", "Another import of this integration is still running.")
        response = await _import(engine, request, (integration, media), index, flags, metadata)
    return JSONResponse(response, 201)


async def _import(
    engine: Engine,
    request: Request,
    source: tuple[str, Path],
    index: Row,
    flags: dict[str, bool],
    metadata: dict[str, Any],
) -> dict[str, Any]:
    """Create a task for each file to import, and return the JSON of the import.

    A file is already imported if the index has a task with its URL, or a video with the same bytes.
    """
    integration, media = source
    statuses = {row["url"]: row["status"] for row in _find_tasks(engine, index["id"])}
    hashes = {row["sha256"] for row in engine.store.rows("videos", [Where("index_id", "=", index["id"])])}
    import_row: Row = {
        "id": new_id(), "integration_id": integration, "index_id": index["id"], "created_at": now(),
        "ended_at": None, "failed_files": [],
    }  # fmt: skip
    videos: list[dict[str, str]] = []
    for path in await asyncio.to_thread(_find_files, media):
        name, size = safe_file_name(path.name), path.stat().st_size
        status = statuses.get(path.as_uri())
        if status == "failed" and not flags["retry_failed"]:
            continue
        if flags["incremental_import"] and status not in (None, "failed"):
            continue
        if size == 0 or size > engine.config.video_bytes:
            limit = format_bytes(engine.config.video_bytes)
            text = (
                f"The video is too big. It has {format_bytes(size)}, the limit is {limit}."
                if size
                else "The file is empty."
            )
            import_row["failed_files"].append({"filename": name, "error_message": text})
            continue
        if flags["incremental_import"] and await asyncio.to_thread(_digest, path) in hashes:
            continue
        row = await add_task(
            engine,
            index["id"],
            url=path.as_uri(),
            filename=name,
            user_metadata=metadata,
            import_id=import_row["id"],
            outcome=request.scope.get("tl.injected_outcome"),
        )
        videos.append({"video_id": row["video_id"], "filename": name})
    engine.store.add("imports", import_row)
    return {"videos": videos, "failed_files": import_row["failed_files"]}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _find_index(engine: Engine, index_id: Any) -> Row:
    if index_id is None:
        raise not_provided("index_id")
    if not isinstance(index_id, str):
        raise invalid("index_id", "It must be a text.", index_id)
    return engine.index(index_id)


def _find_tasks(engine: Engine, index_id: str, import_id: str | None = None) -> list[Row]:
    where = [Where("index_id", "=", index_id)]
    if import_id:
        where.append(Where("import_id", "=", import_id))
    return engine.store.rows("tasks", where, descending=False)


def _find_imports(engine: Engine, integration: str) -> list[Row]:
    """Return the imports of an integration, oldest first. Marks those as ended whose tasks have all ended."""
    import_rows = engine.store.rows("imports", [Where("integration_id", "=", integration)], descending=False)
    for import_row in import_rows:
        if import_row["ended_at"] is None:
            tasks = _find_tasks(engine, import_row["index_id"], import_row["id"])
            if not any(task["status"] in UNFINISHED for task in tasks):
                import_row["ended_at"] = max(
                    [import_row["created_at"], *(task["updated_at"] for task in tasks)]
                )
                engine.store.change("imports", import_row["id"], ended_at=import_row["ended_at"])
    return import_rows


async def status(request: Request) -> Response:
    """GET /tasks/transfers/import/{integration_id}/status?index_id="""
    engine = engine_of(request)
    _, media = _find_integration(request, engine)
    index = _find_index(engine, request.query_params.get("index_id") or None)
    groups: dict[str, list[Any]] = {
        name: []
        for name in ("not_imported", "validating", "pending", "queued", "indexing", "ready", "failed")
    }
    tasks = _find_tasks(engine, index["id"])
    for task in tasks:
        entry = {"filename": task["filename"], "created_at": task["created_at"]}
        if task["status"] == "failed":
            entry["error_message"] = (task["error"] or {}).get("message", "")
        else:
            entry["video_id"] = task["video_id"]
        groups[task["status"]].append(entry)
    imported_urls = {task["url"] for task in tasks}
    files = await asyncio.to_thread(_find_files, media)
    groups["not_imported"] = [
        safe_file_name(path.name) for path in files if path.as_uri() not in imported_urls
    ]
    return JSONResponse(groups)


async def logs(request: Request) -> Response:
    """GET /tasks/transfers/import/{integration_id}/logs"""
    engine = engine_of(request)
    integration, _ = _find_integration(request, engine)
    data: list[dict[str, Any]] = []
    for import_row in _find_imports(engine, integration):
        tasks = _find_tasks(engine, import_row["index_id"], import_row["id"])
        counts = dict.fromkeys(("ready", "validating", "queued", "pending", "indexing", "failed"), 0)
        failed = list(import_row["failed_files"])
        for task in tasks:
            counts[task["status"]] += 1
            if task["status"] == "failed":
                failed.append(
                    {"filename": task["filename"], "error_message": (task["error"] or {}).get("message", "")}
                )
        index = engine.store.get("indexes", import_row["index_id"])
        data.append(
            {
                "index_id": import_row["index_id"],
                "index_name": index["index_name"] if index else "",
                "created_at": import_row["created_at"],
                "ended_at": import_row["ended_at"],
                "video_status": counts,
                "failed_files": failed,
            }
        )
    return JSONResponse({"data": data})


routes = [
    Route("/tasks/transfers/import/{integration_id}", start, methods=["POST"]),
    Route("/tasks/transfers/import/{integration_id}/status", status, methods=["GET"]),
    Route("/tasks/transfers/import/{integration_id}/logs", logs, methods=["GET"]),
]
