"""Label Studio tasks: one per video, with its moments as predictions that a person corrects.

The labelling interface needs `<Video name="video" value="$video"/>` and
`<TimelineLabels name="moments" toName="video">`. Label Studio counts frames from 1.
"""

from __future__ import annotations

import uuid
from typing import Any

import orjson

from tl_data.export.editing.moments import OPTIONS, Timeline, media_url, timeline_of
from tl_data.export.editing.timelines import DEFAULT_TABLES, TIMELINE_TABLES
from tl_data.export.sink import Refused, Sink, Target
from tl_data.export.text.jsonl import SingleFile
from tl_data.lake.row_ids import NAMESPACE

_LABELS = {"chapters": "Chapter", "clips": "Clip", "highlights": "Highlight", "alerts": "Alert"}


class _Tasks(SingleFile):
    """Writes a JSON array of tasks to one file."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._options = target.options
        self._written = 0

    def upsert(self, rows: Any) -> list[Refused]:
        """Write the tasks of these videos. A video without a constant frame rate is refused."""
        if self._out is None:
            self._out = self._part.open("wb")
            self._out.write(b"[")
        refused = []
        for row in rows.to_pylist():
            timeline = timeline_of(row, self._options)
            if isinstance(timeline, Refused):
                refused.append(timeline)
                continue
            separator = b",\n" if self._written else b"\n"
            self._out.write(separator + orjson.dumps(self._task(row, timeline)))
            self._written += 1
        return refused

    def end(self, out: Any) -> None:
        """Close the array."""
        out.write(b"\n]\n")

    def _task(self, row: dict[str, Any], timeline: Timeline) -> dict[str, Any]:
        data = {n: row[n] for n in ("video_id", "source_key", "title", "duration_sec")}
        results: list[dict[str, Any]] = []
        for event, moment in zip(row["events"], timeline.moments, strict=True):
            frames = {"start": moment.first + 1, "end": moment.first + moment.frames}
            label = _LABELS.get(event["kind"]) or str(event["text"]).capitalize()
            value = {"ranges": [frames], "timelinelabels": [label]}
            key = f"{row['id']}/{event['kind']}/{moment.first}/{len(results)}"
            results.append(
                {
                    "id": uuid.uuid5(NAMESPACE, key).hex[:10],
                    "type": "timelinelabels",
                    "from_name": "moments",
                    "to_name": "video",
                    "value": value,
                    "meta": {"text": [t for t in (moment.name, moment.note) if t]},
                }
            )
        prediction = {"model_version": "tl_data", "result": results}
        fps = float(timeline.rate.fps)
        return {"data": {"video": media_url(row["url"]), "fps": fps, **data}, "predictions": [prediction]}


SINK = Sink(
    "labelstudio",
    "timelines",
    _Tasks,
    "a .json file of tasks",
    default_tables=DEFAULT_TABLES,
    allowed_tables=TIMELINE_TABLES,
    options=OPTIONS,
    single_file=True,
)
