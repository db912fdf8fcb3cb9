"""The identity of a video: the key by which the ledger recognizes it.

A URL is reduced to its canonical form, without the parameters that sign it (see `urls.unsigned` and the
setting `signing_parameters`), which change with every listing. A password is no part of it, a user name is:
servers may answer by user. Keys of buckets and paths are bytes: no Unicode form is made of another. The
validators in the response headers are added, so that a replaced file is a new video:

1. an ETag that is a digest (32 or more hex digits, as from S3 and most object stores), alone: the same bytes
   uploaded again to the same URL stay the same video;
2. otherwise Last-Modified with the length: the ETags of web servers and CDNs may contain an inode, a node or
   a compression variant, and differ between requests;
3. otherwise any ETag (without the weak mark) with the length, or the ones that exist.

Two different URLs are one video only if a store gives a digest of the whole content and its length and both
are equal (`Identity.digest`): the first of them gives the content its key (`Session.identify`).

A local file is identified by a digest of its bytes; above 64 MiB by its size, its modification time and a
digest of three blocks, because reading it whole takes too long.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit, urlunsplit

from tl_data.errors import MediaRefused
from tl_data.urls import bucket_parts, is_bucket, unsigned, without_query

WHOLE_FILE = 64 << 20  # bytes up to which a local file is hashed as a whole
BLOCK = 1 << 20  # bytes of each block that is hashed of a larger one

#: How messages go on about a text that is none of what a `video` may be.
NOT_A_PLACE = "neither a URL (http, https, s3, gs, az, abfss) nor an existing file"

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
    @property
    def md5(self) -> str | None: ...


class Probes(Protocol):
    """The part of the client that identities need."""

    async def probe_url(self, url: str) -> Remote: ...


@dataclass(frozen=True)
class Identity:
    """The identity of a video. `content_key` has 32 hex digits and changes with the content."""

    canonical: str  # without signature and password
    content_key: str
    size_bytes: int | None = None
    etag: str | None = None
    last_modified: str | None = None
    digest: str | None = (
        None  # of the whole content with its length, if it is known: equal bytes, equal digest
    )
    likely: str | None = None  # of a strong ETag with the length: equal bytes in all likelihood
    former_key: str | None = None  # the key that earlier releases gave this content, if it is another


def is_url(video: str) -> bool:
    """Whether the text is an http(s) address, or that of an object in a bucket."""
    return video[:8].lower().startswith(("http://", "https://")) or is_bucket(video)


def local_path(video: str) -> Path:
    """The path of a `file://` or `dbfs:/` URL or of a plain path.

    Databricks mounts volumes at /Volumes and the rest of DBFS at /dbfs.
    """
    if video.lower().startswith("file://"):
        return Path(unquote(urlsplit(video).path))
    if video.startswith("dbfs:/"):
        path = "/" + video.removeprefix("dbfs:").lstrip("/")
        return Path(path if path.startswith("/Volumes/") else f"/dbfs{path}")
    return Path(video)


def missing_file(video: str) -> str:
    """What to do about a path that does not exist, where more can be said than that; else an empty text."""
    if local_path(video).parts[1:2] in (("Volumes",), ("dbfs",)):
        return (
            ": volumes of Databricks are read where they are mounted, on a cluster or on serverless compute "
            "that may read them"
        )
    return ""


def canonical_url(url: str, signing: str = "") -> str:
    """One spelling for one resource: signature, password, fragment and default port dropped, host in lower
    case, percent-encoding and the order of the query normalised.

    Args:
        signing: the setting `signing_parameters`.

    Raises:
        MediaRefused: the text cannot be read as a URL.
    """
    if is_bucket(url):
        bucket, key = bucket_parts(url)
        return f"{bucket}/{key}"
    return _canonical(url, signing)


def _canonical(url: str, signing: str = "", *, former: bool = False) -> str:
    """With `former`, the form of earlier releases, which had no user name in it and composed Unicode."""
    url = unicodedata.normalize("NFC", url) if former else url
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname or "", parts.port
        host = host.encode("idna").decode("ascii") if not host.isascii() else host
    except ValueError as error:
        raise MediaRefused(f"invalid URL: {without_query(url)}", "video_url_invalid") from error
    scheme = parts.scheme.lower()
    host = f"[{host}]" if ":" in host else host
    place = host if port is None or port == _PORTS.get(scheme) else f"{host}:{port}"
    if parts.username and not former:
        place = f"{_encoded(parts.username)}@{place}"
    query = "&".join(sorted(_encoded(p) for p in unsigned(parts.query, parts.path, signing)))
    return urlunsplit((scheme, place, _encoded(parts.path) or "/", query, ""))


async def identify(client: Probes, video: str | Path, signing: str = "") -> Identity:
    """Determine the identity of a URL or a local path.

    Args:
        signing: the setting `signing_parameters`.

    Raises:
        MediaRefused: the file does not exist or cannot be read, or the URL is malformed.
        APIError: the server did not respond. Without its headers the identity could differ from that of the
            next run, and the video would be charged twice.
    """
    text = str(video)
    if not is_url(text):
        return await asyncio.to_thread(_identify_file, text)
    canonical = canonical_url(text, signing)
    remote = await client.probe_url(text)
    version = _version(remote)
    known = Identity(
        canonical,
        _hash("url", canonical, *version),
        remote.length,
        remote.etag,
        remote.last_modified,
        digest=_digest(remote.md5, remote.length),
        likely=_hash("likely", version[1], str(remote.length))
        if version[0] == "etag" and remote.length
        else None,
    )
    # Only a digest says that the former key, which several URLs had in common, means this content.
    if (
        version[0] == "etag"
        and not is_bucket(text)
        and (former := _canonical(text, former=True)) != canonical
    ):
        known = replace(known, former_key=_hash("url", former, *version))
    return known


def _digest(md5: str | None, length: int | None) -> str | None:
    """The name of a content by its MD5 (hex) and length in bytes; None where one is not known."""
    return _hash("md5", md5.lower(), str(length)) if md5 and length else None


def _version(remote: Remote) -> tuple[str, ...]:
    etag = (remote.etag or "").removeprefix("W/").strip('"')
    length = "" if remote.length is None else str(remote.length)
    if _DIGEST.fullmatch(etag) and not (remote.etag or "").startswith("W/"):
        return "etag", etag.lower()
    if remote.last_modified and length:
        return "date", remote.last_modified, length
    return "any", etag, remote.last_modified or "", length


def _identify_file(text: str) -> Identity:
    path, md5 = local_path(text), None
    try:
        facts = path.stat()
        with path.open("rb") as file:
            if facts.st_size <= WHOLE_FILE:
                whole, other = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
                while block := file.read(BLOCK):
                    whole.update(block)
                    other.update(block)
                key, md5 = _hash("bytes", whole.hexdigest()), other.hexdigest()
            else:
                digest = hashlib.sha256()
                for start in (0, (facts.st_size - BLOCK) // 2, facts.st_size - BLOCK):
                    file.seek(start)
                    digest.update(file.read(BLOCK))
                key = _hash("blocks", str(facts.st_size), str(facts.st_mtime_ns), digest.hexdigest())
    except OSError as error:
        reason = error.strerror or str(error)
        raise MediaRefused(
            f"cannot read the video file {path}: {reason}{missing_file(text)}", "video_file_unreadable"
        ) from error
    return Identity(path.absolute().as_uri(), key, facts.st_size, digest=_digest(md5, facts.st_size))


def _encoded(text: str) -> str:
    """Percent-encoding in one spelling: unreserved characters plain, all others as %XX in upper case."""

    def one(match: re.Match[str]) -> str:
        char = chr(int(match.group()[1:], 16))
        return char if char.isascii() and (char.isalnum() or char in "-._~") else match.group().upper()

    plain = re.sub(r"%[0-9A-Fa-f]{2}", one, text)
    return re.sub(r"[^\x21-\x7e]", lambda m: "".join(f"%{b:02X}" for b in m.group().encode()), plain)


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
