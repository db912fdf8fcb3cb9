"""/indexes and /indexes/{index_id}."""

from __future__ import annotations

import shutil
import sqlite3
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tl_data.local import models
from tl_data.local.errors import EngineError, invalid, not_provided, one_of
from tl_data.local.server.context import Engine, engine_of
from tl_data.local.server.forms import read_json
from tl_data.local.server.old_names import INDEX, INDEX_LIST, MODEL, refuse_old_names, suggest_replacement
from tl_data.local.server.pagination import Listing, split_values
from tl_data.local.storage.database import ID, Row, Where, new_id, now
from tl_data.local.tasks.reindex import stale

ADDONS = ("thumbnail",)
MAX_NAME = 512


def index_to_json(engine: Engine, row: Row) -> dict[str, Any]:
    """The JSON of an index."""
    in_index = [Where("index_id", "=", row["id"])]
    other_model = next(
        (video["looked_by"] for video in stale(engine.store, engine.config.tiers, row["id"])), None
    )
    return {
        "_id": row["id"],
        "index_name": row["index_name"],
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
        "expires_at": None,
        "video_count": int(engine.store.total("videos", in_index)),
        "total_duration": round(engine.store.total("videos", in_index, sum_of="duration"), 3),
        "models": _models_to_json(engine, row, other_model),
        "addons": row["addons"],
    }


def _models_to_json(engine: Engine, row: Row, analyzed_by: str | None) -> list[dict[str, Any]]:
    """The JSON of the models of an index. `analyzed_by` is another model that has indexed some videos."""
    shown_models = models.models_in_response(row["models"], engine.config.tiers, analyzed_by)
    if engine.profile.own_fields:
        return shown_models
    return [{name: model[name] for name in ("model_name", "model_options")} for model in shown_models]


def _read_name(body: dict[str, Any]) -> str:
    name = body.get("index_name")
    if name is None:
        raise not_provided("index_name")
    if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME:
        raise invalid("index_name", f"It must be a text of 1 to {MAX_NAME} characters.", name)
    return name


def _name_exists_error(name: str) -> EngineError:
    text = f"Index name {name} already exists. Please use another unique name and try again."
    return EngineError(409, "index_name_already_exists", text)


async def create(request: Request) -> Response:
    """POST /indexes"""
    engine = engine_of(request)
    body = await read_json(request, engine.config.max_body_bytes)
    refuse_old_names(engine.profile, body, INDEX)
    for model in requested if isinstance(requested := body.get("models"), list) else ():
        fields = model if isinstance(model, dict) else {}
        refuse_old_names(engine.profile, fields, MODEL)
        options = fields.get("model_options")
        for option in options if isinstance(options, list) and not engine.profile.strict else ():
            if hint := suggest_replacement(option):
                raise EngineError(
                    400,
                    "parameter_invalid",
                    "The model_options parameter is invalid. You should use one of the following values: "
                    f"visual, audio. You sent '{option}'.{hint}",
                )
    missing = [name for name in ("index_name", "models") if name not in body]
    if missing:
        raise not_provided(*missing)
    addons = body.get("addons", [])
    if not isinstance(addons, list) or any(addon not in ADDONS for addon in addons):
        raise one_of("addons", ADDONS, addons)
    index_models = models.read_models(body["models"], engine.config.tiers, engine.profile)
    at, name = now(), _read_name(body)
    row = {
        "id": new_id(), "index_name": name, "models": index_models,
        "addons": list(dict.fromkeys(addons)), "created_at": at, "updated_at": at,
    }  # fmt: skip
    try:
        engine.store.add("indexes", row)
    except sqlite3.IntegrityError:
        raise _name_exists_error(name) from None
    return JSONResponse({"_id": row["id"]}, 201)


async def list_indexes(request: Request) -> Response:
    """GET /indexes"""
    engine, query = engine_of(request), request.query_params
    refuse_old_names(engine.profile, query, INDEX_LIST)
    listing = Listing.from_query(query)
    listing.filter_texts(query, {"index_name": "index_name", "_id": "id"})
    listing.filter_times(query, ("created_at", "updated_at"))
    options, family = split_values(query.getlist("model_options")), query.get("model_family")
    if any(option not in models.OPTIONS for option in options):
        raise one_of("model_options", models.OPTIONS, options)
    if family and family not in ("marengo", "pegasus"):
        raise one_of("model_family", ("marengo", "pegasus"), family)
    if options or family:
        rows = engine.store.rows("indexes", columns=["id", "models"])
        matching_ids = [row["id"] for row in rows if _has_options(row["models"], options, family)]
        listing.where.append(Where("id", "in", matching_ids))
    return JSONResponse(listing.fetch_page(engine.store, "indexes", lambda row: index_to_json(engine, row)))


def _has_options(index_models: list[dict[str, Any]], options: list[str], family: str | None) -> bool:
    """Whether an index has all options, and a model of the family."""
    index_options = {option for model in index_models for option in model["model_options"]}
    if not set(options) <= index_options:
        return False
    families = {
        "marengo": bool(models.search_models(index_models)),
        "pegasus": models.has_text_model(index_models),
    }
    return families.get(family or "", True)


async def retrieve(request: Request) -> Response:
    """GET /indexes/{index_id}"""
    engine = engine_of(request)
    return JSONResponse(index_to_json(engine, engine.index(request.path_params["index_id"])))


async def rename(request: Request) -> Response:
    """PUT /indexes/{index_id}"""
    engine = engine_of(request)
    row = engine.index(request.path_params["index_id"])
    body = await read_json(request, engine.config.max_body_bytes)
    for name, code in (("index_options", "option"), ("engine_id", "engine")):
        if name in body:
            raise EngineError(
                400,
                f"index_{code}_cannot_be_changed",
                f"Index {code} cannot be changed. Please remove {name} parameter and try again. If you want "
                f"to change {'index option' if code == 'option' else 'engine'}, please create new index.",
            )
    name = _read_name(body)
    try:
        engine.store.change("indexes", row["id"], index_name=name, updated_at=now())
    except sqlite3.IntegrityError:
        raise _name_exists_error(name) from None
    return Response(status_code=engine.updated_status)


async def delete(request: Request) -> Response:
    """DELETE /indexes/{index_id}: deletes the index and everything in it."""
    engine = engine_of(request)
    row = engine.index(request.path_params["index_id"])
    in_index = [Where("index_id", "=", row["id"])]
    videos = [video["id"] for video in engine.store.rows("videos", in_index, columns=["id"])]
    not_running = [
        task["video_id"]
        for task in engine.store.rows("tasks", in_index, columns=["id", "video_id"])
        if not engine.queue.holds(task["id"])
    ]
    with engine.store.transaction():
        for table in ("videos", "tasks", "searches"):
            engine.store.remove(table, in_index)
        engine.store.remove("indexes", [Where("id", "=", row["id"])])
    await engine.stages.remove_index(row["id"])
    for video_id in {*videos, *not_running}:
        if ID.fullmatch(video_id):
            shutil.rmtree(engine.config.folder(video_id), ignore_errors=True)
    return Response(status_code=204)


routes = [
    Route("/indexes", list_indexes, methods=["GET"]),
    Route("/indexes", create, methods=["POST"]),
    Route("/indexes/{index_id}", retrieve, methods=["GET"]),
    Route("/indexes/{index_id}", rename, methods=["PUT"]),
    Route("/indexes/{index_id}", delete, methods=["DELETE"]),
]
