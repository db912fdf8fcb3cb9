"""DuckDB: the catalog as SQL functions of a database.

Each function is an Arrow UDF that a macro calls. The macro adds named and optional arguments, passes the id
of the statement to the guard, and expands a list of structs into rows.

DuckDB 1.5 and 2.0 were measured: batches of at most 2,048 rows reach the UDF one after another, so the UDF
calls the rows of a batch concurrently. Without `side_effects`, DuckDB calls the UDF during EXPLAIN. With it,
an expression that occurs twice is called twice, and the pool's cache answers the second call.

UDFs belong to the database, under fixed names, and all its connections and cursors share them. They also
share the macros if the database is writable. In a read-only database macros are temporary, and every cursor
must be registered.
"""

from __future__ import annotations

import inspect
import itertools
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

import duckdb
import pyarrow as pa
from duckdb.func import FunctionNullHandling, PythonUDFType

from tl_data.catalog import NEAREST, NEAREST_ROWS, Function, Listing, Parameter, literal
from tl_data.connection import Connection, cancel_all
from tl_data.errors import SettingsError
from tl_data.functions import FUNCTIONS, LISTINGS
from tl_data.runtime.batches import DistinctRows
from tl_data.runtime.concurrency import calls_of
from tl_data.types import VECTOR


@dataclass(eq=False)
class _Registration:
    """The functions of one database. It owns the calls that its queries make."""

    connection: Connection  # has the settings that were registered last
    number: int
    dimension: int | None = None  # length of a vector that the macros declare; None: any length
    #: The Python functions of the UDFs. DuckDB releases them when the cursor that created them is closed, but
    #: other cursors still call them. Without this reference the process would crash.
    functions: list[Callable[..., Any]] = field(default_factory=list)


#: Registrations by number. The UDFs of a database need their registration while the database is open, and
#: DuckDB does not report when it is closed. So registrations, which are small, are never removed.
_registrations: dict[int, _Registration] = {}
_numbers = itertools.count(1)
_registered: weakref.WeakKeyDictionary[duckdb.DuckDBPyConnection, _Registration] = weakref.WeakKeyDictionary()

#: Name of the UDF that returns the number of the registration, by which a cursor finds its registration.
MARKER = "_tl_registration"


def register(con: duckdb.DuckDBPyConnection, connection: Connection) -> None:
    """Create `tl_...` and `try_tl_...` for every function and listing of the catalog, and the helpers.

    The functions belong to the database of `con`. A second registration, on any connection of the database,
    changes the settings of all its connections.
    """
    dimension = connection.dimension
    registration = _find(con)
    if registration is None:
        registration = _create(con, connection)
    registration.connection, registration.dimension = connection, dimension
    _registered[con] = registration
    kinds = ["TEMP MACRO", "MACRO"] if _is_writable(con) else ["TEMP MACRO"]
    macros = [*HELPERS]
    for f in FUNCTIONS.values():
        macros.append(_macro(f.sql, f.parameters, f.gives, f.returns_table, dimension))
        macros.append(_macro(f"try_{f.sql}", f.parameters, f.outcome, False, None))
    for t in LISTINGS.values():
        rows = pa.list_(pa.struct(list(t.schema)))
        macros.append(_macro(t.sql, t.parameters, rows, True, None))
    # One script: DuckDB plans each `execute` for itself, which takes longer than the macro.
    con.execute(";".join(f"CREATE OR REPLACE {kind} {macro}" for kind in kinds for macro in macros))


def cancel(con: duckdb.DuckDBPyConnection | None = None) -> None:
    """Stop the calls of running queries, from any thread. The queries fail. The ledger keeps paid answers.

    After Ctrl-C or `con.interrupt()`, DuckDB still waits for the function that it has called, and the
    function does not notice the interrupt. So call `cancel` before interrupting, or in a signal handler.

    Args:
        con: the registered connection; the queries of its database are stopped. None: all calls of this
            process are stopped.

    Raises:
        SettingsError: the connection was not registered.
    """
    if con is None:
        cancel_all()
    elif registration := _registered.get(con):
        registration.connection.cancel(registration)
    else:
        raise SettingsError(
            "this connection was not registered: pass the connection that was passed to tl_data.register()"
        )


def _find(con: duckdb.DuckDBPyConnection) -> _Registration | None:
    """The registration of the database; None if there is none."""
    if con in _registered:
        return _registered[con]
    # Not by duckdb_functions(), which lists thousands of functions in 60 ms. In a cursor, because the failed
    # statement aborts its transaction.
    with con.cursor() as cursor:
        try:
            [[number]] = cursor.execute(f"SELECT {MARKER}()").fetchall()
        except duckdb.CatalogException:
            return None
    return _registrations.get(number)


def _create(con: duckdb.DuckDBPyConnection, connection: Connection) -> _Registration:
    """Create the UDFs of all functions and listings of the catalog in the database of the connection."""
    number = next(_numbers)
    registration = _registrations[number] = _Registration(connection, number)
    for f in FUNCTIONS.values():
        _udf(con, registration, f"_{f.sql}", f.parameters, f.gives, _values(registration, f))
        _udf(con, registration, f"_try_{f.sql}", f.parameters, f.outcome, _outcomes(registration, f))
    for t in LISTINGS.values():
        rows = pa.list_(pa.struct(list(t.schema)))
        _udf(con, registration, f"_{t.sql}", t.parameters, rows, _listing(registration, t))
    _udf(con, registration, "_tl_usage", (), USAGE_ROWS, _usage(registration))
    _udf(con, registration, "_tl_nearest", NEAREST, NEAREST_ROWS, _nearest)

    def marker() -> int:
        return number

    registration.functions.append(marker)
    con.create_function(MARKER, marker, [], duckdb.sqltypes.BIGINT)
    return registration


def _is_writable(con: duckdb.DuckDBPyConnection) -> bool:
    """Whether the current database of the connection can store macros."""
    rows = con.execute(
        "SELECT type = 'duckdb' AND NOT readonly FROM duckdb_databases() "
        "WHERE database_name = current_database()"
    ).fetchall()
    return bool(rows and rows[0][0])


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

#: The argument that sets the length of a vector.
DIMENSION = "embedding_dimension"

#: SQL for the id of the running statement, whose calls share one guard. All runs of a prepared statement have
#: the same id.
STATEMENT = "CAST(current_query_id() AS UBIGINT)"

#: Macros. Three have the same names in Spark: the cosine of two vectors (-1 to 1), a field of JSON text by
#: its path, and `tl_nearest()`, the rows of a lake whose vectors are most similar to a vector. DuckDB alone
#: has
#: `tl_usage()`, the cost of this process's calls with the settings of the registration.
HELPERS = (
    "tl_similarity(a, b) AS CAST(list_cosine_similarity(CAST(a AS FLOAT[]), CAST(b AS FLOAT[])) AS DOUBLE)",
    "tl_json(text, path) AS json_extract_string(text, path)",
    f"tl_usage() AS TABLE SELECT unnest(_tl_usage({STATEMENT}), max_depth := 2)",
    "tl_nearest(lake, vector, k := 10, scope := NULL, option := NULL) AS TABLE SELECT unnest(_tl_nearest("
    "CAST(lake AS VARCHAR), CAST(vector AS FLOAT[]), CAST(k AS BIGINT), CAST(scope AS VARCHAR), "
    f"CAST(option AS VARCHAR), {STATEMENT}), max_depth := 2)",
)


def _udf(
    con: duckdb.DuckDBPyConnection,
    registration: _Registration,
    name: str,
    parameters: Sequence[Parameter],
    gives: pa.DataType,
    run: Callable[..., pa.Array],
) -> None:
    """Register an Arrow UDF whose arguments are those of the function and the id of the statement."""
    kinds = [*(p.type for p in parameters), pa.uint64()]
    argument_types: list[Any] = [_duckdb_type(kind) for kind in kinds]

    def call(*arrays: Any) -> pa.Array:
        with calls_of(registration):
            return run(*arrays)

    names = [*(p.name for p in parameters), "statement"]
    call.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # DuckDB reads the number of arguments from it
        [inspect.Parameter(n, inspect.Parameter.POSITIONAL_ONLY) for n in names]
    )
    registration.functions.append(call)
    con.create_function(
        name,
        call,
        argument_types,
        _duckdb_type(gives),
        type=PythonUDFType.ARROW,
        null_handling=FunctionNullHandling.SPECIAL,
        side_effects=True,
    )


def _batch(
    parameters: Sequence[Parameter], columns: Sequence[Any], registration: _Registration
) -> tuple[DistinctRows, str]:
    """The rows of arguments, and the name of the statement for the guard."""
    *arguments, statements = columns
    statement = statements[0].as_py() if len(statements) else None
    batch = DistinctRows.of([p.name for p in parameters], arguments, len(statements))
    return batch, f"{registration.number}/{statement}"


def _values(registration: _Registration, f: Function) -> Callable[..., pa.Array]:
    def run(*columns: Any) -> pa.Array:
        connection = registration.connection
        batch, statement = _batch(f.parameters, columns, registration)
        with connection.guarded(f, batch.rows, statement) as admission:
            values = list(connection.values(f, batch.rows, admission=admission, positions=batch.positions))
        if registration.dimension is not None and _has_vector(f.gives):
            _check_lengths(f, batch.rows, values, registration.dimension)
        return batch.expand_values(values, f.gives)

    return run


def _check_lengths(
    f: Function, rows: Sequence[dict[str, Any]], values: Sequence[Any], dimension: int
) -> None:
    """Check that vectors have the length that the macros declare.

    Otherwise the cast in the macro would fail, and its message would not name the setting to change.

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
                f"paid answers are kept. try_{f.sql} returns vectors of any length"
            )


def _outcomes(registration: _Registration, f: Function) -> Callable[..., pa.Array]:
    def run(*columns: Any) -> pa.Array:
        connection = registration.connection
        batch, statement = _batch(f.parameters, columns, registration)
        with connection.guarded(f, batch.rows, statement) as admission:
            outcomes = list(connection.map(f, batch.rows, admission=admission))
        return batch.expand_outcomes(outcomes, f.outcome)

    return run


def _listing(registration: _Registration, t: Listing) -> Callable[..., pa.Array]:
    gives = pa.list_(pa.struct(list(t.schema)))

    def run(*columns: Any) -> pa.Array:
        # A listing is read once for equal rows of arguments. There is one row, except in a LATERAL join.
        batch, _ = _batch(t.parameters, columns, registration)
        lists = []
        for row in batch.rows:
            arguments = {n: _api_time(n, v) for n, v in row.items() if v is not None}
            pages = registration.connection.batches(t, **arguments)
            lists.append([r for page in pages for r in page.to_pylist()])
        return batch.expand_values(lists, gives)

    return run


def _api_time(name: str, value: Any) -> Any:
    """Convert a time to RFC 3339, which the API accepts. DuckDB casts to text as `2026-11-30 14:00:00+00`."""
    if name.endswith("_at") and isinstance(value, str):
        with suppress(ValueError):  # not a time: the API answers with an error
            time = datetime.fromisoformat(value)
            return time.isoformat().replace("+00:00", "Z") if time.tzinfo else time.isoformat() + "Z"
    return value


def _usage(registration: _Registration) -> Callable[..., pa.Array]:
    def run(statements: Any) -> pa.Array:
        return pa.array([registration.connection.usage() for _ in statements], USAGE_ROWS)

    return run


def _nearest(*columns: Any) -> pa.Array:
    from tl_data import vectors  # imports more than registering needs

    batch = DistinctRows.of([p.name for p in NEAREST], columns[:-1], len(columns[-1]))
    return batch.expand_values(vectors.nearest_lists(batch.rows), NEAREST_ROWS)


def _macro(
    name: str,
    parameters: Sequence[Parameter],
    gives: pa.DataType,
    returns_table: bool,
    dimension: int | None,
) -> str:
    """The definition of the macro that calls a UDF: name, arguments and body."""
    declarations = [p.name if p.required else f"{p.name} := {literal(p.default)}" for p in parameters]
    # The casts accept any argument that converts to the type: a number for text, a DECIMAL, a TIMESTAMP.
    arguments = [f"CAST({p.name} AS {sql_type(p.type)})" for p in parameters]
    call = f"_{name}({', '.join([*arguments, STATEMENT])})"
    if dimension is not None and _has_vector(gives):
        # DuckDB's distance functions and indexes need arrays of a fixed length.
        with_length = f"CAST({call} AS {sql_type(gives).replace('FLOAT[]', f'FLOAT[{dimension}]')})"
        if dimension_parameter := [p for p in parameters if p.name == DIMENSION]:
            # A type cannot depend on the value of an argument. So the macro has two overloads: without the
            # argument, vectors have the fixed length; with it, they have any length.
            others = [d for d, p in zip(declarations, parameters, strict=True) if p.name != DIMENSION]
            position = sum(p.required for p in parameters)
            declared = f"{DIMENSION} {sql_type(dimension_parameter[0].type)}"
            with_dimension = [*others[:position], declared, *others[position:]]
            fixed = with_length.replace(f"CAST({DIMENSION} AS", "CAST(NULL AS")
            return f"{name}({', '.join(others)}) AS {fixed}, ({', '.join(with_dimension)}) AS {call}"
        call = with_length
    # Depth 2 unnests the list and its structs. A greater depth would also unnest vectors and lists of words.
    body = f"TABLE SELECT unnest({call}, max_depth := 2)" if returns_table else call
    return f"{name}({', '.join(declarations)}) AS {body}"


@cache
def sql_type(kind: pa.DataType) -> str:
    """The name of the DuckDB type to which DuckDB converts an Arrow type.

    `con.from_arrow()` knows it, too, but imports pandas where it is installed, which takes half a second.
    """
    if pa.types.is_struct(kind):
        return "STRUCT(" + ", ".join(f'"{field.name}" {sql_type(field.type)}' for field in kind) + ")"
    if pa.types.is_list(kind):
        return f"{sql_type(kind.value_type)}[]"
    if pa.types.is_timestamp(kind):
        return "TIMESTAMP WITH TIME ZONE" if kind.tz else "TIMESTAMP"
    return _TYPES[kind]


@cache
def _duckdb_type(kind: pa.DataType) -> Any:
    return duckdb.sqltype(sql_type(kind))


_TYPES = {
    pa.string(): "VARCHAR",
    pa.bool_(): "BOOLEAN",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.uint64(): "UBIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.binary(): "BLOB",
}


def _has_vector(gives: pa.DataType) -> bool:
    if gives == VECTOR:
        return True
    if pa.types.is_list(gives) and pa.types.is_struct(gives.value_type):
        return any(field.type == VECTOR for field in gives.value_type)
    return False
