"""The HTTP app: the routes under /v1.3, with error responses, API key, rate limits, faults and counters."""

from __future__ import annotations

import hmac
import logging
import re
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Match, Mount, Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tl_data.local.config import API_VERSION, PREFIX, Config
from tl_data.local.errors import (
    APIProblem,
    deprecated_endpoint,
    is_full,
    key_invalid,
    missing_endpoint,
    not_supported,
    storage_full,
)
from tl_data.local.perception.evidence import ModelFailed
from tl_data.local.profiles import Profile
from tl_data.local.rate_limits import RateLimits
from tl_data.local.server import fault_injection
from tl_data.local.server.context import Engine, SignedUrls, engine_of
from tl_data.local.server.fault_injection import FaultInjection
from tl_data.local.server.faults import Faults
from tl_data.local.server.middleware import DrainRequest, check_sender
from tl_data.local.server.old_names import current_path
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

NESTED = ("/analyze/tasks", "/analyze/batches", "/embed-v2/tasks/")  # {"error": {...}} today
NOT_BUILT = ("/knowledge-stores", "/responses", "/connections")
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
    """Create the app of one engine; its queue starts with the server.

    Raises:
        APIProblem: the file of faults or the plan is invalid.
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
        engine.queue.run_analysis = lambda row: analyze_tasks.work_on(engine, row)
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
            APIProblem: _problem,
            HTTPException: _no_such_endpoint,
            ClientDisconnect: _client_disconnected,
            ModelFailed: _model_failed,
        },
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.engine = engine
    app.add_middleware(Guard, engine=engine)
    app.add_middleware(FaultInjection, faults=faults, prefix=PREFIX, template=template_of)
    app.add_middleware(Envelope, stats=engine.stats, profile=config.profile)
    app.add_middleware(DrainRequest)
    return app


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, APIProblem)
    path, profile = request.url.path.removeprefix(PREFIX), engine_of(request).profile
    nested = profile.nested_errors and (path.startswith(NESTED) or (path, error.status) == ("/embed-v2", 413))
    return JSONResponse({"error": error.body} if nested else error.body, error.status, error.headers)


async def _no_such_endpoint(request: Request, error: Exception) -> Response:
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
    # No 5xx, which clients retry: a wrong setting does not fix itself.
    return JSONResponse({"code": "engine_model_failed", "message": f"{error}."}, 424)


async def _client_disconnected(_: Request, __: Exception) -> Response:
    return JSONResponse({"code": "request_canceled_or_timed_out", "message": "Request canceled."}, 499)


def template_of(scope: Scope) -> str:
    """The pattern of the route of a request, below the version: `/tasks/{task_id}`."""
    if not scope["path"].startswith(PREFIX):
        return "/media" if scope["path"].startswith("/media/") else "unknown"
    inner = dict(scope, path=scope["path"].removeprefix(PREFIX) or "/", root_path="")
    for route in API_ROUTES:
        if isinstance(route, Route) and route.matches(inner)[0] != Match.NONE:
            return route.path
    return "unknown"


_failed = JSONResponse(
    {
        "code": "internal_server_error",
        "message": "Internal error while processing this request. See the log of the engine.",
    },
    500,
)


class Envelope:
    """The outermost middleware: version and trace headers, counters, and unexpected errors."""

    def __init__(self, app: ASGIApp, stats: Stats, profile: Profile) -> None:
        self._app = app
        self._stats = stats
        self._profile = profile

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = ""
        trace = uuid.uuid4().hex

        async def with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
                extra = [(b"x-trace-id", trace.encode())]
                if message["status"] < 400 or self._profile.version_on_refusals:
                    extra.append((b"x-api-version", API_VERSION.encode()))
                if self._profile.strict:
                    extra.append((b"tl-report", b"backend"))
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        self._stats.request_started()
        try:
            await self._app(scope, receive, with_headers)
        except fault_injection.ConnectionDropped:
            status = "lost"
            while (await receive())["type"] != "http.disconnect":
                pass
        except Exception as error:  # the connection stays usable, and no internals leak
            full = is_full(error)
            log.log(
                logging.WARNING if full else logging.ERROR,
                "%s %s",
                scope["method"],
                scope["path"],
                exc_info=not full,
            )
            if not status:
                problem = storage_full()
                response = JSONResponse(problem.body, problem.status, problem.headers) if full else _failed
                await response(scope, receive, with_headers)
        finally:
            self._stats.request_finished()
            if not scope["path"].startswith("/_engine"):
                self._stats.record(f"{scope['method']} {template_of(scope)}", status)


class Guard:
    """Checks the API key, then the rate limits, before the route reads the body."""

    def __init__(self, app: ASGIApp, engine: Engine) -> None:
        self._app = app
        self._engine = engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or not path.startswith((PREFIX, "/_engine")):
            await self._app(scope, receive, send)
            return
        try:
            self._check_key(scope)
            self._check_available(scope["method"], path.removeprefix(PREFIX))
            headers = self._engine.rates.admit(scope["method"], path.removeprefix(PREFIX))
        except APIProblem as problem:
            await JSONResponse(problem.body, problem.status, problem.headers)(scope, receive, send)
            return
        if not headers:
            await self._app(scope, receive, send)
            return
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

        async def with_limits(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *raw]}
            await send(message)

        await self._app(scope, receive, with_limits)

    def _check_available(self, method: str, path: str) -> None:
        """Refuse endpoints that the profile removed or never had, and those that are not implemented."""
        profile = self._engine.profile
        if path in profile.gone:
            raise deprecated_endpoint(path)
        if any(_begins(path, missing) for missing in profile.missing):
            raise missing_endpoint(method, path)
        if not profile.strict and (replacement := current_path(path)):
            text = f"The endpoint {method} {path} does not exist any more. Use {replacement}."
            raise APIProblem(404, "endpoint_not_exists", text)
        if any(_begins(path.replace(":", "/"), other) for other in NOT_BUILT):
            raise not_supported(path)

    def _check_key(self, scope: Scope) -> None:
        key = self._engine.config.api_key
        if not key:  # allowed on loopback only
            check_sender(scope)
            return
        sent = dict[Any, bytes](scope["headers"]).get(b"x-api-key", b"")
        if not hmac.compare_digest(sent, key.encode()):
            raise key_invalid()


def _begins(path: str, pattern: str) -> bool:
    """Whether a path matches a pattern or lies below it; `*` matches one part."""
    parts, wanted = path.split("/"), pattern.split("/")
    return len(parts) >= len(wanted) and all(w in ("*", p) for p, w in zip(parts, wanted, strict=False))
