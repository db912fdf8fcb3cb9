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
    """Show the ledger: submitted calls and their results."""


PAGE = 100  # most rows on a terminal
BRIEF = ["key", "state", "operation", "content", "at", "error_message"]
STATES = ["claimed", "submitted", "done", "failed"]


@ledger.command("ls")
@click.option("--state", type=click.Choice(STATES))
@click.option("--operation", help="only this: index, summary, chapter, ...")
@click.option("--limit", type=click.IntRange(0), help=f"most rows to list; {PAGE} on a terminal")
def _list(state: State | None, operation: str | None, limit: int | None, to: str, file: str | None) -> None:
    """List the calls in the ledger: one page and the total, or all with --json."""
    if to == "table":
        limit = PAGE if limit is None else limit
    shown, twice, minutes = 0, 0, 0.0

    async def listed(ledger: Ledger) -> dict[State, int]:
        nonlocal shown, twice, minutes
        with Writer(EXPORT, to, file, BRIEF) as writer:
            rows = 1000 if limit is None else max(1, min(limit, 1000))
            async for batch in ledger.batches(state=state, operation=operation, rows=rows):
                part = batch if limit is None else batch.slice(0, limit - shown)
                writer.write(part)
                shown += part.num_rows
                doubtful = part.filter(part.column("perhaps_paid_twice"))
                twice += doubtful.num_rows
                minutes += pa.compute.sum(doubtful.column("video_minutes")).as_py() or 0.0
                if limit is not None and shown >= limit:
                    break
        return await ledger.count() if to == "table" else {}

    counts = _in_ledger(listed)
    if counts:
        each = ", ".join(f"{counts[name]:,} {name}" for name in STATES if name in counts)
        echo(f"{shown:,} of {sum(counts.values()):,} calls ({each}); --json lists all", err=True)
    elif not shown:
        place = redacted(Settings.load().ledger_url)
        echo(f"the ledger {place} is empty; TL_LEDGER selects another one", err=True)
    if twice:
        echo(
            f"{twice} of them ({minutes:.2f} video minutes) may have been paid for twice: a process "
            "was killed while it sent them. tl-data ledger show KEY has the details",
            err=True,
        )


@ledger.command("export")
def _export(to: str, file: str | None) -> None:
    """Write the whole ledger as rows: --parquet FILE, --csv or --json."""

    async def exported(ledger: Ledger) -> None:
        with Writer(EXPORT, to, file) as writer:
            async for batch in ledger.batches():
                writer.write(batch)

    _in_ledger(exported)


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
@click.option("--content", help="calls about this URL or path, or a part of it")
@click.option("--operation", help="calls of this operation: index, analyze, ...")
@click.option("--failed", is_flag=True, help="calls that failed")
@click.option("--dry-run", is_flag=True, help="only list them")
def _forget(
    keys: tuple[str, ...],
    code: str | None,
    content: str | None,
    operation: str | None,
    failed: bool,
    dry_run: bool,
) -> None:
    """Remove calls from the ledger, so that they are made and paid again. Filters are combined with AND.

    \b
    KEYS: as `tl-data ledger ls` prints them; none with a filter
    """
    filters = [code, content, operation, failed or None]
    if not keys and not any(filters):
        raise click.UsageError("give keys, or one of --code, --content, --operation, --failed")
    if keys and any(filters):
        raise click.UsageError("give keys or filters, not both")

    def chosen(entry: Entry) -> bool:
        failure = entry.failure
        return (
            (code is None or (failure is not None and failure.code == code))
            and (content is None or content in (entry.content or ""))
            and (operation is None or entry.operation == operation)
            and (not failed or entry.state == "failed")
        )

    async def forgotten(ledger: Ledger) -> list[str]:
        wanted = list(keys) or [entry.key async for entry in ledger.entries() if chosen(entry)]
        if dry_run:
            return [key for key in wanted if await ledger.show(key)]
        return [key for key in wanted if await ledger.forget(key)]

    gone = _in_ledger(forgotten)
    for key in gone:
        echo(f"{'would be forgotten' if dry_run else 'forgotten'}: {key}")
    if not keys and not gone:
        echo("no call matches")
    if unknown := [key for key in keys if key not in gone]:
        raise LedgerError(f"the ledger has no call {', '.join(unknown)}; tl-data ledger ls lists all")


def _in_ledger(work: Callable[[Ledger], Any]) -> Any:
    async def opened() -> Any:
        ledger = Ledger.open(Settings.load().ledger_url)
        try:
            return await work(ledger)
        finally:
            await ledger.aclose()

    return asyncio.run(opened())


for _command in (_list, _export):
    output_options(_command)
