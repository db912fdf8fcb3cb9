"""Timelines for Final Cut Pro (FCPXML 1.9) and Premiere (the XML of Final Cut Pro 7), one file per video.

A timeline has the whole video as one clip, with a marker for each moment. Times are whole frames: FCPXML
gives them as fractions of a second, Premiere as frame numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as ET

from tl_data.export.editing.moments import OPTIONS, Timeline, media_url, timeline_of
from tl_data.export.editing.timelines import DEFAULT_TABLES, TIMELINE_TABLES, Folder
from tl_data.export.sink import Refused, Sink


class _FCPXML(Folder):
    """Writes one FCPXML file per video."""

    ending = ".fcpxml"

    def text(self, row: Mapping[str, Any]) -> str | Refused:
        timeline = timeline_of(row, self.options)
        return timeline if isinstance(timeline, Refused) else _document(_fcpxml(timeline), "fcpxml")


class _Premiere(Folder):
    """Writes one XML file per video for Premiere."""

    ending = ".xml"

    def text(self, row: Mapping[str, Any]) -> str | Refused:
        timeline = timeline_of(row, self.options)
        return timeline if isinstance(timeline, Refused) else _document(_xmeml(timeline), "xmeml")


def _document(root: ET.Element, kind: str) -> str:
    ET.indent(root)
    body = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE {kind}>\n{body}\n'


def _fcpxml(timeline: Timeline) -> ET.Element:
    rate = timeline.rate.fps

    def time(frames: int) -> str:
        return f"{frames * rate.denominator}/{rate.numerator}s" if frames else "0s"

    root = ET.Element("fcpxml", version="1.9")
    resources = ET.SubElement(root, "resources")
    size = {"width": str(timeline.size[0]), "height": str(timeline.size[1])} if timeline.size else {}
    ET.SubElement(resources, "format", {"id": "r1", "frameDuration": time(1), **size})
    video = {
        "format": "r1",
        "hasVideo": "1",
        "start": time(timeline.start),
        "duration": time(timeline.frames),
    }
    asset = ET.SubElement(resources, "asset", {"id": "r2", "name": timeline.file, **video})
    ET.SubElement(asset, "media-rep", {"kind": "original-media", "src": media_url(timeline.url)})
    event = ET.SubElement(ET.SubElement(root, "library"), "event", name="tl_data")
    project = ET.SubElement(event, "project", name=timeline.name)
    form = "DF" if timeline.rate.drop else "NDF"
    common = {"duration": time(timeline.frames), "tcFormat": form}
    sequence = ET.SubElement(project, "sequence", {"format": "r1", "tcStart": time(timeline.start), **common})
    spine = ET.SubElement(sequence, "spine")
    place = {"ref": "r2", "offset": time(timeline.start), "start": time(timeline.start)}
    clip = ET.SubElement(spine, "asset-clip", {"name": timeline.file, **place, **common})
    for moment in timeline.moments:
        at = {"start": time(timeline.start + moment.first), "duration": time(moment.frames)}
        note = {"note": moment.note} if moment.note else {}
        ET.SubElement(clip, "marker", {**at, "value": moment.name, **note})
    return root


def _xmeml(timeline: Timeline) -> ET.Element:
    def add(parent: ET.Element, name: str, value: Any = None, **attributes: str) -> ET.Element:
        element = ET.SubElement(parent, name, attributes)
        element.text = None if value is None else str(value)
        return element

    def rate(parent: ET.Element) -> None:
        element = add(parent, "rate")
        add(element, "timebase", timeline.rate.nominal)
        add(element, "ntsc", "TRUE" if timeline.rate.fps.denominator == 1001 else "FALSE")

    def timecode(parent: ET.Element) -> None:
        element = add(parent, "timecode")
        rate(element)
        if timeline.start < timeline.rate.day:
            add(element, "string", timeline.rate.label(timeline.start))
        add(element, "frame", timeline.start)
        add(element, "displayformat", "DF" if timeline.rate.drop else "NDF")

    root = ET.Element("xmeml", version="5")
    sequence = add(root, "sequence", id="sequence-1")
    add(sequence, "name", timeline.name)
    add(sequence, "duration", timeline.frames)
    rate(sequence)
    timecode(sequence)
    video = add(add(sequence, "media"), "video")
    if timeline.size:
        shape = add(add(video, "format"), "samplecharacteristics")
        add(shape, "width", timeline.size[0])
        add(shape, "height", timeline.size[1])
    clip = add(add(video, "track"), "clipitem", id="clipitem-1")
    add(clip, "name", timeline.file)
    add(clip, "duration", timeline.frames)
    rate(clip)
    for name, frame in (("start", 0), ("end", timeline.frames), ("in", 0), ("out", timeline.frames)):
        add(clip, name, frame)
    file = add(clip, "file", id="file-1")
    add(file, "name", timeline.file)
    add(file, "pathurl", media_url(timeline.url))
    rate(file)
    add(file, "duration", timeline.frames)
    timecode(file)
    for moment in timeline.moments:
        marker = add(sequence, "marker")
        add(marker, "name", moment.name)
        add(marker, "comment", moment.note)
        add(marker, "in", moment.first)
        add(marker, "out", moment.first + moment.frames)
    return root


FCPXML = Sink(
    "fcpxml",
    "timelines",
    _FCPXML,
    "a folder of FCPXML files",
    default_tables=DEFAULT_TABLES,
    allowed_tables=TIMELINE_TABLES,
    options=OPTIONS,
)
PREMIERE = Sink(
    "premiere",
    "timelines",
    _Premiere,
    "a folder of XML files that Premiere imports",
    default_tables=DEFAULT_TABLES,
    allowed_tables=TIMELINE_TABLES,
    options=OPTIONS,
)
