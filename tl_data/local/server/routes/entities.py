"""/entity-collections and their entities: people by their pictures, to be searched for as `<@id>`.

The engine compares pictures and does not recognise people: a search for an entity finds what looks like its
pictures.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tl_data.local.errors import APIProblem, invalid, not_provided, one_of, unknown_resource
from tl_data.local.server.context import Engine, check_id, engine_of, find_row
from tl_data.local.server.forms import read_json
from tl_data.local.server.pagination import Listing
from tl_data.local.storage.database import Row, Where, new_id, now

STATUSES = ("processing", "ready")
MENTION = re.compile(r"<@([^<>@]{1,64})>")
MAX_BULK = 100

Json = dict[str, Any]


def collection_to_json(row: Row) -> Json:
    """A collection as the API answers it."""
    names = ("name", "description", "created_at", "updated_at")
    return {"_id": row["id"]} | {name: row[name] for name in names}


def entity_to_json(row: Row) -> Json:
    """An entity as the API answers it: `processing` for a while after its pictures have changed."""
    names = ("name", "description", "metadata", "asset_ids", "created_at", "updated_at")
    status = "ready" if row["ready_at"] <= now() else "processing"
    about = {"_id": row["id"], "entity_collection_id": row["collection_id"], "status": status}
    return about | {name: row[name] for name in names}


def _texts(body: Json, *needed: str) -> Json:
    """`name` and `description` of a body, checked."""
    found: Json = {}
    for name in ("name", "description"):
        value = body.get(name)
        if value is None:
            if name in needed:
                raise not_provided(name)
            continue
        if not isinstance(value, str) or (name == "name" and not value.strip()):
            raise invalid(name, "It must be a text that is not blank.", value)
        found[name] = value
    return found


def _metadata(body: Json) -> Json:
    value = body.get("metadata")
    if value is None:
        return {}
    flat = isinstance(value, dict) and all(isinstance(item, str | int | float) for item in value.values())
    if not flat:
        raise invalid("metadata", "It must be a flat object of texts, numbers and booleans.", value)
    return {"metadata": value}


def _pictures(engine: Engine, body: Json) -> list[str]:
    """The ids of the assets of a body, each a picture.

    Raises:
        APIProblem: none are named, or one is no picture.
    """
    ids = body.get("asset_ids")
    if ids is None:
        raise not_provided("asset_ids")
    if not isinstance(ids, list) or not ids or not all(isinstance(one, str) for one in ids):
        raise invalid("asset_ids", "It must be an array of one id or more.", ids)
    for asset_id in ids:
        row = engine.asset(asset_id, "asset_ids")
        if row is None:
            raise invalid("asset_ids", f"Resource with id {asset_id} does not exist in assets.", asset_id)
        if row["status"] == "ready" and row["kind"] not in (None, "image"):
            raise invalid("asset_ids", "The assets of an entity must be images.", asset_id)
    return list(dict.fromkeys(ids))


def _listing(request: Request) -> Listing:
    query = request.query_params
    listing = Listing.from_query(query, sorts=("created_at", "updated_at", "name"))
    listing.filter_texts(query, {"name": "name"})
    return listing


async def list_collections(request: Request) -> Response:
    """GET /entity-collections"""
    return JSONResponse(
        _listing(request).fetch_page(engine_of(request).store, "collections", collection_to_json)
    )


async def create_collection(request: Request) -> Response:
    """POST /entity-collections"""
    engine = engine_of(request)
    body = await read_json(request, engine.config.max_body_bytes)
    at = now()
    row: Row = {"id": new_id(), "created_at": at, "updated_at": at, "description": None}
    row |= _texts(body, "name")
    engine.store.add("collections", row)
    return JSONResponse(collection_to_json(row), 201)


def _collection(request: Request) -> Row:
    return find_row(request, "collections", "entity_collection_id")


async def retrieve_collection(request: Request) -> Response:
    """GET /entity-collections/{entity_collection_id}"""
    return JSONResponse(collection_to_json(_collection(request)))


async def update_collection(request: Request) -> Response:
    """PATCH /entity-collections/{entity_collection_id}"""
    engine, row = engine_of(request), _collection(request)
    fresh = _texts(await read_json(request, engine.config.max_body_bytes)) | {"updated_at": now()}
    engine.store.change("collections", row["id"], **fresh)
    return JSONResponse(collection_to_json(row | fresh))


async def delete_collection(request: Request) -> Response:
    """DELETE /entity-collections/{entity_collection_id}: with its entities; the pictures stay."""
    engine, row = engine_of(request), _collection(request)
    with engine.store.transaction():
        engine.store.remove("entities", [Where("collection_id", "=", row["id"])])
        engine.store.remove("collections", [Where("id", "=", row["id"])])
    return Response(status_code=204)


async def list_entities(request: Request) -> Response:
    """GET /entity-collections/{entity_collection_id}/entities"""
    return _entities(request, [Where("collection_id", "=", _collection(request)["id"])])


def _entities(request: Request, where: list[Where]) -> Response:
    engine, listing = engine_of(request), _listing(request)
    listing.where += where
    status = request.query_params.get("status")
    if status and status not in STATUSES:
        raise one_of("status", STATUSES, status)
    if status:
        listing.where.append(Where("ready_at", "lte" if status == "ready" else "gt", now()))
    return JSONResponse(listing.fetch_page(engine.store, "entities", entity_to_json))


async def list_of_asset(request: Request) -> Response:
    """GET /assets/{asset_id}/entities"""
    engine, asset_id = engine_of(request), request.path_params["asset_id"]
    if engine.asset(asset_id) is None:
        raise unknown_resource(asset_id, "assets")
    rows = engine.store.rows("entities", columns=["id", "asset_ids"])
    mine = [row["id"] for row in rows if asset_id in row["asset_ids"]]
    return _entities(request, [Where("id", "in", mine)])


def _new(engine: Engine, collection_id: str, body: Json) -> Row:
    at = now()
    row: Row = {
        "id": new_id(), "collection_id": collection_id, "description": None, "metadata": {},
        "asset_ids": _pictures(engine, body), "ready_at": now(engine.config.asset_delay), "created_at": at,
        "updated_at": at,
    }  # fmt: skip
    row |= _texts(body, "name") | _metadata(body)
    engine.store.add("entities", row)
    return row


async def create_entity(request: Request) -> Response:
    """POST /entity-collections/{entity_collection_id}/entities"""
    engine, collection = engine_of(request), _collection(request)
    body = await read_json(request, engine.config.max_body_bytes)
    return JSONResponse(entity_to_json(_new(engine, collection["id"], body)), 201)


async def create_many(request: Request) -> Response:
    """POST .../entities/bulk: invalid entities are listed beside the created ones."""
    engine, collection = engine_of(request), _collection(request)
    body = await read_json(request, engine.config.max_body_bytes)
    given = body.get("entities")
    if given is None:
        raise not_provided("entities")
    if not isinstance(given, list) or not 1 <= len(given) <= MAX_BULK:
        raise invalid("entities", f"It must be an array of 1 to {MAX_BULK} entities.", given)
    made: list[Json] = []
    errors: list[Json] = []
    for number, one in enumerate(given):
        try:
            if not isinstance(one, dict):
                raise invalid("entities", "Each must be an object.", one)
            made.append(entity_to_json(_new(engine, collection["id"], one)))
        except APIProblem as problem:
            name = one.get("name") if isinstance(one, dict) else None
            errors.append({"entity_index": number, "entity_name": name, "error_reason": problem.message})
    answer = {"success_count": len(made), "failed_count": len(errors), "entities": made, "errors": errors}
    return JSONResponse(answer, 201)


def _entity(request: Request) -> Row:
    collection = _collection(request)
    row = find_row(request, "entities", "entity_id")
    if row["collection_id"] != collection["id"]:
        raise unknown_resource(row["id"], "entities")
    return row


async def retrieve_entity(request: Request) -> Response:
    """GET .../entities/{entity_id}"""
    return JSONResponse(entity_to_json(_entity(request)))


async def update_entity(request: Request) -> Response:
    """PATCH .../entities/{entity_id}: the metadata is replaced."""
    engine, row = engine_of(request), _entity(request)
    body = await read_json(request, engine.config.max_body_bytes)
    fresh = _texts(body) | _metadata(body) | {"updated_at": now()}
    engine.store.change("entities", row["id"], **fresh)
    return JSONResponse(entity_to_json(row | fresh))


async def delete_entity(request: Request) -> Response:
    """DELETE .../entities/{entity_id}"""
    engine_of(request).store.remove("entities", [Where("id", "=", _entity(request)["id"])])
    return Response(status_code=204)


async def add_pictures(request: Request) -> Response:
    """POST .../entities/{entity_id}/assets"""
    return await _changed(request, lambda old, given: list(dict.fromkeys([*old, *given])))


async def remove_pictures(request: Request) -> Response:
    """DELETE .../entities/{entity_id}/assets: never the last."""
    return await _changed(request, lambda old, given: [one for one in old if one not in given])


async def _changed(request: Request, change: Callable[[list[str], list[str]], list[str]]) -> Response:
    engine, row = engine_of(request), _entity(request)
    given = _pictures(engine, await read_json(request, engine.config.max_body_bytes))
    left = change(row["asset_ids"], given)
    if not left:
        raise invalid("asset_ids", "An entity keeps one asset at least.", given)
    fresh = {"asset_ids": left, "ready_at": now(engine.config.asset_delay), "updated_at": now()}
    engine.store.change("entities", row["id"], **fresh)
    return JSONResponse(entity_to_json(row | fresh))


# ------------------------------------------------------------------------------------ for searches


def find_entities(engine: Engine, text: str) -> list[Row]:
    """The entities in a query.

    Raises:
        APIProblem: one does not exist, or is not ready.
    """
    found: list[Row] = []
    for entity_id in dict.fromkeys(MENTION.findall(text)):
        row = engine.store.get("entities", check_id("query_text", entity_id))
        if row is None:
            raise unknown_resource(entity_id, "entities")
        if row["ready_at"] > now():
            raise invalid("query_text", f"The entity {entity_id} is not ready yet.", text)
        found.append(row)
    return found


def remove_mentions(text: str) -> str | None:
    """The query without its entities; None if it is empty."""
    return MENTION.sub(" ", text).strip() or None


async def read_pictures(engine: Engine, entity: Row) -> list[bytes]:
    """The pictures of an entity that are still there."""

    def read() -> list[bytes]:
        files = [engine.config.asset(asset_id) / "source" for asset_id in entity["asset_ids"]]
        return [file.read_bytes() for file in files if file.is_file()]

    if pictures := await asyncio.to_thread(read):
        return pictures
    raise invalid("query_text", "The pictures of the entity are gone.", f"<@{entity['id']}>")


ONE = "/entity-collections/{entity_collection_id}"
ENTITY = ONE + "/entities/{entity_id}"
routes = [
    Route("/entity-collections", list_collections, methods=["GET"]),
    Route("/entity-collections", create_collection, methods=["POST"]),
    Route(ONE, retrieve_collection, methods=["GET"]),
    Route(ONE, update_collection, methods=["PATCH"]),
    Route(ONE, delete_collection, methods=["DELETE"]),
    Route(ONE + "/entities", list_entities, methods=["GET"]),
    Route(ONE + "/entities", create_entity, methods=["POST"]),
    Route(ONE + "/entities/bulk", create_many, methods=["POST"]),
    Route(ENTITY, retrieve_entity, methods=["GET"]),
    Route(ENTITY, update_entity, methods=["PATCH"]),
    Route(ENTITY, delete_entity, methods=["DELETE"]),
    Route(ENTITY + "/assets", add_pictures, methods=["POST"]),
    Route(ENTITY + "/assets", remove_pictures, methods=["DELETE"]),
    Route("/assets/{asset_id}/entities", list_of_asset, methods=["GET"]),
]
