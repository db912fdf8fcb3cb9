"""Middleware around the routes: protection against web pages, and early responses that clients can read.

A page of any site can make a browser on this machine send requests to loopback, also by DNS rebinding.
`check_sender` refuses both if the engine has no key; with a key, no page knows it.

A server that responds during an upload and then closes the connection resets it, and the client loses the
response. `DrainRequest` reads the rest of the request first, within bounds.
"""

from __future__ import annotations

import asyncio
import ipaddress
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tl_data.local.errors import cross_origin

DRAIN_BYTES, DRAIN_SECONDS = 16 * 2**20, 3.0  # limits of what is read and discarded


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
        sending = b"expect" not in headers  # a client that expects a 100 sends no body before it

        async def tracked_receive() -> Message:
            nonlocal ended, sending
            sending = True
            message = await receive()
            ended = ended or message["type"] != "http.request" or not message.get("more_body")
            return message

        async def drain() -> None:
            remaining = DRAIN_BYTES
            while not ended and remaining > 0:
                remaining -= len((await tracked_receive()).get("body", b""))

        async def drain_and_send(message: Message) -> None:
            if message["type"] == "http.response.start" and sending and not ended:
                with suppress(TimeoutError):
                    await asyncio.wait_for(drain(), DRAIN_SECONDS)
            await send(message)

        await self._app(scope, tracked_receive, drain_and_send)


def check_sender(scope: Scope) -> None:
    """Refuse a request from a web page of another origin, or one to another host name.

    Browsers send Origin with every request that can change state, and Sec-Fetch-Site to trustworthy URLs;
    other clients send neither.

    Raises:
        APIProblem: 403, host_not_allowed.
    """
    headers = dict[Any, bytes](scope["headers"])
    host = headers.get(b"host", b"")
    if not names_loopback(host.decode("latin-1")):
        raise cross_origin()
    origin = headers.get(b"origin")
    if origin is not None and origin.lower() != b"http://" + host.lower():
        raise cross_origin()
    if headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin"):
        raise cross_origin()


def names_loopback(host: str) -> bool:
    """Whether a Host header is `localhost` or a loopback address, with or without a port."""
    try:
        parts = urlsplit(f"//{host}")
        if parts.netloc != host or "@" in host or (parts.port is None and host.endswith(":")):
            return False
        name = parts.hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
