"""The identity of a video: the key by which the ledger recognizes it.

A URL is reduced to its canonical form, without the parameters that sign it (S3, GCS, Azure SAS, CloudFront,
OSS), which change with every listing. The validators in the response headers are added, so that a replaced
file is a new video:

1. an ETag that is a digest (32 or more hex digits, as from S3 and most object stores), alone: the same bytes
   uploaded again to the same URL stay the same video;
2. otherwise Last-Modified with the length: the ETags of web servers and CDNs may contain an inode, a node or
   a compression variant, and differ between requests;
3. otherwise any ETag (without the weak mark) with the length, or the ones that exist.

A local file is identified by a digest of its bytes; above 64 MiB by its size, its modification time and a
digest of three blocks, because reading it whole takes too long.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit, urlunsplit

from tl_data.errors import MediaRefused
from tl_data.urls import unsigned, without_query

WHOLE_FILE = 64 << 20  # bytes up to which a local file is hashed as a whole
BLOCK = 1 << 20  # bytes of each block that is hashed of a larger one

_DIGEST = re.compile(r"[0-9a-f]{32,128}(-\d{1,5})?", re.I)
_PORTS = {"http": 80, "https": 443}


class Remote(Protocol):
    """The response headers of a file."""

    @property
    def length(self) -> int | None: ...
    @property
    def etag(self) -> str | None: ...
    @property
    def last_modified(self) -> str | None: ...


class Probes(Protocol):
    """The part of the client that identities need."""

    async def probe_url(self, url: str) -> Remote: ...


@dataclass(frozen=True)
class Identity:
    """The identity of a video. `content_key` has 32 hex digits and changes with the content."""

    canonical: str  # without signature and credentials
    content_key: str
    size_bytes: int | None = None
    etag: str | None = None
    last_modified: str | None = None


def is_url(video: str) -> bool:
    """Whether the text is an http(s) address."""
    return video[:8].lower().startswith(("http://", "https://"))


def local_path(video: str) -> Path:
    """The path of a `file://` URL or of a plain path."""
    return Path(unquote(urlsplit(video).path)) if video.lower().startswith("file://") else Path(video)


def canonical_url(url: str) -> str:
    """One spelling for one resource: signature, credentials, fragment and default port dropped, host in lower
    case, percent-encoding and the order of the query normalised.

    Raises:
        MediaRefused: the text cannot be read as a URL.
    """
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname or "", parts.port
        host = host.encode("idna").decode("ascii") if not host.isascii() else host
    except ValueError as error:
        raise MediaRefused(f"invalid URL: {without_query(url)}", "video_url_invalid") from error
    scheme = parts.scheme.lower()
    host = f"[{host}]" if ":" in host else host
    place = host if port is None or port == _PORTS.get(scheme) else f"{host}:{port}"
    query = "&".join(sorted(_encoded(p) for p in unsigned(parts.query)))
    return urlunsplit((scheme, place, _encoded(parts.path) or "/", query, ""))


async def identify(client: Probes, video: str | Path) -> Identity:
    """Determine the identity of a URL or a local path.

    Raises:
        MediaRefused: the file does not exist or cannot be read, or the URL is malformed.
        APIError: the server did not respond. Without its headers the identity could differ from that of the
            next run, and the video would be charged twice.
    """
    text = str(video)
    if not is_url(text):
        return await asyncio.to_thread(_identify_file, text)
    canonical = canonical_url(text)
    remote = await client.probe_url(text)
    return Identity(
        canonical,
        _hash("url", canonical, *_version(remote)),
        remote.length,
        remote.etag,
        remote.last_modified,
    )


def _version(remote: Remote) -> tuple[str, ...]:
    etag = (remote.etag or "").removeprefix("W/").strip('"')
    length = "" if remote.length is None else str(remote.length)
    if _DIGEST.fullmatch(etag) and not (remote.etag or "").startswith("W/"):
        return "etag", etag.lower()
    if remote.last_modified and length:
        return "date", remote.last_modified, length
    return "any", etag, remote.last_modified or "", length


def _identify_file(text: str) -> Identity:
    path = local_path(text)
    try:
        facts = path.stat()
        with path.open("rb") as file:
            if facts.st_size <= WHOLE_FILE:
                key = _hash("bytes", hashlib.file_digest(file, "sha256").hexdigest())
            else:
                digest = hashlib.sha256()
                for start in (0, (facts.st_size - BLOCK) // 2, facts.st_size - BLOCK):
                    file.seek(start)
                    digest.update(file.read(BLOCK))
                key = _hash("blocks", str(facts.st_size), str(facts.st_mtime_ns), digest.hexdigest())
    except OSError as error:
        reason = error.strerror or str(error)
        raise MediaRefused(f"cannot read the video file {path}: {reason}", "video_file_unreadable") from error
    return Identity(path.absolute().as_uri(), key, facts.st_size)


def _encoded(text: str) -> str:
    """Percent-encoding in one spelling: unreserved characters plain, all others as %XX in upper case."""

    def one(match: re.Match[str]) -> str:
        char = chr(int(match.group()[1:], 16))
        return char if char.isascii() and (char.isalnum() or char in "-._~") else match.group().upper()

    plain = re.sub(r"%[0-9A-Fa-f]{2}", one, unicodedata.normalize("NFC", text))
    return re.sub(r"[^\x21-\x7e]", lambda m: "".join(f"%{b:02X}" for b in m.group().encode()), plain)


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
