"""/embed-v2 and /embed-v2/tasks: the vectors of /embed, asked for in JSON, media by URL, text or asset."""

from __future__ import annotations

import asyncio
import base64
import binascii
import math
import os
import shutil
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tl_data.local import models, tokens
from tl_data.local.errors import APIProblem, MediaProblem, invalid, not_provided, one_of
from tl_data.local.media_validation import check_image
from tl_data.local.server.context import Engine, engine_of
from tl_data.local.server.forms import read_json
from tl_data.local.server.pagination import Listing
from tl_data.local.server.pictures import load_image
from tl_data.local.server.routes.embed import SOUND_SECONDS, looked_at
from tl_data.local.server.routes.embed_tasks import STATUSES, new_task, task_of
from tl_data.local.storage.database import Row, new_id
from tl_data.local.tasks.download import check_url, fetch

Json = dict[str, Any]
NEWEST = "marengo3.5"  # known to this API alone
INPUTS = ("text", "image", "text_image", "audio", "video", "multi_input")
SOURCES = ("url", "base64_string", "asset_id")
OPTIONS = ("visual", "audio", "transcription")
SCOPES = {"clip": "clip", "asset": "video"}  # this API's word for the whole -> the engine's
TEXT_TOKENS = {NEWEST: 2000}
MAX_SOURCES = 10


async def _read(request: Request, inputs: tuple[str, ...]) -> tuple[Json, str, Json]:
    """The body, the type of its input, and the input itself."""
    engine = engine_of(request)
    body = await read_json(request, engine.config.max_inline_bytes)
    if missing := [name for name in ("input_type", "model_name") if name not in body]:
        raise not_provided(*missing)
    kind = body["input_type"]
    if kind not in inputs:
        raise one_of("input_type", inputs, kind)
    known = engine.profile.embed_v2_models or (engine.config.tiers.search_model, NEWEST, *models.EMBED_MODELS)
    models.check_embed_model(body["model_name"], engine.config.tiers, known)
    given = body.get(kind)
    if given is None:
        raise not_provided(kind)
    if not isinstance(given, dict):
        raise invalid(kind, "It must be an object.", given)
    return body, kind, given


def _source(name: str, given: Any) -> Json:
    """A media source: exactly one of an address, the bytes in base64, or an asset."""
    said = [kind for kind in SOURCES if isinstance(given, dict) and given.get(kind) is not None]
    if len(said) != 1 or not isinstance(given[said[0]], str):
        raise invalid(name, f"It must be an object with one of {', '.join(SOURCES)}.", given)
    return {"type": said[0], "value": given[said[0]]}


async def _bytes(engine: Engine, source: Json) -> bytes:
    """A picture from where it is."""
    if source["type"] == "url":
        return await load_image(engine, source["value"])
    if source["type"] == "asset_id":
        return await asyncio.to_thread(_asset(engine, source["value"]).read_bytes)
    return _decoded(source["value"])


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise invalid("base64_string", "It is not base64.") from None


def _asset(engine: Engine, asset_id: str) -> Path:
    engine.ready_asset(asset_id)
    return engine.config.asset(asset_id) / "source"


async def _bring(engine: Engine, source: Json, target: Path, what: str) -> None:
    """A file, put where it can be looked at."""
    if source["type"] == "url":
        limit = engine.config.max_video_bytes
        await fetch(source["value"], target, engine.config, limit=limit, seconds=SOUND_SECONDS, what=what)
    elif source["type"] == "asset_id":
        os.link(_asset(engine, source["value"]), target)
    else:
        await asyncio.to_thread(target.write_bytes, _decoded(source["value"]))


def _text(body: Json, given: Json) -> str:
    text = given.get("input_text")
    if text is None:
        raise not_provided("input_text")
    if not isinstance(text, str) or not text.strip():
        raise invalid("input_text", "It must be a text that is not blank.", text)
    limit = TEXT_TOKENS.get(body["model_name"], models.TOKENS)
    if tokens.count(text) > limit:
        if body.get("auto_truncate") is not True:
            raise models.too_long("input_text", text, limit)
        text = tokens.first(text, limit)
    return text


async def create(request: Request) -> Response:
    """POST /embed-v2"""
    engine = engine_of(request)
    body, kind, given = await _read(request, INPUTS)
    try:
        if kind in ("audio", "video"):
            return JSONResponse({"data": await _segments(engine, kind, given)})
        parts: list[list[float]] = []
        if kind in ("text", "text_image") or (kind == "multi_input" and given.get("input_text") is not None):
            parts.append(await engine.stages.embed_text(_text(body, given)))
        for source in _pictures(kind, given):
            image = await _bytes(engine, source)
            check_image(image, 64, 32 << 20)
            parts.append(await engine.stages.embed_image(image))
    except MediaProblem as problem:
        raise APIProblem(400, problem.code, problem.message) from None
    except ValueError as error:
        raise APIProblem(400, "image_file_broken", f"Cannot read image file. {error}") from None
    if not parts:
        raise not_provided("input_text", "media_sources")
    return JSONResponse({"data": [{"embedding": _together(parts)}]})


def _pictures(kind: str, given: Json) -> list[Json]:
    if kind in ("image", "text_image"):
        return [_source("media_source", given.get("media_source"))]
    sources = given.get("media_sources") or []
    if not isinstance(sources, list) or len(sources) > MAX_SOURCES:
        raise invalid("media_sources", f"It must be an array of at most {MAX_SOURCES} sources.", sources)
    for source in sources:
        if isinstance(source, dict) and source.get("media_type") != "image":
            raise one_of("media_type", ("image",), source.get("media_type"))
    return [_source("media_sources", source) for source in sources]


def _together(parts: list[list[float]]) -> list[float]:
    """One vector of length 1 that lies between them."""
    if len(parts) == 1:
        return parts[0]
    total = [sum(values) for values in zip(*parts, strict=True)]
    length = math.hypot(*total) or 1.0
    return [value / length for value in total]


def _wishes(kind: str, given: Json) -> tuple[list[str], list[str], float]:
    """Which vectors: options, scopes in the engine's words, and seconds a clip."""
    allowed = OPTIONS if kind == "video" else OPTIONS[1:]
    options, scopes = given.get("embedding_option") or list(allowed), given.get("embedding_scope") or ["clip"]
    for name, values, known in (
        ("embedding_option", options, allowed),
        ("embedding_scope", scopes, tuple(SCOPES)),
    ):
        if not isinstance(values, list) or any(value not in known for value in values):
            raise one_of(name, known, values)
    fixed = _member(_member(given, "segmentation"), "fixed")
    length = _seconds(fixed, "duration_sec", 1, 10)
    return options, [SCOPES[scope] for scope in scopes], 6.0 if length is None else length


def _member(given: Json, name: str) -> Json:
    """An object within an object; {} if it is not there."""
    value = given.get(name) or {}
    if not isinstance(value, dict):
        raise invalid(name, "It must be an object.", value)
    return value


def _seconds(given: Json, name: str, low: float = 0, high: float = 1e6) -> float | None:
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise invalid(name, f"It must be a number between {low:g} and {high:g}.", value)
    return float(value)


def _stretch(given: Json) -> tuple[float | None, float | None]:
    """The part of the file that is meant, in seconds."""
    start, end = _seconds(given, "start_sec"), _seconds(given, "end_sec")
    if end is not None and end <= (start or 0.0):
        raise invalid("end_sec", f"It must be greater than start_sec, {start or 0:g}.", end)
    return start, end


async def _segments(engine: Engine, kind: str, given: Json) -> list[Json]:
    options, scopes, length = _wishes(kind, given)
    start, end = _stretch(given)
    source = _source("media_source", given.get("media_source"))
    folder = engine.config.home / "embeds" / new_id()
    folder.mkdir(parents=True)
    try:
        await _bring(engine, source, folder / "source", kind)
        evidence = await looked_at(engine, kind, folder / "source", folder / "frames")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return [shown(s) for s in await engine.stages.segments_of(evidence, options, scopes, length, start, end)]


def shown(segment: Json) -> Json:
    """A vector in the words of this API."""
    return {
        "embedding": segment["float"],
        "embedding_option": models.same_option(segment["embedding_option"]),
        "embedding_scope": "asset" if segment["embedding_scope"] == "video" else "clip",
        "start_sec": segment["start_offset_sec"],
        "end_sec": segment["end_offset_sec"],
    }


async def create_task(request: Request) -> Response:
    """POST /embed-v2/tasks"""
    engine = engine_of(request)
    body, kind, given = await _read(request, ("audio", "video"))
    options, scopes, length = _wishes(kind, given)
    start, end = _stretch(given)
    source = _source("media_source", given.get("media_source"))
    row = new_task(
        body["model_name"], scopes, length, start=start, end=end, fate=request.scope.get("tl.fate")
    ) | {"options": options, "kind": kind}
    try:
        if source["type"] == "url":
            row["url"] = check_url(source["value"], engine.config)
        else:
            folder = engine.config.home / "embeds" / row["id"]
            folder.mkdir(parents=True)
            await _bring(engine, source, folder / "source", kind)
    except MediaProblem as problem:
        raise invalid("media_source", problem.message, source["value"]) from None
    with engine.store.transaction():
        engine.store.add("embed_tasks", row)
        engine.store.count("embed tasks created")
    await engine.queue.wake()
    return JSONResponse({"_id": row["id"], "status": "processing", "data": None}, 201)


def _shown_task(row: Row) -> Json:
    return {
        "_id": row["id"],
        "model_name": row["model_name"],
        "status": row["status"],
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
    }


async def listed(request: Request) -> Response:
    """GET /embed-v2/tasks"""
    engine, query = engine_of(request), request.query_params
    listing = Listing.of(query)
    listing.one_of(query, "status", STATUSES)
    return JSONResponse(listing.answer(engine.store, "embed_tasks", _shown_task))


async def retrieve(request: Request) -> Response:
    """GET /embed-v2/tasks/{task_id}"""
    row = task_of(request)
    answer = _shown_task(row) | {"data": None}
    if row["status"] == "ready":
        answer["data"] = [
            item
            for item in map(shown, row["segments"])
            if item["embedding_option"] in (row["options"] or OPTIONS)
        ]
        answer["metadata"] = {
            "input_type": row["kind"],
            "duration": row["duration"],
            "clip_length": row["clip_length"],
            "embedding_options": row["options"] or list(OPTIONS),
            "embedding_scopes": ["asset" if scope == "video" else scope for scope in row["scopes"]],
        }
    if row["error"]:
        answer["error"] = row["error"]
    return JSONResponse(answer)


routes = [
    Route("/embed-v2", create, methods=["POST"]),
    Route("/embed-v2/tasks", create_task, methods=["POST"]),
    Route("/embed-v2/tasks", listed, methods=["GET"]),
    Route("/embed-v2/tasks/{task_id}", retrieve, methods=["GET"]),
]
