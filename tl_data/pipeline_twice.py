"""Was anything paid twice? Asked of the platform, not believed of the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta

from tl_data.errors import APIError, NotFound, StillRunning, TaskFailed
from tl_data.records import Entry
from tl_data.session import METADATA_KEY, Session

CLOCKS = timedelta(minutes=5)  # by which the platform's clock may differ from ours


async def paid_twice(session: Session, tasks: Mapping[str, Entry], seconds: float) -> int | None:
    """How many indexing tasks the platform has beyond one for each ledger key.

    All tasks that the index got since the oldest of ours are listed. Of each that the ledger does not know,
    the video is asked for the key it was submitted with, once it is ready: before, the platform does not
    say. None when the platform cannot be asked, or such a task takes too long.

    Args:
        tasks: what this run submitted or waited for: the ledger's key and entry of each.
        seconds: that the measurement may take.
    """
    since = datetime.fromtimestamp(min(entry.at for entry in tasks.values()), UTC) - CLOCKS
    try:
        async with asyncio.timeout(seconds):
            return sum([key in tasks async for key in _unknown(session, tasks, since)])
    except (APIError, StillRunning, TimeoutError):
        return None


async def _unknown(
    session: Session, tasks: Mapping[str, Entry], since: datetime
) -> AsyncIterator[str | None]:
    """The keys, if they have one, of the tasks that the ledger does not know."""
    index = await session.index_id()
    ours = {entry.task_id for entry in tasks.values()}
    asked = since.strftime("%Y-%m-%dT%H:%M:%SZ")
    listed = [task async for task in session.client.list_tasks(index_id=index, created_at=asked)]
    others = [t for t in listed if t["_id"] not in ours and t.get("status") != "failed"]
    if others:
        known = {entry.task_id async for entry in session.ledger.entries(operation="index")}
        others = [t for t in others if t["_id"] not in known]
    for task in others:
        try:
            ended = await session.watcher.wait(str(task["_id"]), index)
            video = await session.client.retrieve_video(index, str(ended["video_id"]))
        except (TaskFailed, NotFound):
            continue  # failed tasks and deleted videos are not billed twice
        yield (video.get("user_metadata") or {}).get(METADATA_KEY)
