"""Runs an export: compares the lake with the target, sends changed rows, deletes removed ones.

A refused batch is bisected until the rows that cause the refusal are isolated. They are reported, and the
others are sent. A lost connection is retried; if it stays lost, the export stops, and the next one continues
there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from types import MappingProxyType
from typing import Any, Protocol

import pyarrow as pa

from tl_data.errors import ExportError, SettingsError
from tl_data.export.rows import EXPORTABLE, Rows, TableRows, VectorRows
from tl_data.export.sink import (
    Refused,
    Shape,
    Sink,
    Store,
    Target,
    check_names,
    check_options,
    kind_of,
    parse_target,
    stopped,
)
from tl_data.export.state import State
from tl_data.lake.lake import Lake, open_lake
from tl_data.lake.row_ids import digests
from tl_data.lake.schemas import TABLES

ATTEMPTS = 4  # of a batch if the connection is lost
WAIT = 0.5  # seconds before the second attempt; doubled after each
SHOWN = 1000  # most refused rows in a report; all are counted

Progress = Callable[[str, int], None]

#: The tools that an export can write to: scheme -> module below `tl_data.export` and the record's
#: name in it. Modules are imported when used.
SINKS = MappingProxyType(
    {
        "webvtt": ("editing.subtitles", "WEBVTT"),
        "srt": ("editing.subtitles", "SRT"),
        "ttml": ("editing.subtitles", "TTML"),
        "youtube": ("editing.subtitles", "YOUTUBE"),
        "otio": ("editing.otio", "SINK"),
        "fcpxml": ("editing.xml", "FCPXML"),
        "premiere": ("editing.xml", "PREMIERE"),
        "edl": ("editing.edl", "EDL"),
        "markers": ("editing.edl", "MARKERS"),
        "labelstudio": ("editing.labelstudio", "SINK"),
        "lancedb": ("vectors.lancedb", "SINK"),
        "qdrant": ("vectors.qdrant", "SINK"),
        "milvus": ("vectors.milvus", "SINK"),
        "chroma": ("vectors.chroma", "SINK"),
        "pgvector": ("vectors.pgvector", "SINK"),
        "postgresql": ("vectors.pgvector", "SINK"),
        "mongodb": ("vectors.mongodb", "SINK"),
        "pinecone": ("vectors.pinecone", "SINK"),
        "opensearch": ("vectors.opensearch", "OPENSEARCH"),
        "elasticsearch": ("vectors.opensearch", "ELASTICSEARCH"),
        "vespa": ("vectors.vespa", "SINK"),
        "redis": ("vectors.redis", "SINK"),
        "weaviate": ("vectors.weaviate", "SINK"),
        "oracle": ("vectors.oracle", "SINK"),
        "snowflake": ("warehouses.files", "SNOWFLAKE"),
        "bigquery": ("warehouses.files", "BIGQUERY"),
        "databricks": ("warehouses.files", "DATABRICKS"),
        "jsonl": ("text.jsonl", "SINK"),
    }
)


def sink_of(scheme: str) -> Sink:
    """The sink of a tool.

    Raises:
        SettingsError: unknown tool.
    """
    if scheme not in SINKS:
        raise SettingsError(f"unknown tool {scheme!r}; known tools: {', '.join(sorted(SINKS))}")
    module, name = SINKS[scheme]
    found: Sink = getattr(import_module(f"tl_data.export.{module}"), name)
    return found


@dataclass
class Report:
    """The numbers of rows of an export; with `dry_run` those that it would send."""

    target: str
    table: str
    dry_run: bool = False
    rows: int = 0  # in the lake
    unchanged: int = 0
    upserted: int = 0
    deleted: int = 0
    refused: int = 0
    seconds: float = 0.0
    errors: list[Refused] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 all rows were sent, 1 some were refused."""
        return 1 if self.refused else 0

    def lines(self) -> list[str]:
        """For people."""
        verb = "would be " if self.dry_run else ""
        lines = [
            f"{self.table} -> {self.target}: {self.rows} rows, {self.unchanged} unchanged, "
            f"{self.upserted} {verb}upserted, {self.deleted} {verb}deleted, {self.refused} refused, "
            f"{self.seconds:.1f} s"
        ]
        lines += [f"refused {e.of or e.id}: {e.message} ({e.code})" for e in self.errors[:20]]
        if self.refused > 20:
            lines.append(f"... and {self.refused - 20} more")
        return lines


class Reader(Protocol):
    """Reads the rows of a lake in the form of a tool."""

    def shape(self, metric: Any = "cosine") -> Shape:
        """The columns and vectors of the rows."""

    def batches(self) -> Iterator[Rows]:
        """The rows."""


def export(
    lake: Lake | str,
    target: str,
    *,
    table: str | Sequence[str] | None = None,
    fields: Mapping[str, str] | None = None,
    dry_run: bool = False,
    full: bool = False,
    progress: Progress | None = None,
) -> list[Report]:
    """Update a target from a lake: upsert changed rows, delete removed ones.

    Args:
        lake: the folder of the tables, or a `Lake`.
        target: `TOOL://PLACE?option=value`, such as `lancedb://./store?collection=clips`.
        table: one or several tables; None: those of `?table=a,b`, else the tool's default.
        fields: payload, name in the target -> column of the lake; None: every column by its own name.
        dry_run: connect and compare, but change nothing.
        full: send all rows, also unchanged ones.
        progress: called with the table and the number of compared rows.

    Returns:
        One report per table.

    Raises:
        SettingsError: the target, an option, a field or the lake is invalid.
        SchemaMismatch: the collection has another dimension, metric or column.
        MissingExtra: the tool's client is not installed.
        ExportError: the target cannot be reached, is full, or refuses the credentials.
    """
    sink, where = checked_target(target)
    opened = open_lake(lake)
    reports = []
    if table is None and "table" in where.options:
        table = where.options["table"].split(",")
    for name in _tables(sink, opened, table):
        reader = _reader(sink, opened, name, fields, where)
        report = Report(where.name, name, dry_run)
        began = time.monotonic()
        _Run(sink, where, opened, reader, report, full, progress).work()
        report.seconds = round(time.monotonic() - began, 3)
        reports.append(report)
    return reports


def checked_target(target: str, *, alone: bool = False) -> tuple[Sink, Target]:
    """The tool and the parsed address. `alone`: the address must name the table.

    Raises:
        SettingsError: unknown tool or option, or a tool of one table without a table.
    """
    where = parse_target(target)
    sink = sink_of(where.scheme)
    check_options(sink, where)
    if alone and sink.one_table and "table" not in where.options:
        raise SettingsError(f"{sink.name} exports one table: add it to the address: ?table=clips")
    return sink, where


def _tables(sink: Sink, lake: Lake, table: str | Sequence[str] | None) -> list[str]:
    """The exported tables; tables that form one export are joined by `+`."""
    asked = [table] if isinstance(table, str) else list(table or ())
    allowed = EXPORTABLE if sink.reads == "tables" else sink.takes or sink.tables
    if unknown := [name for name in asked if name not in allowed]:
        raise SettingsError(f"{sink.name} cannot export {unknown[0]!r}; it exports {', '.join(allowed)}")
    if sink.reads == "timelines":
        return ["+".join(asked or sink.tables)]
    names = asked or list(sink.tables) or [n for n in EXPORTABLE if lake.exists(TABLES[n])]
    if sink.one_table and len(names) > 1:
        raise SettingsError(f"{sink.name} exports one table: select one of {', '.join(names)}")
    if missing := [name for name in names if not lake.exists(TABLES[name])]:
        raise SettingsError(f"{lake.folder} has no table {missing[0]}")
    return names


def _reader(sink: Sink, lake: Lake, table: str, fields: Mapping[str, str] | None, target: Target) -> Reader:
    if sink.reads == "timelines":
        from tl_data.export.editing.timelines import TimelineRows

        if fields is not None:
            raise SettingsError(f"{sink.name} does not support the option fields")
        return TimelineRows(lake, table, target.options)
    reader = VectorRows(lake, table, fields) if sink.reads == "vectors" else TableRows(lake, table, fields)
    check_names(sink, reader.columns)
    return reader


@dataclass
class _Run:
    sink: Sink
    target: Target
    lake: Lake
    reader: Reader
    report: Report
    full: bool
    progress: Progress | None
    _seen: set[str] = field(default_factory=set)

    def work(self) -> None:
        shape = self.reader.shape(self.target.options.get("metric", "cosine"))
        together = self.sink.whole or self.sink.reads == "timelines"  # one set of files
        with State(self.lake.folder, self.target.identity, "" if together else self.report.table) as state:
            store = self._guarded((Exception,), lambda: self.sink.connect(self.target))
            try:
                if self._guarded(store.errors, lambda: store.ensure(shape, create=False)):
                    state.forget(
                        keep=self.report.dry_run
                    )  # before it is created: a kill in between loses no row
                    if not self.report.dry_run:
                        self._guarded(store.errors, lambda: store.ensure(shape, create=True))
                if self.sink.whole:
                    self._whole(store, state)
                else:
                    self._incremental(store, state)
                if not self.report.dry_run:
                    self._guarded(store.errors, store.finish)
                    state.finish()
            finally:
                store.close()

    @property
    def _style(self) -> str:
        return f"{self.report.table}?{self.target.style}"

    def _changed(self, state: State) -> Iterator[tuple[pa.RecordBatch, dict[str, bytes]]]:
        """The new and changed rows, with their digests."""
        for rows in self.reader.batches():
            self._refuse(rows.refused)
            self._seen.update(r.id for r in rows.refused if r.code == "duplicate_key")
            ids = rows.rows.column("id").to_pylist()
            self._seen.update(ids)
            made = dict(zip(ids, digests(rows.rows, self._style), strict=True))
            self.report.rows += len(ids) + len(rows.refused)
            stay = [self.full or state.rows.get(id_) != made[id_] for id_ in ids]
            self.report.unchanged += len(ids) - sum(stay)
            if any(stay):
                yield rows.rows.filter(pa.array(stay, pa.bool_())), made
            if self.progress is not None:
                self.progress(self.report.table, self.report.rows)

    def _incremental(self, store: Store, state: State) -> None:
        for changed, made in self._changed(state):
            for at in range(0, changed.num_rows, self.sink.batch):
                batch = changed.slice(at, self.sink.batch)
                if self.report.dry_run:
                    self.report.upserted += batch.num_rows
                    continue
                ids = batch.column("id").to_pylist()
                piece = state.sending(ids)
                refused = {r.id for r in self._upsert(store, batch)}
                state.sent(piece, {id_: None if id_ in refused else made[id_] for id_ in ids})
                self.report.upserted += len(ids) - len(refused)
        gone = [id_ for id_ in state.rows if id_ not in self._seen]
        for at in range(0, len(gone), self.sink.batch):
            ids = gone[at : at + self.sink.batch]
            if not self.report.dry_run:
                self._again(store, lambda ids=ids: store.delete(ids))  # type: ignore[misc]
                state.deleted(ids)
            self.report.deleted += len(ids)

    def _whole(self, store: Store, state: State) -> None:
        """Rewrite the file if any row changed."""
        made: dict[str, bytes] = {}
        for _, digest in self._changed(state):
            made |= digest
        self.report.upserted = self.report.rows - self.report.unchanged - self.report.refused
        gone = [id_ for id_ in state.rows if id_ not in self._seen]
        self.report.deleted = len(gone)
        if self.report.dry_run or not (made or gone or self.full):
            return
        for rows in self.reader.batches():
            if refused := self._upsert(store, rows.rows):
                self.report.upserted -= len(refused)
            kept = dict(zip(rows.rows.column("id").to_pylist(), digests(rows.rows, self._style), strict=True))
            state.rows.update({**kept, **dict.fromkeys((r.id for r in refused), None)})
        for id_ in gone:
            state.rows.pop(id_, None)

    def _upsert(self, store: Store, batch: pa.RecordBatch) -> list[Refused]:
        """Send rows; bisect a refused batch until the causing rows are isolated."""
        try:
            refused = list(self._again(store, lambda: store.upsert(batch)) or ())
        except _RowsRefused as error:
            if batch.num_rows > 1:
                half = batch.num_rows // 2
                return self._upsert(store, batch.slice(0, half)) + self._upsert(store, batch.slice(half))
            row = batch.select([n for n in batch.schema.names if n != "vector"]).to_pylist()[0]
            of = str(row.get("video_id") or row.get("source_key") or "")
            reason = " ".join(str(error.__cause__).split())[:500]
            refused = [Refused(row["id"], "refused_by_target", reason, of, row.get("start_sec"))]
        self._refuse(refused)
        return refused

    def _refuse(self, refused: Sequence[Refused]) -> None:
        self.report.refused += len(refused)
        self.report.errors += refused[: max(0, SHOWN - len(self.report.errors))]

    def _again(self, store: Store, work: Callable[[], Any]) -> Any:
        for attempt in range(ATTEMPTS):
            try:
                return work()
            except store.errors as error:
                kind = kind_of(error)
                if kind == "row":
                    raise _RowsRefused from error
                if kind != "lost" or attempt == ATTEMPTS - 1:
                    raise stopped(self.target.name, error, kind) from error
                time.sleep(WAIT * 2**attempt)
        raise AssertionError("unreachable")

    def _guarded(self, errors: tuple[type[Exception], ...], work: Callable[[], Any]) -> Any:
        """Run an operation without rows; errors of the client stop the export."""
        from tl_data.errors import TLDataError

        try:
            return work()
        except TLDataError:
            raise
        except errors as error:
            raise stopped(self.target.name, error, kind_of(error)) from error


class _RowsRefused(Exception):
    """The target refused a batch because of its content."""


__all__ = ["SINKS", "ExportError", "Report", "export"]
