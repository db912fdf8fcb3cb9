"""FiftyOne: a dataset of videos with their chapters, clips and other moments as temporal detections.

Each exported table gets a saved view `tl_<table>` with one sample per moment. Frames count from 1. FiftyOne
plays files of its own machine: `media` is the folder where the videos are, by file name.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from tl_data.errors import SchemaMismatch
from tl_data.export.editing.moments import OPTIONS, Timeline, timeline_of
from tl_data.export.editing.timelines import DEFAULT_TABLES, TIMELINE_TABLES
from tl_data.export.sink import BaseStore, Refused, Shape, Sink, Target, import_client

EXTRA = "fiftyone"
#: Table -> label of its moments. None: the label is the title of the moment.
LABELS = dict.fromkeys(TIMELINE_TABLES) | {"clips": "clip"}


class FiftyOne(BaseStore):
    """Writes one sample per video."""

    def __init__(self, target: Target) -> None:
        self._fo, errors = import_client(EXTRA, "fiftyone", "pymongo.errors")
        self.errors = (errors.PyMongoError, self._fo.core.config.FiftyOneConfigError, ValueError, OSError)
        self._name, self._address, self._options = target.location, target.name, target.options
        self._dataset: Any = None
        self._tables: list[str] = []

    def ensure(self, shape: Shape, *, create: bool) -> bool:
        """Check that an export created the dataset, or create it."""
        self._tables = shape.table.split("+")
        is_new = not self._fo.dataset_exists(self._name)
        if is_new and not create:
            return True
        if is_new:
            self._dataset = self._fo.Dataset(self._name, persistent=True)
            self._dataset.add_sample_field("tl_id", self._fo.StringField)
            self._dataset.create_index("tl_id", unique=True)
        else:
            self._dataset = self._fo.load_dataset(self._name)
        if not self._dataset.has_sample_field("tl_id") or self._dataset.media_type not in (None, "video"):
            raise SchemaMismatch(
                f"{self._address}: the dataset was not made by an export (it has no field tl_id, or no "
                "videos). Nothing was written. Choose another name."
            )
        return is_new

    def upsert(self, rows: pa.RecordBatch) -> list[Refused]:
        """Replace the samples of these videos. A video without a constant frame rate is refused."""
        samples, refused = [], []
        for row in rows.to_pylist():
            timeline = timeline_of(row, self._options)
            if isinstance(timeline, Refused):
                refused.append(timeline)
            else:
                samples.append(self._sample(row, timeline))
        self.delete(rows.column("id").to_pylist())
        if samples:
            self._dataset.add_samples(samples, dynamic=True, progress=False)
        return refused

    def _sample(self, row: dict[str, Any], timeline: Timeline) -> Any:
        fo = self._fo
        folder = self._options.get("media")
        path = str(Path(folder).expanduser().absolute() / timeline.file) if folder else timeline.url
        names = ("video_id", "source_key", "url", "title")
        fields = {name: row[name] for name in names} | {"tl_id": row["id"]}
        # FiftyOne reads the type from the extension, which a URL need not have.
        sample = fo.Sample(filepath=path, media_type="video", **fields)
        width, height = timeline.size or (None, None)
        sample.metadata = fo.VideoMetadata(
            total_frame_count=timeline.frames,
            frame_rate=float(timeline.rate.fps),
            duration=row["duration_sec"],
            frame_width=width,
            frame_height=height,
        )
        moments: dict[str, list[Any]] = {name: [] for name in self._tables}
        for event, moment in zip(row["events"], timeline.moments, strict=True):
            detection = fo.TemporalDetection(
                label=LABELS[event["kind"]] or moment.name,
                support=[moment.first + 1, moment.first + moment.frames],
                text=event["text"],
                start_sec=event["start_sec"],
                end_sec=event["end_sec"],
            )
            moments[event["kind"]].append(detection)
        for name, detections in moments.items():
            sample[name] = fo.TemporalDetections(detections=detections)
        return sample

    def delete(self, ids: Sequence[str]) -> None:
        """Delete the samples of removed videos."""
        if self._dataset is not None:
            found = self._dataset.match(self._fo.ViewField("tl_id").is_in(list(ids)))
            self._dataset.delete_samples(found)

    def finish(self) -> None:
        """Save a view for each table, with one clip per moment."""
        for name in self._tables:
            if self._dataset.has_sample_field(name):
                self._dataset.save_view(f"tl_{name}", self._dataset.to_clips(name), overwrite=True)
        self._dataset.save()


SINK = Sink(
    "fiftyone",
    "timelines",
    FiftyOne,
    "the name of a dataset",
    extra=EXTRA,
    default_tables=DEFAULT_TABLES,
    allowed_tables=TIMELINE_TABLES,
    options={**OPTIONS, "media": "folder where FiftyOne finds the files of the videos"},
)
