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
    LOST,
    Group,
    check,
    fitted,
    groups_of,
    needed_columns,
    of_others,
    outdated,
    padded,
    part,
    readable,
    reason,
    upgraded,
)
from tl_data.lake.schemas import LakeSchema
from tl_data.object_store import plain_http

if TYPE_CHECKING:
    from deltalake import DeltaTable

log = logging.getLogger("tl_data.lake")

ATTEMPTS = 8  # of a commit that conflicts with other writers
BATCH = 8_192  # rows per batch; larger ones read further ahead
FILE_BYTES = 8 * 2**20  # files of this size are not compacted
ROW_GROUP = 1024  # rows
VECTOR_ROW_GROUP = 256  # rows, of a table of vectors: a compaction keeps some groups in memory
SMALL_FILES = 16  # small files, or commits since the last compaction, that trigger a compaction
# A reader opens all commits since the last checkpoint concurrently.
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
        raise LakeError(f"{address}: cannot be read: {reason(error)}") from error


def delta_dataset(address: str) -> Any:
    """The current version of any Delta table as a dataset of Arrow.

    Raises:
        LakeError: it is no Delta table, or uses an unsupported feature.
    """
    return _dataset(_opened(address), _own_files(address))


def delta_version(address: str) -> int:
    """The number of the last commit; -1 without a Delta table.

    Raises:
        LakeError: the address cannot be read.
    """
    return _opened(address).version() if is_delta(address) else -1


def delta_batches(address: str) -> pa.RecordBatchReader:
    """The current rows of any Delta table in its own types, as a stream of batches.

    Raises:
        LakeError: it is no Delta table, or uses an unsupported feature.
    """
    dataset = _dataset(_opened(address))
    return dataset.scanner().to_reader()


class Delta:
    """One Delta table. Every method is one commit, which is retried after a conflict with another writer."""

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
                raise LakeError(f"{address}: the table cannot be created: {reason(error)}") from error
        self._table = _opened(address, LOST)
        self._check()
        self._added = self._small_files()

    def append(self, rows: pa.Table) -> None:
        """Append rows."""
        rows = fitted(self.declared, rows)
        self._commit(lambda t: _deltalake().write_deltalake(t, self._as_stored(rows), mode="append"))

    def replace(self, rows: pa.Table) -> None:
        """Replace all rows."""
        rows = fitted(self.declared, rows)
        self._commit(lambda t: _deltalake().write_deltalake(t, self._as_stored(rows), mode="overwrite"))

    def replace_groups(self, rows: pa.Table, gone: Collection[Group] = ()) -> None:
        """Replace the rows of the same groups, and delete the rows of the groups in `gone`."""
        rows = fitted(self.declared, rows)
        coming = dict.fromkeys(groups_of(self.declared, rows))
        leaving = [group for group in dict.fromkeys(gone) if group not in coming]
        if leaving and not coming:
            self._commit(lambda t: t.delete(self._among(leaving)))
        elif coming:
            # With the predicate, deletion and insertion are one commit, and Delta refuses it if another
            # writer has written a row of these groups.
            among = self._among([*coming, *leaving])
            write = _deltalake().write_deltalake
            self._commit(lambda t: write(t, self._as_stored(rows), mode="overwrite", predicate=among))

    def batches(self, columns: Sequence[str] | None = None) -> pa.RecordBatchReader:
        """The current rows in the declared types, as a stream of batches."""
        self._table.update_incremental()
        self._check()
        schema = part(self.declared, columns)
        names = needed_columns(self.declared, self._schema(), schema.names)
        reader = (
            _dataset(self._table, _own_files(self.address))
            .scanner(columns=names, batch_size=BATCH, batch_readahead=1, fragment_readahead=1)
            .to_reader()
        )
        return readable(self.address, self.declared, schema, reader)

    def migrate(self) -> bool:
        """Migrate a table of the previous release; returns whether it was changed.

        Columns are added without rewriting files. A changed type rewrites the table, which only concerns the
        small table `runs`.

        Raises:
            LakeError: the table cannot be written; it is unchanged.
        """
        exceptions = _deltalake().exceptions
        for attempt in range(ATTEMPTS):
            if not outdated(self.declared, self._schema()):
                return attempt > 0
            try:
                self._migrate()
                return True
            except exceptions.CommitFailedError as error:
                if attempt == ATTEMPTS - 1:
                    raise LakeError(f"{self.address}: cannot be migrated: {reason(error)}") from error
                time.sleep(0.05 * 2**attempt)
            except (exceptions.DeltaError, OSError) as error:
                raise LakeError(f"{self.address}: cannot be migrated: {reason(error)}") from error
            self._table.update_incremental()
        return True

    def describe(self) -> int:
        """Set the descriptions of columns without one, a commit each; returns their number."""
        fields = {field.name: field for field in self._table.schema().fields}
        bare = [
            n for n in self.declared.schema.names if n in fields and not fields[n].metadata.get("comment")
        ]
        for name in bare:
            self._table.alter.set_column_metadata(name, {"comment": self.declared.description(name)})
            self._table.update_incremental()
        return len(bare)

    def _migrate(self) -> None:
        found, declared = self._schema(), self.declared
        retyped = [n for n in declared.former if n in found.names and outdated(_only(declared, n), found)]
        renamed = [n for n in declared.renamed if n not in found.names]
        if retyped or (renamed and self._table.file_uris()):
            rows = _dataset(self._table, _own_files(self.address)).to_table()
            more = of_others(declared, found)
            columns = [*declared.schema, *more]
            whole = upgraded(declared, rows, pa.schema(columns))
            _deltalake().write_deltalake(self._table, whole, mode="overwrite", schema_mode="overwrite")
            self._table.update_incremental()
            return
        fields = _deltalake().Schema.from_arrow(declared.schema).fields
        self._table.alter.add_columns([field for field in fields if field.name not in found.names])
        self._table.update_incremental()

    def _schema(self) -> pa.Schema:
        return pa.schema(self._table.schema().to_arrow())

    def _as_stored(self, rows: pa.Table) -> pa.Table:
        """Rows with the columns that a user added to the table as NULL, in the order of the table."""
        found = self._schema()
        rows = padded(rows, of_others(self.declared, found)).select(found.names)
        return rows.cast(pa.schema([field.remove_metadata() for field in rows.schema]))

    def where(self) -> str:
        """The SQL expression that reads the table."""
        return self.address

    def _among(self, groups: Sequence[Group]) -> str:
        """The groups as a predicate in SQL."""
        if len(self.declared.by) == 1:
            return f"{self.declared.by[0]} IN ({', '.join(_literal(value) for (value,) in groups)})"
        named = (zip(self.declared.by, group, strict=True) for group in groups)
        return " OR ".join(
            f"({' AND '.join(f'{name} = {_literal(value)}' for name, value in group)})" for group in named
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
                        f"({reason(error)}). The table is readable, without these rows; run again."
                    ) from error
                time.sleep(0.05 * 2**attempt)
            except (exceptions.DeltaError, OSError) as error:
                raise LakeError(f"{self.address}: cannot be written: {reason(error)}") from error
        self._added += 1
        if self._added >= SMALL_FILES:
            self._compact()

    def _compact(self) -> None:
        """Compact small files. Old files stay on disk for current readers, until a vacuum."""
        self._added = 0
        try:
            # Memory grows with the rewritten files, so only small ones are compacted.
            self._table.optimize.compact(
                target_size=FILE_BYTES, max_concurrent_tasks=1, writer_properties=self._groups_of_rows()
            )
        except (_deltalake().exceptions.DeltaError, OSError) as error:
            # Another process writes, or the disk is full: the rows are committed, and a later commit
            # compacts.
            log.info("%s was not compacted: %s", self.address, reason(error))

    def _small_files(self) -> int:
        """The number of files for a compaction, including those of earlier runs.

        Compacted files are a little below the target size and are not counted.
        """
        sizes = pa.table(self._table.get_add_actions(flatten=True)).column("size_bytes").to_pylist()
        return sum(size < FILE_BYTES / 2 for size in sizes)

    def _groups_of_rows(self) -> Any:
        """Writer properties: small row groups, and no dictionary for vectors, whose values do not repeat."""
        properties = _deltalake().ColumnProperties
        flat = [field.name for field in self.declared.schema if not pa.types.is_list(field.type)]
        return _deltalake().WriterProperties(
            max_row_group_size=VECTOR_ROW_GROUP if len(flat) < len(self.declared.schema) else ROW_GROUP,
            compression="SNAPPY",
            default_column_properties=properties(dictionary_enabled=False),
            column_properties=dict.fromkeys(flat, properties(dictionary_enabled=True)),
        )

    def _check(self) -> None:
        check(self.declared, self._schema(), self.address)


def _only(declared: LakeSchema, column: str) -> LakeSchema:
    return replace(declared, schema=pa.schema([declared.schema.field(column)]))


def _own_files(address: str) -> Any:
    """The file system for a local table, which Arrow reads directly; None for a bucket."""
    if "://" in address:
        return None
    from pyarrow import fs

    return fs.SubTreeFileSystem(str(Path(address).absolute()), fs.LocalFileSystem())


def _dataset(table: DeltaTable, files: Any = None) -> Any:
    deltalake = _deltalake()
    try:
        return table.to_pyarrow_dataset(filesystem=files or _files_of(table))
    except deltalake.exceptions.DeltaError as error:
        raise LakeError(
            f"{table.table_uri}: cannot be read without Spark: {reason(error)}. In Spark, "
            "REORG TABLE ... APPLY (PURGE) and switching off delta.enableDeletionVectors makes it readable."
        ) from error


def _files_of(table: DeltaTable) -> Any:
    """The file system of a table, through deltalake's object store."""
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


def _opened(address: str, advice: str = "") -> DeltaTable:
    deltalake = _deltalake()
    try:
        table: DeltaTable = deltalake.DeltaTable(address, storage_options=_options())
    except (deltalake.exceptions.DeltaError, OSError) as error:
        message = f"{address}: is not a readable Delta table: {reason(error)}"
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
