"""Middleware around the routes: headers, counters, API key, rate limits, and protection against web pages.

Any web page can make a browser on this machine send requests to loopback, directly or by DNS rebinding.
Without an API key, `check_sender` rejects both. With a key this is not needed, because pages do not know it.

If a server responds during an upload and then closes the connection, the connection is reset, and the client
loses the response. `DrainRequest` therefore reads the rest of the request first, up to a limit.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tl_data.local.config import API_VERSION, PREFIX
from tl_data.local.errors import (
    EngineError,
    cross_origin,
    endpoint_not_implemented,
    is_full,
    key_invalid,
    removed_endpoint,
    storage_full,
    unknown_endpoint,
)
from tl_data.local.profiles import Profile
from tl_data.local.server import fault_injection
from tl_data.local.server.context import Engine
from tl_data.local.server.old_names import LINK, find_replacement_path
from tl_data.local.storage.counters import Stats

log = logging.getLogger("tl_data.local")

NOT_IMPLEMENTED = ("/knowledge-stores", "/responses", "/connections")
DRAIN_BYTES, DRAIN_SECONDS = 16 * 2**20, 3.0  # limits for the rest of a request, which is discarded


class DrainRequest:
    """ASGI middleware that reads the rest of a request before its response begins."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        ended = headers.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in headers
        # With Expect: 100-continue, the client waits for 100 before it sends the body.
        body_expected = b"expect" not in headers

        async def tracked_receive() -> Message:
            nonlocal ended, body_expected
            body_expected = True
            message = await receive()
            ended = ended or message["type"] != "http.request" or not message.get("more_body")
            return message

        async def drain() -> None:
            remaining = DRAIN_BYTES
            while not ended and remaining > 0:
                remaining -= len((await tracked_receive()).get("body", b""))

        async def drain_and_send(message: Message) -> None:
            if message["type"] == "http.response.start" and body_expected and not ended:
                with suppress(TimeoutError):
                    await asyncio.wait_for(drain(), DRAIN_SECONDS)
            await send(message)

        await self._app(scope, tracked_receive, drain_and_send)


_INTERNAL_ERROR = JSONResponse(
    {
        "code": "internal_server_error",
        "message": "Internal error while processing this request. See the log of the engine.",
    },
    500,
)


class ResponseMiddleware:
    """Adds version and trace headers, counts requests, and turns unexpected errors into responses."""

    def __init__(
        self, app: ASGIApp, stats: Stats, profile: Profile, template: Callable[[Scope], str]
    ) -> None:
        self._app = app
        self._stats = stats
        self._profile = profile
        self._template = template  # returns the route pattern under which a request is counted

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
                if self._profile.strict:  # as in the responses of the service
                    extra.append((b"tl-report", b"backend"))
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        self._stats.request_started()
        try:
            await self._app(scope, receive, with_headers)
        except fault_injection.ConnectionDropped:
            status = "lost"  # no response is possible: wait until the connection is closed
            while (await receive())["type"] != "http.disconnect":
                pass
        except Exception as error:  # the client gets 500 on a usable connection, without internal details
            disk_full = is_full(error)
            log.log(
                logging.WARNING if disk_full else logging.ERROR,
                "%s %s",
                scope["method"],
                scope["path"],
                exc_info=not disk_full,
            )
            if not status:
                error = storage_full()
                response = (
                    JSONResponse(error.body, error.status, error.headers) if disk_full else _INTERNAL_ERROR
                )
                await response(scope, receive, with_headers)
        finally:
            self._stats.request_finished()
            if not scope["path"].startswith("/_engine"):
                self._stats.record(f"{scope['method']} {self._template(scope)}", status)


class RequestCheck:
    """Checks the API key, the endpoint and the rate limits, before the route reads the body."""

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
        except EngineError as error:
            await JSONResponse(error.body, error.status, error.headers)(scope, receive, send)
            return
        if not headers:
            await self._app(scope, receive, send)
            return
        limit_headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

        async def with_limits(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *limit_headers]}
            await send(message)

        await self._app(scope, receive, with_limits)

    def _check_available(self, method: str, path: str) -> None:
        """Reject endpoints that the profile has removed or never had, and those that are not implemented."""
        profile = self._engine.profile
        if path in profile.gone:
            raise removed_endpoint(path)
        if any(_matches_prefix(path, pattern) for pattern in profile.missing):
            raise unknown_endpoint(method, path)
        if not profile.strict and (replacement := find_replacement_path(path)):
            text = f"The endpoint {method} {path} no longer exists. Use {replacement}: {LINK}"
            raise EngineError(404, "endpoint_not_exists", text)
        if any(_matches_prefix(path.replace(":", "/"), pattern) for pattern in NOT_IMPLEMENTED):
            raise endpoint_not_implemented(path)

    def _check_key(self, scope: Scope) -> None:
        key = self._engine.config.api_key
        if not key:  # the engine starts without a key on loopback only
            check_sender(scope)
            return
        sent_key = dict[Any, bytes](scope["headers"]).get(b"x-api-key", b"")
        if not hmac.compare_digest(sent_key, key.encode()):
            raise key_invalid()


def _matches_prefix(path: str, pattern: str) -> bool:
    """Whether a path begins with a pattern; `*` matches one segment."""
    segments, expected = path.split("/"), pattern.split("/")
    return len(segments) >= len(expected) and all(
        wildcard in ("*", segment) for segment, wildcard in zip(segments, expected, strict=False)
    )


def check_sender(scope: Scope) -> None:
    """Reject a request from a web page of another origin, or with a Host header that is not loopback.

    Browsers send Origin with every request that can change state. They send Sec-Fetch-Site with every request
    to a trustworthy URL, loopback included. Other clients send neither.

    Raises:
        EngineError: 403, host_not_allowed.
    """
    headers = dict[Any, bytes](scope["headers"])
    host = headers.get(b"host", b"")
    if not is_loopback_host(host.decode("latin-1")):
        raise cross_origin()
    origin = headers.get(b"origin")
    if origin is not None and origin.lower() != b"http://" + host.lower():
        raise cross_origin()
    if headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin"):
        raise cross_origin()


def is_loopback_host(host: str) -> bool:
    """Whether a Host header is `localhost` or a loopback address, with or without a port."""
    try:
        parts = urlsplit(f"//{host}")
        if parts.netloc != host or "@" in host or (parts.port is None and host.endswith(":")):
            return False
        name = parts.hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
