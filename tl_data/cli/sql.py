"""The command `tl-data sql`: runs statements in DuckDB with the functions of tl_data, or opens a shell."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pyarrow as pa

from tl_data.catalog import records
from tl_data.cli.output import Writer, echo, grid, output_options
from tl_data.errors import ExitCode, MissingExtra, SettingsError
from tl_data.untrusted import private_folder

if TYPE_CHECKING:
    import duckdb

    from tl_data.connection import Connection

INTERRUPTED = (
    "Interrupted: finished calls are in the ledger and are not paid again, except searches and embeddings of "
    "text, images and sound"
)
BATCH = 2_000  # rows per read
MOST_ROWS = 200  # largest number of rows of a text table
HELP = """\
End a statement with ; and Enter. Tab completes, the arrow keys go through earlier statements, Ctrl-C stops a
statement or clears the line.

  .tables     the tables of the database
  .functions  the functions of tl_data
  .usage      the cost of this shell so far
  .quit       end (or Ctrl-D)

  SELECT * FROM tl_estimate('summarize', ['https://example.com/tour.mp4']);"""


@click.command()
@click.argument("statement", required=False)
@click.option("--db", metavar="FILE", help="the database file; without it, one in memory")
@click.option(
    "--read-only", is_flag=True, help="open the file for reading only; several processes may do so at once"
)
@click.option(
    "--budget",
    type=click.FLOAT,
    help="largest cost of one statement, in the currency of the prices [default: 10 with a key]",
)
def sql(
    statement: str | None,
    db: str | None,
    read_only: bool,
    budget: float | None,
    to: str,
    file: str | None,
) -> None:
    """Run SQL in DuckDB with every function of tl_data; without a statement, open a shell.

    \b
    STATEMENT: one or more; the rows of the last one are shown. Without it, statements are read from the
    standard input, or typed in a shell

    \b
    Examples:
      tl-data sql "SELECT * FROM tl_search('demo', 'a red object')"
      tl-data sql --db lake.duckdb --csv < report.sql
    """
    if read_only and db is None:
        raise click.UsageError("--read-only needs --db")
    with Database(db, read_only, budget) as database:
        if statement is None and sys.stdin.isatty():
            if to != "table":
                raise click.UsageError("--json, --csv and --parquet need a STATEMENT or a script on stdin")
            Shell(database).run()
            return
        text = statement if statement is not None else sys.stdin.read()
        sys.exit(_script(database, text, to, file))


output_options(sql)


class Database:
    """A DuckDB connection in which the functions of tl_data are registered. A context manager."""

    def __init__(self, path: str | None, read_only: bool, budget: float | None) -> None:
        """Open it.

        Raises:
            MissingExtra: DuckDB is not installed.
            SettingsError: the file is not a database.
            SystemExit: another process has locked the file (exit code 3).
        """
        try:
            import duckdb
        except ImportError as error:
            raise MissingExtra("duckdb", "duckdb") from error
        from tl_data.backends.duckdb import register
        from tl_data.connection import connect

        self.failure: type[Exception] = duckdb.Error
        try:
            self.con: duckdb.DuckDBPyConnection = duckdb.connect(path or ":memory:", read_only=read_only)
        except duckdb.Error as error:
            if "lock on file" in str(error):
                echo(
                    f"Failed: {path} is locked by another process; try again, or use --read-only in both",
                    err=True,
                )
                sys.exit(ExitCode.TRY_AGAIN)
            raise SettingsError(f"{path} cannot be opened: {_message_of(error)}") from error
        self.connection: Connection = connect(sql_budget=budget)
        register(self.con, self.connection)

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.con.close()

    def statements(self, text: str) -> list[Any]:
        """The statements of a text. Raises DuckDB's error for invalid SQL."""
        return self.con.extract_statements(text)

    def rows(self, statement: Any) -> pa.RecordBatchReader | None:
        """The rows of a statement as a stream; None for a statement without rows."""
        relation = self.con.sql(statement)
        return None if relation is None else relation.to_arrow_reader(BATCH)

    def interruptible(self, work: Callable[[], None]) -> None:
        """Run the work in a thread, so that Ctrl-C cancels the calls that DuckDB waits for.

        Raises:
            KeyboardInterrupt: after Ctrl-C. Finished calls of durable functions are in the ledger.
        """
        from tl_data.backends.duckdb import cancel

        failed: list[BaseException] = []

        def run() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - raised below, in the thread that waits
                failed.append(error)

        thread = threading.Thread(target=run, name="tl_data-sql")
        thread.start()
        try:
            while thread.is_alive():
                thread.join(0.1)
        except KeyboardInterrupt:
            self.con.interrupt()
            cancel(self.con)
            thread.join()
            raise
        if failed:
            raise failed[0]

    def costs(self) -> list[dict[str, Any]]:
        """The cost of this connection's calls, one row per operation; [] before the first call."""
        return self.connection.usage() if self.connection.bill.operations else []


def _script(database: Database, text: str, to: str, file: str | None) -> int:
    """Run the statements of a text and write the rows of the last one. Returns the exit code."""
    try:
        statements = database.statements(text)
        if not statements:
            raise click.UsageError("no statement: pass one as an argument or on the standard input")

        def run() -> None:
            for statement in statements[:-1]:
                for _ in database.rows(statement) or ():  # a result that is not read is not computed
                    pass
            reader = database.rows(statements[-1])
            if reader is None:
                return
            if to == "table":
                _print_first_rows(reader)
                return
            with Writer(reader.schema, to, file) as writer:
                for batch in reader:
                    writer.write(batch)

        database.interruptible(run)
    except KeyboardInterrupt:
        echo(INTERRUPTED, err=True)
        return ExitCode.INTERRUPTED
    except (database.failure, pa.ArrowException, OSError) as error:
        echo(f"Failed: {_message_of(error)}", err=True)
        return ExitCode.USAGE if _is_mistake(error) else ExitCode.FAILED
    finally:
        _print_cost(database, [])
    return 0


def _print_first_rows(reader: pa.RecordBatchReader) -> None:
    """Print the first rows as a text table, and the number of rows."""
    from rich.console import Console

    first_rows: list[pa.RecordBatch] = []
    count = 0
    for batch in reader:
        if count < MOST_ROWS:
            first_rows.append(batch.slice(0, MOST_ROWS - count))
        count += batch.num_rows
    Console().print(grid(pa.Table.from_batches(first_rows, reader.schema)))
    if count > MOST_ROWS:
        echo(
            f"the first {MOST_ROWS} of {count} rows; `tl-data sql STATEMENT` writes all of them with --csv, "
            "--json or --parquet FILE",
            err=True,
        )


def _print_cost(database: Database, before: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Print the cost since `before`, an earlier result of `Database.costs`. Returns the current one."""
    now = database.costs()
    calls, minutes, price = (
        sum(row[column] for row in now) - sum(row[column] for row in before)
        for column in ("calls", "video_minutes", "price")
    )
    if calls:
        currency = now[0]["currency"]
        echo(f"paid: {calls} calls, {minutes:.1f} minutes of video, {price:.4f} {currency}", err=True)
    return now


def _message_of(error: BaseException) -> str:
    """The message of an error. DuckDB's prefix before the message of a function is removed."""
    text = str(error).strip()
    match = re.search(r"executing the UDF: (?:\w+: )?(.*)", text, re.S)
    return (match[1] if match else text).strip()


def _is_mistake(error: BaseException) -> bool:
    """Whether the statement itself is invalid, so that running it again is pointless."""
    return type(error).__name__ in (
        "ParserException",
        "BinderException",
        "CatalogException",
        "SyntaxException",
    )


class Shell:
    """Reads statements from a terminal, with history and completion, and runs them."""

    def __init__(self, database: Database) -> None:
        """
        Raises:
            MissingExtra: prompt_toolkit is not installed.
        """
        try:
            from prompt_toolkit import PromptSession
            from prompt_toolkit.history import FileHistory
        except ImportError as error:
            raise MissingExtra("prompt_toolkit, which the shell needs,", "shell") from error
        self._database = database
        home = Path(database.connection.settings.home)
        private_folder(home)
        history = home / "sql_history"
        history.touch(mode=0o600)  # statements may contain signed URLs
        self._prompt: Any = PromptSession(
            history=FileHistory(str(history)), completer=completer(database), complete_while_typing=False
        )
        self._paid: list[dict[str, Any]] = []

    def run(self) -> None:
        """Read and run statements until the end of the input."""
        echo("tl_data with DuckDB. Statements end with ; and .help lists the commands.", err=True)
        for text in self._read():
            if not self._execute(text):
                return

    def _read(self) -> Iterator[str]:
        """The typed statements and dot commands, one at a time."""
        text = ""
        while True:
            try:
                line = self._prompt.prompt("tl_data> " if not text else "    ...> ")
            except KeyboardInterrupt:
                text = ""
                continue
            except EOFError:
                return
            text = f"{text}\n{line}" if text else line
            if not text.strip():
                text = ""
            elif text.lstrip().startswith(".") or is_complete(text):
                yield text.strip()
                text = ""

    def _execute(self, text: str) -> bool:
        """Run a dot command or a statement. Returns False if the shell ends."""
        match text.rstrip(";").split():
            case [".quit" | ".exit"]:
                return False
            case [".help"]:
                echo(HELP)
            case [".tables"]:
                self._run("SHOW ALL TABLES")
            case [".functions"]:
                for record in records():
                    echo(f"  {record.sql:24} {record.doc}")
            case [".usage"]:
                if rows := self._database.costs():
                    _print_first_rows(pa.Table.from_pylist(rows).to_reader())
                else:
                    echo("nothing was paid")
            case [word, *_] if word.startswith("."):
                echo(f"unknown command {word}; .help lists the commands", err=True)
            case _:
                self._run(text)
        return True

    def _run(self, text: str) -> None:
        database = self._database

        def run() -> None:
            for statement in database.statements(text):
                if (reader := database.rows(statement)) is not None:
                    _print_first_rows(reader)

        try:
            database.interruptible(run)
        except KeyboardInterrupt:
            echo(INTERRUPTED, err=True)
        except (database.failure, pa.ArrowException, OSError) as error:
            echo(f"Failed: {_message_of(error)}", err=True)
        self._paid = _print_cost(database, self._paid)


def is_complete(text: str) -> bool:
    """Whether the last statement of a text ends with `;`. One inside a string or a comment does not count."""
    import duckdb

    tokens = [start for start, kind in duckdb.tokenize(text) if kind != duckdb.token_type.comment]
    return bool(tokens) and text.encode()[tokens[-1] :].startswith(b";")


def completer(database: Database) -> Any:
    """A prompt_toolkit completer for functions, tables, columns and keywords of the database."""
    from prompt_toolkit.completion import Completer, Completion

    class Names(Completer):
        def get_completions(self, document: Any, event: Any) -> Iterator[Any]:
            word = document.get_word_before_cursor(pattern=re.compile(r"[\w.]+"))
            if word:
                for name in names(database.con, word):
                    yield Completion(name, start_position=-len(word))

    return Names()


def names(con: duckdb.DuckDBPyConnection, start: str) -> list[str]:
    """Names that begin with `start`: first functions of tl_data, then tables and views, columns, keywords."""
    cursor = con.cursor().execute(
        """SELECT name, min(rank) AS rank FROM (
            SELECT function_name AS name, 0 AS rank FROM duckdb_functions()
            WHERE function_name LIKE 'tl\\_%' ESCAPE '\\' OR function_name LIKE 'try\\_tl\\_%' ESCAPE '\\'
            UNION ALL SELECT table_name, 1 FROM duckdb_tables()
            UNION ALL SELECT view_name, 1 FROM duckdb_views()
            UNION ALL SELECT column_name, 2 FROM duckdb_columns() WHERE NOT internal
            UNION ALL SELECT upper(keyword_name), 3 FROM duckdb_keywords() WHERE keyword_category = 'reserved'
        ) WHERE starts_with(lower(name), lower($start)) GROUP BY name ORDER BY rank, name LIMIT 50""",
        {"start": start},
    )
    return [str(name) for name, _ in cursor.fetchall()]
