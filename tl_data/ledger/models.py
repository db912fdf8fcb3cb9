"""The records of the ledger: calls, their states, and entries as readers see them.

The records of one call are small objects in one folder. Each is created once, and only a claim is rewritten:

    0001.claim        a process is about to make the call; its owner rewrites it to renew the lease
    0001.submitted    the id of the remote task, written before the first poll
    0001.failed       the error, and whether it is retryable
    0001.result.json  or .arrow: a large result, written before `done` refers to it
    done              the result, or the name of the object with the result

The number is that of the attempt: a process that takes over or retries a call creates the claim with the next
number. The state of a call depends only on the names of its objects, so concurrent writers cannot leave an
undefined state.
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
from tl_data.media.identity import canonical_url, former_canonical_url, is_url
from tl_data.urls import is_bucket, redacted, without_signatures

#: Version of the format of records. A reader refuses records of later versions.
FORMAT = 1

#: Seconds for which billed answers are shared: longer than the time between a killed run and the next one.
BILLED_KEEP = 7 * 86400.0

#: Codes of failed tasks whose cause is not the video. The next run may try again.
NOT_THE_VIDEO = (
    *("task_failed", "internal_error", "internal_server_error", "answer_unreadable"),
    *("task_canceled", "user_canceled", "batch_canceled", "batch_expired", "batch_processing_timeout"),
)

#: Codes of temporary failures: the file's server was down, or a signature expired. They are never final, not
#: even in records of earlier releases, which recorded them as final.
TEMPORARY = ("video_url_not_accessible",)

State = Literal["claimed", "submitted", "done", "failed"]


@dataclass(frozen=True)
class Call:
    """The identity of a paid call.

    A call with a `scope` is shared only among processes that use the same scope, such as the workers of one
    Spark session, for `keep` seconds. Other calls are durable. `content` (for messages) and `video_minutes`
    (the cost of a submission) are not part of the key.
    """

    operation: str
    content_key: str  # the key of the video (see media/identity.py and contents.py) or of other content
    params: Mapping[str, Any] = field(default_factory=dict)  # JSON values; None means not given
    model: str | None = None
    scope: str | None = None  # the id of what shares the answer; None: every process does, without end
    keep: float = field(default=300.0, compare=False)
    content: str | None = field(default=None, compare=False)
    video_minutes: float = field(default=0.0, compare=False)
    units: int = field(default=1, compare=False)  # billed calls; 0 if another call includes this one
    #: The content key in earlier releases, if it was another one.
    former_content_key: str | None = field(default=None, compare=False)
    #: Whether the URLs in the parameters are written as in earlier releases; only `former_calls` sets it.
    former_urls: bool = field(default=False, compare=False)

    @cached_property
    def key(self) -> str:
        """The key of the call in the ledger: 32 hex digits of a hash of its identity."""
        return _key(self.operation, self.content_key, self.clean_params, self.model, self.scope)

    @cached_property
    def clean_params(self) -> dict[str, Any]:
        """The parameters in canonical form. Signatures in URLs are removed."""
        cleaned = _clean(self.params, self.former_urls)
        assert isinstance(cleaned, dict)
        return cleaned

    @cached_property
    def former_calls(self) -> tuple[Call, ...]:
        """The same call with the keys that it had in earlier releases; mostly empty.

        Former parameters are used only if their URLs have the canonical forms of this call's URLs. Otherwise
        the former key may be that of another call.
        """
        if self.scope is not None:
            return ()
        former_urls = [False]
        former_params = _clean(self.params, former=True)
        if former_params != self.clean_params and _clean(former_params) == self.clean_params:
            former_urls.append(True)
        content_keys = [self.content_key, *filter(None, [self.former_content_key])]
        calls = [
            replace(self, content_key=content_key, former_urls=former)
            for content_key in content_keys
            for former in former_urls
        ]
        return tuple(calls[1:])

    @property
    def folder(self) -> str:
        """The current folder of the records, relative to the ledger's address."""
        return self.folders()[-1]

    def folders(self) -> list[str]:
        """The folders that may have records of the call, the newest last.

        Shared answers are in one folder per time slot, so that expired answers are deleted by the folder. An
        answer in the previous slot may still be valid.
        """
        path = f"{self.key[:2]}/{self.key}"
        if self.scope is None:
            return [f"calls/{path}"]
        seconds = max(1, int(self.keep))
        now = int(time.time() // seconds)
        return [f"shared/{seconds}-{slot:012d}/{path}" for slot in (now - 1, now)]

    def described(self) -> dict[str, Any]:
        """The fields that every record of the call has, so that each record can be understood alone."""
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
    """An answer together with its cost, for calls whose cost is known only afterwards."""

    answer: Any
    video_minutes: float


@dataclass(frozen=True)
class Failure:
    """The recorded failure of a call. If it is `retryable`, a later run may make the call again."""

    kind: str
    message: str
    retryable: bool
    code: str | None = None
    http_status: int | None = None
    request_id: str | None = None
    task_id: str | None = None

    @classmethod
    def of(cls, error: Exception, task_id: str | None = None, secrets: tuple[str, ...] = ()) -> Failure:
        """Convert an exception to a failure.

        The failure is final only if the call itself is the cause. Other causes, such as the quota, the API
        key or the state of the server, may change, so that the same call succeeds.
        """
        if isinstance(error, APIError | errors.TaskFailed | errors.MediaRefused):
            message = str(error.args[0])
        else:
            message = str(error)
        final = isinstance(error, errors.BadRequest | errors.TaskFailed | errors.MediaRefused)
        code = getattr(error, "code", None)
        if code in TEMPORARY or (isinstance(error, errors.TaskFailed) and code in NOT_THE_VIDEO):
            final = False
        if isinstance(error, errors.BadRequest) and errors.is_shape_refusal(error.code, message):
            final = False  # this release sends the request in a wrong form: another release may succeed
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
        """The exception of the failure, of the same class as the original one.

        Args:
            key: the key of a durable call, for a message that names the command to forget the failure. None
                for a shared call.
        """
        kind = getattr(errors, self.kind, TLDataError)
        if not (isinstance(kind, type) and issubclass(kind, TLDataError)):
            kind = TLDataError
        hint = ""
        if key is not None and not self.retryable:
            hint = (
                f"; this failure is in the ledger. To try again: tl-data ledger forget {key}, then run again"
            )
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
    """A task that may belong to a call, without certainty. If the call is sent, it may be paid for twice."""

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
    at: float  # the time at which this state was recorded
    task_id: str | None = None
    result: Any = None  # in the state `done`: JSON values, or a pyarrow.Table
    failure: Failure | None = None
    video_minutes: float = 0.0
    owner: str | None = None  # in the state `claimed`: host and process of the owner
    created_at: str | None = None  # the API's creation time of a task that this process created
    doubt: str | None = None  # the reason why the call may have been paid for twice
    charge: Charge | None = None  # the charge to the run that pays
    reused: bool = False  # found in the ledger or shared with another caller, not paid here

    def record(self, *texts: str) -> dict[str, Any]:
        """The result, which must be a JSON object with these members as texts.

        Raises:
            Unreadable: the result has another form; somebody has changed the ledger.
        """
        result = self.result
        if not isinstance(result, dict) or not all(isinstance(result.get(name), str) for name in texts):
            raise Unreadable(
                f"the ledger record {self.key} ({self.operation}) has a result of another form. "
                f"`tl-data ledger forget {self.key}` removes it; the call is then made again"
            )
        return dict(result)


def encode(record: Mapping[str, Any]) -> bytes:
    """A record as bytes, with the version of the format."""
    return orjson.dumps(
        {"tl_ledger": FORMAT, **record}, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    )


class Unreadable(LedgerError):
    """A record is corrupt or incomplete."""


def decode(body: bytes, path: str) -> dict[str, Any]:
    """A record from bytes.

    Raises:
        Unreadable: the bytes are not a record.
        LedgerError: a later version of tl_data wrote the record.
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
    """The entry of a record. `attempt` is used if the record has no number.

    Raises:
        Unreadable: a field is invalid.
    """
    try:
        failure, owner = record.get("failure"), record.get("owner") or {}
        # The recorded parameters are in the canonical form of the release that wrote them.
        recorded_key = _key(
            record["operation"], record["content_key"], record.get("params") or {}, record.get("model"),
            record.get("scope"),
        )  # fmt: skip
        if recorded_key != key:
            raise Unreadable(f"the ledger record in the folder of {key} ({state}) is that of {recorded_key}")
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
    # Earlier releases recorded malformed requests and temporary failures as final.
    is_malformed = failure.kind == "BadRequest" and errors.is_shape_refusal(failure.code, failure.message)
    if failure.code in TEMPORARY or is_malformed:
        return replace(failure, retryable=True)
    return failure


def _key(
    operation: str, content_key: str, params: Mapping[str, Any], model: str | None, scope: str | None
) -> str:
    """The key of a call. `params` are in canonical form."""
    parts = [operation, content_key, params, model, scope]
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


def _clean(value: Any, former: bool = False) -> Any:
    """JSON values in canonical form: no None, 1 for 1.0, URLs without signatures, hashes for bytes.

    Args:
        former: write URLs as earlier releases did.
    """
    if isinstance(value, Mapping):
        return {str(k): _clean(v, former) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [_clean(v, former) for v in value]
    if isinstance(value, set | frozenset):
        return sorted(_clean(v, former) for v in value)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"sha256:{hashlib.sha256(value).hexdigest()}"
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, str):
        return _clean_text(value, former)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    raise LedgerError(f"a {type(value).__name__} cannot be part of a ledger key; use text, numbers or lists")


def _clean_text(text: str, former: bool) -> str:
    if is_url(text) and not any(c.isspace() for c in text) and not (former and is_bucket(text)):
        try:
            return former_canonical_url(text) if former else canonical_url(text)
        except errors.MediaRefused:
            pass
    return without_signatures(text, former=former)
