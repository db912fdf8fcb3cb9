"""What the ledger writes down: a call, the records of its way, and what a reader sees of them.

The records of one call are small objects in one folder, each created once:

    0001.claim        somebody is about to make the call; rewritten by its owner while the lease is renewed
    0001.submitted    the remote task id, written before the first poll
    0001.failed       the error, and whether trying again can help
    0001.result.json  or .arrow: a large result, written before `done` refers to it
    done              the result, or the name of the object that holds it

The number counts attempts: a take-over or a retry is the next claim. Which state a call is in follows from
the names alone, so two writers can never leave a state in which neither of them knows what happened.
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

FORMAT = 1  # of the records; a reader refuses records of a later one

#: Seconds for which answers are shared that a run is billed for: longer than a killed run waits for the next.
BILLED_KEEP = 7 * 86400.0

#: Codes of failed tasks that do not blame the video: the next run may try again.
UNEXPLAINED = (
    *("task_failed", "internal_error", "internal_server_error", "answer_unreadable"),
    *("task_canceled", "user_canceled", "batch_canceled", "batch_expired", "batch_processing_timeout"),
)

#: Codes of what passes: the file's server was down, or a signature ran out before the file was fetched. Never
#: final, also not in records of releases that took them for final.
PASSING = ("video_url_not_accessible",)

State = Literal["claimed", "submitted", "done", "failed"]


@dataclass(frozen=True)
class Call:
    """One paid call, the same wherever and whenever it is made.

    `scope` marks a call that is shared only among the workers of one session and for `keep` seconds.
    `content` (for people) and `video_minutes` (what a new submission costs) are no part of the key.
    """

    operation: str
    content_key: str
    params: Mapping[str, Any] = field(default_factory=dict)  # JSON values; None means not given
    model: str | None = None
    scope: str | None = None
    keep: float = field(default=300.0, compare=False)
    content: str | None = field(default=None, compare=False)
    video_minutes: float = field(default=0.0, compare=False)
    units: int = field(default=1, compare=False)  # calls that are billed; 0 for one that another one pays

    @cached_property
    def key(self) -> str:
        """32 hex digits."""
        parts = [self.operation, self.content_key, self.clean_params, self.model, self.scope]
        return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]

    @cached_property
    def clean_params(self) -> dict[str, Any]:
        """The parameters in one spelling, without signatures."""
        cleaned = _clean(self.params)
        assert isinstance(cleaned, dict)
        return cleaned

    @property
    def folder(self) -> str:
        """Where the records are written now, below the ledger's address."""
        return self.folders()[-1]

    def folders(self) -> list[str]:
        """Where the records may be. Shared answers live in slots of time, so that expired ones go as a whole
        and need no update; an answer of the slot before may still be fresh.
        """
        place = f"{self.key[:2]}/{self.key}"
        if self.scope is None:
            return [f"calls/{place}"]
        length = max(1, int(self.keep))
        now = int(time.time() // length)
        return [f"shared/{length}-{slot:012d}/{place}" for slot in (now - 1, now)]

    def described(self) -> dict[str, Any]:
        """The fields that every record carries, so that each can be read alone."""
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
    """The answer of a call together with what it cost, where that is known only when it is made."""

    answer: Any
    video_minutes: float


@dataclass(frozen=True)
class Failure:
    """How a call failed, as it is written down. `retryable`: a later run may try it again."""

    kind: str
    message: str
    retryable: bool
    code: str | None = None
    http_status: int | None = None
    request_id: str | None = None
    task_id: str | None = None

    @classmethod
    def of(cls, error: Exception, task_id: str | None = None, secrets: tuple[str, ...] = ()) -> Failure:
        """Read an exception. Only what lies in the call itself is final: the same key with a better quota,
        a renewed API key or a server in better health may well succeed.
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
            final = False  # the release is to blame: another one may do better
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
        """The exception again, of the same class, with the way out of it; none for what is only shared."""
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
    """A task may exist that cannot be identified for sure: to send again may be to pay twice."""

    reason: str  # for messages


@dataclass(frozen=True)
class Entry:
    """What the ledger knows of one call. Times are UTC epoch seconds."""

    key: str
    state: State
    operation: str
    content_key: str
    content: str | None
    params: Mapping[str, Any]
    model: str | None
    scope: str | None
    attempt: int  # number of the claim this state belongs to
    at: float  # when this state was written
    task_id: str | None = None
    result: Any = None  # of `done`: JSON values, or a pyarrow.Table
    failure: Failure | None = None
    video_minutes: float = 0.0
    owner: str | None = None  # of a claim: host and process
    created_at: str | None = None  # of a task made just now, as the API gave it: it was unfinished then
    doubt: str | None = None  # why it may have been paid for twice
    charge: Charge | None = None  # to the run that pays for it
    reused: bool = False  # found in the ledger, or shared with another caller, instead of being paid here


def encode(record: Mapping[str, Any]) -> bytes:
    """A record as bytes, marked with the format."""
    return orjson.dumps(
        {"tl_ledger": FORMAT, **record}, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    )


class Unreadable(LedgerError):
    """A record is corrupt or half-written."""


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
                f"up to {FORMAT}). Upgrade tl_data here, or name another ledger with TL_LEDGER"
            )
        texts = (record["operation"], record["content_key"])
        if version != FORMAT or not all(isinstance(text, str) for text in texts):
            raise ValueError("not a ledger record")
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise Unreadable(f"the ledger record {path} cannot be read ({len(body)} bytes)") from error
    return dict(record)


def entry_of(key: str, state: State, attempt: int, record: Mapping[str, Any], result: Any = None) -> Entry:
    """What a record says, as an entry; `attempt` if it does not say its own.

    Raises:
        Unreadable: a field is not what it should be.
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
    # Earlier releases took refusals of the form of their own requests for final, and what passes.
    release = failure.kind == "BadRequest" and errors.is_shape_refusal(failure.code, failure.message)
    if failure.code in PASSING or release:
        return replace(failure, retryable=True)
    return failure


def _clean(value: Any) -> Any:
    """JSON values in one spelling: None left out, 1.0 as 1, URLs without signature, bytes as their hash."""
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
    raise LedgerError(f"a {type(value).__name__} cannot be part of a ledger key; give text, numbers or lists")


def _clean_text(text: str) -> str:
    try:
        return (
            canonical_url(text)
            if is_url(text) and not any(c.isspace() for c in text)
            else without_signatures(text)
        )
    except errors.MediaRefused:
        return without_signatures(text)
