"""Downloads the URLs of requests. Size and time are bounded, and private addresses are refused (SSRF).

The IP addresses of a host are checked after resolution, and the connection uses exactly these addresses. So a
name that later resolves to another address (DNS rebinding) cannot reach it. Every redirect is checked again.
The address of each socket is also checked, however the URL spells it.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import os
import shutil
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import aiohttp
import yarl
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from tl_data.local.config import Config
from tl_data.local.errors import MediaError, StorageFull, format_bytes, is_full, safe_file_name

MAX_REDIRECTS = 5
MAX_URL = 8192
#: Minimum bytes per second, and the number of seconds over which the rate is measured.
MIN_RATE, RATE_SEC = 4 << 10, 30.0
#: The error code of a URL that cannot be downloaded.
UNREACHABLE = "video_url_not_accessible"
AGENT = "tl-local-1"
#: Link-local addresses and the metadata services of clouds, which issue credentials. They are refused even if
#: private addresses are allowed.
METADATA = tuple(
    ipaddress.ip_network(net)
    for net in ("169.254.0.0/16", "fe80::/10", "fd00:ec2::/32", "100.100.100.200/32", "168.63.129.16/32")
)
NAT64 = ipaddress.ip_network("64:ff9b::/96")
#: Networks that are not reachable over the internet, although `ipaddress` classifies them as global.
SITE_NETWORKS = tuple(ipaddress.ip_network(net) for net in ("fec0::/10", "64:ff9b:1::/48", "::/96"))


@dataclass(frozen=True)
class Fetched:
    """A complete download."""

    path: Path
    filename: str
    size: int
    sha256: str


class _Refused(OSError):
    """A connection to a forbidden address."""


def refuse(address: str, allow_private: bool) -> str | None:
    """The reason why an IP address is forbidden; None if it is allowed."""
    ip = ipaddress.ip_address(address.split("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner:
            return refuse(str(inner), allow_private)
    if any(ip in net for net in METADATA if net.version == ip.version):
        return "a link-local or metadata address"
    if ip.is_multicast or ip.is_unspecified:
        return "not the address of one host"
    is_site = any(ip in net for net in SITE_NETWORKS if net.version == ip.version)
    if (is_site or not ip.is_global) and not allow_private:
        return "a private address"
    return None


class _CheckedResolver(AbstractResolver):
    """Resolves with the system's resolver and drops forbidden addresses."""

    def __init__(self, allow_private: bool) -> None:
        self._inner = ThreadedResolver()
        self._allow_private = allow_private

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        resolved = await self._inner.resolve(host, port, family)
        reasons = [refuse(entry["host"], self._allow_private) for entry in resolved]
        allowed = [entry for entry, reason in zip(resolved, reasons, strict=True) if reason is None]
        if not allowed:
            raise _Refused(f"{host} resolves to {next(r for r in reasons if r)}, which is not allowed")
        return allowed

    async def close(self) -> None:
        await self._inner.close()


def _checked_socket(info: aiohttp.AddrInfoType, allow_private: bool) -> socket.socket:
    """A socket for a checked address: aiohttp does not ask the resolver if the host is an IP address."""
    family, kind, protocol, _, address = info
    if reason := refuse(str(address[0]), allow_private):
        raise _Refused(f"{address[0]} is {reason}, which is not allowed")
    return socket.socket(family, kind, protocol)


def connector_of(allow_private: bool) -> aiohttp.TCPConnector:
    """A connector that refuses forbidden addresses."""
    return aiohttp.TCPConnector(
        resolver=_CheckedResolver(allow_private), use_dns_cache=False, force_close=True,
        socket_factory=partial(_checked_socket, allow_private=allow_private),
    )  # fmt: skip


def check_url(url: str, config: Config) -> str:
    """Validate a URL without opening a connection; returns it without surrounding white space.

    Raises:
        MediaError: the text is not a URL, or its scheme or address is not allowed.
    """
    url = url.strip()
    try:
        parts = urlsplit(url)
        is_port_valid = parts.port is None or parts.port > 0
    except ValueError:
        raise MediaError("parameter_invalid", "It is not a URL.") from None
    if parts.scheme == "file":
        if not config.allow_files and config.media is None:
            raise MediaError(
                "parameter_invalid",
                "file:// URLs are not allowed: start the engine with --media or --allow-files.",
            )
        return url
    if parts.scheme not in ("http", "https") or not parts.hostname or not is_port_valid:
        raise MediaError("parameter_invalid", "It must be a URL that begins with http:// or https://.")
    if len(url) > MAX_URL:
        raise MediaError("parameter_invalid", f"It is longer than {MAX_URL} characters.")
    try:
        # yarl parses the host as aiohttp does, which also accepts digits and dots of other scripts.
        host = ipaddress.ip_address(yarl.URL(url).host or "")
    except ValueError:
        return url
    if reason := refuse(str(host), config.allow_private):
        raise MediaError("parameter_invalid", f"{host} is {reason}, which is not allowed.")
    return url


async def fetch(url: str, target: Path, config: Config, *, limit: int, seconds: float, what: str) -> Fetched:
    """Download a URL to `target`. If the download fails, no file is left.

    Args:
        limit: maximum size in bytes.
        seconds: maximum time.
        what: `video`, `image`, `audio` or `file`, for messages and error codes.

    Raises:
        MediaError: the URL is not allowed or unreachable, or the file is empty, too large, too slow or a
            web page.
        StorageFull: the disk is full.
    """
    url = check_url(url, config)
    if urlsplit(url).scheme == "file":
        return await asyncio.to_thread(_copy, url, target, config, limit, what)
    part = target.with_name(f"{target.name}.part")
    try:
        async with asyncio.timeout(seconds):
            fetched = await _download(url, part, config, limit, what)
        os.replace(part, target)
        return Fetched(target, fetched.filename, fetched.size, fetched.sha256)
    except TimeoutError:
        raise MediaError(UNREACHABLE, f"The {what} URL did not deliver within {seconds:g} seconds.") from None
    except (aiohttp.ClientError, OSError, UnicodeError, ValueError) as error:
        if is_full(error):
            raise StorageFull from error
        raise MediaError(UNREACHABLE, f"The {what} URL cannot be reached: {reason_of(error)}.") from None
    finally:
        part.unlink(missing_ok=True)


def reason_of(error: BaseException) -> str:
    """Why a URL cannot be reached."""
    seen: BaseException | None = error
    while seen:
        if isinstance(seen, _Refused):
            return str(seen)
        seen = seen.__cause__ or seen.__context__
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"host {error.host} not found"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"{error.host}:{error.port} does not answer ({error.strerror})"
    return str(error) or type(error).__name__


async def _download(url: str, part: Path, config: Config, limit: int, what: str) -> Fetched:
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=20, sock_read=60)
    async with opened("GET", url, config, timeout, what) as (response, final_url):
        return await _save(response, final_url, part, limit, what)


@asynccontextmanager
async def opened(
    method: str,
    url: str,
    config: Config,
    timeout: aiohttp.ClientTimeout,
    what: str,
    headers: Mapping[str, str] | None = None,
) -> AsyncIterator[tuple[aiohttp.ClientResponse, str]]:
    """Send a request and follow its redirects; each address is checked. Gives the response and its URL.

    Args:
        url: a URL that `check_url` has accepted.
        what: as in `fetch`.

    Raises:
        MediaError: a redirect is not allowed, or there are too many.
        aiohttp.ClientError, OSError: the URL cannot be reached; `reason_of` says why.
    """
    async with aiohttp.ClientSession(
        connector=connector_of(config.allow_private),
        timeout=timeout,
        headers={"User-Agent": AGENT, "Accept-Encoding": "identity", **(headers or {})},
        cookie_jar=aiohttp.DummyCookieJar(),
    ) as session:
        for _ in range(MAX_REDIRECTS + 1):
            async with session.request(method, url, allow_redirects=False) as response:
                location = response.headers.get("Location")
                if response.status not in (301, 302, 303, 307, 308) or not location:
                    yield response, url
                    return
            url = check_url(urljoin(url, location), config)
            if urlsplit(url).scheme == "file":
                raise MediaError("parameter_invalid", f"The {what} URL redirects to a local file.")
    raise MediaError(UNREACHABLE, f"The {what} URL redirects more than {MAX_REDIRECTS} times.")


async def _save(answer: aiohttp.ClientResponse, url: str, part: Path, limit: int, what: str) -> Fetched:
    if answer.status != 200:
        raise MediaError(UNREACHABLE, f"The {what} URL answers with HTTP status {answer.status}.")
    kind = answer.content_type
    if kind in ("text/html", "application/xhtml+xml"):
        raise MediaError(
            f"{what}_file_broken",
            f"The {what} URL leads to a web page ({kind}), not to the {what} file itself. Use a direct link.",
        )
    too_large = MediaError(
        f"{what}_filesize_too_large",
        f"The {what} is too large. Please use one with a size less than {format_bytes(limit)}.",
    )
    if answer.content_length and answer.content_length > limit:
        raise too_large
    size, digest = 0, hashlib.sha256()
    begun, before = time.monotonic(), 0
    with part.open("wb") as file:
        async for chunk in answer.content.iter_chunked(1 << 18):
            size += len(chunk)
            if (passed := time.monotonic() - begun) >= RATE_SEC:
                if (size - before) / passed < MIN_RATE:
                    raise MediaError(
                        UNREACHABLE, f"The {what} URL delivers less than {MIN_RATE >> 10} KB a second."
                    )
                begun, before = time.monotonic(), size
            if size > limit:
                raise too_large
            digest.update(chunk)
            file.write(chunk)
    if size == 0:
        raise MediaError(f"{what}_file_broken", f"The {what} URL delivers an empty file.")
    return Fetched(part, safe_file_name(unquote(urlsplit(url).path)), size, digest.hexdigest())


def local_file(url: str, config: Config) -> Path:
    """The path of a file:// URL, with its symbolic links resolved.

    Raises:
        MediaError: it is outside of the media folder.
    """
    path = Path(unquote(urlsplit(url).path)).resolve()
    root = config.media.resolve() if config.media else None
    if not config.allow_files and not (root and path.is_relative_to(root)):
        raise MediaError("parameter_invalid", "file:// URLs outside of the media folder are not allowed.")
    return path


def _copy(url: str, target: Path, config: Config, limit: int, what: str) -> Fetched:
    path = local_file(url, config)
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise MediaError(UNREACHABLE, f"The {what} URL does not name a file.")
        if size > limit:
            raise MediaError(
                f"{what}_filesize_too_large",
                f"The {what} is too large: {format_bytes(size)}, allowed {format_bytes(limit)}.",
            )
        if size == 0:
            raise MediaError(f"{what}_file_broken", f"The {what} URL names an empty file.")
        part = target.with_name(f"{target.name}.part")
        shutil.copyfile(path, part)
        with part.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.replace(part, target)
    except OSError as error:
        if is_full(error):
            target.with_name(f"{target.name}.part").unlink(missing_ok=True)
            raise StorageFull from error
        raise MediaError(UNREACHABLE, f"The {what} URL cannot be read: {error.strerror}.") from None
    return Fetched(target, safe_file_name(path.name), size, digest)
