"""Serves the videos of a lake: `tl-data serve --lake FOLDER`.

`tl_data.spark.perceive` writes the evidence of each video to the table `evidence`. At its start, the engine
puts this evidence into one index with the name of the folder, and removes imported videos that the lake no
longer has. No video is analyzed. Searches, vectors and texts come from the evidence; the videos have no
stream. A video has its id in the lake, or another one if an index of another lake has this id already.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tl_data.errors import LakeError, SettingsError
from tl_data.local import models
from tl_data.local.config import Config
from tl_data.local.errors import safe_file_name
from tl_data.local.perception.evidence import Evidence
from tl_data.local.service import Stages
from tl_data.local.storage import serialization
from tl_data.local.storage.database import ID, Row, Store, Where, now

THUMBNAIL = "thumbnail.jpg"


async def import_lake(folder: str, config: Config, store: Store, stages: Stages) -> int:
    """Bring the index of a lake up to date; returns the number of added videos.

    Raises:
        SettingsError: the folder has no evidence.
        LakeError: a table cannot be read.
    """
    from tl_data.lake.lake import open_lake
    from tl_data.lake.schemas import EVIDENCE

    lake = open_lake(folder)
    if not lake.exists(EVIDENCE):
        raise SettingsError(
            f"--lake {folder}: the lake has no table evidence. tl_data.spark.perceive writes it; the results "
            "of jobs have none, because the service keeps the evidence"
        )
    index_id = _index(folder, config, store)
    indexed = {row["id"]: row for row in store.rows("videos", [Where("index_id", "=", index_id)])}
    videos = _videos(lake)
    kept: set[str] = set()
    missing: dict[str, str] = {}  # id in the lake -> the engine's id, of videos to add
    for row in _rows(lake.batches(EVIDENCE, ["video_id", "model", "form"])):
        lake_id = str(row["video_id"])
        if not ID.fullmatch(lake_id):
            raise LakeError(
                f"{folder}/evidence: the video id {lake_id!r} is not 24 hex digits; perceive did not write it"
            )
        if lake_id not in videos:  # a killed run wrote the evidence, but not the row of `videos`
            continue
        video_id = _id_of(lake_id, index_id, store)
        kept.add(video_id)
        known = indexed.get(video_id)
        if known and (known["looked_by"], known["form"]) == (row["model"], row["form"]):
            if not known["imported"]:  # an earlier version did not write it
                store.change("videos", video_id, imported=1)
            continue
        missing[lake_id] = video_id
    if missing:
        posters = _posters(lake, missing)
        for row in _rows(lake.batches(EVIDENCE), missing):
            lake_id, video_id = row["video_id"], missing[row["video_id"]]
            evidence = _evidence(folder, row)
            frames = config.folder(video_id) / "frames"
            frames.mkdir(parents=True, exist_ok=True)
            if lake_id in posters:
                (frames / THUMBNAIL).write_bytes(posters[lake_id])
            await stages.add(index_id, video_id, evidence, frames)
            _add_video(store, index_id, video_id, videos[lake_id], row)
    for video_id in indexed.keys() - kept:
        if not indexed[video_id]["imported"]:  # a client has added it to the index
            continue
        store.remove("videos", [Where("id", "=", video_id)])
        store.remove("tasks", [Where("video_id", "=", video_id)])
        await stages.remove(video_id)
        shutil.rmtree(config.folder(video_id), ignore_errors=True)
    return len(missing)


def _id_of(lake_id: str, index_id: str, store: Store) -> str:
    """The engine's id of a video of a lake. A video that has an id keeps it."""
    own_id = hashlib.sha256(f"{index_id} {lake_id}".encode()).hexdigest()[:24]
    holder = store.get("videos", lake_id)
    if store.get("videos", own_id) or (holder and holder["index_id"] != index_id):
        return own_id
    return lake_id


def _evidence(folder: str, row: Row) -> Evidence:
    """The evidence of a row of the lake.

    Raises:
        LakeError: it is damaged, too large, or names a file outside of the folder of the video.
    """
    try:
        evidence = serialization.unpack(row["evidence"])
        for clip in evidence.clips:
            if clip.keyframe and Path(clip.keyframe).name != clip.keyframe:
                raise ValueError(f"{clip.keyframe!r} is not the name of a keyframe")
    except Exception as error:
        raise LakeError(
            f"{folder}/evidence: the evidence of video {row['video_id']} is damaged: {error}"
        ) from error
    return evidence


def _index(folder: str, config: Config, store: Store) -> str:
    """The id of the index of a lake; it is created at first use."""
    location = folder if "://" in folder else str(Path(folder).absolute())
    index_id = hashlib.sha256(f"lake {location.rstrip('/')}".encode()).hexdigest()[:24]
    if store.get("indexes", index_id) is None:
        names = {row["index_name"] for row in store.rows("indexes", columns=["index_name"])}
        name = location.rstrip("/").rpartition("/")[2][:40] or "lake"
        name = name if name not in names else f"{name}-{index_id[:8]}"
        profile, tiers = config.profile, config.tiers
        search = tiers.search_model if not profile.index_models else _first(profile.index_models, "marengo")
        writer = tiers.analyze_model if not profile.index_models else _first(profile.index_models, "pegasus")
        requested = [
            {"model_name": model, "model_options": ["visual", "audio"]} for model in (search, writer) if model
        ]
        at = now()
        store.add(
            "indexes",
            {
                "id": index_id,
                "index_name": name,
                "models": models.read_models(_distinct(requested), tiers, profile),
                "addons": ["thumbnail"],
                "created_at": at,
                "updated_at": at,
            },
        )
    return index_id


def _first(names: tuple[str, ...], prefix: str) -> str:
    return next((name for name in names if name.startswith(prefix)), "")


def _distinct(requested: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({model["model_name"]: model for model in requested}.values())


def _add_video(store: Store, index_id: str, video_id: str, video: Row, row: Row) -> None:
    """Add or replace the rows of a video, with its URL, from which it can be analyzed again."""
    at = video["indexed_at"].strftime("%Y-%m-%dT%H:%M:%S.%f")[:23] + "Z" if video["indexed_at"] else now()
    facts = {
        "index_id": index_id,
        "filename": safe_file_name(str(video["canonical_url"] or video["url"]).rpartition("/")[2]),
        "duration": video["duration_sec"],
        "width": video["width"],
        "height": video["height"],
        "fps": video["fps"],
        "size": video["size_bytes"],
        "sha256": row["sha256"],
        "stream": 0,
        "created_at": at,
        "updated_at": at,
        "user_metadata": {"source_key": video["source_key"]},
    }
    with store.transaction():
        store.remove("tasks", [Where("video_id", "=", video_id)])
        store.remove("videos", [Where("id", "=", video_id)])
        task = {"id": video_id, "video_id": video_id, "status": "ready", "url": video["url"]}
        store.add("tasks", facts | task)
        analysis = {"looked_by": row["model"], "form": row["form"], "indexed_at": at, "imported": 1}
        store.add("videos", facts | analysis | {"id": video_id, "hls_updated_at": at})


def _videos(lake: Any) -> dict[str, Row]:
    """The first row of `videos` for each video id."""
    from tl_data.lake.schemas import VIDEOS

    columns = ("source_key", "url", "canonical_url", "video_id", "duration_sec", "width", "height", "fps")
    found: dict[str, Row] = {}
    for row in _rows(lake.batches(VIDEOS, [*columns, "size_bytes", "indexed_at"])):
        if row["video_id"]:
            found.setdefault(str(row["video_id"]), row)
    return found


def _posters(lake: Any, ids: Collection[str]) -> dict[str, bytes]:
    """The posters of these videos in the table `frames`."""
    from tl_data.lake.schemas import FRAMES

    is_poster = pc.field("kind") == "poster"
    batches = (batch.filter(is_poster) for batch in lake.batches(FRAMES, ["video_id", "kind", "jpeg"]))
    return {row["video_id"]: row["jpeg"] for row in _rows(batches, ids)}


def _rows(batches: Iterable[pa.RecordBatch], ids: Collection[str] | None = None) -> Iterator[Row]:
    """The rows of these videos, or of all; evidence and pictures of others do not become Python objects."""
    wanted = None if ids is None else pa.array(list(ids), pa.string())
    for batch in batches:
        if wanted is not None:
            batch = batch.filter(pc.field("video_id").isin(wanted))
        yield from batch.to_pylist()
