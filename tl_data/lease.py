"""Who may make a call right now: claims that expire when their owner dies, and only then.

An owner renews its claim while it works. It counts its own lease from before the write that granted it, on a clock
that never jumps, and does not begin to send unless at least half of the lease is left; a send that outlives the
lease is cut off. Everybody else judges by the clock of the store, which both sides share, and waits a margin
longer. So a slow owner has stopped before another may begin, whatever the clocks of the two machines say.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
import uuid
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from tl_data.errors import LedgerError
from tl_data.records import encode
from tl_data.storage import Item, Storage

T = TypeVar("T")

LEASE = 60.0  # seconds others wait for an owner that gives no sign
MARGIN = 5.0  # seconds beyond the lease before another takes over


class LeaseLost(Exception):
    """The lease ran out before the work was done: another process may have taken over."""


def steady() -> float:
    """Seconds on a clock that cannot be set and, where the system has one, counts sleep."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)


@cache
def _machine() -> str:
    """Names the machine and its process numbers: within it, a process can be seen to be dead."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    return ""


def _started(pid: int) -> str | None:
    """When a process began, in its machine's ticks; None when there is no such process, or only its remains."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
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
        return {"id": self.id, "host": self.host, "pid": self.pid, "machine": self.machine, "at": self.started}


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

    async def take(self) -> bool:
        """Create the claim; False when another was quicker."""
        began = steady()
        won = await self._storage.create(self.path, self._body(self.seconds))
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

    async def guard(self, work: Awaitable[T]) -> T:
        """Do the work while the claim is held.

        Raises:
            LeaseLost: too little of the lease was left to begin, or it ran out before the work was done.
        """
        task = asyncio.ensure_future(work)
        try:
            # The first step of the task runs after this check, in the same pass of the loop or the next.
            while not task.done():
                if self.left <= 0 or (self.left < self.seconds / 2 and not task_began(task)):
                    raise LeaseLost
                await asyncio.wait((task,), timeout=max(0.0, min(self.left, self.seconds / 4)))
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
