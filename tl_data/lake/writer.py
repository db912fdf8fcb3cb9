"""Writes finished videos of a run to the tables in batches, so that a killed run keeps most of its work.

Output tables are written first, then `errors`, then `videos`. If a run is killed in between, `clips` may have
rows of a video that is not in `videos` yet. The next run creates these rows again from the ledger, at no
charge, and replaces them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from tl_data.lake.base import Group, LakeTable, rows_of
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import ERRORS, RUNS, TABLES, VIDEOS

#: The order in which the tables of a commit are written.
ORDER = (
    *("clips", "chapters", "summaries", "highlights", "annotations"),
    *("vectors", "frames", "errors", "videos", "runs"),
)


class Commits:
    """Collects the rows of one run and commits them in batches.

    Args:
        lake: the lake with the tables.
        names: the names of the tables to write, with `videos`, `errors` and `runs`.
        run_row: returns the current row of the run for the table `runs`; called at each commit.
        videos: a commit is due after this number of finished or failed videos.
        seconds: a commit is due at this time after the previous one.

    Attributes:
        tables: the tables by name, in the order in which they are written.
    """

    def __init__(
        self,
        lake: Lake,
        names: tuple[str, ...],
        run_row: Callable[[], dict[str, Any]],
        videos: int,
        seconds: float,
    ) -> None:
        self.tables: dict[str, LakeTable] = {n: lake.table(TABLES[n]) for n in ORDER if n in names}
        self._run_row = run_row
        self._written_run: dict[str, Any] = {}  # the row of this run, as the table `runs` has it
        self._videos, self._seconds = videos, seconds
        self._last = time.monotonic()
        self._lock = asyncio.Lock()
        self._clear()

    def _clear(self) -> None:
        self._rows: dict[str, dict[str, pa.Table]] = {}
        self._deleted: dict[str, dict[Group, None]] = {}
        self._count = 0

    def add(self, name: str, video: str, rows: pa.Table) -> None:
        """Add rows to a table. The commit replaces all rows of their groups (see `lake.base.Group`).

        Args:
            name: the table.
            video: identifies the video of the rows. Rows that were added before for the same table and video,
                such as those of another file with the same content, are dropped.
            rows: rows in the schema of the table.
        """
        self._rows.setdefault(name, {})[video] = rows

    def delete(self, name: str, groups: list[Group]) -> None:
        """Delete the rows of groups of a table, unless the same commit adds rows for them."""
        if name in self.tables:
            self._deleted.setdefault(name, {}).update(dict.fromkeys(groups))

    def video(self, rows: list[dict[str, Any]]) -> None:
        """Add the rows of a finished video's keys, and remove them from `errors`."""
        keys: list[Group] = [(row["source_key"],) for row in rows]
        self.add("videos", rows[0]["source_key"], rows_of(VIDEOS, rows))
        self.delete("errors", keys)
        self._count += 1

    def error(self, rows: list[dict[str, Any]]) -> None:
        """Add the rows of a failed video's keys."""
        self.add("errors", rows[0]["source_key"], rows_of(ERRORS, rows))
        self._count += 1

    @property
    def due(self) -> bool:
        """Whether a commit is due by the number of videos or by time."""
        return self._count >= self._videos or time.monotonic() - self._last >= self._seconds

    async def flush(self, *, always: bool = False) -> None:
        """Commit if it is due, or in any case with `always`.

        A commit that has begun is finished even if the run is cancelled.

        Raises:
            LakeError, SchemaMismatch: a table cannot be written; the next run creates its rows again.
        """
        async with self._lock:
            if not (always or self.due):
                return
            rows, deleted = self._rows, self._deleted
            self._clear()
            self._last = time.monotonic()
            writing = asyncio.create_task(asyncio.to_thread(self._write, rows, deleted, self._run_row()))
            try:
                await asyncio.shield(writing)
            except asyncio.CancelledError:
                await writing
                raise

    def _write(
        self,
        rows: Mapping[str, dict[str, pa.Table]],
        deleted: Mapping[str, dict[Group, None]],
        run: dict[str, Any],
    ) -> None:
        for name in ORDER:
            if name in rows or name in deleted:
                declared = TABLES[name]
                all_rows = pa.concat_tables([declared.schema.empty_table(), *rows.get(name, {}).values()])
                self.tables[name].replace_groups(all_rows, deleted.get(name, {}))
        if run != self._written_run:
            self.tables["runs"].replace_groups(rows_of(RUNS, [run]))
            self._written_run = run
