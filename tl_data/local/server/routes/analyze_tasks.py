"""/analyze/tasks: the answers of /analyze, made in the background and fetched later."""

from __future__ import annotations

import uuid
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tl_data.local.errors import APIProblem, MediaProblem, unknown_resource
from tl_data.local.perception.evidence import ModelFailed
from tl_data.local.server.analyze_request import Ask, usage_of
from tl_data.local.server.context import Engine, engine_of, one_task, well_formed
from tl_data.local.server.pagination import Listing
from tl_data.local.storage.database import Row, Where, new_id, now

STATUSES = ("queued", "pending", "processing", "ready", "failed", "canceled")
MODES = ("general",)
SHOWN = 30  # characters of a prompt that a list shows


async def create(request: Request) -> Response:
    """POST /analyze/tasks"""
    engine = engine_of(request)
    ask = await Ask.of(request, "video_id", "prompt")
    ask.model()
    ask.choice("analysis_mode", MODES)
    if ask.body.get("max_tokens") == "unlimited":
        del ask.body["max_tokens"]
    custom_id = ask.text("custom_id")
    for check in (lambda: ask.prompt(needed=True), ask.manner, ask.schema, ask.part):
        check()  # told now, not by the task
    source = ask.body.get("given") or {"type": "video_id", "video_id": ask.text("video_id") or ""}
    _check(engine, source)
    row: Row = {
        "id": new_id(), "status": "queued", "created_at": (at := now()), "updated_at": at,
        "completed_at": None, "custom_id": custom_id, "url": source.get("url"), "body": ask.body,
        "asset_id": source.get("asset_id") or source.get("video_id"),
        "fate": request.scope.get("tl.fate"), "stuck": 0,
    }  # fmt: skip
    engine.store.add("analyze_tasks", row)
    await engine.queue.wake()
    return JSONResponse({"task_id": row["id"], "status": "queued"}, 201)


def _check(engine: Engine, source: dict[str, Any]) -> None:
    """An id must lead somewhere; whether an address does, the task finds out."""
    kind = source["type"]
    if kind == "video_id":
        video_id = well_formed("video_id", source["video_id"])
        known = engine.store.get("videos", video_id) or engine.store.rows(
            "tasks", [Where("video_id", "=", video_id)], limit=1
        )
        if not known:
            raise unknown_resource(video_id, "videos")


async def work_on(engine: Engine, row: Row) -> None:
    """queued -> processing -> ready.

    Raises:
        MediaProblem: why the task has failed.
    """
    engine.queue.steps.suffer("analyze_tasks", row, row["status"])
    engine.store.change("analyze_tasks", row["id"], status="processing", updated_at=now())
    engine.queue.steps.suffer("analyze_tasks", row, "processing")
    ask = Ask(engine, row["body"])
    prompt = ask.prompt(needed=True) or ""
    try:
        material = await ask.material()
        written = await engine.stages.writer.analyze(material, prompt, ask.schema(), ask.manner())
    except (APIProblem, ModelFailed) as error:
        if not _goes_on(engine, row):
            return
        if isinstance(error, APIProblem):
            raise MediaProblem(error.code, error.message) from None
        raise MediaProblem("engine_model_failed", f"{error}.") from None
    result = {
        "generation_id": str(uuid.uuid4()), "data": written.text, "finish_reason": written.reason or "stop",
        "usage": usage_of(engine, written, prompt),
    }  # fmt: skip
    if _goes_on(engine, row):
        at = now()
        engine.store.change(
            "analyze_tasks", row["id"], status="ready", result=result, updated_at=at, completed_at=at
        )


def _goes_on(engine: Engine, row: Row) -> bool:
    """Whether the task was neither deleted nor canceled meanwhile."""
    there = engine.store.get("analyze_tasks", row["id"])
    return there is not None and there["status"] == "processing"


def _shown(row: Row, longest: int | None = None) -> dict[str, Any]:
    body, given = row["body"], row["body"].get("given")
    source = {"type": given["type"]} if given else {"type": "video_id", "video_id": body["video_id"]}
    source |= {name: given[name] for name in ("url", "asset_id") if given and name in given}
    names = ("temperature", "max_tokens", "response_format", "start_time", "end_time")
    shown = {
        "task_id": row["id"],
        "custom_id": row["custom_id"],
        "status": row["status"],
        "created_at": row["created_at"],
        "video_source": source,
        "request_params": {
            "analysis_mode": "general",
            "prompt": body["prompt"][:longest],
            **{name: body[name] for name in names if name in body},
        },
    }
    return shown | {name: row[name] for name in ("completed_at", "result", "error") if row[name]}


async def listed(request: Request) -> Response:
    """GET /analyze/tasks"""
    engine, query = engine_of(request), request.query_params
    listing = Listing.of(query)
    listing.one_of(query, "status", STATUSES)
    listing.texts(query, {"video_url": "url", "asset_id": "asset_id"})
    return JSONResponse(listing.answer(engine.store, "analyze_tasks", lambda row: _shown(row, SHOWN)))


async def retrieve(request: Request) -> Response:
    """GET /analyze/tasks/{task_id}"""
    return JSONResponse(_shown(one_task(request, "analyze_tasks")))


async def delete(request: Request) -> Response:
    """DELETE /analyze/tasks/{task_id}"""
    engine_of(request).store.remove(
        "analyze_tasks", [Where("id", "=", one_task(request, "analyze_tasks")["id"])]
    )
    return Response(status_code=204)


async def cancel(request: Request) -> Response:
    """POST /analyze/tasks/{task_id}/cancel: what is being written is thrown away."""
    row = one_task(request, "analyze_tasks")
    if row["status"] in ("ready", "failed"):
        text = f"Task {row['id']} cannot be canceled. Its status is {row['status']}; it must be unfinished."
        raise APIProblem(409, "task_cannot_be_canceled", text)
    error, at = {"code": "user_canceled", "message": "The task was canceled by the user."}, now()
    engine_of(request).store.change(
        "analyze_tasks", row["id"], status="canceled", error=error, updated_at=at, completed_at=at
    )
    return JSONResponse({"task_id": row["id"], "status": "canceled"})


routes = [
    Route("/analyze/tasks", create, methods=["POST"]),
    Route("/analyze/tasks", listed, methods=["GET"]),
    Route("/analyze/tasks/{task_id}", retrieve, methods=["GET"]),
    Route("/analyze/tasks/{task_id}", delete, methods=["DELETE"]),
    Route("/analyze/tasks/{task_id}/cancel", cancel, methods=["POST"]),
]
