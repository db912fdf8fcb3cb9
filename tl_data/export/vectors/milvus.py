"""Milvus: a server, or a file of Milvus Lite. The collection has a typed column for each field."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from tl_data.errors import SchemaMismatch
from tl_data.export.sink import BaseStore, Refused, Shape, Sink, Target, imported, same
from tl_data.export.vectors.payload import COLLECTION, NAME, ids, kind, matrix, named, payloads

EXTRA = "milvus"
TEXT_BYTES = 65_535  # of a VARCHAR


class Milvus(BaseStore):
    """One collection."""

    def __init__(self, target: Target) -> None:
        self._library, exceptions = imported(EXTRA, "pymilvus", "pymilvus.exceptions")
        [grpc] = imported(EXTRA, "grpc")
        self.errors = (exceptions.MilvusException, grpc.RpcError, OSError, ValueError)
        self._where, self._name = target.name, target.collection
        if target.is_path:
            target.file.parent.mkdir(parents=True, exist_ok=True)
            self._client = self._library.MilvusClient(str(target.file))
        else:
            token = f"{target.user}:{target.password}" if target.user else os.environ.get("MILVUS_TOKEN", "")
            self._client = self._library.MilvusClient(target.url(port=19530), token=token)

    def ensure(self, shape: Shape, *, create: bool) -> bool:
        """Check columns, dimension and metric, or create the collection with an index."""
        metric = named(("COSINE", "IP", "L2"), shape.metric)
        types = {f.name: self._type(f.type) for f in shape.fields}
        if self._client.has_collection(self._name):
            there = {f["name"]: f for f in self._client.describe_collection(self._name)["fields"]}
            for name, type_ in types.items():
                found = there[name]["type"].name if name in there else "missing"
                same(f"column {name}", found, type_.name, self._where)
            if "vector" not in there or not there.get("id", {}).get("is_primary"):
                raise SchemaMismatch(f"{self._where}: needs a primary key `id` and a column `vector`")
            if shape.dimension is not None:
                length = int(there["vector"]["params"].get("dim", 0))
                same("dimension", length, shape.dimension, self._where)
            for index in self._client.list_indexes(self._name, field_name="vector"):
                found = self._client.describe_index(self._name, index)["metric_type"]
                same("metric", found, metric, self._where)
            self._client.load_collection(self._name)
            return False
        if create and shape.dimension is not None:
            self._create(shape.dimension, metric, types)
        return True

    def _create(self, dimension: int, metric: str, types: dict[str, Any]) -> None:
        kinds = self._library.DataType
        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", kinds.VARCHAR, is_primary=True, max_length=36)
        schema.add_field("vector", kinds.FLOAT_VECTOR, dim=dimension)
        for name, type_ in types.items():
            more: dict[str, Any] = {"max_length": TEXT_BYTES} if type_ is kinds.VARCHAR else {}
            if type_ is kinds.ARRAY:
                more = {"element_type": kinds.VARCHAR, "max_capacity": 4096, "max_length": 4096}
            schema.add_field(name, type_, nullable=True, **more)
        index = self._client.prepare_index_params()
        index.add_index("vector", index_type="AUTOINDEX", metric_type=metric)
        self._client.create_collection(self._name, schema=schema, index_params=index)

    def _type(self, type_: pa.DataType) -> Any:
        kinds = self._library.DataType
        words = {"number": kinds.DOUBLE, "count": kinds.INT64, "flag": kinds.BOOL, "texts": kinds.ARRAY}
        return words.get(kind(type_), kinds.VARCHAR)

    def upsert(self, rows: pa.RecordBatch) -> list[Refused]:
        """One request."""
        vectors = matrix(rows)
        entities = [
            {"id": id_, "vector": vectors[n], **payload}
            for n, (id_, payload) in enumerate(zip(ids(rows), payloads(rows, nulls=True), strict=True))
        ]
        self._client.upsert(self._name, entities)
        return []

    def delete(self, ids: Sequence[str]) -> None:
        """One request."""
        if self._client.has_collection(self._name):
            self._client.delete(self._name, ids=list(ids))

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


SINK = Sink(
    "milvus",
    "vectors",
    Milvus,
    "HOST:19530, or a file ending in .db",
    extra=EXTRA,
    options={**COLLECTION, "tls": "true: TLS"},
    tables=("vectors",),
    valid_name=NAME,
)
