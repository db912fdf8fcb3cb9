"""Reads the rows of a lake for exports. Each row has an `id` that is stable across exports.

Rows of `vectors` get the URL and title of their video and the transcription of their time range. Rows of
other tables get no further columns. Times are seconds from the start of the video.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tl_data.errors import SettingsError
from tl_data.export.sink import Metric, Refused, Shape
from tl_data.lake.lake import Lake
from tl_data.lake.row_ids import row_ids
from tl_data.lake.schemas import CLIPS, SUMMARIES, TABLES, VECTORS, VIDEOS
from tl_data.types import NUMBER, TEXT

#: The columns that are exported with a vector, in the order in which stores show them.
PAYLOAD = pa.schema(
    [
        ("video_id", TEXT),
        ("source_key", TEXT),
        ("url", TEXT),
        ("start_sec", NUMBER),
        ("end_sec", NUMBER),
        ("embedding_scope", TEXT),
        ("embedding_option", TEXT),
        ("model", TEXT),
        ("title", TEXT),
        ("transcription", TEXT),
    ]
)
#: The tables that tools with `Sink.reader == "tables"` accept.
EXPORTABLE = (
    *("videos", "clips", "summaries", "chapters", "highlights", "annotations", "vectors", "alerts"),
    *("errors", "runs"),
)


@dataclass
class Rows:
    """One batch: rows to send, and rows that no target can accept."""

    rows: pa.RecordBatch
    refused: list[Refused]


class TableRows:
    """Reads the rows of a table as they are, for tools that accept tables."""

    def __init__(self, lake: Lake, table: str, names: Mapping[str, str] | None = None) -> None:
        self.lake, self.table = lake, table
        self.columns = select_columns(names, TABLES[table].schema)

    def shape(self, metric: Metric = "cosine") -> Shape:
        """The columns and, if the table has vectors, their dimension."""
        fields = pa.schema([(n, TABLES[self.table].schema.field(c).type) for n, c in self.columns.items()])
        dimension = _dimension(self.lake) if self.table == "vectors" else None
        return Shape(self.table, fields, dimension, metric)

    def batches(self) -> Iterator[Rows]:
        """The rows in batches."""
        seen: set[str] = set()
        for batch in self.lake.batches(TABLES[self.table]):
            ids = row_ids(self.table, batch)
            columns = [pa.array(ids, TEXT), *(batch.column(c) for c in self.columns.values())]
            rows = pa.record_batch(columns, names=["id", *self.columns])
            yield _refuse_duplicates(rows, ids, seen, batch)


class VectorRows:
    """Reads the vectors of a lake, with the URL, title and transcription that belong to each."""

    def __init__(self, lake: Lake, table: str = "vectors", names: Mapping[str, str] | None = None) -> None:
        if table != "vectors":
            raise SettingsError(f"table {table} has no vectors; export the table vectors")
        self.lake, self.table = lake, table
        self.columns = select_columns(names, PAYLOAD)
        self._metric: Metric = "cosine"
        self._dimension = _dimension(lake)

    def shape(self, metric: Metric = "cosine") -> Shape:
        """The columns that are exported with a vector, the dimension, and the requested metric."""
        self._metric = metric
        fields = pa.schema([(n, PAYLOAD.field(c).type) for n, c in self.columns.items()])
        return Shape(self.table, fields, self._dimension, metric)

    def batches(self) -> Iterator[Rows]:
        """The rows in batches.

        Vectors that cannot be compared with the others are refused. Videos that the source no longer lists
        (`removed_at`) are left out.
        """
        videos, titles, transcriptions = self._videos(), self._titles(), self._transcriptions()
        removed = {video for video, row in videos.items() if row["removed_at"] is not None}
        seen: set[str] = set()
        for batch in self.lake.batches(VECTORS):
            if removed:
                batch = batch.filter(
                    pa.array([v not in removed for v in batch.column("video_id").to_pylist()])
                )
            ids = row_ids(self.table, batch)
            payload_rows: list[dict[str, Any]] = []
            for row in batch.drop_columns(["vector", "dimension"]).to_pylist():
                video = videos.get(row["video_id"], {})
                row["source_key"] = video.get("source_key")
                row["url"] = video.get("canonical_url") or video.get("url")
                row["title"] = titles.get(row["video_id"])
                row["transcription"] = _transcription_within(transcriptions.get(row["video_id"], ()), row)
                payload_rows.append(row)
            payload = pa.RecordBatch.from_pylist(payload_rows, PAYLOAD)
            columns = [pa.array(ids, TEXT), batch.column("vector")]
            columns += [payload.column(c) for c in self.columns.values()]
            rows = pa.record_batch(columns, names=["id", "vector", *self.columns])
            yield self._refuse_incomparable(_refuse_duplicates(rows, ids, seen, batch))

    def _refuse_incomparable(self, rows: Rows) -> Rows:
        """Refuse vectors that are missing, not finite, zero, or of another dimension than the first one."""
        import numpy as np

        batch, dimension, defects = rows.rows, self._dimension or 0, {}
        vectors = batch.column("vector")
        lengths = pc.list_value_length(vectors).to_pylist()
        valid = [n for n, length in enumerate(lengths) if length == dimension]
        matrix = np.zeros((batch.num_rows, max(dimension, 1)), np.float32)
        if valid:
            flat = pc.list_flatten(vectors.take(pa.array(valid))).to_numpy(zero_copy_only=False)
            matrix[valid] = flat.reshape(len(valid), dimension)
        finite: Any = np.isfinite(matrix).all(axis=1)
        zero: Any = ~matrix.any(axis=1)
        for n, length in enumerate(lengths):
            if not length:
                defects[n] = ("no_vector", "the vector is missing")
            elif length != dimension:
                defects[n] = ("dimension", f"{length} numbers, where the first vector has {dimension}")
            elif not finite[n]:
                defects[n] = ("not_finite", "a number is not finite")
            elif zero[n] and self._metric == "cosine":
                defects[n] = ("zero_vector", "all numbers are 0: the cosine is undefined")
        if defects:
            ids, names = batch.column("id").to_pylist(), batch.schema.names
            videos = batch.column("video_id").to_pylist() if "video_id" in names else [""] * batch.num_rows
            rows.refused += [
                Refused(ids[n], code, text, videos[n] or "") for n, (code, text) in defects.items()
            ]
            batch = batch.filter(pa.array([n not in defects for n in range(batch.num_rows)], pa.bool_()))
        fixed_size = pa.list_(pa.float32(), dimension)
        index = batch.schema.get_field_index("vector")
        return Rows(batch.set_column(index, "vector", batch.column("vector").cast(fixed_size)), rows.refused)

    def _videos(self) -> dict[str, dict[str, Any]]:
        columns = ["video_id", "source_key", "url", "canonical_url", "removed_at"]
        rows = self.lake.read(VIDEOS, columns).to_pylist()
        rows.sort(key=lambda row: (row["removed_at"] is None, _reversed(row["source_key"])))
        # The last row of a video wins: one that is still listed, and the first source key in the alphabet.
        return {row["video_id"]: row for row in rows}

    def _titles(self) -> dict[str, str]:
        rows = self.lake.read(SUMMARIES, ["video_id", "prompt", "title"]).sort_by([("prompt", "descending")])
        return {row["video_id"]: row["title"] for row in rows.to_pylist() if row["title"]}

    def _transcriptions(self) -> dict[str, list[tuple[float, str]]]:
        """By video id, the middle of each clip in seconds and its transcription."""
        columns = ["video_id", "start_sec", "end_sec", "transcription"]
        transcriptions: dict[str, list[tuple[float, str]]] = {}
        for batch in self.lake.batches(CLIPS, columns):
            for row in batch.to_pylist():
                if row["transcription"] and row["start_sec"] is not None and row["end_sec"] is not None:
                    middle = (row["start_sec"] + row["end_sec"]) / 2
                    transcriptions.setdefault(row["video_id"], []).append((middle, row["transcription"]))
        return {video: sorted(clips) for video, clips in transcriptions.items()}


def _reversed(text: str) -> list[int]:
    """A sort key for descending texts."""
    return [-ord(letter) for letter in text] + [1]


def _transcription_within(clips: Sequence[tuple[float, str]], row: Mapping[str, Any]) -> str | None:
    """The transcription of the clips whose middle is inside the row's time range; None for a whole video."""
    if row["embedding_scope"] == "video" or row["start_sec"] is None or row["end_sec"] is None:
        return None
    return " ".join(text for middle, text in clips if row["start_sec"] <= middle < row["end_sec"]) or None


def select_columns(names: Mapping[str, str] | None, schema: pa.Schema) -> dict[str, str]:
    """Map names in the target to columns of the lake. None selects all columns by their own names.

    Raises:
        SettingsError: a column is unknown, or a name is reserved.
    """
    if names is None:
        return {name: name for name in schema.names}
    if unknown := [column for column in names.values() if column not in schema.names]:
        raise SettingsError(f"unknown column {unknown[0]!r}; columns: {', '.join(schema.names)}")
    if reserved := [name for name in names if name in ("id", "vector")]:
        raise SettingsError(f"field {reserved[0]!r} is reserved; choose another name")
    return dict(names)


def _dimension(lake: Lake) -> int | None:
    """The length of the first vector; None if there is no vector."""
    for batch in lake.batches(VECTORS, ["vector"]):
        for length in pc.list_value_length(batch.column("vector")).to_pylist():
            if length:
                return int(length)
    return None


def _refuse_duplicates(rows: pa.RecordBatch, ids: list[str], seen: set[str], batch: pa.RecordBatch) -> Rows:
    """Refuse rows whose id is in `seen`, and add the ids of the others to it."""
    keep, refused = [], []
    videos = batch.column("video_id").to_pylist() if "video_id" in batch.schema.names else [""] * len(ids)
    for n, id_ in enumerate(ids):
        if id_ in seen:
            refused.append(Refused(id_, "duplicate_key", "an earlier row has the same key", videos[n] or ""))
        else:
            seen.add(id_)
            keep.append(n)
    return Rows(rows if len(keep) == len(ids) else rows.take(pa.array(keep, pa.int64())), refused)
