"""Snowflake, BigQuery and Databricks: Parquet files of the changes, and SQL scripts that load them.

    FOLDER/TABLE/create.sql              creates the table
    FOLDER/TABLE/000001/rows/*.parquet   new and changed rows
    FOLDER/TABLE/000001/gone/*.parquet   ids of deleted rows
    FOLDER/TABLE/000001/load.sql         merges and deletes these rows

The export sends nothing to the warehouse. Copy the files to a location that it reads (`place=`), and run the
scripts in the order of their numbers. Each script can be repeated.
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
    "place": "location of the files when the script runs",
    "schema": "schema of the tables, such as DATABASE.SCHEMA",
    "prefix": "prefix of the table names",
}
FILE_ROWS = 100_000  # the most rows of a file


class Files(BaseStore):
    """Writes the files of one export of one table. The export is complete when `load.sql` exists."""

    errors = (OSError,)

    def __init__(self, target: Target, dialect: Dialect) -> None:
        self._folder, self._dialect = target.file, dialect
        self._location = target.options.get("place", "").rstrip("/")
        if not self._location.startswith(dialect.prefix):
            raise SettingsError(
                f"{dialect.name} needs the option place, {dialect.location_format}; it is {self._location!r}"
            )
        if "'" in self._location or "`" in self._location or ";" in self._location:
            raise SettingsError(
                f"place is {self._location!r}; it must not contain a quotation mark or a semicolon"
            )
        self._schema = target.options.get("schema", "").split(".") if target.options.get("schema") else []
        self._prefix = target.options.get("prefix", "")
        self._shape: Shape | None = None
        self._counts = {"rows": 0, "gone": 0}
        self._run: Path | None = None

    def ensure(self, shape: Shape, *, create: bool) -> bool:
        """Write `create.sql`, or check that the existing one is the same."""
        self._shape = shape
        file = self._folder / shape.table / "create.sql"
        text = self._dialect.create(self._table(), shape) + ";\n"
        if file.exists():
            has_no_vectors = shape.table == "vectors" and shape.dimension is None  # no dimension to compare
            if not has_no_vectors and file.read_text(encoding="utf-8") != text:
                raise SchemaMismatch(
                    f"{file} creates a table with other columns, types or dimension. Nothing was written. "
                    "Choose another folder, or drop the table and remove this folder."
                )
            return False
        if create:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        return True

    def _table(self) -> str:
        """The quoted name of the table."""
        assert self._shape is not None
        return self._dialect.quoted(*self._schema, f"{self._prefix}{self._shape.table}")

    def upsert(self, rows: pa.RecordBatch) -> list[Refused]:
        """Write new and changed rows to a file."""
        names = [n for n in rows.schema.names if n != "id"]
        self._write("rows", pa.Table.from_batches([rows]).select(["id", *names]))
        return []

    def delete(self, ids: Sequence[str]) -> None:
        """Write the ids of deleted rows to a file."""
        self._write("gone", pa.table({"id": pa.array(ids, pa.string())}))

    def _write(self, kind: str, rows: pa.Table) -> None:
        assert self._shape is not None
        if self._run is None:
            numbers = [int(run.name) for run in self._runs()]
            self._run = self._base / f"{max(numbers, default=0) + 1:06}"
            # Scripts of earlier exports are written first, because scripts run in the order of their numbers.
            self._write_scripts()
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
        """Write the missing scripts, also of an earlier export that crashed.

        The state records its rows as sent, so no later export writes them again.
        """
        if self._shape is not None and self._base.is_dir():
            self._write_scripts()

    def _write_scripts(self) -> None:
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
            f"{self._location}/{self._shape.table}/{run.name}",
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
        batch_rows=FILE_ROWS,
    )


SNOWFLAKE, BIGQUERY, DATABRICKS = (_sink(dialect) for dialect in DIALECTS)
