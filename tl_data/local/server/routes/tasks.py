"""/tasks: indexing tasks."""

from __future__ import annotations

import os
import shutil
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tl_data.local.errors import EngineError, MediaError, invalid, not_provided, one_of
from tl_data.local.server.context import Engine, check_id, engine_of, find_task
from tl_data.local.server.forms import Form, Upload
from tl_data.local.server.metadata import parse_metadata
from tl_data.local.server.old_names import TASK, TASK_LIST, refuse_old_names
from tl_data.local.server.pagination import Listing, split_values
from tl_data.local.server.routes.videos import hls_to_json, service_refusal, system_metadata
from tl_data.local.storage.database import Row, Where, new_id, now, stamp
from tl_data.local.tasks.download import check_url
from tl_data.local.tasks.queue import UNFINISHED

STATUSES = ("ready", "uploading", *UNFINISHED, "failed")
INDEXING_TIME_RATIO = 0.5  # estimated seconds of indexing per second of video, for `estimated_time`


def task_to_json(engine: Engine, row: Row) -> dict[str, Any]:
    """The JSON of an indexing task."""
    profile = engine.profile
    fields = {"_id": row["id"], "index_id": row["index_id"], "video_id": row["video_id"]}
    fields |= task_state_to_json(engine, row)
    fields["status"] = dict(profile.task_states).get(row["status"], row["status"])
    if names := profile.task_metadata:
        metadata = fields["system_metadata"]
        fields["system_metadata"] = {name: metadata[name] for name in names if name in metadata}
    if row["status"] in UNFINISHED and profile.own_fields:
        fields["estimated_time"] = stamp(
            time.time() + max(5.0, INDEXING_TIME_RATIO * (row["duration"] or 60.0))
        )
    return fields


def task_state_to_json(engine: Engine, row: Row) -> dict[str, Any]:
    """The JSON of the state of a task. Its `error` is an addition of the engine."""
    fields = {name: row[name] for name in ("status", "created_at", "updated_at")}
    fields["system_metadata"] = system_metadata(row)
    fields |= service_refusal(engine, row)
    return fields | ({"error": row["error"]} if row["error"] and engine.profile.own_fields else {})


def read_source(engine: Engine, form: Form, name: str = "video") -> tuple[str | None, Upload | None]:
    """Read the URL or the file of a request. The URL takes precedence.

    Raises:
        EngineError: both are absent, the file is empty, or the URL is invalid.
    """
    url, upload = form.text(f"{name}_url"), form.upload(f"{name}_file")
    if url is not None and url.strip():
        try:
            return check_url(url, engine.config), None
        except MediaError as error:
            raise invalid(f"{name}_url", error.message, url) from None
    if upload is None:
        raise not_provided(f"{name}_url") if url is not None else not_provided(f"{name}_file", f"{name}_url")
    if upload.size == 0:
        raise EngineError(400, f"{name}_file_broken", f"Cannot read {name} file. The uploaded file is empty.")
    return None, upload


async def add_task(
    engine: Engine,
    index_id: str,
    *,
    url: str | None = None,
    upload: Upload | None = None,
    filename: str = "",
    stream: bool = True,
    user_metadata: dict[str, Any] | None = None,
    outcome: dict[str, Any] | None = None,
    import_id: str | None = None,
    asset_id: str | None = None,
) -> Row:
    """Create an indexing task and queue it. An uploaded file is moved before the task is stored.

    Args:
        outcome: the outcome that a fault injects.
    """
    at, task_id = now(), new_id()
    row: Row = {
        "id": task_id, "index_id": index_id, "status": "validating",
        "video_id": new_id() if engine.profile.whole_tasks else task_id,
        "created_at": at, "updated_at": at, "url": url, "filename": filename, "size": None,
        "sha256": None, "stream": int(stream),
        "user_metadata": user_metadata or {}, "fate": outcome, "stuck": 0, "import_id": import_id,
        "asset_id": asset_id,
    }  # fmt: skip
    if upload:
        folder = engine.config.folder(row["video_id"])
        folder.mkdir(parents=True)
        os.replace(upload.path, folder / "source")
        row |= {"filename": upload.filename, "size": upload.size, "sha256": upload.sha256}
    with engine.store.transaction():
        engine.store.add("tasks", row)
        engine.store.increment("tasks created")
        engine.store.increment(f"tasks created in {index_id}")
    await engine.queue.wake()
    return row | dict.fromkeys(("duration", "width", "height", "fps", "error"))


async def create(request: Request) -> Response:
    """POST /tasks"""
    engine = engine_of(request)
    async with engine.form(request, "video_file") as form:
        refuse_old_names(engine.profile, form.fields, TASK)
        index = engine.index(form.required("index_id"))
        stream = form.flag("enable_video_stream", True)
        metadata = parse_metadata("user_metadata", form.text("user_metadata"))
        url, upload = read_source(engine, form)
        row = await add_task(
            engine, index["id"], url=url, upload=upload, stream=stream, user_metadata=metadata,
            outcome=request.scope.get("tl.injected_outcome"),
        )  # fmt: skip
    if engine.profile.whole_tasks:
        return JSONResponse(task_to_json(engine, row), engine.created_status)
    return JSONResponse({"_id": row["id"], "video_id": row["video_id"]}, engine.created_status)


async def list_tasks(request: Request) -> Response:
    """GET /tasks"""
    engine, query = engine_of(request), request.query_params
    refuse_old_names(engine.profile, query, TASK_LIST)
    listing = Listing.from_query(query)
    if index_id := query.get("index_id"):
        check_id("index_id", index_id)
    listing.filter_texts(
        query, {"index_id": "index_id", "filename": "filename", "_id": "id", "video_id": "video_id"}
    )
    listing.filter_numbers(query, ("duration", "width", "height", "fps", "size"))
    listing.filter_times(query, ("created_at", "updated_at"))
    states = split_values(query.getlist("status"))
    if any(status not in STATUSES for status in states):
        raise one_of("status", STATUSES, states)
    if states:
        shown_statuses = dict(engine.profile.task_states)
        statuses = [status for status in STATUSES if shown_statuses.get(status, status) in states]
        listing.where.append(Where("status", "in", statuses))
    return JSONResponse(listing.fetch_page(engine.store, "tasks", lambda row: task_to_json(engine, row)))


async def count_by_status(request: Request) -> Response:
    """GET /tasks/status?index_id=: the number of tasks of an index for each status."""
    engine = engine_of(request)
    index_id = request.query_params.get("index_id")
    if not index_id:
        raise not_provided("index_id")
    engine.index(index_id)
    in_index = Where("index_id", "=", index_id)
    counts = {
        status: int(engine.store.total("tasks", [in_index, Where("status", "=", status)]))
        for status in (*UNFINISHED, "ready", "failed")
    }
    return JSONResponse({"index_id": index_id, **counts, "total_result": sum(counts.values())})


async def retrieve(request: Request) -> Response:
    """GET /tasks/{task_id}"""
    engine, row = engine_of(request), find_task(request, "tasks")
    response = task_to_json(engine, row)
    video = engine.store.get("videos", row["video_id"]) if row["status"] == "ready" else None
    if video and (hls := await hls_to_json(engine, request, video)):
        response["hls"] = hls
    return JSONResponse(response)


async def delete(request: Request) -> Response:
    """DELETE /tasks/{task_id}: the task must be failed, or ready with its video deleted."""
    engine, row = engine_of(request), find_task(request, "tasks")
    if row["status"] == "ready" and engine.store.get("videos", row["video_id"]):
        raise EngineError(
            400, "task_cannot_be_deleted", f"Task {row['id']} cannot be deleted. Delete its video first."
        )
    if row["status"] not in ("ready", "failed"):
        text = (
            f"Task {row['id']} cannot be deleted. Its status is {row['status']}; it must be ready or failed."
        )
        raise EngineError(400, "task_cannot_be_deleted", text)
    engine.store.remove("tasks", [Where("id", "=", row["id"])])
    shutil.rmtree(engine.config.folder(row["video_id"]), ignore_errors=True)
    return Response(status_code=204)


routes = [
    Route("/tasks", list_tasks, methods=["GET"]),
    Route("/tasks", create, methods=["POST"]),
    Route("/tasks/status", count_by_status, methods=["GET"]),
    Route("/tasks/{task_id}", retrieve, methods=["GET"]),
    Route("/tasks/{task_id}", delete, methods=["DELETE"]),
]
