"""What stands around the routes: requests of web pages are kept out, and refusals are read to their end.

A page of any site can make the browser of this machine send requests to loopback, and its site's name can be
made to lead there. `check_sender` refuses both on an engine without a key; with one, no page has the key.

`Lingering` lets a client that is still sending read why it was refused.

A server that answers in the middle of an upload and then closes resets the connection, and with it the answer
that the client has not read yet. So what is on its way is taken in before the answer goes out, within bounds.
"""

from __future__ import annotations

import asyncio
import ipaddress
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tl_data.local.errors import cross_origin

BYTES = 16 * 2**20  # taken in and thrown away
SECONDS = 3.0


class Lingering:
    """ASGI middleware that takes in the rest of a request before its answer begins."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        ended = headers.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in headers
        asked = b"expect" not in headers  # a client that expects a 100 sends nothing before it is asked

        async def noting() -> Message:
            nonlocal ended, asked
            asked = True
            message = await receive()
            ended = ended or message["type"] != "http.request" or not message.get("more_body")
            return message

        async def rest() -> None:
            left = BYTES
            while not ended and left > 0:
                left -= len((await noting()).get("body", b""))

        async def patient(message: Message) -> None:
            if message["type"] == "http.response.start" and asked and not ended:
                with suppress(TimeoutError):
                    await asyncio.wait_for(rest(), SECONDS)
            await send(message)

        await self._app(scope, noting, patient)


def check_sender(scope: Scope) -> None:
    """Refuse a request that a web page of another origin sends, or that was sent to another host's name.

    Browsers send Origin with everything that can change something, and Sec-Fetch-Site where they trust the
    address; a program sends neither.

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
