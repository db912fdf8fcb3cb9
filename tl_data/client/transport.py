"""Bytes to and from a server: the only file that names httpx.

httpx's requests and responses on the aiohttp transport: httpx's own pool collapses above 64 calls in flight.
Every failure to get a complete answer becomes a `ConnectionFailed` that says in a sentence what happened, and
whether the server may have carried the request out. No exception of the libraries leaves this file, not even
as a context: theirs carry the headers, and with them the key.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from tl_data._version import __version__
from tl_data.errors import ConnectionFailed
from tl_data.urls import is_loopback, redacted

CONNECT = 15.0  # seconds to reach a server
CONNECTIONS = 1024  # at most, a process; the pool of rows decides how many are really used
KEEP = 4.0  # seconds an idle connection is kept: less than the 5 s after which common servers close it
BLOCK = 256 * 1024

_FAILURES = (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, aiohttp.ClientError, OSError)

T = TypeVar("T")


class Body(Protocol):
    """A request body that is produced while it is sent, each time anew."""

    content_type: str
    length: int

    def __aiter__(self) -> AsyncIterator[bytes]: ...


@dataclass(frozen=True)
class Answer:
    """A complete answer. `headers` finds names whatever their case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Stream:
    """An answer whose body is read as it comes; the time limit counts from one piece to the next."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]  # decoded; ConnectionFailed when the body breaks off


class Transport:
    """The connections of a process to the API and to the hosts of videos."""

    def __init__(self, timeout: float, secret: str | None) -> None:
        self._timeout = timeout
        self._secret = secret
        self._context = httpx.create_ssl_context()
        self._transports: dict[tuple[bool, bool], AiohttpTransport] = {}

    async def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        content: bytes | Body | None = None,
        *,
        fresh: bool = False,
    ) -> Answer:
        """One request, one complete answer; redirects are answers. `fresh`: on a new connection.

        Raises:
            ConnectionFailed: no complete answer came within the time limit, which an upload moves on.
        """

        async def whole(patience: asyncio.Timeout) -> Answer:
            response = await self._begun(method, url, headers, content, fresh, patience)
            try:
                return Answer(response.status_code, response.headers, await response.aread())
            finally:
                await response.aclose()

        return await self._within(url, whole)

    @asynccontextmanager
    async def stream(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes | None = None
    ) -> AsyncIterator[Stream]:
        """One request whose answer is read inside the block; leaving it early drops the connection."""

        async def begun(patience: asyncio.Timeout) -> httpx.Response:
            return await self._begun(method, url, headers, content, False, patience)

        response = await self._within(url, begun)
        try:
            yield Stream(response.status_code, response.headers, self._chunks(response, url))
        finally:
            await response.aclose()

    async def _chunks(self, response: httpx.Response, url: str) -> AsyncIterator[bytes]:
        body = response.aiter_bytes()

        async def following(_: asyncio.Timeout) -> bytes | None:
            return await anext(body, None)

        while (chunk := await self._within(url, following)) is not None:
            yield chunk

    async def _begun(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        content: bytes | Body | None,
        fresh: bool,
        patience: asyncio.Timeout,
    ) -> httpx.Response:
        """Send the request and read the head of the answer."""
        head = {"user-agent": f"tl_data/{__version__}", "accept-encoding": "gzip, deflate", **headers}
        timeouts = {"timeout": {"connect": CONNECT, "read": None, "write": None, "pool": None}}
        transport = self._transport(url, fresh)
        if content is None or isinstance(content, bytes):
            request = httpx.Request(method, url, headers=head, content=content, extensions=timeouts)
            return await transport.handle_async_request(request)

        broken: list[Exception] = []  # the libraries would report an unreadable file as a lost connection
        body = content

        async def sent() -> AsyncIterator[bytes]:
            try:
                async for chunk in body:
                    patience.reschedule(asyncio.get_running_loop().time() + self._timeout)
                    yield chunk
            except Exception as error:
                broken.append(error)
                raise

        head |= {"content-type": body.content_type, "content-length": str(body.length)}
        request = httpx.Request(method, url, headers=head, content=sent(), extensions=timeouts)
        try:
            return await transport.handle_async_request(request)
        except _FAILURES:
            if broken:
                raise broken[0] from None
            raise

    async def _within(self, url: str, step: Callable[[asyncio.Timeout], Awaitable[T]]) -> T:
        """Take one step of an exchange in time, with the libraries' failures turned into ours."""
        try:
            async with asyncio.timeout(self._timeout) as patience:
                return await step(patience)
        except TimeoutError:
            failure = ConnectionFailed(f"{_place(url)} gave no complete answer within {self._timeout:g} s")
            failure.maybe_done = True
        except _FAILURES as error:
            failure = self._explained(error, url)
        raise failure  # outside of the except block: without the library's exception as its context

    def _transport(self, url: str, fresh: bool) -> AiohttpTransport:
        # Proxies of the environment are for the outside world, never for the embedded engine.
        key = (fresh, is_loopback(url))
        if key not in self._transports:
            self._transports[key] = AiohttpTransport(
                verify=self._context, client=lambda: _session(self._context, *key)
            )
        return self._transports[key]

    def _explained(self, error: Exception, url: str) -> ConnectionFailed:
        """What a failure of the libraries means, in a sentence, and whether the request may have arrived."""
        cause = error.__cause__ or error
        place = _place(url)
        reached = False
        if isinstance(cause, aiohttp.ClientConnectorDNSError):
            text = f"the host {urlsplit(url).hostname} is unknown"
        elif isinstance(cause, aiohttp.ClientConnectorCertificateError):
            text = f"the certificate of {place} is not trusted"
        elif isinstance(cause, aiohttp.ConnectionTimeoutError):
            text = f"{place} could not be reached within {CONNECT:g} s"
        elif isinstance(cause, aiohttp.ClientConnectorError):
            reason = cause.os_error.strerror or "the connection was refused"
            text = f"{place} cannot be reached: {reason}"
        elif isinstance(cause, httpx.InvalidURL | httpx.UnsupportedProtocol | aiohttp.InvalidURL):
            text = f"{redacted(url)!r} is not an address that can be asked"
        else:
            reached = True
            text = f"the connection to {place} broke before the whole answer arrived ({type(cause).__name__})"
        failure = ConnectionFailed(redacted(text, self._secret))
        failure.maybe_done = reached
        return failure

    async def aclose(self) -> None:
        """Close all connections."""
        transports, self._transports = self._transports, {}
        for transport in transports.values():
            await transport.aclose()
        if transports:
            await asyncio.sleep(0)  # the loop closes the sockets in its next turn, if it has one


def _session(context: ssl.SSLContext, fresh: bool, loopback: bool) -> aiohttp.ClientSession:
    # A call that creates something travels on a new connection: one that was kept may be closed by the server
    # at the moment of sending, and then nobody could tell a lost request from a lost answer.
    connector = (
        aiohttp.TCPConnector(limit=CONNECTIONS, ssl=context, force_close=True)
        if fresh
        else aiohttp.TCPConnector(limit=CONNECTIONS, ssl=context, keepalive_timeout=KEEP)
    )
    session = aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=not loopback, read_bufsize=BLOCK
    )
    # aiohttp would send GET, PUT and DELETE a second time by itself, unseen by the receipt and the limiter;
    # retry.py is the only retry layer. aiohttp's own test client switches it off in the same way.
    session._retry_connection = False
    return session


def _place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
