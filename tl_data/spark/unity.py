"""The handlers of the batch Python UDFs of Unity Catalog, which `sql/unity_catalog.sql` creates.

A UDF of Unity Catalog runs in a sandbox, without the session, the environment and the files of the caller. So
every call has the settings among its arguments, and answers are JSON text, because not every nested type may
leave a sandbox. The SQL functions around the UDFs add the settings and parse the answers.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa

from tl_data.catalog import UDF_SETTINGS, Function
from tl_data.connection import Connection, connect
from tl_data.functions import FUNCTIONS
from tl_data.runtime.pool import outcome_row

if TYPE_CHECKING:
    import pandas as pd


def answers(name: str, batches: Iterator[Sequence[pd.Series]]) -> Iterator[pd.Series]:
    """The answers of a function for batches of columns, as JSON text.

    The guard counts one stream of batches. Streams of other sandboxes have guards of their own.

    Args:
        name: name in the catalog, such as filter.
        batches: columns of the settings in `catalog.UDF_SETTINGS`, then of the function's arguments; lists as
            JSON text.

    Raises:
        RowFailed: a row failed, and `attempt` is false.
        BudgetReached: the batch could cost more than the budget allows; nothing of it was sent.
    """
    import pandas as pd

    function, statement = FUNCTIONS[name], f"unity/{uuid.uuid4().hex}"
    for columns in batches:
        settings, arguments = columns[: len(UDF_SETTINGS)], columns[len(UDF_SETTINGS) :]
        rows = [
            {p.name: _value(p.type, value) for p, value in zip(function.parameters, values, strict=True)}
            for values in zip(*(column.tolist() for column in arguments), strict=True)
        ]
        texts = _texts(function, settings, rows, statement) if rows else []
        yield pd.Series(texts, dtype=object)


def _texts(
    function: Function, settings: Sequence[pd.Series], rows: list[dict[str, Any]], statement: str
) -> list[str]:
    attempt, connection = _connection(settings)
    with connection.guarded(function, rows, statement) as admission:
        if attempt:
            outcomes = connection.map(function, rows, admission=admission)
            return [orjson.dumps(outcome_row(o)).decode() for o in outcomes]
        values = connection.values(function, rows, admission=admission)
        return [orjson.dumps({"value": value}).decode() for value in values]


def _connection(settings: Sequence[pd.Series]) -> tuple[bool, Connection]:
    """Whether failures are outcomes, and the connection for the settings of a batch, which are constants."""
    values = (None if _is_null(column.iloc[0]) else column.iloc[0] for column in settings)
    given = {name: value for (name, _), value in zip(UDF_SETTINGS, values, strict=True) if value is not None}
    attempt = bool(given.pop("attempt", False))
    if "budget" in given:
        given["sql_budget"] = float(given.pop("budget"))
    return attempt, connect(**given)


def _value(kind: pa.DataType, value: Any) -> Any:
    """A value of a column as a plain Python object."""
    if _is_null(value):
        return None
    if pa.types.is_list(kind):
        return orjson.loads(value)
    if pa.types.is_integer(kind):
        return int(value)  # a column with NULL has floats
    return bool(value) if pa.types.is_boolean(kind) else value


def _is_null(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
