"""Runs an export: compares the lake with the target, sends changed rows, deletes removed ones.

If a target refuses a batch, the batch is bisected until the rows that cause the refusal are isolated. These
rows are reported, and the others are sent. If the target is unreachable, overloaded or failed, the batch is
sent again. After `ATTEMPTS` attempts the export stops, and the next export sends the remaining rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from types import MappingProxyType
from typing import Any, Protocol

import pyarrow as pa

from tl_data.errors import ExitCode, ExportError, SettingsError
from tl_data.export.rows import EXPORTABLE, Rows, TableRows, VectorRows
from tl_data.export.sink import (
    Refused,
    Shape,
    Sink,
    Store,
    Target,
    check_names,
    check_options,
    error_kind,
    export_error,
    parse_target,
)
from tl_data.export.state import State
from tl_data.lake.lake import Lake, open_lake
from tl_data.lake.row_ids import digests
from tl_data.lake.schemas import TABLES

ATTEMPTS = 4  # attempts to send a batch to a target that is unreachable, overloaded or failed
WAIT = 0.5  # seconds before the second attempt; doubled for each further attempt
MAX_ERRORS = 1000  # refused rows that a report lists; it counts all of them

Progress = Callable[[str, int], None]

#: The tools that an export can write to: scheme -> module below `tl_data.export`, and the name of the
#: `Sink` in it. A module is imported when it is used.
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
        "fiftyone": ("editing.fiftyone", "SINK"),
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
        "aperturedb": ("vectors.aperturedb", "SINK"),
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
        SettingsError: the tool is unknown.
    """
    if scheme not in SINKS:
        raise SettingsError(f"unknown tool {scheme!r}; known tools: {', '.join(sorted(SINKS))}")
    module, name = SINKS[scheme]
    sink: Sink = getattr(import_module(f"tl_data.export.{module}"), name)
    return sink


@dataclass
class Report:
    """How many rows an export sent, deleted and refused; with `dry_run`, how many it would send."""

    target: str
    table: str
    dry_run: bool = False
    rows: int = 0  # number of rows that were read from the lake, with the refused ones
    unchanged: int = 0
    upserted: int = 0
    deleted: int = 0
    refused: int = 0
    seconds: float = 0.0
    errors: list[Refused] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 if all rows were sent, 1 if some were refused."""
        return ExitCode.FAILED if self.refused else ExitCode.DONE

    def lines(self) -> list[str]:
        """The report as text, one line per entry."""
        verb = "would be " if self.dry_run else ""
        lines = [
            f"{self.table} -> {self.target}: {self.rows} rows, {self.unchanged} unchanged, "
            f"{self.upserted} {verb}upserted, {self.deleted} {verb}deleted, {self.refused} refused, "
            f"{self.seconds:.1f} s"
        ]
        lines += [f"refused {e.video or e.id}: {e.message} ({e.code})" for e in self.errors[:20]]
        if self.refused > 20:
            lines.append(f"... and {self.refused - 20} more")
        return lines


class Reader(Protocol):
    """Reads the rows of a lake in the form that a tool accepts."""

    def shape(self, metric: Any = "cosine") -> Shape:
        """The columns and vectors of the rows."""

    def batches(self) -> Iterator[Rows]:
        """The rows in batches."""


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
        target: `TOOL://LOCATION?option=value`, such as `lancedb://./store?collection=clips`.
        table: one or several tables; None: the tables of `?table=a,b` in the address, or the tool's default.
        fields: name in the target -> column of the lake; None: all columns by their own names.
        dry_run: connect and compare, but change nothing.
        full: send also the unchanged rows.
        progress: called with the table and the number of compared rows.

    Returns:
        One report per table. Subtitles, timelines and tasks of labelling tools hold several tables in one
        file: these share a report, whose `table` has their names joined by `+`.

    Raises:
        SettingsError: the target, an option, a field or the lake is invalid.
        SchemaMismatch: the collection has another dimension, metric or column.
        MissingExtra: the tool's client is not installed.
        ExportError: the target cannot be reached, is full, refuses the credentials or a request, or another
            export to it is running.
        LakeError: a table or the state of the export cannot be read or written.
    """
    sink, parsed = checked_target(target)
    opened = open_lake(lake)
    reports = []
    if table is None and "table" in parsed.options:
        table = parsed.options["table"].split(",")
    for name in _tables(sink, opened, table):
        reader = _reader(sink, opened, name, fields, parsed)
        report = Report(parsed.name, name, dry_run)
        began = time.monotonic()
        _Run(sink, parsed, opened, reader, report, full, progress).work()
        report.seconds = round(time.monotonic() - began, 3)
        reports.append(report)
    return reports


def checked_target(target: str, *, needs_table: bool = False) -> tuple[Sink, Target]:
    """Parse and validate an address. With `needs_table` it must name the table if the tool exports only one.

    Raises:
        SettingsError: the tool or an option is unknown, or the table is missing.
    """
    parsed = parse_target(target)
    sink = sink_of(parsed.scheme)
    check_options(sink, parsed)
    if needs_table and sink.single_table and "table" not in parsed.options:
        raise SettingsError(f"{sink.name} exports one table: add it to the address: ?table=clips")
    return sink, parsed


def _tables(sink: Sink, lake: Lake, table: str | Sequence[str] | None) -> list[str]:
    """The tables to export. Tables that form one export are joined by `+` to one name."""
    requested = [table] if isinstance(table, str) else list(table or ())
    allowed = EXPORTABLE if sink.reader == "tables" else sink.allowed_tables or sink.default_tables
    if unknown := [name for name in requested if name not in allowed]:
        raise SettingsError(f"{sink.name} cannot export {unknown[0]!r}; it exports {', '.join(allowed)}")
    if sink.reader == "timelines":
        return ["+".join(requested or sink.default_tables)]
    names = requested or list(sink.default_tables) or [n for n in EXPORTABLE if lake.exists(TABLES[n])]
    if sink.single_table and len(names) > 1:
        raise SettingsError(f"{sink.name} exports one table: select one of {', '.join(names)}")
    if missing := [name for name in names if not lake.exists(TABLES[name])]:
        raise SettingsError(f"{lake.folder} has no table {missing[0]}")
    return names


def _reader(sink: Sink, lake: Lake, table: str, fields: Mapping[str, str] | None, target: Target) -> Reader:
    if sink.reader == "timelines":
        from tl_data.export.editing.timelines import TimelineRows

        if fields is not None:
            raise SettingsError(f"{sink.name} does not support the option fields")
        return TimelineRows(lake, table, target.options)
    reader = VectorRows(lake, table, fields) if sink.reader == "vectors" else TableRows(lake, table, fields)
    check_names(sink, reader.columns)
    return reader


@dataclass
class _Run:
    """One export of one table, or of the tables that form one export."""

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
        # One file or one folder holds all tables of these tools, so they share one state.
        shares_state = self.sink.single_file or self.sink.reader == "timelines"
        with State(
            self.lake.folder, self.target.identity, "" if shares_state else self.report.table
        ) as state:
            store = self._run_once((Exception,), lambda: self.sink.connect(self.target))
            try:
                if self._run_once(store.errors, lambda: store.ensure(shape, create=False)):
                    # The state is cleared before the target is created, so a crash in between loses no row.
                    state.forget(keep=self.report.dry_run)
                    if not self.report.dry_run:
                        self._run_once(store.errors, lambda: store.ensure(shape, create=True))
                if self.sink.single_file:
                    self._rewrite(store, state, shape)
                else:
                    self._incremental(store, state)
                if not self.report.dry_run:
                    self._run_once(store.errors, store.finish)
                    state.finish()
            finally:
                store.close()

    @property
    def _digest_context(self) -> str:
        """Table and options, which are part of the digest of each row: if they change, all rows change."""
        return f"{self.report.table}?{self.target.content_options}"

    def _changed(self, state: State) -> Iterator[tuple[pa.RecordBatch, dict[str, bytes]]]:
        """The new and changed rows of each batch, and the digests of all its rows."""
        for rows in self.reader.batches():
            self._report_refused(rows.refused)
            self._seen.update(r.id for r in rows.refused if r.code == "duplicate_key")
            ids = rows.rows.column("id").to_pylist()
            self._seen.update(ids)
            row_digests = dict(zip(ids, digests(rows.rows, self._digest_context), strict=True))
            self.report.rows += len(ids) + len(rows.refused)
            is_changed = [self.full or state.rows.get(id_) != row_digests[id_] for id_ in ids]
            self.report.unchanged += len(ids) - sum(is_changed)
            if any(is_changed):
                yield rows.rows.filter(pa.array(is_changed, pa.bool_())), row_digests
            if self.progress is not None:
                self.progress(self.report.table, self.report.rows)

    def _incremental(self, store: Store, state: State) -> None:
        for changed, row_digests in self._changed(state):
            for start in range(0, changed.num_rows, self.sink.batch_rows):
                batch = changed.slice(start, self.sink.batch_rows)
                if self.report.dry_run:
                    self.report.upserted += batch.num_rows
                    continue
                ids = batch.column("id").to_pylist()
                piece = state.record_sending(ids)
                refused = {r.id for r in self._upsert(store, batch)}
                state.record_sent(piece, {id_: None if id_ in refused else row_digests[id_] for id_ in ids})
                self.report.upserted += len(ids) - len(refused)
        removed = [id_ for id_ in state.rows if id_ not in self._seen]
        for start in range(0, len(removed), self.sink.batch_rows):
            ids = removed[start : start + self.sink.batch_rows]
            if not self.report.dry_run:
                self._retry(store, lambda ids=ids: store.delete(ids))  # type: ignore[misc]
                state.record_deleted(ids)
            self.report.deleted += len(ids)

    def _rewrite(self, store: Store, state: State, shape: Shape) -> None:
        """Rewrite the file if any row changed."""
        has_changes = False
        for _ in self._changed(state):
            has_changes = True
        self.report.upserted = self.report.rows - self.report.unchanged - self.report.refused
        removed = [id_ for id_ in state.rows if id_ not in self._seen]
        self.report.deleted = len(removed)
        if self.report.dry_run or not (has_changes or removed or self.full):
            return
        has_batches = False
        for rows in self.reader.batches():
            has_batches = True
            if refused := self._upsert(store, rows.rows):
                self.report.upserted -= len(refused)
            ids = rows.rows.column("id").to_pylist()
            row_digests = dict(zip(ids, digests(rows.rows, self._digest_context), strict=True))
            state.rows.update({**row_digests, **dict.fromkeys((r.id for r in refused), None)})
        for id_ in removed:
            state.rows.pop(id_, None)
        if not has_batches:  # an empty batch makes the store write a file without rows
            schema = pa.schema([("id", pa.string()), *shape.schema])
            self._upsert(store, pa.RecordBatch.from_pylist([], schema))

    def _upsert(self, store: Store, batch: pa.RecordBatch) -> list[Refused]:
        """Send rows. Bisect a refused batch until the rows that cause the refusal are isolated."""
        try:
            refused = list(self._retry(store, lambda: store.upsert(batch)) or ())
        except _RowsRefused as error:
            if batch.num_rows > 1:
                half = batch.num_rows // 2
                return self._upsert(store, batch.slice(0, half)) + self._upsert(store, batch.slice(half))
            row = batch.select([n for n in batch.schema.names if n != "vector"]).to_pylist()[0]
            video = str(row.get("video_id") or row.get("source_key") or "")
            reason = " ".join(str(error.__cause__).split())[:500]
            refused = [Refused(row["id"], "refused_by_target", reason, video, row.get("start_sec"))]
        self._report_refused(refused)
        return refused

    def _report_refused(self, refused: Sequence[Refused]) -> None:
        self.report.refused += len(refused)
        self.report.errors += refused[: max(0, MAX_ERRORS - len(self.report.errors))]

    def _retry(self, store: Store, work: Callable[[], Any]) -> Any:
        """Run an operation on rows; repeat it if `error_kind` is `lost`."""
        for attempt in range(ATTEMPTS):
            try:
                return work()
            except store.errors as error:
                kind = error_kind(error)
                if kind == "row":
                    raise _RowsRefused from error
                if kind != "lost" or attempt == ATTEMPTS - 1:
                    raise export_error(
                        self.target.name, error, kind, resumes=not self.sink.single_file
                    ) from error
                time.sleep(WAIT * 2**attempt)
        raise AssertionError("unreachable")

    def _run_once(self, errors: tuple[type[Exception], ...], work: Callable[[], Any]) -> Any:
        """Run an operation that sends no rows; an error of the client stops the export."""
        from tl_data.errors import TLDataError

        try:
            return work()
        except TLDataError:
            raise
        except errors as error:
            raise export_error(self.target.name, error, error_kind(error)) from error


class _RowsRefused(Exception):
    """The target refused a batch because of its content."""


__all__ = ["SINKS", "ExportError", "Report", "export"]
