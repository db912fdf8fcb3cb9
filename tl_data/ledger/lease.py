"""Leases: exclusive claims that expire when their owner dies.

An owner renews its claim while it works. It measures its lease on a monotonic clock, from before the write
that granted it, and starts a request only if at least half of the lease is left. A request that outlasts the
lease is aborted. Other processes measure with the clock of the store, which both share, and wait a margin
longer. So a slow owner has stopped before another one begins, independent of their own clocks.

A request that is cancelled may already be paid for, so it may get a grace period to receive and record its
answer.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from tl_data.errors import LedgerError
from tl_data.ledger.models import encode
from tl_data.object_store import Item, Storage, steady
from tl_data.runtime.context import call_context, current_context
from tl_data.runtime.shutdown import Grace

T = TypeVar("T")

#: `gone`: the owner released the claim or is dead. `silent`: no renewal for longer than the lease.
Over = Literal["gone", "expired"]

LEASE = 60.0  # seconds without a renewal after which a claim expires
LONGEST = 3600.0  # assumed seconds between the start and the last renewal of an unreadable claim
RUN_LEASES = "runs"  # the folder of the leases of runs; a lease is removed when the run's account is closed
MARGIN = 5.0  # seconds that others wait beyond the lease


class LeaseLost(Exception):
    """The lease expired before the work was done: another process may have taken over."""


def fence() -> None:
    """Check the lease directly before a request is sent: the work may have waited for the rate limit.

    Raises:
        LeaseLost: the work runs under a claim that may have expired.
    """
    lease = current_context().lease
    if lease is not None and lease.left <= 0:
        raise LeaseLost


@cache
def _machine() -> str:
    """An id of the machine and its process namespace, within which dead processes can be detected."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    return ""


def _started(pid: int) -> str | None:
    """The start time of a process in ticks; None if it does not exist or is a zombie."""
    try:
        fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


@dataclass(frozen=True)
class Owner:
    """This process as the owner of claims."""

    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    machine: str = field(default_factory=_machine)
    started: str | None = field(default_factory=lambda: _started(os.getpid()))

    def signature(self) -> dict[str, Any]:
        """The owner as fields of a record."""
        return {
            "id": self.id,
            "host": self.host,
            "pid": self.pid,
            "machine": self.machine,
            "at": self.started,
        }


def begun_at(claim: Mapping[str, Any], item: Item) -> float:
    """The time at which a claim was first taken, or earlier: epoch seconds by the clock of the store.

    The owner's clock, which may be wrong, is used only for the time between start and last renewal.
    """
    renewed, begun, at = item.modified.timestamp(), claim.get("begun"), claim.get("at")
    if not isinstance(begun, int | float) or not isinstance(at, int | float):
        return renewed - LONGEST
    return min(renewed - max(at - begun, 0.0), begun)


def is_dead(owner: Mapping[str, Any]) -> bool:
    """Whether the owner is known to be dead; False if it lives or runs on another machine."""
    if not _machine() or owner.get("machine") != _machine():
        return False
    return _started(int(owner.get("pid", 0))) != owner.get("at")


class Lease:
    """A claim of this process. An async context manager that renews it inside the block."""

    def __init__(self, storage: Storage, path: str, record: dict[str, Any], seconds: float) -> None:
        self._storage, self.path, self._record, self.seconds = storage, path, record, seconds
        self._until = 0.0
        self._renewal: asyncio.Task[None] | None = None

    async def take(self, *, durable: bool = False) -> bool:
        """Create the claim; False if another process was faster.

        Args:
            durable: flush it to the disk. After a power failure the claim tells the next run that a request
                may have been sent.
        """
        began = steady()
        won = await self._storage.create(self.path, self._body(self.seconds), durable=durable)
        self._until = began + self.seconds
        return won

    @property
    def left(self) -> float:
        """Seconds until the claim may expire."""
        return self._until - steady()

    async def __aenter__(self) -> Lease:
        self._renewal = asyncio.create_task(self._keep())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._renewal:
            self._renewal.cancel()
            with suppress(asyncio.CancelledError):
                await self._renewal

    async def guard(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do the work while the claim is valid. If it is cancelled, its answer may still be awaited; see
        runtime/shutdown.py.

        Raises:
            LeaseLost: less than half of the lease was left at the start, or it expired before the end.
        """

        async def begin() -> T:
            # Checked here, directly before the work: the process may have been suspended.
            if self.left < self.seconds / 2:
                raise LeaseLost
            with call_context(lease=self):
                return await work()

        grace = Grace()
        with grace:
            task = asyncio.create_task(begin())
        try:
            while not task.done():
                if self.left <= 0:
                    raise LeaseLost
                grace.check()
                try:
                    await asyncio.wait((task,), timeout=min(self.left, self.seconds / 4, grace.left))
                except asyncio.CancelledError:
                    if not grace.begin():
                        raise
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task

    async def release(self) -> None:
        """Release the claim, so that others can take over at once."""
        await self.__aexit__()
        if self.left > 0:
            with suppress(LedgerError):
                await self._storage.write(self.path, self._body(0.0))

    async def _keep(self) -> None:
        pause = self.seconds / 3
        while self.left > 0:
            await asyncio.sleep(pause)
            began = steady()
            try:
                await self._storage.write(self.path, self._body(self.seconds))
            except LedgerError:
                pause = self.seconds / 20
                continue
            pause = self.seconds / 3
            # A renewal that is confirmed after the old lease expired does not count: another process may have
            # taken over.
            if self.left > 0:
                self._until = began + self.seconds

    def _body(self, seconds: float) -> bytes:
        return encode({**self._record, "lease": seconds, "at": time.time()})


class Watch:
    """Decides whether claims of other processes have expired. There is one per ledger; it keeps what it has
    observed, and the offset of the store's clock."""

    def __init__(self, storage: Storage, me: Owner) -> None:
        self._storage, self._me = storage, me
        self._seen: dict[str, tuple[str, float]] = {}
        self._wall = time.time() - steady()

    async def is_over(self, claim: Item, record: Mapping[str, Any] | None) -> Over | None:
        """Why a claim may be taken over, or None. `record` is None if the claim cannot be read."""
        lease = LEASE if record is None else float(record.get("lease", LEASE))
        owner = (record or {}).get("owner") or {}
        if record is not None and (lease == 0 or owner.get("id") == self._me.id or is_dead(owner)):
            return "gone"
        version, since = self._seen.get(claim.path, ("", 0.0))
        if version != claim.version:
            since = steady()
            self._seen[claim.path] = (claim.version, since)
        if steady() - since > lease + MARGIN:  # observed unchanged for a whole lease: no clock is needed
            return "expired"
        if self._storage.folder is not None and abs(time.time() - steady() - self._wall) > MARGIN / 2:
            return None  # this machine's clock was changed, and the store uses it
        age = await self._storage.now() - claim.modified.timestamp()
        return "expired" if age > lease + MARGIN else None

    def forget(self, path: str) -> None:
        """Drop the observations of a claim."""
        self._seen.pop(path, None)
