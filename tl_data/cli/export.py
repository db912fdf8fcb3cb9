"""The command `tl-data export`: sends the rows of a lake to another tool."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import click
import orjson

from tl_data.cli.output import echo
from tl_data.errors import ExitCode, ExportError, LakeError, SettingsError
from tl_data.export.runner import Progress


@click.command()
@click.argument("lake", type=click.Path())
@click.argument("target")
@click.option("--table", "tables", multiple=True, help="a table to export (repeat for several)")
@click.option(
    "--field",
    "fields",
    multiple=True,
    metavar="NAME=COLUMN",
    help="export COLUMN of the lake as NAME in the target (repeat for several) [default: all columns]",
)
@click.option("--dry-run", is_flag=True, help="only print what it would do")
@click.option("--full", is_flag=True, help="send all rows, also unchanged ones")
@click.option("--json", "as_json", is_flag=True, help="the result as one JSON array on stdout")
def export(
    lake: str,
    target: str,
    tables: tuple[str, ...],
    fields: tuple[str, ...],
    dry_run: bool,
    full: bool,
    as_json: bool,
) -> None:
    """Update another tool from a lake: a vector store, a warehouse, an editing program, a file.

    Only changes since the last export are sent; removed rows are deleted. Exit codes: 0 all rows were sent,
    1 some rows were refused, 2 the command is wrong, 3 the target is unavailable or full (export again).

    Passwords and keys come from environment variables, such as QDRANT_API_KEY or PGPASSWORD (docs/export.md):
    other users can see the command line.

    \b
    LAKE: the folder of the tables
    TARGET: TOOL://LOCATION?option=value, such as lancedb://./store?collection=clips or srt://./subtitles
    """
    from tl_data.export.runner import export as run

    named = None if not fields else dict(_pair(field) for field in fields)
    try:
        with _progress_counter() as progress:
            reports = run(
                lake,
                target,
                table=list(tables) or None,
                fields=named,
                dry_run=dry_run,
                full=full,
                progress=progress,
            )
    except (ExportError, LakeError) as error:
        echo(f"Failed: {error}", err=True)
        sys.exit(ExitCode.TRY_AGAIN)
    if as_json:
        sys.stdout.buffer.write(
            orjson.dumps([asdict(r) for r in reports], option=orjson.OPT_INDENT_2) + b"\n"
        )
    else:
        for report in reports:
            for line in report.lines():
                echo(line)
    sys.exit(max((report.exit_code for report in reports), default=0))


def _pair(text: str) -> tuple[str, str]:
    name, equals, column = text.partition("=")
    if not (name and equals and column):
        raise SettingsError(f"--field is {text!r}; write NAME=COLUMN")
    return name, column


@contextmanager
def _progress_counter() -> Iterator[Progress | None]:
    """Show a counter of the exported rows on a terminal. Elsewhere the block receives None."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}: {task.completed:.0f} rows"))
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("export", total=None)
        yield lambda table, rows: bars.update(task, description=table, completed=rows)
