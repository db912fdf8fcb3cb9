"""/entity-collections and their entities: a person with pictures, which a search mentions as `<@id>`.

The engine compares pictures and does not recognise people: a search for an entity finds clips that look like
its pictures.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tl_data.local.errors import EngineError, invalid, not_provided, one_of, unknown_resource
from tl_data.local.server.context import Engine, check_id, engine_of, find_row
from tl_data.local.server.forms import read_json
from tl_data.local.server.pagination import Listing
from tl_data.local.storage.database import Row, Where, new_id, now

STATUSES = ("processing", "ready")
MENTION = re.compile(r"<@([^<>@]{1,64})>")
MAX_BULK = 100  # entities in one bulk request

Json = dict[str, Any]


def collection_to_json(row: Row) -> Json:
    """The JSON of a collection."""
    names = ("name", "description", "created_at", "updated_at")
    return {"_id": row["id"]} | {name: row[name] for name in names}


def entity_to_json(row: Row) -> Json:
    """The JSON of an entity. It is `processing` for a while after its pictures have changed."""
    names = ("name", "description", "metadata", "asset_ids", "created_at", "updated_at")
    status = "ready" if row["ready_at"] <= now() else "processing"
    fields = {"_id": row["id"], "entity_collection_id": row["collection_id"], "status": status}
    return fields | {name: row[name] for name in names}


def _read_texts(body: Json, *required: str) -> Json:
    """Read and validate `name` and `description` of a body."""
    texts: Json = {}
    for name in ("name", "description"):
        value = body.get(name)
        if value is None:
            if name in required:
                raise not_provided(name)
            continue
        if not isinstance(value, str) or (name == "name" and not value.strip()):
            raise invalid(name, "It must be a text that is not blank.", value)
        texts[name] = value
    return texts


def _read_metadata(body: Json) -> Json:
    """Read and validate `metadata` of a body; {} if it is absent."""
    value = body.get("metadata")
    if value is None:
        return {}
    is_flat = isinstance(value, dict) and all(isinstance(item, str | int | float) for item in value.values())
    if not is_flat:
        raise invalid("metadata", "It must be a flat object of texts, numbers and booleans.", value)
    return {"metadata": value}


def _read_picture_ids(engine: Engine, body: Json) -> list[str]:
    """Read and validate `asset_ids` of a body. Each asset must be a picture.

    Raises:
        EngineError: there are no ids, or an asset is unknown or not a picture.
    """
    ids = body.get("asset_ids")
    if ids is None:
        raise not_provided("asset_ids")
    if not isinstance(ids, list) or not ids or not all(isinstance(asset_id, str) for asset_id in ids):
        raise invalid("asset_ids", "It must be an array of at least one id.", ids)
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
    row |= _read_texts(body, "name")
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
    changes = _read_texts(await read_json(request, engine.config.max_body_bytes)) | {"updated_at": now()}
    engine.store.change("collections", row["id"], **changes)
    return JSONResponse(collection_to_json(row | changes))


async def delete_collection(request: Request) -> Response:
    """DELETE /entity-collections/{entity_collection_id}: also deletes the entities, but not the pictures."""
    engine, row = engine_of(request), _collection(request)
    with engine.store.transaction():
        engine.store.remove("entities", [Where("collection_id", "=", row["id"])])
        engine.store.remove("collections", [Where("id", "=", row["id"])])
    return Response(status_code=204)


async def list_entities(request: Request) -> Response:
    """GET /entity-collections/{entity_collection_id}/entities"""
    return _list_entities_where(request, [Where("collection_id", "=", _collection(request)["id"])])


def _list_entities_where(request: Request, where: list[Where]) -> Response:
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
    entity_ids = [row["id"] for row in rows if asset_id in row["asset_ids"]]
    return _list_entities_where(request, [Where("id", "in", entity_ids)])


def _add_entity(engine: Engine, collection_id: str, body: Json) -> Row:
    at = now()
    row: Row = {
        "id": new_id(), "collection_id": collection_id, "description": None, "metadata": {},
        "asset_ids": _read_picture_ids(engine, body), "ready_at": now(engine.config.asset_delay),
        "created_at": at, "updated_at": at,
    }  # fmt: skip
    row |= _read_texts(body, "name") | _read_metadata(body)
    engine.store.add("entities", row)
    return row


async def create_entity(request: Request) -> Response:
    """POST /entity-collections/{entity_collection_id}/entities"""
    engine, collection = engine_of(request), _collection(request)
    body = await read_json(request, engine.config.max_body_bytes)
    return JSONResponse(entity_to_json(_add_entity(engine, collection["id"], body)), 201)


async def create_many(request: Request) -> Response:
    """POST .../entities/bulk: valid entities are created, and errors are returned for invalid ones."""
    engine, collection = engine_of(request), _collection(request)
    body = await read_json(request, engine.config.max_body_bytes)
    entities = body.get("entities")
    if entities is None:
        raise not_provided("entities")
    if not isinstance(entities, list) or not 1 <= len(entities) <= MAX_BULK:
        raise invalid("entities", f"It must be an array of 1 to {MAX_BULK} entities.", entities)
    created: list[Json] = []
    errors: list[Json] = []
    for number, item in enumerate(entities):
        try:
            if not isinstance(item, dict):
                raise invalid("entities", "Each entity must be an object.", item)
            created.append(entity_to_json(_add_entity(engine, collection["id"], item)))
        except EngineError as error:
            name = item.get("name") if isinstance(item, dict) else None
            errors.append({"entity_index": number, "entity_name": name, "error_reason": error.message})
    response = {
        "success_count": len(created),
        "failed_count": len(errors),
        "entities": created,
        "errors": errors,
    }
    return JSONResponse(response, 201)


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
    """PATCH .../entities/{entity_id}: replaces all metadata."""
    engine, row = engine_of(request), _entity(request)
    body = await read_json(request, engine.config.max_body_bytes)
    changes = _read_texts(body) | _read_metadata(body) | {"updated_at": now()}
    engine.store.change("entities", row["id"], **changes)
    return JSONResponse(entity_to_json(row | changes))


async def delete_entity(request: Request) -> Response:
    """DELETE .../entities/{entity_id}"""
    engine_of(request).store.remove("entities", [Where("id", "=", _entity(request)["id"])])
    return Response(status_code=204)


async def add_pictures(request: Request) -> Response:
    """POST .../entities/{entity_id}/assets"""
    return await _change_pictures(request, lambda old, ids: list(dict.fromkeys([*old, *ids])))


async def remove_pictures(request: Request) -> Response:
    """DELETE .../entities/{entity_id}/assets: the last asset cannot be removed."""
    return await _change_pictures(
        request, lambda old, ids: [asset_id for asset_id in old if asset_id not in ids]
    )


async def _change_pictures(request: Request, change: Callable[[list[str], list[str]], list[str]]) -> Response:
    """Replace the asset ids of an entity by `change(old ids, ids of the request)`."""
    engine, row = engine_of(request), _entity(request)
    requested_ids = _read_picture_ids(engine, await read_json(request, engine.config.max_body_bytes))
    new_ids = change(row["asset_ids"], requested_ids)
    if not new_ids:
        raise invalid("asset_ids", "An entity must keep at least one asset.", requested_ids)
    changes = {"asset_ids": new_ids, "ready_at": now(engine.config.asset_delay), "updated_at": now()}
    engine.store.change("entities", row["id"], **changes)
    return JSONResponse(entity_to_json(row | changes))


# ------------------------------------------------------------------------------ used by /search


def find_entities(engine: Engine, text: str) -> list[Row]:
    """Return the entities that a query mentions.

    Raises:
        EngineError: an entity does not exist, or is not ready.
    """
    entities: list[Row] = []
    for entity_id in dict.fromkeys(MENTION.findall(text)):
        row = engine.store.get("entities", check_id("query_text", entity_id))
        if row is None:
            raise unknown_resource(entity_id, "entities")
        if row["ready_at"] > now():
            raise invalid("query_text", f"The entity {entity_id} is not ready yet.", text)
        entities.append(row)
    return entities


def remove_mentions(text: str) -> str | None:
    """Return the query without its mentions of entities; None if nothing is left."""
    return MENTION.sub(" ", text).strip() or None


async def read_pictures(engine: Engine, entity: Row) -> list[bytes]:
    """Read the pictures of an entity, except those that have been deleted.

    Raises:
        EngineError: all of them have been deleted.
    """

    def read() -> list[bytes]:
        files = [engine.config.asset(asset_id) / "source" for asset_id in entity["asset_ids"]]
        return [file.read_bytes() for file in files if file.is_file()]

    if pictures := await asyncio.to_thread(read):
        return pictures
    raise invalid("query_text", "All pictures of the entity have been deleted.", f"<@{entity['id']}>")


COLLECTION = "/entity-collections/{entity_collection_id}"
ENTITY = COLLECTION + "/entities/{entity_id}"
routes = [
    Route("/entity-collections", list_collections, methods=["GET"]),
    Route("/entity-collections", create_collection, methods=["POST"]),
    Route(COLLECTION, retrieve_collection, methods=["GET"]),
    Route(COLLECTION, update_collection, methods=["PATCH"]),
    Route(COLLECTION, delete_collection, methods=["DELETE"]),
    Route(COLLECTION + "/entities", list_entities, methods=["GET"]),
    Route(COLLECTION + "/entities", create_entity, methods=["POST"]),
    Route(COLLECTION + "/entities/bulk", create_many, methods=["POST"]),
    Route(ENTITY, retrieve_entity, methods=["GET"]),
    Route(ENTITY, update_entity, methods=["PATCH"]),
    Route(ENTITY, delete_entity, methods=["DELETE"]),
    Route(ENTITY + "/assets", add_pictures, methods=["POST"]),
    Route(ENTITY + "/assets", remove_pictures, methods=["DELETE"]),
    Route("/assets/{asset_id}/entities", list_of_asset, methods=["GET"]),
]
