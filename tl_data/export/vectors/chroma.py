"""Chroma: a server, or a folder. The transcription is the document; the other columns are its metadata."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from tl_data.export.sink import BaseStore, Refused, Shape, Sink, Target, check_same, import_client
from tl_data.export.vectors.payload import COLLECTION, ids, matrix, metric_name, payloads

EXTRA = "chroma"
DOCUMENT = "transcription"


class Chroma(BaseStore):
    """Writes rows to one collection."""

    def __init__(self, target: Target) -> None:
        library, errors, config = import_client(EXTRA, "chromadb", "chromadb.errors", "chromadb.config")
        [httpx] = import_client(EXTRA, "httpx")
        self.errors = (errors.ChromaError, httpx.HTTPError, ValueError, TypeError, RuntimeError, OSError)
        self._not_found = (errors.NotFoundError, ValueError)
        settings = config.Settings(anonymized_telemetry=False)
        self._address, self._name, self._collection = target.name, target.collection, None
        if target.is_path:
            self._client = library.PersistentClient(str(target.file), settings=settings)
        else:
            token = target.password or os.environ.get("CHROMA_API_KEY", "")
            self._client = library.HttpClient(
                target.host,
                target.port or 8000,
                ssl=target.options.get("tls") == "true",
                headers={"X-Chroma-Token": token} if token else None,
                settings=settings,
            )

    def ensure(self, shape: Shape, *, create: bool) -> bool:
        """Check the metric and the dimension of the collection, or create it."""
        space = metric_name(("cosine", "ip", "l2"), shape.metric)
        if self._name in {getattr(c, "name", c) for c in self._client.list_collections()}:
            collection = self._client.get_collection(self._name, embedding_function=None)
            self._collection = collection
            hnsw = collection.configuration.get("hnsw") or collection.configuration.get("spann") or {}
            check_same("metric", hnsw.get("space", "l2"), space, self._address)
            vectors = collection.get(limit=1, include=["embeddings"])["embeddings"]
            if shape.dimension is not None and vectors is not None and len(vectors):
                check_same("dimension", len(vectors[0]), shape.dimension, self._address)
            return False
        if create and shape.dimension is not None:
            self._collection = self._client.create_collection(
                self._name, configuration={"hnsw": {"space": space}}, embedding_function=None
            )
        return True

    def upsert(self, rows: pa.RecordBatch) -> list[Refused]:
        """Send one request. Chroma merges the metadata of an existing row; NULL removes the old value."""
        assert self._collection is not None
        payload_rows = payloads(rows, nulls=True)
        documents = [row.pop(DOCUMENT, None) or "" for row in payload_rows]
        self._collection.upsert(
            ids=ids(rows), embeddings=matrix(rows), metadatas=payload_rows, documents=documents
        )
        return []

    def delete(self, ids: Sequence[str]) -> None:
        """Look up which ids exist, and delete those in one request."""
        if self._collection is not None:
            existing: dict[str, Any] = self._collection.get(ids=list(ids), include=[])
            if existing["ids"]:
                self._collection.delete(ids=existing["ids"])


SINK = Sink(
    "chroma",
    "vectors",
    Chroma,
    "HOST:8000, or a folder",
    extra=EXTRA,
    options={**COLLECTION, "tls": "true: HTTPS"},
    default_tables=("vectors",),
    reserved=re.compile(r"chroma:.*"),
)
