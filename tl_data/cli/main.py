"""The command `tl-data`, with a subcommand for each function and listing of the catalog and for other tasks.

The exit codes are those of `errors.ExitCode`.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from typing import Any

import click
import pyarrow as pa
from click.shell_completion import get_completion_class

from tl_data._version import __version__
from tl_data.catalog import Function, Listing, Parameter
from tl_data.cli.output import commands_of, echo, output_options, show
from tl_data.errors import ExitCode, MissingExtra, SchemaMismatch, SettingsError, TLDataError
from tl_data.functions import FUNCTIONS, LISTINGS

#: The sections of `tl-data --help`: title, example, and commands. The commands of the sections Functions and
#: Listings come from the catalog.
SECTIONS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("Functions", "tl-data summarize https://example.com/talk.mp4", ()),
    ("Listings", "tl-data videos --index-id my-index --json", ()),
    ("SQL", 'tl-data sql "SELECT 1"', ("sql",)),
    ("Jobs", "tl-data plan tl-job.toml", ("init", "plan", "run", "submit", "collect", "status", "export")),
    ("Viewing", "tl-data view tl-job.toml", ("demo", "view")),
    ("Embedded engine", "tl-data serve --profile today", ("serve", "models", "reindex")),
    (
        "Maintenance",
        "tl-data ledger ls --state failed",
        ("doctor", "ledger", "lake", "remove", "completion", "docs"),
    ),
)


#: Command -> the example below its help. The examples of functions and listings come from the catalog.
EXAMPLES = {
    "collect": "collect nightly.toml",
    "completion": "completion bash > ~/.local/share/bash-completion/completions/tl-data",
    "demo": "demo 'videos/*.mp4'",
    "docs": "docs --check",
    "doctor": "doctor --json",
    "export": "export lake 'lancedb://./store?collection=clips'",
    "init": "init nightly.toml",
    "lake": "lake migrate nightly.toml",
    "lake migrate": "lake migrate nightly.toml",
    "ledger": "ledger ls --state failed",
    "ledger export": "ledger export --parquet ledger.parquet",
    "ledger forget": "ledger forget --content tour.mp4 --dry-run",
    "ledger ls": "ledger ls --state failed",
    "ledger show": "ledger show 0f3c9b1e5d7a42689c4e1b2d3f405162",
    "models": "models list",
    "models list": "models list",
    "models pull": "models pull whisper-small",
    "plan": "plan nightly.toml --limit 100",
    "reindex": "reindex --dry-run",
    "remove": "remove https://example.com/tour.mp4 --job nightly.toml --platform",
    "run": "run nightly.toml --limit 10",
    "serve": "serve --port 8000 --profile today",
    "sql": "sql \"SELECT * FROM tl_search('demo', 'a red object')\"",
    "status": "status nightly.toml",
    "submit": "submit nightly.toml",
    "view": "view nightly.toml --no-open",
}


class _CommandLine(click.Group):
    """The group of all commands. It prints an error as a message with an exit code, and help in sections."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        listed = {
            name: command for name in self.list_commands(ctx) if (command := self.get_command(ctx, name))
        }
        records = {"Functions": list(FUNCTIONS), "Listings": list(LISTINGS)}
        width = max(map(len, listed))
        for title, example, names in SECTIONS:
            generated = [name.replace("_", "-") for name in records.get(title, ())]
            with formatter.section(title):
                formatter.write_text(f"$ {example}")
                formatter.write_paragraph()
                rows = [(n, listed[n].get_short_help_str(200)) for n in (*generated, *names) if n in listed]
                formatter.write_dl([(name.ljust(width), text) for name, text in rows])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (SettingsError, SchemaMismatch, MissingExtra) as error:
            echo(f"Error: {error}", err=True)
            ctx.exit(ExitCode.USAGE)
        except TLDataError as error:
            echo(f"Failed: {error}", err=True)
            ctx.exit(ExitCode.FAILED)


@click.group(cls=_CommandLine, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tl-data")
def cli() -> None:
    """Video as tables: clips, summaries and vectors from a column of video URLs.

    Settings come from TL_API_KEY, TL_BASE_URL, TL_INDEX, TL_LEDGER ... or the file tl_data.toml. Without a
    key, the embedded engine answers.
    """


def _click_type(kind: pa.DataType) -> click.ParamType[Any]:
    if pa.types.is_integer(kind):
        return click.INT
    if pa.types.is_floating(kind):
        return click.FLOAT
    if pa.types.is_boolean(kind):
        return click.BOOL
    return click.STRING


def _parameters(parameters: tuple[Parameter, ...]) -> list[click.Parameter]:
    """The parameters of a command: required ones are positional arguments, the others are options."""
    converted: list[click.Parameter] = []
    for p in parameters:
        many = pa.types.is_list(p.type)
        kind = _click_type(p.type.value_type if many else p.type)
        if p.required:
            # Several values follow one another: tl-data classify VIDEO LABELS...
            nargs = -1 if many else 1
            metavar = p.name.upper() + ("..." if many else "")
            converted.append(click.Argument([p.name], type=kind, nargs=nargs, required=True, metavar=metavar))
        else:
            description = p.doc + (f" [default: {p.default}]" if p.default is not None else "")
            converted.append(
                click.Option(
                    [f"--{p.name.replace('_', '-')}", p.name],
                    type=kind,
                    multiple=many,
                    default=None,
                    help=description + (" (repeat for several)" if many else ""),
                )
            )
    return converted


def _help(record: Function | Listing) -> str:
    required = [f"\b\n{p.name.upper()}: {p.doc}" for p in record.parameters if p.required]
    return "\n\n".join(part for part in (record.doc, record.detail, *required) if part)


def _arguments(record: Function | Listing, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments that were given, without those that click set to a default."""
    arguments_given: dict[str, Any] = {}
    for p in record.parameters:
        value = arguments[p.name]
        if isinstance(value, tuple):
            value = list(value) or None
        if value is not None:
            arguments_given[p.name] = value
    return arguments_given


def _function_command(f: Function) -> click.Command:
    def run(to: str, file: str | None, **arguments: Any) -> None:
        from tl_data.connection import connect

        value = connect().call(f, **_arguments(f, arguments))
        rows = value if f.returns_table else [value] if pa.types.is_struct(f.gives) else [{"value": value}]
        schema = f.columns if not pa.types.is_struct(f.gives) else pa.schema(list(f.gives))
        show(pa.Table.from_pylist(rows or [], schema), to, file)

    return _command(f, run)


def _listing_command(t: Listing) -> click.Command:
    def run(to: str, file: str | None, **arguments: Any) -> None:
        from tl_data.connection import connect

        show(pa.Table.from_batches(connect().batches(t, **_arguments(t, arguments)), t.schema), to, file)

    return _command(t, run)


def _words(record: Function | Listing) -> str:
    """The words of an example call of a function or listing."""
    required = [p.name for p in record.parameters if p.required]
    words = [record.name.replace("_", "-")]
    for name in required:
        value = record.example[name]
        words += map(str, value) if isinstance(value, list) else [str(value)]
    for name, value in record.example.items():
        if name not in required:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)


def _command(record: Function | Listing, run: Callable[..., None]) -> click.Command:
    command = click.Command(
        record.name.replace("_", "-"),
        callback=run,
        params=_parameters(record.parameters),
        help=_help(record),
        short_help=record.doc,
        epilog=_example(_words(record)),
    )
    return output_options(command)


@cli.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def serve(options: tuple[str, ...]) -> None:
    """Run the embedded engine as a server of the API (`tl-data serve --help` for its options)."""
    # The engine is a separate program in the same package, so it is started, not imported. It replaces this
    # process, so that signals reach the server.
    os.execv(sys.executable, [sys.executable, "-m", "tl_data.local", *options])


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="the findings as JSON")
def doctor(as_json: bool) -> None:
    """Check the installation, endpoint and key, and print the commands for what is missing."""
    from tl_data.cli.doctor import examine, report

    findings = examine()
    report(findings, as_json)
    sys.exit(ExitCode.FAILED if any(f.state == "wrong" for f in findings) else 0)


@cli.command()
@click.option("--check", is_flag=True, help="write nothing; fail if a page is not up to date")
def docs(check: bool) -> None:
    """Write the generated files of the repository: sql/, the reference, the stub for editors."""
    from tl_data.cli.docs import write

    if stale := write(cli, check=check):
        echo(f"{'Not up to date' if check else 'Written'}: {', '.join(stale)}")
        if check:
            echo("Type: tl-data docs", err=True)
            sys.exit(ExitCode.FAILED)
    else:
        echo("All pages are up to date")


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes commands and options in a shell.

    \b
    bash: tl-data completion bash > ~/.local/share/bash-completion/completions/tl-data
    zsh:  tl-data completion zsh > "${fpath[1]}/_tl-data"
    fish: tl-data completion fish > ~/.config/fish/completions/tl-data.fish
    """
    shell_class = get_completion_class(shell)
    assert shell_class is not None  # click supports all three shells
    click.echo(shell_class(cli, {}, "tl-data", "_TL_DATA_COMPLETE").source())


def assembled() -> click.Group:
    """The command line with a command for every function and listing."""
    _assemble()
    return cli


def _assemble() -> None:
    for f in FUNCTIONS.values():
        cli.add_command(_function_command(f))
    for t in LISTINGS.values():
        cli.add_command(_listing_command(t))
    from tl_data.cli.export import export
    from tl_data.cli.jobs import COMMANDS
    from tl_data.cli.models import models
    from tl_data.cli.sql import sql
    from tl_data.cli.view import view

    for command in (*COMMANDS, export, models, sql, view):
        cli.add_command(command)
    for name, command in commands_of(cli):
        if name in EXAMPLES and "Example" not in (command.help or ""):
            command.epilog = _example(EXAMPLES[name])


def _example(words: str) -> str:
    return f"\b\nExample:\n  tl-data {words}"


def main() -> None:
    """Entry point of the `tl-data` command."""
    # By default deltalake's allocator (jemalloc) keeps freed memory for ten seconds in each of its arenas, so
    # that the memory of jobs with frequent commits grows. It reads this variable when deltalake is loaded.
    # Only this command sets it, because a program that imports tl_data decides about its own environment.
    os.environ.setdefault("_RJEM_MALLOC_CONF", "narenas:2,dirty_decay_ms:0,muzzy_decay_ms:0")
    _assemble()
    cli(prog_name="tl-data")


def exit_code(*words: str) -> int:
    """Run `tl-data WORDS` in this process and return the exit code, for schedulers without a shell."""
    _assemble()
    try:
        cli(list(words), prog_name="tl-data")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0
