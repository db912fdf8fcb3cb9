"""The HTTP transport: the only module of the client that imports aiohttp.

Every failure to receive a complete response becomes a `ConnectionFailed`; its `maybe_done` tells whether the
server may have processed the request. No exception of the library leaves this module, not even as the context
of another one, because it may contain the request headers with the API key.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

import aiohttp
import certifi

from tl_data._version import __version__
from tl_data.errors import ConnectionFailed
from tl_data.urls import is_loopback, redacted

CONNECT_TIMEOUT = 15.0  # seconds
MAX_CONNECTIONS = 1024  # of each pool; the setting `concurrency` keeps the number in use lower
KEEP_ALIVE = 4.0  # seconds until an idle connection is closed; common servers close it after 5 s
READ_BUFFER = 256 * 1024  # bytes
CHUNK = 16 * 1024  # maximum bytes of a chunk of a streamed response

_TIMEOUTS = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT)
_FAILURES = (aiohttp.ClientError, aiohttp.http_exceptions.HttpProcessingError, OSError)

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
    """A complete response. The names in `headers` are in lower case."""

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
        self._context = _ssl_context()
        self._sessions: dict[tuple[bool, bool], aiohttp.ClientSession] = {}

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
            async with await self._start(method, url, headers, content, fresh, deadline) as response:
                return Response(response.status, _headers(response), await response.read())

        return await self._within(url, exchange)

    @asynccontextmanager
    async def stream(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes | None = None
    ) -> AsyncIterator[Stream]:
        """Send a request, and read the response inside the block. Its end closes the response.

        Raises:
            ConnectionFailed: the connection failed, or no response or no further chunk arrived in time.
        """

        async def start(deadline: asyncio.Timeout) -> aiohttp.ClientResponse:
            return await self._start(method, url, headers, content, False, deadline)

        async with await self._within(url, start) as response:
            yield Stream(response.status, _headers(response), self._chunks(response, url))

    @staticmethod
    def response(stream: Stream, body: bytes) -> Response:
        """The complete response of a stream whose body was read."""
        return Response(stream.status, stream.headers, body)

    async def _chunks(self, response: aiohttp.ClientResponse, url: str) -> AsyncIterator[bytes]:
        body = response.content.iter_chunked(CHUNK)

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
    ) -> aiohttp.ClientResponse:
        """Send the request and read the status and headers of the response."""
        head = {"user-agent": f"tl_data/{__version__}", "accept-encoding": "gzip, deflate", **headers}
        if content is not None and not isinstance(content, bytes):
            head["content-type"] = content.content_type
            content = content.content or content
        session = self._session(url, fresh)
        if content is None or isinstance(content, bytes):
            return await session.request(method, url, headers=head, data=content, allow_redirects=False)

        # The library reports an exception of the body, such as an unreadable file, as a lost connection.
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
        try:
            return await session.request(method, url, headers=head, data=chunks(), allow_redirects=False)
        except _FAILURES:
            if body_errors:
                raise body_errors[0] from None
            raise

    async def _within(self, url: str, step: Callable[[asyncio.Timeout], Awaitable[T]]) -> T:
        """Run one step of an exchange within the timeout, and convert exceptions of the library."""
        try:
            async with asyncio.timeout(self._timeout) as deadline:
                return await step(deadline)
        except (*_FAILURES, UnicodeError) as error:  # UnicodeError: the host is no valid domain name
            failure = self._connection_error(error, url)
        raise failure  # outside of the except block, so that the library's exception is not its context

    def _session(self, url: str, fresh: bool) -> aiohttp.ClientSession:
        # Requests to the embedded engine never go through the proxies of the environment.
        key = (fresh, is_loopback(url))
        if key not in self._sessions:
            self._sessions[key] = _session(self._context, *key)
        return self._sessions[key]

    def _connection_error(self, error: Exception, url: str) -> ConnectionFailed:
        """Convert an exception of the library. `maybe_done` is set if the request may have arrived."""
        host = _host(url)
        maybe_done, retryable = False, True
        if isinstance(error, aiohttp.ClientConnectorDNSError):
            text = f"could not resolve host {urlsplit(url).hostname}"
        elif isinstance(error, aiohttp.ClientConnectorCertificateError):
            text = f"TLS certificate of {host} could not be verified"
        elif isinstance(error, aiohttp.ConnectionTimeoutError):
            text = f"connecting to {host} timed out after {CONNECT_TIMEOUT:g} s"
        elif isinstance(error, aiohttp.ClientConnectorError):
            reason = error.os_error.strerror or "connection refused"
            text = f"could not connect to {host}: {reason}"
        elif isinstance(error, TimeoutError):
            text, maybe_done = f"no complete response from {host} within {self._timeout:g} s", True
        elif isinstance(error, aiohttp.InvalidURL | UnicodeError):
            text, retryable = f"invalid URL: {redacted(url)!r}", False
        else:
            maybe_done = True
            text = f"connection to {host} closed before the response was complete ({type(error).__name__})"
        failure = ConnectionFailed(redacted(text, self._secret))
        failure.maybe_done, failure.retryable = maybe_done, retryable
        return failure

    async def aclose(self) -> None:
        """Close all connections."""
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()
        if sessions:
            await asyncio.sleep(0)  # the event loop closes the sockets in its next iteration


def _ssl_context() -> ssl.SSLContext:
    """Certificates of the files that the environment names, or else those of certifi."""
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if file or folder:
        return ssl.create_default_context(cafile=file, capath=folder)
    return ssl.create_default_context(cafile=certifi.where())


def _headers(response: aiohttp.ClientResponse) -> dict[str, str]:
    """The headers of a response, with names in lower case. The values of equal names are joined by commas."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in response.raw_headers:
        name, value = raw_name.decode("latin-1").lower(), _text(raw_value)
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


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
        timeout=_TIMEOUTS,
    )
    # aiohttp would retry GET, PUT and DELETE once, without usage accounting and rate limiting. Only retry.py
    # retries requests. The test client of aiohttp disables these retries in the same way.
    session._retry_connection = False
    return session


def _host(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
