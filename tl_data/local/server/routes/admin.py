"""/_engine: counters, faults, rate limits and state of the engine. The service has no such endpoints."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tl_data.local.rate_limits import RateLimits
from tl_data.local.server.context import engine_of
from tl_data.local.server.faults import Faults
from tl_data.local.server.forms import read_json
from tl_data.local.tasks.reindex import WANTED, plan_of, stale


async def stats(request: Request) -> Response:
    """GET /_engine/stats: counts of requests since the start, and totals of completed work."""
    return JSONResponse(engine_of(request).stats.as_dict())


async def clear_stats(request: Request) -> Response:
    """DELETE /_engine/stats: resets the request counters."""
    engine_of(request).stats.clear()
    return Response(status_code=204)


async def bill(request: Request) -> Response:
    """GET /_engine/bill: what the service would bill. DELETE resets it."""
    engine = engine_of(request)
    if request.method == "DELETE":
        engine.bill.clear()
    return JSONResponse(engine.bill.as_dict())


async def faults(request: Request) -> Response:
    """GET, PUT, DELETE /_engine/faults: returns, replaces or removes the fault rules."""
    return await _configure(request, engine_of(request).faults)


async def rates(request: Request) -> Response:
    """GET, PUT, DELETE /_engine/rates: returns, replaces or removes the rate limits."""
    return await _configure(request, engine_of(request).rates)


async def _configure(request: Request, rules: Faults | RateLimits) -> Response:
    if request.method == "PUT":
        rules.configure(await read_json(request, engine_of(request).config.max_body_bytes))
    elif request.method == "DELETE":
        rules.clear()
    return JSONResponse(rules.as_dict())


async def health(request: Request) -> Response:
    """GET /_engine/health: 200 and `ok`, or 503 and the problems of the queue."""
    queue = engine_of(request).queue
    problems = await asyncio.to_thread(queue.problems)
    status = problems[0]["code"] if problems else "ok"
    body = {"status": status, "idle": queue.idle, "problems": problems}
    return JSONResponse(body, 503 if problems else 200)


async def tiers(request: Request) -> Response:
    """GET /_engine/tiers: the models of the engine, and the videos to reindex."""
    engine = engine_of(request)
    tiers_config = engine.config.tiers
    return JSONResponse(
        {
            "search_model": tiers_config.search_model,
            "analyze_model": tiers_config.analyze_model,
            "profile": engine.profile.name,
            "dimension": await engine.stages.dimension(),
            "stages": tiers_config.stages(),
            "reindex": plan_of(engine.store, tiers_config).as_dict(),
        }
    )


async def reindex(request: Request) -> Response:
    """GET, POST /_engine/reindex?index_id=: the videos of other models or versions. POST reindexes them."""
    engine = engine_of(request)
    index_id = request.query_params.get("index_id")
    if index_id:
        engine.index(index_id)
    tiers = engine.config.tiers
    if request.method == "POST":
        for row in stale(engine.store, tiers, index_id):
            engine.store.change("videos", row["id"], again=WANTED, again_error=None)
        await engine.queue.wake()
    return JSONResponse(plan_of(engine.store, tiers, index_id).as_dict())


routes = [
    Route("/stats", stats, methods=["GET"]),
    Route("/stats", clear_stats, methods=["DELETE"]),
    Route("/bill", bill, methods=["GET", "DELETE"]),
    Route("/faults", faults, methods=["GET", "PUT", "DELETE"]),
    Route("/rates", rates, methods=["GET", "PUT", "DELETE"]),
    Route("/tiers", tiers, methods=["GET"]),
    Route("/reindex", reindex, methods=["GET", "POST"]),
    Route("/health", health, methods=["GET"]),
]
