"""Output of the command line: rows as a text table, JSON, CSV or Parquet."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, is_dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Self

import click
import orjson
import pyarrow as pa
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from tl_data.untrusted import printable
from tl_data.urls import redacted

#: Largest number of characters of a cell in a text table. Other formats are not truncated.
CELL = 400


def echo(text: str, err: bool = False) -> None:
    """Print a line. Signatures in URLs and terminal control sequences are removed."""
    click.echo(printable(redacted(text)), err=err)


def output_options(command: click.Command) -> click.Command:
    """Add the options --json, --csv and --parquet FILE to a command.

    Its callback receives the format as `to` ("table", "json", "csv" or "parquet") and the path as `file`.
    """
    run = command.callback
    assert run is not None

    def run_with_format(as_json: bool, as_csv: bool, parquet: str | None, **options: Any) -> None:
        if as_json + as_csv + (parquet is not None) > 1:
            raise click.UsageError("choose one of --json, --csv and --parquet")
        to = "json" if as_json else "csv" if as_csv else "parquet" if parquet else "table"
        run(to=to, file=parquet, **options)

    command.callback = run_with_format
    command.params += [
        click.Option(["--json", "as_json"], is_flag=True, help="write a JSON array of objects"),
        click.Option(["--csv", "as_csv"], is_flag=True, help="write CSV with a header line"),
        click.Option(["--parquet"], metavar="FILE", help="write a Parquet file"),
    ]
    return command


def show(rows: pa.Table, to: str = "table", file: str | None = None) -> None:
    """Write rows to the standard output, or as Parquet to `file`.

    Args:
        to: "table", "json", "csv" or "parquet".
    """
    if to == "json":
        sys.stdout.buffer.write(orjson.dumps(rows.to_pylist(), option=orjson.OPT_INDENT_2) + b"\n")
    elif to == "csv":
        from pyarrow import csv

        csv.write_csv(_flat(rows), sys.stdout.buffer)
    elif to == "parquet" and file is not None:
        import pyarrow.parquet as pq

        try:
            pq.write_table(rows, file)
        except OSError as error:
            raise click.FileError(file, os.strerror(error.errno) if error.errno else str(error)) from error
        echo(f"{rows.num_rows} rows written to {file}", err=True)
    else:
        Console().print(grid(rows))


class Writer:
    """Writes batches of rows in the chosen format. A context manager.

    Args:
        to, file: as for `show`.
        brief: the columns of the text table. None: all columns.
    """

    def __init__(
        self, schema: pa.Schema, to: str = "table", file: str | None = None, brief: list[str] | None = None
    ) -> None:
        self._schema, self._to, self._file, self._brief = schema, to, file, brief or schema.names
        self._kept: list[pa.RecordBatch] = []  # for the text table, whose widths depend on all rows
        self._rows = 0
        self._sink: Any = None

    def __enter__(self) -> Self:
        if self._to == "csv":
            from pyarrow import csv

            flat = _flat(self._schema.empty_table()).schema
            self._sink = csv.CSVWriter(sys.stdout.buffer, flat)
        elif self._to == "parquet" and self._file is not None:
            import pyarrow.parquet as pq

            try:
                self._sink = pq.ParquetWriter(self._file, self._schema)
            except OSError as error:
                reason = os.strerror(error.errno) if error.errno else str(error)
                raise click.FileError(self._file, reason) from error
        return self

    def write(self, batch: pa.RecordBatch) -> None:
        """Write some rows."""
        if self._to == "json":
            for row in batch.to_pylist():
                body = orjson.dumps(row, option=orjson.OPT_INDENT_2).replace(b"\n", b"\n  ")
                sys.stdout.buffer.write((b",\n  " if self._rows else b"[\n  ") + body)
                self._rows += 1
            return
        self._rows += batch.num_rows
        if self._to == "csv":
            self._sink.write_table(_flat(pa.Table.from_batches([batch])))
        elif self._sink is not None:
            self._sink.write_batch(batch)
        else:
            self._kept.append(batch)

    def __exit__(self, kind: object, *_: object) -> None:
        if self._sink is not None:
            self._sink.close()
        if kind is not None:
            return
        if self._to == "json":
            sys.stdout.buffer.write(b"\n]\n" if self._rows else b"[]\n")
        elif self._to == "parquet":
            echo(f"{self._rows} rows written to {self._file}", err=True)
        elif self._to == "table":
            Console().print(grid(pa.Table.from_batches(self._kept, self._schema).select(self._brief)))


def grid(rows: pa.Table, title: str | None = None) -> Grid:
    """Rows as a text table, without columns that are empty in all rows."""
    columns = [
        name
        for name in rows.column_names
        if rows.num_rows == 0 or rows.column(name).null_count < rows.num_rows
    ]
    table = Grid(title=title, title_justify="left", show_lines=False, header_style="bold")
    for name in columns:
        numeric = pa.types.is_integer(rows.schema.field(name).type) or pa.types.is_floating(
            rows.schema.field(name).type
        )
        # Ids and keys are not wrapped, so that they can be copied.
        table.add_column(
            Text(printable(name)),
            justify="right" if numeric else "left",
            overflow="fold",
            no_wrap=_is_key(name),
        )
    for row in rows.select(columns).to_pylist():
        table.add_row(*(Text(_cell(row[name])) for name in columns))  # Text: its markup is not parsed
    if rows.num_rows == 0:
        table.caption = "no rows"
    return table


def _is_key(name: str) -> bool:
    return name == "key" or name.endswith("_id")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.2f}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, list) and value and isinstance(value[0], float):
        return f"[{value[0]:.3f}, {value[1]:.3f}, ...] ({len(value)})" if len(value) > 1 else str(value)
    if isinstance(value, list) and all(isinstance(v, str) for v in value):
        return printable(redacted(", ".join(value)))
    text = printable(redacted(value if isinstance(value, str) else orjson.dumps(value, default=str).decode()))
    return text if len(text) <= CELL else text[: CELL - 3] + "..."


def _flat(rows: pa.Table) -> pa.Table:
    """The rows with lists and structs as JSON text, for CSV."""
    columns = [
        pa.array([None if v is None else orjson.dumps(v, default=str).decode() for v in c.to_pylist()])
        if pa.types.is_nested(c.type)
        else c
        for c in rows.columns
    ]
    return pa.table(columns, names=rows.column_names)


def json_value(value: Any) -> Any:
    """A value that JSON has no type for: a decimal as a number, a dataclass as an object, others as text."""
    if isinstance(value, Decimal):
        return float(value)
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)


def commands_of(group: click.Group, parents: tuple[str, ...] = ()) -> list[tuple[str, click.Command]]:
    """The commands of a group and of its subgroups, with their full names."""
    commands: list[tuple[str, click.Command]] = []
    for name, command in sorted(group.commands.items()):
        commands.append((" ".join((*parents, name)), command))
        if isinstance(command, click.Group):
            commands += commands_of(command, (*parents, name))
    return commands
