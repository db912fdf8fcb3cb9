"""Looking again after a change of the embedded engine's models: what it would take, and doing it.

The engine does the work (its `/_engine/reindex`); here it is asked for, waited for, and written into the
ledger: a video that was indexed under the old models' name is indexed under the new ones' by the same task,
so that the next use of its URL finds it there and does not index it a second time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tl_data.client.local_server import reindex_videos
from tl_data.connection import connect
from tl_data.errors import LedgerError, SettingsError, TLDataError
from tl_data.ledger.models import Call, Entry
from tl_data.session import Session
from tl_data.settings import Settings

POLL_SECONDS = 0.5
Json = dict[str, Any]


@dataclass
class Reindexing:
    """What was looked at by other models or an earlier version, and what became of it."""

    model: str  # at work now
    videos: int
    video_minutes: float
    by_model: dict[str, float]  # minutes by the models or version that looked
    done: int = 0  # videos looked at again
    seconds: float = 0.0
    failed: list[dict[str, str]] = field(default_factory=list)  # video_id and message

    def lines(self, dry_run: bool) -> list[str]:
        """For people."""
        if not self.videos:
            return [f"Everything was looked at by {self.model}: nothing to do"]
        said = [
            f"{minutes:.2f} video minutes were looked at by {name}" for name, minutes in self.by_model.items()
        ]
        said.append(
            f"{_videos(self.videos)} of {self.video_minutes:.2f} video minutes to look at again with "
            f"{self.model}, on this machine, price 0.00"
        )
        if dry_run:
            return said
        said.append(
            f"{_videos(self.done)} looked at again in {self.seconds:.0f} s, {len(self.failed)} failed"
        )
        return said + [f"  {video['video_id']}: {video['message']}" for video in self.failed]


def reindex(
    index: str | None = None,
    *,
    dry_run: bool = False,
    settings: Settings | None = None,
    progress: Callable[[int, int], None] = lambda done, videos: None,
) -> Reindexing:
    """Look again at the videos of an index, or of all, that other models or an earlier version looked at.

    Args:
        index: name or id; None means every index.
        dry_run: only say what it would take.
        settings: as from `Settings.load()`, which is also the default.
        progress: called with the videos done and to do.

    Raises:
        SettingsError: the service answers, which looks for itself.
        NotFound: there is no such index.
    """
    connection = connect(settings)
    return connection.run(_reindexed(connection.session, index, dry_run, progress))


async def _reindexed(
    session: Session, index: str | None, dry_run: bool, progress: Callable[[int, int], None]
) -> Reindexing:
    if session.models is None:
        raise SettingsError(
            f"{session.client.base_url} is no embedded engine: its indexes keep their models. Index the "
            "videos into another index instead"
        )
    index_id = await session.index_id(index) if index else None
    plan = await reindex_videos(session.client, index_id)
    found = Reindexing(plan["model"], plan["videos"], plan["video_minutes"], plan["by_model"])
    if dry_run or not found.videos:
        found.failed = plan["failed"]
        return found
    began = time.monotonic()
    plan = await reindex_videos(session.client, index_id, begin=True)
    while plan["waiting"]:
        progress(found.videos - plan["videos"], found.videos)
        await asyncio.sleep(POLL_SECONDS)
        plan = await reindex_videos(session.client, index_id)
    found.failed, found.seconds = plan["failed"], time.monotonic() - began
    found.done = found.videos - plan["videos"]
    await _adopt(session, index_id, {video["video_id"] for video in plan["failed"]})
    return found


async def _adopt(session: Session, index_id: str | None, failed: set[str]) -> None:
    """Write into the ledger that the new models have what the old ones had, by the same tasks."""
    known = [e async for e in session.ledger.entries(state="done", operation="index")]
    for entry in known:
        if entry.model == session.search_model or index_id not in (None, entry.params.get("index_id")):
            continue
        record = entry.result if isinstance(entry.result, Mapping) else {}
        if not entry.task_id or record.get("video_id") in failed:
            continue
        call = Call("index", entry.content_key, entry.params, session.search_model, content=entry.content)
        try:
            await session.collect_video(call, await _submitted(session, call, entry))
        except LedgerError:
            raise
        except TLDataError:  # the video is gone: there is nothing to find
            await session.ledger.forget(call.key)


async def _submitted(session: Session, call: Call, old: Entry) -> Entry:
    async def same() -> str:
        return str(old.task_id)

    async def none() -> None:
        return None

    return await session.ledger.submit(call, same, none)


def _videos(count: int) -> str:
    return f"{count} video{'' if count == 1 else 's'}"
