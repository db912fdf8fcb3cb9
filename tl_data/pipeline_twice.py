"""Was anything paid twice? Asked of the platform, not believed of the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

from tl_data.errors import APIError, LedgerError, NotFound, StillRunning, TaskFailed
from tl_data.records import Entry
from tl_data.session import METADATA_KEY, Session

CLOCKS = timedelta(minutes=5)  # by which the platform's clock may differ from ours


class Tasks:
    """The tasks that a run submitted or waited for: their ids in little memory, and since when."""

    def __init__(self) -> None:
        self._ids: set[bytes] = set()
        self._open: set[bytes] = set()  # not collected
        self.since: float | None = None  # epoch seconds

    def add(self, entry: Entry) -> None:
        """Note a task of the ledger."""
        brief = _brief(str(entry.task_id))
        self._ids.add(brief)
        if entry.state != "done":
            self._open.add(brief)
        self.since = entry.at if self.since is None else min(self.since, entry.at)

    @property
    def pending(self) -> int:
        """Tasks that were not collected: one, however many files have the same bytes."""
        return len(self._open)

    def ended(self, entry: Entry) -> None:
        """Its task is collected, or has failed for good."""
        self._open.discard(_brief(str(entry.task_id)))

    def __contains__(self, task_id: object) -> bool:
        return _brief(str(task_id)) in self._ids


def _brief(task_id: str) -> bytes:
    return bytes.fromhex(task_id) if len(task_id) == 24 else task_id.encode()


async def paid_twice(session: Session, tasks: Tasks, seconds: float) -> int | None:
    """How many indexing tasks the platform has beyond one for each key of the ledger.

    All tasks that the index got since the oldest of ours are listed. Of each that the ledger does not know,
    the video is asked for the key it was submitted with, once it is ready: before, the platform does not
    say. None when the platform cannot be asked or the ledger not be read, or such a task takes too long.

    Args:
        seconds: that the measurement may take.
    """
    if tasks.since is None:
        return 0  # nothing was submitted, by this run or by one before that it would wait for
    since = datetime.fromtimestamp(tasks.since, UTC) - CLOCKS
    try:
        async with asyncio.timeout(seconds):
            unknown: dict[str, set[str]] = {}
            async for task_id, key in _unknown(session, tasks, since):
                unknown.setdefault(key, set()).add(task_id)
            return sum([_beyond_one(ids, await session.ledger.show(key)) for key, ids in unknown.items()])
    except (APIError, LedgerError, StillRunning, TimeoutError):
        return None


def _beyond_one(ids: set[str], entry: Entry | None) -> int:
    """How many of the tasks of a key are too many. One may be without a record: that of a process that was
    killed before it could write it down, or is about to; whoever takes its claim over finds it."""
    if entry is None:
        return 0  # of another ledger
    return len(ids) - (entry.task_id is None or entry.task_id in ids)


async def _unknown(session: Session, tasks: Tasks, since: datetime) -> AsyncIterator[tuple[str, str]]:
    """The tasks that the ledger does not know, each with the key it was submitted with, if it has one."""
    index = await session.index_id()
    asked = since.strftime("%Y-%m-%dT%H:%M:%SZ")
    others = [
        task
        async for task in session.client.list_tasks(index_id=index, created_at=asked)
        if task["_id"] not in tasks and task.get("status") != "failed"
    ]
    if others:
        known = {entry.task_id async for entry in session.ledger.entries(operation="index")}
        others = [t for t in others if t["_id"] not in known]
    for task in others:
        try:
            ended = await session.watcher.wait(str(task["_id"]), index)
            video = await session.client.retrieve_video(index, str(ended["video_id"]))
        except (TaskFailed, NotFound):
            continue  # failed tasks and deleted videos are not billed twice
        if key := (video.get("user_metadata") or {}).get(METADATA_KEY):
            yield str(task["_id"]), str(key)
