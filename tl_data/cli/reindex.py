"""Reanalyzes videos after a change of the embedded engine's models.

The engine does the work (`/_engine/reindex`). This module requests it, waits, and updates the ledger: a call
under the old model's name gets a copy under the new name with the same task, so that the next use of its URL
does not index the video again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tl_data.client.local_server import reindex_videos
from tl_data.connection import connect
from tl_data.errors import LedgerError, SettingsError, TLDataError
from tl_data.ledger.models import Call, Entry
from tl_data.pipeline.progress import counted
from tl_data.session import Session
from tl_data.settings import Settings

POLL_SECONDS = 0.5
Json = dict[str, Any]


@dataclass
class Reindexing:
    """The videos that other models or an earlier version analyzed, and the result of their reanalysis."""

    model: str  # the active model
    videos: int
    video_minutes: float
    by_model: dict[str, float]  # minutes by former model or version
    done: int = 0  # reanalyzed videos
    seconds: float = 0.0
    failed: list[dict[str, str]] = field(default_factory=list)  # video_id and message

    def lines(self, dry_run: bool) -> list[str]:
        """The result as lines of text.

        Args:
            dry_run: whether nothing was reanalyzed.
        """
        if not self.videos:
            return [f"All videos were analyzed by {self.model}: nothing to do"]
        lines = [
            f"{minutes:.2f} video minutes were analyzed by {name}" for name, minutes in self.by_model.items()
        ]
        lines.append(
            f"{counted(self.videos, 'video')} of {self.video_minutes:.2f} video minutes to reanalyze with "
            f"{self.model}, on this machine, price 0.00"
        )
        if dry_run:
            return lines
        lines.append(
            f"{counted(self.done, 'video')} reanalyzed in {self.seconds:.0f} s, {len(self.failed)} failed"
        )
        return lines + [f"  {video['video_id']}: {video['message']}" for video in self.failed]


def reindex(
    index: str | None = None,
    *,
    dry_run: bool = False,
    settings: Settings | None = None,
    progress: Callable[[int, int], None] = lambda done, videos: None,
) -> Reindexing:
    """Reanalyze the videos of one or all indexes that other models or an earlier version analyzed.

    Args:
        index: name or id; None means every index.
        dry_run: only count the videos and minutes.
        settings: the settings; None: `Settings.load()`.
        progress: called with the number of reanalyzed videos and the number of all.

    Raises:
        SettingsError: the server is the service and not an embedded engine.
        NotFound: unknown index.
    """
    connection = connect(settings)
    return connection.run(_reindex(connection.session, index, dry_run, progress))


async def _reindex(
    session: Session, index: str | None, dry_run: bool, progress: Callable[[int, int], None]
) -> Reindexing:
    if session.models is None:
        raise SettingsError(
            f"{session.client.base_url} is not an embedded engine: its indexes keep their models. Index the "
            "videos into another index instead"
        )
    index_id = await session.index_id(index) if index else None
    plan = await reindex_videos(session.client, index_id)
    result = Reindexing(plan["model"], plan["videos"], plan["video_minutes"], plan["by_model"])
    if dry_run or not result.videos:
        result.failed = plan["failed"]
        return result
    began = time.monotonic()
    plan = await reindex_videos(session.client, index_id, begin=True)
    while plan["waiting"]:
        progress(result.videos - plan["videos"], result.videos)
        await asyncio.sleep(POLL_SECONDS)
        plan = await reindex_videos(session.client, index_id)
    result.failed, result.seconds = plan["failed"], time.monotonic() - began
    result.done = result.videos - plan["videos"]
    await _copy_calls(session, index_id, {video["video_id"] for video in plan["failed"]})
    return result


async def _copy_calls(session: Session, index_id: str | None, failed: set[str]) -> None:
    """Copy the ledger's calls of the old models to the new model, with the same tasks."""
    entries = [e async for e in session.ledger.entries(state="done", operation="index")]
    for entry in entries:
        if entry.model == session.search_model or index_id not in (None, entry.params.get("index_id")):
            continue
        record = entry.result if isinstance(entry.result, Mapping) else {}
        if not entry.task_id or record.get("video_id") in failed:
            continue
        call = Call("index", entry.content_key, entry.params, session.search_model, content=entry.content)
        try:
            await session.collect_video(call, await _record_task(session, call, entry))
        except LedgerError:
            raise
        except TLDataError:  # such as: the video was deleted
            await session.ledger.forget(call.key)


async def _record_task(session: Session, call: Call, old: Entry) -> Entry:
    """Record the task of an old call as the task of a new call. Nothing is sent."""

    async def send() -> str:
        return str(old.task_id)

    async def find() -> None:
        return None

    entry = await session.ledger.submit(call, send, find)
    return replace(entry, reused=True)  # the task existed before
