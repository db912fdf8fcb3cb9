"""Generates the reference pages in docs/reference from the declarations of the package."""

from __future__ import annotations

import ast
import inspect
from typing import get_args

import click

from tl_data import errors as tree
from tl_data import settings as settings_module
from tl_data.cli.output import commands_of
from tl_data.cli.reference import http_page, job_page
from tl_data.lake.schemas import TABLES
from tl_data.settings import Settings

NOTE = "<!-- Printed by `tl-data docs`: change the declarations in {}, not this file. -->\n"


def site_pages(functions: str, cli: click.Group) -> dict[str, str]:
    """The pages of the reference: path -> text.

    Args:
        functions: the reference of the functions, as in sql/README.md.
        cli: the command line.
    """
    return {
        "docs/reference/functions.md": functions.replace(
            "# The functions and listings in SQL", "# Functions and listings", 1
        ),
        "docs/reference/tables.md": _tables(),
        "docs/reference/settings.md": _settings(),
        "docs/reference/errors.md": _errors(),
        "docs/reference/commands.md": _commands(cli),
        "docs/reference/job-file.md": job_page(
            NOTE.format("tl_data/pipeline/job.py and tl_data/cli/reference.py")
        ),
        "docs/reference/http.md": http_page(NOTE.format("tl_data/client and tl_data/local/server")),
    }


def _tables() -> str:
    parts = [
        "# Tables of a lake\n",
        NOTE.format("tl_data/lake/schemas.py"),
        "Every table is Delta or Parquet. Delta has the descriptions as comments of the columns, Parquet as\n"
        "metadata of the fields.\n",
    ]
    for table in TABLES.values():
        lines = [f"## {table.name}\n", f"{table.doc[:1].upper()}{table.doc[1:]}.", ""]
        lines += [f"A commit replaces all rows of one {' and '.join(f'`{name}`' for name in table.by)}.", ""]
        lines += ["| column | type | what |", "| --- | --- | --- |"]
        lines += [f"| `{f.name}` | {f.type} | {table.description(f.name)} |" for f in table.schema]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _settings() -> str:
    """The page of the settings. The descriptions are the comments in the lines of the fields."""
    source = inspect.getsource(Settings)
    lines = source.splitlines()
    rows = []
    for node in ast.parse(source).body[0].body:  # type: ignore[attr-defined]
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        description = " ".join(
            line.partition("#")[2].strip() for line in lines[node.lineno - 1 : node.end_lineno] if "#" in line
        )
        kind = _type_of(node.annotation).replace("|", "\\|")
        value = (
            ast.unparse(node.value) if node.value is not None and not isinstance(node.value, ast.Call) else ""
        )
        name = node.target.id
        rows.append(
            f"| `{name}` | `TL_{name.upper()}` | `{kind}` | {f'`{value}`' if value else ''} | {description} |"
        )
    return (
        "# Settings\n\n"
        + NOTE.format("tl_data/settings.py")
        + "\nA setting comes from an argument (in a job: from `[settings]`), else from the environment,\n"
        "else from the file `tl_data.toml` (or the file that `TL_CONFIG` names), else from its default.\n"
        "`TL_PRICES` names a price list of your own.\n\n"
        "| setting | in the environment | type | default | what |\n| --- | --- | --- | --- | --- |\n"
        + "\n".join(rows)
        + "\n"
    )


def _type_of(annotation: ast.expr) -> str:
    """The type of a setting as text. The name of a `Literal` is replaced by its values."""
    name = ast.unparse(annotation)
    values = get_args(getattr(settings_module, name, None))
    return " | ".join(map(repr, values)) or name


def _errors() -> str:
    classes = [
        (name, kind)
        for name, kind in vars(tree).items()
        if inspect.isclass(kind) and issubclass(kind, tree.TLDataError) and kind is not tree.TLDataError
    ]
    lines = [
        "# Errors",
        "",
        NOTE.format("tl_data/errors.py"),
        "The table `errors` and the `try_` functions name the class and the code. `retryable` says whether",
        "the same request may succeed later; the next run of a job tries exactly these rows again.",
        "",
        "| class | retryable | when | what to do |",
        "| --- | --- | --- | --- |",
    ]
    for name, kind in classes:
        doc = (inspect.getdoc(kind) or "").splitlines()[0]
        lines.append(
            f"| `{name}` | {'yes' if kind.retryable else 'no'} | {doc} | {tree.NEXT_BY_CLASS.get(name, '')} |"
        )
    lines += ["", "## Codes with their own next step", "", "| code | what to do |", "| --- | --- |"]
    lines += [f"| `{code}` | {step} |" for code, step in tree.NEXT_BY_CODE.items()]
    return "\n".join(lines) + "\n"


def _commands(cli: click.Group) -> str:
    lines = [
        "# Commands",
        "",
        NOTE.format("tl_data/cli"),
        "`tl-data COMMAND --help` has the arguments. Functions and listings take `--json`, `--csv` or",
        "`--parquet FILE`.",
        "",
        "| command | what it does |",
        "| --- | --- |",
    ]
    for name, command in commands_of(cli):
        lines.append(f"| `tl-data {name}` | {command.get_short_help_str(200)} |")
    lines += [
        "",
        "## Exit codes",
        "",
        "| code | meaning | what to do |",
        "| --- | --- | --- |",
        "| 0 | everything succeeded; a run: no new failures | nothing |",
        "| 1 | a call, a row or some videos failed | read the message or the table `errors` |",
        "| 2 | the job, a setting or an argument is wrong | do as the message says |",
        "| 3 | a limit, an outage or a lock stopped the command | run it again |",
        "| 130 | interrupted; what is finished is kept | run it again |",
    ]
    return "\n".join(lines) + "\n"
