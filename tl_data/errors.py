"""The exceptions that more than one package of tl_data raises or handles.

    TLDataError
    ├── SettingsError (ValueError)      a setting is missing, unreadable or contradicts another
    ├── MissingExtra (ImportError)      an optional package is not installed; the message has the pip command
    ├── SchemaMismatch (TypeError)      columns, types or models do not fit together
    ├── RowFailed                       one row failed a statement: which row, why, what to do
    ├── Cancelled                       the calls were cancelled
    ├── BudgetReached                   a SQL statement could exceed its budget; its next calls were not sent
    ├── LedgerError                     the ledger cannot be read or written safely
    ├── LakeError                       a table of the lake cannot be read or written safely
    ├── ExportError                     the target of an export is unreachable or full      (retryable)
    ├── MediaRefused                    the video file is not accepted; nothing was charged
    ├── TaskFailed                      a remote task was accepted and ended in `failed`
    ├── StillRunning                    a remote task did not finish before the deadline    (retryable)
    └── APIError                        the API returned an error, or did not respond
        ├── ConnectionFailed            no complete response arrived                        (retryable)
        ├── RateLimited                 429; retried after a wait                           (retryable)
        ├── ServerFailed                5xx, 408, 499                                       (retryable)
        ├── QuotaExhausted              402, or a quota that is refilled later or by payment
        ├── NotAllowed                  401, 403: the key is invalid or lacks the permission
        ├── NotFound                    404, 410
        └── BadRequest                  any other 4xx

The codes of the API take precedence over these statuses; `client.responses.CLASSES` has both. Exceptions of
one package are declared there, as subclasses of `TLDataError`: `SourceLocked`, `ModelFailed` and others.

`retryable` is true if the same call may succeed later. DuckDB and Spark pass on the text of an exception, not
its type, so the text contains the code and the id of the request or task, if the exception has them.
`next_step` returns the next step for a row of the table `errors`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from tl_data.urls import redacted


class ExitCode(IntEnum):
    """The exit codes of the command line."""

    DONE = 0
    FAILED = 1  # a row, a video or a call failed
    USAGE = 2  # the command, the job or its settings are wrong
    TRY_AGAIN = 3  # stopped at a limit or by an outage, or a file is locked: run it again
    INTERRUPTED = 130  # by Ctrl-C or SIGTERM: run it again


class TLDataError(Exception):
    """The base class of the exceptions of tl_data.

    The text of an exception may appear in logs, tables and Spark event logs. The constructor therefore masks
    API keys, and passwords and signatures in URLs.
    """

    retryable = False
    code: str | None = None
    http_status: int | None = None
    request_id: str | None = None

    def __init__(self, *args: object) -> None:
        super().__init__(*(redacted(arg) if isinstance(arg, str) else arg for arg in args))

    @property
    def kind(self) -> str:
        """The class name, as in the table `errors` and in `try_` results."""
        return type(self).__name__


class SettingsError(TLDataError, ValueError):
    """A setting is missing, unreadable or contradicts another one."""


class MissingExtra(TLDataError, ImportError):
    """An optional package is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        """Name the missing package.

        Args:
            what: the subject of the message "... is not installed".
            extra: the extra of tl_data that installs the package.
        """
        super().__init__(what, extra)
        self.what = what
        self.extra = extra

    def __str__(self) -> str:
        return f'{self.what} is not installed. Type: pip install "tl_data[{self.extra}]"'


class SchemaMismatch(TLDataError, TypeError):
    """Columns, types or models do not fit together."""


class RowFailed(TLDataError):
    """One row failed a statement. The text names the row, the cause and the next step."""


class Cancelled(TLDataError):
    """The calls were cancelled by Ctrl-C or `Connection.cancel()`."""


class BudgetReached(TLDataError):
    """A SQL statement could exceed its budget. No call of the batch that would exceed it was sent."""


class LedgerError(TLDataError):
    """The ledger cannot be read or written safely."""


class LakeError(TLDataError):
    """A table of the lake cannot be read or written safely. It is unchanged."""


class ExportError(TLDataError):
    """The target of an export is unreachable, full, or rejects the credentials. A later export continues."""

    retryable = True

    def __init__(self, message: str, code: str = "target_lost") -> None:
        super().__init__(message, code)
        self.code = code

    def __str__(self) -> str:
        return f"{self.args[0]} ({self.code})"


class MediaRefused(TLDataError):
    """The video file is not accepted. Nothing was charged.

    `code` is the API's code for the same reason (`video_duration_too_short`, ...).
    """

    def __init__(self, message: str, code: str = "video_file_broken") -> None:
        super().__init__(message, code)
        self.code = code

    def __str__(self) -> str:
        return f"{self.args[0]} ({self.code})"


class TaskFailed(TLDataError):
    """A remote task was accepted and ended in `failed`."""

    def __init__(self, message: str, task_id: str | None = None, code: str = "task_failed") -> None:
        super().__init__(message, task_id, code)
        self.task_id = task_id
        self.code = code

    def __str__(self) -> str:
        task = f", task {self.task_id}" if self.task_id else ""
        return f"{self.args[0]} ({self.code}{task})"


class StillRunning(TLDataError):
    """A remote task did not finish before the deadline. A later run continues it for free."""

    retryable = True
    code = "task_still_running"

    def __init__(self, message: str, task_id: str | None = None) -> None:
        super().__init__(message, task_id)
        self.task_id = task_id

    def __str__(self) -> str:
        return f"{self.args[0]} ({self.code}{f', task {self.task_id}' if self.task_id else ''})"


class APIError(TLDataError):
    """The API returned an error, or did not respond.

    `retry_after` is the wait in seconds that the server asked for, or None. `maybe_done` is true if the
    server may have processed the request although no response arrived.
    """

    maybe_done = False
    partial: str | None = None  # the part of the text that was received before an interruption
    minutes_about = 0.0  # minutes of the analyzed video; they are billed even if the response is unusable

    # Spark pickles exceptions, and an exception with keyword-only arguments cannot be unpickled.
    # So all arguments are positional.
    def __init__(
        self,
        message: str,
        code: str | None = None,
        http_status: int | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        docs_url: str | None = None,
    ) -> None:
        super().__init__(message, code, http_status, request_id, retry_after, docs_url)
        self.message = redacted(message)
        self.code = code
        self.http_status = http_status
        self.request_id = request_id
        self.retry_after = retry_after
        self.docs_url = docs_url

    def __str__(self) -> str:
        facts = [
            self.code or self.kind,
            f"HTTP {self.http_status}" if self.http_status else "",
            f"request {self.request_id}" if self.request_id else "",
            self.docs_url or "",
        ]
        return f"{self.message} ({', '.join(fact for fact in facts if fact)})"


class ConnectionFailed(APIError):
    """No complete response arrived: the connection was refused, reset, closed early, or timed out."""

    retryable = True


class RateLimited(APIError):
    """429. The call is retried after the wait that the server asks for, up to the setting `max_wait`.

    The setting `retries` does not count these repetitions.
    """

    retryable = True


class ServerFailed(APIError):
    """5xx, 408, 499, or a response that does not come from the API, such as an error page of a proxy."""

    retryable = True


class QuotaExhausted(APIError):
    """402, or a quota is exhausted until a later reset or a payment. The call is not retried."""


class NotAllowed(APIError):
    """401 or 403: the key is invalid, expired, or lacks the permission."""


class NotFound(APIError):
    """404 or 410: the index, video, task or endpoint does not exist."""


class BadRequest(APIError):
    """400, or a 4xx that no other class has: the request is invalid."""


#: Error codes of a server that does not support the form of a request.
_SHAPE_CODES = ("parameter_unknown", "content_type_invalid", "endpoint_not_exists", "endpoint_deprecated")
#: Messages about parameters that this package sets, not its user. They are also about the request's form.
_SHAPE_PARAMETERS = re.compile(
    r"\b(video_id|model_name|analysis_mode|input_type|stream|custom_id|search_options)\b[^.]{0,40}"
    r"\b(not supported|no longer|invalid|unknown|required|deprecated)\b|\buse (the )?video object\b"
    r"|\b(video|video_id|model_name|analysis_mode|input_type|stream|custom_id)\W* parameter is "
    r"(invalid|unknown)",
    re.IGNORECASE,
)


def is_shape_refusal(code: str | None, message: str) -> bool:
    """Whether a 4xx error is about the form of the request, not about the video or the user's arguments.

    This release of tl_data causes such an error. A later release may succeed with the same row.
    """
    if code in _SHAPE_CODES:
        return True
    return code in (None, "parameter_invalid", "parameter_not_provided", "generic_error") and bool(
        _SHAPE_PARAMETERS.search(message)
    )


#: Text that is added to the message of an error for which `is_shape_refusal` is true.
SHAPE_ADVICE = (
    "The server does not support this form of the request. The cause is this release of tl_data, not the "
    "video. Nothing was charged; upgrade tl_data and run again."
)

#: Next steps by error code. For any other code, `next_step` looks up the class, then `retryable`.
NEXT_BY_CODE = {
    "video_url_invalid": "Correct the address in the source. It must open without a login.",
    "video_file_broken": "Check that the file plays. Encode it again if it does not.",
    "engine_worker_failed": "Run it again, with more memory for each executor. If it fails again, encode the "
    "file again.",
    "video_duration_too_short": "The model needs a longer video. Remove the row from the source.",
    "video_duration_too_long": "Cut the video into parts, or choose a model with a higher limit.",
    "video_resolution_too_low": "Use a version with a higher resolution.",
    "video_resolution_too_high": "Use a version with a lower resolution.",
    "video_filesize_too_large": "Encode the video with a lower bit rate, or cut it.",
    "frames_unreadable": "Check that the video opens on this machine. Its other rows are in the lake.",
    "video_audio_too_short": "Use a longer recording.",
    "api_key_invalid": "Set TL_API_KEY to a valid key, then run the job again.",
    "usage_limit_exceeded": "Wait until the quota is renewed or raise it, then run the job again.",
    "task_failed": "Run the job again. If it fails again, report the task id to the platform's support.",
    "task_still_running": "Run the job again later. It waits for the same task, which is not charged again.",
}
NEXT_BY_CLASS = {
    "ConnectionFailed": "Check the network, then run the job again.",
    "RateLimited": "Run the job again later, or lower the setting `requests_per_minute`.",
    "ServerFailed": "Run the job again. If it fails again, report the request id to the platform's support.",
    "QuotaExhausted": "Wait until the quota is renewed or raise it, then run the job again.",
    "NotAllowed": "Check the key and its permissions, then run the job again.",
    "NotFound": "Check the id or address in the source.",
    "MediaRefused": "Replace the file, or remove its row from the source.",
    "BadRequest": "Change the job as the message says, then run the job again.",
}


def next_step(row: Mapping[str, Any]) -> str:
    """The user's next step after the error in a row of the table `errors`, as a text."""
    step = NEXT_BY_CODE.get(str(row.get("code"))) or NEXT_BY_CLASS.get(str(row.get("class")))
    if step:
        return step
    if row.get("retryable"):
        return "Run the job again: this may succeed next time."
    return "Correct the source as the message says, then run the job again."
