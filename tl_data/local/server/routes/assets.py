"""/assets, and /indexes/{index_id}/indexed-assets: files that are uploaded once, then indexed or analyzed.

An indexed asset is also a video of its index, with the same id.
"""

from __future__ import annotations

import mimetypes
import os
import shutil
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tl_data.local.errors import (
    EngineError,
    MediaError,
    invalid,
    not_provided,
    one_of,
    safe_file_name,
    unknown_resource,
)
from tl_data.local.perception.evidence import Span
from tl_data.local.server.context import Engine, check_id, engine_of
from tl_data.local.server.forms import Form, Upload, parse_flag, read_json
from tl_data.local.server.metadata import check_metadata, merge_metadata, parse_metadata
from tl_data.local.server.pagination import Listing, split_values
from tl_data.local.server.routes.tasks import add_task, task_state_to_json
from tl_data.local.server.routes.videos import full_video, nested_metadata_filters, remove_video, update
from tl_data.local.storage.database import Row, Where, new_id, now
from tl_data.local.tasks.download import check_url
from tl_data.local.tasks.queue import UNFINISHED

TRANSCRIPTION_PARTS = ("words", "sentences", "utterances")
METHODS = ("direct", "url")
KINDS = ("image", "video", "audio", "document")
#: Longest wait for a new asset to become ready, under profiles with `ready_at_once`.
READY_TIMEOUT_SEC = 30.0
STATUSES = (*UNFINISHED, "ready", "failed")
NUMBERS = ("duration", "fps", "width", "height", "size")
TIMES = ("created_at", "updated_at")


def asset_to_json(engine: Engine, row: Row) -> dict[str, Any]:
    """The JSON of an asset."""
    fields = {
        "_id": row["id"],
        "method": row["method"],
        "status": row["status"],
        "filename": row["filename"],
        "file_type": mimetypes.guess_type(row["filename"])[0] or "application/octet-stream",
        "created_at": row["created_at"],
    }
    optional: dict[str, Any] = {"user_metadata": row["user_metadata"] or None}
    if row["status"] == "ready":
        optional |= {"size": row["size"], "duration": row["duration"]}
        if row["kind"] == "video":
            optional["technical_metadata"] = {
                "file_size_bytes": row["size"], "file_mime_type": fields["file_type"],
                "video_width": row["width"], "video_height": row["height"], "video_fps": row["fps"],
                "video_duration_seconds": row["duration"],
            }  # fmt: skip
        # The engine creates streams and thumbnails for indexed videos only.
        optional |= {name: {"status": "error"} for name in ("hls", "thumbnail") if row.get(name)}
    if row["status"] == "failed" and row["error"]:
        optional["error"] = (
            row["error"] if engine.profile.own_fields else {"message": row["error"]["message"]}
        )
    return fields | {name: value for name, value in optional.items() if value is not None}


def find_asset(engine: Engine, asset_id: str) -> Row:
    """Return an existing asset.

    Raises:
        EngineError: the id is malformed (400) or unknown (404).
    """
    row = engine.asset(asset_id)
    if row is None:
        raise unknown_resource(asset_id, "assets")
    return row


def _read_source(engine: Engine, form: Form, method: str) -> tuple[str | None, Upload | None]:
    """Read the URL or the file of a new asset, depending on the upload method."""
    if method == "url":
        url = form.required("url")
        try:
            return check_url(url, engine.config), None
        except MediaError as error:
            raise invalid("url", error.message, url) from None
    upload = form.upload("file")
    if upload is None:
        raise not_provided("file")
    if upload.size == 0:
        raise EngineError(400, "video_file_broken", "Cannot read the file. The uploaded file is empty.")
    return None, upload


async def create(request: Request) -> Response:
    """POST /assets"""
    engine = engine_of(request)
    async with engine.form(request, "file") as form:
        method = form.required("method")
        if method not in METHODS:
            raise one_of("method", METHODS, method)
        metadata = parse_metadata("user_metadata", form.text("user_metadata"))
        url, upload = _read_source(engine, form, method)
        hls, thumbnail = form.flag("enable_hls", False), form.flag("enable_thumbnail", False)
        at = now()
        filename = form.text("filename") or (upload.filename if upload else "")
        row: Row = {
            "id": new_id(), "status": "processing", "method": method, "created_at": at, "updated_at": at,
            "url": url, "filename": safe_file_name(filename),
            "size": upload.size if upload else None, "sha256": upload.sha256 if upload else None,
            "user_metadata": metadata, "fate": request.scope.get("tl.injected_outcome"), "stuck": 0,
            "hls": int(hls), "thumbnail": int(thumbnail),
        }  # fmt: skip
        if upload:
            folder = engine.config.asset(row["id"])
            folder.mkdir(parents=True)
            os.replace(upload.path, folder / "source")
        engine.store.add("assets", row)
    await engine.queue.wake()
    if engine.profile.ready_at_once and not row["fate"]:
        await engine.queue.wait_until_done("assets", row["id"], READY_TIMEOUT_SEC)
    return JSONResponse(asset_to_json(engine, engine.asset(row["id"]) or row), 201)


async def list_assets(request: Request) -> Response:
    """GET /assets"""
    engine, query = engine_of(request), request.query_params
    listing = Listing.from_query(query)
    if asset_ids := split_values(query.getlist("asset_ids")):
        listing.where.append(Where("id", "in", [check_id("asset_ids", item) for item in asset_ids]))
    if name_part := (query.get("filename") or "").casefold():
        rows = engine.store.rows("assets", columns=["id", "filename"])
        matching_ids = [row["id"] for row in rows if name_part in row["filename"].casefold()]
        listing.where.append(Where("id", "in", matching_ids))
    listing.filter_one_of(query, "asset_types", KINDS, "kind")
    return JSONResponse(listing.fetch_page(engine.store, "assets", lambda row: _current_to_json(engine, row)))


def _current_to_json(engine: Engine, row: Row) -> dict[str, Any]:
    """The JSON of an asset of a listing, with its current status."""
    return asset_to_json(engine, engine.asset(row["id"]) or row)


async def retrieve(request: Request) -> Response:
    """GET /assets/{asset_id}"""
    engine = engine_of(request)
    return JSONResponse(asset_to_json(engine, find_asset(engine, request.path_params["asset_id"])))


async def delete(request: Request) -> Response:
    """DELETE /assets/{asset_id}: keeps the videos indexed from it. Strict profiles then require `force`."""
    engine = engine_of(request)
    row = find_asset(engine, request.path_params["asset_id"])
    forced = parse_flag("force", request.query_params.get("force") or "false")
    indexed = engine.store.rows("tasks", [Where("asset_id", "=", row["id"])], limit=1)
    if engine.profile.strict and not forced and (indexed or "indexed" in row):
        text = f"The asset {row['id']} is indexed. Delete what was indexed from it first, or use force=true."
        raise EngineError(409, "asset_in_use", text)
    engine.store.remove("assets", [Where("id", "=", row["id"])])
    shutil.rmtree(engine.config.asset(row["id"]), ignore_errors=True)
    return Response(status_code=204)


async def update_metadata(request: Request) -> Response:
    """PATCH /assets/{asset_id}/user-metadata: sets the keys of the request. Null deletes a key."""
    engine = engine_of(request)
    row = find_asset(engine, request.path_params["asset_id"])
    changes = await _read_metadata(request, engine)
    metadata = merge_metadata(row["user_metadata"] or {}, changes)
    engine.store.change("assets", row["id"], user_metadata=metadata, updated_at=now())
    return Response(status_code=engine.updated_status)


async def replace_metadata(request: Request) -> Response:
    """PUT /assets/{asset_id}/user-metadata: replaces all keys."""
    engine = engine_of(request)
    row = find_asset(engine, request.path_params["asset_id"])
    metadata = merge_metadata({}, await _read_metadata(request, engine))
    engine.store.change("assets", row["id"], user_metadata=metadata, updated_at=now())
    return Response(status_code=engine.updated_status)


async def _read_metadata(request: Request, engine: Engine) -> dict[str, Any]:
    """Read and validate the metadata of the request, without empty values: the service ignores them."""
    body = await read_json(request, engine.config.max_body_bytes)
    if "user_metadata" not in body:
        raise not_provided("user_metadata")
    metadata = check_metadata("user_metadata", body["user_metadata"])
    return {key: value for key, value in metadata.items() if value not in ("", [])}


async def delete_metadata(request: Request) -> Response:
    """DELETE /assets/{asset_id}/user-metadata"""
    engine = engine_of(request)
    row = find_asset(engine, request.path_params["asset_id"])
    engine.store.change("assets", row["id"], user_metadata={}, updated_at=now())
    return Response(status_code=204)


def indexed_asset_to_json(engine: Engine, row: Row) -> dict[str, Any]:
    """The JSON of an indexed asset. `row` is its indexing task."""
    fields = {"_id": row["video_id"], "asset_id": row["asset_id"], **task_state_to_json(engine, row)}
    return fields | ({"indexed_at": row["updated_at"]} if row["status"] == "ready" else {})


async def index_asset(request: Request) -> Response:
    """POST /indexes/{index_id}/indexed-assets"""
    engine = engine_of(request)
    index = engine.index(request.path_params["index_id"])
    body = await read_json(request, engine.config.max_body_bytes)
    asset_id, stream = (
        body.get("asset_id"),
        body.get("enable_video_stream", engine.profile.streams_indexed_assets),
    )
    if asset_id is None:
        raise not_provided("asset_id")
    if not isinstance(asset_id, str):
        raise invalid("asset_id", "It must be a text.", asset_id)
    if not isinstance(stream, bool):
        raise one_of("enable_video_stream", ("true", "false"), stream)
    metadata = merge_metadata({}, check_metadata("user_metadata", body.get("user_metadata", {})))
    asset = engine.ready_asset(asset_id)
    if asset["duration"] is None:
        raise invalid("asset_id", "The asset must be a video, but it is an image.", asset_id)
    path = engine.uploads / f"{new_id()}.part"
    os.link(engine.config.asset(asset["id"]) / "source", path)
    upload = Upload(path, asset["filename"], asset["size"] or path.stat().st_size, asset["sha256"] or "")
    inherited = (asset["user_metadata"] or {}) if engine.profile.inherits else {}
    row = await add_task(
        engine, index["id"], upload=upload, stream=stream,
        user_metadata=merge_metadata(inherited, metadata),
        outcome=request.scope.get("tl.injected_outcome"), asset_id=asset["id"],
    )  # fmt: skip
    return JSONResponse({"_id": row["video_id"], "asset_id": asset["id"]}, 202)


async def list_indexed(request: Request) -> Response:
    """GET /indexes/{index_id}/indexed-assets"""
    engine, query = engine_of(request), request.query_params
    index = engine.index(request.path_params["index_id"])
    listing = Listing.from_query(query)
    listing.where += [Where("index_id", "=", index["id"]), Where("asset_id", "gt", "")]
    listing.filter_texts(query, {"filename": "filename"})
    listing.filter_numbers(query, NUMBERS)
    listing.filter_times(query, TIMES)
    listing.filter_one_of(query, "status", STATUSES)
    listing.where += nested_metadata_filters(query)
    return JSONResponse(
        listing.fetch_page(engine.store, "tasks", lambda row: indexed_asset_to_json(engine, row))
    )


def _find_indexed(request: Request) -> Row:
    """Return the indexing task of the indexed asset in the path."""
    engine, path = engine_of(request), request.path_params
    index = engine.index(path["index_id"])
    video_id = check_id("indexed_asset_id", path["indexed_asset_id"])
    where = [Where("index_id", "=", index["id"]), Where("video_id", "=", video_id)]
    rows = engine.store.rows("tasks", [*where, Where("asset_id", "gt", "")], limit=1)
    if not rows:
        raise unknown_resource(video_id, "indexed-assets")
    return rows[0]


async def retrieve_indexed(request: Request) -> Response:
    """GET /indexes/{index_id}/indexed-assets/{indexed_asset_id}"""
    engine, row = engine_of(request), _find_indexed(request)
    response = indexed_asset_to_json(engine, row)
    if row["status"] == "ready" and (video := engine.store.get("videos", row["video_id"])):
        response |= await full_video(engine, request, video)
    return JSONResponse(response)


async def update_indexed(request: Request) -> Response:
    """PATCH /indexes/{index_id}/indexed-assets/{indexed_asset_id}: updates its video."""
    request.path_params["video_id"] = _find_indexed(request)["video_id"]
    return await update(request)


async def delete_indexed(request: Request) -> Response:
    """DELETE /indexes/{index_id}/indexed-assets/{indexed_asset_id}: the asset itself is kept."""
    engine, row = engine_of(request), _find_indexed(request)
    engine.store.remove("tasks", [Where("id", "=", row["id"])])
    if video := engine.store.get("videos", row["video_id"]):
        await remove_video(engine, video)
    return Response(status_code=204)


async def list_by_asset(request: Request) -> Response:
    """GET /assets/{asset_id}/indexed-assets"""
    engine = engine_of(request)
    asset = find_asset(engine, request.path_params["asset_id"])
    listing = Listing.from_query(request.query_params)
    listing.where.append(Where("asset_id", "=", asset["id"]))

    def show(row: Row) -> dict[str, Any]:
        index = engine.store.get("indexes", row["index_id"])
        return {
            "_id": row["video_id"],
            "index": {"_id": row["index_id"], "name": (index or {}).get("index_name")},
        }

    return JSONResponse(listing.fetch_page(engine.store, "tasks", show))


async def transcribe(request: Request) -> Response:
    """GET /assets/{asset_id}/transcription: the first request transcribes the asset and caches the result.

    The engine does not distinguish speakers, so each sentence is one utterance.
    """
    engine = engine_of(request)
    row = find_asset(engine, request.path_params["asset_id"])
    parts = split_values(request.query_params.getlist("include"))
    if any(part not in TRANSCRIPTION_PARTS for part in parts):
        raise one_of("include", TRANSCRIPTION_PARTS, parts)
    if row["status"] != "ready":
        response = {"status": row["status"]}
        return JSONResponse(response | ({"error": row["error"]} if row["error"] else {}))
    speech: tuple[Span, ...] = ()
    if row["duration"] is not None:  # images have no sound
        asset = {"type": "asset_id", "asset_id": row["id"]}
        speech = (await engine.inline_videos.writer_input(asset, check=lambda _: None)).evidence.speech
    if not speech and engine.profile.name == "today":
        raise EngineError(404, "not_found", "The asset has no transcription.")
    sentences = [_span_to_json(span.start_sec, span.end_sec, span.text) for span in speech]
    words = [_span_to_json(word.start_sec, word.end_sec, word.text) for span in speech for word in span.words]
    transcription = {"words": words, "sentences": sentences, "utterances": sentences}
    selected = {part: transcription[part] for part in parts or TRANSCRIPTION_PARTS}
    return JSONResponse({"status": "ready"} | selected)


def _span_to_json(start: float, end: float, text: str) -> dict[str, Any]:
    return {"start": start, "end": end, "value": text}


routes = [
    Route("/assets", create, methods=["POST"]),
    Route("/assets", list_assets, methods=["GET"]),
    Route("/assets/{asset_id}", retrieve, methods=["GET"]),
    Route("/assets/{asset_id}", delete, methods=["DELETE"]),
    Route("/assets/{asset_id}/user-metadata", update_metadata, methods=["PATCH"]),
    Route("/assets/{asset_id}/user-metadata", replace_metadata, methods=["PUT"]),
    Route("/assets/{asset_id}/user-metadata", delete_metadata, methods=["DELETE"]),
    Route("/assets/{asset_id}/indexed-assets", list_by_asset, methods=["GET"]),
    Route("/indexes/{index_id}/indexed-assets", index_asset, methods=["POST"]),
    Route("/indexes/{index_id}/indexed-assets", list_indexed, methods=["GET"]),
    Route("/indexes/{index_id}/indexed-assets/{indexed_asset_id}", retrieve_indexed, methods=["GET"]),
    Route("/indexes/{index_id}/indexed-assets/{indexed_asset_id}", update_indexed, methods=["PATCH"]),
    Route("/indexes/{index_id}/indexed-assets/{indexed_asset_id}", delete_indexed, methods=["DELETE"]),
    Route("/assets/{asset_id}/transcription", transcribe, methods=["GET"]),
]
