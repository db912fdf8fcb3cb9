"""/embed-v2 and /embed-v2/tasks: embeddings from JSON requests with a URL, base64 data or an asset."""

from __future__ import annotations

import asyncio
import base64
import binascii
import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tl_data.local import models
from tl_data.local.errors import (
    EngineError,
    MediaError,
    invalid,
    not_provided,
    one_of,
    option_not_implemented,
)
from tl_data.local.media_validation import check_image
from tl_data.local.search.dimensions import resize_segments, resize_vector
from tl_data.local.server.context import Engine, engine_of, while_connected
from tl_data.local.server.forms import read_json
from tl_data.local.server.pagination import Listing
from tl_data.local.server.references import load_image
from tl_data.local.server.routes.embed import DOWNLOAD_TIMEOUT_SEC, analyze_source, vector_response
from tl_data.local.server.routes.embed_tasks import STATUSES, add_time_filters, find_unexpired_task, new_task
from tl_data.local.storage.database import Row, new_id
from tl_data.local.tasks.download import check_url, fetch

Json = dict[str, Any]
MARENGO_35 = "marengo3.5"  # only /embed-v2 accepts this model
INPUTS = ("text", "image", "text_image", "audio", "video", "multi_input")
TASK_INPUTS = ("audio", "video", "document", "image")
MEDIA_TYPES = ("image", "video", "audio", "document")
SOURCES = ("url", "base64_string", "asset_id")
OPTIONS = ("visual", "audio", "transcription")
SCOPES = {"clip": "clip", "local": "clip", "asset": "video"}  # name in this API -> name in the engine
TYPES = ("separate_embedding", "fused_embedding")
TEXT_TOKENS = {MARENGO_35: 2000}
MAX_SOURCES = 10
FUSED_NONE, FUSED_ADDED, FUSED_ONLY = 0, 1, 2  # values of the column `fused` of a stored task
MIN_DIMENSION, MAX_DIMENSION = 16, 512
#: Usage tokens of Marengo 3.5: per image, per second of video, per second of audio.
IMAGE_TOKENS, VIDEO_TOKENS, AUDIO_TOKENS = 258, 75, 5


@dataclass
class VectorRequest:
    """The vectors requested for an audio or video.

    `scopes` are names of the engine; `length` is seconds per clip, None for clips that end at cuts.
    """

    options: list[str]
    scopes: list[str]
    length: float | None
    fused: bool = False
    separate: bool = True


async def _read(
    request: Request, inputs: tuple[str, ...], strict_inputs: tuple[str, ...]
) -> tuple[Json, str, Json]:
    """Read and validate a request. Returns the body, the type of its input, and the input itself.

    Args:
        inputs: the input types of the route.
        strict_inputs: the input types that Marengo 3.5 accepts under a strict profile.
    """
    engine = engine_of(request)
    body = await read_json(request, engine.config.max_inline_bytes)
    for name in INPUTS:
        if name in body and not isinstance(body[name], dict):
            json_type = {str: "string", list: "array", bool: "boolean"}.get(type(body[name]), "number")
            raise invalid(name, f"received {json_type}, but expected object")
    if missing := [name for name in ("input_type", "model_name") if name not in body]:
        raise not_provided(*missing)
    kind, name = body["input_type"], body["model_name"]
    if kind not in inputs:
        raise one_of("input_type", inputs, kind)
    known = engine.profile.embed_v2_models or (
        engine.config.tiers.search_model,
        MARENGO_35,
        *models.EMBED_MODELS,
    )
    models.check_embed_model(name, engine.config.tiers, known)
    allowed = inputs
    if inputs is TASK_INPUTS and name != MARENGO_35:
        allowed = TASK_INPUTS[:2]  # documents and images are inputs of Marengo 3.5
    elif name == MARENGO_35 and engine.profile.strict:
        allowed = strict_inputs
    if kind not in allowed:
        raise one_of("input_type", allowed, kind)
    _check_marengo_35(body)
    input_json = body.get(kind)
    if input_json is None:
        raise not_provided(kind)
    if kind == "document":
        raise option_not_implemented("document embeddings")
    return body, kind, input_json


def _check_marengo_35(body: Json) -> None:
    """Reject options of Marengo 3.5 with other models, and options that are not implemented."""
    for name in ("embedding_dimension", "embedding_uncertainty"):
        if name in body and body["model_name"] != MARENGO_35:
            raise invalid(name, f"Only {MARENGO_35} supports it; the request names {body['model_name']}.")
    size = body.get("embedding_dimension")
    if size is not None:
        is_whole = isinstance(size, int) and not isinstance(size, bool)
        if not is_whole or not MIN_DIMENSION <= size <= MAX_DIMENSION:
            text = f"It must be a whole number between {MIN_DIMENSION} and {MAX_DIMENSION}."
            raise invalid("embedding_dimension", text, size)
    if body.get("embedding_uncertainty"):
        raise option_not_implemented("embedding_uncertainty")


def _read_source(name: str, source: Any) -> Json:
    """Read a media source: exactly one of a URL, base64 data or an asset id."""
    types = [kind for kind in SOURCES if isinstance(source, dict) and source.get(kind) is not None]
    if len(types) != 1 or not isinstance(source[types[0]], str):
        raise invalid(name, f"It must be an object with one of {', '.join(SOURCES)}.", source)
    return {"type": types[0], "value": source[types[0]]}


async def _load_image(engine: Engine, source: Json) -> bytes:
    """Load the bytes of an image."""
    if source["type"] == "url":
        return await load_image(engine, source["value"])
    if source["type"] == "asset_id":
        return await asyncio.to_thread(_asset_file(engine, source["value"]).read_bytes)
    return _decode_base64(source["value"])


def _decode_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise invalid("base64_string", "It is not valid base64.") from None


def _asset_file(engine: Engine, asset_id: str) -> Path:
    """The path of the file of an asset."""
    row = engine.ready_asset(asset_id)
    if "indexed" in row:
        raise invalid("asset_id", "Its file was uploaded to /tasks and is not stored. Upload it to /assets.")
    return engine.config.asset(asset_id) / "source"


async def _save_source(engine: Engine, source: Json, target: Path, what: str) -> None:
    """Write a media source to `target`."""
    if source["type"] == "url":
        limit = engine.config.video_bytes
        await fetch(
            source["value"], target, engine.config, limit=limit, seconds=DOWNLOAD_TIMEOUT_SEC, what=what
        )
    elif source["type"] == "asset_id":
        os.link(_asset_file(engine, source["value"]), target)
    else:
        await asyncio.to_thread(target.write_bytes, _decode_base64(source["value"]))


def _read_text(body: Json, input_json: Json, usage: Json) -> str:
    """Read the text of an input, truncated if the request allows it. Adds its tokens to `usage`."""
    text = input_json.get("input_text")
    if text is None:
        raise not_provided("input_text")
    if not isinstance(text, str) or not text.strip():
        raise invalid("input_text", "It must be a text that is not blank.", text)
    limit = TEXT_TOKENS.get(body["model_name"], models.TOKENS)
    if models.count_tokens(text) > limit:
        if body.get("auto_truncate") is not True:
            raise models.too_long("input_text", text, limit)
        text = models.first_tokens(text, limit)
        usage |= {"truncated": True, "truncation_reason": "model_context_window"}
    usage["input_tokens"]["text"] = models.count_tokens(text)
    return text


async def create(request: Request) -> Response:
    """POST /embed-v2"""
    engine = engine_of(request)
    body, kind, input_json = await _read(request, INPUTS, ("multi_input",))
    name, size = body["model_name"], body.get("embedding_dimension")
    usage: Json = {"input_tokens": {}, "truncated": False}
    metadata: Json = {"input_type": kind}
    try:
        if kind in ("audio", "video"):
            segments, facts = await while_connected(request, _embed_segments(engine, name, kind, input_json))
            response: Json = {
                "data": [to_json(segment) for segment in resize_segments(name, segments)],
                "metadata": metadata | facts,
            }
            return vector_response(engine, response)
        parts: list[list[float]] = []
        if kind in ("text", "text_image") or (
            kind == "multi_input" and input_json.get("input_text") is not None
        ):
            parts.append(await engine.stages.embed_text(_read_text(body, input_json, usage)))
        sources = _read_media(name, kind, input_json)
        for media, source in sources:
            parts.append(await _embed_media(engine, media, source, usage))
            if kind in ("image", "text_image") and source["type"] == "url":
                metadata["input_url"] = source["value"]
    except MediaError as error:
        raise EngineError(400, error.code, error.message) from None
    except ValueError as error:
        raise EngineError(400, "image_file_broken", f"Cannot read image file. {error}") from None
    if not parts:
        raise not_provided("input_text", "media_sources")
    # `_embed_segments` has charged videos and sounds, by their seconds.
    if not sources:
        engine.bill.charge("embed_text")
    elif any(media == "image" for media, _ in sources):
        engine.bill.charge("embed_image")
    null_fields = dict.fromkeys(("embedding_option", "embedding_scope", "start_sec", "end_sec"))
    response = {"data": [{"embedding": resize_vector(name, _normalized_sum(parts), size), **null_fields}]}
    if kind != "text":
        response["metadata"] = metadata
    if name == MARENGO_35:
        response["usage"] = usage
        response["metadata"] = metadata | {"embedding_dimension": size or MAX_DIMENSION}
    return vector_response(engine, response)


def _read_media(model: str, kind: str, input_json: Json) -> list[tuple[str, Json]]:
    """The media types and sources of an input."""
    if kind in ("image", "text_image"):
        return [("image", _read_source("media_source", input_json.get("media_source")))]
    sources = input_json.get("media_sources") or []
    if not isinstance(sources, list) or len(sources) > MAX_SOURCES:
        raise invalid("media_sources", f"It must be an array of at most {MAX_SOURCES} sources.", sources)
    allowed = MEDIA_TYPES if model == MARENGO_35 else MEDIA_TYPES[:1]
    media_sources: list[tuple[str, Json]] = []
    for source in sources:
        media = source.get("media_type") if isinstance(source, dict) else None
        if isinstance(source, dict) and media not in allowed:
            raise one_of("media_type", allowed, media)
        if media == "document":
            raise option_not_implemented("document embeddings")
        media_sources.append((str(media), _read_source("media_sources", source)))
    if len({media for media, _ in media_sources}) > 1 and input_json.get("input_text") is None:
        raise invalid("input_text", "It is required if the media have different types.")
    return media_sources


async def _embed_media(engine: Engine, media: str, source: Json, usage: Json) -> list[float]:
    """Embed a picture, or a whole sound or video, as one vector. Adds its tokens to `usage`."""
    tokens = usage["input_tokens"]
    if media == "image":
        image = await _load_image(engine, source)
        check_image(image, 64, 32 << 20)
        tokens["image"] = tokens.get("image", 0) + IMAGE_TOKENS
        return await engine.stages.embed_image(image)
    options = ["visual", "audio"] if media == "video" else ["audio"]
    segments, metadata = await _embed_segments(
        engine, MARENGO_35, media, {"media_source": {source["type"]: source["value"]}},
        VectorRequest(options, ["video"], None),
    )  # fmt: skip
    seconds = metadata["duration"]
    if media == "video":
        tokens["video"] = tokens.get("video", 0) + round(VIDEO_TOKENS * seconds)
    tokens["audio"] = tokens.get("audio", 0) + round(AUDIO_TOKENS * seconds)
    if not segments:
        raise MediaError("video_audio_track_not_exists", "The file has nothing to embed.")
    return _normalized_sum([segment["float"] for segment in segments])


def _normalized_sum(parts: list[list[float]]) -> list[float]:
    """The normalized sum of vectors."""
    if len(parts) == 1:
        return parts[0]
    total = [sum(values) for values in zip(*parts, strict=True)]
    length = math.hypot(*total) or 1.0
    return [value / length for value in total]


def _read_vector_request(engine: Engine, model: str, kind: str, input_json: Json) -> VectorRequest:
    """Read which vectors of an audio or video are requested."""
    is_marengo_35, strict = model == MARENGO_35, engine.profile.strict
    allowed = OPTIONS[: 2 if is_marengo_35 and strict else 3] if kind == "video" else OPTIONS[1:]
    if is_marengo_35 and strict and kind == "audio":
        allowed = OPTIONS[1:2]
    scopes_allowed = tuple(scope for scope in SCOPES if is_marengo_35 or scope != "local")
    options = input_json.get("embedding_option") or list(allowed)
    scopes = input_json.get("embedding_scope") or (["clip", "asset"] if strict else ["clip"])
    types = input_json.get("embedding_type") or list(TYPES[:1])
    for name, values, known in (
        ("embedding_option", options, allowed),
        ("embedding_scope", scopes, scopes_allowed),
        ("embedding_type", types, TYPES),
    ):
        if not isinstance(values, list) or any(value not in known for value in values):
            raise one_of(name, known, values)
    if input_json.get("time_based_metadata"):
        raise option_not_implemented("time_based_metadata of embeddings")
    fused = TYPES[1] in types
    if fused and len(options) < 2:
        raise invalid("embedding_type", "fused_embedding needs at least two options.", types)
    if fused and is_marengo_35:
        raise invalid("embedding_type", f"fused_embedding of {MARENGO_35} needs time_based_metadata.", types)
    length = _clip_length(engine, model, kind, input_json)
    engine_scopes = list(dict.fromkeys(SCOPES[scope] for scope in scopes))
    return VectorRequest(options, engine_scopes, length, fused, TYPES[0] in types)


def _clip_length(engine: Engine, model: str, kind: str, input_json: Json) -> float | None:
    """The requested seconds per clip; None for clips that end at cuts.

    `dynamic.min_duration_sec` is validated and has no effect: cuts alone determine the clips.
    """
    segmentation, is_marengo_35 = _member(input_json, "segmentation"), model == MARENGO_35
    strict = engine.profile.strict
    if segmentation and strict and ("temporal" in segmentation) != is_marengo_35:
        member = "segmentation.temporal" if is_marengo_35 else "segmentation, without temporal"
        raise invalid("segmentation", f"For {model}, put the strategy in {member}.", segmentation)
    segmentation = _member(segmentation, "temporal") or segmentation
    strategy = segmentation.get("strategy", "fixed" if "fixed" in segmentation else None)
    if strategy not in (None, "fixed", "dynamic"):
        raise one_of("strategy", ("fixed", "dynamic"), strategy)
    if strategy == "dynamic":
        if kind == "audio" and not is_marengo_35:
            raise one_of("strategy", ("fixed",), strategy)
        _read_seconds(_member(segmentation, "dynamic"), "min_duration_sec", 1, 5)
        return None
    fixed = _member(segmentation, "fixed")
    length = _read_seconds(fixed, "duration_sec", 2, 10)
    if length is not None or not strict:
        return 6.0 if length is None else length
    return 6.0 if kind == "audio" and not is_marengo_35 else None


def _member(input_json: Json, name: str) -> Json:
    """The member `name` of an object, which must be an object itself; {} if it is absent."""
    value = input_json.get(name) or {}
    if not isinstance(value, dict):
        raise invalid(name, "It must be an object.", value)
    return value


def _read_seconds(input_json: Json, name: str, low: float = 0, high: float = 1e6) -> float | None:
    value = input_json.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise invalid(name, f"It must be a number between {low:g} and {high:g}.", value)
    return float(value)


def _read_window(input_json: Json) -> tuple[float | None, float | None]:
    """Read start and end of the requested time range, in seconds; None if absent."""
    start, end = _read_seconds(input_json, "start_sec"), _read_seconds(input_json, "end_sec")
    if end is not None and end <= (start or 0.0):
        raise invalid("end_sec", f"It must be greater than start_sec, {start or 0:g}.", end)
    return start, end


async def _embed_segments(
    engine: Engine, model: str, kind: str, input_json: Json, vector_request: VectorRequest | None = None
) -> tuple[list[Json], Json]:
    """Embed an audio or video. Returns its segments, and the metadata for the response."""
    vector_request = vector_request or _read_vector_request(engine, model, kind, input_json)
    start, end = _read_window(input_json)
    source = _read_source("media_source", input_json.get("media_source"))
    folder = engine.config.home / "embeds" / new_id()
    folder.mkdir(parents=True)
    try:
        await _save_source(engine, source, folder / "source", kind)
        evidence = await analyze_source(engine, kind, folder / "source", folder / "frames")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    duration = evidence.probe.duration_sec
    segments = await engine.stages.segments_of(
        evidence, vector_request.options, vector_request.scopes, vector_request.length, start, end
    )
    stop = duration if end is None else min(end, duration)
    engine.bill.charge(f"embed_{kind}", seconds=round(stop - (start or 0.0), 3))
    metadata = _metadata(vector_request.options, vector_request.scopes, vector_request.length, duration)
    metadata |= {"input_url": source["value"]} if source["type"] == "url" else {}
    return add_fused(segments, vector_request.fused, vector_request.separate), metadata


def _metadata(options: list[str], scopes: list[str], length: float | None, duration: float | None) -> Json:
    metadata: Json = {
        "duration": None if duration is None else round(duration, 3),
        "embedding_options": options,
        "embedding_scopes": ["asset" if scope == "video" else scope for scope in scopes],
    }
    return metadata if length is None else metadata | {"clip_length": length}


def add_fused(segments: list[Json], fused: bool, separate: bool = True) -> list[Json]:
    """Add a fused segment for each time range and scope: the normalized sum over the embedding options.

    With `separate=False`, only the fused segments are returned.
    """
    if not fused:
        return segments
    groups: dict[tuple[float, float, str], list[Json]] = {}
    for segment in segments:
        key = (segment["start_offset_sec"], segment["end_offset_sec"], segment["embedding_scope"])
        groups.setdefault(key, []).append(segment)
    fused_segments = [
        parts[0] | {"embedding_option": "fused", "float": _normalized_sum([part["float"] for part in parts])}
        for parts in groups.values()
    ]
    return [*segments, *fused_segments] if separate else fused_segments


def to_json(segment: Json) -> Json:
    """The JSON of a segment with its vector."""
    return {
        "embedding": segment["float"],
        "embedding_option": models.current_option(segment["embedding_option"]),
        "embedding_scope": "asset" if segment["embedding_scope"] == "video" else "clip",
        "start_sec": segment["start_offset_sec"],
        "end_sec": segment["end_offset_sec"],
    }


async def create_task(request: Request) -> Response:
    """POST /embed-v2/tasks"""
    engine = engine_of(request)
    body, kind, input_json = await _read(request, TASK_INPUTS, TASK_INPUTS)
    name, size = body["model_name"], body.get("embedding_dimension")
    if kind == "image":
        row = await _image_task(engine, name, input_json)
    else:
        row = await _media_task(engine, name, kind, input_json, request.scope.get("tl.injected_outcome"))
    row["dimension"] = size
    with engine.store.transaction():
        engine.store.add("embed_tasks", row)
        engine.store.increment("embed tasks created")
    await engine.queue.wake()
    response: Json = {"_id": row["id"], "status": "processing", "data": None}
    if name == MARENGO_35:
        response["metadata"] = {"embedding_dimension": size or MAX_DIMENSION}
    return vector_response(engine, response, 202)


async def _media_task(engine: Engine, name: str, kind: str, input_json: Json, outcome: Json | None) -> Row:
    vector_request = _read_vector_request(engine, name, kind, input_json)
    start, end = _read_window(input_json)
    source = _read_source("media_source", input_json.get("media_source"))
    row = new_task(name, vector_request.scopes, vector_request.length, start=start, end=end, outcome=outcome)
    fused = FUSED_NONE if not vector_request.fused else FUSED_ADDED if vector_request.separate else FUSED_ONLY
    row |= {"options": vector_request.options, "kind": kind, "fused": fused}
    try:
        if source["type"] == "url":
            row["url"] = check_url(source["value"], engine.config)
        else:
            folder = engine.config.home / "embeds" / row["id"]
            folder.mkdir(parents=True)
            await _save_source(engine, source, folder / "source", kind)
    except MediaError as error:
        raise invalid("media_source", error.message, source["value"]) from None
    return row


async def _image_task(engine: Engine, name: str, input_json: Json) -> Row:
    """The row of a task for an image. It is embedded at once, so the task is already ready."""
    source = _read_source("media_source", input_json.get("media_source"))
    try:
        image = await _load_image(engine, source)
        check_image(image, 64, 32 << 20)
        vector = await engine.stages.embed_image(image)
    except MediaError as error:
        raise invalid("media_source", error.message, source["value"]) from None
    except ValueError as error:
        raise invalid("media_source", f"Cannot read image file. {error}") from None
    engine.bill.charge("embed_image")
    segment = {
        "start_offset_sec": None, "end_offset_sec": None, "embedding_option": "visual",
        "embedding_scope": "video", "float": vector,
    }  # fmt: skip
    row = new_task(name, ["video"], None, start=None, end=None, outcome=None)
    return row | {"options": ["visual"], "kind": "image", "status": "ready", "segments": [segment]}


def _task_json(row: Row) -> Json:
    return {
        "_id": row["id"],
        "model_name": row["model_name"],
        "status": row["status"],
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
    }


async def list_tasks(request: Request) -> Response:
    """GET /embed-v2/tasks"""
    engine, query = engine_of(request), request.query_params
    listing = Listing.from_query(query)
    add_time_filters(listing, query, engine.config.embed_task_seconds)
    listing.filter_one_of(query, "status", STATUSES)

    def show(row: Row) -> Json:
        metadata = {"video_embedding_scope": _scopes_to_json(row), "duration": row["duration"]}
        metadata |= {"input_url": row["url"]} if row["url"] else {}
        return _task_json(row) | {"video_embedding": {"metadata": metadata}}

    return JSONResponse(listing.fetch_page(engine.store, "embed_tasks", show))


def _scopes_to_json(row: Row) -> list[str]:
    return ["asset" if scope == "video" else scope for scope in row["scopes"]]


async def retrieve(request: Request) -> Response:
    """GET /embed-v2/tasks/{task_id}"""
    engine, row = engine_of(request), find_unexpired_task(request)
    response = _task_json(row) | {"data": None}
    if engine.profile.name == "today":
        del response["model_name"]  # only the list has it
    options = row["options"] or list(OPTIONS)
    if row["status"] == "ready":
        segments = add_fused(row["segments"], row["fused"] != FUSED_NONE, row["fused"] != FUSED_ONLY)
        segments = resize_segments(row["model_name"], segments, row["dimension"])
        kept = (*options, "fused")
        response["data"] = [item for item in map(to_json, segments) if item["embedding_option"] in kept]
        response["metadata"] = {"input_type": row["kind"]} | _metadata(
            options, row["scopes"], row["clip_length"], row["duration"]
        )
        response["metadata"] |= {"input_url": row["url"]} if row["url"] else {}
        if row["model_name"] == MARENGO_35:
            response["metadata"]["embedding_dimension"] = row["dimension"] or MAX_DIMENSION
            response["usage"] = {"input_tokens": _input_tokens(row), "truncated": False}
    if row["error"]:
        response["error"] = (
            row["error"] if engine.profile.own_fields else {"message": row["error"]["message"]}
        )
    return vector_response(engine, response)


def _input_tokens(row: Row) -> Json:
    if row["kind"] == "image":
        return {"image": IMAGE_TOKENS}
    seconds = (row["end"] or row["duration"] or 0.0) - (row["start"] or 0.0)
    sound = {"audio": round(AUDIO_TOKENS * seconds)}
    return sound if row["kind"] == "audio" else {"video": round(VIDEO_TOKENS * seconds)} | sound


routes = [
    Route("/embed-v2", create, methods=["POST"]),
    Route("/embed-v2/tasks", create_task, methods=["POST"]),
    Route("/embed-v2/tasks", list_tasks, methods=["GET"]),
    Route("/embed-v2/tasks/{task_id}", retrieve, methods=["GET"]),
]
