"""Spark: the catalog as temporary SQL functions of a session, classic or Connect, and the data source.

Each function is an Arrow UDF that a SQL function calls. The SQL function adds named and optional arguments,
and expands a list of structs into rows. So a lateral join is vectorized, unlike with Python table functions.
This module does not use `sparkContext` or the JVM, because Connect and serverless do not have them.
"""

from __future__ import annotations

import os
import uuid
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyspark.sql.functions as functions
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import from_arrow_type
from pyspark.sql.types import ArrayType, DataType, StructType

from tl_data.catalog import NEAREST, NEAREST_ROWS, Function, Listing, Parameter, literal
from tl_data.connection import Connection, connect
from tl_data.errors import SettingsError
from tl_data.functions import FUNCTIONS, LISTINGS
from tl_data.settings import Settings
from tl_data.spark.datasource import source_of
from tl_data.spark.worker import KEY_CONF, Columns, Worker, nearest

#: SQL functions that have the same names in DuckDB: the cosine of two vectors (-1 to 1; NULL for a zero
#: vector), and a field of JSON text by its path.
HELPERS = (
    "CREATE OR REPLACE TEMPORARY FUNCTION tl_similarity(a ARRAY<FLOAT>, b ARRAY<FLOAT>) RETURNS DOUBLE "
    "RETURN aggregate(zip_with(a, b, (x, y) -> double(x) * double(y)), 0D, (s, x) -> s + x) / nullif("
    "sqrt(aggregate(a, 0D, (s, x) -> s + double(x) * double(x)) "
    "* aggregate(b, 0D, (s, x) -> s + double(x) * double(x))), 0D)",
    "CREATE OR REPLACE TEMPORARY FUNCTION tl_json(text STRING, path STRING) RETURNS STRING "
    "RETURN get_json_object(text, path)",
)


def register(spark: SparkSession, connection: Connection) -> None:
    """Create `tl_...` and `try_tl_...` for every function and listing of the catalog, and the helpers.

    It also registers `spark.read.format("twelvelabs")`. A second registration replaces the settings, and the
    workers no longer share answers with the first one.

    Raises:
        SettingsError: the workers of this cluster could not reach the embedded engine of this machine, or
            the conf `spark.tl_data.token` was set after the start of Spark.
    """
    _workers.get(spark, {}).pop(connection.settings, None)
    worker = worker_of(spark, connection)
    for f in FUNCTIONS.values():
        _create(spark, f.sql, f.parameters, f.gives, udf(worker, f), f.returns_table)
        _create(spark, f"try_{f.sql}", f.parameters, f.outcome, udf(worker, f, attempt=True), False)
    for t in LISTINGS.values():
        rows = pa.list_(pa.struct(list(t.schema)))
        _create(spark, t.sql, t.parameters, rows, udf(worker, t), True)
    searches = _vectorize("tl_nearest", nearest, NEAREST, NEAREST_ROWS)
    _create(spark, "tl_nearest", NEAREST, NEAREST_ROWS, searches, True)
    for helper in HELPERS:
        spark.sql(helper)
    # Off by default; without it Spark refuses sources with filters.
    spark.conf.set("spark.sql.python.filterPushdown.enabled", "true")
    # Spark plans a read in a process without the Spark conf, so the source includes its key.
    key = connection.settings.api_key or spark.conf.get(KEY_CONF, None)
    with_key = replace(worker, settings=worker.settings.but(api_key=key), needs_key=False)
    spark.dataSource.register(source_of(with_key))


#: The workers by session and settings: columns and SQL functions use the same one, so they share answers.
_workers: weakref.WeakKeyDictionary[SparkSession, dict[Settings, Worker]] = weakref.WeakKeyDictionary()


def worker_of(spark: SparkSession, connection: Connection) -> Worker:
    """The data that all functions with these settings send to the worker processes of this session."""
    workers = _workers.setdefault(spark, {})
    if connection.settings not in workers:
        workers[connection.settings] = _worker(spark, connection)
    return workers[connection.settings]


def _worker(spark: SparkSession, connection: Connection) -> Worker:
    """The settings for the worker processes, without the API key if they can read it themselves.

    The key is not sent if it is in the Spark conf `spark.tl_data.token`, or in the environment of a classic
    session, whose workers have the same environment. Otherwise it is part of the pickled functions, which
    Spark writes into no plan and no log.
    """
    settings, master = connection.settings, spark.conf.get("spark.master", "local") or "local"
    token = spark.conf.get(KEY_CONF, None)
    if token and not is_connect(spark) and spark.newSession().conf.get(KEY_CONF, None) != token:
        raise SettingsError(
            f"{KEY_CONF} was set while Spark runs, and Spark writes it into its event log in clear "
            "text: set it before the start (spark-defaults.conf, cluster configuration), or pass api_key="
        )
    if token and not settings.api_key:
        connection = connect(settings, api_key=token)
        settings = connection.settings
    is_cluster = not master.startswith("local")
    if settings.embedded and is_cluster:
        raise SettingsError(
            f"the embedded engine runs on this machine, but the workers of {master} run on others: "
            "set TL_API_KEY, or base_url to a server that they can reach"
        )
    if is_cluster and "://" not in settings.ledger_url:
        warnings.warn(
            f"the ledger {settings.ledger_url} is a separate folder on each machine of {master}: workers may "
            "pay twice. Set TL_LEDGER to a shared address (s3://, gs://, az://)",
            stacklevel=3,
        )
    if settings.embedded:
        _ = connection.session  # starts the engine, which this process keeps alive
    workers_have_key = bool(settings.api_key) and (
        token == settings.api_key
        or (not is_connect(spark) and os.environ.get("TL_API_KEY") == settings.api_key)
    )
    return Worker(
        settings.but(
            api_key=None if workers_have_key else settings.api_key,
            base_url=connection.base_url,
            ledger=settings.ledger_url,
            local_llm_key=None,  # the engine has it
        ),
        scope=uuid.uuid4().hex,
        needs_key=workers_have_key,
    )


def is_connect(spark: SparkSession) -> bool:
    """Whether the session is one of Spark Connect."""
    return ".connect." in type(spark).__module__


def is_boxed(gives: pa.DataType) -> bool:
    """Whether a UDF returns each value in a list: before Spark 4.1 a UDF cannot return a NULL struct."""
    return pa.types.is_struct(gives) and not hasattr(functions, "arrow_udf")


def udf(worker: Worker, record: Function | Listing, *, attempt: bool = False) -> Any:
    """The UDF of a function or listing: a column per argument, a value per row (in a list if `is_boxed`)."""
    name = record.name
    if isinstance(record, Listing):
        gives, run = pa.list_(pa.struct(list(record.schema))), worker.listings
    elif attempt:
        gives, run = record.outcome, worker.outcomes
    else:
        gives, run = record.gives, worker.values
    sql_name = f"try_{record.sql}" if attempt else record.sql
    return _vectorize(sql_name, lambda batches: run(name, batches), record.parameters, gives)


def spark_type(kind: pa.DataType) -> DataType:
    """Spark's type for an Arrow type."""
    return from_arrow_type(kind)


def _vectorize(
    name: str,
    run: Callable[[Iterator[Columns]], Iterator[pa.Array]],
    parameters: Sequence[Parameter],
    gives: pa.DataType,
) -> Any:
    if hasattr(functions, "arrow_udf"):

        def arrow(batches: Iterator[tuple[pa.Array, ...]]) -> Iterator[pa.Array]:
            return run(_as_tuples(batches))

        arrow.__name__ = name  # the name in query plans
        arrow.__annotations__ = {"batches": Iterator[tuple[pa.Array, ...]], "return": Iterator[pa.Array]}
        return functions.arrow_udf(arrow, spark_type(gives))

    import pandas as pd
    from pyspark.sql.pandas.functions import pandas_udf

    types, box = [p.type for p in parameters], is_boxed(gives)

    def series(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[pd.Series]:
        columns = (
            [pa.Array.from_pandas(column, type=kind) for column, kind in zip(batch, types, strict=True)]
            for batch in _as_tuples(batches)
        )
        for array in run(columns):
            values = array.to_pylist()
            yield pd.Series([[value] for value in values] if box else values, dtype=object)

    series.__name__ = name
    series.__annotations__ = {"batches": Iterator[tuple[pd.Series, ...]], "return": Iterator[pd.Series]}
    kind = ArrayType(spark_type(gives)) if box else spark_type(gives)
    return pandas_udf(series, kind)  # type: ignore[call-overload]  # the stubs do not accept a type object


def _as_tuples(batches: Iterator[Any]) -> Iterator[Any]:
    """The columns of each batch as a tuple; Spark passes a single column without a tuple."""
    return (batch if isinstance(batch, tuple) else (batch,) for batch in batches)


def _create(
    spark: SparkSession,
    name: str,
    parameters: Sequence[Parameter],
    gives: pa.DataType,
    function: Any,
    returns_table: bool,
) -> None:
    """Register a UDF and the SQL function that calls it. A table function returns rows."""
    spark.udf.register(f"_{name}", function)
    declarations = ", ".join(_parameter(p) for p in parameters)
    call = f"_{name}({', '.join(f'`{name}`.`{p.name}`' for p in parameters)})"
    kind = spark_type(gives)
    if returns_table:
        assert isinstance(kind, ArrayType)
        assert isinstance(kind.elementType, StructType)
        columns = ", ".join(f"`{f.name}` {f.dataType.simpleString()}" for f in kind.elementType)
        returns, body = f"TABLE({columns})", f"SELECT inline({call})"
    else:
        returns, body = _ddl(kind), f"{call}[0]" if is_boxed(gives) else call
    spark.sql(f"CREATE OR REPLACE TEMPORARY FUNCTION {name}({declarations}) RETURNS {returns} RETURN {body}")


def _parameter(p: Parameter) -> str:
    kind = f"`{p.name}` {_ddl(spark_type(p.type))}"
    return kind if p.required else f"{kind} DEFAULT {literal(p.default)}"


def _ddl(kind: DataType) -> str:
    """The type in SQL. Field names are in backquotes, because names such as `class` need them."""
    if isinstance(kind, StructType):
        return f"STRUCT<{', '.join(f'`{f.name}`: {_ddl(f.dataType)}' for f in kind)}>"
    if isinstance(kind, ArrayType):
        return f"ARRAY<{_ddl(kind.elementType)}>"
    return kind.simpleString()
