"""The moments of a video (its chapters, clips, alerts) in whole frames, for formats that count frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from tl_data.export.editing.timecode import Rate
from tl_data.export.editing.timelines import RATE_OPTIONS, no_rate, rate_of
from tl_data.export.sink import Refused

OPTIONS = RATE_OPTIONS
COLORS = {
    "chapters": "GREEN",
    "clips": "CYAN",
    "highlights": "YELLOW",
    "annotations": "PURPLE",
    "alerts": "RED",
}


@dataclass(frozen=True)
class Moment:
    """A chapter, clip or other moment, as a range of at least one frame."""

    first: int  # number of its first frame; the video begins with frame 0
    frames: int  # number of its frames
    name: str
    note: str
    color: str


@dataclass(frozen=True)
class Timeline:
    """A video with its moments."""

    name: str
    url: str
    rate: Rate
    start: int  # the timecode of the first frame, in frames
    frames: int  # number of frames of the video
    size: tuple[int, int] | None  # width and height in pixels
    moments: tuple[Moment, ...]

    @property
    def file(self) -> str:
        """The name of the video's file."""
        return PurePath(unquote(urlsplit(self.url).path) if "://" in self.url else self.url).name or self.name


def timeline_of(row: Mapping[str, Any], options: Mapping[str, str]) -> Timeline | Refused:
    """Convert a row of `timelines.SCHEMA` to frames. A video without a constant frame rate is refused.

    Times are rounded to the nearest frame. If a moment ends at the time at which the next one begins, there
    is no gap between their frames. Frames after the end of the video are cut off.

    Raises:
        SettingsError: the requested frame rate or first timecode is invalid.
    """
    rate = rate_of(row["fps"], options)
    if rate is None:
        return no_rate(row)
    ends = [event["end_sec"] for event in row["events"]]
    length = row["duration_sec"] or max(ends, default=0.0)
    frames = max(rate.frames(length), 1)
    moments = []
    for number, event in enumerate(row["events"], 1):
        first = min(rate.frames(event["start_sec"]), frames - 1)
        last = min(max(rate.frames(event["end_sec"]), first + 1), frames)
        name = one_line(event["title"] or event["text"] or f"{event['kind']} {number}")
        note = one_line(event["text"] or "") if event["title"] else ""
        moments.append(Moment(first, last - first, name, note, COLORS[event["kind"]]))
    size = (row["width"], row["height"]) if row["width"] and row["height"] else None
    start = rate.frame_of(options["start"]) if "start" in options else 0
    return Timeline(one_line(row["title"]), row["url"], rate, start, frames, size, tuple(moments))


def one_line(text: str) -> str:
    """Text on one line: without line breaks and control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def media_url(url: str) -> str:
    """The URL of the media. A local path becomes a `file://` URL."""
    return url if "://" in url else f"file://{quote(url)}"
