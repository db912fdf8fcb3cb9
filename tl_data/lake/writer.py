"""Writes what a run has finished to the tables, in chunks: a run that dies at 90 % keeps 90 %.

The tables of outputs come first, then `errors`, which a finished video leaves, and `videos` last. A run that
is killed in between has rows in `clips` of a video that `videos` does not name yet; the next run makes them
again, from the ledger and without paying, and they replace themselves.
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

ORDER = ("clips", "chapters", "summaries", "vectors", "frames", "errors", "videos", "runs")


class Commits:
    """The rows that wait for the next commit. Belongs to one run."""

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
        self._told: dict[str, Any] = {}  # the row of this run as it stands in the table
        self._videos, self._seconds = videos, seconds
        self._last = time.monotonic()
        self._lock = asyncio.Lock()
        self._clear()

    def _clear(self) -> None:
        self._rows: dict[str, dict[str, pa.Table]] = {}
        self._gone: dict[str, dict[Group, None]] = {}
        self._count = 0

    def add(self, name: str, of: str, rows: pa.Table) -> None:
        """Rows that replace their groups. `of` names what they are of: two files may be the same video."""
        self._rows.setdefault(name, {})[of] = rows

    def gone(self, name: str, groups: list[Group]) -> None:
        """Groups that lose their rows, unless rows for them are added in the same commit."""
        if name in self.tables:
            self._gone.setdefault(name, {}).update(dict.fromkeys(groups))

    def video(self, rows: list[dict[str, Any]]) -> None:
        """One video is in: the rows of its keys; they leave `errors`."""
        keys: list[Group] = [(row["source_key"],) for row in rows]
        self.add("videos", rows[0]["source_key"], rows_of(VIDEOS, rows))
        self.gone("errors", keys)
        self._count += 1

    def error(self, rows: list[dict[str, Any]]) -> None:
        """One video failed: the rows of its keys."""
        self.add("errors", rows[0]["source_key"], rows_of(ERRORS, rows))
        self._count += 1

    @property
    def due(self) -> bool:
        """Whether there is enough to write, or it has waited long enough."""
        return self._count >= self._videos or time.monotonic() - self._last >= self._seconds

    async def flush(self, *, always: bool = False) -> None:
        """Write what waits, if it is due. Not torn by cancellation: a commit that began is finished.

        Raises:
            LakeError, SchemaMismatch: a table cannot be written; its rows are made again by the next run.
        """
        async with self._lock:
            if not (always or self.due):
                return
            rows, gone = self._rows, self._gone
            self._clear()
            self._last = time.monotonic()
            writing = asyncio.create_task(asyncio.to_thread(self._write, rows, gone, self._run_row()))
            try:
                await asyncio.shield(writing)
            except asyncio.CancelledError:
                await writing
                raise

    def _write(
        self,
        rows: Mapping[str, dict[str, pa.Table]],
        gone: Mapping[str, dict[Group, None]],
        run: dict[str, Any],
    ) -> None:
        for name in ORDER:
            if name in rows or name in gone:
                declared = TABLES[name]
                together = pa.concat_tables([declared.schema.empty_table(), *rows.get(name, {}).values()])
                self.tables[name].replace_groups(together, gone.get(name, {}))
        if run != self._told:
            self.tables["runs"].replace_groups(rows_of(RUNS, [run]))
            self._told = run
