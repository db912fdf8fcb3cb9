"""Video files on other servers: response headers and byte ranges. The API key is not sent to them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urljoin

from tl_data.client.base import BaseClient
from tl_data.client.retry import Repeat, persist
from tl_data.client.transport import Stream
from tl_data.errors import BadRequest, ConnectionFailed, MediaRefused, ServerFailed
from tl_data.ratelimit.headers import wait_hint
from tl_data.urls import encoded, redacted

REDIRECTS = 10
PROBE_RETRIES = 2  # few: a video that cannot be reached fails its row, not the job
_CONTENT_RANGE = re.compile(r"bytes \d+-\d+/(\d+)")
_NOT_HEAD = (400, 401, 403, 404, 405, 409, 501)  # statuses of HEAD that may differ for GET


@dataclass(frozen=True)
class Remote:
    """A file on a server, as the response headers describe it."""

    url: str  # as requested, percent-encoded
    final_url: str  # after redirects
    status: int
    content_type: str | None
    length: int | None  # bytes
    etag: str | None
    last_modified: str | None
    accept_ranges: bool


class RemoteMethods(BaseClient):
    async def probe_url(self, url: str) -> Remote:
        """Request the headers of a file: by HEAD, or by a GET of the first byte where HEAD is not supported.

        Raises:
            MediaRefused: the file does not exist, access is denied, or it is an HTML page.
            ConnectionFailed, ServerFailed: the server failed or could not be reached.
        """
        target = media_url(url) or ""

        async def attempt() -> Remote:
            try:
                head: Remote | None = await self._headers_of("HEAD", target, {})
            except ServerFailed as error:
                if error.http_status == 429:
                    raise
                head = None
            except ConnectionFailed as error:
                if not error.maybe_done:  # no connection was established
                    raise
                head = None  # some servers close the connection on HEAD and support GET
            if head is None or _needs_get(head):
                head = await self._headers_of("GET", target, {"range": "bytes=0-0"})
            _check(head)
            return head

        return await persist(
            attempt, Repeat.FREELY, self.settings.but(retries=min(PROBE_RETRIES, self.settings.retries))
        )

    async def _headers_of(self, method: str, url: str, headers: Mapping[str, str]) -> Remote:
        async with self._opened(method, url, headers) as (stream, final):
            fields = stream.headers
            ranged = _CONTENT_RANGE.match(fields.get("content-range", ""))
            length = ranged[1] if ranged else fields.get("content-length", "")
            head_unsupported = method == "HEAD" and stream.status in _NOT_HEAD
            if stream.status == 429 or (stream.status >= 500 and not head_unsupported):
                raise _overloaded(redacted(url), stream)
            return Remote(
                url=url,
                final_url=final,
                status=stream.status,
                content_type=fields.get("content-type"),
                length=int(length) if length.isdigit() and not fields.get("content-encoding") else None,
                etag=fields.get("etag"),
                last_modified=fields.get("last-modified"),
                accept_ranges=bool(ranged) or fields.get("accept-ranges", "").lower() == "bytes",
            )

    async def read_range(self, url: str, start: int, end: int) -> bytes:
        """Read the bytes from `start` to `end`, exclusive; fewer at the end of the file.

        Raises:
            BadRequest: with code `ranges_not_supported`, the server ignores range requests.
            ConnectionFailed, ServerFailed, MediaRefused: as for `probe_url`.
        """
        target = media_url(url) or ""

        async def attempt() -> bytes:
            async with self._opened("GET", target, {"range": f"bytes={start}-{end - 1}"}) as (stream, final):
                if stream.status == 416:
                    return b""
                if stream.status == 200 and start > 0:
                    raise BadRequest(
                        f"server does not support range requests: {redacted(target)}", "ranges_not_supported"
                    )
                if stream.status >= 500 or stream.status == 429:
                    raise _overloaded(redacted(target), stream)
                _check(
                    Remote(
                        target,
                        final,
                        stream.status,
                        stream.headers.get("content-type"),
                        None,
                        None,
                        None,
                        True,
                    )
                )
                body = bytearray()
                async for chunk in stream.chunks:
                    body += chunk
                    if len(body) >= end - start:
                        break
                return bytes(body[: end - start])

        return await persist(attempt, Repeat.FREELY, self.settings)

    @asynccontextmanager
    async def _opened(
        self, method: str, url: str, headers: Mapping[str, str]
    ) -> AsyncIterator[tuple[Stream, str]]:
        """The response after redirects, and its URL."""
        # Byte ranges and lengths must be those of the file, not of a compressed copy.
        headers = {"accept": "*/*", "accept-encoding": "identity", **headers}
        for _ in range(REDIRECTS):
            async with self.transport.stream(method, url, headers) as stream:
                location = stream.headers.get("location")
                if stream.status not in (301, 302, 303, 307, 308) or not location:
                    yield stream, url
                    return
                url = media_url(urljoin(url, location)) or ""
        raise MediaRefused(f"too many redirects: {redacted(url)}", "video_url_not_reachable")


def media_url(url: str | None) -> str | None:
    """The URL as it is sent to the API, with spaces and non-ASCII characters percent-encoded.

    Raises:
        MediaRefused: it is not an http or https URL.
    """
    if url is None:
        return None
    try:
        return encoded(url)
    except ValueError as error:
        raise MediaRefused(str(error), "video_url_invalid") from None


def _needs_get(head: Remote) -> bool:
    """Whether GET may return something else than HEAD."""
    page = (head.content_type or "").startswith("text/html")
    return head.status in _NOT_HEAD or page or (head.status < 300 and not head.length)


def _overloaded(shown: str, stream: Stream) -> ServerFailed:
    return ServerFailed(
        f"server error (HTTP {stream.status}) for {shown}",
        "video_url_not_reachable",
        stream.status,
        None,
        wait_hint(stream.headers),
    )


def _check(remote: Remote) -> None:
    shown = redacted(remote.url)
    if remote.status in (404, 410):
        raise MediaRefused(f"video not found at {shown} (HTTP {remote.status})", "video_url_not_found")
    if remote.status in (401, 403):
        raise MediaRefused(
            f"access denied to {shown} (HTTP {remote.status}): it is private, or its signature has expired",
            "video_url_not_allowed",
        )
    if remote.status == 416:  # not even the first byte
        raise MediaRefused(f"the file at {shown} is empty", "video_file_broken")
    if not 200 <= remote.status < 300:
        raise MediaRefused(f"cannot read {shown} (HTTP {remote.status})", "video_url_not_reachable")
    if (remote.content_type or "").startswith("text/html"):
        raise MediaRefused(
            f"{shown} is an HTML page, not a video: use the direct link to the file",
            "video_url_not_media",
        )
