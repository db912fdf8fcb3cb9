"""The catalog as columns of Spark DataFrames, classic or Connect.

    from tl_data.spark import functions as tl

    df.withColumn("summary", tl.summarize("url", index_id="demo"))
    df.select("url", tl.inline(tl.search(lit("demo"), "title", max_hits=3)))
    df.withColumn("tried", tl.try_summarize("url"))                  # struct: value, error, usage, provenance
    tl.apply(df, "clips", "url")                                     # one row per row of df and clip
    tl.nearest(clips, text="a red car", k=10)                        # exact nearest neighbours

A string is a column name for a required argument, as everywhere in pyspark, and a value for an option. Every
function accepts `settings=`; the default is `Settings.load()`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tl_data.catalog import Function, bound, described
from tl_data.connection import connect
from tl_data.functions import FUNCTIONS
from tl_data.settings import Settings
from tl_data.spark.dataframes import apply, column_of, inline, similarity
from tl_data.spark.nearest import nearest

if TYPE_CHECKING:
    from pyspark.sql import Column

__all__ = ["apply", "inline", "nearest", "similarity"]


def column_function(f: Function, *, attempt: bool = False) -> Callable[..., Column]:
    """The function of columns. With `attempt`, the `try_` form, which returns a row's error as a value."""
    name = f"try_{f.name}" if attempt else f.name

    def call(*args: Any, settings: Settings | None = None, **kwargs: Any) -> Column:
        from pyspark.sql import SparkSession

        from tl_data.spark.register import is_boxed, udf, worker_of

        arguments = bound(f, args, kwargs)
        f.arguments(arguments)
        spark = SparkSession.active()
        worker = worker_of(spark, connect(settings))
        column = udf(worker, f, attempt=attempt)(*(column_of(p, arguments) for p in f.parameters))
        return (column[0] if is_boxed(f.outcome if attempt else f.gives) else column).alias(name)  # type: ignore[no-any-return]

    return described(call, f, name)


def __getattr__(name: str) -> Any:
    """The functions of the catalog, and their `try_` forms."""
    if not name.startswith("_"):
        attempt = name.startswith("try_")
        if f := FUNCTIONS.get(name.removeprefix("try_")):
            return globals().setdefault(name, column_function(f, attempt=attempt))
    raise AttributeError(f"module 'tl_data.spark.functions' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *FUNCTIONS, *(f"try_{name}" for name in FUNCTIONS)])
