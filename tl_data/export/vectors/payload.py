"""Rows of Arrow as the clients of vector stores take them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from tl_data.export.sink import Metric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Names of tables and columns that need no quotes anywhere.
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
COLLECTION = {"collection": "name of the collection; tl_vectors if it is not given"}


def ids(rows: pa.RecordBatch) -> list[str]:
    """The ids, UUIDs as text."""
    found: list[str] = rows.column("id").to_pylist()
    return found


def matrix(rows: pa.RecordBatch) -> NDArray[np.float32]:
    """The vectors as rows of one array, without a Python object a number."""
    flat = pc.list_flatten(rows.column("vector")).to_numpy(zero_copy_only=False)
    shaped: NDArray[np.float32] = flat.reshape(rows.num_rows, -1)
    return shaped


def payloads(rows: pa.RecordBatch, *, nulls: bool) -> list[dict[str, Any]]:
    """What a row says beside its id and vector; without `nulls`, columns that are NULL are left out."""
    plain = rows.select([n for n in rows.schema.names if n not in ("id", "vector")]).to_pylist()
    return plain if nulls else [{n: v for n, v in row.items() if v is not None} for row in plain]


def named(names: tuple[str, str, str], metric: Metric) -> str:
    """A tool's own word for a metric; `names` are those of cosine, dot and l2."""
    return names[("cosine", "dot", "l2").index(metric)]


def kind(type_: pa.DataType) -> str:
    """A type of the payload in one word: text, number, count, flag, time or texts."""
    if pa.types.is_list(type_):
        return "texts"
    if pa.types.is_timestamp(type_):
        return "time"
    if pa.types.is_integer(type_):
        return "count"
    if pa.types.is_floating(type_):
        return "number"
    return "flag" if pa.types.is_boolean(type_) else "text"
