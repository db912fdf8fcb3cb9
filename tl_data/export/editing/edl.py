"""CMX 3600 EDLs (edit decision lists): cuts of a video, and markers in the form that DaVinci Resolve imports.

Times in an EDL are timecode, which ends at 24 hours. Videos that end later are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tl_data.export.editing.moments import COLORS, OPTIONS, Moment, Timeline, timeline_of
from tl_data.export.editing.timelines import DEFAULT_TABLES, TIMELINE_TABLES, Folder
from tl_data.export.sink import Refused, Sink

MAX_EVENTS = 999  # event numbers have three digits
#: Marker color -> name of the color in DaVinci Resolve.
RESOLVE = {color: color.capitalize() for color in COLORS.values()}


class _EDL(Folder):
    """Writes one EDL per video."""

    ending = ".edl"

    def text(self, row: Mapping[str, Any]) -> str | Refused:
        timeline = timeline_of(row, self.options)
        if isinstance(timeline, Refused):
            return timeline
        video = row["video_id"] or row["source_key"]
        try:
            timeline.rate.label(timeline.start + timeline.frames)
        except OverflowError:
            reason = "the timecode of its end is above 24 hours, which an EDL does not support"
            return Refused(row["id"], "over_24_hours", reason, video)
        if len(timeline.moments) > MAX_EVENTS:
            reason = f"it has {len(timeline.moments)} moments; an EDL has at most {MAX_EVENTS}"
            return Refused(row["id"], "too_many_events", reason, video)
        mode = "DROP FRAME" if timeline.rate.drop else "NON-DROP FRAME"
        return "\n".join([f"TITLE: {timeline.name[:70]}", f"FCM: {mode}", "", *self.lines(timeline)]) + "\n"

    def lines(self, timeline: Timeline) -> Iterator[str]:
        """The lines of the events."""
        raise NotImplementedError


class _Cuts(_EDL):
    """One event per moment. The parts of the source follow each other in the edited video.

    Moments after 24 hours of the edited video are left out.
    """

    def lines(self, timeline: Timeline) -> Iterator[str]:
        label, start, record = timeline.rate.label, timeline.start, timeline.start
        for number, moment in enumerate(timeline.moments, 1):
            source = start + moment.first
            times = (source, source + moment.frames, record, record + moment.frames)
            if record + moment.frames >= timeline.rate.day:
                return
            yield f"{number:03}  AX       V     C        {' '.join(label(t) for t in times)}"
            yield f"* FROM CLIP NAME: {timeline.file}"
            yield f"* LOC: {label(record)} {moment.color:7} {moment.name}"
            if moment.note:
                yield f"* COMMENT: {moment.note[:200]}"
            record += moment.frames


class _Markers(_EDL):
    """One event of one frame per marker, with its name, color and length in the notation of Resolve."""

    def lines(self, timeline: Timeline) -> Iterator[str]:
        label = timeline.rate.label
        for number, moment in enumerate(timeline.moments, 1):
            at = timeline.start + moment.first
            yield f"{number:03}  001      V     C        " + " ".join(label(t) for t in (at, at + 1) * 2)
            yield f" |C:ResolveColor{RESOLVE[moment.color]} |M:{_marker_name(moment)} |D:{moment.frames}"
            yield ""


def _marker_name(moment: Moment) -> str:
    """The name without `|`, which ends the name of a marker in an EDL."""
    return moment.name.replace("|", "/")


EDL = Sink(
    "edl",
    "timelines",
    _Cuts,
    "a folder of EDLs",
    default_tables=DEFAULT_TABLES,
    allowed_tables=TIMELINE_TABLES,
    options=OPTIONS,
)
MARKERS = Sink(
    "markers",
    "timelines",
    _Markers,
    "a folder of EDLs with markers for DaVinci Resolve",
    default_tables=DEFAULT_TABLES,
    allowed_tables=TIMELINE_TABLES,
    options=OPTIONS,
)
