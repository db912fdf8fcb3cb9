"""Snowflake, BigQuery and Databricks: files of what changed, and the script that loads them.

    FOLDER/TABLE/create.sql              once
    FOLDER/TABLE/000001/rows/*.parquet   new and changed rows
    FOLDER/TABLE/000001/gone/*.parquet   ids of rows that are gone
    FOLDER/TABLE/000001/load.sql         merges and deletes

Nothing is sent to the warehouse: the files are copied to a place that it reads (`place=`), and the scripts
are run in the order of their numbers. Each is safe to repeat.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tl_data.errors import SchemaMismatch, SettingsError
from tl_data.export.sink import BaseStore, Refused, Shape, Sink, Target
from tl_data.export.warehouses.dialects import DIALECTS, Dialect, Load

OPTIONS = {
    "place": "where the files lie when the script runs",
    "schema": "of the tables, such as DATABASE.SCHEMA",
    "prefix": "of the names of tables",
}
FILES = 100_000  # most rows of a file


class Files(BaseStore):
    """The files of one table and one export. They are in place when the last one is written: `load.sql`."""

    errors = (OSError,)

    def __init__(self, target: Target, dialect: Dialect) -> None:
        self._folder, self._dialect = target.file, dialect
        self._place = target.options.get("place", "").rstrip("/")
        if not self._place.startswith(dialect.prefix):
            raise SettingsError(f"{dialect.name} needs ?place=: {dialect.place}; it is {self._place!r}")
        if "'" in self._place or "`" in self._place or ";" in self._place:
            raise SettingsError(f"place is {self._place!r}; it may not hold a quote or a semicolon")
        self._schema = target.options.get("schema", "").split(".") if target.options.get("schema") else []
        self._prefix = target.options.get("prefix", "")
        self._shape: Shape | None = None
        self._counts = {"rows": 0, "gone": 0}
        self._run: Path | None = None

    def ensure(self, shape: Shape, *, create: bool) -> bool:
        """Write the statement that makes the table, unless it is there: then it must be the same."""
        self._shape = shape
        file = self._folder / shape.table / "create.sql"
        text = self._dialect.create(self._table(), shape) + ";\n"
        if file.exists():
            empty = shape.table == "vectors" and shape.dimension is None  # it has no dimension to compare
            if not empty and file.read_text(encoding="utf-8") != text:
                raise SchemaMismatch(
                    f"{file} makes a table of other columns, types or dimension. Nothing was written. Name "
                    "another folder, or remove this one when the table is gone, too."
                )
            return False
        if create:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        return True

    def _table(self) -> str:
        assert self._shape is not None
        return self._dialect.quoted(*self._schema, f"{self._prefix}{self._shape.table}")

    def upsert(self, rows: pa.RecordBatch) -> list[Refused]:
        """Write rows into the file of this export."""
        names = [n for n in rows.schema.names if n != "id"]
        self._write("rows", pa.Table.from_batches([rows]).select(["id", *names]))
        return []

    def delete(self, ids: Sequence[str]) -> None:
        """Write ids into the file of what is gone."""
        self._write("gone", pa.table({"id": pa.array(ids, pa.string())}))

    def _write(self, kind: str, rows: pa.Table) -> None:
        assert self._shape is not None
        if self._run is None:
            numbers = [int(run.name) for run in self._runs()]
            self._run = self._base / f"{max(numbers, default=0) + 1:06}"
            self._complete()  # before there is a new one: scripts are run in the order of their numbers
        folder = self._run / kind
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f".{self._counts[kind]:05}.part"
        pq.write_table(rows, part, compression="snappy")
        part.rename(folder / f"{self._counts[kind]:05}.parquet")
        self._counts[kind] += 1

    @property
    def _base(self) -> Path:
        assert self._shape is not None
        return self._folder / self._shape.table

    def _runs(self) -> list[Path]:
        return sorted(p for p in self._base.iterdir() if p.is_dir() and p.name.isdigit())

    def finish(self) -> None:
        """Write the script, also that of an export that was killed: its files are known as sent."""
        if self._shape is not None and self._base.is_dir():
            self._complete()

    def _complete(self) -> None:
        for run in self._runs():
            if not (run / "load.sql").exists():
                part = run / "load.sql.part"
                part.write_text(self._script(run), encoding="utf-8")
                part.replace(run / "load.sql")

    def _script(self, run: Path) -> str:
        assert self._shape is not None
        load = Load(
            self._table(),
            self._dialect.quoted(*self._schema, f"{self._prefix}{self._shape.table}_tl_staged"),
            self._shape,
            f"{self._place}/{self._shape.table}/{run.name}",
            any((run / "rows").glob("*.parquet")),
            any((run / "gone").glob("*.parquet")),
        )
        return "\n".join(f"{statement};\n" for statement in self._dialect.load(self._dialect, load))


def _sink(dialect: Dialect) -> Sink:
    return Sink(
        dialect.name,
        "tables",
        lambda target: Files(target, dialect),
        "a folder for Parquet files and scripts",
        options=OPTIONS,
        batch=FILES,
    )


SNOWFLAKE, BIGQUERY, DATABRICKS = (_sink(dialect) for dialect in DIALECTS)
