"""Generates sql/, the reference pages, the editor stub and the lists of names in the README.

`tl-data docs` writes the pages that changed; `tl-data docs --check` only compares them with the files.
"""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from pathlib import Path

import click
import pyarrow as pa

from tl_data import catalog
from tl_data.catalog import Function, Listing, Parameter, literal
from tl_data.cli import stubs, unity
from tl_data.cli.column_docs import column_description
from tl_data.cli.operations import operations
from tl_data.cli.site import site_pages
from tl_data.functions import FUNCTIONS, LISTINGS

ROOT = Path(__file__).resolve().parent.parent.parent

#: An option that at least this many functions have is described once, before the functions.
SHARED = 4

_HEAD = "-- Printed by `tl-data docs`: change the declarations in tl_data/functions, not this file.\n"


def write(cli: click.Group, *, check: bool = False, root: Path = ROOT) -> list[str]:
    """Write the generated pages that differ from their files.

    Args:
        check: write nothing, only compare.

    Returns:
        The paths of the pages that differ.
    """
    changed = []
    for name, text in pages(cli, root).items():
        path = root / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        changed.append(name)
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return changed


def pages(cli: click.Group, root: Path = ROOT) -> dict[str, str]:
    """The generated pages: path -> text."""
    generated = {
        "sql/functions.sql": _sql_page(),
        "sql/tables.sql": _listings_page(),
        "sql/unity_catalog.sql": unity.page(),
        "sql/README.md": _reference(),
        "tl_data/backends/python.pyi": stubs.page(),
    }
    generated |= site_pages(generated["sql/README.md"], cli)
    readme = root / "README.md"
    if readme.is_file():
        generated["README.md"] = re.sub(
            r"(<!-- functions -->\n).*?(<!-- end -->)",
            lambda match: match[1] + _summary() + match[2],
            readme.read_text(encoding="utf-8"),
            flags=re.DOTALL,
        )
    return generated


def sql_type(kind: pa.DataType) -> str:
    """The name of an Arrow type in the documents, which are the same for all backends."""
    if pa.types.is_list(kind):
        inner = kind.value_type
        return "vector" if pa.types.is_float32(inner) else f"list of {sql_type(inner)}"
    if pa.types.is_struct(kind):
        return f"struct({', '.join(f.name for f in kind)})"
    names = {"string": "text", "double": "double", "int64": "bigint", "bool": "boolean"}
    return names.get(str(kind), "timestamp" if pa.types.is_timestamp(kind) else str(kind))


def example(record: Function | Listing) -> str:
    """An example statement. It passes required arguments by position and the others by name."""
    required = [p.name for p in record.parameters if p.required]
    arguments = [literal(record.example[n]) for n in required]
    arguments += [f"{n} => {literal(v)}" for n, v in record.example.items() if n not in required]
    call = f"{record.sql}({', '.join(arguments)})"
    has_rows = isinstance(record, Listing) or record.returns_table
    return f"SELECT * FROM {call};" if has_rows else f"SELECT {call};"


def _signature(record: Function | Listing) -> str:
    return ", ".join(p.name if p.required else f"{p.name} => {literal(p.default)}" for p in record.parameters)


def _argument_lines(parameters: tuple[Parameter, ...]) -> list[str]:
    return [f"--   {p.name} {sql_type(p.type)}: {p.doc}" for p in parameters]


def _sql_page() -> str:
    """The functions with their arguments. Options that many functions share are described once."""
    counts = Counter(p for f in FUNCTIONS.values() for p in f.parameters if not p.required)
    shared = tuple(p for p, count in counts.items() if count >= SHARED)
    parts = [
        f"{_HEAD}-- The functions in DuckDB and Spark SQL. Register them first, in Python:\n"
        "-- import tl_data; tl_data.register(con), where con is a DuckDB connection or a Spark session.\n"
        "-- Each has a form that returns the error of a row as a value: try_tl_..., which gives\n"
        "-- struct(value, error, usage, provenance).\n"
        "-- tl_similarity(a, b) is the cosine of two vectors, -1 to 1; tl_json(text, path) reads a field of\n"
        "-- JSON text: tl_json(json, '$.title').\n",
        "\n".join(["-- Options of several functions:", *_argument_lines(shared)]) + "\n",
    ]
    for f in FUNCTIONS.values():
        result = (
            "rows of " + ", ".join(f"{c.name} {sql_type(c.type)}" for c in f.columns)
            if f.returns_table
            else sql_type(f.gives)
        )
        lines = [f"-- {f.sql}({_signature(f)})", f"-- {f.doc}", f"--   gives {result}"]
        own = tuple(p for p in f.parameters if p not in shared)
        parts.append("\n".join([*lines, *_argument_lines(own), example(f)]) + "\n")
    return "\n".join(parts)


def _listings_page() -> str:
    parts = [
        f"{_HEAD}-- The listings of the API in DuckDB and Spark SQL. Spark also reads them by\n"
        "-- spark.read.format('twelvelabs'), except tl_estimate.\n"
    ]
    for t in LISTINGS.values():
        columns = ", ".join(f"{c.name} {sql_type(c.type)}" for c in t.schema)
        lines = [f"-- {t.sql}({_signature(t)})", f"-- {t.doc}", f"--   rows of {columns}"]
        parts.append("\n".join([*lines, *_argument_lines(t.parameters), example(t)]) + "\n")
    return "\n".join(parts)


def _summary() -> str:
    """The names of all functions and listings, for the README."""
    groups = {
        "Functions": [f.sql for f in FUNCTIONS.values()],
        "Listings": [t.sql for t in LISTINGS.values()],
    }
    lines = [
        f"**{title}**, in DuckDB and Spark: " + ", ".join(f"`{name}`" for name in names) + "."
        for title, names in groups.items()
    ]
    return "\n\n".join(textwrap.fill(line, 120, break_on_hyphens=False) for line in lines) + "\n"


def _reference() -> str:
    parts = [
        "# The functions and listings in SQL\n\n"
        "<!-- Printed by `tl-data docs`: change the declarations in tl_data/functions, not this file. -->\n\n"
        "The same names in DuckDB and Spark SQL; without `tl_` in Python (`tl_data.search`), with dashes\n"
        "on the command line (`tl-data search`). Arguments with a default are passed by name:\n"
        "`max_hits => 5`.\n\n"
        "`try_tl_...` gives `struct(value, error, usage, provenance)`. A row that fails does not fail the\n"
        "statement; the guard of the cost does. For a NULL input error is NULL and value is NULL or an\n"
        "empty list, and otherwise exactly one of them is set. If a row fails, the plain form waits for\n"
        "the calls that are running, stores their results, and then fails with a message that names the\n"
        "row and the next step.\n\n"
        "**The price of a statement.** A backend calls a function for whole batches of rows, even if the\n"
        "statement has a LIMIT: select the rows first.\n\n"
        "```sql\n"
        "SELECT q.url, c.title FROM (SELECT url FROM videos LIMIT 5) q, LATERAL tl_chapters(q.url) c;\n"
        "SELECT * FROM tl_estimate('chapters', (SELECT array_agg(url) FROM videos));  -- costs nothing\n"
        "SELECT * FROM tl_usage();  -- what this process has paid (DuckDB)\n"
        "```\n\n"
        "A statement fails before it pays more than its guard allows: `tl_data.register(con, budget=2.5,\n"
        "max_calls=100)` or `TL_SQL_BUDGET`; 10 USD where there is an API key, `inf` for no limit. Unknown\n"
        "lengths count as the longest that the model accepts. In Spark the guard counts everything after\n"
        "`register(spark)` or the last `tl_data.spark.guard()`.\n\n"
        "**Connections of DuckDB.** The functions belong to the database, so its cursors have them, too.\n"
        "Each is a macro that calls a Python function. The database file keeps the macros, so views over\n"
        "them survive, but not the Python functions: call `register()` each time the file is opened. In a\n"
        "read-only database, register each cursor. To end calls,\n"
        "call `tl_data.cancel(con)` from another thread or a signal handler; `con.interrupt()` waits\n"
        "for calls that have begun. A call in PARTITION BY, a window's ORDER BY or QUALIFY is an error of\n"
        'DuckDB ("volatile"): put it into a CTE.\n'
    ]
    for record in catalog.records():
        parts.append(_section(record))
    parts.append(operations())
    return "\n".join(parts)


def _section(record: Function | Listing) -> str:
    columns = record.columns if isinstance(record, Function) else record.schema
    has_rows = isinstance(record, Listing) or record.returns_table
    lines = [f"## {record.sql}\n", record.doc]
    if record.detail:
        lines += ["", record.detail]
    if isinstance(record, Function) and record.durable:
        lines += ["", "Its results cost minutes or tokens. They are stored in the ledger and not paid twice."]
    lines += [
        "",
        "```sql",
        example(record),
        "```",
        "",
        "| argument | type | default | what |",
        "| --- | --- | --- | --- |",
    ]
    for p in record.parameters:
        default = "required" if p.required else f"`{literal(p.default)}`"
        lines.append(f"| `{p.name}` | {sql_type(p.type)} | {default} | {p.doc} |")
    if not has_rows:
        columns = record.gives  # type: ignore[union-attr]
        lines += ["", f"Gives {sql_type(columns)}."]
    if has_rows or pa.types.is_struct(columns):
        lines += ["", f"| {'column' if has_rows else 'field'} | type | what |", "| --- | --- | --- |"]
        lines += [
            f"| `{c.name}` | {sql_type(c.type)} | {column_description(record.name, c.name)} |"
            for c in columns
        ]
    return "\n".join(lines) + "\n"
