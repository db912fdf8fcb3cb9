"""Milvus: a server, or a file of Milvus Lite. The collection has one typed column per field."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from tl_data.errors import SchemaMismatch
from tl_data.export.sink import BaseStore, Refused, Shape, Sink, Target, check_same, import_client
from tl_data.export.vectors.payload import COLLECTION, NAME, ids, matrix, metric_name, payloads, type_name

EXTRA = "milvus"
TEXT_BYTES = 65_535  # the longest VARCHAR of Milvus


class Milvus(BaseStore):
    """Writes rows to one collection."""

    def __init__(self, target: Target) -> None:
        self._library, exceptions = import_client(EXTRA, "pymilvus", "pymilvus.exceptions")
        [grpc] = import_client(EXTRA, "grpc")
        self.errors = (exceptions.MilvusException, grpc.RpcError, OSError, ValueError)
        self._address, self._name = target.name, target.collection
        if target.is_path:
            target.file.parent.mkdir(parents=True, exist_ok=True)
            self._client = self._library.MilvusClient(str(target.file))
        else:
            token = f"{target.user}:{target.password}" if target.user else os.environ.get("MILVUS_TOKEN", "")
            self._client = self._library.MilvusClient(target.url(port=19530), token=token)

    def ensure(self, shape: Shape, *, create: bool) -> bool:
        """Check columns, dimension and metric, or create the collection with an index."""
        metric = metric_name(("COSINE", "IP", "L2"), shape.metric)
        types = {f.name: self._type(f.type) for f in shape.schema}
        if self._client.has_collection(self._name):
            columns = {f["name"]: f for f in self._client.describe_collection(self._name)["fields"]}
            for name, type_ in types.items():
                actual = columns[name]["type"].name if name in columns else "missing"
                check_same(f"column {name}", actual, type_.name, self._address)
            if "vector" not in columns or not columns.get("id", {}).get("is_primary"):
                raise SchemaMismatch(
                    f"{self._address}: the collection has no primary key `id` or no column `vector`"
                )
            if shape.dimension is not None:
                length = int(columns["vector"]["params"].get("dim", 0))
                check_same("dimension", length, shape.dimension, self._address)
            for index in self._client.list_indexes(self._name, field_name="vector"):
                actual = self._client.describe_index(self._name, index)["metric_type"]
                check_same("metric", actual, metric, self._address)
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
            limits: dict[str, Any] = {"max_length": TEXT_BYTES} if type_ is kinds.VARCHAR else {}
            if type_ is kinds.ARRAY:
                limits = {"element_type": kinds.VARCHAR, "max_capacity": 4096, "max_length": 4096}
            schema.add_field(name, type_, nullable=True, **limits)
        index = self._client.prepare_index_params()
        index.add_index("vector", index_type="AUTOINDEX", metric_type=metric)
        self._client.create_collection(self._name, schema=schema, index_params=index)

    def _type(self, type_: pa.DataType) -> Any:
        kinds = self._library.DataType
        types = {"number": kinds.DOUBLE, "count": kinds.INT64, "flag": kinds.BOOL, "texts": kinds.ARRAY}
        return types.get(type_name(type_), kinds.VARCHAR)

    def upsert(self, rows: pa.RecordBatch) -> list[Refused]:
        """Send one request."""
        vectors = matrix(rows)
        entities = [
            {"id": id_, "vector": vectors[n], **payload}
            for n, (id_, payload) in enumerate(zip(ids(rows), payloads(rows, nulls=True), strict=True))
        ]
        self._client.upsert(self._name, entities)
        return []

    def delete(self, ids: Sequence[str]) -> None:
        """Send one request."""
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
    default_tables=("vectors",),
    valid_name=NAME,
)
