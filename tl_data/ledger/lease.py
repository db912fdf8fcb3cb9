"""Who may make a call right now: claims that expire when their owner dies, and only then.

An owner renews its claim while it works. It counts its own lease from before the write that granted it, on a
clock that never jumps, and does not begin to send unless at least half of the lease is left; a send that
outlives the lease is cut off. Everybody else judges by the clock of the store, which both sides share, and
waits a margin longer. So a slow owner has stopped before another begins, whatever their own clocks say.

Work that is cancelled while its request is under way has been paid for: it may be given a while to hear the
answer, so that it can be written down.
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

#: The owner let go or is dead, a moment ago perhaps; or it gave no sign for longer than its lease.
Over = Literal["gone", "expired"]

LEASE = 60.0  # seconds others wait for an owner that gives no sign
LONGEST = 3600.0  # seconds before its last renewal at which a claim that cannot be read may have begun
RUN_LEASES = "runs"  # the folder of the leases of runs: one stays there until its accounts are closed
MARGIN = 5.0  # seconds beyond the lease before another takes over


class LeaseLost(Exception):
    """The lease ran out before the work was done: another process may have taken over."""


def fence() -> None:
    """To be called right before something is sent: the work may have waited long for its turn to send.

    Raises:
        LeaseLost: the running work is done under a claim, and the claim is no longer surely held.
    """
    lease = current_context().lease
    if lease is not None and lease.left <= 0:
        raise LeaseLost


@cache
def _machine() -> str:
    """Names the machine and its process numbers: within it, a process can be seen to be dead."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    return ""


def _started(pid: int) -> str | None:
    """When a process began, in its machine's ticks; None when there is none, or only its remains."""
    try:
        fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


@dataclass(frozen=True)
class Owner:
    """This process, as it signs its claims."""

    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    machine: str = field(default_factory=_machine)
    started: str | None = field(default_factory=lambda: _started(os.getpid()))

    def signature(self) -> dict[str, Any]:
        """As it stands in records."""
        return {
            "id": self.id,
            "host": self.host,
            "pid": self.pid,
            "machine": self.machine,
            "at": self.started,
        }


def begun_at(claim: Mapping[str, Any], item: Item) -> float:
    """When a claim was first taken (epoch seconds), by the clock of the store, or earlier.

    The owner's clock only tells how long before the last renewal that was; it may be wrong, or have been set.
    """
    renewed, begun, at = item.modified.timestamp(), claim.get("begun"), claim.get("at")
    if not isinstance(begun, int | float) or not isinstance(at, int | float):
        return renewed - LONGEST
    return min(renewed - max(at - begun, 0.0), begun)


def is_dead(owner: Mapping[str, Any]) -> bool:
    """Whether the owner is known to be gone; False when it lives, or lives where this process cannot look."""
    if not _machine() or owner.get("machine") != _machine():
        return False
    return _started(int(owner.get("pid", 0))) != owner.get("at")


class Lease:
    """A claim that this process holds. Use as `async with`: it is renewed inside the block."""

    def __init__(self, storage: Storage, path: str, record: dict[str, Any], seconds: float) -> None:
        self._storage, self.path, self._record, self.seconds = storage, path, record, seconds
        self._until = 0.0
        self._renewal: asyncio.Task[None] | None = None

    async def take(self, *, durable: bool = False) -> bool:
        """Create the claim; False when another was quicker.

        Args:
            durable: on the disk before it counts. After a power cut, the claim is what tells the next run
                that something may have been sent, and to look for it on the platform.
        """
        began = steady()
        won = await self._storage.create(self.path, self._body(self.seconds), durable=durable)
        self._until = began + self.seconds
        return won

    @property
    def left(self) -> float:
        """Seconds for which this process surely holds the claim."""
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
        """Do the work while the claim is held; when it is cancelled, its answer may still be
        waited for (see runtime/shutdown.py).

        Raises:
            LeaseLost: less than half of the lease was left to begin with, or it ran out before the end.
        """

        async def begin() -> T:
            # Checked in the very step in which the work begins: the process may have slept before it.
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
        """Let others take over at once; what was begun is theirs to find."""
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
            # An answer that comes after the old lease ran out proves nothing: it may already be another's.
            if self.left > 0:
                self._until = began + self.seconds

    def _body(self, seconds: float) -> bytes:
        return encode({**self._record, "lease": seconds, "at": time.time()})


class Watch:
    """Judges claims of others. One a ledger: it remembers what it saw, and how the store's clock runs."""

    def __init__(self, storage: Storage, me: Owner) -> None:
        self._storage, self._me = storage, me
        self._seen: dict[str, tuple[str, float]] = {}
        self._wall = time.time() - steady()

    async def is_over(self, claim: Item, record: Mapping[str, Any] | None) -> Over | None:
        """Why the claim may be taken over, or None. `record` is None when the claim cannot be read."""
        lease = LEASE if record is None else float(record.get("lease", LEASE))
        owner = (record or {}).get("owner") or {}
        if record is not None and (lease == 0 or owner.get("id") == self._me.id or is_dead(owner)):
            return "gone"
        version, since = self._seen.get(claim.path, ("", 0.0))
        if version != claim.version:
            since = steady()
            self._seen[claim.path] = (claim.version, since)
        if steady() - since > lease + MARGIN:  # watched unchanged for a whole lease: no clock is needed
            return "expired"
        if self._storage.folder is not None and abs(time.time() - steady() - self._wall) > MARGIN / 2:
            return None  # this machine's clock was set, and it is the store's clock too
        age = await self._storage.now() - claim.modified.timestamp()
        return "expired" if age > lease + MARGIN else None

    def forget(self, path: str) -> None:
        """The claim is settled: drop what was remembered of it."""
        self._seen.pop(path, None)
