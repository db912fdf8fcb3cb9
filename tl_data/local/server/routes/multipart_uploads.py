"""/assets/multipart-uploads: a large file in parts, each sent to its own signed URL, then joined."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tl_data.local.config import PREFIX
from tl_data.local.errors import (
    EngineError,
    invalid,
    not_provided,
    one_of,
    safe_file_name,
    unknown_resource,
    unknown_video,
)
from tl_data.local.media_validation import MAX_BYTES
from tl_data.local.server.context import Engine, check_id, engine_of
from tl_data.local.server.forms import read_json
from tl_data.local.server.metadata import check_metadata, merge_metadata
from tl_data.local.server.pagination import Listing
from tl_data.local.storage.database import Row, Where, new_id, now

TYPES = ("video", "audio", "image")
CHUNK = 8 << 20  # bytes of each part except the last
FIRST_URLS = 50  # URLs in the response to a new upload
UPLOAD_LIFETIME_SEC = 24 * 3600.0
URL_LIFETIME_SEC = 3600.0  # as responses state it; a signed URL is accepted for longer, see context.py

Json = dict[str, Any]

_joining: set[str] = set()  # ids of the uploads whose parts are being joined


def _chunk_count(row: Row) -> int:
    """The number of parts of the file."""
    return int(-(-row["total_size"] // CHUNK))


def _part_bytes(row: Row, index: int) -> int:
    """The number of bytes of one part. `index` begins at 1."""
    return int(min(CHUNK, row["total_size"] - (index - 1) * CHUNK))


def _part_name(index: int) -> str:
    return f"{index:06d}.part"


def _read_whole_number(body: Json, name: str, low: int, high: int) -> int:
    value = body.get(name)
    if value is None:
        raise not_provided(name)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise invalid(name, f"It must be a whole number between {low} and {high}.", value)
    return value


async def create(request: Request) -> Response:
    """POST /assets/multipart-uploads"""
    engine = engine_of(request)
    body = await read_json(request, engine.config.max_body_bytes)
    if missing := [name for name in ("filename", "type", "total_size") if name not in body]:
        raise not_provided(*missing)
    if not isinstance(body["filename"], str):
        raise invalid("filename", "It must be a text.", body["filename"])
    if body["type"] not in TYPES:
        raise one_of("type", TYPES, body["type"])
    max_bytes = engine.config.multipart_bytes
    size = _read_whole_number(body, "total_size", 1, MAX_BYTES if body["type"] == "image" else max_bytes)
    metadata = merge_metadata({}, check_metadata("user_metadata", body.get("user_metadata", {})))
    _drop_expired(engine)
    at = now()
    row: Row = {
        "id": new_id(), "asset_id": new_id(), "status": "active", "created_at": at, "updated_at": at,
        "filename": safe_file_name(body["filename"]), "total_size": size, "user_metadata": metadata,
        "chunks": {}, "fate": request.scope.get("tl.injected_outcome"),
    }  # fmt: skip
    engine.config.parts(row["id"]).mkdir(parents=True)
    engine.store.add("uploads", row)
    response = {
        "upload_id": row["id"], "asset_id": row["asset_id"], "chunk_size": CHUNK,
        "total_chunks": _chunk_count(row),
        "upload_urls": _urls(engine, request, row, 1, min(_chunk_count(row), FIRST_URLS)),
        "upload_headers": {}, "expires_at": now(UPLOAD_LIFETIME_SEC),
    }  # fmt: skip
    return JSONResponse(response, 201)


def _urls(engine: Engine, request: Request, row: Row, first: int, count: int) -> list[Json]:
    base, until = str(request.base_url), now(URL_LIFETIME_SEC)
    return [
        {
            "chunk_index": index,
            "url": engine.signed_urls.url_for(base, row["id"], "parts", _part_name(index)),
            "expires_at": until,
        }
        for index in range(first, first + count)
    ]


def _drop_expired(engine: Engine) -> None:
    old = [Where("created_at", "lt", now(-UPLOAD_LIFETIME_SEC))]
    for row in engine.store.rows("uploads", old, columns=["id"]):
        shutil.rmtree(engine.config.parts(row["id"]), ignore_errors=True)
    engine.store.remove("uploads", old)


def _find_upload(request: Request) -> Row:
    upload_id = check_id("upload_id", request.path_params["upload_id"])
    row = engine_of(request).store.get("uploads", upload_id)
    if row is None or row["created_at"] < now(-UPLOAD_LIFETIME_SEC):
        raise unknown_resource(upload_id, "multipart-uploads")
    return row


async def more_urls(request: Request) -> Response:
    """POST /assets/multipart-uploads/{upload_id}/presigned-urls"""
    engine, row = engine_of(request), _find_upload(request)
    body = await read_json(request, engine.config.max_body_bytes)
    start = _read_whole_number(body, "start", 1, _chunk_count(row))
    count = _read_whole_number(body, "count", 1, _chunk_count(row) - start + 1)
    response = {
        "upload_id": row["id"], "start_index": start, "count": count,
        "upload_urls": _urls(engine, request, row, start, count),
        "generated_at": now(), "expires_at": now(URL_LIFETIME_SEC),
    }  # fmt: skip
    return JSONResponse(response)


async def put_part(request: Request) -> Response:
    """PUT one part to its signed URL. The client reports the ETag of the response afterwards."""
    engine, path = engine_of(request), request.path_params
    upload_id, name = path["video_id"], path["name"]  # signed URLs have one pattern for videos and uploads
    if not engine.signed_urls.allows(path["ticket"], upload_id, path["folder"], name):
        raise unknown_video()
    row = engine.store.get("uploads", upload_id)
    index = int(name.partition(".")[0]) if name[:6].isdecimal() else 0
    if row is None or row["status"] != "active" or not 1 <= index <= _chunk_count(row):
        raise unknown_video(f"No active upload has the part {name}.")
    digest, size = hashlib.md5(usedforsecurity=False), 0
    partial_file = engine.config.parts(upload_id) / f"{name}.{new_id()}"
    try:
        with partial_file.open("wb") as file:
            async for block in request.stream():
                size += len(block)
                if size > _part_bytes(row, index):
                    break
                digest.update(block)
                file.write(block)
        if size != _part_bytes(row, index):
            text = f"Part {index} must have {_part_bytes(row, index)} bytes. You sent {size}."
            raise EngineError(400, "parameter_invalid", text)
        partial_file.replace(partial_file.with_name(name))
    finally:
        partial_file.unlink(missing_ok=True)
    return Response(headers={"ETag": f'"{digest.hexdigest()}"'})


async def report(request: Request) -> Response:
    """POST /assets/multipart-uploads/{upload_id}: reports uploaded parts. The last part creates the asset."""
    engine, row = engine_of(request), _find_upload(request)
    body = await read_json(request, engine.config.max_body_bytes)
    reported = body.get("completed_chunks")
    if reported is None:
        raise not_provided("completed_chunks")
    if not isinstance(reported, list) or not all(isinstance(chunk, dict) for chunk in reported):
        raise invalid("completed_chunks", "It must be an array of objects.", reported)
    verified = [await _verify_part(engine, row, chunk) for chunk in reported]
    with engine.store.transaction():
        reported_before = (engine.store.get("uploads", row["id"]) or row)["chunks"]
        fresh = {str(index): now() for index in verified if str(index) not in reported_before}
        done = reported_before | fresh
        engine.store.change("uploads", row["id"], chunks=done, updated_at=now())
    complete = len(done) == _chunk_count(row)
    if complete and row["status"] == "active" and row["id"] not in _joining:
        _joining.add(row["id"])
        try:
            await asyncio.to_thread(_join, engine, row)
        finally:
            _joining.discard(row["id"])
        await engine.queue.wake()
    response: Json = {
        "asset_id": row["asset_id"],
        "processed_chunks": len(fresh),
        "duplicate_chunks": len(verified) - len(fresh),
        "total_completed": len(done),
    }
    if complete:
        response["url"] = f"{request.base_url}{PREFIX.lstrip('/')}/assets/{row['asset_id']}"
    return JSONResponse(response)


async def _verify_part(engine: Engine, row: Row, chunk: Json) -> int:
    """Validate a reported part, and return its index. `proof` must be the ETag that its PUT returned."""
    index = _read_whole_number(chunk, "chunk_index", 1, _chunk_count(row))
    if str(index) in row["chunks"]:
        return index
    part = engine.config.parts(row["id"]) / _part_name(index)
    if not part.is_file():
        raise invalid("chunk_index", "No part was sent to the URL of this index.", index)
    proof = str(chunk.get("proof", "")).strip('"')
    if proof != await asyncio.to_thread(_md5, part):
        raise invalid("proof", f"It must be the ETag of the response to part {index}.", proof)
    return index


def _md5(file: Path) -> str:
    with file.open("rb") as body:
        return hashlib.file_digest(body, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _join(engine: Engine, row: Row) -> None:
    """Join the parts of an upload into a file, and create its asset."""
    parts, folder = engine.config.parts(row["id"]), engine.config.asset(row["asset_id"])
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with (folder / "source.new").open("wb") as file:
        for index in range(1, _chunk_count(row) + 1):
            body = (parts / _part_name(index)).read_bytes()
            digest.update(body)
            file.write(body)
    os.replace(folder / "source.new", folder / "source")
    at = now()
    asset: Row = {
        "id": row["asset_id"], "status": "processing", "method": "multipart", "created_at": row["created_at"],
        "updated_at": at, "url": None, "filename": row["filename"], "size": row["total_size"],
        "sha256": digest.hexdigest(), "user_metadata": row["user_metadata"], "fate": row["fate"], "stuck": 0,
    }  # fmt: skip
    with engine.store.transaction():
        engine.store.add("assets", asset)
        engine.store.change("uploads", row["id"], status="completed", updated_at=at)
    shutil.rmtree(parts, ignore_errors=True)


async def list_uploads(request: Request) -> Response:
    """GET /assets/multipart-uploads: the uploads that are not complete."""
    engine = engine_of(request)
    listing = Listing.from_query(request.query_params)
    listing.where += [Where("status", "=", "active"), Where("created_at", "gte", now(-UPLOAD_LIFETIME_SEC))]

    def show(row: Row) -> Json:
        return {
            "upload_id": row["id"], "status": row["status"], "total_size": row["total_size"],
            "chunk_size": CHUNK, "total_chunks": _chunk_count(row), "created_at": row["created_at"],
        }  # fmt: skip

    return JSONResponse(listing.fetch_page(engine.store, "uploads", show))


async def retrieve(request: Request) -> Response:
    """GET /assets/multipart-uploads/{upload_id}: a page of its parts."""
    row = _find_upload(request)
    page, done, total = Listing.from_query(request.query_params), row["chunks"], _chunk_count(row)
    first = (page.page - 1) * page.page_limit + 1
    parts = [
        {
            "index": index,
            "status": "completed" if str(index) in done else "pending",
            "uploaded_at": done.get(str(index)),
        }
        for index in range(first, min(first + page.page_limit, total + 1))
    ]
    response = {
        "upload_id": row["id"], "status": row["status"], "uploaded_chunks": parts,
        "chunks_completed": len(done), "chunks_failed": 0, "chunks_pending": total - len(done),
        "total_size": row["total_size"], "uploaded_size": sum(_part_bytes(row, int(index)) for index in done),
        "created_at": row["created_at"], "updated_at": row["updated_at"],
        "page_info": {
            "limit_per_page": page.page_limit, "page": page.page, "total_page": -(-total // page.page_limit),
            "total_results": total,
        },
    }  # fmt: skip
    return JSONResponse(response)


routes = [
    Route("/assets/multipart-uploads", create, methods=["POST"]),
    Route("/assets/multipart-uploads", list_uploads, methods=["GET"]),
    Route("/assets/multipart-uploads/{upload_id}", report, methods=["POST"]),
    Route("/assets/multipart-uploads/{upload_id}", retrieve, methods=["GET"]),
    Route("/assets/multipart-uploads/{upload_id}/presigned-urls", more_urls, methods=["POST"]),
]
part_routes = [Route("/media/{ticket}/{video_id}/{folder}/{name}", put_part, methods=["PUT"])]
