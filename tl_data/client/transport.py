"""The HTTP transport: the only module that imports httpx.

It uses the requests and responses of httpx with the transport of aiohttp, because httpx's own connection pool
slows down above 64 concurrent requests. Every failure to receive a complete response becomes a
`ConnectionFailed`; its `maybe_done` tells whether the server may have processed the request. No exception of
the libraries leaves this module, not even as the context of another one, because it may contain the request
headers with the API key.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from tl_data._version import __version__
from tl_data.errors import ConnectionFailed
from tl_data.urls import is_loopback, redacted

CONNECT_TIMEOUT = 15.0  # seconds
MAX_CONNECTIONS = 1024  # of each pool; the setting `concurrency` keeps the number in use lower
KEEP_ALIVE = 4.0  # seconds until an idle connection is closed; common servers close it after 5 s
READ_BUFFER = 256 * 1024  # bytes

_FAILURES = (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, aiohttp.ClientError, OSError)

T = TypeVar("T")


class Body(Protocol):
    """A request body that is generated while it is sent. Each iteration starts from the beginning."""

    content_type: str
    length: int

    @property
    def content(self) -> bytes | None:
        """The whole body if it is small, else None."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...


@dataclass(frozen=True)
class Response:
    """A complete response. The names in `headers` are case-insensitive."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Stream:
    """A response whose body is read as it arrives. The timeout applies to each chunk."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]  # decompressed; raises ConnectionFailed if the connection closes early


class Transport:
    """Connection pools to the API and to the hosts of videos."""

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
    ) -> Response:
        """Send a request and read the complete response. Redirects are not followed.

        Args:
            fresh: use a new connection, not one from the pool.

        Raises:
            ConnectionFailed: the connection failed, or no complete response arrived within the timeout. Each
                chunk of an upload restarts the timeout.
        """

        async def exchange(deadline: asyncio.Timeout) -> Response:
            response = await self._start(method, url, headers, content, fresh, deadline)
            try:
                return Response(response.status_code, response.headers, await response.aread())
            finally:
                await response.aclose()

        return await self._within(url, exchange)

    @asynccontextmanager
    async def stream(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes | None = None
    ) -> AsyncIterator[Stream]:
        """Send a request, and read the response inside the block. Its end closes the response.

        Raises:
            ConnectionFailed: the connection failed, or no response or no further chunk arrived in time.
        """

        async def start(deadline: asyncio.Timeout) -> httpx.Response:
            return await self._start(method, url, headers, content, False, deadline)

        response = await self._within(url, start)
        try:
            yield Stream(response.status_code, response.headers, self._chunks(response, url))
        finally:
            await response.aclose()

    @staticmethod
    def response(stream: Stream, body: bytes) -> Response:
        """The complete response of a stream whose body was read."""
        return Response(stream.status, stream.headers, body)

    async def _chunks(self, response: httpx.Response, url: str) -> AsyncIterator[bytes]:
        body = response.aiter_bytes()

        async def next_chunk(_: asyncio.Timeout) -> bytes | None:
            return await anext(body, None)

        while (chunk := await self._within(url, next_chunk)) is not None:
            yield chunk

    async def _start(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        content: bytes | Body | None,
        fresh: bool,
        deadline: asyncio.Timeout,
    ) -> httpx.Response:
        """Send the request and read the status and headers of the response."""
        head = {"user-agent": f"tl_data/{__version__}", "accept-encoding": "gzip, deflate", **headers}
        timeouts = {"timeout": {"connect": CONNECT_TIMEOUT, "read": None, "write": None, "pool": None}}
        transport = self._transport(url, fresh)
        if content is not None and not isinstance(content, bytes):
            head["content-type"] = content.content_type
            content = content.content or content
        if content is None or isinstance(content, bytes):
            request = httpx.Request(method, _parsed(url), headers=head, content=content, extensions=timeouts)
            return await transport.handle_async_request(request)

        # The libraries report an exception of the body, such as an unreadable file, as a lost connection.
        # So the exception of the body is kept, and raised instead.
        body_errors: list[Exception] = []
        body = content

        async def chunks() -> AsyncIterator[bytes]:
            try:
                async for chunk in body:
                    deadline.reschedule(asyncio.get_running_loop().time() + self._timeout)
                    yield chunk
            except Exception as error:
                body_errors.append(error)
                raise

        head["content-length"] = str(body.length)
        request = httpx.Request(method, _parsed(url), headers=head, content=chunks(), extensions=timeouts)
        try:
            return await transport.handle_async_request(request)
        except _FAILURES:
            if body_errors:
                raise body_errors[0] from None
            raise

    async def _within(self, url: str, step: Callable[[asyncio.Timeout], Awaitable[T]]) -> T:
        """Run one step of an exchange within the timeout, and convert exceptions of the libraries."""
        try:
            async with asyncio.timeout(self._timeout) as deadline:
                return await step(deadline)
        except TimeoutError:
            failure = ConnectionFailed(f"no complete response from {_host(url)} within {self._timeout:g} s")
            failure.maybe_done = True
        except (*_FAILURES, UnicodeError) as error:  # UnicodeError: the host is no valid domain name
            failure = self._connection_error(error, url)
        raise failure  # outside of the except block, so that the library's exception is not its context

    def _transport(self, url: str, fresh: bool) -> AiohttpTransport:
        # Requests to the embedded engine never go through the proxies of the environment.
        key = (fresh, is_loopback(url))
        if key not in self._transports:
            self._transports[key] = AiohttpTransport(
                verify=self._context, client=lambda: _session(self._context, *key)
            )
        return self._transports[key]

    def _connection_error(self, error: Exception, url: str) -> ConnectionFailed:
        """Convert an exception of the libraries. `maybe_done` is set if the request may have arrived."""
        cause = error.__cause__ or error
        host = _host(url)
        maybe_done, retryable = False, True
        if isinstance(cause, aiohttp.ClientConnectorDNSError):
            text = f"could not resolve host {urlsplit(url).hostname}"
        elif isinstance(cause, aiohttp.ClientConnectorCertificateError):
            text = f"TLS certificate of {host} could not be verified"
        elif isinstance(cause, aiohttp.ConnectionTimeoutError):
            text = f"connecting to {host} timed out after {CONNECT_TIMEOUT:g} s"
        elif isinstance(cause, aiohttp.ClientConnectorError):
            reason = cause.os_error.strerror or "connection refused"
            text = f"could not connect to {host}: {reason}"
        elif isinstance(
            cause, httpx.InvalidURL | httpx.UnsupportedProtocol | aiohttp.InvalidURL | UnicodeError
        ):
            text, retryable = f"invalid URL: {redacted(url)!r}", False
        else:
            maybe_done = True
            text = f"connection to {host} closed before the response was complete ({type(cause).__name__})"
        failure = ConnectionFailed(redacted(text, self._secret))
        failure.maybe_done, failure.retryable = maybe_done, retryable
        return failure

    async def aclose(self) -> None:
        """Close all connections."""
        transports, self._transports = self._transports, {}
        for transport in transports.values():
            await transport.aclose()
        if transports:
            await asyncio.sleep(0)  # the event loop closes the sockets in its next iteration


#: Parsing takes as long as all other steps of building a request. Most requests go to few URLs.
_parsed = lru_cache(maxsize=256)(httpx.URL)


def _session(context: ssl.SSLContext, fresh: bool, loopback: bool) -> aiohttp.ClientSession:
    # A request that creates a resource uses a new connection (`fresh`). A server may close an idle connection
    # just when a request is sent. Then it is unknown whether the request or its response was lost.
    connector = (
        aiohttp.TCPConnector(limit=MAX_CONNECTIONS, ssl=context, force_close=True)
        if fresh
        else aiohttp.TCPConnector(limit=MAX_CONNECTIONS, ssl=context, keepalive_timeout=KEEP_ALIVE)
    )
    session = aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=not loopback,
        read_bufsize=READ_BUFFER,
    )
    # aiohttp would retry GET, PUT and DELETE once, without usage accounting and rate limiting. Only retry.py
    # retries requests. The test client of aiohttp disables these retries in the same way.
    session._retry_connection = False
    return session


def _host(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
