"""A table as a folder of Parquet files that any reader may glob: `SELECT * FROM 'lake/clips/*.parquet'`.

There is no manifest that a reader would have to know. Instead every file is written beside its place and
renamed into it, a group of rows lives in exactly one file, and a group is replaced in the file that holds
it. So each rename takes one reader-visible step: a group is there before or after it, never half, never
twice. New groups go to the last file until it is `FILE_BYTES` long, which keeps the number of files small
without a compaction that readers could run into.
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

FILE_BYTES = 16 * 2**20  # a commit rewrites at most about this much, plus the files of replaced groups

Stat = tuple[int, int, int]


class ParquetTable:
    """One folder of Parquet files. A lock file allows one writer at a time; readers never wait."""

    def __init__(self, folder: Path, declared: LakeSchema) -> None:
        self.folder = folder
        self.declared = declared
        self._known: dict[Path, tuple[Stat, frozenset[int]]] = {}
        self._next = folder.with_name(f".{folder.name}.next")  # a complete new table
        if not self._files() or self._next.exists():
            with self._writing():
                self._recover()
        for file in self._files():
            self._opened(file)

    def append(self, rows: pa.Table) -> None:
        """Append rows."""
        with self._writing():
            self._migrate()
            self._put(self._path(len(self._files())), self._as_stored(fitted(self.declared, rows)))

    def replace(self, rows: pa.Table) -> None:
        """Replace all rows. A reader may briefly find no table, but never a mixture."""
        rows = fitted(self.declared, rows)
        with self._writing():
            building = self._next.with_suffix(".building")
            shutil.rmtree(building, ignore_errors=True)
            building.mkdir()
            self._put(building / self._path(0).name, rows)
            building.rename(self._next)
            self._recover()

    def replace_groups(self, rows: pa.Table, gone: Collection[Group] = ()) -> None:
        """Replace the rows of the same groups, and delete the rows of the groups in `gone`."""
        rows = fitted(self.declared, rows)
        groups = groups_of(self.declared, rows)
        leaving = {*groups, *gone}
        if not leaving:
            return
        with self._writing():
            self._migrate()
            rows = self._as_stored(rows)
            home, touched = self._homes(leaving)
            last = self._last()
            placed: dict[Path, list[int]] = {file: [] for file in touched}
            for number, group in enumerate(groups):
                placed.setdefault(home.get(group, last), []).append(number)
            for file, numbers in placed.items():
                kept = self._without(file, leaving) if file.exists() else rows.schema.empty_table()
                self._put(
                    file,
                    pa.concat_tables(
                        [kept, rows.take(pa.array(numbers, pa.int64()))], promote_options="permissive"
                    ),
                )

    def batches(self, columns: Sequence[str] | None = None) -> pa.RecordBatchReader:
        """The current rows in the declared types, as a stream of batches."""
        schema = part(self.declared, columns)
        opened = [self._opened(file) for file in self._files()]  # opened now: a replaced file stays readable

        found = (
            batch
            for file in opened
            for batch in file.iter_batches(
                columns=needed_columns(self.declared, file.schema_arrow, schema.names)
            )
        )
        return readable(str(self.folder), self.declared, schema, found)

    def migrate(self) -> bool:
        """Migrate a table of the previous release; returns whether it was changed.

        Raises:
            LakeError: the table cannot be written; each file is either unchanged or migrated.
        """
        with self._writing():
            return self._migrate()

    def describe(self) -> int:
        """Write missing descriptions of columns into the files; returns the number of these columns."""
        with self._writing():
            bare: set[str] = set()
            for file in self._files():
                rows = self._opened(file).read()
                without = {
                    n
                    for n in self.declared.schema.names
                    if not (rows.field(n).metadata or {}).get(b"comment")
                }
                if without:
                    columns = [*self.declared.schema, *of_others(self.declared, rows.schema)]
                    self._put(file, upgraded(self.declared, rows, pa.schema(columns)))
                bare |= without
            return len(bare)

    def _migrate(self) -> bool:
        old = [f for f in self._files() if outdated(self.declared, self._opened(f).schema_arrow)]
        for file in old:
            rows = self._opened(file).read()
            columns = [*self.declared.schema, *of_others(self.declared, rows.schema)]
            self._put(file, upgraded(self.declared, rows, pa.schema(columns)))
        return bool(old)

    def _as_stored(self, rows: pa.Table) -> pa.Table:
        """Rows with the columns that a user added to the files as NULL."""
        more: dict[str, pa.Field] = {}
        for file in self._files():
            more.update((f.name, f) for f in of_others(self.declared, self._opened(file).schema_arrow))
        return padded(rows, list(more.values()))

    def where(self) -> str:
        """The SQL expression that reads the table."""
        return f"{self.folder}/*.parquet"

    def _recover(self) -> None:
        """Finish an interrupted `replace`, and create a missing table."""
        before = self._next.with_suffix(".before")
        if self._next.exists():
            if self.folder.exists():
                shutil.rmtree(before, ignore_errors=True)
                self.folder.rename(before)
            self._next.rename(self.folder)
        self.folder.mkdir(exist_ok=True)
        if not self._files():
            self._put(self._path(0), self.declared.schema.empty_table())
        shutil.rmtree(before, ignore_errors=True)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("*.parquet"))

    def _path(self, number: int) -> Path:
        return self.folder / f"part-{number:06}.parquet"

    def _last(self) -> Path:
        """The file for new groups: the last one while it is small, else a new one."""
        files = self._files()
        small = files and files[-1].stat().st_size < FILE_BYTES
        return files[-1] if small else self._path(len(files))

    def _homes(self, groups: set[Group]) -> tuple[dict[Group, Path], list[Path]]:
        """The file of each existing group, and all these files."""
        home: dict[Group, Path] = {}
        touched = []
        for file in self._files():
            known = self._groups(file)
            # A hash collision only reads a file unnecessarily.
            if held := [g for g in groups if hash(g) in known]:
                touched.append(file)
                home.update((g, file) for g in held)
        return home, touched

    def _groups(self, file: Path) -> frozenset[int]:
        """Hashes of the groups in a file; cached until the file changes."""
        info = file.stat()
        stat = (info.st_mtime_ns, info.st_size, info.st_ino)
        seen = self._known.get(file)
        if seen is None or seen[0] != stat:
            table = self._opened(file).read(columns=list(self.declared.by))
            seen = stat, frozenset(hash(g) for g in groups_of(self.declared, table))
            self._known[file] = seen
        return seen[1]

    def _without(self, file: Path, groups: set[Group]) -> pa.Table:
        table = self._opened(file).read()
        stay = [group not in groups for group in groups_of(self.declared, table)]
        return table.filter(pa.array(stay, pa.bool_()))

    def _put(self, file: Path, table: pa.Table) -> None:
        """Write a temporary file and rename it."""
        beside = file.with_name(f".{file.name}.{os.getpid()}.tmp")
        try:
            with beside.open("wb") as sink:
                # Vectors of floats do not compress; text does.
                pq.write_table(table, sink, compression="zstd", use_dictionary=self._texts())
                sink.flush()
                os.fsync(sink.fileno())
            os.replace(beside, file)
        except OSError as error:
            raise LakeError(f"{file}: cannot be written: {reason(error)}. The table is unchanged.") from error
        finally:
            beside.unlink(missing_ok=True)

    def _texts(self) -> list[str]:
        return [f.name for f in self.declared.schema if pa.types.is_string(f.type)]

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            lock: Any = self.folder.with_name(f".{self.folder.name}.lock").open("wb")
        except OSError as error:
            raise LakeError(f"{self.folder}: cannot be written: {reason(error)}") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                for stale in self.folder.glob(".*.tmp"):  # of a killed writer: this process has the lock
                    stale.unlink(missing_ok=True)
                yield
            except OSError as error:
                raise LakeError(f"{self.folder}: cannot be written: {reason(error)}") from error

    def _opened(self, file: Path) -> pq.ParquetFile:
        try:
            opened = pq.ParquetFile(file)
        except (pa.ArrowInvalid, OSError) as error:
            raise LakeError(f"{file} is not a readable Parquet file: {reason(error)}. {LOST}") from error
        check(self.declared, opened.schema_arrow, str(file))
        return opened
