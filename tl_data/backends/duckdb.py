"""DuckDB: the catalog as SQL functions of a database.

Each function is an Arrow UDF behind a macro. The macro adds named and optional arguments, passes the id of
the statement to the guard, and expands a list of structs into rows. Measured on DuckDB 1.5 and 2.0: batches
of at most 2,048 rows reach the UDF one at a time, so concurrency is inside the call. Without `side_effects`
DuckDB calls the UDF during EXPLAIN; with it, an expression that occurs twice is called twice, and the pool's
cache answers the second.

UDFs belong to the database, under stable names, and are shared by all its connections and cursors. So are the
macros if the database is writable. In a read-only database macros are temporary, and each cursor must be
registered.
"""

from __future__ import annotations

import inspect
import itertools
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import duckdb
import pyarrow as pa
from duckdb.func import FunctionNullHandling, PythonUDFType

from tl_data.catalog import Function, Parameter, Table, literal
from tl_data.connection import Connection, cancel_all
from tl_data.errors import SettingsError
from tl_data.functions import FUNCTIONS, TABLES
from tl_data.runtime.concurrency import asked_by
from tl_data.runtime.pool import outcome_row
from tl_data.types import VECTOR


@dataclass(eq=False)
class _Registration:
    """The functions of one database. It owns the calls that its queries make."""

    connection: Connection  # of the settings that were registered last
    number: int
    dimension: int | None = None  # numbers of a vector, as the macros declare it; None: of any length
    #: The Python functions behind the UDFs. DuckDB releases them when the cursor is closed that created them,
    #: and still calls them from others: the process would crash.
    functions: list[Callable[..., Any]] = field(default_factory=list)


#: By number. The UDFs of a database need their registration as long as the database is open, and DuckDB does
#: not say when it closes: so they are kept for the life of the process, one small record a database.
_registrations: dict[int, _Registration] = {}
_numbers = itertools.count(1)
_registered: weakref.WeakKeyDictionary[duckdb.DuckDBPyConnection, _Registration] = weakref.WeakKeyDictionary()

#: A UDF that gives the number of the registration; by it a cursor finds the functions of its database.
MARKER = "_tl_registration"


def register(con: duckdb.DuckDBPyConnection, connection: Connection) -> None:
    """Create `tl_...` and `try_tl_...` for every function and listing of the catalog, and the helpers.

    They belong to the database of `con`. Registering again, on this or another of its connections, changes
    the settings of all of them.
    """
    dimension = connection.dimension
    own = _find(con)
    if own is None:
        own = _create(con, connection)
    own.connection, own.dimension = connection, dimension
    _registered[con] = own
    kinds = ["TEMP MACRO", "MACRO"] if _is_writable(con) else ["TEMP MACRO"]
    macros = []
    for f in FUNCTIONS.values():
        macros.append(_macro(con, f.sql, f.parameters, f.gives, f.is_table, dimension))
        macros.append(_macro(con, f"try_{f.sql}", f.parameters, f.outcome, False, None))
    for t in TABLES.values():
        rows = pa.list_(pa.struct(list(t.schema)))
        macros.append(_macro(con, t.sql, t.parameters, rows, True, None))
    for kind in kinds:
        for macro in (*macros, *HELPERS):
            con.execute(f"CREATE OR REPLACE {kind} {macro}")


def cancel(con: duckdb.DuckDBPyConnection | None = None) -> None:
    """Stop the calls of running queries, from any thread: the queries fail, and finished rows are saved.

    DuckDB waits for a function that it has called, also after Ctrl-C or `con.interrupt()`, and the function
    cannot see either. So stop the calls first, or from a signal handler of your own.

    Args:
        con: the connection that was registered: the queries of its database. None: all calls of this process.

    Raises:
        SettingsError: the connection was not registered.
    """
    if con is None:
        cancel_all()
    elif own := _registered.get(con):
        own.connection.cancel(own)
    else:
        raise SettingsError(
            "this connection was not registered: pass the one that tl_data.register() was given"
        )


def _find(con: duckdb.DuckDBPyConnection) -> _Registration | None:
    """The registration of the database, if there is one."""
    found = con.execute("SELECT 1 FROM duckdb_functions() WHERE function_name = ? LIMIT 1", [MARKER])
    if not found.fetchall():
        return None
    [[number]] = con.execute(f"SELECT {MARKER}()").fetchall()
    return _registrations.get(number)


def _create(con: duckdb.DuckDBPyConnection, connection: Connection) -> _Registration:
    number = next(_numbers)
    own = _registrations[number] = _Registration(connection, number)
    for f in FUNCTIONS.values():
        _udf(con, own, f"_{f.sql}", f.parameters, f.gives, _values(own, f))
        _udf(con, own, f"_try_{f.sql}", f.parameters, f.outcome, _outcomes(own, f))
    for t in TABLES.values():
        _udf(con, own, f"_{t.sql}", t.parameters, pa.list_(pa.struct(list(t.schema))), _listing(own, t))
    _udf(con, own, "_tl_usage", (), USAGE_ROWS, _usage(own))

    def marker() -> int:
        return number

    own.functions.append(marker)
    con.create_function(MARKER, marker, [], duckdb.sqltypes.BIGINT)
    return own


def _is_writable(con: duckdb.DuckDBPyConnection) -> bool:
    """Whether macros can be kept in the database that the connection uses."""
    found = con.execute(
        "SELECT type = 'duckdb' AND NOT readonly FROM duckdb_databases() "
        "WHERE database_name = current_database()"
    ).fetchall()
    return bool(found and found[0][0])


USAGE_ROWS = pa.list_(
    pa.struct(
        [
            ("operation", pa.string()),
            ("calls", pa.int64()),
            ("video_minutes", pa.float64()),
            ("input_tokens", pa.int64()),
            ("output_tokens", pa.int64()),
            ("price", pa.float64()),
            ("currency", pa.string()),
        ]
    )
)

DIMENSION = "embedding_dimension"  # the argument that sets the length of a vector

#: The id of the running statement: its calls share one guard. All runs of a prepared statement have one id.
STATEMENT = "CAST(current_query_id() AS UBIGINT)"

#: DuckDB's own functions under the names that both engines share: the cosine of two vectors (-1 to 1), and
#: a field of JSON text by its path. `tl_usage()` says what this process has paid.
HELPERS = (
    "tl_similarity(a, b) AS CAST(list_cosine_similarity(CAST(a AS FLOAT[]), CAST(b AS FLOAT[])) AS DOUBLE)",
    "tl_json(text, path) AS json_extract_string(text, path)",
    f"tl_usage() AS TABLE SELECT unnest(_tl_usage({STATEMENT}), max_depth := 2)",
)


def _udf(
    con: duckdb.DuckDBPyConnection,
    own: _Registration,
    name: str,
    parameters: Sequence[Parameter],
    gives: pa.DataType,
    run: Callable[..., pa.Array],
) -> None:
    """Register an Arrow function of the arguments and the statement's id; DuckDB itself turns the Arrow types
    into its own.
    """
    columns = pa.schema([*((p.name, p.type) for p in parameters), ("statement", pa.uint64()), ("out", gives)])
    *takes, out = con.from_arrow(columns.empty_table()).types

    def owned(*arrays: Any) -> pa.Array:
        with asked_by(own):
            return run(*arrays)

    names = [*(p.name for p in parameters), "statement"]
    owned.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # DuckDB reads the arity from it
        [inspect.Parameter(n, inspect.Parameter.POSITIONAL_ONLY) for n in names]
    )
    own.functions.append(owned)
    con.create_function(
        name,
        owned,
        list(takes),
        out,
        type=PythonUDFType.ARROW,
        null_handling=FunctionNullHandling.SPECIAL,
        side_effects=True,
    )


def _rows(parameters: Sequence[Parameter], columns: Sequence[Any]) -> Iterator[dict[str, Any]]:
    names = [p.name for p in parameters]
    for values in zip(*(column.to_pylist() for column in columns), strict=True):
        yield dict(zip(names, values, strict=True))


def _batch(
    parameters: Sequence[Parameter], columns: Sequence[Any], own: _Registration
) -> tuple[list[dict[str, Any]], str]:
    """The rows of arguments, and the statement that they are of."""
    *arguments, statements = columns
    statement = statements[0].as_py() if len(statements) else None
    return list(_rows(parameters, arguments)), f"{own.number}/{statement}"


def _values(own: _Registration, f: Function) -> Callable[..., pa.Array]:
    def run(*columns: Any) -> pa.Array:
        connection = own.connection
        rows, statement = _batch(f.parameters, columns, own)
        with connection.guarded(f, rows, statement) as admitted:
            values = list(connection.values(f, rows, admitted=admitted))
        if own.dimension is not None and _has_vector(f.gives):
            _check_lengths(f, rows, values, own.dimension)
        return pa.array(values, f.gives)

    return run


def _check_lengths(
    f: Function, rows: Sequence[dict[str, Any]], values: Sequence[Any], dimension: int
) -> None:
    """Check that vectors have the length that the macros declare, as a failed cast names no way out.

    Raises:
        SettingsError: the model of the account makes vectors of another length.
    """
    for row, value in zip(rows, values, strict=True):
        if value is None or row.get(DIMENSION) is not None:
            continue
        vectors = [value] if f.gives == VECTOR else [part["vector"] for part in value]
        if other := next((len(v) for v in vectors if v is not None and len(v) != dimension), None):
            raise SettingsError(
                f"{f.sql} returned a vector of {other} numbers, and the functions are registered for "
                f"{dimension}. Set search_model to the model of the index or account and register again; "
                f"what was paid for is kept. try_{f.sql} returns vectors of any length"
            )


def _outcomes(own: _Registration, f: Function) -> Callable[..., pa.Array]:
    def run(*columns: Any) -> pa.Array:
        connection = own.connection
        rows, statement = _batch(f.parameters, columns, own)
        with connection.guarded(f, rows, statement) as admitted:
            outcomes = connection.map(f, rows, admitted=admitted)
            return pa.array([outcome_row(o) for o in outcomes], f.outcome)

    return run


def _listing(own: _Registration, t: Table) -> Callable[..., pa.Array]:
    gives = pa.list_(pa.struct(list(t.schema)))

    def run(*columns: Any) -> pa.Array:
        # A listing is read anew for each row of arguments; there is one row unless it stands in a LATERAL.
        read: dict[str, list[Any]] = {}
        lists = []
        rows, _ = _batch(t.parameters, columns, own)
        for row in rows:
            if (key := repr(row)) not in read:
                given = {n: _moment(n, v) for n, v in row.items() if v is not None}
                read[key] = [r for batch in own.connection.batches(t, **given) for r in batch.to_pylist()]
            lists.append(read[key])
        return pa.array(lists, gives)

    return run


def _moment(name: str, value: Any) -> Any:
    """A time as the API takes it: DuckDB writes a TIMESTAMP as `2026-11-30 14:00:00+00`."""
    if name.endswith("_at") and isinstance(value, str):
        with suppress(ValueError):  # not a time at all: the API says so
            moment = datetime.fromisoformat(value)
            return moment.isoformat().replace("+00:00", "Z") if moment.tzinfo else moment.isoformat() + "Z"
    return value


def _usage(own: _Registration) -> Callable[..., pa.Array]:
    def run(statements: Any) -> pa.Array:
        return pa.array([own.connection.usage() for _ in statements], USAGE_ROWS)

    return run


def _macro(
    con: duckdb.DuckDBPyConnection,
    name: str,
    parameters: Sequence[Parameter],
    gives: pa.DataType,
    is_table: bool,
    dimension: int | None,
) -> str:
    """What gives a UDF its public name, named arguments and, for tables, its rows."""
    takes = [p.name if p.required else f"{p.name} := {literal(p.default)}" for p in parameters]
    # Casts let any argument in that can be read as the type: a number as text, a DECIMAL or TIMESTAMP, NULL.
    given = [f"CAST({p.name} AS {_type(con, p.type)})" for p in parameters]
    call = f"_{name}({', '.join([*given, STATEMENT])})"
    if dimension is not None and _has_vector(gives):
        # Arrays of a known length are what DuckDB's distance functions and indexes want.
        known = f"CAST({call} AS {_type(con, gives).replace('FLOAT[]', f'FLOAT[{dimension}]')})"
        if chosen := [p for p in parameters if p.name == DIMENSION]:
            # An overload: the length of a vector is in its type, and no type depends on an argument's value.
            others = [each for each, p in zip(takes, parameters, strict=True) if p.name != DIMENSION]
            at = sum(p.required for p in parameters)
            typed = [*others[:at], f"{DIMENSION} {_type(con, chosen[0].type)}", *others[at:]]
            fixed = known.replace(f"CAST({DIMENSION} AS", "CAST(NULL AS")
            return f"{name}({', '.join(others)}) AS {fixed}, ({', '.join(typed)}) AS {call}"
        call = known
    # Depth 2 is the list and its structs: deeper would take vectors and lists of words apart, too.
    body = f"TABLE SELECT unnest({call}, max_depth := 2)" if is_table else call
    return f"{name}({', '.join(takes)}) AS {body}"


def _type(con: duckdb.DuckDBPyConnection, kind: pa.DataType) -> str:
    """The name of DuckDB's own translation of an Arrow type."""
    if kind not in _types:
        [out] = con.from_arrow(pa.schema([("out", kind)]).empty_table()).types
        _types[kind] = str(out)
    return _types[kind]


_types: dict[pa.DataType, str] = {}


def _has_vector(gives: pa.DataType) -> bool:
    if gives == VECTOR:
        return True
    if pa.types.is_list(gives) and pa.types.is_struct(gives.value_type):
        return any(field.type == VECTOR for field in gives.value_type)
    return False
