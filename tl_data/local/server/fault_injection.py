"""Middleware that injects faults, and the HTTP protocol class by which it resets or closes connections.

The class also limits the number of connections and the time in which a request must arrive.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import struct
import time
from datetime import UTC, datetime
from typing import Any
from weakref import WeakValueDictionary

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from tl_data.local.errors import too_many_connections
from tl_data.local.server.faults import ALTERING, OUTCOMES, Fault, Faults

#: Open connections by address and port of the peer.
_open: WeakValueDictionary[tuple[str, int], asyncio.Transport] = WeakValueDictionary()


class ConnectionDropped(Exception):
    """A fault has dropped the connection, so no response can be sent."""


class TrackedConnection(H11Protocol):
    """uvicorn's HTTP protocol. It also registers each connection, and limits connections and requests.

    A connection is closed if the head of its next request is not complete after `head_seconds`, or if nothing
    of a body arrives for `body_seconds`. uvicorn has no such timeouts.
    Beyond `most_connections`, a new connection replaces the one that has waited longest for a request. If
    every connection has a request in progress, the requests of the new one get 503.
    """

    most_connections = 1000
    head_seconds = 30.0
    body_seconds = 60.0
    _deadline: asyncio.TimerHandle | None = None
    _body_timer: asyncio.TimerHandle | None = None
    _body_at = 0.0  # loop time at which the latest part of the body arrived
    _idle_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by the event loop for each new connection."""
        super().connection_made(transport)
        self._start_deadline()
        if len(self.connections) > self.most_connections:
            self._make_room()
        if peer := transport.get_extra_info("peername"):
            _open[peer[0], peer[1]] = transport

    def data_received(self, data: bytes) -> None:
        """Called by the event loop when data has arrived."""
        super().data_received(data)
        if self._is_idle():  # the data belongs to the head of the next request
            self._start_deadline()
        elif self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._body_at = self.loop.time()
        if self._body_timer is None:
            self._watch_body(self.body_seconds)

    def on_response_complete(self) -> None:
        """Called by uvicorn when the response to a request is complete."""
        self._idle_since = self.loop.time()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop when the connection has ended."""
        for timer in (self._deadline, self._body_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def _make_room(self) -> None:
        """Close the connection that has been idle longest; without one, refuse the requests of this one."""
        idle = [
            other
            for other in self.connections
            if isinstance(other, TrackedConnection)
            and other is not self
            and other._is_idle()
            and not other.transport.is_closing()
        ]
        if idle:
            min(idle, key=lambda other: other._idle_since).transport.close()
        else:
            self.app = _too_many_connections

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _start_deadline(self) -> None:
        if self._deadline is None:
            self._idle_since = self.loop.time()
            self._deadline = self.loop.call_later(self.head_seconds, self._close_if_idle)

    def _watch_body(self, seconds: float) -> None:
        if not self._is_idle() and self.cycle.more_body:
            self._body_timer = self.loop.call_later(seconds, self._close_if_stalled)

    def _close_if_stalled(self) -> None:
        self._body_timer = None
        if self.flow is not None and self.flow.read_paused:  # the engine does not read at the moment
            self._body_at = self.loop.time()
        rest = self._body_at + self.body_seconds - self.loop.time()
        if rest > 0 or self._is_idle() or not self.cycle.more_body:
            self._watch_body(max(rest, 0.1))
        else:
            self.transport.close()

    def _close_if_idle(self) -> None:
        self._deadline = None
        if self._is_idle() and not self.transport.is_closing():
            self.transport.close()


async def _too_many_connections(scope: Scope, receive: Receive, send: Send) -> None:
    """An ASGI app that refuses every request of a connection beyond the limit, and closes the connection."""
    problem = too_many_connections()
    headers = problem.headers | {"Connection": "close"}
    await JSONResponse(problem.body, problem.status, headers)(scope, receive, send)


def _transport(scope: Scope) -> asyncio.Transport | None:
    client = scope.get("client")
    return _open.get((client[0], client[1])) if client else None


def reset(scope: Scope) -> None:
    """Abort the connection of a request, so that the peer sees a reset."""
    if transport := _transport(scope):
        connection = transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


def close(scope: Scope) -> None:
    """Close the connection of a request after the data sent so far, so that the peer sees an early end."""
    if transport := _transport(scope):
        transport.close()


Header = tuple[bytes, bytes]
ERROR_PAGE = (
    "<!DOCTYPE html><html><head><title>{status}</title></head>"
    "<body><h1>{status} Bad Gateway</h1><hr>proxy</body></html>"
)


class FaultInjection:
    """ASGI middleware that applies faults to matching requests."""

    def __init__(self, app: ASGIApp, faults: Faults, prefix: str, template: Any) -> None:
        self._app = app
        self._faults = faults
        self._prefix = prefix
        self._template = template  # function that returns the route pattern of a scope

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(self._prefix):
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix(self._prefix) or "/"
        selected = self._faults.select(scope["method"], path, self._template(scope))
        if delay := self._faults.delay(selected):
            await asyncio.sleep(delay)
        fault = next((fault for fault in selected if fault.kind != "latency"), None)
        if fault is None:
            await self._app(scope, receive, send)
        elif fault.kind in OUTCOMES:
            scope["tl.injected_outcome"] = fault.outcome()
            await self._app(scope, receive, send)
        else:
            await self._apply(fault, scope, receive, send)

    async def _apply(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        start: Message = {"type": "http.response.start", "status": 200, "headers": []}
        body = b""
        if fault.after or fault.kind in ALTERING:
            start, body = await self._process(scope, receive)
        else:
            await _read_request(receive)
        scope["tl.fault"] = fault.kind
        if fault.kind == "reset":
            reset(scope)
            raise ConnectionDropped
        if fault.kind in ALTERING:
            await _send_altered(fault, scope, send, start, body)
            return
        status, headers, body = _replacement(fault)
        await _send_response(send, status, headers, body)

    async def _process(self, scope: Scope, receive: Receive) -> tuple[Message, bytes]:
        """Run the app and buffer its response."""
        parts: list[bytes] = []
        start: Message = {"type": "http.response.start", "status": 500, "headers": []}

        async def keep(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
            elif message["type"] == "http.response.body":
                parts.append(message.get("body", b""))

        await self._app(scope, receive, keep)
        return start, b"".join(parts)


async def _read_request(receive: Receive) -> None:
    """Read the whole request, so that the client finishes sending and reads the response."""
    while True:
        message = await receive()
        if message["type"] != "http.request" or not message.get("more_body"):
            return


async def _send_response(send: Send, status: int, headers: list[Header], body: bytes) -> None:
    headers = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _replacement(fault: Fault) -> tuple[int, list[Header], bytes]:
    """Status, headers and body of the response that replaces the real one."""
    json_header: Header = (b"content-type", b"application/json; charset=UTF-8")
    if fault.kind == "html":
        status = fault.status or 502
        return status, [(b"content-type", b"text/html")], ERROR_PAGE.format(status=status).encode()
    if fault.kind == "redirect":
        target = (fault.location or "https://example.com/").encode()
        return fault.status or 307, [(b"location", target)], b""
    if fault.kind == "too_many_requests":
        return 429, *_too_many_requests(fault, json_header)
    if fault.kind == "gone":
        text = "This endpoint is no longer available. Use /analyze instead."
        return 410, [json_header], _error_body(fault, "endpoint_deprecated", text)
    status = fault.status or 500
    return (
        status,
        [json_header],
        _error_body(
            fault, "internal_server_error" if status >= 500 else "generic_error", "An injected fault."
        ),
    )


def _error_body(fault: Fault, code: str, message: str) -> bytes:
    return json.dumps({"code": fault.code or code, "message": fault.message or message}).encode()


def _too_many_requests(fault: Fault, json_header: Header) -> tuple[list[Header], bytes]:
    wait = 1.0 if fault.seconds is None else fault.seconds
    retry_time = datetime.fromtimestamp(time.time() + wait, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    body = _error_body(
        fault,
        "too_many_requests",
        f"You have exceeded the rate limit (100req/1day). Please try again later after {retry_time}.",
    )
    if fault.shape == "empty":
        return [], b""
    if fault.shape == "retry_after":
        return [json_header, (b"retry-after", f"{wait:g}".encode())], body
    if fault.shape == "reset":
        reset = str(int(time.time() + wait) + 1).encode()
        limits = [
            (b"x-ratelimit-limit", b"100"),
            (b"x-ratelimit-remaining", b"0"),
            (b"x-ratelimit-reset", reset),
        ]
        return [json_header, *limits], body
    return [json_header], body


def _with_stream_error(fault: Fault, headers: list[Header], body: bytes) -> bytes:
    """Truncate a text stream and end it with an error event. Other responses are returned unchanged."""
    if not any(name.lower() == b"content-type" and b"ndjson" in value for name, value in headers):
        return body
    lines = body.splitlines(keepends=True)
    error = {"message": fault.message or "The generation was interrupted."}
    if fault.code:
        error["code"] = fault.code
    kept = lines[: max(1, min(round(len(lines) * fault.share), len(lines) - 1))]
    event = json.dumps({"event_type": "stream_error", "error": error})
    return b"".join([*kept, event.encode(), b"\n"])


async def _send_altered(fault: Fault, scope: Scope, send: Send, start: Message, body: bytes) -> None:
    """Send the real response, altered by the fault."""
    headers = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
    status = start["status"]
    if fault.kind == "gzip":
        compressed = gzip.compress(body)
        await _send_response(send, status, [*headers, (b"content-encoding", b"gzip")], compressed)
        return
    if fault.kind == "malformed":
        await _send_response(send, status, headers, body[: max(1, int(len(body) * fault.share))] or b"{")
        return
    if fault.kind == "truncate":
        length: Header = (b"content-length", str(len(body) or 100).encode())
        await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
        part = body[: min(int(len(body) * fault.share), max(0, len(body) - 1))]
        await send({"type": "http.response.body", "body": part, "more_body": True})
        close(scope)
        raise ConnectionDropped
    if fault.kind == "stream_error":
        body = _with_stream_error(fault, start["headers"], body)
    pieces = 16 if fault.kind == "slow_body" else 7
    if fault.kind == "slow_body":
        headers = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    step = max(1, -(-len(body) // pieces))
    for offset in range(0, len(body), step):
        await send({"type": "http.response.body", "body": body[offset : offset + step], "more_body": True})
        if fault.kind == "slow_body":
            await asyncio.sleep((2.0 if fault.seconds is None else fault.seconds) / pieces)
    await send({"type": "http.response.body", "body": b""})
