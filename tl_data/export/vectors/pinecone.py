"""Pinecone: one namespace of an index. The API key comes from `PINECONE_API_KEY`."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from tl_data.errors import SettingsError
from tl_data.export.sink import BaseStore, Refused, Shape, Sink, Target, check_same, import_client
from tl_data.export.vectors.payload import ids, matrix, metric_name, payloads

EXTRA = "pinecone"
OPTIONS = {
    "namespace": "namespace of the index; default: the default namespace",
    "cloud": "cloud of a new index; default: aws",
    "region": "region of a new index; default: us-east-1",
    "host": "URL of another control plane, such as http://localhost:5080",
}


class Pinecone(BaseStore):
    """Writes rows to one namespace."""

    def __init__(self, target: Target) -> None:
        self._library, httpx = import_client(EXTRA, "pinecone", "httpx")
        self.errors = (self._library.PineconeError, httpx.HTTPError, OSError)
        key = target.password or os.environ.get("PINECONE_API_KEY")
        if not key:
            raise SettingsError("PINECONE_API_KEY is not set")
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,44}", target.location.rpartition("@")[2]):
            raise SettingsError(
                f"index {target.location!r}: Pinecone allows at most 45 lowercase letters, digits and dashes"
            )
        self._host = target.options.get("host")
        self._client = self._library.Pinecone(api_key=key, host=self._host)
        self._name, self._address = target.host, target.name
        self._namespace = target.options.get("namespace", "")
        self._cloud = target.options.get("cloud", "aws")
        self._region = target.options.get("region", "us-east-1")
        self._index: Any = None

    def ensure(self, shape: Shape, *, create: bool) -> bool:
        """Check dimension and metric of the index, or create a serverless one and wait until it is ready."""
        metric = metric_name(("cosine", "dotproduct", "euclidean"), shape.metric)
        is_new = not self._client.has_index(self._name)
        if is_new and not (create and shape.dimension is not None):
            return True
        if is_new:
            spec = self._library.ServerlessSpec(cloud=self._cloud, region=self._region)
            self._client.create_index(name=self._name, dimension=shape.dimension, metric=metric, spec=spec)
        index = self._client.describe_index(self._name)
        if shape.dimension is not None:
            check_same("dimension", index.dimension, shape.dimension, self._address)
        check_same("metric", str(index.metric), metric, self._address)
        host = str(index.host).removeprefix("https://").removeprefix("http://")
        is_emulator = self._host is not None and self._host.startswith("http://")
        self._index = self._client.Index(host=f"{'http' if is_emulator else 'https'}://{host}")
        return is_new

    def upsert(self, rows: pa.RecordBatch) -> list[Refused]:
        """Send one request. Metadata of Pinecone cannot be NULL, so NULL values are left out."""
        vectors = [
            {"id": id_, "values": values, "metadata": metadata}
            for id_, values, metadata in zip(
                ids(rows), matrix(rows).tolist(), payloads(rows, nulls=False), strict=True
            )
        ]
        self._index.upsert(vectors=vectors, namespace=self._namespace)
        return []

    def delete(self, ids: Sequence[str]) -> None:
        """Send one request."""
        if self._index is not None:
            self._index.delete(ids=list(ids), namespace=self._namespace)

    def close(self) -> None:
        """Close the connections."""
        if self._index is not None:
            self._index.close()
        self._client.close()


SINK = Sink(
    "pinecone",
    "vectors",
    Pinecone,
    "the name of the index",
    extra=EXTRA,
    options=OPTIONS,
    default_tables=("vectors",),
    reserved=re.compile(r"\$.*|"),
    batch_rows=100,
)
