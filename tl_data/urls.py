"""Addresses, percent-encoded when they are sent, without secrets when they are shown."""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit, urlunsplit

#: Query parameters that hold a signature, a credential or a token (S3, GCS, Azure, CloudFront, CDNs).
SECRET_PARAMETERS = (
    r"X-Amz-(?:Signature|Credential|Security-Token|Date|Expires|Algorithm|SignedHeaders)"
    r"|X-Goog-(?:Signature|Credential|Date|Expires|Algorithm|SignedHeaders)"
    r"|AWSAccessKeyId|GoogleAccessId|Signature|Key-Pair-Id|Policy|sig|token|access_token|api_key|apikey|key"
    r"|password|auth|hdnts|hdnea"
)
_SECRET = re.compile(rf"(?i)(?<=[?&;])({SECRET_PARAMETERS})=[^&\s\"'<>)]*")
_LOGIN = re.compile(r"(?i)(?<=://)[^/\s@\"']+@")
_KEY = re.compile(r"\btlk_\w+")
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


def is_loopback(url: str) -> bool:
    """Whether an address leads to this machine by name."""
    return urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")


def redacted(text: str, *secrets: str | None) -> str:
    """The text without API keys, passwords in addresses and signature parameters of signed URLs."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    return _KEY.sub("***", _LOGIN.sub("***@", _SECRET.sub(r"\1=***", text)))


def encoded(url: str) -> str:
    """The URL with spaces, letters outside ASCII and stray percent signs encoded; what is encoded stays.

    Raises:
        ValueError: it is not an http(s) URL with a host.
    """
    parts = urlsplit(url.strip())
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
        raise ValueError(
            f"{redacted(url)!r} is not a URL that begins with http:// or https:// and names a host"
        )
    login, at, place = parts.netloc.rpartition("@")
    if not place.isascii():
        host, colon, port = place.partition(":")
        place = host.encode("idna").decode("ascii") + colon + port
    return urlunsplit(
        (
            parts.scheme.lower(),
            login + at + place,
            _quoted(parts.path, "/:@!$&'()*+,;=~[]"),
            _quoted(parts.query, "/?:@!$&'()*+,;=~[]"),
            _quoted(parts.fragment, "/?:@!$&'()*+,;=~"),
        )
    )


def _quoted(text: str, safe: str) -> str:
    return quote(_STRAY_PERCENT.sub("%25", text), safe=safe + "%")
