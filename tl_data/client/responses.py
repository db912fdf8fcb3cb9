"""What an answer of the API means: which error it is, how long it asks us to wait, what it says of a video.

One table maps codes and statuses to classes. The body may have the documented shape, be nested under `error`,
be a page of a proxy, or be empty; the wait may be said in `Retry-After` (seconds or a date), in
`X-Ratelimit-*-Reset` (seconds since 1970), or only in the sentence of the message.
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

#: Code or status -> class. A code is looked up first; any other 4xx is a BadRequest, any 5xx a ServerFailed.
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

#: Codes with which the API refuses a video for what it is; `preflight` says the same before the upload.
MEDIA_CODES = re.compile(r"video_(resolution|duration|file|filesize)_\w+|video_audio_track_not_exists")

#: What to do next, by code or status, where the API's own sentence does not say it.
ADVICE: dict[str | int, str] = {
    "api_key_invalid": "Set TL_API_KEY to a valid key.",
    "endpoint_not_exists": "Check TL_BASE_URL: it ends in the version, such as /v1.3.",
    "resource_not_exist": "Check the id; it may have been deleted or belong to another account.",
    "resource_not_exists": "Check the id; it may have been deleted or belong to another account.",
    "video_not_ready": "Wait until its indexing task is ready.",
    "search_page_token_expired": "Page tokens live about 15 minutes: search again, with a larger page_limit.",
    "usage_limit_exceeded": "Nothing was done; what was paid for before is kept and reused.",
    "insufficient_funds": "Nothing was done; what was paid for before is kept and reused.",
    401: "Set TL_API_KEY to a valid key.",
    403: "The key may not do this.",
    413: "The request is larger than the server takes.",
}

_TITLE = re.compile(r"(?is)<title[^>]*>\s*(.*?)\s*</title>")


def error_from(
    status: int, headers: Mapping[str, str], body: bytes, asked: str, now: datetime | None = None
) -> TLDataError:
    """The error an answer that is not 2xx stands for. `asked` names the call, such as 'POST /tasks'."""
    code, message, docs_url = _said(body)
    if code and MEDIA_CODES.fullmatch(code):
        refused = MediaRefused(redacted(message or code), code)
        refused.http_status, refused.request_id = status, request_id_of(headers)
        return refused
    default = ServerFailed if status >= 500 else BadRequest
    kind = CLASSES.get(code or "") or CLASSES.get(status) or default
    if message is None:
        message = _without_words(status, body, asked)
    advice = ADVICE.get(code or "") or ADVICE.get(status)
    if code is None and status in (404, 405):  # not in the API's words, so hardly the API
        advice = ADVICE["endpoint_not_exists"]
    sentences = [f"{message.rstrip('. ')}.", advice if advice and advice not in message else ""]
    wait = wait_hint(headers, message, now)
    return kind(
        redacted(" ".join(filter(None, sentences))), code, status, request_id_of(headers), wait, docs_url
    )


def unreadable(status: int, headers: Mapping[str, str], body: bytes, asked: str) -> ServerFailed:
    """The error a 2xx stands for whose body is not the JSON it should be."""
    return ServerFailed(
        redacted(_without_words(status, body, asked)), "answer_unreadable", status, request_id_of(headers)
    )


def request_id_of(headers: Mapping[str, str]) -> str | None:
    """The id under which the provider finds this call in its logs."""
    return headers.get("x-trace-id") or headers.get("x-request-id") or headers.get("cf-ray")


def _said(body: bytes) -> tuple[str | None, str | None, str | None]:
    """Code, message and docs_url of a JSON error body; all None if it is not one."""
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None, None, None
    if isinstance(said, dict) and isinstance(said.get("error"), dict):
        said = said["error"]
    if not isinstance(said, dict):
        return None, None, None
    code = said.get("code", said.get("error_code"))
    message = said.get("message") or said.get("error") or said.get("detail") or code
    return (
        None if code is None else str(code),
        None if message is None else str(message),
        said["docs_url"] if isinstance(said.get("docs_url"), str) else None,
    )


def _without_words(status: int, body: bytes, asked: str) -> str:
    """A sentence for an answer that is not the API's."""
    text = body[:4096].decode("utf-8", "replace").strip()
    if not text:
        return f"{asked} was answered with HTTP {status} and nothing more"
    if text.startswith("<") or "<html" in text.lower():
        title = _TITLE.search(text)
        page = f' titled "{title[1][:100]}"' if title else ""
        return (
            f"{asked} was answered with HTTP {status} and a web page{page} instead of JSON: "
            "a proxy on the way, or TL_BASE_URL is not the address of the API"
        )
    return f"{asked} was answered with HTTP {status} and {len(body)} bytes that are not JSON: {text[:100]!r}"


def decoded(body: bytes) -> dict[str, Any] | None:
    """The JSON object of a body; {} for an empty one; None when it is something else."""
    if not body.strip():
        return {}
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def seconds_of(video: Mapping[str, Any]) -> float | None:
    """The length in the API's video object, if it is there."""
    return (video.get("system_metadata") or {}).get("duration")


def video_record(video: Mapping[str, Any], index_id: str, task_id: str | None) -> dict[str, Any]:
    """The API's video object as a record of type `types.VIDEO`."""
    facts = video.get("system_metadata") or {}
    return {
        "video_id": video["_id"],
        "index_id": index_id,
        "task_id": task_id,
        "status": "ready",
        "duration_sec": facts.get("duration"),
        "width": facts.get("width"),
        "height": facts.get("height"),
        "fps": facts.get("fps"),
        "size_bytes": facts.get("size"),
        "asset_id": video.get("asset_id"),
    }
