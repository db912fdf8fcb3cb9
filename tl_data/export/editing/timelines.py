"""The moments of each video as one row, from which subtitles, timelines and labelling tasks are made."""

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
from tl_data.lake.schemas import ALERTS, CHAPTERS, CLIPS, SUMMARIES, TABLES, VIDEOS
from tl_data.types import COUNT, NUMBER, TEXT

EVENT = pa.struct(
    [("kind", TEXT), ("start_sec", NUMBER), ("end_sec", NUMBER), ("title", TEXT), ("text", TEXT)]
)
SCHEMA = pa.schema(
    [
        ("id", TEXT),  # the stem of the file's name: unique in the lake, whatever the case of letters
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
NAME_BYTES = 120  # of a stem; file systems allow 255 with the ending
#: Table -> columns that become an event's title and text.
EVENTS = {
    "chapters": (CHAPTERS, "title", "summary"),
    "clips": (CLIPS, None, "transcription"),
    "alerts": (ALERTS, "question", "transcription"),
}
BATCH = 100  # videos
#: What timelines that count frames may be asked for.
RATE_OPTIONS = {
    "fps": "frames per second, instead of the video's own: for variable and unknown rates",
    "start": "timecode of the first frame, such as 01:00:00:00",
}


class TimelineRows:
    """One row a video, with its chapters, clips or alerts in the order of time."""

    def __init__(self, lake: Lake, table: str, options: Mapping[str, str]) -> None:
        self.lake, self.tables = lake, table.split("+")
        asked = rate_of(None, options) if "fps" in options else None
        if "start" in options:  # without a rate only its form can be checked here
            (asked or Rate(RATES[-1])).frame_of(options["start"])

    def shape(self, metric: Metric = "cosine") -> Shape:
        """The columns of `SCHEMA`."""
        return Shape("+".join(self.tables), SCHEMA)

    def batches(self) -> Iterator[Rows]:
        """The videos, in the order of their names."""
        videos = self._videos()
        events = self._events()
        titles = {r["video_id"]: r["title"] for r in self.lake.read(SUMMARIES).to_pylist() if r["title"]}
        found, refused = [], []
        for stem, video in sorted(_named(videos).items()):
            moments, bad = [], 0
            for event in events.get(video["video_id"], ()):
                if _is_stretch(event):
                    moments.append(event)
                else:
                    bad += 1
            if bad:
                text = f"{bad} moments end before they begin, or have no time"
                refused.append(Refused(f"{stem}#moments", "no_stretch", text, video["video_id"] or stem))
            moments.sort(key=lambda e: (e["start_sec"], e["end_sec"], e["kind"]))
            row = {
                n: video.get(n) for n in ("video_id", "source_key", "duration_sec", "fps", "width", "height")
            }
            url = video["canonical_url"] or video["url"]
            title = titles.get(video["video_id"]) or stem
            found.append({**row, "id": stem, "url": url, "title": title, "events": moments})
        for at in range(0, max(len(found), 1), BATCH):
            rows = pa.RecordBatch.from_pylist(found[at : at + BATCH], SCHEMA)
            yield Rows(rows, refused if at == 0 else [])

    def _videos(self) -> list[dict[str, Any]]:
        """One row a video; where several keys are the same video, the first by name."""
        rows = self.lake.read(VIDEOS).sort_by([("source_key", "descending")]).to_pylist()
        rows = [row for row in rows if row["removed_at"] is None]
        return list({row["video_id"] or row["source_key"]: row for row in rows}.values())

    def _events(self) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {}
        for name in self.tables:
            declared, title, text = EVENTS[name]
            columns = [c for c in ("video_id", "start_sec", "end_sec", title, text) if c]
            for batch in self.lake.batches(TABLES[declared.name], columns):
                for row in batch.to_pylist():
                    event = {
                        "kind": name,
                        "start_sec": row["start_sec"],
                        "end_sec": row["end_sec"],
                        "title": row[title] if title else None,
                        "text": row[text],
                    }
                    found.setdefault(row["video_id"], []).append(event)
        return found


def _is_stretch(event: Mapping[str, Any]) -> bool:
    start, end = event["start_sec"], event["end_sec"]
    if start is None or end is None:
        return False
    return bool(math.isfinite(start) and math.isfinite(end) and 0 <= start < end)


def _named(videos: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """A file name for each video: that of its source, with eight letters more where two are alike."""
    stems: dict[str, list[Mapping[str, Any]]] = {}
    for video in videos:
        stems.setdefault(_stem(video).lower(), []).append(video)
    named = {}
    for alike in stems.values():
        for video in alike:
            stem = _stem(video)
            if len(alike) > 1 or stem != _last_part(video):
                stem += "-" + uuid.uuid5(NAMESPACE, str(video["source_key"])).hex[:8]
            named[stem] = video
    return named


def _last_part(video: Mapping[str, Any]) -> str:
    address = str(video["canonical_url"] or video["url"] or video["source_key"])
    path = urlsplit(address).path if "://" in address else address
    name = unquote(path).rstrip("/").rpartition("/")[2]
    stem, dot, ending = name.rpartition(".")
    return stem if dot and re.fullmatch(r"\w{2,5}", ending) and stem else name


def _stem(video: Mapping[str, Any]) -> str:
    """The last part of the address, without what file systems refuse."""
    safe = re.sub(r'[\x00-\x1f\x7f/\\:*?"<>|]+', "_", _last_part(video)).strip(" .")
    return safe.encode()[:NAME_BYTES].decode(errors="ignore").strip(" .") or "video"


def rate_of(fps: float | None, options: Mapping[str, str]) -> Rate | None:
    """The rate of a timeline: as asked for, else the video's own; None when that is no constant one.

    Raises:
        SettingsError: the rate that was asked for is not a standard one.
    """
    if (asked := options.get("fps")) is None:
        found = standard_rate(fps)
        return None if found is None else Rate(found)
    try:
        wanted = standard_rate(float(asked))
    except ValueError:
        wanted = None
    if wanted is None:
        there = ", ".join(f"{float(rate):.5g}" for rate in RATES)
        raise SettingsError(f"fps is {asked!r}; it is one of {there}")
    return Rate(wanted)


def no_rate(row: Mapping[str, Any]) -> Refused:
    """The refusal of a video without a constant frame rate."""
    fps = row["fps"]
    reason = "its frame rate is not known" if not fps else f"{fps:g} fps is no constant standard rate"
    return Refused(
        row["id"], "no_frame_rate", f"{reason}; name one: ?fps=25", row["video_id"] or row["source_key"]
    )


class Folder(BaseStore):
    """One file a video in a folder. A file is written beside its place and renamed into it."""

    errors = (OSError,)
    ending = ""

    def __init__(self, target: Target) -> None:
        self.folder = target.file
        self.options = target.options

    def ensure(self, shape: Shape, *, create: bool) -> bool:
        """Make the folder."""
        is_new = not self.folder.is_dir()
        if create:
            self.folder.mkdir(parents=True, exist_ok=True)
        return is_new

    def upsert(self, rows: pa.RecordBatch) -> list[Refused]:
        """Write the files of these videos."""
        refused = []
        for row in rows.to_pylist():
            made = self.text(row)
            if isinstance(made, Refused):
                refused.append(made)
                self.delete([row["id"]])  # what an earlier version of the video left there is out of date
            else:
                self._put(self.folder / f"{row['id']}{self.ending}", made)
        return refused

    def text(self, row: Mapping[str, Any]) -> str | Refused:
        """The file of one video, or why there is none."""
        raise NotImplementedError

    def delete(self, ids: Sequence[str]) -> None:
        """Remove the files of videos that are gone."""
        for id_ in ids:
            (self.folder / f"{id_}{self.ending}").unlink(missing_ok=True)

    def _put(self, path: Path, text: str) -> None:
        part = path.with_name(f".{path.name[:200]}.part")
        part.write_text(text, encoding="utf-8", newline="\n")
        part.replace(path)
