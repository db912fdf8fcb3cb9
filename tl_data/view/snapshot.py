"""Keeps the tables of a lake in memory for the viewer, and reloads them after a change.

A table may be missing, damaged, or from another version of tl_data. The readable tables are shown, and
`notes` lists the problems. Vectors and pictures are read from disk on demand.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from tl_data.errors import LakeError, SettingsError, TLDataError
from tl_data.lake.base import describe_error
from tl_data.lake.delta import delta_batches, delta_dataset, delta_version, is_delta
from tl_data.lake.schemas import TABLES
from tl_data.urls import redacted

#: Large tables of which the page needs few rows at a time. They are not kept in memory.
ON_DISK = ("vectors", "frames", "evidence")
#: Tables that every lake should have; a missing one is listed in `notes`.
EXPECTED = ("videos", "errors", "runs")
GROUP = "_group"  # the name of a temporary column
RELOAD_SECONDS = 2.0  # the minimum time between checks for changes

Row = dict[str, Any]


@dataclass
class Groups:
    """The rows of a table, grouped by video. Texts of a video without an index have only its content key."""

    rows: pa.Table
    #: Video id, or content key if the rows have no video id -> first row, number of rows.
    places: dict[str, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: pa.Table, by: tuple[str, ...]) -> Groups:
        """Sort rows by video and then by the columns of `by` that the table has."""
        if "video_id" not in rows.column_names or not rows.num_rows:
            return cls(rows)
        rows = rows.append_column(GROUP, identifiers(rows))
        keys = [(GROUP, "ascending"), *((name, "ascending") for name in by if name in rows.column_names)]
        rows = rows.take(pc.sort_indices(rows, sort_keys=keys)).combine_chunks()
        ids = rows.column(GROUP).to_pylist()
        rows = rows.drop_columns([GROUP])
        places: dict[str, tuple[int, int]] = {}
        start = 0
        for end in range(1, len(ids) + 1):
            if end == len(ids) or ids[end] != ids[start]:
                if ids[start] is not None:
                    places[ids[start]] = (start, end - start)
                start = end
        return cls(rows, places)

    def get(self, record: Row) -> list[Row]:
        """The rows of the video of a row of `videos`."""
        for name in ("video_id", "content_key"):
            if place := self.places.get(record.get(name) or ""):
                return list(self.rows.slice(*place).to_pylist())
        return []


def identifiers(rows: pa.Table) -> pa.ChunkedArray:
    """The id of the video of each row, or the key of its content if the video is not indexed."""
    return pc.coalesce(
        *(rows.column(name) for name in ("video_id", "content_key") if name in rows.column_names)
    )


@dataclass
class Snapshot:
    """The data of the page at one time."""

    version: str
    videos: list[Row]
    errors: list[Row]
    runs: list[Row]
    alerts: list[Row]
    clips: Groups
    chapters: Groups
    highlights: Groups
    annotations: Groups
    summaries: Groups
    counts: dict[str, int]
    notes: list[str]


class LakeFolder:
    """A read-only lake: a folder or bucket of Delta tables, or a folder of Parquet tables."""

    def __init__(self, folder: str) -> None:
        self.folder = folder.rstrip("/") or folder
        if "://" not in self.folder and not Path(self.folder).is_dir():
            raise SettingsError(f"{folder}: folder not found. Pass a lake or a job file")
        self._snapshot: Snapshot | None = None
        self._checked_at = 0.0
        self._lock = threading.Lock()
        if not any(self.format_of(name) for name in TABLES):
            raise SettingsError(
                f"{folder} is not a lake: it has no tables such as {', '.join(EXPECTED)}. Run a job first: "
                "tl-data run JOB.toml"
            )

    def snapshot(self) -> Snapshot:
        """The current data of the tables, at most `RELOAD_SECONDS` old."""
        with self._lock:
            if self._snapshot is None or time.monotonic() - self._checked_at > RELOAD_SECONDS:
                version = self._version()
                if self._snapshot is None or version != self._snapshot.version:
                    self._snapshot = self._read(version)
                self._checked_at = time.monotonic()
            return self._snapshot

    def batches(self, name: str, columns: list[str], where: Any = None) -> Iterator[pa.RecordBatch]:
        """Rows of a table on disk; none if it is missing or lacks a column.

        Args:
            where: a filter as an Arrow expression.

        Raises:
            LakeError: a file cannot be read.
        """
        opened = self._dataset(name)
        if opened is None or not set(columns) <= set(opened.schema.names):
            return
        try:
            yield from opened.to_batches(columns=columns, filter=where, batch_size=4096, batch_readahead=1)
        except (OSError, pa.ArrowException) as error:
            raise LakeError(f"{self._place(name)}: {describe_error(error)}") from error

    def rows(self, name: str) -> int:
        """Number of rows of a table; 0 if it is missing."""
        opened = self._dataset(name)
        return int(opened.count_rows()) if opened else 0

    def _place(self, name: str) -> str:
        return f"{self.folder}/{name}"

    def format_of(self, name: str) -> str | None:
        """The format of a table: `delta`, `parquet`, or None if it is missing."""
        place = self._place(name)
        if "://" in place or (Path(place) / "_delta_log").is_dir():
            return "delta" if is_delta(place) else None
        return "parquet" if any(Path(place).glob("*.parquet")) else None

    def _dataset(self, name: str) -> Any:
        kind = self.format_of(name)
        if kind == "parquet":
            return ds.dataset(self._place(name), format="parquet", exclude_invalid_files=False)
        if kind == "delta":
            return delta_dataset(self._place(name))
        return None

    def _version(self) -> str:
        """A text that changes when any table changes: number and latest time of commits or Parquet files."""
        versions = []
        for name in TABLES:
            place = self._place(name)
            if "://" in place:
                versions.append(f"{name}:{delta_version(place)}")
                continue
            log = Path(place) / "_delta_log"
            files = log.glob("*.json") if log.is_dir() else Path(place).glob("*.parquet")
            stats = []
            for file in files:
                try:
                    stats.append((file.name, file.stat().st_mtime_ns))
                except FileNotFoundError:
                    continue  # the file was just replaced; its successor has another name or time
            versions.append(f"{name}:{len(stats)}:{max(stats, default='')}")
        return "|".join(versions)

    def _read(self, version: str) -> Snapshot:
        tables: dict[str, pa.Table] = {}
        counts: dict[str, int] = {}
        notes: list[str] = []
        for name in TABLES:
            try:
                if name in ON_DISK:
                    counts[name] = self.rows(name)
                    continue
                tables[name] = self._table(name)
                counts[name] = tables[name].num_rows
                if not tables[name].num_columns and name in EXPECTED:
                    notes.append(f"The table {name} is missing.")
            except (TLDataError, OSError, pa.ArrowException) as error:
                notes.append(f"The table {name} cannot be read: {redacted(describe_error(error))}")
        empty = pa.table({})

        def rows(name: str) -> list[Row]:
            return list(tables.get(name, empty).to_pylist())

        def groups(name: str, *by: str) -> Groups:
            return Groups.of(tables.get(name, empty), by)

        return Snapshot(
            version,
            rows("videos"),
            rows("errors"),
            sorted(rows("runs"), key=lambda r: str(r.get("started_at") or ""), reverse=True),
            rows("alerts"),
            groups("clips", "start_sec"),
            groups("chapters", "start_sec"),
            groups("highlights", "start_sec"),
            groups("annotations", "kind", "start_sec"),
            groups("summaries", "prompt"),
            counts,
            notes,
        )

    def _table(self, name: str) -> pa.Table:
        kind = self.format_of(name)
        if kind == "delta":
            return delta_batches(self._place(name)).read_all()
        opened = self._dataset(name)
        return pa.table({}) if opened is None else opened.to_table()
