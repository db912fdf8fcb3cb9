"""/embed/tasks: vectors of videos that are in no index, created in the background."""

from __future__ import annotations

import os
from typing import Any

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tl_data.local import models
from tl_data.local.errors import invalid, not_provided, one_of, unknown_resource
from tl_data.local.search.dimensions import resize_segments
from tl_data.local.server.context import Engine, engine_of, find_task
from tl_data.local.server.pagination import Listing, parse_time, split_values
from tl_data.local.server.routes.embed import SCOPES, embed_model, vector_response
from tl_data.local.server.routes.tasks import read_source
from tl_data.local.storage.database import Row, Where, new_id, now

STATUSES = ("processing", "ready", "failed")
LISTED_DAYS = 7  # maximum age of listed tasks, if the request has no `started_at`


def new_task(
    model: str,
    scopes: list[str],
    length: float | None,
    *,
    start: float | None,
    end: float | None,
    outcome: dict[str, Any] | None,
) -> Row:
    """The row of a new embedding task, without its source.

    Args:
        length: seconds per clip; None for clips that end at cuts.
        start, end: the time range to embed, in seconds; None for the whole video.
        outcome: the outcome that a fault injects.
    """
    at = now()
    return {
        "id": new_id(), "status": "processing", "model_name": model, "created_at": at, "updated_at": at,
        "url": None, "filename": "", "sha256": None, "start": start, "end": end, "clip_length": length,
        "scopes": scopes, "fate": outcome, "stuck": 0, "kind": "video",
    }  # fmt: skip


async def create(request: Request) -> Response:
    """POST /embed/tasks"""
    engine = engine_of(request)
    async with engine.form(request, "video_file") as form:
        name = embed_model(engine, form)
        start = form.number("video_start_offset_sec", 0, 1e6)
        end = form.number("video_end_offset_sec", 0, 1e6)
        length = form.number("video_clip_length", -1e9, 1e9)
        length = 6.0 if length is None else length
        if not 2 <= length <= 10:
            raise invalid(
                "video_clip_length",
                "video_clip_length should be within 2-10 seconds long.",
                form.text("video_clip_length"),
            )
        if (start is None) != (end is None):
            raise not_provided("video_end_offset_sec" if end is None else "video_start_offset_sec")
        if end is not None and end <= (start or 0.0):
            raise invalid(
                "video_end_offset_sec",
                f"video_end_offset_sec should be greater than video_start_offset_sec, {start or 0:g}.",
                form.text("video_end_offset_sec"),
            )
        if end is not None and end - (start or 0.0) < length:
            raise invalid(
                "video_clip_length",
                f"A clip must fit between the two offsets, {start or 0:g} and {end:g}.",
                form.text("video_clip_length") or "6, the default",
            )
        scopes = form.choices("video_embedding_scope", SCOPES) or form.choices(
            "video_embedding_scopes", SCOPES
        )
        url, upload = read_source(engine, form)
        row = new_task(
            name, scopes or ["clip"], length, start=start, end=end,
            outcome=request.scope.get("tl.injected_outcome"),
        ) | {"url": url}  # fmt: skip
        if upload:
            row |= {"filename": upload.filename, "sha256": upload.sha256}
        if upload:
            folder = engine.config.home / "embeds" / row["id"]
            folder.mkdir(parents=True)
            os.replace(upload.path, folder / "source")
        with engine.store.transaction():
            engine.store.add("embed_tasks", row)
            engine.store.increment("embed tasks created")
    await engine.queue.wake()
    model_name = models.response_model_name(row["model_name"], engine.config.tiers)
    return vector_response(
        engine, {"_id": row["id"], "model_name": model_name, "status": "processing"}, engine.created_status
    )


def _task_to_json(engine: Engine, row: Row) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "video_clip_length": row["clip_length"],
        "video_embedding_scope": row["scopes"],
        **({"input_url": row["url"]} if row["url"] else {"input_filename": row["filename"]}),
    }
    if row["duration"] is not None:
        metadata["duration"] = row["duration"]
    fields = {
        "_id": row["id"],
        "model_name": models.response_model_name(row["model_name"], engine.config.tiers),
        "status": row["status"],
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
        "video_embedding": {"metadata": metadata},
    }
    if row["error"]:
        if engine.profile.own_fields:
            fields["error"] = row["error"]
        fields["video_embedding"]["error_message"] = row["error"]["message"]
    return fields


def add_time_filters(listing: Listing, query: QueryParams, kept_seconds: float) -> None:
    """Add filters for the creation time. Tasks older than `kept_seconds` have expired and are not listed."""
    started_at, ended_at = query.get("started_at"), query.get("ended_at")
    since = parse_time("started_at", started_at) if started_at else now(-LISTED_DAYS * 86400)
    listing.where += [Where("created_at", "gte", since), Where("created_at", "gt", now(-kept_seconds))]
    if ended_at:
        listing.where.append(Where("created_at", "lte", parse_time("ended_at", ended_at)))


async def list_tasks(request: Request) -> Response:
    """GET /embed/tasks: the tasks of the last seven days, or since `started_at`."""
    engine, query = engine_of(request), request.query_params
    listing = Listing.from_query(query)
    add_time_filters(listing, query, engine.config.embed_task_seconds)
    listing.filter_one_of(query, "status", STATUSES)
    return JSONResponse(
        listing.fetch_page(engine.store, "embed_tasks", lambda row: _task_to_json(engine, row))
    )


def find_unexpired_task(request: Request) -> Row:
    """Return the task in the path. A task that has expired is unknown (404)."""
    row = find_task(request, "embed_tasks")
    if row["created_at"] <= now(-engine_of(request).config.embed_task_seconds):
        raise unknown_resource(row["id"], "embed_tasks")
    return row


async def status(request: Request) -> Response:
    """GET /embed/tasks/{task_id}/status"""
    return JSONResponse(_task_to_json(engine_of(request), find_unexpired_task(request)))


async def retrieve(request: Request) -> Response:
    """GET /embed/tasks/{task_id}"""
    row = find_unexpired_task(request)
    options = models.embed_options(row["model_name"])
    selected = split_values(request.query_params.getlist("embedding_option"))
    if any(models.current_option(option) not in map(models.current_option, options) for option in selected):
        raise one_of("embedding_option", options, selected)
    kept = {models.current_option(option) for option in selected or options}
    response = _task_to_json(engine_of(request), row)
    if row["status"] == "ready":
        segments = [
            segment
            for segment in row["segments"]
            if models.current_option(segment["embedding_option"]) in kept
        ]
        response["video_embedding"]["segments"] = resize_segments(row["model_name"], segments)
    return vector_response(engine_of(request), response)


routes = [
    Route("/embed/tasks", create, methods=["POST"]),
    Route("/embed/tasks", list_tasks, methods=["GET"]),
    Route("/embed/tasks/{task_id}/status", status, methods=["GET"]),
    Route("/embed/tasks/{task_id}", retrieve, methods=["GET"]),
]
