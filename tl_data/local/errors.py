"""What the engine answers when it refuses: the API's own codes, statuses and sentences.

Routes raise an `APIProblem`; the app turns it into `{"code", "message"}`. What goes wrong with a video
after its task was accepted is a `MediaProblem`: it ends up in the task, not in an HTTP status.
"""

from __future__ import annotations

import errno
import json
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath, PureWindowsPath

from tl_data.errors import TLDataError

UNSAID = object()
LONGEST = 80  # characters of a value that a message shows


class APIProblem(Exception):
    """A refusal of one request."""

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, code, message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, str]:
        """The JSON of the answer."""
        return {"code": self.code, "message": self.message}


class MediaProblem(Exception):
    """A video, image or sound that cannot be taken, with the API's code for it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


class StorageFull(Exception):
    """Nothing more can be written: the disk, or the quota of this user, is full."""


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, says that nothing more can be written."""
    while error is not None:
        if isinstance(error, StorageFull):
            return True
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return True
        if isinstance(error, sqlite3.OperationalError):
            # SQLite names a full disk, or in a journal only a failed write or growth of a file.
            name = getattr(error, "sqlite_errorname", None) or ""
            if name == "SQLITE_FULL" or name.startswith(("SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHM")):
                return True
        error = error.__cause__ or error.__context__
    return False


def storage_full() -> APIProblem:
    """507: the engine's disk is full."""
    text = "The disk of the engine is full. Free some space, then send the request again."
    return APIProblem(507, "storage_full", text, {"Retry-After": "30"})


def shown(value: object) -> str:
    """A value as a message shows it, cut to a readable length."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def invalid(parameter: str, explanation: str, value: object = UNSAID) -> APIProblem:
    """400 for a parameter whose value is not allowed: the explanation says what is, `value` what came."""
    text = f"The {parameter} parameter is invalid. {explanation}"
    return APIProblem(
        400, "parameter_invalid", text if value is UNSAID else f"{text} You sent {shown(value)}."
    )


def one_of(parameter: str, allowed: Iterable[str], value: object) -> APIProblem:
    """400 for a value outside of a fixed set; of several values, the first that is."""
    allowed = list(allowed)
    if isinstance(value, list):
        value = next((item for item in value if item not in allowed), value)
    return invalid(parameter, f"You should use one of the following values: {', '.join(allowed)}.", value)


def not_provided(*parameters: str) -> APIProblem:
    """400 for required parameters that are missing."""
    if len(parameters) == 1:
        text = f"The {parameters[0]} parameter is required but was not provided."
    else:
        text = f"The following required parameters were not provided: {', '.join(parameters)}."
    return APIProblem(400, "parameter_not_provided", text)


def unknown_resource(resource_id: str, collection: str) -> APIProblem:
    """404 for an id that is well formed but not there."""
    text = f"Resource with id {resource_id} does not exist in {collection}."
    return APIProblem(404, "resource_not_exists", text)


def sunset(parameter: str, explanation: str) -> APIProblem:
    """400 for a value that was allowed once."""
    return APIProblem(400, "parameter_invalid", f"The {parameter} parameter is invalid. {explanation}")


def unknown_parameter(parameter: str) -> APIProblem:
    """400 for a parameter that does not exist."""
    return APIProblem(400, "parameter_unknown", f"The {parameter} parameter is unknown.")


def deprecated_endpoint(path: str) -> APIProblem:
    """410 for an endpoint that was switched off."""
    text = f"The endpoint {path} is deprecated. Please use /analyze instead."
    return APIProblem(410, "endpoint_deprecated", text)


def missing_endpoint(method: str, path: str) -> APIProblem:
    """404 for an endpoint that there is not."""
    return APIProblem(404, "endpoint_not_exists", f"The endpoint {method} {path[:200]} does not exist.")


def not_supported(path: str) -> APIProblem:
    """501 for what the service has and this engine has not."""
    text = f"The embedded engine has no {path[:200]}: knowledge stores, responses and connections need a key."
    return APIProblem(501, "not_supported", text)


def not_built(what: str) -> APIProblem:
    """501 for a part of an endpoint that this engine has not."""
    return APIProblem(501, "not_supported", f"The embedded engine has no {what}: they need a key.")


class AssetNotReady(APIProblem):
    """400 for an asset that is not ready yet, or has failed."""

    def __init__(self, asset_id: str, status: str) -> None:
        text = f"The asset_id parameter is invalid. The asset must be ready, but is {status}."
        super().__init__(400, "parameter_invalid", f"{text} You sent {shown(asset_id)}.")


def unknown_video(what: str = "") -> APIProblem:
    """404 of the video endpoints, which have their own code; `what` is the sentence that says which."""
    return APIProblem(404, "not_found", f"The specified resource does not exist. {what}".rstrip())


def from_elsewhere() -> APIProblem:
    """403 for a web page that speaks through the browser of this machine."""
    text = (
        "Pages of other sites may not use this engine. Ask it by its address, or give it a key (--api-key)."
    )
    return APIProblem(403, "host_not_allowed", text)


def key_invalid() -> APIProblem:
    """401 for a missing, wrong or expired key."""
    return APIProblem(
        401,
        "api_key_invalid",
        "API Key is either invalid or expired. Please check your API key or generate a new one from the "
        "dashboard and try again.",
    )


def token_expired(token: str) -> APIProblem:
    """400 for a page token that is too old, was never given out, or whose videos are gone."""
    return APIProblem(
        400,
        "search_page_token_expired",
        "The token that identifies the page to be retrieved is expired or invalid. You must make a new "
        f"search request. Token: {token}.",
    )


def filter_invalid(explanation: str, value: object = UNSAID) -> APIProblem:
    """400 for a search filter that is no filter: what is allowed, and the value that came."""
    if value is not UNSAID:
        explanation += f" You sent {shown(value)}."
    return APIProblem(
        400,
        "search_filter_invalid",
        "Filter used in search is invalid. Please use the valid filter syntax by following filtering "
        f"documentation. {explanation}",
    )


def rate_exceeded(limit: str, retry_at: str, headers: Mapping[str, str]) -> APIProblem:
    """429 as captured from the service: `limit` is like `100req/1day`, `retry_at` an RFC 3339 time."""
    text = f"You have exceeded the rate limit ({limit}). Please try again later after {retry_at}."
    return APIProblem(429, "too_many_requests", text, headers)


def shown_name(name: str) -> str:
    """The last part of a file name, whatever system it comes from; never a path."""
    name = PurePosixPath(PureWindowsPath(name.replace("\0", "")).name).name
    return "".join(c for c in name if c.isprintable()).strip(". ")[:200] or "upload"


def sized(size: float) -> str:
    """Bytes for people: `2GB`, `15.3MB`."""
    for unit in ("B", "KB", "MB"):
        if size < 1024:
            return f"{size:.4g}{unit}"
        size /= 1024
    return f"{size:.4g}GB"


class ModelFailed(TLDataError):
    """A model that was put in the place of a built-in stage cannot be loaded or used; says which and why."""
