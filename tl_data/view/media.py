"""Where a video plays from, and its pictures: from the table `frames`, else from a file on this machine."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import pyarrow.compute as pc

from tl_data.errors import LakeError, MediaRefused
from tl_data.media.frames import FRAMES, POSTER, frame_at
from tl_data.object_store import plain_http
from tl_data.view.snapshot import LakeFolder, Row

FRAMES_IN_MEMORY = 20_000  # rows of `frames` that are held; of a larger table each picture is looked up
BUCKETS = ("s3", "gs", "az", "abfs", "abfss", "s3a", "gcs")
KINDS = {
    ".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/mp4", ".webm": "video/webm",
    ".mkv": "video/x-matroska", ".avi": "video/x-msvideo", ".ts": "video/mp2t", ".mpg": "video/mpeg",
    ".mpeg": "video/mpeg", ".ogv": "video/ogg", ".wmv": "video/x-ms-wmv", ".flv": "video/x-flv",
    ".3gp": "video/3gpp", ".mp3": "audio/mpeg", ".wav": "audio/wav", ".m4a": "audio/mp4",
    ".flac": "audio/flac",
}  # fmt: skip
CHUNK = 1 << 20  # bytes of a bucket's object that are sent at a time


@dataclass(frozen=True)
class Playable:
    """How the page plays a video: `none` has a reason instead of a place."""

    kind: Literal["file", "http", "hls", "bucket", "none"]
    place: str = ""
    reason: str = ""

    @property
    def media_type(self) -> str:
        """Content type by the ending of the name."""
        return KINDS.get(Path(urlsplit(self.place).path).suffix.lower(), "application/octet-stream")


class Media:
    """Sources and pictures of the videos of one lake.

    Args:
        lake: whose table `frames` is read.
        base: folder that relative paths of the source are relative to.
        folder: where files of the same name are looked for first; None: `media` in the lake, if it is there.
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
        """Where a video plays from."""
        source = tile["source"]
        if self.folder and (here := self._copy(tile)):
            return Playable("file", str(here))
        scheme = urlsplit(source).scheme.lower() if "://" in source else ""
        if scheme in ("http", "https"):
            return Playable("hls" if urlsplit(source).path.endswith(".m3u8") else "http", source)
        if scheme in BUCKETS:
            return Playable("bucket", source)
        if not source:
            return Playable("none", reason="The lake does not say where this video is.")
        if scheme and scheme != "file":
            return Playable("none", reason=f"A browser cannot open {scheme}:// addresses.")
        path = self._path(source)
        if path.suffix.lower() not in KINDS:
            return Playable("none", reason=f"{path.name} does not end like a video file.")
        if not path.is_file():
            return Playable(
                "none",
                reason=f"{tile['file']} is not at {path} any more. Name its folder: tl-data view --media",
            )
        return Playable("file", str(path))

    def picture(self, tile: Row, second: float | None) -> bytes | None:
        """A JPEG of a moment of a video; None where there is none to be had.

        Args:
            second: of the moment; None: the video's poster.

        Raises:
            MediaRefused: the file is there and cannot be decoded.
        """
        kept = self._kept(tile["video_id"])
        if kept:
            if second is None:
                return kept[len(kept) * POSTER // FRAMES][1]
            nearest = min(kept, key=lambda frame: abs(frame[0] - second))
            if abs(nearest[0] - second) < 1.0 or self.playable(tile).kind != "file":
                return nearest[1]
        found = self.playable(tile)
        if found.kind != "file":
            return kept[0][1] if kept else None
        length = float(tile["duration_sec"] or 0.0)
        moment = length / 3 if second is None else second
        with self._decoders:
            made = frame(found.place, round(moment, 1), Path(found.place).stat().st_mtime_ns)
        if isinstance(made, MediaRefused):
            raise made
        return made

    def _copy(self, tile: Row) -> Path | None:
        assert self.folder is not None
        for name in dict.fromkeys((tile["file"], tile["source_key"])):
            path: Path = (self.folder / name).resolve()
            inside = path.is_relative_to(self.folder.resolve()) and path.suffix.lower() in KINDS
            if name and inside and path.is_file():
                return path
        return None

    def _path(self, source: str) -> Path:
        path = unquote(urlsplit(source).path) if source.startswith("file://") else source
        return self.base / Path(path).expanduser()

    def _kept(self, video_id: str | None) -> list[tuple[float, bytes]]:
        """The pictures of a video in `frames`, in the order of their times."""
        if not video_id:
            return []
        now = self.lake.snapshot()
        total = now.counts.get("frames", 0)
        if not total:
            return []
        columns = ["video_id", "sec", "jpeg"]
        if total > FRAMES_IN_MEMORY:
            batches = self.lake.batches("frames", columns, pc.field("video_id") == video_id)
            return sorted((r["sec"], r["jpeg"]) for b in batches for r in b.to_pylist() if r["jpeg"])
        with self._lock:
            if self._frames is None or self._frames_version != now.version:
                frames: dict[str, list[tuple[float, bytes]]] = {}
                for batch in self.lake.batches("frames", columns):
                    for row in batch.to_pylist():
                        if row["jpeg"]:
                            frames.setdefault(row["video_id"], []).append((row["sec"], row["jpeg"]))
                self._frames = {name: sorted(found) for name, found in frames.items()}
                self._frames_version = now.version
            return self._frames.get(video_id, [])


@lru_cache(maxsize=2048)
def frame(path: str, second: float, modified: int) -> bytes | MediaRefused | None:
    """The frame of a file at a time as JPEG, or why it cannot be decoded; None for sound alone.

    Args:
        modified: time of the file's last change: another one is another file.
    """
    try:
        return frame_at(path, second)
    except MediaRefused as error:  # kept, so that a page with the video does not decode it again
        return error


class BucketObject:
    """An object in a bucket, opened with the credentials of this process; no signature leaves it."""

    def __init__(self, address: str) -> None:
        from obstore.exceptions import BaseError
        from obstore.store import from_url

        parts = urlsplit(address)
        self.path = unquote(parts.path.lstrip("/"))
        try:
            options: Any = {"allow_http": True} if plain_http() else {}
            self._store: Any = from_url(f"{parts.scheme}://{parts.netloc}", client_options=options)
            self.size = int(self._store.head(self.path)["size"])
        except (BaseError, OSError) as error:
            raise LakeError(f"{address} cannot be read: {str(error).splitlines()[0]}") from error

    async def chunks(self, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from `start` to `end` (exclusive)."""
        while start < end:
            stop = min(start + CHUNK, end)
            yield bytes(await self._store.get_range_async(self.path, start=start, end=stop))
            start = stop
