"""The commands `tl-data ledger ...`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import click
import orjson
import pyarrow as pa
import pyarrow.compute

from tl_data.cli.output import Writer, echo, json_value, output_options
from tl_data.errors import LedgerError
from tl_data.ledger.ledger import EXPORT, Ledger
from tl_data.ledger.models import Entry, State
from tl_data.settings import Settings
from tl_data.urls import redacted


@click.group()
def ledger() -> None:
    """Show or change the ledger: the record of paid calls and their results."""


PAGE = 100  # largest number of rows of the text table, unless --limit sets it
#: The columns of the text table.
BRIEF = ["key", "state", "operation", "content", "at", "error_message"]
STATES = ["claimed", "submitted", "done", "failed"]


@ledger.command("ls")
@click.option("--state", type=click.Choice(STATES))
@click.option("--operation", help="only calls of this operation: index, summary, chapter, ...")
@click.option(
    "--limit",
    type=click.IntRange(0),
    help=f"largest number of rows [default: {PAGE} in the text table, otherwise all]",
)
def _list(state: State | None, operation: str | None, limit: int | None, to: str, file: str | None) -> None:
    """List the calls in the ledger: one page and the total, or all with --json."""
    if to == "table":
        limit = PAGE if limit is None else limit
    listed, doubtful, doubtful_minutes = 0, 0, 0.0

    async def write_rows(ledger: Ledger) -> dict[State, int]:
        nonlocal listed, doubtful, doubtful_minutes
        with Writer(EXPORT, to, file, BRIEF) as writer:
            rows = 1000 if limit is None else max(1, min(limit, 1000))
            async for batch in ledger.batches(state=state, operation=operation, rows=rows):
                part = batch if limit is None else batch.slice(0, limit - listed)
                writer.write(part)
                listed += part.num_rows
                paid_twice = part.filter(part.column("perhaps_paid_twice"))
                doubtful += paid_twice.num_rows
                doubtful_minutes += pa.compute.sum(paid_twice.column("video_minutes")).as_py() or 0.0
                if limit is not None and listed >= limit:
                    break
        return await ledger.count() if to == "table" else {}

    counts = _in_ledger(write_rows)
    if counts:
        by_state = ", ".join(f"{counts[name]:,} {name}" for name in STATES if name in counts)
        echo(f"{listed:,} of {sum(counts.values()):,} calls ({by_state}); --json lists all", err=True)
    elif not listed and state is None and operation is None:
        address = redacted(Settings.load().ledger_url)
        echo(f"the ledger {address} is empty; TL_LEDGER selects another one", err=True)
    if doubtful:
        echo(
            f"{doubtful} of them ({doubtful_minutes:.2f} video minutes) may have been paid for twice: a "
            "process was killed while it sent them. tl-data ledger show KEY has the details",
            err=True,
        )


@ledger.command("export")
def _export(to: str, file: str | None) -> None:
    """Write the whole ledger as rows: --parquet FILE, --csv or --json."""

    async def write_rows(ledger: Ledger) -> None:
        with Writer(EXPORT, to, file) as writer:
            async for batch in ledger.batches():
                writer.write(batch)

    _in_ledger(write_rows)


@ledger.command("show")
@click.argument("key")
def _show(key: str) -> None:
    """Show one call with its result.

    \b
    KEY: as `tl-data ledger ls` prints it
    """
    entry = _in_ledger(lambda ledger: ledger.show(key))
    if entry is None:
        raise LedgerError(f"the ledger has no call {key}; tl-data ledger ls lists its calls")
    facts = {k: v for k, v in vars(entry).items() if v is not None}
    facts["at"] = datetime.fromtimestamp(entry.at, UTC).isoformat()
    if isinstance(entry.result, pa.Table):
        facts["result"] = entry.result.to_pylist()
    sys.stdout.buffer.write(orjson.dumps(facts, option=orjson.OPT_INDENT_2, default=json_value) + b"\n")


@ledger.command("forget")
@click.argument("keys", nargs=-1)
@click.option("--code", help="calls that failed with this code, such as video_file_broken")
@click.option("--content", help="calls whose URL or path contains this text")
@click.option("--operation", help="calls of this operation: index, summary, chapter, ...")
@click.option("--failed", is_flag=True, help="calls that failed")
@click.option("--dry-run", is_flag=True, help="only list the calls")
def _forget(
    keys: tuple[str, ...],
    code: str | None,
    content: str | None,
    operation: str | None,
    failed: bool,
    dry_run: bool,
) -> None:
    """Remove calls from the ledger, so that they are made and paid again. A call must match all filters.

    \b
    KEYS: as `tl-data ledger ls` prints them; give either keys or filters
    """
    filters = [code, content, operation, failed or None]
    if not keys and not any(filters):
        raise click.UsageError("give keys, or one of --code, --content, --operation, --failed")
    if keys and any(filters):
        raise click.UsageError("give keys or filters, not both")

    def is_selected(entry: Entry) -> bool:
        failure = entry.failure
        return (
            (code is None or (failure is not None and failure.code == code))
            and (content is None or content in (entry.content or ""))
            and (operation is None or entry.operation == operation)
            and (not failed or entry.state == "failed")
        )

    async def forget_calls(ledger: Ledger) -> list[str]:
        selected = list(keys) or [entry.key async for entry in ledger.entries() if is_selected(entry)]
        if dry_run:
            return [key for key in selected if await ledger.show(key)]
        return [key for key in selected if await ledger.forget(key)]

    forgotten = _in_ledger(forget_calls)
    for key in forgotten:
        echo(f"{'would be forgotten' if dry_run else 'forgotten'}: {key}")
    if not keys and not forgotten:
        echo("no call matches")
    if unknown := [key for key in keys if key not in forgotten]:
        raise LedgerError(f"the ledger has no call {', '.join(unknown)}; tl-data ledger ls lists all")


def _in_ledger(work: Callable[[Ledger], Any]) -> Any:
    """Open the ledger of the settings, call `work` with it, and close it."""

    async def run() -> Any:
        ledger = Ledger.open(Settings.load().ledger_url)
        try:
            return await work(ledger)
        finally:
            await ledger.aclose()

    return asyncio.run(run())


for _command in (_list, _export):
    output_options(_command)
