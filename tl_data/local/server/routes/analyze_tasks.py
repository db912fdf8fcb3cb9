"""/analyze/tasks: analyses that run in the background."""

from __future__ import annotations

import re
import uuid
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tl_data.local.errors import EngineError, MediaError, invalid, unknown_resource
from tl_data.local.perception.evidence import ModelFailed
from tl_data.local.server.analyze_request import SEGMENTS, AnalyzeRequest, count_usage, truncation_warning
from tl_data.local.server.context import Engine, check_id, engine_of, find_task
from tl_data.local.server.pagination import Listing
from tl_data.local.storage.database import Row, Where, new_id, now

STATUSES = ("queued", "pending", "processing", "ready", "failed", "canceled")
UNFINISHED = ("queued", "pending", "processing")
CUSTOM_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
PROMPT_EXCERPT = 30  # characters of a prompt in a listing
#: Members of a request that the JSON of its task contains unchanged.
ECHOED = (
    "temperature",
    "max_tokens",
    "start_time",
    "end_time",
    "min_segment_duration",
    "max_segment_duration",
)


async def create(request: Request) -> Response:
    """POST /analyze/tasks. A repeated Idempotency-Key returns the existing task."""
    engine = engine_of(request)
    analysis = await AnalyzeRequest.from_request(request, route="task")
    key = request.headers.get("idempotency-key") or None
    if key and (
        existing := engine.store.rows("analyze_tasks", [Where("idempotency_key", "=", key)], limit=1)
    ):
        return JSONResponse({"task_id": existing[0]["id"], "status": existing[0]["status"]}, 202)
    custom_id = read_custom_id(analysis.body)
    analysis.resolve_source()
    analysis.check()
    if "video_id" in analysis.body:
        _check_video(engine, analysis)
    row = new_row(analysis, custom_id) | {
        "idempotency_key": key,
        "fate": request.scope.get("tl.injected_outcome"),
    }
    engine.store.add("analyze_tasks", row)
    await engine.queue.wake()
    return JSONResponse({"task_id": row["id"], "status": "queued"}, 202)


def read_custom_id(body: dict[str, Any]) -> str | None:
    """Read the id that the client has given to a task; None if there is none.

    Raises:
        EngineError: the id is not 1 to 64 letters, digits, underscores and hyphens.
    """
    value = body.get("custom_id")
    if value is not None and (not isinstance(value, str) or not CUSTOM_ID.fullmatch(value)):
        text = "It must be 1 to 64 letters, digits, underscores and hyphens."
        raise invalid("custom_id", text, value)
    return value


def new_row(analysis: AnalyzeRequest, custom_id: str | None) -> Row:
    """The row of a new analysis task."""
    body, at = analysis.body, now()
    source = body.get("given") or {}
    asset = analysis.asset()
    return {
        "id": new_id(), "status": "queued", "created_at": at, "updated_at": at, "completed_at": None,
        "custom_id": custom_id, "url": source.get("url"), "body": body,
        "asset_id": source.get("asset_id") or body.get("video_id"), "stuck": 0, "fate": None,
        "mode": SEGMENTS if analysis.by_segments else "general",
        "duration": asset["duration"] if asset else None,
    }  # fmt: skip


def _check_video(engine: Engine, analysis: AnalyzeRequest) -> None:
    """Validate that a video id exists. The task itself checks a URL later."""
    video_id = check_id("video_id", analysis.text("video_id") or "")
    indexing_tasks = engine.store.rows("tasks", [Where("video_id", "=", video_id)], limit=1)
    if not (engine.store.get("videos", video_id) or indexing_tasks):
        raise unknown_resource(video_id, "assets" if analysis.body.get("as_asset") else "videos")


async def run_task(engine: Engine, row: Row) -> None:
    """Run an analysis task. Its status changes from queued to processing to ready.

    Raises:
        MediaError: the task has failed.
        HeldByFault: an injected fault holds the task in its state.
    """
    engine.queue.handlers.apply_fault("analyze_tasks", row, row["status"])
    if row["status"] == "queued" and not engine.store.change_if(
        "analyze_tasks", row["id"], "queued", status="processing", updated_at=now()
    ):
        return  # the task was canceled or deleted meanwhile
    engine.queue.handlers.apply_fault("analyze_tasks", row, "processing")
    analysis = AnalyzeRequest(engine, row["body"], "task")
    try:
        generated = await analysis.write()
    except (EngineError, ModelFailed) as error:
        if not _still_processing(engine, row):
            return
        if isinstance(error, EngineError):
            raise MediaError(error.code, error.message) from None
        raise MediaError("engine_model_failed", f"{error}.") from None
    if not _still_processing(engine, row):
        return
    by_segments = analysis.by_segments
    prompt = None if by_segments else analysis.prompt(needed=True)
    definition_count = len(analysis.definitions().kinds) if by_segments else 1
    reason = generated.reason or "stop"
    warning = row["fate"]["message"] if row["fate"] and row["fate"]["kind"] == "warning" else None
    with engine.store.transaction():  # the result and its charge are stored together
        result = {
            "generation_id": str(uuid.uuid4()), "data": generated.text, "finish_reason": reason,
            "usage": count_usage(engine, generated, prompt, analysis, definitions=definition_count),
        }  # fmt: skip
        at = now()
        engine.store.change(
            "analyze_tasks", row["id"], status="ready", result=result, updated_at=at, completed_at=at,
            duration=round(analysis.duration, 6),
            error={"message": warning} if warning else truncation_warning(reason).get("error"),
        )  # fmt: skip


def _still_processing(engine: Engine, row: Row) -> bool:
    """Whether the task has been neither deleted nor canceled meanwhile."""
    current = engine.store.get("analyze_tasks", row["id"])
    return current is not None and current["status"] == "processing"


def _task_to_json(engine: Engine, row: Row, longest: int | None = None) -> dict[str, Any]:
    """The JSON of a task. With `longest`, it is the short form of a listing.

    Args:
        longest: highest number of characters of a prompt.
    """
    body, whole_seconds = row["body"], engine.profile.whole_seconds
    fields: dict[str, Any] = {"task_id": row["id"], "custom_id": row["custom_id"]}
    if row["batch_id"]:
        fields["batch_id"] = row["batch_id"]
    if source := _source_to_json(engine, row):
        fields["video_source"] = source
    fields |= {
        "request_params": _params_to_json(engine, body, longest),
        "status": row["status"],
        "created_at": _format_time(row["created_at"], whole_seconds),
    }
    if row["completed_at"]:
        fields["completed_at"] = _format_time(row["completed_at"], whole_seconds)
    names = ("error",) if longest is not None else ("result", "error")
    return fields | {name: row[name] for name in names if row[name]}


def _format_time(text: str, whole_seconds: bool) -> str:
    """A time of the store, without its fraction if `whole_seconds`."""
    return f"{text[:19]}Z" if whole_seconds else text


def _source_to_json(engine: Engine, row: Row) -> dict[str, Any] | None:
    body, video = row["body"], row["body"].get("given")
    if video:
        source = {"type": video["type"]}
        source |= {name: video[name] for name in ("url", "asset_id") if name in video}
    elif body.get("as_asset"):
        source = {"type": "asset_id", "asset_id": body["video_id"]}
    elif "video_id" in body:
        source = {"type": "video_id", "video_id": body["video_id"]}
    else:
        return None  # the task analyzes pictures
    if row["duration"] is not None:
        source["system_metadata"] = {"duration": row["duration"]}
    return source


def _params_to_json(engine: Engine, body: dict[str, Any], longest: int | None) -> dict[str, Any]:
    """The parameters of the request. Under strict profiles, they include defaults."""
    analysis = AnalyzeRequest(engine, body, "task")
    mode = SEGMENTS if analysis.by_segments else "general"
    params: dict[str, Any] = {"analysis_mode": mode}
    if "prompt" in body:
        params["prompt"] = body["prompt"][:longest]
    if "prompt_v2" in body:
        params["prompt_v2"] = body["prompt_v2"] | {"input_text": body["prompt_v2"]["input_text"][:longest]}
    if form := body.get("response_format"):
        params["response_format"] = _response_format_to_json(form, longest)
    if engine.profile.strict:
        limits = analysis.limits
        params["temperature"] = 0.2
        params["max_tokens"] = limits.default_tokens if mode == "general" else limits.default_segment_tokens
        if mode == SEGMENTS:
            params["min_segment_duration"] = 2
    return params | {name: body[name] for name in ECHOED if name in body}


def _response_format_to_json(form: dict[str, Any], longest: int | None) -> dict[str, Any]:
    if longest is None:
        return form
    if form.get("type") == "json_schema":
        return {"type": "json_schema"}
    return form | {"segment_definitions": form.get("segment_definitions", [])[:1]}


async def list_tasks(request: Request) -> Response:
    """GET /analyze/tasks"""
    engine, query = engine_of(request), request.query_params
    listing = Listing.from_query(query)
    listing.filter_one_of(query, "status", STATUSES)
    listing.filter_one_of(query, "analysis_mode", ("general", SEGMENTS), "mode")
    listing.filter_texts(query, {"video_url": "url", "asset_id": "asset_id"})
    return JSONResponse(
        listing.fetch_page(
            engine.store, "analyze_tasks", lambda row: _task_to_json(engine, row, PROMPT_EXCERPT)
        )
    )


async def retrieve(request: Request) -> Response:
    """GET /analyze/tasks/{task_id}"""
    return JSONResponse(_task_to_json(engine_of(request), find_task(request, "analyze_tasks")))


async def delete(request: Request) -> Response:
    """DELETE /analyze/tasks/{task_id}: rejected while the task is being processed."""
    engine, row = engine_of(request), find_task(request, "analyze_tasks")
    if row["status"] == "processing":
        raise EngineError(409, "conflict", f"Task {row['id']} is being processed.")
    engine.store.remove("analyze_tasks", [Where("id", "=", row["id"])])
    return Response(status_code=204)


async def cancel(request: Request) -> Response:
    """POST /analyze/tasks/{task_id}/cancel: the text of a running task is discarded."""
    row = find_task(request, "analyze_tasks")
    if row["status"] in ("ready", "failed"):
        text = f"Task {row['id']} cannot be canceled. Its status is {row['status']}; it must be unfinished."
        raise EngineError(409, "task_cannot_be_canceled", text)
    if row["batch_id"]:
        text = f"Task {row['id']} belongs to the batch {row['batch_id']}: cancel the batch."
        raise EngineError(409, "task_cannot_be_canceled", text)
    if row["status"] != "canceled":
        cancel_task(engine_of(request), row, "user_canceled", "The task was canceled by the user.")
    return JSONResponse({"task_id": row["id"], "status": "canceled"})


def cancel_task(engine: Engine, row: Row, code: str, message: str) -> bool:
    """Cancel an unfinished task. Returns False if its status has changed meanwhile."""
    error, at = {"code": code, "message": message}, now()
    return engine.store.change_if(
        "analyze_tasks", row["id"], row["status"], status="canceled", error=error, updated_at=at,
        completed_at=at,
    )  # fmt: skip


routes = [
    Route("/analyze/tasks", create, methods=["POST"]),
    Route("/analyze/tasks", list_tasks, methods=["GET"]),
    Route("/analyze/tasks/{task_id}", retrieve, methods=["GET"]),
    Route("/analyze/tasks/{task_id}", delete, methods=["DELETE"]),
    Route("/analyze/tasks/{task_id}/cancel", cancel, methods=["POST"]),
]
