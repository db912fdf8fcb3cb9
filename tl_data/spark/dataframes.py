"""Functions of the catalog over whole DataFrames and over columns.

Over a DataFrame, a function receives all rows of a Spark task as one stream, across its Arrow batches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from tl_data.catalog import Parameter, bound
from tl_data.connection import connect
from tl_data.errors import SchemaMismatch
from tl_data.functions import find_function
from tl_data.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

ROWS = 4096  # maximum rows per returned batch; it bounds the memory that vectors take


def apply(
    df: DataFrame,
    function: str,
    *args: Any,
    settings: Settings | None = None,
    attempt: bool = False,
    **kwargs: Any,
) -> DataFrame:
    """Call a function for each row of `df` and append its result as columns, through `mapInArrow`.

    A table function repeats the row of `df` for each row of its result, and drops it if the result is empty.
    Any other function appends one column with its name. Recommended for large tables: one pool of calls
    serves all batches of a task.

    Args:
        df: the rows.
        function: name in the catalog: "clips", "summarize", ...
        args, kwargs: the arguments: names of columns, values of options, or Columns.
        attempt: use the `try_` form, which returns a row's error as a value, in the column `try_<function>`.

    Raises:
        SchemaMismatch: unknown function, argument or column, or `df` already has a column of the same name.
    """
    from pyspark.sql.pandas.types import from_arrow_schema
    from pyspark.sql.types import StructType

    from tl_data.spark.register import worker_of

    f = find_function(function)
    arguments = bound(f, args, kwargs)
    f.arguments(arguments)
    is_unfolded = f.returns_table and not attempt
    if is_unfolded:
        new = f.columns
    else:
        new = pa.schema([(f"try_{function}", f.outcome) if attempt else (function, f.gives)])
    if clash := [name for name in new.names if name in df.columns]:
        raise SchemaMismatch(
            f"{function} adds the column {', '.join(clash)}, which exists already: rename it first"
        )
    for p in f.parameters:
        _check_column(df, p, arguments.get(p.name))
    worker = worker_of(df.sparkSession, connect(settings))
    column_count = len(df.columns)
    with_arguments = df.select("*", *(column_of(p, arguments).alias(f"_tl_{p.name}") for p in f.parameters))
    arrow = pa.schema(new)

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        waiting: deque[pa.RecordBatch] = deque()

        def columns() -> Iterator[list[pa.Array]]:
            for batch in batches:
                waiting.append(batch.select(range(column_count)))
                yield batch.columns[column_count:]

        answers = worker.outcomes if attempt else worker.values
        for array in answers(function, columns()):
            batch = waiting.popleft()
            if is_unfolded:
                yield from _unfold(batch, array)
            else:
                yield pa.RecordBatch.from_arrays([*batch.columns, array], [*batch.schema.names, *arrow.names])

    schema = StructType([*df.schema.fields, *from_arrow_schema(new).fields])
    return with_arguments.mapInArrow(run, schema)


def _unfold(batch: pa.RecordBatch, lists: pa.ListArray) -> Iterator[pa.RecordBatch]:
    """One row for each element of the lists, after the columns of the row that has the list."""
    rows, elements = pc.list_parent_indices(lists), pc.list_flatten(lists)
    names = [*batch.schema.names, *(field.name for field in lists.type.value_type)]
    for start in range(0, len(rows), ROWS):
        repeated = batch.take(rows[start : start + ROWS])
        part = elements[start : start + ROWS]
        yield pa.RecordBatch.from_arrays([*repeated.columns, *part.flatten()], names)


def _check_column(df: DataFrame, p: Parameter, value: Any) -> None:
    """Check that a text for a required argument is the name of a column; fields of structs are not checked.

    Raises:
        SchemaMismatch: there is no such column.
    """
    if not p.required or not isinstance(value, str) or "." in value or "`" in value:
        return
    if value.lower() not in {name.lower() for name in df.columns}:
        raise SchemaMismatch(
            f"{p.name} = {value!r}: there is no such column. For the text itself write "
            f"pyspark.sql.functions.lit({value!r})"
        )


def column_of(p: Parameter, arguments: Mapping[str, Any]) -> Column:
    """The column for one argument. A string is a column name for a required argument, else a value.

    Args:
        arguments: strings, values or Columns by name; a missing argument has its default.
    """
    import pyspark.sql.functions as functions
    from pyspark.sql import Column

    from tl_data.spark.register import spark_type

    value = arguments.get(p.name, p.default)
    if isinstance(value, str) and p.required:
        value = functions.col(value)
    elif not isinstance(value, Column):
        value = functions.lit(value)
    return value.cast(spark_type(p.type))


def inline(column: Column, *, outer: bool = False) -> Column:
    """Expand the column of a table function in a select: one row per element, its fields as columns.

    Args:
        column: of type list of structs.
        outer: whether rows with an empty or NULL list are kept, with NULLs.
    """
    import pyspark.sql.functions as functions

    return functions.inline_outer(column) if outer else functions.inline(column)


def similarity(a: Column | str, b: Column | str) -> Column:
    """The cosine of two vectors, -1 to 1; NULL if one is NULL or zero. In SQL: `tl_similarity`."""
    import pyspark.sql.functions as functions

    def vector(source: Column | str) -> Column:
        column = functions.col(source) if isinstance(source, str) else source
        return column.cast("array<double>")

    def dot(x: Column, y: Column) -> Column:
        products = functions.zip_with(x, y, lambda p, q: p * q)
        return functions.aggregate(products, functions.lit(0.0), lambda total, p: total + p)

    x, y = vector(a), vector(b)
    length = functions.sqrt(dot(x, x) * dot(y, y))
    return dot(x, y) / functions.when(length != 0.0, length)
