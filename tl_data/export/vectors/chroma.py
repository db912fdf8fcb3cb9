"""Chroma: a server, or a folder. The words of a clip are the document, everything else its metadata."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from tl_data.export.sink import BaseStore, Refused, Shape, Sink, Target, imported, same
from tl_data.export.vectors.payload import COLLECTION, ids, matrix, named, payloads

EXTRA = "chroma"
DOCUMENT = "transcription"


class Chroma(BaseStore):
    """One collection."""

    def __init__(self, target: Target) -> None:
        library, errors, config = imported(EXTRA, "chromadb", "chromadb.errors", "chromadb.config")
        [httpx] = imported(EXTRA, "httpx")
        self.errors = (errors.ChromaError, httpx.HTTPError, ValueError, TypeError, RuntimeError, OSError)
        self._not_found = (errors.NotFoundError, ValueError)
        settings = config.Settings(anonymized_telemetry=False)
        self._where, self._name, self._collection = target.name, target.collection, None
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
        """Check the collection's metric and the length of a vector in it, or create the collection."""
        space = named(("cosine", "ip", "l2"), shape.metric)
        if self._name in {getattr(c, "name", c) for c in self._client.list_collections()}:
            self._collection = found = self._client.get_collection(self._name, embedding_function=None)
            hnsw = found.configuration.get("hnsw") or found.configuration.get("spann") or {}
            same("metric", hnsw.get("space", "l2"), space, self._where)
            one = found.get(limit=1, include=["embeddings"])["embeddings"]
            if shape.dimension is not None and one is not None and len(one):
                same("dimension", len(one[0]), shape.dimension, self._where)
            return False
        if create and shape.dimension is not None:
            self._collection = self._client.create_collection(
                self._name, configuration={"hnsw": {"space": space}}, embedding_function=None
            )
        return True

    def upsert(self, rows: pa.RecordBatch) -> list[Refused]:
        """One request. Metadata of an existing row is merged by Chroma: NULL removes what was there."""
        assert self._collection is not None
        payload_rows = payloads(rows, nulls=True)
        documents = [row.pop(DOCUMENT, None) or "" for row in payload_rows]
        self._collection.upsert(
            ids=ids(rows), embeddings=matrix(rows), metadatas=payload_rows, documents=documents
        )
        return []

    def delete(self, ids: Sequence[str]) -> None:
        """One request; ids that are not there are left out by a look before."""
        if self._collection is not None:
            there: dict[str, Any] = self._collection.get(ids=list(ids), include=[])
            if there["ids"]:
                self._collection.delete(ids=there["ids"])


SINK = Sink(
    "chroma",
    "vectors",
    Chroma,
    "HOST:8000, or a folder",
    extra=EXTRA,
    options={**COLLECTION, "tls": "true: HTTPS"},
    tables=("vectors",),
    reserved=re.compile(r"chroma:.*"),
)
