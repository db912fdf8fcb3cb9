"""Locates the playable source of a video, and gets pictures from the table `frames` or from a local file."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

import pyarrow.compute as pc

from tl_data.errors import MediaRefused
from tl_data.media.frames import FRAMES, POSTER, frame_at
from tl_data.object_store import BucketObject
from tl_data.urls import is_bucket
from tl_data.view.snapshot import LakeFolder, Row

FRAMES_IN_MEMORY = 20_000  # a table `frames` with more rows is read from disk for each picture
#: File extension -> content type.
MEDIA_TYPES = {
    ".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/mp4", ".webm": "video/webm",
    ".mkv": "video/x-matroska", ".avi": "video/x-msvideo", ".ts": "video/mp2t", ".mpg": "video/mpeg",
    ".mpeg": "video/mpeg", ".ogv": "video/ogg", ".wmv": "video/x-ms-wmv", ".flv": "video/x-flv",
    ".3gp": "video/3gpp", ".mp3": "audio/mpeg", ".wav": "audio/wav", ".m4a": "audio/mp4",
    ".flac": "audio/flac",
}  # fmt: skip
CHUNK = 1 << 20  # bytes per chunk of an object in a bucket


@dataclass(frozen=True)
class Playable:
    """How the page plays a video."""

    kind: Literal["file", "http", "hls", "bucket", "none"]
    location: str = ""  # path or URL; empty for `none`
    reason: str = ""  # why the video cannot be played; only for `none`

    @property
    def media_type(self) -> str:
        """The content type, by the file extension."""
        return MEDIA_TYPES.get(Path(urlsplit(self.location).path).suffix.lower(), "application/octet-stream")


class Media:
    """Sources and pictures of the videos of one lake.

    Args:
        lake: the lake; its table `frames` has pictures.
        base: the folder of relative source paths.
        folder: a folder with copies of the sources, which are used first; None: `media` in the lake.
    """

    def __init__(self, lake: LakeFolder, base: Path, folder: Path | None) -> None:
        self.lake = lake
        self.base = base
        local = Path(lake.folder) / "media" if "://" not in lake.folder else None
        self.folder = folder or (local if local and local.is_dir() else None)
        self._frames: dict[str, list[tuple[float, bytes]]] | None = None
        self._frames_version = ""
        self._lock = threading.Lock()
        self._decoders = threading.Semaphore(2)

    def playable(self, tile: Row) -> Playable:
        """How the page plays a video."""
        source = tile["source"]
        if self.folder and (copy := self._local_copy(tile)):
            return Playable("file", str(copy))
        scheme = urlsplit(source).scheme.lower() if "://" in source else ""
        if scheme in ("http", "https"):
            return Playable("hls" if urlsplit(source).path.endswith(".m3u8") else "http", source)
        if is_bucket(source):
            return Playable("bucket", source)
        if not source:
            return Playable("none", reason="The lake has no URL or path of this video.")
        if scheme and scheme != "file":
            return Playable("none", reason=f"A browser cannot open {scheme}:// addresses.")
        path = self._path(source)
        if path.suffix.lower() not in MEDIA_TYPES:
            return Playable("none", reason=f"{path.name} does not have the extension of a video file.")
        if not path.is_file():
            return Playable(
                "none",
                reason=f"{tile['file']} is no longer at {path}. Pass its folder: tl-data view --media FOLDER",
            )
        return Playable("file", str(path))

    def picture(self, tile: Row, second: float | None) -> bytes | None:
        """A picture of a video at a time, as JPEG; None if there is no picture.

        Args:
            second: seconds from the start of the video; None: its poster.

        Raises:
            MediaRefused: the file cannot be decoded.
        """
        stored = self._stored_frames(tile["video_id"])
        if stored:
            if second is None:
                return stored[len(stored) * POSTER // FRAMES][1]
            nearest = min(stored, key=lambda frame: abs(frame[0] - second))
            if abs(nearest[0] - second) < 1.0 or self.playable(tile).kind != "file":
                return nearest[1]
        playable = self.playable(tile)
        if playable.kind != "file":
            return stored[0][1] if stored else None
        length = float(tile["duration_sec"] or 0.0)
        picture_second = length / 3 if second is None else second
        with self._decoders:
            modified = Path(playable.location).stat().st_mtime_ns
            picture = frame(playable.location, round(picture_second, 1), modified)
        if isinstance(picture, MediaRefused):
            raise picture
        return picture

    def _local_copy(self, tile: Row) -> Path | None:
        """The copy of a source in the media folder, by file name or source key."""
        assert self.folder is not None
        for name in dict.fromkeys((tile["file"], tile["source_key"])):
            path: Path = (self.folder / name).resolve()
            inside = path.is_relative_to(self.folder.resolve()) and path.suffix.lower() in MEDIA_TYPES
            if name and inside and path.is_file():
                return path
        return None

    def _path(self, source: str) -> Path:
        path = unquote(urlsplit(source).path) if source.startswith("file://") else source
        return self.base / Path(path).expanduser()

    def _stored_frames(self, video_id: str | None) -> list[tuple[float, bytes]]:
        """The pictures of a video in the table `frames`, as (second, JPEG), sorted by time."""
        if not video_id:
            return []
        snapshot = self.lake.snapshot()
        total = snapshot.counts.get("frames", 0)
        if not total:
            return []
        columns = ["video_id", "sec", "jpeg"]
        if total > FRAMES_IN_MEMORY:
            batches = self.lake.batches("frames", columns, pc.field("video_id") == video_id)
            return sorted((r["sec"], r["jpeg"]) for b in batches for r in b.to_pylist() if r["jpeg"])
        with self._lock:
            if self._frames is None or self._frames_version != snapshot.version:
                frames: dict[str, list[tuple[float, bytes]]] = {}
                for batch in self.lake.batches("frames", columns):
                    for row in batch.to_pylist():
                        if row["jpeg"]:
                            frames.setdefault(row["video_id"], []).append((row["sec"], row["jpeg"]))
                self._frames = {name: sorted(pictures) for name, pictures in frames.items()}
                self._frames_version = snapshot.version
            return self._frames.get(video_id, [])


@lru_cache(maxsize=2048)
def frame(path: str, second: float, modified: int) -> bytes | MediaRefused | None:
    """The frame of a file at a time as JPEG, or the reason why it cannot be decoded; None for audio files.

    Args:
        modified: time of the last change of the file; part of the cache key.
    """
    try:
        return frame_at(path, second)
    except MediaRefused as error:  # returned, because the cache keeps results but not exceptions
        return error


async def chunks_of(source: BucketObject, start: int, end: int) -> AsyncIterator[bytes]:
    """The bytes of an object from `start` to `end` (exclusive), in chunks. The page gets no credentials."""
    while start < end:
        stop = min(start + CHUNK, end)
        yield await source.read(start, stop)
        start = stop
