"""Delta tables, written and read by `deltalake`."""

from __future__ import annotations

import atexit
import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import pyarrow as pa

from tl_data.errors import LakeError, MissingExtra
from tl_data.lake.base import (
    REBUILD_ADVICE,
    Group,
    check_schema,
    describe_error,
    fit_rows,
    groups_of,
    is_outdated,
    needed_columns,
    pad_rows,
    read_declared,
    select_schema,
    upgrade_rows,
    user_columns,
)
from tl_data.lake.schemas import LakeSchema
from tl_data.object_store import plain_http

if TYPE_CHECKING:
    from deltalake import DeltaTable

log = logging.getLogger("tl_data.lake")

ATTEMPTS = 8  # attempts of a commit that conflicts with other writers
BATCH = 8_192  # rows per batch; with larger batches, Arrow reads further ahead and needs more memory
FILE_BYTES = 8 * 2**20  # files of this size are not compacted
ROW_GROUP = 1024  # rows per row group
VECTOR_ROW_GROUP = 256  # rows per row group of a table of vectors: a compaction holds a few in memory
SMALL_FILES = 16  # a compaction starts at this number of small files or commits since the last one
#: Properties of new tables. Checkpoints are frequent, because a reader opens all commits since the last one.
PROPERTIES: dict[str, str | None] = {"delta.checkpointInterval": "20"}

#: File system handlers that Arrow still uses; see `_wait_for_readers`.
_handlers: WeakSet[Any] = WeakSet()


def is_delta(address: str) -> bool:
    """Whether a Delta table exists at an address.

    Raises:
        LakeError: the address cannot be read.
    """
    deltalake = _deltalake()
    try:
        return bool(deltalake.DeltaTable.is_deltatable(address, _options()))
    except (deltalake.exceptions.DeltaError, OSError) as error:
        raise LakeError(f"{address}: cannot be read: {describe_error(error)}") from error


def delta_dataset(address: str) -> Any:
    """The current version of any Delta table as an Arrow dataset.

    Raises:
        LakeError: the address has no Delta table, or the table uses an unsupported feature.
    """
    return _dataset(_open(address), _local_files(address))


def delta_version(address: str) -> int:
    """The number of the last commit; -1 if there is no Delta table.

    Raises:
        LakeError: the address cannot be read.
    """
    return _open(address).version() if is_delta(address) else -1


def delta_batches(address: str) -> pa.RecordBatchReader:
    """The current rows of any Delta table in its own types, as a stream of batches.

    Raises:
        LakeError: the address has no Delta table, or the table uses an unsupported feature.
    """
    dataset = _dataset(_open(address))
    return dataset.scanner().to_reader()


class Delta:
    """One Delta table. Each write is one commit, which is retried after a conflict with another writer."""

    def __init__(self, address: str, declared: LakeSchema) -> None:
        self.address = address
        self.declared = declared
        deltalake = _deltalake()
        if not is_delta(address):
            try:
                deltalake.DeltaTable.create(
                    address,
                    declared.schema,
                    mode="ignore",
                    name=declared.name,
                    description=declared.doc,
                    configuration=PROPERTIES,
                    storage_options=_options(),
                )
            except (deltalake.exceptions.DeltaError, OSError) as error:
                raise LakeError(f"{address}: the table cannot be created: {describe_error(error)}") from error
        self._table = _open(address, REBUILD_ADVICE)
        self._check()
        #: Small files of earlier runs, plus the commits of this run, since the last compaction.
        self._added = self._small_files()

    def append(self, rows: pa.Table) -> None:
        """Append rows, also if the table has rows of their groups."""
        rows = fit_rows(self.declared, rows)
        self._commit(lambda t: _deltalake().write_deltalake(t, self._as_stored(rows), mode="append"))

    def replace(self, rows: pa.Table) -> None:
        """Replace all rows. Columns that a user added are kept, and are NULL."""
        rows = fit_rows(self.declared, rows)
        self._commit(lambda t: _deltalake().write_deltalake(t, self._as_stored(rows), mode="overwrite"))

    def replace_groups(self, rows: pa.Table, delete: Collection[Group] = ()) -> None:
        """Replace all rows of the groups in `rows`, and delete the rows of the groups in `delete`."""
        rows = fit_rows(self.declared, rows)
        replaced = dict.fromkeys(groups_of(self.declared, rows))
        deleted = [group for group in dict.fromkeys(delete) if group not in replaced]
        if deleted and not replaced:
            self._commit(lambda t: t.delete(self._group_predicate(deleted)))
        elif replaced:
            # With the predicate, deletion and insertion are one commit, and Delta refuses it if another
            # writer has written a row of these groups.
            predicate = self._group_predicate([*replaced, *deleted])
            write = _deltalake().write_deltalake
            self._commit(lambda t: write(t, self._as_stored(rows), mode="overwrite", predicate=predicate))

    def batches(self, columns: Sequence[str] | None = None) -> pa.RecordBatchReader:
        """The current rows in the declared types, as a stream of batches."""
        self._table.update_incremental()
        self._check()
        schema = select_schema(self.declared, columns)
        names = needed_columns(self.declared, self._schema(), schema.names)
        reader = (
            _dataset(self._table, _local_files(self.address))
            .scanner(columns=names, batch_size=BATCH, batch_readahead=1, fragment_readahead=1)
            .to_reader()
        )
        return read_declared(self.address, self.declared, schema, reader)

    def migrate(self) -> bool:
        """Migrate a table of the previous release; returns whether it was changed.

        Columns are added without rewriting files. A column with a changed type or name, or with values from
        another column, rewrites the table. No table of vectors, clips or pictures has such a column.

        Raises:
            LakeError: the table cannot be written; it is unchanged.
        """
        exceptions = _deltalake().exceptions
        for attempt in range(ATTEMPTS):
            if not is_outdated(self.declared, self._schema()):
                return attempt > 0
            try:
                self._migrate()
                return True
            except exceptions.CommitFailedError as error:
                if attempt == ATTEMPTS - 1:
                    raise LakeError(f"{self.address}: cannot be migrated: {describe_error(error)}") from error
                time.sleep(0.05 * 2**attempt)
            except (exceptions.DeltaError, OSError) as error:
                raise LakeError(f"{self.address}: cannot be migrated: {describe_error(error)}") from error
            self._table.update_incremental()
        return True

    def add_missing_comments(self) -> int:
        """Add the comments of columns without one, in one commit per column; returns their number."""
        fields = {field.name: field for field in self._table.schema().fields}
        undescribed = [
            n for n in self.declared.schema.names if n in fields and not fields[n].metadata.get("comment")
        ]
        for name in undescribed:
            self._table.alter.set_column_metadata(name, {"comment": self.declared.description(name)})
            self._table.update_incremental()
        return len(undescribed)

    def _migrate(self) -> None:
        stored, declared = self._schema(), self.declared
        retyped = [
            n for n in declared.former if n in stored.names and is_outdated(_only(declared, n), stored)
        ]
        filled = [n for n in (*declared.renamed, *declared.derived) if n not in stored.names]
        if retyped or (filled and self._table.file_uris()):
            rows = _dataset(self._table, _local_files(self.address)).to_table()
            columns = [*declared.schema, *user_columns(declared, stored)]
            migrated = upgrade_rows(declared, rows, pa.schema(columns))
            _deltalake().write_deltalake(self._table, migrated, mode="overwrite", schema_mode="overwrite")
            self._table.update_incremental()
            return
        fields = _deltalake().Schema.from_arrow(declared.schema).fields
        self._table.alter.add_columns([field for field in fields if field.name not in stored.names])
        self._table.update_incremental()

    def _schema(self) -> pa.Schema:
        return pa.schema(self._table.schema().to_arrow())

    def _as_stored(self, rows: pa.Table) -> pa.Table:
        """Rows in the columns of the stored table; columns that a user added are NULL."""
        stored = self._schema()
        rows = pad_rows(rows, user_columns(self.declared, stored)).select(stored.names)
        return rows.cast(pa.schema([field.remove_metadata() for field in rows.schema]))

    def sql_path(self) -> str:
        """The address of the table, for `delta_scan` in DuckDB or `delta.` in Spark."""
        return self.address

    def _group_predicate(self, groups: Sequence[Group]) -> str:
        """A SQL predicate that selects the rows of the groups."""
        if len(self.declared.by) == 1:
            return f"{self.declared.by[0]} IN ({', '.join(_literal(value) for (value,) in groups)})"
        named_groups = (zip(self.declared.by, group, strict=True) for group in groups)
        return " OR ".join(
            f"({' AND '.join(f'{name} = {_literal(value)}' for name, value in group)})"
            for group in named_groups
        )

    def _commit(self, write: Callable[[DeltaTable], Any]) -> None:
        """Make one commit. After a conflict with another writer, reload the table and retry.

        Raises:
            LakeError: the table cannot be written; it is unchanged.
        """
        exceptions = _deltalake().exceptions
        for attempt in range(ATTEMPTS):
            try:
                self._table.update_incremental()
                self._check()
                self.migrate()
                write(self._table)
                break
            except exceptions.CommitFailedError as error:
                if attempt == ATTEMPTS - 1:
                    raise LakeError(
                        f"{self.address}: {ATTEMPTS} attempts conflicted with other writers of the same rows "
                        f"({describe_error(error)}). The table is readable, without these rows; run again."
                    ) from error
                time.sleep(0.05 * 2**attempt)
            except (exceptions.DeltaError, OSError) as error:
                raise LakeError(f"{self.address}: cannot be written: {describe_error(error)}") from error
        self._added += 1
        if self._added >= SMALL_FILES:
            self._compact()

    def _compact(self) -> None:
        """Compact small files. Old files stay on disk for current readers, until a vacuum."""
        self._added = 0
        try:
            # Memory grows with the rewritten files, so only small ones are compacted.
            self._table.optimize.compact(
                target_size=FILE_BYTES, max_concurrent_tasks=1, writer_properties=self._writer_properties()
            )
        except (_deltalake().exceptions.DeltaError, OSError) as error:
            # Another process writes, or the disk is full. The rows are committed already, and a later
            # commit compacts the files.
            log.info("%s was not compacted: %s", self.address, describe_error(error))

    def _small_files(self) -> int:
        """The number of files that a compaction would merge, including those of earlier runs.

        A compacted file is a little smaller than `FILE_BYTES`, so only files below half of it are counted.
        """
        sizes = pa.table(self._table.get_add_actions(flatten=True)).column("size_bytes").to_pylist()
        return sum(size < FILE_BYTES / 2 for size in sizes)

    def _writer_properties(self) -> Any:
        """Small row groups, and no dictionary encoding for vectors, whose values do not repeat."""
        properties = _deltalake().ColumnProperties
        flat = [field.name for field in self.declared.schema if not pa.types.is_list(field.type)]
        return _deltalake().WriterProperties(
            max_row_group_size=VECTOR_ROW_GROUP if len(flat) < len(self.declared.schema) else ROW_GROUP,
            compression="SNAPPY",
            default_column_properties=properties(dictionary_enabled=False),
            column_properties=dict.fromkeys(flat, properties(dictionary_enabled=True)),
        )

    def _check(self) -> None:
        check_schema(self.declared, self._schema(), self.address)


def _only(declared: LakeSchema, column: str) -> LakeSchema:
    """The schema with a single column."""
    return replace(declared, schema=pa.schema([declared.schema.field(column)]))


def _local_files(address: str) -> Any:
    """Arrow's file system for a local table; None for a bucket."""
    if "://" in address:
        return None
    from pyarrow import fs

    return fs.SubTreeFileSystem(str(Path(address).absolute()), fs.LocalFileSystem())


def _dataset(table: DeltaTable, files: Any = None) -> Any:
    deltalake = _deltalake()
    try:
        return table.to_pyarrow_dataset(filesystem=files or _store_files(table))
    except deltalake.exceptions.DeltaError as error:
        raise LakeError(
            f"{table.table_uri}: cannot be read without Spark: {describe_error(error)}. In Spark, "
            "REORG TABLE ... APPLY (PURGE) and switching off delta.enableDeletionVectors makes it readable."
        ) from error


def _store_files(table: DeltaTable) -> Any:
    """A file system that reads a table through deltalake's object store."""
    from deltalake.fs import DeltaStorageHandler
    from pyarrow import fs

    handler = DeltaStorageHandler(table.table_uri, _options())
    _handlers.add(handler)
    atexit.unregister(_wait_for_readers)
    atexit.register(_wait_for_readers)
    return fs.PyFileSystem(handler)


def _wait_for_readers(seconds: float = 1.0) -> None:
    """Wait until Arrow has released its file system handlers.

    Arrow releases them in its own threads, shortly after the last row. If the interpreter has ended by then,
    the process aborts.
    """
    deadline = time.monotonic() + seconds
    while _handlers and time.monotonic() < deadline:
        time.sleep(0.01)


def _open(address: str, advice: str = "") -> DeltaTable:
    deltalake = _deltalake()
    try:
        table: DeltaTable = deltalake.DeltaTable(address, storage_options=_options())
    except (deltalake.exceptions.DeltaError, OSError) as error:
        message = f"{address}: is not a readable Delta table: {describe_error(error)}"
        raise LakeError(f"{message}. {advice}" if advice else message) from error
    return table


def _literal(value: Any) -> str:
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)


def _options() -> dict[str, str] | None:
    """Options of the object store: plain HTTP if the environment names an HTTP endpoint."""
    return {"allow_http": "true"} if plain_http() else None


def _deltalake() -> Any:
    try:
        import deltalake
        import deltalake.exceptions
    except ImportError as error:
        raise MissingExtra("deltalake", "delta") from error
    return deltalake
