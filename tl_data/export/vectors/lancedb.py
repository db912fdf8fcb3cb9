"""LanceDB: a table in a folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from tl_data.export.sink import BaseStore, Refused, Shape, Sink, Target, check_same, import_client
from tl_data.export.vectors.payload import COLLECTION, type_name

EXTRA = "lancedb"


class LanceDB(BaseStore):
    """Writes rows to one table."""

    # LanceDB raises built-in exceptions: its Rust errors become RuntimeError, ValueError or OSError.
    errors = (RuntimeError, ValueError, OSError)

    def __init__(self, target: Target) -> None:
        [lancedb] = import_client(EXTRA, "lancedb")
        self._db = lancedb.connect(target.file)
        self._address, self._name, self._table = target.name, target.collection, None

    def ensure(self, shape: Shape, *, create: bool) -> bool:
        """Open and check the table, or create it with vectors of a fixed length."""
        if self._name in _names(self._db):
            self._table = self._db.open_table(self._name)
            self._check(shape)
            return False
        if create and shape.dimension is not None:
            vector = pa.field("vector", pa.list_(pa.float32(), shape.dimension))
            schema = pa.schema([pa.field("id", pa.string(), nullable=False), vector, *shape.schema])
            self._table = self._db.create_table(self._name, schema=schema)
        return True

    def _check(self, shape: Shape) -> None:
        assert self._table is not None
        schema: pa.Schema = self._table.schema
        for name, type_ in {"id": pa.string(), **{f.name: f.type for f in shape.schema}}.items():
            actual = type_name(schema.field(name).type) if name in schema.names else "missing"
            check_same(f"column {name}", actual, type_name(type_), self._address)
        vector = schema.field("vector").type if "vector" in schema.names else pa.null()
        length = vector.list_size if pa.types.is_fixed_size_list(vector) else f"of type {vector}"
        if shape.dimension is not None:
            check_same("dimension", length, shape.dimension, self._address)
        for index in self._table.list_indices():
            stats = self._table.index_stats(index.name) if "vector" in index.columns else None
            if stats is not None and stats.distance_type is not None:
                check_same("metric of the index", stats.distance_type.lower(), shape.metric, self._address)

    def upsert(self, rows: pa.RecordBatch) -> list[Refused]:
        """Merge the rows by id in one commit."""
        assert self._table is not None
        merge = self._table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
        merge.execute(pa.Table.from_batches([rows]))
        return []

    def delete(self, ids: Sequence[str]) -> None:
        """Delete the rows by id in one commit."""
        if self._table is not None:
            self._table.delete(f"id IN ({', '.join(repr(i) for i in ids)})")

    def finish(self) -> None:
        """Merge small fragments, and add the new rows to the indexes of the table."""
        if self._table is not None:
            self._table.optimize()


def _names(db: Any) -> list[str]:
    names, token = [], None
    while True:
        page = db.list_tables(page_token=token, limit=1000)
        names += page.tables
        token = page.page_token
        if not token:
            return names


SINK = Sink(
    "lancedb",
    "vectors",
    LanceDB,
    "a folder",
    extra=EXTRA,
    options=COLLECTION,
    default_tables=("vectors",),
    reserved=re.compile(r"_distance|_score|_relevance_score|_rowid|_rowaddr"),
    batch_rows=10_000,
)
