"""A table as a folder of Parquet files that any reader may glob: `SELECT * FROM 'lake/clips/*.parquet'`.

There is no manifest that readers would have to know. Every file is written under a temporary name and then
renamed. `replace_groups` keeps all rows of a group in one file and replaces the group by rewriting this file.
So a reader sees a group either as it was before the rename or as it is after it, never in part and never
twice. New groups are added to the last file until it has `FILE_BYTES`, so the number of files stays small
without a compaction, which could disturb readers.

`append` writes a new file, so a group may then be in several files. The next `replace_groups` of this group
rewrites them one after the other: until it ends, a reader may see a part of the old rows or no row.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tl_data.errors import LakeError
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

#: Size from which a file gets no new groups. A commit rewrites at most one smaller file, and the files of
#: replaced groups.
FILE_BYTES = 16 * 2**20

Stat = tuple[int, int, int]  # modification time, size and inode of a file


class ParquetTable:
    """One folder of Parquet files. A lock file allows one writer at a time; readers never wait."""

    def __init__(self, folder: Path, declared: LakeSchema) -> None:
        self.folder = folder
        self.declared = declared
        self._hashes_by_file: dict[Path, tuple[Stat, frozenset[int]]] = {}  # cache of `_group_hashes`
        #: The new table of a `replace`, once it is complete.
        self._next = folder.with_name(f".{folder.name}.next")
        if not self._files() or self._next.exists():
            with self._writing():
                self._install_next()
        for file in self._files():
            self._open(file)  # checks the file and its schema

    def append(self, rows: pa.Table) -> None:
        """Append rows as a new file, also if the table has rows of their groups."""
        with self._writing():
            self._migrate()
            self._write_file(self._new_path(), self._as_stored(fit_rows(self.declared, rows)))

    def replace(self, rows: pa.Table) -> None:
        """Replace all rows. Columns that a user added are kept, and are NULL.

        A reader may briefly find no table, but never a mixture of old and new rows.
        """
        rows = fit_rows(self.declared, rows)
        with self._writing():
            rows = self._as_stored(rows)
            building = self._next.with_suffix(".building")
            shutil.rmtree(building, ignore_errors=True)
            building.mkdir()
            self._write_file(building / self._path(0).name, rows)
            building.rename(self._next)
            self._install_next()

    def replace_groups(self, rows: pa.Table, delete: Collection[Group] = ()) -> None:
        """Replace all rows of the groups in `rows`, and delete the rows of the groups in `delete`."""
        rows = fit_rows(self.declared, rows)
        groups = groups_of(self.declared, rows)
        removed = {*groups, *delete}
        if not removed:
            return
        with self._writing():
            self._migrate()
            rows = self._as_stored(rows)
            file_of_group, changed_files = self._find_groups(removed)
            last = self._last()
            row_numbers: dict[Path, list[int]] = {file: [] for file in changed_files}
            for number, group in enumerate(groups):
                row_numbers.setdefault(file_of_group.get(group, last), []).append(number)
            for file, numbers in row_numbers.items():
                kept = self._without(file, removed) if file.exists() else rows.schema.empty_table()
                self._write_file(
                    file,
                    pa.concat_tables(
                        [kept, rows.take(pa.array(numbers, pa.int64()))], promote_options="permissive"
                    ),
                )

    def batches(self, columns: Sequence[str] | None = None) -> pa.RecordBatchReader:
        """The current rows in the declared types, as a stream of batches."""
        schema = select_schema(self.declared, columns)
        # All files are opened first: an open file stays readable after it is replaced.
        opened = [self._open(file) for file in self._files()]
        batches = (
            batch
            for file in opened
            for batch in file.iter_batches(
                columns=needed_columns(self.declared, file.schema_arrow, schema.names)
            )
        )
        return read_declared(str(self.folder), self.declared, schema, batches)

    def migrate(self) -> bool:
        """Migrate a table of the previous release; returns whether it was changed.

        Raises:
            LakeError: the table cannot be written; each file is either unchanged or migrated.
        """
        with self._writing():
            return self._migrate()

    def add_missing_comments(self) -> int:
        """Add the comments of columns without one to the files; returns the number of these columns."""
        with self._writing():
            undescribed: set[str] = set()
            for file in self._files():
                rows = self._open(file).read()
                without = {
                    n
                    for n in self.declared.schema.names
                    if not (rows.field(n).metadata or {}).get(b"comment")
                }
                if without:
                    columns = [*self.declared.schema, *user_columns(self.declared, rows.schema)]
                    self._write_file(file, upgrade_rows(self.declared, rows, pa.schema(columns)))
                undescribed |= without
            return len(undescribed)

    def _migrate(self) -> bool:
        old = [f for f in self._files() if is_outdated(self.declared, self._open(f).schema_arrow)]
        for file in old:
            rows = self._open(file).read()
            columns = [*self.declared.schema, *user_columns(self.declared, rows.schema)]
            self._write_file(file, upgrade_rows(self.declared, rows, pa.schema(columns)))
        return bool(old)

    def _as_stored(self, rows: pa.Table) -> pa.Table:
        """Rows with additional NULL columns: those that a user added to the files."""
        added: dict[str, pa.Field] = {}
        for file in self._files():
            added.update((f.name, f) for f in user_columns(self.declared, self._open(file).schema_arrow))
        return pad_rows(rows, list(added.values()))

    def sql_path(self) -> str:
        """The pattern of the table's files, for `read_parquet`."""
        return f"{self.folder}/*.parquet"

    def _install_next(self) -> None:
        """Put the new table of a `replace` in the place of the old one; create a table that is missing.

        This is the last step of `replace`. If a process is killed during it, it is repeated when the table is
        opened.
        """
        before = self._next.with_suffix(".before")
        if self._next.exists():
            if self.folder.exists():
                shutil.rmtree(before, ignore_errors=True)
                self.folder.rename(before)
            self._next.rename(self.folder)
        self.folder.mkdir(exist_ok=True)
        if not self._files():
            self._write_file(self._path(0), self.declared.schema.empty_table())
        shutil.rmtree(before, ignore_errors=True)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("*.parquet"))

    def _path(self, number: int) -> Path:
        return self.folder / f"part-{number:06}.parquet"

    def _new_path(self) -> Path:
        number = len(self._files())
        while self._path(number).exists():  # a file with a lower number was removed
            number += 1
        return self._path(number)

    def _last(self) -> Path:
        """The file for new groups: the last file if it is smaller than `FILE_BYTES`, else a new one."""
        files = self._files()
        small = files and files[-1].stat().st_size < FILE_BYTES
        return files[-1] if small else self._new_path()

    def _find_groups(self, groups: set[Group]) -> tuple[dict[Group, Path], list[Path]]:
        """The file of each group that the table has, and the list of these files."""
        file_of_group: dict[Group, Path] = {}
        files = []
        for file in self._files():
            hashes = self._group_hashes(file)
            # After a hash collision, a file is rewritten unnecessarily; the result is the same.
            if matching := [g for g in groups if hash(g) in hashes]:
                files.append(file)
                file_of_group.update((g, file) for g in matching)
        return file_of_group, files

    def _group_hashes(self, file: Path) -> frozenset[int]:
        """Hashes of the groups in a file; cached until the file changes."""
        info = file.stat()
        stat = (info.st_mtime_ns, info.st_size, info.st_ino)
        cached = self._hashes_by_file.get(file)
        if cached is None or cached[0] != stat:
            table = self._open(file).read(columns=list(self.declared.by))
            cached = stat, frozenset(hash(g) for g in groups_of(self.declared, table))
            self._hashes_by_file[file] = cached
        return cached[1]

    def _without(self, file: Path, groups: set[Group]) -> pa.Table:
        """The rows of a file without those of the groups."""
        table = self._open(file).read()
        is_kept = [group not in groups for group in groups_of(self.declared, table)]
        return table.filter(pa.array(is_kept, pa.bool_()))

    def _write_file(self, file: Path, table: pa.Table) -> None:
        """Write a temporary file and rename it to `file`."""
        temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as sink:
                # Only strings get a dictionary: vectors and times hardly repeat a value.
                pq.write_table(table, sink, compression="zstd", use_dictionary=self._string_columns())
                sink.flush()
                os.fsync(sink.fileno())
            os.replace(temporary, file)
        except OSError as error:
            raise LakeError(
                f"{file}: cannot be written: {describe_error(error)}. This file is unchanged."
            ) from error
        finally:
            temporary.unlink(missing_ok=True)

    def _string_columns(self) -> list[str]:
        return [f.name for f in self.declared.schema if pa.types.is_string(f.type)]

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the lock of the table's writer."""
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            lock: Any = self.folder.with_name(f".{self.folder.name}.lock").open("wb")
        except OSError as error:
            raise LakeError(f"{self.folder}: cannot be written: {describe_error(error)}") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                for stale in self.folder.glob(
                    ".*.tmp"
                ):  # left by a killed writer: this process holds the lock
                    stale.unlink(missing_ok=True)
                yield
            except OSError as error:
                raise LakeError(f"{self.folder}: cannot be written: {describe_error(error)}") from error

    def _open(self, file: Path) -> pq.ParquetFile:
        try:
            opened = pq.ParquetFile(file)
        except (pa.ArrowInvalid, OSError) as error:
            raise LakeError(
                f"{file} is not a readable Parquet file: {describe_error(error)}. {REBUILD_ADVICE}"
            ) from error
        check_schema(self.declared, opened.schema_arrow, str(file))
        return opened
