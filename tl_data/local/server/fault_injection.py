"""ASGI middleware that injects faults into responses and connections."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from datetime import UTC, datetime
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tl_data.local.server.connections import close, reset
from tl_data.local.server.faults import ALTERING, OUTCOMES, Fault, Faults

Header = tuple[bytes, bytes]
ERROR_PAGE = (
    "<!DOCTYPE html><html><head><title>{status}</title></head>"
    "<body><h1>{status} Bad Gateway</h1><hr>proxy</body></html>"
)


class ConnectionDropped(Exception):
    """A fault has dropped the connection, so no response can be sent."""


class FaultInjection:
    """ASGI middleware that applies faults to matching requests."""

    def __init__(self, app: ASGIApp, faults: Faults, prefix: str, template: Any) -> None:
        self._app = app
        self._faults = faults
        self._prefix = prefix
        self._template = template  # function that returns the route pattern of a scope

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith((self._prefix, "/media/")):
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
