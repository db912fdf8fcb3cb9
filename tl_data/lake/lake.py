"""A lake: Parquet or Delta tables in one folder, with atomic commits.

    lake = Lake("lake", "delta")
    clips = lake.table(CLIPS)                 # created if it does not exist
    clips.replace_groups(rows)                # one atomic commit, which can be repeated
    clips.batches().read_all()                # a pyarrow.Table

A commit replaces whole groups of rows (`LakeSchema.by`): the clips of a video, the row of a source key. If
the process is killed, the table has the state before the commit or the one after it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import pyarrow as pa

from tl_data.errors import SettingsError
from tl_data.lake.base import LakeTable, select_schema
from tl_data.lake.schemas import TABLES, LakeSchema
from tl_data.urls import redacted

Format = Literal["parquet", "delta"]


class Lake:
    """A folder of tables. A Delta lake may be in a bucket: `s3://`, `gs://`, `az://`."""

    def __init__(self, folder: str, format: Format = "delta") -> None:  # noqa: A002
        if format not in get_args(Format):
            raise SettingsError(f"format is {format!r}; it must be 'delta' or 'parquet'")
        if format == "parquet" and "://" in folder:
            raise SettingsError(f'{folder}: a bucket needs Delta. Set format = "delta"')
        self.folder = folder.rstrip("/") or folder
        self.format: Format = format
        if "://" not in self.folder:
            self._refuse_other_format()
            if format == "delta":
                _refuse_characters(self.folder)

    def _refuse_other_format(self) -> None:
        """Refuse a folder with tables of the other format: `read_parquet` would read the files of both."""
        tables = [path for path in Path(self.folder).glob("*") if path.is_dir()]
        if self.format == "parquet":
            other = [path for path in tables if (path / "_delta_log").is_dir()]
        else:
            other = [
                path
                for path in tables
                if not (path / "_delta_log").is_dir() and any(path.glob("part-??????.parquet"))
            ]
        if other:
            kind = "Delta" if self.format == "parquet" else "Parquet"
            raise SettingsError(
                f"{self.folder} holds {kind} tables ({other[0].name}), and the format of this lake is "
                f"{self.format}. Set format = {kind.lower()!r}, or choose another outputs folder: results "
                "that were paid for come from the ledger"
            )

    def table(self, declared: LakeSchema) -> LakeTable:
        """Open a table; create it if it does not exist.

        Raises:
            SchemaMismatch: the table has other columns or types.
            LakeError: the table cannot be read, or has another format.
        """
        if self.format == "parquet":
            from tl_data.lake.parquet import ParquetTable

            return ParquetTable(Path(self.folder) / declared.name, declared)
        from tl_data.lake.delta import Delta

        return Delta(f"{self.folder}/{declared.name}", declared)

    def exists(self, declared: LakeSchema) -> bool:
        """Whether the table exists; nothing is created."""
        if self.format == "parquet":
            return any((Path(self.folder) / declared.name).glob("*.parquet"))
        from tl_data.lake.delta import is_delta

        return is_delta(f"{self.folder}/{declared.name}")

    def batches(self, declared: LakeSchema, columns: Sequence[str] | None = None) -> pa.RecordBatchReader:
        """The rows of a table as a stream of batches; none if it does not exist."""
        if self.exists(declared):
            return self.table(declared).batches(columns)
        return pa.RecordBatchReader.from_batches(select_schema(declared, columns), [])

    def read(self, declared: LakeSchema, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of a table; none if it does not exist."""
        return self.batches(declared, columns).read_all()


def _refuse_characters(folder: str) -> None:
    """Refuse a path that delta-rs misinterprets or panics on."""
    if match := re.search(r"[\[\]^|\\]|%[0-9A-Fa-f]{2}", str(Path(folder).absolute())):
        raise SettingsError(
            f"{folder}: the path of a Delta table cannot contain {match.group()!r}. Rename the "
            'folder, choose another outputs folder, or set format = "parquet"'
        )


def open_lake(lake: Lake | str) -> Lake:
    """Open the lake in a folder: Delta if it has a Delta table, else Parquet.

    Raises:
        SettingsError: the folder has no table of a lake.
    """
    if isinstance(lake, Lake):
        return lake
    is_delta = "://" in lake or any(Path(lake).glob("*/_delta_log"))
    opened = Lake(lake, "delta" if is_delta else "parquet")
    if not any(opened.exists(declared) for declared in TABLES.values()):
        raise SettingsError(f"{redacted(lake)}: no lake here: the folder has no table of a job")
    return opened
