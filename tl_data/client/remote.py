"""Video files on other servers: their response headers, byte ranges and downloads.

The API key is not sent to these servers. The address of an object in a bucket (`s3://bucket/key`) is signed
for each request. The setting `http_headers` names the hosts that require headers; no other host gets them.
"""

from __future__ import annotations

import asyncio
import base64
import re
import tomllib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import urljoin, urlsplit

from tl_data.client.base import BaseClient
from tl_data.client.retry import Repeat, with_retries
from tl_data.errors import BadRequest, ConnectionFailed, MediaRefused, ServerFailed, SettingsError
from tl_data.ratelimit.headers import wait_hint
from tl_data.untrusted import parse_toml
from tl_data.urls import encoded, is_bucket, origin, redacted

if TYPE_CHECKING:
    from tl_data.client.transport import Stream

REDIRECTS = 10  # maximum number of redirects of a request
PROBE_RETRIES = 2  # maximum number of retries of a probe; few, because a failure affects only one row
_RANGE = re.compile(r"bytes=(?:(\d+)-(\d*)|-(\d+))", re.ASCII)
_CONTENT_RANGE = re.compile(r"bytes \d+-\d+/(\d+)")
_MD5_ETAG = re.compile(r'"([0-9a-fA-F]{32})"')
_HEAD_UNSUPPORTED = (400, 401, 403, 404, 405, 409, 501)  # statuses of HEAD for which GET may succeed


@dataclass(frozen=True)
class Remote:
    """The properties of a file on a server, from the response headers."""

    url: str  # the requested URL, percent-encoded
    final_url: str  # the URL after redirects
    status: int
    content_type: str | None
    length: int | None  # bytes
    etag: str | None
    last_modified: str | None
    accept_ranges: bool
    md5: str | None = None  # of the whole content, in hex; only from stores whose headers are known


@dataclass(frozen=True)
class Part:
    """A file on a server, or a range of its bytes."""

    final_url: str  # the URL after redirects
    status: int  # 200: the whole file; 206: a range; 416: the range begins after the end of the file
    body: bytes
    content_range: str | None = None  # such as `bytes 0-99/1000`; None for the whole file


@dataclass(frozen=True)
class HostHeaders:
    """HTTP headers for hosts of videos, by pattern of the host name. The repr does not contain them."""

    patterns: tuple[tuple[str, dict[str, str]], ...] = ()

    def __repr__(self) -> str:
        return f"HostHeaders({', '.join(pattern for pattern, _ in self.patterns)})"

    @classmethod
    def load(cls, path: str | None) -> Self:
        """Read the file of the setting `http_headers`: a table for each host, such as

            ["media.example.com"]
            Authorization = "Bearer ..."

        Raises:
            SettingsError: the file cannot be read, or has another structure.
        """
        if path is None:
            return cls()
        try:
            tables = parse_toml(Path(path).expanduser().read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise SettingsError(f"http_headers names {path}, which cannot be read: {reason}") from error
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(f"http_headers names {path}, which is not TOML: {error}") from None
        for host, headers in tables.items():
            if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
                raise SettingsError(
                    f"{path}: {host!r} must be a table of HTTP headers with text values. Quote the host: "
                    '["media.example.com"]'
                )
        return cls(tuple((host.lower(), dict(headers)) for host, headers in tables.items()))

    def of(self, url: str) -> dict[str, str]:
        """The headers for a URL: those of the first pattern that matches the host, with or without port."""
        parts = urlsplit(url)
        names = {parts.netloc.rpartition("@")[2].lower(), (parts.hostname or "").lower()}
        for pattern, headers in self.patterns:
            if any(fnmatchcase(name, pattern) for name in names):
                return headers
        return {}


class RemoteMethods(BaseClient):
    """Requests to the servers of videos."""

    @cached_property
    def host_headers(self) -> HostHeaders:
        """The headers in the file of the setting `http_headers`."""
        return HostHeaders.load(self.settings.http_headers)

    async def can_be_fetched(self, url: str) -> bool:
        """Whether the API can fetch a URL: the setting `http_headers` has no headers for its host.

        For an object in a bucket: whether its signed URL stays valid as long as `signed_url_hours`.

        Raises:
            MediaRefused: the text is no URL, or the address of an object in a bucket that cannot be signed.
        """
        return (
            await self.buckets.lasts(url)
            if is_bucket(url)
            else not self.host_headers.of(media_url(url) or "")
        )

    async def download(self, url: str, path: Path) -> None:
        """Download a file to a path on this machine.

        Raises:
            ConnectionFailed, ServerFailed, MediaRefused: as for `probe_url`.
            OSError: the copy cannot be written.
        """
        target = media_url(url) or ""

        async def attempt() -> None:
            async with self._content(target) as (stream, _):
                with path.open("wb") as file:
                    async for chunk in stream.chunks:
                        await asyncio.to_thread(file.write, chunk)

        await with_retries(attempt, Repeat.FREELY, self.settings)

    async def probe_url(self, url: str) -> Remote:
        """Request the headers of a file with HEAD, or with a GET of the first byte if HEAD is not supported.

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
                head = None  # some servers close the connection of a HEAD request but support GET
            if head is None or _needs_get(head):
                head = await self._headers_of("GET", target, {"range": "bytes=0-0"})
            _check(head)
            return head

        return await with_retries(
            attempt, Repeat.FREELY, self.settings.but(retries=min(PROBE_RETRIES, self.settings.retries))
        )

    async def _headers_of(self, method: str, url: str, headers: Mapping[str, str]) -> Remote:
        async with self._open(method, url, headers) as (stream, final):
            fields = stream.headers
            ranged = _CONTENT_RANGE.match(fields.get("content-range", ""))
            length = ranged[1] if ranged else fields.get("content-length", "")
            head_unsupported = method == "HEAD" and stream.status in _HEAD_UNSUPPORTED
            if stream.status == 429 or (stream.status >= 500 and not head_unsupported):
                raise _server_error(redacted(url), stream)
            return Remote(
                url=url,
                final_url=final,
                status=stream.status,
                content_type=fields.get("content-type"),
                length=int(length) if length.isdigit() and not fields.get("content-encoding") else None,
                etag=fields.get("etag"),
                last_modified=fields.get("last-modified"),
                accept_ranges=bool(ranged) or fields.get("accept-ranges", "").lower() == "bytes",
                md5=None if fields.get("content-encoding") else content_md5(fields, s3=url.startswith("s3")),
            )

    async def read_range(self, url: str, start: int, end: int) -> bytes:
        """Read the bytes from `start` to `end`, exclusive; fewer at the end of the file.

        Raises:
            BadRequest: with code `ranges_not_supported`, the server ignores range requests.
            ConnectionFailed, ServerFailed, MediaRefused: as for `probe_url`.
        """
        target = media_url(url) or ""

        async def attempt() -> bytes:
            async with self._content(target, {"range": f"bytes={start}-{end - 1}"}) as (stream, _):
                if stream.status == 416:
                    return b""
                if stream.status == 200 and start > 0:
                    raise BadRequest(
                        f"server does not support range requests: {redacted(target)}", "ranges_not_supported"
                    )
                body = bytearray()
                async for chunk in stream.chunks:
                    body += chunk
                    if len(body) >= end - start:
                        break
                return bytes(body[: end - start])

        return await with_retries(attempt, Repeat.FREELY, self.settings)

    async def read_part(self, url: str, limit: int, byte_range: str | None = None) -> Part:
        """Read a file, or a range of it, from one host: for URLs that another server names.

        Args:
            limit: maximum number of bytes.
            byte_range: one range as in the header `Range`: `bytes=0-99`, `bytes=100-` or `bytes=-100`. It is
                cut out of the file if the server ignores ranges.

        Raises:
            MediaRefused: the URL is not http(s), a redirect leads to another scheme, host or port, or there
                are more than `limit` bytes; otherwise as for `probe_url`.
            ConnectionFailed, ServerFailed: as for `probe_url`.
        """
        target = media_url(url) or ""
        if is_bucket(target):
            raise MediaRefused(f"{redacted(target)} is not an http(s) URL", "video_url_invalid")

        async def attempt() -> Part:
            headers = {"range": byte_range} if byte_range else None
            async with self._content(target, headers, one_origin=True) as (stream, final):
                content_range = stream.headers.get("content-range")
                if byte_range and stream.status == 416:
                    return Part(final, 416, b"", content_range)
                body = bytearray()
                async for chunk in stream.chunks:
                    body += chunk
                    if len(body) > limit:
                        raise MediaRefused(
                            f"{redacted(target)} has more than {limit >> 20} MB", "video_filesize_too_large"
                        )
                if byte_range and stream.status != 206:
                    return _cut(final, bytes(body), byte_range)
                return Part(final, 206 if byte_range else 200, bytes(body), content_range)

        return await with_retries(attempt, Repeat.FREELY, self.settings)

    @asynccontextmanager
    async def _content(
        self, url: str, headers: Mapping[str, str] | None = None, *, one_origin: bool = False
    ) -> AsyncIterator[tuple[Stream, str]]:
        """The response to GET and its URL.

        Raises as `probe_url`; a range after the end of the file is no error (416).
        """
        async with self._open("GET", url, headers or {}, one_origin=one_origin) as (stream, final):
            if stream.status >= 500 or stream.status == 429:
                raise _server_error(redacted(url), stream)
            if not (headers and stream.status == 416):
                content_type = stream.headers.get("content-type")
                _check(Remote(url, final, stream.status, content_type, None, None, None, True))
            yield stream, final

    @asynccontextmanager
    async def _open(
        self, method: str, url: str, headers: Mapping[str, str], *, one_origin: bool = False
    ) -> AsyncIterator[tuple[Stream, str]]:
        """Send a request, and follow redirects; yields the response and its URL.

        Args:
            one_origin: refuse a redirect to another scheme, host or port.
        """
        # Without compression by the server, ranges and lengths are those of the file.
        headers = {"accept": "*/*", "accept-encoding": "identity", **headers}
        for _ in range(REDIRECTS):
            target = await self.buckets.sign(method, url) if is_bucket(url) else url
            host_headers = self.host_headers.of(target)
            async with self.transport.stream(method, target, {**host_headers, **headers}) as stream:
                location = stream.headers.get("location")
                if stream.status not in (301, 302, 303, 307, 308) or not location:
                    yield stream, url
                    return
                try:
                    following = encoded(urljoin(target, location))
                    leaves = one_origin and origin(following) != origin(url)
                except ValueError as error:
                    raise MediaRefused(str(error), "video_url_invalid") from None
                if leaves:
                    raise MediaRefused(
                        f"{redacted(url)} redirects to another host: {redacted(following)}",
                        "video_url_not_allowed",
                    )
                url = following
        raise MediaRefused(f"too many redirects: {redacted(url)}", "video_url_not_reachable")


def media_url(url: str | None) -> str | None:
    """Percent-encode the spaces and non-ASCII characters of a URL for the API.

    The address of an object in a bucket is unchanged: `BaseClient` signs it when the request is sent.

    Raises:
        MediaRefused: the text is neither an http or https URL nor the address of an object in a bucket.
    """
    if url is None:
        return None
    try:
        return encoded(url)
    except ValueError as error:
        raise MediaRefused(str(error), "video_url_invalid") from None


def content_md5(headers: Mapping[str, str], *, s3: bool = False) -> str | None:
    """The MD5 of the whole content in hex; None if the headers do not contain it, or the store is unknown.

    S3 and compatible stores: an ETag without a dash, unless the object is encrypted with a key of KMS or of
    the customer. Google: `x-goog-hash`. Azure: `content-md5` of a block blob. OSS: `content-md5`.

    Args:
        s3: whether the request was for an `s3://` address, so that the store is compatible with S3.
    """
    for each in headers.get("x-goog-hash", "").split(","):
        name, _, value = each.strip().partition("=")
        if name == "md5":
            return _hex(value)
    if headers.get("x-ms-blob-type") == "BlockBlob" or headers.get("x-oss-object-type") == "Normal":
        return _hex(headers.get("content-md5", ""))
    is_s3 = s3 or "x-amz-request-id" in headers
    encrypted = headers.get("x-amz-server-side-encryption", "").startswith("aws:kms")
    if not is_s3 or encrypted or "x-amz-server-side-encryption-customer-algorithm" in headers:
        return None
    match = _MD5_ETAG.fullmatch(headers.get("etag", ""))
    return match[1].lower() if match else None


def range_of(header: str, size: int) -> tuple[int, int] | None:
    """The first byte and the end (exclusive) of the range in the header `Range`, for a file of `size` bytes.

    The end is not after the start if the file has no byte of the range. None if the header does not have
    exactly one range of the form `bytes=0-99`, `bytes=100-` or `bytes=-100`.
    """
    if not (requested := _RANGE.fullmatch(header)):
        return None
    first, last, suffix = requested.groups()
    if suffix:
        return max(0, size - int(suffix)), size
    return int(first), min(size, int(last) + 1) if last else size


def _cut(final_url: str, body: bytes, byte_range: str) -> Part:
    """A range of a whole file."""
    start, end = range_of(byte_range, len(body)) or (0, len(body))
    if start >= end:
        return Part(final_url, 416, b"", f"bytes */{len(body)}")
    return Part(final_url, 206, body[start:end], f"bytes {start}-{end - 1}/{len(body)}")


def _hex(value: str) -> str | None:
    """Convert an MD5 from base64 to hex; None if the text is not an MD5 in base64."""
    try:
        digest = base64.b64decode(value, validate=True)
    except ValueError:
        return None
    return digest.hex() if len(digest) == 16 else None


def _needs_get(head: Remote) -> bool:
    """Whether the response to HEAD may differ from that to GET."""
    is_page = (head.content_type or "").startswith("text/html")
    return head.status in _HEAD_UNSUPPORTED or is_page or (head.status < 300 and not head.length)


def _server_error(shown_url: str, stream: Stream) -> ServerFailed:
    """The exception for a response with status 429 or 5xx."""
    return ServerFailed(
        f"server error (HTTP {stream.status}) for {shown_url}",
        "video_url_not_reachable",
        stream.status,
        None,
        wait_hint(stream.headers),
    )


def _check(remote: Remote) -> None:
    """Raise MediaRefused if the response is an error or an HTML page."""
    shown_url = redacted(remote.url)
    if remote.status in (404, 410):
        raise MediaRefused(f"video not found at {shown_url} (HTTP {remote.status})", "video_url_not_found")
    if remote.status in (401, 403):
        raise MediaRefused(
            f"access denied to {shown_url} (HTTP {remote.status}): "
            "the file is private, or the signature of the URL has expired",
            "video_url_not_allowed",
        )
    if remote.status == 416:  # the file has no first byte
        raise MediaRefused(f"the file at {shown_url} is empty", "video_file_broken")
    if not 200 <= remote.status < 300:
        raise MediaRefused(f"cannot read {shown_url} (HTTP {remote.status})", "video_url_not_reachable")
    if (remote.content_type or "").startswith("text/html"):
        raise MediaRefused(
            f"{shown_url} is an HTML page, not a video: use the direct link to the file",
            "video_url_not_media",
        )
