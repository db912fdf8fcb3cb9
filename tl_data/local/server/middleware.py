"""Lets a client that is still sending read why it was refused.

A server that answers in the middle of an upload and then closes resets the connection, and with it the answer
that the client has not read yet. So what is on its way is taken in before the answer goes out, within bounds.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
