"""Weaviate: one collection with typed properties. Rows are sent over gRPC, other requests over HTTP."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from tl_data.export.sink import BaseStore, Refused, Shape, Sink, Target, check_same, import_client
from tl_data.export.vectors.payload import ids, matrix, metric_name, payloads, type_name

EXTRA = "weaviate"
TYPES = {"number": "NUMBER", "count": "INT", "flag": "BOOL", "time": "DATE", "texts": "TEXT_ARRAY"}


class Weaviate(BaseStore):
    """Writes rows to one collection."""

    def __init__(self, target: Target) -> None:
        library, self._config, data, auth, exceptions, init = import_client(
            EXTRA,
            *("weaviate", "weaviate.classes.config", "weaviate.classes.data", "weaviate.classes.init"),
            *("weaviate.exceptions", "weaviate.config"),
        )
        [grpc] = import_client(EXTRA, "grpc")
        self._object = data.DataObject
        self.errors = (exceptions.WeaviateBaseError, grpc.RpcError, OSError)
        secure = target.options.get("tls") == "true"
        key = target.password or os.environ.get("WEAVIATE_API_KEY")
        self._client = library.connect_to_custom(
            http_host=target.host,
            http_port=target.port or 8080,
            http_secure=secure,
            grpc_host=target.host,
            grpc_port=int(target.options.get("grpc_port", "50051")),
            grpc_secure=secure,
            auth_credentials=auth.Auth.api_key(key) if key else None,
            additional_config=init.AdditionalConfig(timeout=(20, 120)),
        )
        self._address = target.name
        name = target.options.get("collection", "TlVectors")
        self._name = name[:1].upper() + name[1:]  # the server capitalizes names

    def ensure(self, shape: Shape, *, create: bool) -> bool:
        """Check properties, metric and dimension of the collection, or create it."""
        metric = metric_name(("cosine", "dot", "l2-squared"), shape.metric)
        if self._client.collections.exists(self._name):
            collection = self._client.collections.get(self._name)
            config = collection.config.get()
            properties = {p.name: p.data_type.name for p in config.properties}
            for field in shape.schema:
                expected = TYPES.get(type_name(field.type), "TEXT")
                check_same(
                    f"property {field.name}", properties.get(field.name, "missing"), expected, self._address
                )
            index = next(iter((config.vector_config or {}).values()), config).vector_index_config
            check_same("metric", str(getattr(index.distance_metric, "value", "")), metric, self._address)
            sample = next(iter(collection.query.fetch_objects(limit=1, include_vector=True).objects), None)
            if sample is not None and shape.dimension is not None:
                vector = sample.vector
                length = len(next(iter(vector.values()), ()) if isinstance(vector, dict) else vector)
                check_same("dimension", length, shape.dimension, self._address)
            return False
        if create and shape.dimension is not None:
            self._create(shape, metric)
        return True

    def _create(self, shape: Shape, metric: str) -> None:
        configure, kinds = self._config.Configure, self._config.DataType
        distance = self._config.VectorDistances(metric)
        index = configure.VectorIndex.hnsw(distance_metric=distance)
        properties = [
            self._config.Property(name=f.name, data_type=getattr(kinds, TYPES.get(type_name(f.type), "TEXT")))
            for f in shape.schema
        ]
        config = configure.Vectors.self_provided(vector_index_config=index)
        self._client.collections.create(self._name, properties=properties, vector_config=config)

    def upsert(self, rows: pa.RecordBatch) -> list[Refused]:
        """Send one request, which replaces objects with the same id. The answer lists the refused ones."""
        row_ids, payload_rows = ids(rows), payloads(rows, nulls=False)
        objects = [
            self._object(properties=payload, uuid=id_, vector=vector)
            for id_, vector, payload in zip(row_ids, matrix(rows).tolist(), payload_rows, strict=True)
        ]
        answer = self._client.collections.get(self._name).data.insert_many(objects)
        return [
            Refused(
                row_ids[n],
                "refused_by_target",
                str(error.message)[:500],
                str(payload_rows[n].get("video_id") or ""),
            )
            for n, error in answer.errors.items()
        ]

    def delete(self, ids: Sequence[str]) -> None:
        """Send one request."""
        if self._client.collections.exists(self._name):
            from weaviate.classes.query import Filter

            data: Any = self._client.collections.get(self._name).data
            data.delete_many(where=Filter.by_id().contains_any(list(ids)))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


SINK = Sink(
    "weaviate",
    "vectors",
    Weaviate,
    "HOST:8080",
    extra=EXTRA,
    options={
        "collection": "name of the collection; default: TlVectors",
        "grpc_port": "gRPC port; default: 50051",
        "tls": "true: HTTPS",
    },
    default_tables=("vectors",),
    reserved=re.compile(r"id|_id|_additional|vector"),
    valid_name=re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,230}"),
)
