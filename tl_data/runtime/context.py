"""The context of a running call: an immutable record in a context variable.

Tasks that start inside a `call_context` block inherit the record, so functions need not pass it on. The
fields, with what sets and what reads them:

    field           set by                             read by
    owner, began    concurrency.calls_of               Loop.run, Loop.cancel: which calls to stop
    usage           usage.receipt                      client, ledger, functions: requests, tokens, provenance
    minutes_about   usage.about                        client: video minutes that an analysis counts
    account         billing.recording                  ledger: the run that pays
    stop            shutdown.cancel_waits_on           shutdown.wait_for_limit: long waits end when it is set
    grace_seconds   shutdown.grace_period              Grace: how long a cancelled paid call may take
    grace           Grace (in Lease.guard)             shutdown.mark_in_flight, analyze_batches.Batches.add
    lease           Lease.guard                        lease.fence: whether the claim is still held
    bills           Connection.map                     billing.make_charge, ledger: who is billed
    quoting         guard.Guard                        ledger: raise `Priced` instead of a paid call

Fields have the type `Any` where their type is in a package that imports this module.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class CallContext:
    """The context of one call. `call_context()` changes fields for a block."""

    owner: object | None = None  # the owner of the call, for `connection.cancel(owner)`
    began: float = field(default_factory=time.monotonic)  # the time at which the block of the owner began
    usage: Any = None  # usage.Usage
    minutes_about: float = 0.0  # minutes of the analyzed video
    account: Any = None  # billing.RunAccount
    stop: asyncio.Event | None = None
    grace_seconds: float = 0.0
    grace: Any = None  # shutdown.Grace
    lease: Any = None  # ledger.lease.Lease
    bills: tuple[Any, ...] = ()  # billing.Bill each
    quoting: bool = False  # whether `Priced` is raised instead of a paid call


class Priced(Exception):
    """Raised instead of a paid call while a price is computed.

    Attributes:
        operation: the ledger's name of the operation.
        video_minutes: length of the video; 0 if it is not known.
        submitted: whether the task exists already, so that the operation is free.
    """

    def __init__(self, operation: str, video_minutes: float = 0.0, submitted: bool = False) -> None:
        super().__init__(operation, video_minutes, submitted)
        self.operation, self.video_minutes, self.submitted = operation, video_minutes, submitted


_context: ContextVar[CallContext | None] = ContextVar("tl_data_call", default=None)


def current_context() -> CallContext:
    """The context of the running task. Outside of a block it has the default of every field."""
    return _context.get() or CallContext()


@contextmanager
def call_context(**changes: Any) -> Iterator[CallContext]:
    """Change fields of the context inside the block and in tasks that start there."""
    token = _context.set(changed := replace(current_context(), **changes))
    try:
        yield changed
    finally:
        _context.reset(token)
