"""The HTTP app: the routes under /v1.3, error responses, and the middleware around the routes."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Match, Mount, Route, Router
from starlette.types import Scope

from tl_data.local.config import API_VERSION, PREFIX, Config
from tl_data.local.errors import EngineError
from tl_data.local.perception.evidence import ModelFailed
from tl_data.local.rate_limits import RateLimits
from tl_data.local.server.context import Engine, SignedUrls, engine_of
from tl_data.local.server.fault_injection import FaultInjection
from tl_data.local.server.faults import Faults
from tl_data.local.server.middleware import DrainRequest, RequestCheck, ResponseMiddleware
from tl_data.local.server.routes import (
    admin,
    analyze,
    analyze_batches,
    analyze_tasks,
    assets,
    embed,
    embed_tasks,
    embed_v2,
    entities,
    imports,
    indexes,
    multipart_uploads,
    search,
    tasks,
    videos,
)
from tl_data.local.service import Stages
from tl_data.local.storage.counters import Bill, Stats
from tl_data.local.storage.database import Store
from tl_data.local.tasks.inline_video import InlineVideos
from tl_data.local.tasks.queue import Queue
from tl_data.view.playground import playground_routes

log = logging.getLogger("tl_data.local")

#: With `nested_errors` in the profile, error bodies of paths with these prefixes are {"error": {...}}, and
#: also the body of a 413 of /embed-v2.
NESTED_ERROR_PATHS = ("/analyze/tasks", "/analyze/batches", "/embed-v2/tasks/")
OLD_VERSION = re.compile(r"/v(1\.[0-2])/")

API_ROUTES: list[BaseRoute] = [
    *indexes.routes,
    *multipart_uploads.routes,
    *assets.routes,
    *videos.routes,
    *imports.routes,
    *tasks.routes,
    *search.routes,
    *analyze.routes,
    *analyze_tasks.routes,
    *analyze_batches.routes,
    *embed.routes,
    *embed_tasks.routes,
    *embed_v2.routes,
    *entities.routes,
]


def make_app(config: Config) -> Starlette:
    """Create the app of one engine. Its task queue starts together with the server.

    Raises:
        EngineError: the fault file or the plan is invalid.
        OSError, sqlite3.Error: the folder of the engine cannot be used.
    """
    config.home.mkdir(parents=True, exist_ok=True)
    faults, rates = Faults(config.faults), RateLimits(config.plan, refills=config.profile.refilling_limits)
    store = Store(config.database)
    stages = Stages(config)
    engine = Engine(
        config=config,
        store=store,
        stages=stages,
        queue=Queue(config, store, stages, rates),
        faults=faults,
        rates=rates,
        stats=Stats(store),
        signed_urls=SignedUrls(config.home),
        inline_videos=InlineVideos(config, store, stages),
        bill=Bill(store),
    )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        engine.prepare()
        engine.queue.run_analysis = lambda row: analyze_tasks.run_task(engine, row)
        engine.queue.start()
        yield
        await engine.queue.stop()
        await stages.close()
        store.close()

    app = Starlette(
        routes=[
            # No redirects from `/search/` to `/search`: an unknown path gets 404.
            Mount(PREFIX, Router(API_ROUTES, redirect_slashes=False)),
            Mount("/_engine", Router(admin.routes, redirect_slashes=False)),
            *videos.media_routes,
            *multipart_uploads.part_routes,
            *playground_routes(),
        ],
        exception_handlers={
            EngineError: _problem,
            HTTPException: _http_error,
            ClientDisconnect: _client_disconnected,
            ModelFailed: _model_failed,
        },
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.engine = engine
    app.add_middleware(RequestCheck, engine=engine)
    app.add_middleware(FaultInjection, faults=faults, prefix=PREFIX, template=find_route_template)
    app.add_middleware(
        ResponseMiddleware, stats=engine.stats, profile=config.profile, template=find_route_template
    )
    app.add_middleware(DrainRequest)
    return app


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, EngineError)
    path, profile = request.url.path.removeprefix(PREFIX), engine_of(request).profile
    nested = profile.nested_errors and (
        path.startswith(NESTED_ERROR_PATHS) or (path, error.status) == ("/embed-v2", 413)
    )
    return JSONResponse({"error": error.body} if nested else error.body, error.status, error.headers)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        text = f"The method {request.method} is not allowed for {request.url.path}."
        return JSONResponse({"code": "method_not_allowed", "message": text}, 405, error.headers)
    if (old := OLD_VERSION.match(request.url.path)) and error.status_code == 404:
        text = f"This endpoint is supported starting with version {API_VERSION}. Your version is {old[1]}."
        return JSONResponse({"code": "api_upgrade_required", "message": text}, 400)
    text = f"The endpoint {request.method} {request.url.path[:200]} does not exist."
    if not request.url.path.startswith(f"{PREFIX}/"):
        text += f" The paths of the API begin with {PREFIX}."
    code = "endpoint_not_exists" if error.status_code == 404 else "generic_error"
    return JSONResponse(
        {"code": code, "message": text if error.status_code == 404 else error.detail}, error.status_code
    )


async def _model_failed(_: Request, error: Exception) -> Response:
    # 424 instead of 5xx: clients retry 5xx, but a retry does not fix a wrong setting.
    return JSONResponse({"code": "engine_model_failed", "message": f"{error}."}, 424)


async def _client_disconnected(_: Request, __: Exception) -> Response:
    return JSONResponse({"code": "request_canceled_or_timed_out", "message": "Request canceled."}, 499)


def find_route_template(scope: Scope) -> str:
    """The route pattern of a request, relative to `/v1.3`, such as `/tasks/{task_id}`.

    Files of videos give `/media`; all other paths outside the API give `unknown`.
    """
    if not scope["path"].startswith(PREFIX):
        return "/media" if scope["path"].startswith("/media/") else "unknown"
    inner = dict(scope, path=scope["path"].removeprefix(PREFIX) or "/", root_path="")
    for route in API_ROUTES:
        if isinstance(route, Route) and route.matches(inner)[0] != Match.NONE:
            return route.path
    return "unknown"
