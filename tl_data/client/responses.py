"""Conversion of the API's responses to exceptions and records.

`CLASSES` maps codes and statuses to classes of exceptions. The error body may have the documented form, be
nested under `error`, be an HTML page of a proxy, or be empty. The time to wait before a retry is read from
`Retry-After` (seconds or a date), from `X-Ratelimit-*-Reset` (Unix time), or else from the message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson

from tl_data.errors import (
    APIError,
    BadRequest,
    MediaRefused,
    NotAllowed,
    NotFound,
    QuotaExhausted,
    RateLimited,
    ServerFailed,
    TLDataError,
)
from tl_data.ratelimit.headers import wait_hint
from tl_data.urls import redacted

#: Exceptions by code (checked first) or status. Any other 4xx is a BadRequest, any other 5xx a ServerFailed.
CLASSES: dict[str | int, type[APIError]] = {
    "api_key_invalid": NotAllowed,
    "unauthorized": NotAllowed,
    "api_not_allowed": NotAllowed,
    "api_allowed_for_paid_plan": NotAllowed,
    "region_not_allowed": NotAllowed,
    "read_not_allowed": NotAllowed,
    "resource_not_exist": NotFound,
    "resource_not_exists": NotFound,
    "not_found": NotFound,
    "endpoint_not_exists": NotFound,
    "endpoint_deprecated": NotFound,
    "too_many_requests": RateLimited,
    "usage_limit_exceeded": QuotaExhausted,
    "insufficient_funds": QuotaExhausted,
    "request_canceled_or_timed_out": ServerFailed,
    401: NotAllowed,
    402: QuotaExhausted,
    403: NotAllowed,
    404: NotFound,
    408: ServerFailed,
    410: NotFound,
    429: RateLimited,
    499: ServerFailed,
}

#: Error codes of the API for a rejected video file. `media.preflight` uses the same codes before an upload.
MEDIA_CODES = re.compile(r"video_(resolution|duration|file|filesize)_\w+|video_audio_track_not_exists")

#: The cause or the next step, by code or status, as a sentence. It is added to messages of the API that do
#: not contain it. The next steps of the table `errors` are `errors.NEXT_BY_CODE` and `NEXT_BY_CLASS`.
ADVICE: dict[str | int, str] = {
    "api_key_invalid": "Set TL_API_KEY to a valid key.",
    "endpoint_not_exists": "Check TL_BASE_URL: it must end in the API version, such as /v1.3.",
    "resource_not_exist": "Check the id; it may have been deleted or belong to another account.",
    "resource_not_exists": "Check the id; it may have been deleted or belong to another account.",
    "video_not_ready": "Wait until its indexing task is ready.",
    "search_page_token_expired": (
        "Page tokens expire after about 15 minutes: search again, with a larger page_limit."
    ),
    "usage_limit_exceeded": "This request was not processed; results that were paid for are kept and reused.",
    "insufficient_funds": "This request was not processed; results that were paid for are kept and reused.",
    401: "Set TL_API_KEY to a valid key.",
    403: "The API key does not allow this operation.",
    413: "The request is larger than the server accepts.",
}

_TITLE = re.compile(r"(?is)<title[^>]*>\s*(.*?)\s*</title>")


def error_from(
    status: int, headers: Mapping[str, str], body: bytes, request: str, now: datetime | None = None
) -> TLDataError:
    """The exception for a response that is not 2xx.

    Args:
        request: the name of the request, such as 'POST /tasks'.
        now: the current time, for responses without a Date header; by default the clock of this machine.
    """
    code, message, docs_url = _error_fields(body)
    if code and MEDIA_CODES.fullmatch(code):
        refused = MediaRefused(redacted(message or code), code)
        refused.http_status, refused.request_id = status, request_id_of(headers)
        return refused
    default = ServerFailed if status >= 500 else BadRequest
    error_class = CLASSES.get(code or "") or CLASSES.get(status) or default
    if message is None:
        message = _describe_body(status, body, request)
    advice = ADVICE.get(code or "") or ADVICE.get(status)
    if code is None and status in (404, 405):  # no error body of the API, so probably another server
        advice = ADVICE["endpoint_not_exists"]
    sentences = [f"{message.rstrip('. ')}.", advice if advice and advice not in message else ""]
    wait = wait_hint(headers, message, now)
    return error_class(
        redacted(" ".join(filter(None, sentences))), code, status, request_id_of(headers), wait, docs_url
    )


def unreadable(status: int, headers: Mapping[str, str], body: bytes, request: str) -> ServerFailed:
    """The exception for a 2xx response whose body is not the expected JSON."""
    return ServerFailed(
        redacted(_describe_body(status, body, request)), "answer_unreadable", status, request_id_of(headers)
    )


def request_id_of(headers: Mapping[str, str]) -> str | None:
    """The id of the request in the platform's logs."""
    return headers.get("x-trace-id") or headers.get("x-request-id") or headers.get("cf-ray")


def _error_fields(body: bytes) -> tuple[str | None, str | None, str | None]:
    """Code, message and docs_url of a JSON error body; all None if the body has another form."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None, None, None
    if isinstance(fields, dict) and isinstance(fields.get("error"), dict):
        fields = fields["error"]
    if not isinstance(fields, dict):
        return None, None, None
    code = fields.get("code", fields.get("error_code"))
    message = fields.get("message") or fields.get("error") or fields.get("detail") or code
    return (
        None if code is None else str(code),
        None if message is None else str(message),
        fields["docs_url"] if isinstance(fields.get("docs_url"), str) else None,
    )


def _describe_body(status: int, body: bytes, request: str) -> str:
    """The message for a response without an error body of the API."""
    text = body[:4096].decode("utf-8", "replace").strip()
    if not text:
        return f"{request} returned HTTP {status} with an empty body"
    if text.startswith("<") or "<html" in text.lower():
        title = _TITLE.search(text)
        page = f' titled "{title[1][:100]}"' if title else ""
        return (
            f"{request} returned HTTP {status} with an HTML page{page} instead of JSON: "
            "a proxy answered, or TL_BASE_URL is not the address of the API"
        )
    size = f"{len(body)} bytes that are not the expected JSON"
    return f"{request} returned HTTP {status} with {size}: {text[:100]!r}"


def decoded(body: bytes) -> dict[str, Any] | None:
    """The JSON object in a body; {} if the body is empty, None if it is anything else."""
    if not body.strip():
        return {}
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def seconds_of(video: Mapping[str, Any]) -> float | None:
    """The duration in seconds from the API's video object, None if it has none."""
    return (video.get("system_metadata") or {}).get("duration")


def video_record(video: Mapping[str, Any], index_id: str, task_id: str | None) -> dict[str, Any]:
    """Convert the API's video object to a record of type `types.VIDEO`."""
    metadata = video.get("system_metadata") or {}
    return {
        "video_id": video["_id"],
        "index_id": index_id,
        "task_id": task_id,
        "status": "ready",
        "duration_sec": metadata.get("duration"),
        "width": metadata.get("width"),
        "height": metadata.get("height"),
        "fps": metadata.get("fps"),
        "size_bytes": metadata.get("size"),
        "asset_id": video.get("asset_id"),
    }
