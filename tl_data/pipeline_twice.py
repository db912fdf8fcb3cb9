"""Was anything paid twice? Asked of the platform, not believed of the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from tl_data.errors import APIError
from tl_data.records import Entry
from tl_data.session import METADATA_KEY, Session

CLOCKS = timedelta(minutes=5)  # by which the platform's clock may differ from ours


async def paid_twice(session: Session, tasks: Mapping[str, Entry], seconds: float) -> int | None:
    """How many indexing tasks the platform has beyond one for each ledger key.

    All tasks that the index got since the oldest of ours are listed; of each that is not ours the video is
    asked for the key it was submitted with. None when the platform cannot be asked.

    Args:
        tasks: what this run submitted or waited for: the ledger's key and entry of each.
        seconds: that the measurement may take.
    """
    index = await session.index_id()
    ours = {entry.task_id for entry in tasks.values()}
    since = datetime.fromtimestamp(min(entry.at for entry in tasks.values()), UTC) - CLOCKS
    extra = 0
    try:
        async with asyncio.timeout(seconds):
            async for task in session.client.list_tasks(
                index_id=index, created_at=since.isoformat().replace("+00:00", "Z")
            ):
                if task["_id"] in ours or task.get("status") == "failed" or not task.get("video_id"):
                    continue
                try:
                    video = await session.client.retrieve_video(index, str(task["video_id"]))
                except APIError as gone:
                    if gone.http_status in (400, 404):
                        continue
                    raise
                extra += (video.get("user_metadata") or {}).get(METADATA_KEY) in tasks
    except (APIError, TimeoutError):
        return None
    return extra
