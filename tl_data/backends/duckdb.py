"""DuckDB: the catalog as SQL functions of a connection.

Each function is an Arrow UDF behind a macro; the macro gives it named and optional arguments, and unfolds a
list of structs into rows. What DuckDB does with it was measured (1.5 and 2.0): batches of at most 2,048 rows
reach the UDF one at a time, so concurrency lives inside the call; without `side_effects` DuckDB calls during
EXPLAIN, with it an expression written twice is called twice, which the pool's memory answers.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import duckdb
import pyarrow as pa
from duckdb.func import FunctionNullHandling, PythonUDFType

from tl_data.catalog import Function, Parameter, Table, literal
from tl_data.connection import Connection, cancel_all
from tl_data.errors import Cancelled
from tl_data.functions import FUNCTIONS, TABLES
from tl_data.runtime.concurrency import asked_by
from tl_data.runtime.pool import outcome_row
from tl_data.types import VECTOR


@dataclass(frozen=True, eq=False)
class _Registration:
    """What was registered in one connection of DuckDB; it owns the calls that its queries make."""

    connection: Connection
    names: list[str] = field(default_factory=list)


#: UDFs live in the database and are shared by its cursors, macros (temporary ones) live in one connection.
#: A number of its own for each registration keeps two connections with different settings apart.
_numbers = itertools.count(1)
_registered: weakref.WeakKeyDictionary[duckdb.DuckDBPyConnection, _Registration] = weakref.WeakKeyDictionary()


def register(con: duckdb.DuckDBPyConnection, connection: Connection) -> None:
    """Create `tl_...` and `try_tl_...` for every function and listing of the catalog, and the helpers.

    Registering again replaces what was registered before, with the settings of the new connection.
    """
    _heed_ctrl_c()
    _heed_interrupt()
    dimension = connection.dimension
    if old := _registered.pop(con, None):
        for name in old.names:
            con.remove_function(name)
    own = _registered.setdefault(con, _Registration(connection))
    number = next(_numbers)
    for f in FUNCTIONS.values():
        plain, attempt = f"_{f.sql}_{number}", f"_try_{f.sql}_{number}"
        _udf(con, own, plain, f.parameters, f.gives, _values(connection, f))
        _udf(con, own, attempt, f.parameters, f.outcome, _outcomes(connection, f))
        con.execute(_macro(con, f.sql, plain, f.parameters, f.gives, f.is_table, dimension))
        con.execute(_macro(con, f"try_{f.sql}", attempt, f.parameters, f.outcome, False, None))
    for t in TABLES.values():
        rows = pa.list_(pa.struct(list(t.schema)))
        plain = f"_{t.sql}_{number}"
        _udf(con, own, plain, t.parameters, rows, _listing(connection, t))
        con.execute(_macro(con, t.sql, plain, t.parameters, rows, True, None))
    for helper in HELPERS:
        con.execute(helper)


def _heed_interrupt() -> None:
    """Let `con.interrupt()` stop the calls, too.

    DuckDB tells nobody inside of a function that the query was interrupted: it would wait for all calls of
    the batch. Its method is the only place where that can be learnt, and all connections share it.
    """
    ended = duckdb.DuckDBPyConnection.interrupt
    if getattr(ended, "stops_calls", False):
        return

    @functools.wraps(ended)
    def interrupt(con: duckdb.DuckDBPyConnection) -> None:
        ended(con)
        if own := _registered.get(con):
            own.connection.cancel(own)

    interrupt.stops_calls = True  # type: ignore[attr-defined]
    duckdb.DuckDBPyConnection.interrupt = interrupt  # type: ignore[method-assign, assignment]


def _heed_ctrl_c() -> None:
    """At Ctrl-C, stop the calls, too: functions run in threads of DuckDB, which signals never reach."""
    global _heeding  # noqa: PLW0603  signal handlers belong to the process
    if _heeding or threading.current_thread() is not threading.main_thread():
        return
    before = signal.getsignal(signal.SIGINT)
    if not callable(before):
        return  # the program ignores Ctrl-C, or handles it outside of Python

    def heed(number: int, frame: FrameType | None) -> None:
        global _interrupted  # noqa: PLW0603
        mark = _Mark()
        _interrupted = weakref.ref(mark), id(frame), frame.f_lasti if frame else 0
        cancel_all()
        before(number, frame)

    signal.signal(signal.SIGINT, heed)
    _heeding = True


_heeding = False


class _Mark:
    """Lives in the frame of the handler, and so as long as the KeyboardInterrupt that was raised in it."""


#: The last Ctrl-C: its mark, and where the main thread was: the frame's identity and instruction.
_interrupted: tuple[weakref.ref[_Mark], int, int] | None = None


def _is_being_interrupted() -> bool:
    """Whether the main thread still is where Ctrl-C met it: in DuckDB, which is ending the query.

    DuckDB waits for its threads without listening to anything, so a function that one of them calls only
    now must not begin. A frame whose exception lives is alive, too: its identity is that of no other.
    """
    if _interrupted is None or _interrupted[0]() is None:
        return False
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    return frame is not None and (id(frame), frame.f_lasti) == _interrupted[1:]


#: DuckDB's own functions under the names that both engines share: the cosine of two vectors (-1 to 1), and
#: a field of JSON text by its path.
HELPERS = (
    "CREATE OR REPLACE TEMP MACRO tl_similarity(a, b) AS "
    "CAST(list_cosine_similarity(CAST(a AS FLOAT[]), CAST(b AS FLOAT[])) AS DOUBLE)",
    "CREATE OR REPLACE TEMP MACRO tl_json(text, path) AS json_extract_string(text, path)",
)


def _udf(
    con: duckdb.DuckDBPyConnection,
    own: _Registration,
    name: str,
    parameters: Sequence[Parameter],
    gives: pa.DataType,
    run: Callable[..., pa.Array],
) -> None:
    """Register an Arrow function; DuckDB itself turns the Arrow types into its own."""
    columns = pa.schema([(p.name, p.type) for p in parameters]).append(pa.field("out", gives))
    *takes, out = con.from_arrow(columns.empty_table()).types

    def owned(*arrays: Any) -> pa.Array:
        with asked_by(own):
            if _is_being_interrupted():
                raise Cancelled("the query was interrupted; what was finished is kept")
            return run(*arrays)

    owned.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # DuckDB reads the arity from it
        [inspect.Parameter(p.name, inspect.Parameter.POSITIONAL_ONLY) for p in parameters]
    )
    con.create_function(
        name,
        owned,
        list(takes),
        out,
        type=PythonUDFType.ARROW,
        null_handling=FunctionNullHandling.SPECIAL,
        side_effects=True,
    )
    own.names.append(name)


def _rows(parameters: Sequence[Parameter], columns: Sequence[Any]) -> Iterator[dict[str, Any]]:
    names = [p.name for p in parameters]
    for values in zip(*(column.to_pylist() for column in columns), strict=True):
        yield dict(zip(names, values, strict=True))


def _values(connection: Connection, f: Function) -> Callable[..., pa.Array]:
    def run(*columns: Any) -> pa.Array:
        return pa.array(connection.values(f, _rows(f.parameters, columns)), f.gives)

    return run


def _outcomes(connection: Connection, f: Function) -> Callable[..., pa.Array]:
    def run(*columns: Any) -> pa.Array:
        outcomes = connection.map(f, _rows(f.parameters, columns))
        return pa.array([outcome_row(o) for o in outcomes], f.outcome)

    return run


def _listing(connection: Connection, t: Table) -> Callable[..., pa.Array]:
    gives = pa.list_(pa.struct(list(t.schema)))

    def run(*columns: Any) -> pa.Array:
        # A listing is read anew for each row of arguments; there is one row unless it stands in a LATERAL.
        read: dict[str, list[Any]] = {}
        lists = []
        for row in _rows(t.parameters, columns):
            if (key := repr(row)) not in read:
                given = {n: v for n, v in row.items() if v is not None}
                read[key] = [r for batch in connection.batches(t, **given) for r in batch.to_pylist()]
            lists.append(read[key])
        return pa.array(lists, gives)

    return run


def _macro(
    con: duckdb.DuckDBPyConnection,
    name: str,
    udf: str,
    parameters: Sequence[Parameter],
    gives: pa.DataType,
    is_table: bool,
    dimension: int | None,
) -> str:
    """The line of SQL that gives a UDF its public name, named arguments and, for tables, its rows."""
    takes = ", ".join(p.name if p.required else f"{p.name} := {literal(p.default)}" for p in parameters)
    call = f"{udf}({', '.join(p.name for p in parameters)})"
    if dimension is not None and _has_vector(gives):
        # Arrays of a known length are what DuckDB's distance functions and indexes want.
        [out] = con.from_arrow(pa.schema([("out", gives)]).empty_table()).types
        call = f"CAST({call} AS {str(out).replace('FLOAT[]', f'FLOAT[{dimension}]')})"
    # Depth 2 is the list and its structs: deeper would take vectors and lists of words apart, too.
    body = f"TABLE SELECT unnest({call}, max_depth := 2)" if is_table else call
    return f"CREATE OR REPLACE TEMP MACRO {name}({takes}) AS {body}"


def _has_vector(gives: pa.DataType) -> bool:
    if gives == VECTOR:
        return True
    if pa.types.is_list(gives) and pa.types.is_struct(gives.value_type):
        return any(field.type == VECTOR for field in gives.value_type)
    return False
