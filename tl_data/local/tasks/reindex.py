"""Looking again at what was looked at with other models, or by a version that measured less.

After a change of encoder only the keyframes are looked at; after a change of recogniser the sound is heard
again, from the kept stream or file, or fetched anew from the video's URL. Everything else that was measured
stays. Evidence of an earlier form (evidence.FORM) is made anew as a whole, from the same file. Until a
video's turn has come it is searched as before, but the vectors of another model are refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tl_data.local.config import Config
from tl_data.local.errors import APIProblem, MediaProblem
from tl_data.local.models import Tiers
from tl_data.local.perception.evidence import FORM
from tl_data.local.storage.database import Row, Store, Where
from tl_data.local.tasks.download import fetch

if TYPE_CHECKING:
    pass

WANTED, FAILED = "wanted", "failed"  # states of a video that is to be looked at again


@dataclass
class Plan:
    """What there is to look at again."""

    model: str  # that would be at work
    videos: int = 0  # looked at by another, or by an earlier version that found less
    video_minutes: float = 0.0
    waiting: int = 0  # of these, in line already
    by_model: dict[str, float] = field(default_factory=dict)  # minutes by what looked: a model or version
    failed: list[dict[str, str]] = field(default_factory=list)  # video_id and message of those that failed

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def stale(store: Store, tiers: Tiers, index_id: str | None = None) -> list[Row]:
    """The videos that another model or an earlier version looked at, oldest first."""
    where = [Where("index_id", "=", index_id)] if index_id else []
    current = [*where, Where("looked_by", "=", tiers.search_model), Where("form", "=", FORM)]
    if store.total("videos", where) == store.total("videos", current):
        return []
    rows = store.rows("videos", where, descending=False)
    return [row for row in rows if (row["looked_by"], row["form"]) != (tiers.search_model, FORM)]


def plan_of(store: Store, tiers: Tiers, index_id: str | None = None) -> Plan:
    """Add up what looking again would take; nothing is done."""
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


def looked_by_another(row: Row, tiers: Tiers) -> APIProblem:
    """409 for the vectors of a video that another model looked at."""
    return APIProblem(
        409,
        "video_looked_at_by_other_model",
        f"Video {row['id']} was looked at by {row['looked_by']}, and the engine works with "
        f"{tiers.search_model}: vectors of the two cannot be compared. Look at it again: "
        f"tl-data reindex {row['index_id']}",
    )


@contextlib.asynccontextmanager
async def file_of(row: Row, store: Store, config: Config) -> AsyncIterator[Path]:
    """A file with the pictures and sound of a video that is in an index.

    Raises:
        MediaProblem: neither its file nor its stream was kept, and it came from no URL, or from one that now
            gives other bytes.
    """
    folder = config.folder(row["id"])
    if (source := folder / "source").is_file():
        yield source
        return
    with tempfile.TemporaryDirectory(dir=config.home) as scratch:
        file = Path(scratch) / "video"
        if row["hls_status"] == "COMPLETE":
            await asyncio.to_thread(_joined, folder / "hls", file)
        else:
            tasks = store.rows("tasks", [Where("video_id", "=", row["id"])], limit=1)
            if not tasks or not tasks[0]["url"]:
                raise MediaProblem(
                    "video_file_gone",
                    "Neither its file nor a stream of it was kept (enable_video_stream was false), so it "
                    "cannot be looked at again: delete the video and upload it again.",
                )
            limit, seconds = config.max_video_bytes, config.download_seconds
            found = await fetch(tasks[0]["url"], file, config, limit=limit, seconds=seconds, what="video")
            if row["sha256"] and found.sha256 != row["sha256"]:
                raise MediaProblem(
                    "video_file_changed",
                    "Its URL now gives another file than the one that was looked at: delete the video and "
                    "index the URL again.",
                )
        yield file


def _joined(folder: Path, file: Path) -> None:
    """Segments of MPEG-TS, one after the other, are a file of MPEG-TS."""
    with file.open("wb") as out:
        for part in sorted(folder.glob("*.ts")):
            with part.open("rb") as segment:
                shutil.copyfileobj(segment, out)
