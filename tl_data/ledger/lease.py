"""Leases: exclusive claims that expire when their owner dies.

An owner renews its claim while it works. It measures the lease on a monotonic clock, starting before the
write that created or renewed the claim. It starts a request only if at least half of the lease is left, and
aborts a request that outlasts the lease. Other processes measure the lease with the clock of the store, which
all share, and wait a margin longer. So a slow owner has stopped before another process begins, even if the
clocks of the machines differ.

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

#: Why a claim is over. `gone`: the owner released it, is dead or is this process. `expired`: it was not
#: renewed in time.
Over = Literal["gone", "expired"]

LEASE = 60.0  # seconds without a renewal after which a claim expires
LONGEST = 3600.0  # assumed seconds between the start and the last renewal of a claim without valid times
#: The folder with one lease per run. A run's lease is removed when its account is closed.
RUN_LEASES = "runs"
MARGIN = 5.0  # seconds that other processes wait beyond the lease


class LeaseLost(Exception):
    """The lease expired before the work was done, so another process may have taken over."""


def fence() -> None:
    """Check the lease of the current work directly before a request is sent.

    The work may have waited for a rate limit since the lease was checked last.

    Raises:
        LeaseLost: the claim may have expired.
    """
    lease = current_context().lease
    if lease is not None and lease.left <= 0:
        raise LeaseLost


@cache
def _machine() -> str:
    """An id of the machine and its process namespace, or "". Dead processes are detected only within one."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    return ""


def _started(pid: int) -> str | None:
    """The start time of a process in clock ticks; None if the process does not exist or is a zombie."""
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
        """The owner as a field of a claim's record."""
        return {
            "id": self.id,
            "host": self.host,
            "pid": self.pid,
            "machine": self.machine,
            "at": self.started,
        }


def begun_at(claim: Mapping[str, Any], item: Item) -> float:
    """A time at or before the creation of a claim, in epoch seconds by the clock of the store.

    The owner's clock may be wrong. It is used only for the time between the creation and the last renewal.
    """
    renewed, begun, at = item.modified.timestamp(), claim.get("begun"), claim.get("at")
    if not isinstance(begun, int | float) or not isinstance(at, int | float):
        return renewed - LONGEST
    return min(renewed - max(at - begun, 0.0), begun)


def is_dead(owner: Mapping[str, Any]) -> bool:
    """Whether the owner is known to be dead. False if it is alive or runs on another machine."""
    if not _machine() or owner.get("machine") != _machine():
        return False
    return _started(int(owner.get("pid", 0))) != owner.get("at")


class Lease:
    """A claim of this process. An async context manager that renews the claim inside the block."""

    def __init__(self, storage: Storage, path: str, record: dict[str, Any], seconds: float) -> None:
        self._storage, self.path, self._record, self.seconds = storage, path, record, seconds
        self._until = 0.0
        self._renewal: asyncio.Task[None] | None = None

    async def take(self, *, durable: bool = False) -> bool:
        """Create the claim; False if another process was faster.

        Args:
            durable: flush the claim to the disk. After a power failure it tells the next run that a request
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
        self._renewal = asyncio.create_task(self._renew())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._renewal:
            self._renewal.cancel()
            with suppress(asyncio.CancelledError):
                await self._renewal

    async def guard(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do the work while the claim is valid.

        If the work is cancelled, it may get a grace period; see runtime/shutdown.py.

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
        """Release the claim, so that other processes can take it over at once."""
        await self.__aexit__()
        if self.left > 0:
            with suppress(LedgerError):
                await self._storage.write(self.path, self._body(0.0))

    async def _renew(self) -> None:
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
    """Decides whether claims of other processes have expired. There is one per ledger.

    It remembers when it first saw each version of a claim.
    """

    def __init__(self, storage: Storage, me: Owner) -> None:
        self._storage, self._me = storage, me
        self._seen: dict[str, tuple[str, float]] = {}  # path -> version, steady time of its first observation
        self._wall = time.time() - steady()  # to notice when this machine's clock is set

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
        if steady() - since > lease + MARGIN:  # unchanged for a whole lease: the store's clock is not needed
            return "expired"
        if self._storage.folder is not None and abs(time.time() - steady() - self._wall) > MARGIN / 2:
            return None  # the clock of this machine was set, and the store (a folder) uses it
        age = await self._storage.now() - claim.modified.timestamp()
        return "expired" if age > lease + MARGIN else None

    def forget(self, path: str) -> None:
        """Drop the observation of a claim."""
        self._seen.pop(path, None)
