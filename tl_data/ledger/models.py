"""The records of the ledger: calls, their states, and entries as readers see them.

The records of one call are small objects in one folder, each created once:

    0001.claim        a process is about to make the call; rewritten by its owner when it renews the lease
    0001.submitted    the id of the remote task, written before the first poll
    0001.failed       the error, and whether it is retryable
    0001.result.json  or .arrow: a large result, written before `done` refers to it
    done              the result, or the name of the object with the result

The number counts attempts: a take-over or a retry is the next claim. The state of a call follows from the
names alone, so concurrent writers cannot leave an undefined state.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import orjson

import tl_data.errors as errors
from tl_data.billing import Charge
from tl_data.errors import APIError, LedgerError, TLDataError
from tl_data.media.identity import canonical_url, is_url
from tl_data.urls import redacted, without_signatures

FORMAT = 1  # of the records; a reader refuses records of later formats

#: Seconds for which billed answers are shared: longer than the time between a killed run and the next one.
BILLED_KEEP = 7 * 86400.0

#: Codes of failed tasks that are not caused by the video: the next run may try again.
UNEXPLAINED = (
    *("task_failed", "internal_error", "internal_server_error", "answer_unreadable"),
    *("task_canceled", "user_canceled", "batch_canceled", "batch_expired", "batch_processing_timeout"),
)

#: Codes of temporary failures: the file's server was down, or a signature expired. They are never final, also
#: in records of earlier releases, which took them for final.
PASSING = ("video_url_not_accessible",)

State = Literal["claimed", "submitted", "done", "failed"]


@dataclass(frozen=True)
class Call:
    """The identity of a paid call.

    A call with a `scope` is shared only among the workers of one session and for `keep` seconds. `content`
    (for messages) and `video_minutes` (the cost of a submission) are not part of the key.
    """

    operation: str
    content_key: str
    params: Mapping[str, Any] = field(default_factory=dict)  # JSON values; None means not given
    model: str | None = None
    scope: str | None = None
    keep: float = field(default=300.0, compare=False)
    content: str | None = field(default=None, compare=False)
    video_minutes: float = field(default=0.0, compare=False)
    units: int = field(default=1, compare=False)  # billed calls; 0 if another call includes it

    @cached_property
    def key(self) -> str:
        """32 hex digits."""
        parts = [self.operation, self.content_key, self.clean_params, self.model, self.scope]
        return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]

    @cached_property
    def clean_params(self) -> dict[str, Any]:
        """The parameters in canonical form, without signatures."""
        cleaned = _clean(self.params)
        assert isinstance(cleaned, dict)
        return cleaned

    @property
    def folder(self) -> str:
        """The current folder of the records, relative to the ledger's address."""
        return self.folders()[-1]

    def folders(self) -> list[str]:
        """The folders that may have records. Shared answers are in folders by time slot, so that expired ones
        are deleted as a whole. An answer of the slot before may still be fresh.
        """
        place = f"{self.key[:2]}/{self.key}"
        if self.scope is None:
            return [f"calls/{place}"]
        length = max(1, int(self.keep))
        now = int(time.time() // length)
        return [f"shared/{length}-{slot:012d}/{place}" for slot in (now - 1, now)]

    def described(self) -> dict[str, Any]:
        """The fields of every record, so that each can be read alone."""
        return {
            "operation": self.operation,
            "content": redacted(self.content) if self.content else None,
            "content_key": self.content_key,
            "params": self.clean_params,
            "model": self.model,
            "scope": self.scope,
        }


@dataclass(frozen=True)
class Billed:
    """An answer with its cost, if that is known only after the call."""

    answer: Any
    video_minutes: float


@dataclass(frozen=True)
class Failure:
    """The recorded failure of a call. `retryable`: a later run may try it again."""

    kind: str
    message: str
    retryable: bool
    code: str | None = None
    http_status: int | None = None
    request_id: str | None = None
    task_id: str | None = None

    @classmethod
    def of(cls, error: Exception, task_id: str | None = None, secrets: tuple[str, ...] = ()) -> Failure:
        """The failure of an exception. It is final only if the call itself is the cause: with another quota,
        API key or state of the server, the same call may succeed.
        """
        if isinstance(error, APIError | errors.TaskFailed | errors.MediaRefused):
            message = str(error.args[0])
        else:
            message = str(error)
        final = isinstance(error, errors.BadRequest | errors.TaskFailed | errors.MediaRefused)
        code = getattr(error, "code", None)
        if code in PASSING or (isinstance(error, errors.TaskFailed) and code in UNEXPLAINED):
            final = False
        if isinstance(error, errors.BadRequest) and errors.is_shape_refusal(error.code, message):
            final = False  # caused by this release: another one may succeed
        return cls(
            kind=type(error).__name__,
            message=redacted(message, *secrets),
            retryable=not final or bool(getattr(error, "retryable", False)),
            code=getattr(error, "code", None),
            http_status=getattr(error, "http_status", None),
            request_id=getattr(error, "request_id", None),
            task_id=getattr(error, "task_id", None) or task_id,
        )

    def exception(self, key: str | None) -> TLDataError:
        """The exception, of the same class, with the next step in its message, except for shared answers."""
        kind = getattr(errors, self.kind, TLDataError)
        if not (isinstance(kind, type) and issubclass(kind, TLDataError)):
            kind = TLDataError
        hint = ""
        if key is not None and not self.retryable:
            hint = f"; known from the ledger, `tl-data ledger forget {key}` tries it again"
        message = self.message + hint
        error: TLDataError
        if issubclass(kind, APIError):
            error = kind(message, self.code, self.http_status, self.request_id)
        elif kind is errors.TaskFailed:
            error = errors.TaskFailed(message, self.task_id, self.code or "task_failed")
        elif kind is errors.MediaRefused:
            error = errors.MediaRefused(message, self.code or "video_file_broken")
        elif kind is errors.MissingExtra:
            error = TLDataError(message)
        else:
            error = kind(message if kind.__name__ == self.kind else f"{self.kind}: {message}")
        error.retryable = type(error).retryable or self.retryable
        return error


@dataclass(frozen=True)
class AmbiguousTask:
    """A task that may be of a call, without certainty: sending the call may pay for it twice."""

    reason: str  # for messages


@dataclass(frozen=True)
class Entry:
    """The state of one call. Times are UTC epoch seconds."""

    key: str
    state: State
    operation: str
    content_key: str
    content: str | None
    params: Mapping[str, Any]
    model: str | None
    scope: str | None
    attempt: int  # number of the claim
    at: float  # time at which this state was recorded
    task_id: str | None = None
    result: Any = None  # of `done`: JSON values, or a pyarrow.Table
    failure: Failure | None = None
    video_minutes: float = 0.0
    owner: str | None = None  # of a claim: host and process
    created_at: str | None = None  # of a task created by this process, as in the API's answer
    doubt: str | None = None  # why it may have been paid twice
    charge: Charge | None = None  # to the run that pays
    reused: bool = False  # found in the ledger or shared with another caller, not paid here


def encode(record: Mapping[str, Any]) -> bytes:
    """A record as bytes, with the format."""
    return orjson.dumps(
        {"tl_ledger": FORMAT, **record}, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    )


class Unreadable(LedgerError):
    """A record is corrupt or incomplete."""


def decode(body: bytes, path: str) -> dict[str, Any]:
    """A record from bytes.

    Raises:
        Unreadable: not a record.
        LedgerError: a record of a later version of tl_data.
    """
    try:
        record = orjson.loads(body)
        version = record["tl_ledger"]
        if isinstance(version, int) and version > FORMAT:
            raise LedgerError(
                f"the ledger record {path} was written by a newer tl_data (format {version}, this one reads "
                f"up to {FORMAT}). Upgrade tl_data, or select another ledger with TL_LEDGER"
            )
        texts = (record["operation"], record["content_key"])
        if version != FORMAT or not all(isinstance(text, str) for text in texts):
            raise ValueError("not a ledger record")
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise Unreadable(f"the ledger record {path} cannot be read ({len(body)} bytes)") from error
    return dict(record)


def entry_of(key: str, state: State, attempt: int, record: Mapping[str, Any], result: Any = None) -> Entry:
    """The entry of a record. `attempt` is the default of its number.

    Raises:
        Unreadable: a field is invalid.
    """
    try:
        failure, owner = record.get("failure"), record.get("owner") or {}
        made = Call(
            record["operation"], record["content_key"], record.get("params") or {}, record.get("model"),
            record.get("scope"),
        )  # fmt: skip
        if made.key != key:
            raise Unreadable(f"the ledger record in the folder of {key} ({state}) is that of {made.key}")
        return Entry(
            key=key,
            state=state,
            operation=record["operation"],
            content_key=record["content_key"],
            content=record.get("content"),
            params=dict(record.get("params") or {}),
            model=record.get("model"),
            scope=record.get("scope"),
            attempt=int(record.get("attempt", attempt)),
            at=float(record.get("at", 0.0)),
            task_id=record.get("task_id"),
            result=result,
            failure=_failure(failure) if failure else None,
            video_minutes=float(record.get("video_minutes") or 0.0),
            owner=f"{owner.get('host')}, process {owner.get('pid')}" if owner else None,
            doubt=record.get("doubt"),
            charge=Charge.from_record(record),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unreadable(f"the ledger record of {key} ({state}) has a wrong field: {error}") from error


def _failure(record: Mapping[str, Any]) -> Failure:
    failure = Failure(**record)
    # Earlier releases took malformed requests and temporary failures for final.
    release = failure.kind == "BadRequest" and errors.is_shape_refusal(failure.code, failure.message)
    if failure.code in PASSING or release:
        return replace(failure, retryable=True)
    return failure


def _clean(value: Any) -> Any:
    """JSON values in canonical form: without None, 1.0 as 1, URLs without signatures, bytes as hashes."""
    if isinstance(value, Mapping):
        return {str(k): _clean(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [_clean(v) for v in value]
    if isinstance(value, set | frozenset):
        return sorted(_clean(v) for v in value)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"sha256:{hashlib.sha256(value).hexdigest()}"
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, str):
        return _clean_text(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    raise LedgerError(f"a {type(value).__name__} cannot be part of a ledger key; use text, numbers or lists")


def _clean_text(text: str) -> str:
    try:
        return (
            canonical_url(text)
            if is_url(text) and not any(c.isspace() for c in text)
            else without_signatures(text)
        )
    except errors.MediaRefused:
        return without_signatures(text)
