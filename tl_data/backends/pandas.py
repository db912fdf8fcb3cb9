"""Python and pandas: the catalog as functions. A Series among the arguments gives a Series of values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa

from tl_data.catalog import Function, Table, bound, described
from tl_data.connection import connect
from tl_data.display import Rows
from tl_data.errors import SchemaMismatch
from tl_data.settings import Settings


def python_function(f: Function) -> Callable[..., Any]:
    """The function for Python: `search("demo", "a red car")`, or with Series as columns.

    Scalars give one value, as plain Python objects (a table function: a list of dicts). With a Series among
    them, all Series must share one index; the answer is a Series of values with that index, and each
    distinct row is called once.
    """

    def call(*args: Any, settings: Settings | None = None, **kwargs: Any) -> Any:
        given = bound(f, args, kwargs)
        connection = connect(settings)
        columns = {name: value for name, value in given.items() if _is_series(value)}
        if not columns:
            value = connection.call(f, **given)
            return Rows(value) if f.is_table and value is not None else value
        first = next(iter(columns.values()))
        for name, column in columns.items():
            if not column.index.equals(first.index):
                raise SchemaMismatch(f"{f.name}: the index of {name} is not that of the other columns")
        rows = (
            {n: _plain(v.iloc[i]) if n in columns else v for n, v in given.items()} for i in range(len(first))
        )
        values = list(connection.values(f, rows))
        return type(first)(values, index=first.index, name=f.name, dtype=object)

    call.__module__ = "tl_data"
    return described(call, f)


def python_table(t: Table) -> Callable[..., Any]:
    """The listing for Python: `videos("demo")` gives a pyarrow Table."""

    def call(*args: Any, settings: Settings | None = None, **kwargs: Any) -> pa.Table:
        return pa.Table.from_batches(connect(settings).batches(t, **bound(t, args, kwargs)), t.schema)

    call.__module__ = "tl_data"
    return described(call, t)


def _is_series(value: Any) -> bool:
    return hasattr(value, "iloc") and hasattr(value, "index")


def _plain(value: Any) -> Any:
    """pandas writes a missing text as NaN, None or NA; all mean NULL."""
    if value is None or (isinstance(value, float) and value != value) or type(value).__name__ == "NAType":
        return None
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value
