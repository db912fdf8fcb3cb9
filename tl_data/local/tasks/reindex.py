"""Reindexing of videos that were analyzed with other models or by an earlier version.

If the image encoder has changed, it is rerun on the keyframes. If the speech model has changed, it is rerun
on the sound, which comes from the stored stream or file, or from the URL of the video. The rest of the
evidence is kept. If the object models have changed, or the evidence has an earlier format (`evidence.FORM`),
all of it is rebuilt from that file. Until a video is reindexed, searches still find it. If another model
analyzed it, requests for its vectors are refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tl_data.local.config import Config
from tl_data.local.errors import EngineError, MediaError
from tl_data.local.models import Tiers
from tl_data.local.perception.evidence import FORM
from tl_data.local.storage.database import Row, Store, Where
from tl_data.local.tasks.download import fetch

#: Values of the column `again` of a video: it is queued for reindexing, or reindexing failed.
WANTED, FAILED = "wanted", "failed"


@dataclass
class Plan:
    """The videos to reindex."""

    model: str  # the active model
    videos: int = 0  # videos that another model or an earlier version analyzed
    video_minutes: float = 0.0
    waiting: int = 0  # how many of the videos are already queued
    #: Minutes of video by the model or version that analyzed them.
    by_model: dict[str, float] = field(default_factory=dict)
    #: `video_id` and `message` of each video whose reindexing failed.
    failed: list[dict[str, str]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The plan, for a JSON response."""
        return asdict(self)


def stale(store: Store, tiers: Tiers, index_id: str | None = None) -> list[Row]:
    """The videos that another model or an earlier version analyzed, oldest first."""
    where = [Where("index_id", "=", index_id)] if index_id else []
    current = [*where, Where("looked_by", "=", tiers.search_model), Where("form", "=", FORM)]
    if store.total("videos", where) == store.total("videos", current):
        return []
    rows = store.rows("videos", where, descending=False)
    return [row for row in rows if (row["looked_by"], row["form"]) != (tiers.search_model, FORM)]


def plan_of(store: Store, tiers: Tiers, index_id: str | None = None) -> Plan:
    """The videos that a reindex would process. Nothing is started."""
    plan = Plan(tiers.search_model)
    seconds = 0.0
    for row in stale(store, tiers, index_id):
        plan.videos += 1
        seconds += row["duration"]
        name = row["looked_by"]
        if name == tiers.search_model:
            name = f"an earlier version of {name}"
        plan.by_model[name] = plan.by_model.get(name, 0.0) + row["duration"] / 60
        if row["again"] == WANTED:
            plan.waiting += 1
        elif row["again"] == FAILED:
            plan.failed.append({"video_id": row["id"], "message": row["again_error"] or ""})
    plan.video_minutes = round(seconds / 60, 3)
    plan.by_model = {name: round(minutes, 3) for name, minutes in plan.by_model.items()}
    return plan


def model_mismatch(row: Row, tiers: Tiers) -> EngineError:
    """409 for a request for the vectors of a video that another model analyzed."""
    return EngineError(
        409,
        "video_looked_at_by_other_model",
        f"Video {row['id']} was analyzed by {row['looked_by']}, but the active model is "
        f"{tiers.search_model}. Their vectors are not comparable. Run: tl-data reindex {row['index_id']}",
    )


@contextlib.asynccontextmanager
async def file_of(row: Row, store: Store, config: Config) -> AsyncIterator[Path]:
    """A file with the pictures and sound of an indexed video.

    Raises:
        MediaError: neither the file nor the stream is stored, and the video has no URL or the URL returns
            another file.
    """
    folder = config.folder(row["id"])
    if (source := folder / "source").is_file():
        yield source
        return
    with tempfile.TemporaryDirectory(dir=config.home) as temporary:
        file = Path(temporary) / "video"
        if row["hls_status"] == "COMPLETE":
            await asyncio.to_thread(_concatenate, folder / "hls", file)
        else:
            tasks = store.rows("tasks", [Where("video_id", "=", row["id"])], limit=1)
            if not tasks or not tasks[0]["url"]:
                raise MediaError(
                    "video_file_gone",
                    "Neither the file nor a stream of the video is stored (enable_video_stream was false). "
                    "Delete the video and upload it again.",
                )
            limit, seconds = config.video_bytes, config.download_seconds
            fetched = await fetch(tasks[0]["url"], file, config, limit=limit, seconds=seconds, what="video")
            if row["sha256"] and fetched.sha256 != row["sha256"]:
                raise MediaError(
                    "video_file_changed",
                    "The URL now gives another file than the indexed one. Delete the video and index the URL "
                    "again.",
                )
        yield file


def _concatenate(folder: Path, file: Path) -> None:
    """Concatenate MPEG-TS segments into one file."""
    with file.open("wb") as out:
        for part in sorted(folder.glob("*.ts")):
            with part.open("rb") as segment:
                shutil.copyfileobj(segment, out)
