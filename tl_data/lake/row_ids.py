"""Ids and digests of rows, by which exports and indexes recognize the rows that they have copied."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from tl_data.errors import SchemaMismatch
from tl_data.lake.schemas import TABLES

#: The UUID namespace of the ids. It must not change: copies outside of the lake contain the ids.
NAMESPACE = uuid.UUID("0d5dbb8e-4a6c-5f4e-9b0a-7c2f1f1c5f0e")
#: The columns that identify a row within its group (`LakeSchema.by`).
WITHIN: dict[str, tuple[str, ...]] = {
    "clips": ("clip_number",),
    "chapters": ("chapter_number",),
    "highlights": ("highlight_number",),
    "annotations": ("annotation_number",),
    "vectors": ("start_sec", "end_sec", "embedding_scope", "embedding_option"),
    "alerts": ("start_sec", "end_sec"),
}


def keys_of(table: str) -> tuple[str, ...]:
    """The columns that identify a row of a table."""
    return (*TABLES[table].by, *WITHIN.get(table, ()))


def row_id(table: str, values: Sequence[Any]) -> str:
    """The id of a row: a UUID computed from the table's name and the values of `keys_of(table)`."""
    return str(uuid.uuid5(NAMESPACE, orjson.dumps([table, *values]).decode()))


def row_ids(table: str, rows: pa.RecordBatch) -> list[str]:
    """The ids of rows.

    Raises:
        SchemaMismatch: a column that identifies rows is missing.
    """
    if missing := [k for k in keys_of(table) if k not in rows.schema.names]:
        raise SchemaMismatch(f"table {table}: column {missing[0]} identifies rows and is missing")
    keys = [rows.column(name).to_pylist() for name in keys_of(table)]
    return [row_id(table, values) for values in zip(*keys, strict=True)]


def digests(rows: pa.RecordBatch, style: str = "") -> list[bytes]:
    """An 8-byte digest of each row together with the style in which it is exported."""
    plain = [n for n in rows.schema.names if n not in ("id", "vector")]
    values = rows.select(plain).to_pylist()
    vectors = _raw(rows.column("vector")) if "vector" in rows.schema.names else [b""] * rows.num_rows
    return [
        hashlib.blake2b(orjson.dumps([style, row], default=str) + vector, digest_size=8).digest()
        for row, vector in zip(values, vectors, strict=True)
    ]


def _raw(vectors: pa.Array) -> list[bytes]:
    """The bytes of each vector, as float32."""
    flat = pc.list_flatten(vectors).cast(pa.float32())
    data = memoryview(flat.to_numpy(zero_copy_only=False).tobytes())
    result, offset = [], 0
    for length in pc.list_value_length(vectors).to_pylist():
        result.append(bytes(data[offset * 4 : (offset + (length or 0)) * 4]))
        offset += length or 0
    return result
