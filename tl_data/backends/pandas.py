"""Python, pandas and Polars: the catalog as functions. If an argument is a Series, the result is a Series."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pyarrow as pa

from tl_data.catalog import Function, Listing, bound, described
from tl_data.connection import connect
from tl_data.display import Rows
from tl_data.errors import SchemaMismatch
from tl_data.settings import Settings


def python_function(f: Function) -> Callable[..., Any]:
    """The Python function for a function of the catalog, such as `search("demo", "a red car")`.

    If all arguments are scalars, the result is one Python value (`Rows` for a table function). If one is a
    Series, the result is a Series of the same library, with one call per distinct row. Series of pandas must
    have the same index, which the result has too; Series of Polars must have the same length.
    """

    def call(*args: Any, settings: Settings | None = None, **kwargs: Any) -> Any:
        arguments = bound(f, args, kwargs)
        connection = connect(settings)
        columns = {name: value for name, value in arguments.items() if _is_series(value)}
        if not columns:
            value = connection.call(f, **arguments)
            return Rows(value, f.columns) if f.returns_table and value is not None else value
        name, first = next(iter(columns.items()))
        for other, column in columns.items():
            if type(column) is not type(first):
                raise SchemaMismatch(f"{f.name}: {other} and {name} are Series of different libraries")
            if len(column) != len(first):
                lengths = f"{other} has {len(column)} rows, but {name} has {len(first)}"
                raise SchemaMismatch(f"{f.name}: {lengths}: they must have the same length")
            if hasattr(first, "index") and not column.index.equals(first.index):
                raise SchemaMismatch(f"{f.name}: the index of {other} differs from that of {name}")
        lists = {n: column.to_list() for n, column in columns.items()}
        rows = (
            {n: _plain(lists[n][i]) if n in lists else v for n, v in arguments.items()}
            for i in range(len(first))
        )
        values = list(connection.values(f, rows))
        if hasattr(first, "index"):
            return type(first)(values, index=first.index, name=f.name, dtype=object)
        # Created from Arrow, so that a Series of NULLs or empty lists has the type of the function.
        return import_module("polars").from_arrow(pa.array(values, f.gives)).alias(f.name)

    call.__module__ = "tl_data"
    return described(call, f)


def python_listing(t: Listing) -> Callable[..., Any]:
    """The Python function for a listing: `videos("demo")` returns `Rows`."""

    def call(*args: Any, settings: Settings | None = None, **kwargs: Any) -> Rows:
        batches = connect(settings).batches(t, **bound(t, args, kwargs))
        return Rows((row for batch in batches for row in batch.to_pylist()), t.schema)

    call.__module__ = "tl_data"
    return described(call, t)


def _is_series(value: Any) -> bool:
    return hasattr(value, "to_list") and hasattr(value, "__len__")


def _plain(value: Any) -> Any:
    """The Python value of an element; None for NaN, None, NaT and NA of pandas."""
    if (
        value is None
        or (isinstance(value, float) and value != value)
        or type(value).__name__ in ("NAType", "NaTType")
    ):
        return None
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value
