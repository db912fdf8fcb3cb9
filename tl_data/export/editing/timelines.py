"""One row per video with its chapters, clips and other moments, for subtitles, timelines and labelling tasks.

Videos that the source no longer lists (`removed_at`) are left out.
"""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from tl_data.errors import SettingsError
from tl_data.export.editing.timecode import RATES, Rate, standard_rate
from tl_data.export.rows import Rows
from tl_data.export.sink import BaseStore, Metric, Refused, Shape, Target
from tl_data.lake.lake import Lake
from tl_data.lake.row_ids import NAMESPACE
from tl_data.lake.schemas import ALERTS, ANNOTATIONS, CHAPTERS, CLIPS, HIGHLIGHTS, SUMMARIES, TABLES, VIDEOS
from tl_data.types import COUNT, NUMBER, TEXT

EVENT = pa.struct(
    [("kind", TEXT), ("start_sec", NUMBER), ("end_sec", NUMBER), ("title", TEXT), ("text", TEXT)]
)
SCHEMA = pa.schema(
    [
        ("id", TEXT),  # the file name without extension; unique in the lake, also if case is ignored
        ("video_id", TEXT),
        ("source_key", TEXT),
        ("url", TEXT),
        ("title", TEXT),
        ("duration_sec", NUMBER),
        ("fps", NUMBER),
        ("width", COUNT),
        ("height", COUNT),
        ("events", pa.list_(EVENT)),
    ]
)
NAME_BYTES = 120  # the longest file name without extension; file systems allow 255 bytes
#: Table -> its record, and the columns that become the title and the text of an event.
EVENTS = {
    "chapters": (CHAPTERS, "title", "summary"),
    "clips": (CLIPS, None, "transcription"),
    "highlights": (HIGHLIGHTS, "highlight", "summary"),
    "annotations": (ANNOTATIONS, "label", "kind"),
    "alerts": (ALERTS, "question", "transcription"),
}
TIMELINE_TABLES = tuple(EVENTS)  # the tables whose rows become moments
DEFAULT_TABLES = ("chapters", "alerts")
#: `annotations.kind` -> the text of the event.
KINDS = {"text": "on-screen text"}
BATCH = 100  # videos per batch
#: The options of formats that count frames.
RATE_OPTIONS = {
    "fps": "frames per second, for videos with a variable or unknown rate",
    "start": "timecode of the first frame, such as 01:00:00:00",
}


class TimelineRows:
    """Reads one row per video, with its moments sorted by time."""

    def __init__(self, lake: Lake, table: str, options: Mapping[str, str]) -> None:
        self.lake, self.tables = lake, table.split("+")
        rate = rate_of(None, options) if "fps" in options else None
        if "start" in options:  # without a rate, the highest one accepts every possible frame number
            (rate or Rate(RATES[-1])).frame_of(options["start"])

    def shape(self, metric: Metric = "cosine") -> Shape:
        """The columns of `SCHEMA`."""
        return Shape("+".join(self.tables), SCHEMA)

    def batches(self) -> Iterator[Rows]:
        """The videos, sorted by file name."""
        videos = self._videos()
        events = self._events()
        titles = {_video_of(r): r["title"] for r in self.lake.read(SUMMARIES).to_pylist() if r["title"]}
        timelines, refused = [], []
        for stem, video in sorted(_file_names(videos).items()):
            moments, invalid = [], 0
            keys = [key for key in (video["video_id"], video["content_key"]) if key]
            for event in (event for key in keys for event in events.get(key, ())):
                if _has_time_range(event):
                    moments.append(event)
                else:
                    invalid += 1
            if invalid:
                text = f"{invalid} moments have no time, or do not end after they begin"
                refused.append(Refused(f"{stem}#moments", "no_time_range", text, video["video_id"] or stem))
            moments.sort(key=lambda e: (e["start_sec"], e["end_sec"], e["kind"]))
            row = {
                n: video.get(n) for n in ("video_id", "source_key", "duration_sec", "fps", "width", "height")
            }
            url = video["canonical_url"] or video["url"]
            title = next((titles[key] for key in keys if key in titles), stem)
            timelines.append({**row, "id": stem, "url": url, "title": title, "events": moments})
        for start in range(0, max(len(timelines), 1), BATCH):
            rows = pa.RecordBatch.from_pylist(timelines[start : start + BATCH], SCHEMA)
            yield Rows(rows, refused if start == 0 else [])

    def _videos(self) -> list[dict[str, Any]]:
        """One row per video. Of several source keys of the same video, the first in the alphabet wins."""
        rows = self.lake.read(VIDEOS).sort_by([("source_key", "descending")]).to_pylist()
        rows = [row for row in rows if row["removed_at"] is None]
        return list({row["video_id"] or row["source_key"]: row for row in rows}.values())

    def _events(self) -> dict[str, list[dict[str, Any]]]:
        """The id of a video, or the key of its content if the video is not indexed -> its moments."""
        events: dict[str, list[dict[str, Any]]] = {}
        for name in self.tables:
            declared, title, text = EVENTS[name]
            columns = [c for c in ("video_id", "start_sec", "end_sec", title, text) if c]
            columns += [c for c in ("content_key",) if c in declared.schema.names]
            for batch in self.lake.batches(TABLES[declared.name], columns):
                for row in batch.to_pylist():
                    event = {
                        "kind": name,
                        "start_sec": row["start_sec"],
                        "end_sec": row["end_sec"],
                        "title": row[title] if title else None,
                        "text": KINDS.get(row[text], row[text]) if name == "annotations" else row[text],
                    }
                    events.setdefault(_video_of(row), []).append(event)
        return events


def _video_of(row: Mapping[str, Any]) -> str:
    """The id of the video of a row, or the key of its content if the video is not indexed."""
    return str(row["video_id"] or row.get("content_key") or "")


def _has_time_range(event: Mapping[str, Any]) -> bool:
    start, end = event["start_sec"], event["end_sec"]
    if start is None or end is None:
        return False
    return bool(math.isfinite(start) and math.isfinite(end) and 0 <= start < end)


def _file_names(videos: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """File name without extension -> video.

    The name is that of the source. Eight hexadecimal digits are added if two names are equal or the name was
    changed.
    """
    stems: dict[str, list[Mapping[str, Any]]] = {}
    for video in videos:
        stems.setdefault(_stem(video).lower(), []).append(video)
    names = {}
    for same_name in stems.values():
        for video in same_name:
            stem = _stem(video)
            if len(same_name) > 1 or stem != _last_part(video):
                stem += "-" + uuid.uuid5(NAMESPACE, str(video["source_key"])).hex[:8]
            names[stem] = video
    return names


def _last_part(video: Mapping[str, Any]) -> str:
    """The last part of the address, without a file extension."""
    address = str(video["canonical_url"] or video["url"] or video["source_key"])
    path = urlsplit(address).path if "://" in address else address
    name = unquote(path).rstrip("/").rpartition("/")[2]
    stem, dot, ending = name.rpartition(".")
    return stem if dot and re.fullmatch(r"\w{2,5}", ending) and stem else name


def _stem(video: Mapping[str, Any]) -> str:
    """The last part of the address, without characters that file systems refuse."""
    safe = re.sub(r'[\x00-\x1f\x7f/\\:*?"<>|]+', "_", _last_part(video)).strip(" .")
    return safe.encode()[:NAME_BYTES].decode(errors="ignore").strip(" .") or "video"


def rate_of(fps: float | None, options: Mapping[str, str]) -> Rate | None:
    """The rate of a timeline: the option `fps`, or the rate of the video. None if it is not a standard rate.

    Raises:
        SettingsError: the option `fps` is not a standard rate.
    """
    if (option := options.get("fps")) is None:
        rate = standard_rate(fps)
        return None if rate is None else Rate(rate)
    try:
        rate = standard_rate(float(option))
    except ValueError:
        rate = None
    if rate is None:
        valid = ", ".join(f"{float(rate):.5g}" for rate in RATES)
        raise SettingsError(f"fps is {option!r}; it must be one of {valid}")
    return Rate(rate)


def no_rate(row: Mapping[str, Any]) -> Refused:
    """The refusal of a video without a standard constant frame rate."""
    fps = row["fps"]
    reason = "its frame rate is unknown" if not fps else f"{fps:g} fps is not a standard constant rate"
    return Refused(
        row["id"], "no_frame_rate", f"{reason}. Set one: ?fps=25", row["video_id"] or row["source_key"]
    )


class Folder(BaseStore):
    """Writes one file per video to a folder. A file gets its final name when it is complete."""

    errors = (OSError,)
    ending = ""

    def __init__(self, target: Target) -> None:
        self.folder = target.file
        self.options = target.options

    def ensure(self, shape: Shape, *, create: bool) -> bool:
        """Create the folder if it is missing."""
        is_new = not self.folder.is_dir()
        if create:
            self.folder.mkdir(parents=True, exist_ok=True)
        return is_new

    def upsert(self, rows: pa.RecordBatch) -> list[Refused]:
        """Write the files of these videos."""
        refused = []
        for row in rows.to_pylist():
            text = self.text(row)
            if isinstance(text, Refused):
                refused.append(text)
                self.delete([row["id"]])  # the file of an earlier version of the video is out of date
            else:
                self._write(self.folder / f"{row['id']}{self.ending}", text)
        return refused

    def text(self, row: Mapping[str, Any]) -> str | Refused:
        """The content of the file of one video, or its refusal."""
        raise NotImplementedError

    def delete(self, ids: Sequence[str]) -> None:
        """Delete the files of removed videos."""
        for id_ in ids:
            (self.folder / f"{id_}{self.ending}").unlink(missing_ok=True)

    def _write(self, path: Path, text: str) -> None:
        part = path.with_name(f".{path.name[:200]}.part")
        part.write_text(text, encoding="utf-8", newline="\n")
        part.replace(path)
