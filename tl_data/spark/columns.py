"""Arguments of catalog functions as columns of Spark, and what is computed from columns alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tl_data.catalog import Parameter

if TYPE_CHECKING:
    from pyspark.sql import Column


def column_of(p: Parameter, given: Mapping[str, Any]) -> Column:
    """The column for one argument: a text names a column if the argument is required, else it is a value.

    Args:
        given: arguments by name: texts, values or Columns; one that is missing has its default.
    """
    import pyspark.sql.functions as functions
    from pyspark.sql import Column

    from tl_data.spark.register import spark_type

    value = given.get(p.name, p.default)
    if isinstance(value, str) and p.required:
        value = functions.col(value)
    elif not isinstance(value, Column):
        value = functions.lit(value)
    return value.cast(spark_type(p.type))


def inline(column: Column, *, outer: bool = False) -> Column:
    """The rows of a table function's column, in a select: one row an element, its fields as columns.

    Args:
        column: of type list of structs.
        outer: whether a row whose list is empty or NULL stays, with NULLs.
    """
    import pyspark.sql.functions as functions

    return functions.inline_outer(column) if outer else functions.inline(column)


def similarity(a: Column | str, b: Column | str) -> Column:
    """The cosine of two vectors, -1 to 1; NULL when one is NULL or all zeros. In SQL: `tl_similarity`."""
    import pyspark.sql.functions as functions

    def vector(given: Column | str) -> Column:
        column = functions.col(given) if isinstance(given, str) else given
        return column.cast("array<double>")

    def dot(x: Column, y: Column) -> Column:
        products = functions.zip_with(x, y, lambda p, q: p * q)
        return functions.aggregate(products, functions.lit(0.0), lambda total, p: total + p)

    x, y = vector(a), vector(b)
    length = functions.sqrt(dot(x, x) * dot(y, y))
    return dot(x, y) / functions.when(length != 0.0, length)
