"""The identity of a video: the key by which the ledger recognizes it.

The key of a URL has two parts. The first is the canonical form of the URL. It does not contain the parameters
of a signature, which change with every listing (see `urls.unsigned` and the setting `signing_parameters`). It
does not contain a password, but it does contain a user name, because a server may answer each user
differently. Keys of buckets and paths are compared as bytes, without Unicode normalization. The second part
are validators from the response headers, so that a replaced file is a new video:

1. Only the ETag, if it is a digest (32 or more hex digits, as from S3 and most object stores). The same bytes
   that are uploaded again to the same URL stay the same video.
2. Otherwise Last-Modified and the length. The ETags of web servers and CDNs may contain an inode, a node or a
   compression variant, and may differ between requests.
3. Otherwise any ETag (without the prefix `W/`), Last-Modified and the length, as far as they exist.

Two different URLs are the same video if a store reports digests of their whole content and the digests and
lengths are equal (`Identity.digest`). With the setting `same_content = "likely"`, ETags that are digests and
the lengths also suffice (`Identity.likely`). The URL that is seen first determines the key
(`Session.identify`).

A local file is identified by a digest of its bytes. A file above 64 MiB is identified by its size, its
modification time and a digest of three blocks, because reading all of it takes too long.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import re
import stat
import unicodedata
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit, urlunsplit

from tl_data.errors import MediaRefused, SchemaMismatch
from tl_data.urls import bucket_parts, is_bucket, redacted, unsigned_parameters, without_query

#: Maximum bytes of a local file that is hashed completely.
WHOLE_FILE = 64 << 20
#: Bytes of each block that is hashed of a larger file.
BLOCK = 1 << 20

#: The part of messages about a `video` argument that is neither a URL nor a file.
NOT_A_PLACE = "neither a URL (http, https, s3, gs, az, abfss) nor an existing file"

_DIGEST = re.compile(r"[0-9a-f]{32,128}(-\d{1,5})?", re.I)
_PORTS = {"http": 80, "https": 443}


class Remote(Protocol):
    """The response headers of a file."""

    @property
    def final_url(self) -> str: ...
    @property
    def accept_ranges(self) -> bool: ...
    @property
    def length(self) -> int | None: ...
    @property
    def etag(self) -> str | None: ...
    @property
    def last_modified(self) -> str | None: ...
    @property
    def md5(self) -> str | None: ...


class Probes(Protocol):
    """The method of the client that `identify` uses."""

    async def probe_url(self, url: str) -> Remote: ...


@dataclass(frozen=True)
class Identity:
    """The identity of a video. `content_key` has 32 hex digits and changes with the content."""

    canonical: str  # without signature and password
    content_key: str
    size_bytes: int | None = None
    etag: str | None = None
    last_modified: str | None = None
    #: Hash of the content's MD5 and length, if they are known. Equal bytes have equal digests.
    digest: str | None = None
    #: Hash of an ETag that is a digest, and the length. Equal values very probably mean equal bytes.
    likely: str | None = None
    #: The key of this content in earlier releases, if it was another one.
    former_key: str | None = None
    #: The response headers, so that no second request is needed for them. Its URLs may have a signature.
    remote: Remote | None = field(default=None, compare=False, repr=False)


def is_url(video: str) -> bool:
    """Whether the text is an http(s) URL or the URL of an object in a bucket."""
    return video[:8].lower().startswith(("http://", "https://")) or is_bucket(video)


def local_path(video: str) -> Path:
    """The path of a `file://` or `dbfs:/` URL or of a plain path.

    Databricks mounts volumes at /Volumes and the rest of DBFS at /dbfs.
    """
    if video.lower().startswith("file://"):
        # Not urlsplit, which raises ValueError for some hosts.
        address = re.split("[?#]", video[len("file://") :], maxsplit=1)[0]
        return Path(unquote(address[address.index("/") :] if "/" in address else ""))
    if video.startswith("dbfs:/"):
        path = "/" + video.removeprefix("dbfs:").lstrip("/")
        return Path(path if path.startswith("/Volumes/") else f"/dbfs{path}")
    return Path(video)


def missing_file(video: str) -> str:
    """Advice for a message about a missing path of Databricks; "" for other paths."""
    if local_path(video).parts[1:2] in (("Volumes",), ("dbfs",)):
        return (
            ": volumes of Databricks can be read only where they are mounted, on a cluster or on serverless "
            "compute with access to them"
        )
    return ""


def canonical_url(url: str, signing: str = "") -> str:
    """One spelling of a URL for each resource.

    The signature, password, fragment and default port are removed, the host is in lower case, and the
    percent-encoding and the order of the query are normalized.

    Args:
        signing: the setting `signing_parameters`.

    Raises:
        MediaRefused: the text cannot be read as a URL.
    """
    if is_bucket(url):
        bucket, key = bucket_parts(url)
        return f"{bucket}/{key}"
    return _canonical(url, signing)


def former_canonical_url(url: str) -> str:
    """The canonical form of an http or https URL in earlier releases, which their ledger records contain.

    It has no user name and is in the Unicode form NFC. Fewer parameters count as parts of a signature.

    Raises:
        MediaRefused: the text cannot be read as a URL.
    """
    return _canonical(url, former=True)


def _canonical(url: str, signing: str = "", *, former: bool = False) -> str:
    url = unicodedata.normalize("NFC", url) if former else url
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname or "", parts.port
        host = host.encode("idna").decode("ascii")  # also checks the lengths of the labels
    except ValueError as error:
        raise MediaRefused(f"invalid URL: {without_query(url)}", "video_url_invalid") from error
    scheme = parts.scheme.lower()
    host = f"[{host}]" if ":" in host else host
    netloc = host if port is None or port == _PORTS.get(scheme) else f"{host}:{port}"
    if parts.username and not former:
        netloc = f"{_encode(parts.username)}@{netloc}"
    query = "&".join(
        sorted(_encode(p) for p in unsigned_parameters(parts.query, parts.path, signing, former=former))
    )
    return urlunsplit((scheme, netloc, _encode(parts.path) or "/", query, ""))


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
    identity = Identity(
        canonical,
        _hash("url", canonical, *version),
        remote.length,
        remote.etag,
        remote.last_modified,
        digest=_digest(remote.md5, remote.length),
        likely=_hash("likely", version[1], str(remote.length))
        if version[0] == "etag" and remote.length
        else None,
        remote=remote,
    )
    former = canonical if is_bucket(text) else former_canonical_url(text)
    # Several URLs may have the same former key. It identifies the content only if it contains a digest, or if
    # all of these URLs have the same canonical form today.
    unique = version[0] == "etag" or canonical_url(former, signing) == canonical
    return (
        replace(identity, former_key=_hash("url", former, *version))
        if former != canonical and unique
        else identity
    )


def _digest(md5: str | None, length: int | None) -> str | None:
    """The hash of a content's MD5 (hex) and length in bytes; None if one of them is unknown."""
    return _hash("md5", md5.lower(), str(length)) if md5 and length else None


def _version(remote: Remote) -> tuple[str, ...]:
    """The validators of the response headers, as the module's docstring lists them."""
    etag = (remote.etag or "").removeprefix("W/").strip('"')
    length = "" if remote.length is None else str(remote.length)
    if _DIGEST.fullmatch(etag) and not (remote.etag or "").startswith("W/"):
        return "etag", etag.lower()
    if remote.last_modified and length:
        return "date", remote.last_modified, length
    return "any", etag, remote.last_modified or "", length


def _identify_file(text: str) -> Identity:
    path, md5 = local_path(text), None
    if not text.strip():
        raise MediaRefused("the text is empty: it names no video", "video_url_missing")
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode) and not stat.S_ISDIR(facts.st_mode):  # a device has no end
            raise MediaRefused(f"cannot read {path}: it is not a regular file", "video_file_unreadable")
        if facts.st_size > WHOLE_FILE:
            key = _hash("blocks", str(facts.st_size), str(facts.st_mtime_ns), digest_of_blocks(path))
        else:
            sha256_digest, md5_digest = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
            with path.open("rb") as file:
                while block := file.read(BLOCK):
                    sha256_digest.update(block)
                    md5_digest.update(block)
            key, md5 = _hash("bytes", sha256_digest.hexdigest()), md5_digest.hexdigest()
    except (OSError, ValueError) as error:  # ValueError: the path contains a null character
        reason = getattr(error, "strerror", None) or str(error)
        raise MediaRefused(
            f"cannot read the video file {path}: {reason}{missing_file(text)}", "video_file_unreadable"
        ) from error
    return Identity(path.absolute().as_uri(), key, facts.st_size, digest=_digest(md5, facts.st_size))


def digest_of_blocks(path: Path) -> str:
    """The digest of the first, the middle and the last block of a file.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        for start in (0, (size - BLOCK) // 2, size - BLOCK):
            file.seek(max(start, 0))
            digest.update(file.read(BLOCK))
    return digest.hexdigest()


def _encode(text: str) -> str:
    """Normalize percent-encoding: unreserved characters are plain, all others are %XX in upper case."""

    def normalize(match: re.Match[str]) -> str:
        char = chr(int(match.group()[1:], 16))
        return char if char.isascii() and (char.isalnum() or char in "-._~") else match.group().upper()

    plain = re.sub(r"%[0-9A-Fa-f]{2}", normalize, text)
    return re.sub(r"[^\x21-\x7e]", lambda m: "".join(f"%{b:02X}" for b in m.group().encode()), plain)


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def media_source(source: str) -> dict[str, str]:
    """A URL, or the content of a local file in base64, as a media source of the API.

    Raises:
        SchemaMismatch: it is neither a URL nor a local file.
    """
    if is_url(source):
        return {"url": source}
    path = local_path(source)
    if not path.is_file():
        raise SchemaMismatch(f"{redacted(source)} is {NOT_A_PLACE}{missing_file(source)}")
    return {"base64_string": base64.b64encode(path.read_bytes()).decode()}
