"""Addresses, percent-encoded when they are sent, without secrets when they are shown."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote, urlsplit, urlunsplit

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
_URL = re.compile(r"https?://[^\s\"'<>\\]+", re.I)
#: Always a signature, whatever else is in the URL.
_SIGNING = re.compile(r"x-(amz|goog|oss)-.*|awsaccesskeyid|googleaccessid|ossaccesskeyid|key-pair-id", re.I)
#: Part of a signature only beside one of the above; on their own they may be the site's own parameters.
_BESIDE = re.compile(r"expires|signature|policy|security-token|hash-algorithm|x-id|response-.*", re.I)
#: Azure: a shared access signature is recognised by `sig` with a version or an expiry.
_SAS = re.compile(
    r"sv|ss|srt|sp|se|st|spr|sip|sr|sig|si|sdd|ses|saoid|suoid|sduoid|scid|sk(oid|tid|dutid|t|e|s|v)|rsc[cdelt]",
    re.I,
)
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


def is_loopback(url: str) -> bool:
    """Whether an address leads to this machine by name."""
    return urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")


def redacted(text: str, *secrets: str | None) -> str:
    """The text without secrets; everything that is shown, logged or recorded goes through it.

    Signatures and logins in URLs are dropped. API keys, other parameters that hold a token, and `secrets` are
    masked as `***`.
    """
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    text = without_signatures(text)
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


def without_signatures(text: str) -> str:
    """The text with every URL in it stripped of signature and login.

    Keys of the ledger are made from it, so it stays as it is: it drops what changes from one listing to the
    next and keeps every other parameter. For what is shown use `redacted`, which masks those with a secret.
    """

    def clean(match: re.Match[str]) -> str:
        address = match.group().rstrip(".,;:)]}")
        rest = match.group()[len(address) :]
        try:
            parts = urlsplit(address)
            place = parts.netloc.rpartition("@")[2]
            query = "&".join(unsigned(parts.query))
        except ValueError:
            return without_query(address) + rest
        if place == parts.netloc and query == parts.query:
            return match.group()
        return urlunsplit((parts.scheme, place, parts.path, query, parts.fragment)) + rest

    return _URL.sub(clean, text)


def unsigned(query: str) -> list[str]:
    """The `name=value` pieces of a query without those that sign it."""
    pieces = [p for p in query.split("&") if p]
    names = [unquote(p.partition("=")[0]) for p in pieces]
    signed = any(_SIGNING.fullmatch(n) for n in names)
    lower = {n.lower() for n in names}
    sas = "sig" in lower and bool({"sv", "se"} & lower)
    return [
        piece
        for piece, name in zip(pieces, names, strict=True)
        if not (
            _SIGNING.fullmatch(name) or (signed and _BESIDE.fullmatch(name)) or (sas and _SAS.fullmatch(name))
        )
    ]


def without_query(url: str) -> str:
    """The URL up to its query, without a login."""
    return url.partition("?")[0].rpartition("@")[2]
