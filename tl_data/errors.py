"""Everything that can go wrong, as one tree.

    TLDataError
    ├── SettingsError (ValueError)      a setting is missing, unreadable or contradicts another
    ├── MissingExtra (ImportError)      an optional package is not installed; says the line to type
    ├── SchemaMismatch (TypeError)      columns, types or models do not fit together
    ├── RowFailed                       one row failed a statement: which row, why, what to do
    ├── Cancelled                       the calls were stopped on purpose
    ├── BudgetReached                   the run stopped itself at its budget or failure limit
    ├── LedgerError                     the ledger cannot be read or written safely
    ├── LakeError                       a table of the lake cannot be read or written safely
    ├── ExportError                     the target of an export cannot be reached, or is full
    ├── MediaRefused                    the video cannot be taken, known before anything was paid
    ├── TaskFailed                      a remote task was accepted, worked on, and ended in `failed`
    ├── StillRunning                    a remote task goes on; we stopped waiting             (retryable)
    └── APIError                        the API answered with an error, or did not answer
        ├── ConnectionFailed            no complete answer arrived                     (retryable)
        ├── RateLimited                 429; wait as the server says, no attempt spent (retryable)
        ├── ServerFailed                5xx                                            (retryable)
        ├── QuotaExhausted              a quota that only time or money refills
        ├── NotAllowed                  401, 403: the key is wrong or may not do this
        ├── NotFound                    404, 410
        └── BadRequest                  every other 4xx

`retryable` says whether sending the same thing again can help. The types do not survive the
boundary of DuckDB or Spark, the text does: so the text carries code, request id and next step.
"""

from __future__ import annotations

import re


class TLDataError(Exception):
    """Base of every error this package raises on purpose."""

    retryable = False
    code: str | None = None
    http_status: int | None = None
    request_id: str | None = None

    @property
    def kind(self) -> str:
        """The class name, as it stands in the `errors` table and in `try_` results."""
        return type(self).__name__


class SettingsError(TLDataError, ValueError):
    """A setting is missing, unreadable or contradicts another one."""


class MissingExtra(TLDataError, ImportError):
    """An optional package is not installed."""

    def __init__(self, what: str, extra: str) -> None:
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
    """The calls were stopped on purpose: Ctrl-C, or `Connection.cancel()`."""


class BudgetReached(TLDataError):
    """The run stopped itself at its budget or failure limit; what was paid for is kept."""


class LedgerError(TLDataError):
    """The ledger cannot be read or written safely."""


class LakeError(TLDataError):
    """A table of the lake cannot be read or written safely; it is as it was before."""


class ExportError(TLDataError):
    """The target of an export is away, full or refuses the credentials; a later export goes on."""

    retryable = True

    def __init__(self, message: str, code: str = "target_lost") -> None:
        super().__init__(message, code)
        self.code = code

    def __str__(self) -> str:
        return f"{self.args[0]} ({self.code})"


class MediaRefused(TLDataError):
    """The video cannot be taken: known from its headers, before anything was paid.

    `code` is the API's own code for the same refusal (`video_duration_too_short`, ...).
    """

    def __init__(self, message: str, code: str = "video_file_broken") -> None:
        super().__init__(message, code)
        self.code = code

    def __str__(self) -> str:
        return f"{self.args[0]} ({self.code})"


class TaskFailed(TLDataError):
    """A remote task was accepted, worked on, and ended in `failed`."""

    def __init__(self, message: str, task_id: str | None = None, code: str = "task_failed") -> None:
        super().__init__(message, task_id, code)
        self.task_id = task_id
        self.code = code

    def __str__(self) -> str:
        task = f", task {self.task_id}" if self.task_id else ""
        return f"{self.args[0]} ({self.code}{task})"


class StillRunning(TLDataError):
    """A remote task is not finished at its deadline. It goes on: a later run re-attaches and pays nothing."""

    retryable = True
    code = "task_still_running"

    def __init__(self, message: str, task_id: str | None = None) -> None:
        super().__init__(message, task_id)
        self.task_id = task_id

    def __str__(self) -> str:
        return f"{self.args[0]} ({self.code}{f', task {self.task_id}' if self.task_id else ''})"


class APIError(TLDataError):
    """The API answered with an error, or did not answer.

    `retry_after` is the wait in seconds that the server asked for, if it asked.
    """

    maybe_done = (
        False  # no answer came, but the server may have carried the request out: look before repeating
    )
    partial: str | None = None  # of a generated text: what was received before it broke off
    minutes_about = 0.0  # of the video that the call was about: an answer that cannot be used costs them, too

    # Every field goes through positional arguments: an exception with a keyword-only __init__
    # cannot be unpickled, and Spark pickles exceptions.
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
        self.message = message
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
    """No complete answer arrived: refused, reset, timed out, cut off."""

    retryable = True


class RateLimited(APIError):
    """429. Waiting as long as the server says helps, and costs no attempt."""

    retryable = True


class ServerFailed(APIError):
    """5xx, or an answer that is not the API's (an error page of a proxy)."""

    retryable = True


class QuotaExhausted(APIError):
    """A quota that refills tomorrow or with money: waiting in line would not help."""


class NotAllowed(APIError):
    """401 or 403: the key is wrong, expired, or may not do this."""


class NotFound(APIError):
    """404 or 410: no such index, video, task or endpoint."""


class BadRequest(APIError):
    """400 and every other 4xx: the request itself must change."""


#: Codes with which a server refuses the form of a request, whatever it is about.
_SHAPE_CODES = ("parameter_unknown", "content_type_invalid", "endpoint_not_exists", "endpoint_deprecated")
#: Parameters that this package chooses, not its user; a refusal that names one is about the request's form.
_SHAPE_PARAMETERS = re.compile(
    r"\b(video_id|model_name|analysis_mode|input_type|stream|custom_id|search_options)\b[^.]{0,40}"
    r"\b(not supported|no longer|invalid|unknown|required|deprecated)\b|\buse (the )?video object\b"
    r"|\b(video|video_id|model_name|analysis_mode|input_type|stream|custom_id)\W* parameter is "
    r"(invalid|unknown)",
    re.IGNORECASE,
)


def is_shape_refusal(code: str | None, message: str) -> bool:
    """Whether a refusal (HTTP 400 and the like) is about the form of the request, not about the video or
    what its user asked: then the release is to blame, and a later one may succeed with the same row.
    """
    if code in _SHAPE_CODES:
        return True
    return code in (None, "parameter_invalid", "parameter_not_provided", "generic_error") and bool(
        _SHAPE_PARAMETERS.search(message)
    )


#: What a message says then.
SHAPE_ADVICE = (
    "The server does not take this form of the request: this release of tl_data is to blame, not the video. "
    "Nothing was paid; upgrade tl_data and run again."
)
