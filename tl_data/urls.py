"""URLs: percent-encoding for requests, removal of secrets and signatures, addresses of objects in buckets."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from urllib.parse import quote, unquote, urlsplit, urlunsplit

#: Query parameters that hold a signature, a credential or a token (object stores and CDNs).
SECRET_PARAMETERS = (
    r"X-Amz-(?:Signature|Credential|Security-Token|Date|Expires|Algorithm|SignedHeaders)"
    r"|X-Goog-(?:Signature|Credential|Date|Expires|Algorithm|SignedHeaders)"
    r"|AWSAccessKeyId|GoogleAccessId|Signature|Key-Pair-Id|Policy|sig|token|access_token|api_key|apikey|key"
    r"|password|auth|auth_key|hdnts|hdnea|hdntl|__token__|verify|KeyName|URLPrefix|txSecret|q-(?:ak|signature)"
    r"|x-(?:oss|cos)-[\w-]+|jwt|hmac|hash|secret|client_secret|access_?key|(?:security|session)_?token"
)
#: A secret parameter in a text. Punctuation after the URL does not belong to the value.
_SECRET = re.compile(rf"(?i)(?<=[?&;#])({SECRET_PARAMETERS})=[^&\s\"'<>)]*(?<![:.,])")
#: The same in a URL that is itself a percent-encoded parameter: `?url=https%3A%2F%2Fe.com%2Fv%3Fsig%3Dabc`.
_ENCODED_SECRET = re.compile(
    rf"(?i)(%(?:25)*(?:3F|26|3B|23)(?:{SECRET_PARAMETERS})(?:=|%(?:25)*3D))"
    r"(?:(?!%(?:25)*26)[^&\s\"'<>)])*(?<![:.,])"
)
_ENCODED_LOGIN = re.compile(r"(?i)((?:%(?:25)*2F){2})(?:(?!%(?:25)*(?:2F|40))[^/\s@\"'&])+(%(?:25)*40)")
#: A login in a URL. `https:/` has one slash after the URL was normalized as a path.
_LOGIN = re.compile(
    r"(?i)(?:(?<=://)|(?<![^\s'\"(=])//|(?<=\bhttps:/)|(?<=\bhttp:/)|(?<=\bftp:/))[^/\s@\"']+@"
)
_API_KEY = re.compile(r"\btlk_\w+")
_URL = re.compile(r"https?://[^\s\"'<>\\]+", re.I)
#: Parameters that always belong to a signature: S3, GCS, OSS (Alibaba), COS (Tencent), CloudFront, Akamai.
_SIGNING = re.compile(
    r"x-(amz|goog|oss|cos)-.*|awsaccesskeyid|googleaccessid|ossaccesskeyid|key-pair-id|hdnts|hdnea|hdntl|__token__",
    re.I,
)
#: Parameters that belong to a signature only beside one of `_SIGNING`. Otherwise they may be the site's own.
_BESIDE = re.compile(r"expires|signature|policy|security-token|hash-algorithm|x-id|response-.*", re.I)
#: Parameters of a shared access signature of Azure. It is recognized by its version (`sv`), its signature
#: (`sig`), and its expiry (`se`) or stored access policy (`si`).
_SAS = re.compile(
    r"sv|ss|srt|sp|se|st|spr|sip|sr|sig|si|sdd|ses|saoid|suoid|sduoid|scid|sk(oid|tid|dutid|t|e|s|v)|rsc[cdelt]",
    re.I,
)
#: What `_SIGNING` was in earlier releases. The ledger keys that they recorded contain URLs without these.
_FORMER_SIGNING = re.compile(
    r"x-(amz|goog|oss)-.*|awsaccesskeyid|googleaccessid|ossaccesskeyid|key-pair-id", re.I
)
_SAS_VERSION = re.compile(r"\d{4}-\d\d-\d\d")
_UNIX_TIME = re.compile(r"1\d{9}|1\d{12}")  # expiry of a signature: seconds or milliseconds since 1970
#: Signatures that are recognized by parameters that occur together, or by the form of a value. For each: the
#: parameters that must all be present, with the pattern of the value (None: any value), and the names of all
#: parameters that then belong to the signature.
_SIGNATURES: tuple[tuple[dict[str, re.Pattern[str] | None], frozenset[str]], ...] = (
    # Google Cloud CDN
    ({"keyname": None, "signature": None}, frozenset({"expires", "keyname", "signature", "urlprefix"})),
    # Bunny, and others whose token has an expiry
    (
        {"token": None, "expires": _UNIX_TIME},
        frozenset({"token", "expires", "token_path", "token_countries", "token_countries_blocked"}),
    ),
    ({"signature": None, "expires": _UNIX_TIME}, frozenset({"signature", "expires"})),
    # nginx
    ({"md5": re.compile(r"[\w-]{22}|[0-9a-f]{32}"), "expires": _UNIX_TIME}, frozenset({"md5", "expires"})),
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
#: Extensions of media files. In the URL of one, `token` grants access; in another URL it may name the video.
_MEDIA = re.compile(
    r"\.(mp4|m4v|mov|mkv|webm|avi|mpe?g|ts|wmv|flv|3gp|m3u8|mpd|mp3|m4a|wav|jpe?g|png)$", re.I
)

#: URL schemes of objects in a bucket.
BUCKET_SCHEMES = ("s3", "s3a", "gs", "az", "azure", "abfs", "abfss")
_BUCKET = re.compile(rf"(?:{'|'.join(BUCKET_SCHEMES)})://", re.I)
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


def is_loopback(url: str) -> bool:
    """Whether the host of a URL is `localhost` or a loopback address. No name is resolved."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # another name
        return False


def origin(url: str) -> tuple[str, str, int | None]:
    """The scheme, host and port of a URL.

    Raises:
        ValueError: the URL cannot be parsed.
    """
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    return scheme, parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(scheme)


def redacted(text: str, *secrets: str | None) -> str:
    """Remove secrets from a text. Every text that is shown, logged or recorded goes through this function.

    In http and https URLs, signatures and logins are removed. Replaced by `***` are logins in other URLs, API
    keys, the values of the remaining `SECRET_PARAMETERS` and the texts in `secrets`; logins and parameters
    also in URLs that are percent-encoded. The container in `abfss://container@account` counts as a login:
    source keys in tables contain the result.
    """
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    masked = _ENCODED_SECRET.sub(r"\1***", _SECRET.sub(r"\1=***", without_signatures(text)))
    masked = _ENCODED_LOGIN.sub(r"\1***\2", masked)
    return _API_KEY.sub("***", _LOGIN.sub("***@", masked))


def encoded(url: str) -> str:
    """Encode a URL for a request.

    Spaces, non-ASCII characters, stray percent signs and characters that a URL may not contain, such as `"`,
    `{`, `|` and `}`, are percent-encoded; what is encoded already is unchanged. A non-ASCII host is encoded
    by IDNA, and the scheme is in lower case. The address of an object in a bucket is returned without spaces
    around it: it is signed when the request is sent.

    Raises:
        ValueError: the text is not an http(s) URL with a host.
    """
    if is_bucket(url):
        return url.strip()
    parts = urlsplit(url.strip())
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
        raise ValueError(
            f"{redacted(url)!r} is not a URL that begins with http:// or https:// and names a host"
        )
    login, at, host_and_port = parts.netloc.rpartition("@")
    if not host_and_port.isascii():
        host, colon, port = host_and_port.partition(":")
        host_and_port = host.encode("idna").decode("ascii") + colon + port
    return urlunsplit(
        (
            parts.scheme.lower(),
            login + at + host_and_port,
            _quoted(parts.path, "/:@!$&'()*+,;=~[]"),
            _quoted(parts.query, "/?:@!$&'()*+,;=~[]"),
            _quoted(parts.fragment, "/?:@!$&'()*+,;=~"),
        )
    )


def _quoted(text: str, safe: str) -> str:
    return quote(_STRAY_PERCENT.sub("%25", text), safe=safe + "%")


def without_signatures(text: str, *, former: bool = False) -> str:
    """Remove the signature and the login from every http and https URL in a text.

    The other parameters are kept. Ledger keys contain the result. So if this function removes more or less
    than before, `former=True` must return what it returned before: by that the ledger finds earlier results.
    Use `redacted` for texts that are shown: it also masks other secrets.

    Args:
        former: recognize signatures as earlier releases did.
    """

    def clean(match: re.Match[str]) -> str:
        address = match.group().rstrip(".,;:)]}")
        rest = match.group()[len(address) :]
        try:
            parts = urlsplit(address)
            host_and_port = parts.netloc.rpartition("@")[2]
            query = "&".join(unsigned_parameters(parts.query, parts.path, former=former))
        except ValueError:
            if former:
                return address.partition("?")[0].rpartition("@")[2] + rest
            return without_query(address) + rest
        if host_and_port == parts.netloc and query == parts.query:
            return match.group()
        return urlunsplit((parts.scheme, host_and_port, parts.path, query, parts.fragment)) + rest

    return _URL.sub(clean, text)


def unsigned_parameters(query: str, path: str = "", signing: str = "", *, former: bool = False) -> list[str]:
    """The parameters (`name=value`) of a query string that do not belong to its signature.

    Args:
        path: the path of the URL. If it names a media file, `token` belongs to the signature.
        signing: the setting `signing_parameters`: more names of signatures; `-name` excludes one.
        former: recognize signatures as earlier releases did. `path` and `signing` are not used then.
    """
    parameters = [p for p in query.split("&") if p]
    added, excluded = _added_and_excluded("" if former else signing)
    pairs = [(unquote(name).lower(), value) for name, _, value in (p.partition("=") for p in parameters)]
    signing_names = _former_signing_names(pairs) if former else _signing_names(pairs, path) | added
    return [
        parameter
        for parameter, (name, _) in zip(parameters, pairs, strict=True)
        if name in excluded or name not in signing_names
    ]


def _signing_names(pairs: list[tuple[str, str]], path: str) -> set[str]:
    """The names of the parameters that belong to a signature."""
    values = {name: unquote(value) for name, value in pairs}
    names = {name for name in values if _SIGNING.fullmatch(name)}
    if names:
        names |= {name for name in values if _BESIDE.fullmatch(name)}
    if _SAS_VERSION.fullmatch(values.get("sv", "")) and values.get("sig") and {"se", "si"} & values.keys():
        names |= {name for name in values if _SAS.fullmatch(name)}
    for required, members in _SIGNATURES:
        if all(n in values and (p is None or p.fullmatch(values[n])) for n, p in required.items()):
            names |= members
    if _MEDIA.search(path):
        names.add("token")
    return names


def _former_signing_names(pairs: list[tuple[str, str]]) -> set[str]:
    """The names that earlier releases took for parts of a signature."""
    names = {name for name, _ in pairs}
    signing = {name for name in names if _FORMER_SIGNING.fullmatch(name)}
    if signing:
        signing |= {name for name in names if _BESIDE.fullmatch(name)}
    if "sig" in names and names & {"sv", "se"}:
        signing |= {name for name in names if _SAS.fullmatch(name)}
    return signing


@lru_cache
def _added_and_excluded(signing: str) -> tuple[frozenset[str], frozenset[str]]:
    """The names that the setting `signing_parameters` adds and those that it excludes, in lower case."""
    names = [name for name in re.split(r"[\s,]+", signing.lower()) if name]
    excluded = frozenset(name[1:] for name in names if name.startswith("-"))
    return frozenset(name for name in names if not name.startswith("-")), excluded


def is_bucket(address: str) -> bool:
    """Whether a text is the address of a bucket or of an object in one, such as `s3://bucket/key`."""
    return bool(_BUCKET.match(address))


def bucket_parts(address: str) -> tuple[str, str]:
    """Split the address of an object into its bucket and its key.

    The bucket is an address such as `s3://bucket` or `abfss://container@account.dfs.core.windows.net`. The
    key is not decoded, and `?` and `#` are part of it.
    """
    scheme, _, rest = address.strip().partition("://")
    bucket, _, key = rest.partition("/")
    scheme = {"s3a": "s3", "azure": "az", "abfs": "abfss"}.get(scheme.lower(), scheme.lower())
    return f"{scheme}://{bucket}", key


def without_query(url: str) -> str:
    """A URL without its query, fragment and login. It may be malformed: this is for messages about it."""
    address = re.split(r"[?#]", url, maxsplit=1)[0]
    return re.sub(r"^([^/]*://)?[^/]*@", r"\1", address)
