"""/analyze/batches: up to a thousand analyses in one request. Each item becomes an analysis task.

The status `completed` means that all items have ended. Some of them may have failed.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tl_data.local.errors import AssetNotReady, EngineError, invalid, not_provided, one_of
from tl_data.local.server.analyze_request import MODES, AnalyzeRequest
from tl_data.local.server.context import Engine, engine_of, find_row
from tl_data.local.server.forms import read_json
from tl_data.local.server.pagination import Listing
from tl_data.local.server.routes.analyze_tasks import UNFINISHED, cancel_task, new_row, read_custom_id
from tl_data.local.storage.database import Row, Where, new_id, now

MODEL = "pegasus1.5"  # the only model that supports batches
MAX_ITEMS, MAX_HOURS = 1000, 2000  # requests of a batch, and total length of their videos
MAX_ACTIVE = 5  # unfinished batches at a time
FINAL = ("completed", "canceled", "expired")
STATUSES = ("pending", "processing", "canceling", *FINAL)
#: Members of one request of a batch. `defaults` may set them for all requests.
ITEM_MEMBERS = (
    "prompt", "response_format", "temperature", "max_tokens", "min_segment_duration", "max_segment_duration",
    "start_time", "end_time",
)  # fmt: skip
#: Status of a task -> field of a batch that counts the tasks with this status.
COUNT_FIELDS = {"queued": "queued_items", "processing": "processing_items", "ready": "ready_items",
           "failed": "failed_items", "canceled": "canceled_items"}  # fmt: skip


async def create(request: Request) -> Response:
    """POST /analyze/batches: an invalid item rejects the whole batch."""
    engine = engine_of(request)
    body = await read_json(request, engine.config.max_inline_bytes)
    if missing := [name for name in ("model_name", "analysis_mode", "requests") if name not in body]:
        raise not_provided(*missing)
    if body["model_name"] != MODEL:
        raise one_of("model_name", (MODEL,), body["model_name"])
    if body["analysis_mode"] not in MODES:
        raise one_of("analysis_mode", MODES, body["analysis_mode"])
    requests, defaults = body["requests"], body.get("defaults", {})
    if not isinstance(requests, list) or not 1 <= len(requests) <= MAX_ITEMS:
        number = len(requests) if isinstance(requests, list) else requests
        raise invalid("requests", f"It must hold 1 to {MAX_ITEMS} requests.", number)
    if not isinstance(defaults, dict):
        raise invalid("defaults", "It must be an object.", defaults)
    active = [batch for batch in _refresh_all(engine) if batch["status"] not in FINAL]
    if len(active) >= MAX_ACTIVE:
        text = f"There are {len(active)} active batches; at most {MAX_ACTIVE} are allowed."
        raise EngineError(429, "too_many_requests", text, {"Retry-After": "5"})
    rows = _rows(engine, body, requests, defaults)
    at = now()
    batch: Row = {
        "id": new_id(), "status": "pending", "created_at": at, "updated_at": at,
        "expires_at": now(engine.config.batch_seconds), "model_name": MODEL, "mode": body["analysis_mode"],
        "total_items": len(rows),
    }  # fmt: skip
    outcome: dict[str, Any] | None = request.scope.get("tl.injected_outcome")
    affected = round(outcome["share"] * len(rows)) if outcome else 0
    with engine.store.transaction():
        engine.store.add("batches", batch)
        for place, row in enumerate(rows):
            row |= {"batch_id": batch["id"], "place": place, "fate": outcome if place < affected else None}
            engine.store.add("analyze_tasks", row)
    await engine.queue.wake()
    response = {
        "batch_id": batch["id"], "status": "pending", "total_items": len(rows), "created_at": at,
        "expires_at": batch["expires_at"],
        "items": [{"task_id": row["id"], "custom_id": row["custom_id"]} for row in rows],
    }  # fmt: skip
    return JSONResponse(response, 201)


def _rows(engine: Engine, body: dict[str, Any], requests: list[Any], defaults: dict[str, Any]) -> list[Row]:
    """Validate the requests of a batch, and return the rows of its tasks.

    Raises:
        EngineError: an item is invalid; the message begins with its position.
    """
    rows: list[Row] = []
    custom_ids: set[str] = set()
    seconds = 0.0
    for place, item in enumerate(requests):
        try:
            row = _row(engine, body, item, defaults)
        except EngineError as error:
            text = f"requests[{place}]: {error.message}"
            raise EngineError(error.status, error.code, text) from None
        if row["custom_id"] in custom_ids:
            raise invalid("custom_id", "It must be unique within the batch.", row["custom_id"])
        custom_ids |= {row["custom_id"]} - {None}
        seconds += row["duration"] or 0.0
        rows.append(row)
    if seconds > MAX_HOURS * 3600:
        raise invalid(
            "requests",
            f"The videos have {seconds / 3600:.0f} hours in total; at most {MAX_HOURS} are allowed.",
        )
    return rows


def _row(engine: Engine, body: dict[str, Any], request: Any, defaults: dict[str, Any]) -> Row:
    """Validate one request of a batch, and return the row of its task."""
    video = request.get("video") if isinstance(request, dict) else None
    if not isinstance(video, dict) or video.get("type") != "asset_id":
        raise invalid("video", 'It must be {"type": "asset_id", "asset_id": ...}.', video)
    item = {name: request.get(name, defaults.get(name)) for name in ITEM_MEMBERS}
    item_body = {name: value for name, value in item.items() if value is not None and name != "prompt"}
    item_body |= {"model_name": body["model_name"], "analysis_mode": body["analysis_mode"], "video": video}
    if item["prompt"] is not None:
        if not isinstance(item["prompt"], dict):
            raise invalid("prompt", "It must be an object with input_text.", item["prompt"])
        item_body["prompt_v2"] = item["prompt"]
    if item_body.get("max_tokens") == "unlimited":
        raise invalid("max_tokens", "It must be a whole number.", "unlimited")
    analysis = AnalyzeRequest(engine, item_body, "task")
    custom_id = read_custom_id(request)
    try:
        analysis.resolve_source()
        length_error = _window_too_long(analysis)
        if not length_error:
            analysis.check()
        row = new_row(analysis, custom_id)
    except AssetNotReady as not_ready:
        raise EngineError(409, "asset_not_ready", not_ready.message) from None
    if length_error:
        error = {"code": "video_duration_too_long", "message": length_error}
        row |= {"status": "failed", "error": error, "completed_at": row["created_at"]}
    return row


def _window_too_long(analysis: AnalyzeRequest) -> str:
    """The error message if the window exceeds the limit of the model; "" otherwise."""
    start, end = analysis.number("start_time", 0, 1e6), analysis.number("end_time", 0, 1e6)
    length = (end or 0.0) - (start or 0.0)
    longest = analysis.limits.longest_task
    return f"The window has {length:g} seconds; at most {longest:g} are allowed." if length > longest else ""


def _items(engine: Engine, batch: Row) -> list[Row]:
    """The tasks of a batch, in the order of its requests."""
    in_batch = [Where("batch_id", "=", batch["id"])]
    return engine.store.rows("analyze_tasks", in_batch, sort_by="place", descending=False)


def _refresh_all(engine: Engine) -> list[Row]:
    """Update the status of all batches from their tasks, and return them."""
    return [refresh(engine, batch) for batch in engine.store.rows("batches")]


def refresh(engine: Engine, batch: Row) -> Row:
    """Update the status of a batch from its tasks, and return it. An overdue batch expires."""
    if batch["status"] in FINAL:
        return batch
    at, items = now(), _items(engine, batch)
    running = [row for row in items if row["status"] in UNFINISHED]
    fresh: dict[str, Any] = {}
    if running and batch["expires_at"] <= at:
        for row in running:
            if row["status"] == "processing":
                error = {
                    "code": "batch_processing_timeout",
                    "message": "The batch expired while the task was running.",
                }
                engine.store.change_if(
                    "analyze_tasks", row["id"], "processing", status="failed", error=error, completed_at=at
                )
            else:
                cancel_task(engine, row, "batch_expired", "The batch expired before the task began.")
        fresh = {"status": "expired", "expired_at": at}
    elif not running:
        name = "canceled" if batch["status"] == "canceling" else "completed"
        fresh = {"status": name, f"{name}_at": at}
    elif batch["status"] == "pending" and len(running) < len(items) + sum(
        row["status"] == "processing" for row in items
    ):
        fresh = {"status": "processing"}
    if fresh:
        engine.store.change("batches", batch["id"], **fresh, updated_at=at)
    return batch | fresh


def _batch_to_json(engine: Engine, batch: Row) -> dict[str, Any]:
    fields = {
        "batch_id": batch["id"], "analysis_mode": batch["mode"], "model_name": batch["model_name"],
        "total_items": batch["total_items"], "created_at": batch["created_at"],
        "expires_at": batch["expires_at"], "status": batch["status"],
    }  # fmt: skip
    fields |= dict.fromkeys(COUNT_FIELDS.values(), 0)
    for row in _items(engine, batch):
        if row["status"] in COUNT_FIELDS:
            fields[COUNT_FIELDS[row["status"]]] += 1
    times = ("completed_at", "canceled_at", "expired_at")
    return fields | {name: batch[name] for name in times if batch.get(name)}


async def list_batches(request: Request) -> Response:
    """GET /analyze/batches"""
    engine, query = engine_of(request), request.query_params
    listing = Listing.from_query(query)
    listing.filter_one_of(query, "status", STATUSES)
    listing.filter_one_of(query, "analysis_mode", MODES, "mode")
    _refresh_all(engine)
    return JSONResponse(listing.fetch_page(engine.store, "batches", lambda row: _batch_to_json(engine, row)))


def _batch(request: Request) -> Row:
    return refresh(engine_of(request), find_row(request, "batches", "batch_id"))


async def retrieve(request: Request) -> Response:
    """GET /analyze/batches/{batch_id}"""
    return JSONResponse(_batch_to_json(engine_of(request), _batch(request)))


async def results(request: Request) -> Response:
    """GET /analyze/batches/{batch_id}/results: one JSON line for each item, whatever its status."""
    engine, batch = engine_of(request), _batch(request)
    lines = []
    for row in _items(engine, batch):
        line = {"task_id": row["id"], "custom_id": row["custom_id"], "status": row["status"]}
        line |= {"data": row["result"]} if row["result"] else {}
        lines.append(json.dumps(line | ({"error": row["error"]} if row["error"] else {})) + "\n")
    return Response("".join(lines), media_type="application/jsonl")


async def cancel(request: Request) -> Response:
    """POST /analyze/batches/{batch_id}/cancel: waiting items are canceled, and running items finish."""
    engine, batch = engine_of(request), _batch(request)
    if batch["status"] in FINAL:
        if batch["status"] != "canceled":
            raise EngineError(409, "conflict", f"Batch {batch['id']} is {batch['status']}.")
        return JSONResponse(_batch_to_json(engine, batch), 202)
    for row in _items(engine, batch):
        if row["status"] in ("queued", "pending"):
            cancel_task(engine, row, "batch_canceled", "The batch was canceled by the user.")
    engine.store.change("batches", batch["id"], status="canceling", updated_at=now())
    return JSONResponse(_batch_to_json(engine, refresh(engine, batch | {"status": "canceling"})), 202)


async def delete(request: Request) -> Response:
    """DELETE /analyze/batches/{batch_id}: deletes the batch and its tasks. The batch must have ended."""
    engine, batch = engine_of(request), _batch(request)
    if batch["status"] not in FINAL:
        raise EngineError(409, "conflict", f"Batch {batch['id']} is {batch['status']}.")
    with engine.store.transaction():
        engine.store.remove("analyze_tasks", [Where("batch_id", "=", batch["id"])])
        engine.store.remove("batches", [Where("id", "=", batch["id"])])
    return Response(status_code=204)


routes = [
    Route("/analyze/batches", create, methods=["POST"]),
    Route("/analyze/batches", list_batches, methods=["GET"]),
    Route("/analyze/batches/{batch_id}", retrieve, methods=["GET"]),
    Route("/analyze/batches/{batch_id}", delete, methods=["DELETE"]),
    Route("/analyze/batches/{batch_id}/results", results, methods=["GET"]),
    Route("/analyze/batches/{batch_id}/cancel", cancel, methods=["POST"]),
]
