"""A stream of newly ready videos of an index.

The API lists videos by creation time, and each video has the time at which it was indexed. Videos become
ready in any order, and clocks differ. So an offset has the latest time of indexing and the ids of all videos
that were indexed within `GRACE` before it. A video that appears late, but within `GRACE`, is still returned,
and no video is returned twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql.datasource import DataSourceStreamReader, InputPartition

from tl_data.errors import SchemaMismatch
from tl_data.functions import LISTINGS
from tl_data.spark.worker import Worker
from tl_data.types import TIME

#: How late a video may appear in the listing after the time at which it was indexed.
GRACE = timedelta(minutes=10)

#: Default of the option `lookback_hours`: only videos that were created at most this long before the offset's
#: time are listed.
LOOKBACK_HOURS = 24.0

_START = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class Window(InputPartition):
    """The videos between two offsets."""

    start: dict[str, Any]
    end: dict[str, Any]


class ReadyVideos(DataSourceStreamReader):
    """Offsets and rows of the stream. An offset is {"at": time, "ids": JSON object of ids and times}."""

    def __init__(self, worker: Worker, options: Mapping[str, str]) -> None:
        self.worker, self.index = worker, options.get("index_id")
        if self.index is not None and ("," in self.index or self.index == "*"):
            raise SchemaMismatch("a stream reads one index: give index_id a single name or id")
        try:
            hours = float(options.get("lookback_hours") or LOOKBACK_HOURS)
        except ValueError as error:
            raise SchemaMismatch(
                f"option lookback_hours is {options['lookback_hours']!r}, not a number"
            ) from error
        self.lookback = timedelta(hours=hours)
        self._last = self.initialOffset()

    def initialOffset(self) -> dict[str, Any]:  # noqa: N802 - Spark's name
        """The offset before the first video."""
        return {"at": _START.isoformat(), "ids": "{}"}

    def latestOffset(  # noqa: N802 - Spark's name
        self, start: dict[str, Any] | None = None, limit: Any = None
    ) -> dict[str, Any]:
        """The offset of the latest ready video. Spark before 4.2 does not pass `start`."""
        start = start or self._last
        rows = self._ready(start)
        if not rows:
            return start
        at = max(_time(start), *(row["indexed_at"] for row in rows))
        known = _ids(start) | {row["video_id"]: row["indexed_at"].isoformat() for row in rows}
        recent = {v: t for v, t in sorted(known.items()) if datetime.fromisoformat(t) > at - GRACE}
        self._last = {"at": at.isoformat(), "ids": orjson.dumps(recent).decode()}
        return self._last

    def partitions(self, start: dict[str, Any], end: dict[str, Any]) -> Sequence[Window]:
        """One partition, because the pages of a listing are read in order; none if nothing is new."""
        return [] if start == end else [Window(start, end)]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """The videos after `start` up to `end`. A repeated read returns the same videos."""
        assert isinstance(partition, Window)
        end, ids = _time(partition.end), _ids(partition.end)
        # A video within GRACE before the end may have appeared since the end was determined. It is not in the
        # end's ids then, and belongs to the next window. The ids lack older videos, which all had appeared.
        rows = [
            row
            for row in self._ready(partition.start)
            if row["indexed_at"] <= end and (row["video_id"] in ids or row["indexed_at"] <= end - GRACE)
        ]
        yield pa.RecordBatch.from_pylist(rows, LISTINGS["videos"].schema)

    def commit(self, end: dict[str, Any]) -> None:
        """Only remember the offset: Spark stores it."""
        self._last = end

    def stop(self) -> None:
        """Do nothing: the connection belongs to the process."""

    def _ready(self, start: dict[str, Any]) -> list[dict[str, Any]]:
        """The videos that `start` does not have yet, by time: ready after it, or up to `GRACE` before."""
        options = {} if self.index is None else {"index_id": self.index}
        after, known = _time(start), _ids(start)
        if after != _START:
            options["created_at"] = (after - self.lookback).isoformat().replace("+00:00", "Z")
        rows: list[dict[str, Any]] = []
        for batch in self.worker.connection().batches(LISTINGS["videos"], **options):
            recent = pc.greater(batch.column("indexed_at"), pa.scalar(after - GRACE, TIME))
            rows += [row for row in batch.filter(recent).to_pylist() if row["video_id"] not in known]
        return sorted(rows, key=lambda row: (row["indexed_at"], row["video_id"]))


def _time(offset: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(offset["at"])


def _ids(offset: Mapping[str, Any]) -> dict[str, str]:
    return dict(orjson.loads(offset["ids"]))
