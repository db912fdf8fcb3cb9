"""Qdrant: a server, or a folder that the client manages without a server."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from tl_data.export.sink import BaseStore, Refused, Shape, Sink, Target, check_same, import_client
from tl_data.export.vectors.payload import COLLECTION, ids, matrix, metric_name, payloads

EXTRA = "qdrant"


class Qdrant(BaseStore):
    """Writes rows to one collection."""

    def __init__(self, target: Target) -> None:
        library, models, errors = import_client(
            EXTRA, "qdrant_client", "qdrant_client.models", "qdrant_client.http.exceptions"
        )
        self.errors = (errors.ApiException, ValueError, OSError, RuntimeError)
        self._models, self._address, self._name = models, target.name, target.collection
        if target.is_path:
            self._client = library.QdrantClient(path=str(target.file))
        else:
            key = target.password or os.environ.get("QDRANT_API_KEY")
            self._client = library.QdrantClient(
                url=target.url(port=6333), api_key=key, check_compatibility=False, timeout=60
            )

    def ensure(self, shape: Shape, *, create: bool) -> bool:
        """Check dimension and metric of the collection, or create it."""
        metric = metric_name(("Cosine", "Dot", "Euclid"), shape.metric)
        if self._client.collection_exists(self._name):
            vectors = self._client.get_collection(self._name).config.params.vectors
            size, distance = getattr(vectors, "size", "of named vectors"), getattr(vectors, "distance", None)
            if shape.dimension is not None:
                check_same("dimension", size, shape.dimension, self._address)
            check_same("metric", str(getattr(distance, "value", distance)), metric, self._address)
            return False
        if create and shape.dimension is not None:
            config = self._models.VectorParams(size=shape.dimension, distance=self._models.Distance(metric))
            self._client.create_collection(self._name, vectors_config=config)
        return True

    def upsert(self, rows: pa.RecordBatch) -> list[Refused]:
        """Send one request. It returns when the points can be searched."""
        batch: Any = self._models.Batch(
            ids=ids(rows), vectors=matrix(rows).tolist(), payloads=payloads(rows, nulls=False)
        )
        self._client.upsert(self._name, points=batch, wait=True)
        return []

    def delete(self, ids: Sequence[str]) -> None:
        """Send one request."""
        if self._client.collection_exists(self._name):
            points = self._models.PointIdsList(points=list(ids))
            self._client.delete(self._name, points_selector=points, wait=True)

    def close(self) -> None:
        """Close the connection, or unlock the folder."""
        self._client.close()


SINK = Sink(
    "qdrant",
    "vectors",
    Qdrant,
    "HOST:6333, or a folder",
    extra=EXTRA,
    options={**COLLECTION, "tls": "true: HTTPS"},
    default_tables=("vectors",),
)
