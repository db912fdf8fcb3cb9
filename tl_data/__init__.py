"""Video as tables: clips, summaries and vectors from a column of video URLs.

    import duckdb, tl_data

    con = duckdb.connect()
    tl_data.register(con)
    con.sql("SELECT * FROM tl_search('demo', 'a red car')")

Every function and listing of the catalog is also a Python function of this module, such as
`tl_data.search("demo", "a red car")`. Importing the module imports no backend.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from tl_data._version import __version__
from tl_data.errors import TLDataError
from tl_data.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

    from tl_data.backends.python import *  # noqa: F403 - the catalog's functions
    from tl_data.display import Shown

__all__ = ["Settings", "TLDataError", "__version__", "cancel", "register", "show", "stream"]


def register(
    target: Any,
    settings: Settings | None = None,
    *,
    budget: float | None = None,
    max_calls: int | None = None,
    **overrides: Any,
) -> None:
    """Make every function of the catalog available in a DuckDB database or a Spark session.

    Args:
        target: a `duckdb.DuckDBPyConnection`, or a `SparkSession`, classic or Connect.
        settings: the settings of all calls; by default `Settings.load()`.
        budget: the maximum cost of one SQL statement, in the price list's currency; `math.inf` for no limit.
            The default is TL_SQL_BUDGET, or 10 with an API key. A statement fails before it costs more. In
            Spark, all calls after the registration count as one statement; see `tl_data.spark.guard`.
        max_calls: the maximum number of paid calls of one SQL statement.
        overrides: single settings that replace those in `settings`, such as `index="news"`.
    """
    from tl_data.connection import connect

    limits = {"sql_budget": budget, "sql_max_calls": max_calls}
    overrides |= {name: value for name, value in limits.items() if value is not None}
    package = type(target).__module__.partition(".")[0]
    if package in ("duckdb", "_duckdb"):
        from tl_data.backends import duckdb

        duckdb.register(target, connect(settings, **overrides))
    elif package == "pyspark":
        from tl_data.spark import register

        register.register(target, connect(settings, **overrides))
    else:
        raise TypeError(
            f"register() takes a DuckDB connection or a Spark session, not {type(target).__name__}"
        )


def cancel(con: Any = None) -> None:
    """Cancel the calls of the running queries of a DuckDB database. Any thread may call this function.

    Args:
        con: the registered connection; None cancels all calls of this process.

    Raises:
        SettingsError: the connection was not registered.
    """
    if con is None:
        from tl_data.connection import cancel_all

        cancel_all()
    else:
        from tl_data.backends import duckdb

        duckdb.cancel(con)


def show(rows: Any, lake: str | None = None) -> Shown:
    """Show the rows of a query as a strip of pictures in a notebook; see `tl_data.display.show`.

    Args:
        rows: a DuckDB relation, an Arrow table, a pandas, Polars or Spark frame, or a list of dicts.
        lake: folder of the lake that contains the pictures of the rows.
    """
    from tl_data import display

    return display.show(rows, lake)


def stream(source: Any, function: str, columns: Mapping[str, str], **options: Any) -> pa.RecordBatchReader:
    """Add a column with the results of a function to the batches of an Arrow source, in bounded memory.

    See `tl_data.backends.arrow.stream` for the options.
    """
    from tl_data.backends import arrow

    return arrow.stream(source, function, columns, **options)


def __getattr__(name: str) -> Any:
    """Create a Python function of the catalog, or import `export` or `vectors`, when it is first used."""
    if name in ("export", "vectors"):
        return import_module(f"tl_data.{name}")
    # Python also calls this for a submodule that is not imported yet (`from tl_data import docs`).
    if not name.startswith("_") and find_spec(f"tl_data.{name}") is None:
        catalog = _catalog()
        if name in catalog.FUNCTIONS or name in catalog.LISTINGS:
            from tl_data.backends.pandas import python_function, python_listing

            function: Any = (
                python_function(catalog.FUNCTIONS[name])
                if name in catalog.FUNCTIONS
                else python_listing(catalog.LISTINGS[name])
            )
            globals()[name] = function
            return function
    from tl_data.models import name_of_today

    hint = name_of_today([name])
    raise AttributeError(f"module 'tl_data' has no attribute {name!r}{'.' if hint else ''}{hint}")


def __dir__() -> list[str]:
    catalog = _catalog()
    return sorted([*__all__, *catalog.FUNCTIONS, *catalog.LISTINGS])


def _catalog() -> Any:
    return import_module("tl_data.functions")
