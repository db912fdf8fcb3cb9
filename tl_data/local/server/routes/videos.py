"""/indexes/{index_id}/videos, and the files behind the signed URLs of a video."""

from __future__ import annotations

import contextlib
import shutil
from typing import Any

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from tl_data.local import models
from tl_data.local.errors import EngineError, invalid, one_of, unknown_video
from tl_data.local.media_validation import refusal_of_service
from tl_data.local.search.dimensions import resize_segments
from tl_data.local.server.context import Engine, engine_of
from tl_data.local.server.forms import parse_flag, read_json
from tl_data.local.server.metadata import (
    MAX_KEYS,
    check_metadata,
    merge_metadata,
    parse_repr,
    round_metadata_to_single,
    to_bindable,
)
from tl_data.local.server.old_names import VIDEO, refuse_old_names
from tl_data.local.server.pagination import LISTING_PARAMETERS, Listing, split_values
from tl_data.local.storage.database import Row, Where, now
from tl_data.local.tasks.hls import PLAYLIST, TYPES
from tl_data.local.tasks.reindex import model_mismatch

NUMBERS = ("duration", "fps", "width", "height", "size")
TIMES = ("created_at", "updated_at")
THUMBNAIL = "thumbnail.jpg"  # file name of a small copy of the best keyframe

#: Players run in pages of any origin. Some send an OPTIONS request before they read a range of a file.
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
    "Access-Control-Allow-Headers": "Range",
    "Access-Control-Expose-Headers": "Content-Length, Content-Range",
    "Access-Control-Max-Age": "86400",
}


def system_metadata(row: Row) -> dict[str, Any]:
    """The known metadata of the file of a video."""
    names = ("filename", "duration", "fps", "width", "height", "size", "video_title")
    return {name: row[name] for name in names if row.get(name) is not None}


def service_refusal(engine: Engine, row: Row) -> dict[str, Any]:
    """The field `service_refusal`: why the service would refuse a video that this profile accepts.

    The field is an addition of the engine. It is absent if the service would accept the video.
    """
    if not engine.profile.own_fields or row["duration"] is None:
        return {}
    error = refusal_of_service(row["width"], row["height"], row["duration"])
    return {"service_refusal": {"code": error.code, "message": error.message}} if error else {}


def video_to_json(engine: Engine, request: Request, row: Row) -> dict[str, Any]:
    """The JSON of a video as listings contain it."""
    profile, metadata = engine.profile, row["user_metadata"] or {}
    fields = {
        "_id": row["id"],
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
        "indexed_at": row["indexed_at"],
        "system_metadata": system_metadata(row),
        "user_metadata": round_metadata_to_single(metadata) if profile.single_precision else metadata,
    }
    if profile.plain_video_times:
        changed = row["updated_at"] if row["updated_at"] != row["indexed_at"] else None
        fields |= {"created_at": f"{row['created_at'][:19]}Z", "updated_at": changed}
    if profile.asset_of_video:
        tasks = engine.store.rows("tasks", [Where("video_id", "=", row["id"])], limit=1)
        fields["asset_id"] = (tasks[0]["asset_id"] if tasks else None) or row["id"]
    fields |= service_refusal(engine, row)
    if row["hls_status"]:
        fields["hls"] = _stream_to_json(engine, request, row, [THUMBNAIL])
    return fields


async def hls_to_json(engine: Engine, request: Request, row: Row) -> dict[str, Any] | None:
    """The JSON of the stream of a video and its thumbnails; None if the task did not request a stream.

    With the thumbnail addon of the index, each clip has a thumbnail; without it, the video has one.
    """
    if not row["hls_status"]:
        return None
    index = engine.store.get("indexes", row["index_id"]) or {}
    names = [THUMBNAIL]
    if "thumbnail" in (index.get("addons") or ()):
        with contextlib.suppress(KeyError):  # the video was deleted meanwhile
            clips = (await engine.stages.evidence(row["id"])).clips
            names = [clip.keyframe or THUMBNAIL for clip in clips]
    return _stream_to_json(engine, request, row, names)


def _stream_to_json(engine: Engine, request: Request, row: Row, names: list[str]) -> dict[str, Any]:
    frames = engine.config.folder(row["id"]) / "frames"
    base_url, sign = str(request.base_url), engine.signed_urls.url_for
    return {
        "video_url": sign(base_url, row["id"], "hls", PLAYLIST),
        "thumbnail_urls": [
            sign(base_url, row["id"], "frames", name) for name in names if (frames / name).is_file()
        ],
        "status": row["hls_status"],
        "updated_at": f"{row['hls_updated_at'][:-1]}000000Z"
        if engine.profile.nanoseconds
        else row["hls_updated_at"],
    }


async def list_videos(request: Request) -> Response:
    """GET /indexes/{index_id}/videos"""
    engine, query = engine_of(request), request.query_params
    index = engine.index(request.path_params["index_id"])
    listing = Listing.from_query(query)
    listing.where.append(Where("index_id", "=", index["id"]))
    listing.filter_texts(query, {"filename": "filename", "_id": "id"})
    listing.filter_numbers(query, NUMBERS)
    listing.filter_times(query, TIMES)
    listing.where += _metadata_filters(query)
    return JSONResponse(
        listing.fetch_page(engine.store, "videos", lambda row: video_to_json(engine, request, row))
    )


def _metadata_filters(query: QueryParams) -> list[Where]:
    """Read filters for user metadata: all query parameters except those of the listing itself."""
    listing_parameters = {*LISTING_PARAMETERS, *NUMBERS, *TIMES, "filename", "_id"}
    filters: list[Where] = []
    for key, value in query.multi_items():
        name = key.partition("[")[0]
        if key in listing_parameters or name in listing_parameters:
            continue
        if key == "user_metadata":
            filters += _from_repr(value)
        else:
            # `untyped`: the text of a query string also equals a number or a boolean that is written so.
            filters.append(Where(key, "=", value, metadata=True, untyped=True))
    return _at_most_max_keys(filters)


def nested_metadata_filters(query: QueryParams) -> list[Where]:
    """Read filters for user metadata that stand in the parameter `user_metadata`, as the SDKs send them.

    `user_metadata[camera]=7`, or `user_metadata={'camera': '7'}`.
    """
    filters: list[Where] = []
    for key, value in query.multi_items():
        if key == "user_metadata":
            filters += _from_repr(value)
        elif key.startswith("user_metadata[") and key.endswith("]"):
            name = key.removeprefix("user_metadata[").removesuffix("]")
            filters.append(Where(name, "=", value, metadata=True, untyped=True))
    return _at_most_max_keys(filters)


def _at_most_max_keys(filters: list[Where]) -> list[Where]:
    if len(filters) > MAX_KEYS:
        raise invalid(
            "user_metadata", f"At most {MAX_KEYS} keys can be filtered by; there are {len(filters)}."
        )
    return filters


def _from_repr(text: str) -> list[Where]:
    """Read the filters that an SDK sends as the repr of a Python dict, or as JSON without true and false."""
    try:
        metadata = parse_repr(text)
    except ValueError:
        raise invalid("user_metadata", "It must be an object of texts, numbers and booleans.", text) from None
    if any(
        "\ud800" <= letter <= "\udfff" for item in metadata.items() for part in item for letter in str(part)
    ):
        raise invalid("user_metadata", "It contains an unpaired surrogate.")
    return [Where(key, "=", to_bindable(value), metadata=True) for key, value in metadata.items()]


async def retrieve(request: Request) -> Response:
    """GET /indexes/{index_id}/videos/{video_id}"""
    engine = engine_of(request)
    row = engine.video(request.path_params["index_id"], request.path_params["video_id"])
    return JSONResponse(await full_video(engine, request, row))


async def full_video(engine: Engine, request: Request, row: Row) -> dict[str, Any]:
    """The JSON of a video, with the embeddings and the transcription that the query requests."""
    query, index = request.query_params, engine.index(row["index_id"])
    requested_options = split_values(query.getlist("embedding_option"))
    allowed = models.embedding_options(index["models"])
    if any(
        models.current_option(option) not in map(models.current_option, allowed)
        for option in requested_options
    ):
        raise one_of("embedding_option", allowed, requested_options)
    response = video_to_json(engine, request, row)
    if row["indexed_at"] is None:
        return response
    if hls := await hls_to_json(engine, request, row):
        response["hls"] = hls
    if requested_options and row["looked_by"] != engine.config.tiers.search_model:
        raise model_mismatch(row, engine.config.tiers)
    if requested_options:
        segments = await engine.stages.segments(
            row["id"], list(dict.fromkeys(requested_options)), ("clip", "video")
        )
        name = next(iter(models.search_models(index["models"])))["model_name"]
        response["embedding"] = {
            "model_name": models.embedding_name(models.response_model_name(name, engine.config.tiers)),
            "video_embedding": {"segments": resize_segments(name, segments)},
        }
        if engine.profile.own_fields:
            response["embedding"]["engine_model"] = engine.config.tiers.search_model
    if parse_flag("transcription", query.get("transcription") or "false") and (
        phrases := await engine.stages.transcription(row["id"])
    ):
        response["transcription"] = phrases
    return response


async def update(request: Request) -> Response:
    """PUT, PATCH /indexes/{index_id}/videos/{video_id}: sets the keys of the request. Null deletes a key."""
    engine = engine_of(request)
    row = engine.video(request.path_params["index_id"], request.path_params["video_id"])
    body = await read_json(request, engine.config.max_body_bytes)
    refuse_old_names(engine.profile, body, VIDEO)
    changes = body.get("user_metadata", {})
    title = body.get("video_title")
    if title is not None and not isinstance(title, str):
        raise invalid("video_title", "It must be a text.", title)
    check_metadata("user_metadata", changes)
    metadata = merge_metadata(row["user_metadata"] or {}, changes)
    if "task_id" in row:  # the video is not ready yet, and gets the metadata from its task later
        engine.store.change("tasks", row["task_id"], user_metadata=metadata)
        return Response(status_code=engine.updated_status)
    engine.store.change("videos", row["id"], user_metadata=metadata, updated_at=now())
    for task in engine.store.rows("tasks", [Where("video_id", "=", row["id"])], columns=["id"]):
        engine.store.change("tasks", task["id"], user_metadata=metadata)  # for the list of indexed assets
    if title:
        engine.store.change("videos", row["id"], video_title=title)
    return Response(status_code=engine.updated_status)


async def delete(request: Request) -> Response:
    """DELETE /indexes/{index_id}/videos/{video_id}: also deletes its vectors and files."""
    engine = engine_of(request)
    row = engine.video(request.path_params["index_id"], request.path_params["video_id"])
    if "task_id" in row:
        raise EngineError(400, "video_not_ready", f"Video {row['id']} cannot be deleted before it is ready.")
    await remove_video(engine, row)
    for task in engine.store.rows("tasks", [Where("video_id", "=", row["id"])], columns=["id"]):
        engine.store.change("tasks", task["id"], asset_id=None)  # GET indexed-assets no longer finds it
    return Response(status_code=204)


async def remove_video(engine: Engine, row: Row) -> None:
    """Delete a video with its vectors and files."""
    engine.store.remove("videos", [Where("id", "=", row["id"])])
    engine.store.change("indexes", row["index_id"], updated_at=now())
    await engine.stages.remove(row["id"])
    shutil.rmtree(engine.config.folder(row["id"]), ignore_errors=True)


async def media(request: Request) -> Response:
    """GET a signed URL: a thumbnail, a playlist or a segment of a stream."""
    if request.method == "OPTIONS":
        return Response(status_code=204, headers=CORS)
    engine, path = engine_of(request), request.path_params
    video_id, folder, name = path["video_id"], path["folder"], path["name"]
    if not engine.signed_urls.allows(path["ticket"], video_id, folder, name):
        raise unknown_video()
    file = engine.config.folder(video_id) / folder / name
    kind = TYPES.get(file.suffix)
    if kind is None or not file.is_file():
        raise unknown_video()
    return FileResponse(file, media_type=kind, headers={**CORS, "Cache-Control": "max-age=3600"})


routes = [
    Route("/indexes/{index_id}/videos", list_videos, methods=["GET"]),
    Route("/indexes/{index_id}/videos/{video_id}", retrieve, methods=["GET"]),
    Route("/indexes/{index_id}/videos/{video_id}", update, methods=["PUT", "PATCH"]),
    Route("/indexes/{index_id}/videos/{video_id}", delete, methods=["DELETE"]),
]
media_routes = [Route("/media/{ticket}/{video_id}/{folder}/{name}", media, methods=["GET", "OPTIONS"])]
