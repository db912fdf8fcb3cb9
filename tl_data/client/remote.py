"""Videos where they lie: what their servers say of them, and ranges of their bytes. No key goes there."""

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
TRIES = 2  # repetitions; a video that cannot be asked about is a row, not a reason to stop the job
_CONTENT_RANGE = re.compile(r"bytes \d+-\d+/(\d+)")
_NOT_HEAD = (400, 401, 403, 404, 405, 409, 501)  # answers to HEAD that may be different for GET


@dataclass(frozen=True)
class Remote:
    """What a server says of a file, without sending it."""

    url: str  # as asked for, percent-encoded
    final_url: str  # after redirects
    status: int
    content_type: str | None
    length: int | None  # bytes
    etag: str | None
    last_modified: str | None
    accept_ranges: bool


class RemoteMethods(BaseClient):
    async def probe_url(self, url: str) -> Remote:
        """Ask a server about a file by HEAD, or by the first byte where HEAD is not served.

        Raises:
            MediaRefused: it is not there, may not be read, or is a web page.
            ConnectionFailed, ServerFailed: its server could not be asked; later it may.
        """
        asked = media_url(url) or ""

        async def attempt() -> Remote:
            try:
                head: Remote | None = await self._heads("HEAD", asked, {})
            except ServerFailed as error:
                if error.http_status == 429:
                    raise
                head = None
            except ConnectionFailed as error:
                if not error.maybe_done:  # not even a connection came about
                    raise
                head = None  # some servers hang up on HEAD, and serve GET
            if head is None or _needs_get(head):
                head = await self._heads("GET", asked, {"range": "bytes=0-0"})
            _check(head)
            return head

        return await persist(
            attempt, Repeat.FREELY, self.settings.but(retries=min(TRIES, self.settings.retries))
        )

    async def _heads(self, method: str, url: str, headers: Mapping[str, str]) -> Remote:
        async with self._opened(method, url, headers) as (stream, final):
            said = stream.headers
            ranged = _CONTENT_RANGE.match(said.get("content-range", ""))
            length = ranged[1] if ranged else said.get("content-length", "")
            unserved = method == "HEAD" and stream.status in _NOT_HEAD
            if stream.status == 429 or (stream.status >= 500 and not unserved):
                raise _overloaded(redacted(url), stream)
            return Remote(
                url=url,
                final_url=final,
                status=stream.status,
                content_type=said.get("content-type"),
                length=int(length) if length.isdigit() and not said.get("content-encoding") else None,
                etag=said.get("etag"),
                last_modified=said.get("last-modified"),
                accept_ranges=bool(ranged) or said.get("accept-ranges", "").lower() == "bytes",
            )

    async def read_range(self, url: str, start: int, end: int) -> bytes:
        """The bytes from `start` up to, not including, `end` of a file; fewer where the file ends.

        Raises:
            BadRequest: with `ranges_not_supported`, its server only sends whole files.
            ConnectionFailed, ServerFailed, MediaRefused: as for `probe_url`.
        """
        asked = media_url(url) or ""

        async def attempt() -> bytes:
            async with self._opened("GET", asked, {"range": f"bytes={start}-{end - 1}"}) as (stream, final):
                if stream.status == 416:
                    return b""
                if stream.status == 200 and start > 0:
                    raise BadRequest(
                        f"the server of {redacted(asked)} only sends whole files", "ranges_not_supported"
                    )
                if stream.status >= 500 or stream.status == 429:
                    raise _overloaded(redacted(asked), stream)
                _check(
                    Remote(
                        asked,
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
        """The answer after redirects, and the address it came from."""
        # Bytes of a file are wanted as they lie, not compressed.
        headers = {"accept": "*/*", "accept-encoding": "identity", **headers}
        for _ in range(REDIRECTS):
            async with self.transport.stream(method, url, headers) as stream:
                location = stream.headers.get("location")
                if stream.status not in (301, 302, 303, 307, 308) or not location:
                    yield stream, url
                    return
                url = media_url(urljoin(url, location)) or ""
        raise MediaRefused(f"{redacted(url)} redirects in a circle", "video_url_not_reachable")


def media_url(url: str | None) -> str | None:
    """The address as it is sent to the API: spaces and letters outside ASCII percent-encoded.

    Raises:
        MediaRefused: it is no http(s) URL.
    """
    if url is None:
        return None
    try:
        return encoded(url)
    except ValueError as error:
        raise MediaRefused(str(error), "video_url_invalid") from None


def _needs_get(head: Remote) -> bool:
    """Whether the answer to HEAD may be different for GET."""
    page = (head.content_type or "").startswith("text/html")
    return head.status in _NOT_HEAD or page or (head.status < 300 and not head.length)


def _overloaded(shown: str, stream: Stream) -> ServerFailed:
    return ServerFailed(
        f"the server of {shown} answers HTTP {stream.status}",
        "video_url_not_reachable",
        stream.status,
        None,
        wait_hint(stream.headers),
    )


def _check(remote: Remote) -> None:
    shown = redacted(remote.url)
    if remote.status in (404, 410):
        raise MediaRefused(f"there is nothing at {shown} (HTTP {remote.status})", "video_url_not_found")
    if remote.status in (401, 403):
        raise MediaRefused(
            f"{shown} may not be read (HTTP {remote.status}): it is private, or its signature has expired",
            "video_url_not_allowed",
        )
    if remote.status == 416:  # not even the first byte
        raise MediaRefused(f"the file at {shown} is empty", "video_file_broken")
    if not 200 <= remote.status < 300:
        raise MediaRefused(f"{shown} cannot be read (HTTP {remote.status})", "video_url_not_reachable")
    if (remote.content_type or "").startswith("text/html"):
        raise MediaRefused(
            f"{shown} is a web page, not a video: the API needs the direct link to the file",
            "video_url_not_media",
        )
