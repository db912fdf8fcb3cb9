"""An outcome as a row of the `try_` form: the one contract of all engines."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tl_data.errors import TLDataError
from tl_data.pool import Outcome

API_VERSION = "1.3"


def outcome_row(outcome: Outcome) -> dict[str, Any] | None:
    """The outcome as plain Python objects in the shape of `types.outcome_of(...)`.

    Exactly one of value and error is set; a NULL input gives a row whose value and error are both NULL.
    """
    slip = outcome.receipt
    return {
        "value": outcome.value,
        "error": None if outcome.error is None else error_row(outcome.error),
        "usage": {
            "calls": slip.calls,
            "video_minutes": slip.video_minutes,
            "input_tokens": slip.input_tokens,
            "output_tokens": slip.output_tokens,
            "reused": slip.reused,
        },
        "provenance": {
            "model": f"{slip.model} ({slip.fallback})" if slip.fallback else slip.model,
            "api_version": API_VERSION,
            "task_id": slip.task_id,
            "content_key": slip.content_key,
            "at": datetime.now(UTC),
        },
    }


def error_row(error: BaseException) -> dict[str, Any]:
    """An error as a record of type `types.ERROR`."""
    ours = isinstance(error, TLDataError)
    return {
        "class": type(error).__name__,
        "code": getattr(error, "code", None) if ours else None,
        "http_status": getattr(error, "http_status", None) if ours else None,
        "message": str(error),
        "retryable": bool(getattr(error, "retryable", False)),
        "request_id": getattr(error, "request_id", None) if ours else None,
    }
