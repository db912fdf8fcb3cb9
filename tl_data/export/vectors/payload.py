"""Converts Arrow rows to the Python objects that the clients of vector stores accept."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from tl_data.export.sink import Metric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Names of tables and columns that need no quotes in any tool.
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
COLLECTION = {"collection": "name of the collection; default: tl_vectors"}


def ids(rows: pa.RecordBatch) -> list[str]:
    """The ids of the rows: UUIDs as text."""
    row_ids: list[str] = rows.column("id").to_pylist()
    return row_ids


def matrix(rows: pa.RecordBatch) -> NDArray[np.float32]:
    """The vectors as one array, one row per vector. No number becomes a Python object."""
    flat = pc.list_flatten(rows.column("vector")).to_numpy(zero_copy_only=False)
    shaped: NDArray[np.float32] = flat.reshape(rows.num_rows, -1)
    return shaped


def payloads(rows: pa.RecordBatch, *, nulls: bool) -> list[dict[str, Any]]:
    """The columns of each row other than id and vector. Without `nulls`, NULL values are left out."""
    payload_rows: list[dict[str, Any]] = rows.select(
        [n for n in rows.schema.names if n not in ("id", "vector")]
    ).to_pylist()
    if nulls:
        return payload_rows
    return [{n: v for n, v in row.items() if v is not None} for row in payload_rows]


def metric_name(names: tuple[str, str, str], metric: Metric) -> str:
    """The tool's name of a metric. `names` are its names of cosine, dot and l2."""
    return names[("cosine", "dot", "l2").index(metric)]


def type_name(type_: pa.DataType) -> str:
    """The name of a column type: `text`, `number`, `count`, `flag`, `time` or `texts`."""
    if pa.types.is_list(type_):
        return "texts"
    if pa.types.is_timestamp(type_):
        return "time"
    if pa.types.is_integer(type_):
        return "count"
    if pa.types.is_floating(type_):
        return "number"
    return "flag" if pa.types.is_boolean(type_) else "text"
