"""CMX 3600 EDLs: a list of cuts of the chapters, and markers as DaVinci Resolve imports them.

An EDL holds timecode alone, so nothing in it passes 24 hours; such videos are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tl_data.export.editing.moments import OPTIONS, Moment, Timeline, timeline_of
from tl_data.export.editing.timelines import Folder
from tl_data.export.sink import Refused, Sink

EVENTS = 999  # numbers of three digits
RESOLVE = {"GREEN": "Green", "CYAN": "Cyan", "RED": "Red"}


class _EDL(Folder):
    ending = ".edl"

    def text(self, row: Mapping[str, Any]) -> str | Refused:
        made = timeline_of(row, self.options)
        if isinstance(made, Refused):
            return made
        of = row["video_id"] or row["source_key"]
        try:
            made.rate.label(made.start + made.frames)
        except OverflowError:
            reason = "it ends after 24 hours of timecode, which an EDL does not have"
            return Refused(row["id"], "over_24_hours", reason, of)
        if len(made.moments) > EVENTS:
            reason = f"{len(made.moments)} moments, where an EDL numbers {EVENTS}"
            return Refused(row["id"], "too_many_events", reason, of)
        mode = "DROP FRAME" if made.rate.drop else "NON-DROP FRAME"
        return "\n".join([f"TITLE: {made.name[:70]}", f"FCM: {mode}", "", *self.lines(made)]) + "\n"

    def lines(self, timeline: Timeline) -> Iterator[str]:
        raise NotImplementedError


class _Cuts(_EDL):
    """One event a moment: the source's own stretch, one after the other on the record side."""

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
    """One event of one frame a marker, with its name, colour and length in Resolve's own notation."""

    def lines(self, timeline: Timeline) -> Iterator[str]:
        label = timeline.rate.label
        for number, moment in enumerate(timeline.moments, 1):
            at = timeline.start + moment.first
            yield f"{number:03}  001      V     C        " + " ".join(label(t) for t in (at, at + 1) * 2)
            yield f" |C:ResolveColor{RESOLVE[moment.color]} |M:{_barless(moment)} |D:{moment.frames}"
            yield ""


def _barless(moment: Moment) -> str:
    """A bar would end the name."""
    return moment.name.replace("|", "/")


EDL = Sink(
    "edl",
    "timelines",
    _Cuts,
    "a folder of EDLs",
    tables=("chapters", "alerts"),
    takes=("chapters", "clips", "alerts"),
    options=OPTIONS,
)
MARKERS = Sink(
    "markers",
    "timelines",
    _Markers,
    "a folder of EDLs with markers for DaVinci Resolve",
    tables=("chapters", "alerts"),
    takes=("chapters", "clips", "alerts"),
    options=OPTIONS,
)
