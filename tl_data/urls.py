"""Addresses, percent-encoded when they are sent, without secrets when they are shown."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import quote, unquote, urlsplit, urlunsplit

#: Query parameters that hold a signature, a credential or a token (S3, GCS, Azure, CloudFront, CDNs).
SECRET_PARAMETERS = (
    r"X-Amz-(?:Signature|Credential|Security-Token|Date|Expires|Algorithm|SignedHeaders)"
    r"|X-Goog-(?:Signature|Credential|Date|Expires|Algorithm|SignedHeaders)"
    r"|AWSAccessKeyId|GoogleAccessId|Signature|Key-Pair-Id|Policy|sig|token|access_token|api_key|apikey|key"
    r"|password|auth|auth_key|hdnts|hdnea|hdntl|__token__|verify|KeyName|URLPrefix|txSecret|q-(?:ak|signature)"
    r"|x-(?:oss|cos)-[\w-]+|jwt|hmac|hash|secret|client_secret|access_?key|(?:security|session)_?token"
)
#: A value ends before the punctuation of a sentence that goes on after the URL.
_SECRET = re.compile(rf"(?i)(?<=[?&;])({SECRET_PARAMETERS})=[^&\s\"'<>)]*(?<![:.,])")
#: Also in an address that was taken for a path, which leaves one slash.
_LOGIN = re.compile(r"(?i)(?:(?<=://)|(?<=\bhttps:/)|(?<=\bhttp:/)|(?<=\bftp:/))[^/\s@\"']+@")
_KEY = re.compile(r"\btlk_\w+")
_URL = re.compile(r"https?://[^\s\"'<>\\]+", re.I)
#: Always a signature, whatever else is in the URL: S3, GCS, OSS, CloudFront, Akamai.
_SIGNING = re.compile(
    r"x-(amz|goog|oss|cos)-.*|awsaccesskeyid|googleaccessid|ossaccesskeyid|key-pair-id|hdnts|hdnea|hdntl|__token__",
    re.I,
)
#: Part of a signature only beside one of the above; on their own they may be the site's own parameters.
_BESIDE = re.compile(r"expires|signature|policy|security-token|hash-algorithm|x-id|response-.*", re.I)
#: Azure: a shared access signature is recognised as a whole, by its version, its end and its signature.
_SAS = re.compile(
    r"sv|ss|srt|sp|se|st|spr|sip|sr|sig|si|sdd|ses|saoid|suoid|sduoid|scid|sk(oid|tid|dutid|t|e|s|v)|rsc[cdelt]",
    re.I,
)
_SAS_VERSION = re.compile(r"\d{4}-\d\d-\d\d")
_MOMENT = re.compile(r"1\d{9}|1\d{12}")  # seconds or milliseconds since 1970, as signatures end
#: Parameters that sign together, with the pattern of a value where there is one: all must be there.
_SETS: tuple[tuple[dict[str, re.Pattern[str] | None], frozenset[str]], ...] = (
    # Google Cloud CDN
    ({"keyname": None, "signature": None}, frozenset({"expires", "keyname", "signature", "urlprefix"})),
    # Bunny, and others with a token that ends
    (
        {"token": None, "expires": _MOMENT},
        frozenset({"token", "expires", "token_path", "token_countries", "token_countries_blocked"}),
    ),
    ({"signature": None, "expires": _MOMENT}, frozenset({"signature", "expires"})),
    # nginx
    ({"md5": re.compile(r"[\w-]{22}|[0-9a-f]{32}"), "expires": _MOMENT}, frozenset({"md5", "expires"})),
    # Cloudflare
    ({"verify": re.compile(r"1\d{9}-.{20,}")}, frozenset({"verify"})),
    # Alibaba's CDN
    ({"auth_key": re.compile(r"1\d{9}-\w+-\w+-[0-9a-f]{32}")}, frozenset({"auth_key"})),
    # Tencent: its object store and its CDN
    (
        {"q-sign-algorithm": None, "q-signature": None},
        frozenset(
            {"q-sign-algorithm", "q-ak", "q-sign-time", "q-key-time", "q-header-list"}
            | {"q-url-param-list", "q-signature"}
        ),
    ),
    ({"txsecret": None, "txtime": None}, frozenset({"txsecret", "txtime"})),
)
#: Endings of paths that name a media file: there a `token` is a key to the file, elsewhere it may name it.
_MEDIA = re.compile(
    r"\.(mp4|m4v|mov|mkv|webm|avi|mpe?g|ts|wmv|flv|3gp|m3u8|mpd|mp3|m4a|wav|jpe?g|png)$", re.I
)

#: Schemes of addresses of objects in a bucket.
BUCKETS = ("s3", "s3a", "gs", "az", "azure", "abfs", "abfss")
_BUCKET = re.compile(rf"(?:{'|'.join(BUCKETS)})://", re.I)
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

    The address of an object in a bucket stays as it is: it is signed when it is sent.

    Raises:
        ValueError: it is not an http(s) URL with a host.
    """
    if is_bucket(url):
        return url.strip()
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
            query = "&".join(unsigned(parts.query, parts.path))
        except ValueError:
            return without_query(address) + rest
        if place == parts.netloc and query == parts.query:
            return match.group()
        return urlunsplit((parts.scheme, place, parts.path, query, parts.fragment)) + rest

    return _URL.sub(clean, text)


def unsigned(query: str, path: str = "", signing: str = "") -> list[str]:
    """The `name=value` pieces of a query without those that sign it.

    Args:
        path: of the URL; a `token` signs where it names a media file.
        signing: the setting `signing_parameters`: more names that only sign, `-name` for one that does not.
    """
    pieces = [p for p in query.split("&") if p]
    more, fewer = _named(signing)
    pairs = [(unquote(name).lower(), value) for name, _, value in (p.partition("=") for p in pieces)]
    signs = _signing_names(pairs, path) | more
    return [
        piece for piece, (name, _) in zip(pieces, pairs, strict=True) if name in fewer or name not in signs
    ]


def _signing_names(pairs: list[tuple[str, str]], path: str) -> set[str]:
    """The names among the parameters of a query that sign it."""
    values = {name: unquote(value) for name, value in pairs}
    signs = {name for name in values if _SIGNING.fullmatch(name)}
    if signs:
        signs |= {name for name in values if _BESIDE.fullmatch(name)}
    if _SAS_VERSION.fullmatch(values.get("sv", "")) and values.get("sig") and {"se", "si"} & values.keys():
        signs |= {name for name in values if _SAS.fullmatch(name)}
    for needed, names in _SETS:
        if all(n in values and (p is None or p.fullmatch(values[n])) for n, p in needed.items()):
            signs |= names
    if _MEDIA.search(path):
        signs.add("token")
    return signs


@lru_cache
def _named(signing: str) -> tuple[frozenset[str], frozenset[str]]:
    """The names that the setting adds and those that it takes away, in lower case."""
    names = [name for name in re.split(r"[\s,]+", signing.lower()) if name]
    fewer = frozenset(name[1:] for name in names if name.startswith("-"))
    return frozenset(name for name in names if not name.startswith("-")), fewer


def is_bucket(address: str) -> bool:
    """Whether a text is the address of a bucket, or of an object in one: `s3://bucket/key` and the like."""
    return bool(_BUCKET.match(address))


def bucket_parts(address: str) -> tuple[str, str]:
    """The address of a bucket (`s3://bucket`, `abfss://container@account.dfs.core.windows.net`) and the key.

    A key is bytes: nothing in it is decoded, and `?` and `#` belong to it.
    """
    scheme, _, rest = address.strip().partition("://")
    bucket, _, key = rest.partition("/")
    scheme = {"s3a": "s3", "azure": "az", "abfs": "abfss"}.get(scheme.lower(), scheme.lower())
    return f"{scheme}://{bucket}", key


def without_query(url: str) -> str:
    """The URL up to its query, without a login."""
    return url.partition("?")[0].rpartition("@")[2]
