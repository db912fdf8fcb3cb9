"""The connections themselves, for faults that no HTTP answer can express: a reset, a close half-way.

Carries the faults out: between the wire and the app, so that a client meets what it would meet.
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

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from tl_data.local.server.faults import ALTERING, OUTCOMES, Fault, Faults

_open: WeakValueDictionary[tuple[str, int], asyncio.Transport] = WeakValueDictionary()


class Lost(Exception):
    """The connection is gone on purpose: there is nothing more to answer."""


HEAD_SEC = 30.0  # until the head of a request must have arrived whole


class KnownConnection(H11Protocol):
    """uvicorn's HTTP protocol, with its connections findable by the peer's address.

    A connection whose next request does not begin in time is closed: uvicorn waits for it without end.
    """

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by the event loop for each new connection."""
        super().connection_made(transport)
        self._expect()
        if peer := transport.get_extra_info("peername"):
            _open[peer[0], peer[1]] = transport

    def data_received(self, data: bytes) -> None:
        """Called by the event loop for what has arrived."""
        super().data_received(data)
        if self._between():  # after an answer, part of another request
            self._expect()
        elif self._late is not None:
            self._late.cancel()
            self._late = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop at the end of the connection."""
        if self._late is not None:
            self._late.cancel()
        super().connection_lost(exc)

    def _between(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _expect(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(HEAD_SEC, self._close_if_late)

    def _close_if_late(self) -> None:
        self._late = None
        if self._between() and not self.transport.is_closing():
            self.transport.close()


def _transport(scope: Scope) -> asyncio.Transport | None:
    client = scope.get("client")
    return _open.get((client[0], client[1])) if client else None


def reset(scope: Scope) -> None:
    """Drop the connection of a request at once: the peer sees a reset."""
    if transport := _transport(scope):
        at = transport.get_extra_info("socket")
        if at is not None:
            at.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


def close(scope: Scope) -> None:
    """Close the connection of a request after what was sent: the peer sees an early end."""
    if transport := _transport(scope):
        transport.close()


Header = tuple[bytes, bytes]
PAGE = (
    "<!DOCTYPE html><html><head><title>{status}</title></head>"
    "<body><h1>{status} Bad Gateway</h1><hr>proxy</body></html>"
)


class Injection:
    """ASGI middleware that lets matching requests meet their fault."""

    def __init__(self, app: ASGIApp, faults: Faults, prefix: str, template: Any) -> None:
        self._app = app
        self._faults = faults
        self._prefix = prefix
        self._template = template  # (scope) -> the pattern of the request's route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(self._prefix):
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix(self._prefix) or "/"
        met = self._faults.strike(scope["method"], path, self._template(scope))
        if delay := self._faults.delay(met):
            await asyncio.sleep(delay)
        fault = next((one for one in met if one.kind != "latency"), None)
        if fault is None:
            await self._app(scope, receive, send)
        elif fault.kind in OUTCOMES:
            scope["tl.injected_outcome"] = fault.outcome()
            await self._app(scope, receive, send)
        else:
            await self._strike(fault, scope, receive, send)

    async def _strike(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        start: Message = {"type": "http.response.start", "status": 200, "headers": []}
        body = b""
        if fault.after or fault.kind in ALTERING:
            start, body = await self._carried_out(scope, receive)
        else:
            await _drain(receive)
        scope["tl.fault"] = fault.kind
        if fault.kind == "reset":
            reset(scope)
            raise Lost
        if fault.kind in ALTERING:
            await _coated(fault, scope, send, start, body)
            return
        status, headers, body = _made_up(fault)
        await _answer(send, status, headers, body)

    async def _carried_out(self, scope: Scope, receive: Receive) -> tuple[Message, bytes]:
        """Let the app do its work and keep its answer."""
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


async def _drain(receive: Receive) -> None:
    """Take the request in, so that the client can send it whole and then reads the answer."""
    while True:
        message = await receive()
        if message["type"] != "http.request" or not message.get("more_body"):
            return


async def _answer(send: Send, status: int, headers: list[Header], body: bytes) -> None:
    headers = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _made_up(fault: Fault) -> tuple[int, list[Header], bytes]:
    """Status, headers and body of an answer that the app never gave."""
    as_json: Header = (b"content-type", b"application/json; charset=UTF-8")
    if fault.kind == "html":
        status = fault.status or 502
        return status, [(b"content-type", b"text/html")], PAGE.format(status=status).encode()
    if fault.kind == "redirect":
        target = (fault.location or "https://example.com/").encode()
        return fault.status or 307, [(b"location", target)], b""
    if fault.kind == "too_many_requests":
        return 429, *_too_many(fault, as_json)
    if fault.kind == "gone":
        text = "This endpoint is no longer available. Use /analyze instead."
        return 410, [as_json], _body(fault, "endpoint_deprecated", text)
    status = fault.status or 500
    return (
        status,
        [as_json],
        _body(fault, "internal_server_error" if status >= 500 else "generic_error", "An injected fault."),
    )


def _body(fault: Fault, code: str, message: str) -> bytes:
    return json.dumps({"code": fault.code or code, "message": fault.message or message}).encode()


def _too_many(fault: Fault, as_json: Header) -> tuple[list[Header], bytes]:
    wait = 1.0 if fault.seconds is None else fault.seconds
    at = datetime.fromtimestamp(time.time() + wait, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    body = _body(
        fault,
        "too_many_requests",
        f"You have exceeded the rate limit (100req/1day). Please try again later after {at}.",
    )
    if fault.shape == "empty":
        return [], b""
    if fault.shape == "retry_after":
        return [as_json, (b"retry-after", f"{wait:g}".encode())], body
    if fault.shape == "reset":
        reset = str(int(time.time() + wait) + 1).encode()
        limits = [
            (b"x-ratelimit-limit", b"100"),
            (b"x-ratelimit-remaining", b"0"),
            (b"x-ratelimit-reset", reset),
        ]
        return [as_json, *limits], body
    return [as_json], body


def _ended_in_error(fault: Fault, headers: list[Header], body: bytes) -> bytes:
    """The lines of a text stream, broken off, and the event that says so; any other answer as it is."""
    if not any(name.lower() == b"content-type" and b"ndjson" in value for name, value in headers):
        return body
    lines = body.splitlines(keepends=True)
    error = {"message": fault.message or "The text could not be written to its end."}
    if fault.code:
        error["code"] = fault.code
    kept = lines[: max(1, min(round(len(lines) * fault.share), len(lines) - 1))]
    event = json.dumps({"event_type": "stream_error", "error": error})
    return b"".join([*kept, event.encode(), b"\n"])


async def _coated(fault: Fault, scope: Scope, send: Send, start: Message, body: bytes) -> None:
    """The real answer, changed on its way."""
    headers = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
    status = start["status"]
    if fault.kind == "gzip":
        packed = gzip.compress(body)
        await _answer(send, status, [*headers, (b"content-encoding", b"gzip")], packed)
        return
    if fault.kind == "malformed":
        await _answer(send, status, headers, body[: max(1, int(len(body) * fault.share))] or b"{")
        return
    if fault.kind == "truncate":
        length: Header = (b"content-length", str(len(body) or 100).encode())
        await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
        part = body[: min(int(len(body) * fault.share), max(0, len(body) - 1))]
        await send({"type": "http.response.body", "body": part, "more_body": True})
        close(scope)
        raise Lost
    if fault.kind == "stream_error":
        body = _ended_in_error(fault, start["headers"], body)
    pieces = 16 if fault.kind == "slow_body" else 7
    if fault.kind == "slow_body":
        headers = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    step = max(1, -(-len(body) // pieces))
    for at in range(0, len(body), step):
        await send({"type": "http.response.body", "body": body[at : at + step], "more_body": True})
        if fault.kind == "slow_body":
            await asyncio.sleep((2.0 if fault.seconds is None else fault.seconds) / pieces)
    await send({"type": "http.response.body", "body": b""})
