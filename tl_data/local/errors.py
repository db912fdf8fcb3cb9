"""Errors of the engine, with the codes, statuses and messages of the service, and functions that make them.

Routes raise an `EngineError`, which the app returns as `{"code", "message"}`. If processing of a video fails
after its task was accepted, a `MediaError` is raised. It becomes the error of the task.
"""

from __future__ import annotations

import errno
import json
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath, PureWindowsPath

from tl_data.errors import TLDataError

UNSET = object()  # stands for a value that is not given, since None is a valid value
MAX_VALUE_CHARS = 80  # largest number of characters of a value in a message


class EngineError(Exception):
    """An error response to one request."""

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
        """The JSON of the response."""
        return {"code": self.code, "message": self.message}


class MediaError(Exception):
    """A video, image or sound recording cannot be processed. `code` is that of the service."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


class StorageFull(Exception):
    """The disk or the disk quota of this user is full, or a file has reached the size limit."""


def is_full(error: BaseException | None) -> bool:
    """Whether the cause of an error is that no more bytes can be written.

    That is: the disk or the disk quota is full, or a file has reached the size limit of the file system or of
    this process (EFBIG).
    """
    while error is not None:
        if isinstance(error, StorageFull):
            return True
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return True
        if isinstance(error, sqlite3.OperationalError):
            # On a full disk, SQLite reports SQLITE_FULL, a failed write, or in WAL mode a failure of the file
            # that it maps as shared memory, which grows with the log.
            name = getattr(error, "sqlite_errorname", None) or ""
            if name == "SQLITE_FULL" or name.startswith(("SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHM")):
                return True
        error = error.__cause__ or error.__context__
    return False


def storage_full() -> EngineError:
    """507: the engine's disk is full."""
    text = "The disk of the engine is full. Free some space, then send the request again."
    return EngineError(507, "storage_full", text, {"Retry-After": "30"})


def too_many_connections() -> EngineError:
    """503: every connection that the engine allows has a request in progress."""
    text = "The engine has too many open connections. Wait for earlier requests to end, then try again."
    return EngineError(503, "too_many_connections", text, {"Retry-After": "1"})


def format_value(value: object) -> str:
    """Format a value for a message, cut to `MAX_VALUE_CHARS` characters."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MAX_VALUE_CHARS else f"{text[:MAX_VALUE_CHARS]}..."


def invalid(parameter: str, explanation: str, value: object = UNSET) -> EngineError:
    """400 for an invalid parameter. `explanation` says what is allowed, and `value` was sent."""
    text = f"The {parameter} parameter is invalid. {explanation}"
    return EngineError(
        400, "parameter_invalid", text if value is UNSET else f"{text} You sent {format_value(value)}."
    )


def one_of(parameter: str, allowed: Iterable[str], value: object) -> EngineError:
    """400 for a value that is not one of `allowed`. For a list, the message names its first such item."""
    allowed = list(allowed)
    if isinstance(value, list):
        value = next((item for item in value if item not in allowed), value)
    return invalid(parameter, f"You should use one of the following values: {', '.join(allowed)}.", value)


def not_provided(*parameters: str) -> EngineError:
    """400 for required parameters that are missing."""
    if len(parameters) == 1:
        text = f"The {parameters[0]} parameter is required but was not provided."
    else:
        text = f"The following required parameters were not provided: {', '.join(parameters)}."
    return EngineError(400, "parameter_not_provided", text)


def unknown_resource(resource_id: str, collection: str) -> EngineError:
    """404 for an unknown id."""
    text = f"Resource with id {resource_id} does not exist in {collection}."
    return EngineError(404, "resource_not_exists", text)


def unknown_parameter(parameter: str) -> EngineError:
    """400 for a parameter that does not exist."""
    return EngineError(400, "parameter_unknown", f"The {parameter} parameter is unknown.")


def removed_endpoint(path: str) -> EngineError:
    """410 for an endpoint that the service has removed, with its message."""
    text = f"The endpoint {path} is deprecated. Please use /analyze instead."
    return EngineError(410, "endpoint_deprecated", text)


def unknown_endpoint(method: str, path: str) -> EngineError:
    """404 for an unknown endpoint."""
    return EngineError(404, "endpoint_not_exists", f"The endpoint {method} {path[:200]} does not exist.")


def endpoint_not_implemented(path: str) -> EngineError:
    """501 for an endpoint of the service that the engine does not implement."""
    text = f"The embedded engine does not implement {path[:200]}. Use the TwelveLabs API, with an API key."
    return EngineError(501, "not_supported", text)


def option_not_implemented(what: str) -> EngineError:
    """501 for an option or a kind of input of an endpoint that the engine does not implement."""
    text = f"The embedded engine does not implement {what}. Use the TwelveLabs API, with an API key."
    return EngineError(501, "not_supported", text)


class AssetNotReady(EngineError):
    """400 for an asset that is still processing or has failed."""

    def __init__(self, asset_id: str, status: str) -> None:
        text = f"The asset_id parameter is invalid. The asset must be ready, but is {status}."
        super().__init__(400, "parameter_invalid", f"{text} You sent {format_value(asset_id)}.")


def unknown_video(detail: str = "") -> EngineError:
    """404 of the video endpoints, which have their own code. `detail` is added to the message."""
    return EngineError(404, "not_found", f"The specified resource does not exist. {detail}".rstrip())


def cross_origin() -> EngineError:
    """403 for a request from a web page of another origin, or with a Host header that is not loopback."""
    text = (
        "Requests from other origins or to other hosts are not allowed. Use the loopback address, or start "
        "the engine with --api-key."
    )
    return EngineError(403, "host_not_allowed", text)


def key_invalid() -> EngineError:
    """401 for a missing, wrong or expired key."""
    return EngineError(
        401,
        "api_key_invalid",
        "API Key is either invalid or expired. Please check your API key or generate a new one from the "
        "dashboard and try again.",
    )


def token_expired(token: str) -> EngineError:
    """400 for a page token that is expired or unknown, or whose videos were deleted."""
    return EngineError(
        400,
        "search_page_token_expired",
        "The token that identifies the page to be retrieved is expired or invalid. You must make a new "
        f"search request. Token: {token}.",
    )


def filter_invalid(explanation: str, value: object = UNSET) -> EngineError:
    """400 for an invalid search filter. `explanation` says what is allowed; `value` was sent."""
    if value is not UNSET:
        explanation += f" You sent {format_value(value)}."
    return EngineError(
        400,
        "search_filter_invalid",
        "Filter used in search is invalid. Please use the valid filter syntax by following filtering "
        f"documentation. {explanation}",
    )


def rate_exceeded(limit: str, retry_at: str, headers: Mapping[str, str]) -> EngineError:
    """429 for an exhausted rate limit, as the service answers.

    Args:
        limit: the limit as text, such as `100req/1day`.
        retry_at: an RFC 3339 time.
    """
    text = f"You have exceeded the rate limit ({limit}). Please try again later after {retry_at}."
    return EngineError(429, "too_many_requests", text, headers)


def safe_file_name(name: str) -> str:
    """The last component of a path of any operating system, without control characters."""
    name = PurePosixPath(PureWindowsPath(name.replace("\0", "")).name).name
    return "".join(c for c in name if c.isprintable()).strip(". ")[:200] or "upload"


def format_bytes(size: float) -> str:
    """Format a number of bytes: `2GB`, `15.3MB`."""
    for unit in ("B", "KB", "MB"):
        if size < 1024:
            return f"{size:.4g}{unit}"
        size /= 1024
    return f"{size:.4g}GB"


class ModelFailed(TLDataError):
    """A configured model cannot be loaded or used. The message says which model and why."""
