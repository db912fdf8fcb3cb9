"""OpenTimelineIO files: the whole video as one clip, with a marker for each moment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tl_data.export.editing.moments import OPTIONS, Timeline, media_url, timeline_of
from tl_data.export.editing.timelines import DEFAULT_TABLES, TIMELINE_TABLES, Folder
from tl_data.export.sink import Refused, Sink, Target, import_client

EXTRA = "export-editing"


class _OTIO(Folder):
    """Writes one OpenTimelineIO file per video."""

    ending = ".otio"

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        [self._otio] = import_client(EXTRA, "opentimelineio")

    def text(self, row: Mapping[str, Any]) -> str | Refused:
        timeline = timeline_of(row, self.options)
        if isinstance(timeline, Refused):
            return timeline
        text: str = self._otio.adapters.write_to_string(self._convert(timeline), "otio_json")
        return text

    def _convert(self, timeline: Timeline) -> Any:
        """The timeline as an object of OpenTimelineIO."""
        schema, time = self._otio.schema, self._otio.opentime
        fps = float(timeline.rate.fps)

        def time_range(first: int, frames: int) -> Any:
            return time.TimeRange(time.RationalTime(first, fps), time.RationalTime(frames, fps))

        available = time_range(timeline.start, timeline.frames)
        media = schema.ExternalReference(media_url(timeline.url), available)
        clip = schema.Clip(timeline.file, media, available)
        for moment in timeline.moments:
            marked = time_range(timeline.start + moment.first, moment.frames)
            marker = schema.Marker(moment.name, marked, moment.color)
            marker.comment = moment.note
            clip.markers.append(marker)
        result = schema.Timeline(timeline.name, global_start_time=time.RationalTime(timeline.start, fps))
        track = schema.Track("V1", kind=schema.TrackKind.Video)
        track.append(clip)
        result.tracks.append(track)
        return result


SINK = Sink(
    "otio",
    "timelines",
    _OTIO,
    "a folder of OpenTimelineIO files",
    extra=EXTRA,
    default_tables=DEFAULT_TABLES,
    allowed_tables=TIMELINE_TABLES,
    options=OPTIONS,
)
