"""OpenSearch and Elasticsearch: one index of vectors, with text fields for full-text search."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from tl_data.export.sink import BaseStore, Refused, Shape, Sink, Target, check_same, import_client
from tl_data.export.vectors.payload import ids, matrix, metric_name, payloads, type_name

WORDS = ("title", "transcription")  # fields with full-text search
KEYWORD = {"type": "keyword", "ignore_above": 8191}  # Lucene refuses terms above 32,766 bytes
TYPES = {"number": "double", "count": "long", "flag": "boolean", "time": "date"}
OPTIONS = {"collection": "name of the index; default: tl_vectors", "tls": "true: HTTPS"}
RESERVED = re.compile(r"_.*|.*\..*")  # metadata fields of the index, and paths of nested objects


class _Index(BaseStore):
    """Writes rows to one index, in the way that OpenSearch and Elasticsearch share."""

    def __init__(self, target: Target, client: Any) -> None:
        self._client, self._address, self._name = client, target.name, target.collection

    def _vector_field(self, shape: Shape) -> dict[str, Any]:
        """The mapping of the vector field."""
        raise NotImplementedError

    def _dimension_and_metric(self, field: dict[str, Any]) -> tuple[Any, Any]:
        """The dimension and the tool's name of the metric in the mapping of a vector field."""
        raise NotImplementedError

    def _settings(self) -> dict[str, Any]:
        return {}

    def _bulk(self, lines: list[dict[str, Any]]) -> Any:
        raise NotImplementedError

    def ensure(self, shape: Shape, *, create: bool) -> bool:
        """Check the mapping, or create the index."""
        vector = self._vector_field(shape)
        if self._client.indices.exists(index=self._name):
            mapping = next(iter(self._client.indices.get_mapping(index=self._name).values()))
            properties = mapping["mappings"].get("properties", {})
            for name, field in self._fields(shape).items():
                actual = properties.get(name, {}).get("type", "missing")
                check_same(f"field {name}", actual, field["type"], self._address)
            actual = properties.get("vector", {}).get("type", "missing")
            check_same("field vector", actual, vector["type"], self._address)
            length, metric = self._dimension_and_metric(properties["vector"])
            if shape.dimension is not None:
                check_same("dimension", length, shape.dimension, self._address)
                check_same("metric", metric, self._dimension_and_metric(vector)[1], self._address)
            return False
        if create and shape.dimension is not None:
            properties = {"vector": vector, **self._fields(shape)}
            body = {"mappings": {"dynamic": "strict", "properties": properties}, **self._settings()}
            self._client.indices.create(index=self._name, body=body)
        return True

    def _fields(self, shape: Shape) -> dict[str, dict[str, Any]]:
        fields: dict[str, dict[str, Any]] = {}
        for field in shape.schema:
            if field.name in WORDS:
                fields[field.name] = {"type": "text"}
            else:
                type_ = TYPES.get(type_name(field.type))
                fields[field.name] = {"type": type_} if type_ else dict(KEYWORD)
        return fields

    def upsert(self, rows: pa.RecordBatch) -> list[Refused]:
        """Send one bulk request. The answer has a result per row."""
        row_ids, payload_rows = ids(rows), payloads(rows, nulls=False)
        lines: list[dict[str, Any]] = []
        for id_, vector, payload in zip(row_ids, matrix(rows).tolist(), payload_rows, strict=True):
            lines += [{"index": {"_index": self._name, "_id": id_}}, {"vector": vector, **payload}]
        answer = self._bulk(lines)
        refused = []
        for number, item in enumerate(answer["items"]):
            result = item["index"]
            if result["status"] in (429, 503):
                raise ConnectionError(f"the server is busy: {result.get('error')}")
            if result["status"] >= 300:
                failure = result.get("error", {})
                text = f"{failure.get('type')}: {failure.get('reason')}"[:500]
                video = str(payload_rows[number].get("video_id") or "")
                refused.append(Refused(row_ids[number], f"http_{result['status']}", text, video))
        return refused

    def delete(self, ids: Sequence[str]) -> None:
        """Send one bulk request."""
        if self._client.indices.exists(index=self._name):
            self._bulk([{"delete": {"_index": self._name, "_id": id_}} for id_ in ids])

    def finish(self) -> None:
        """Make the rows visible to searches."""
        if self._client.indices.exists(index=self._name):
            self._client.indices.refresh(index=self._name)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


class OpenSearch(_Index):
    """Writes rows to an index with a `knn_vector` field."""

    def __init__(self, target: Target) -> None:
        library, exceptions = import_client("opensearch", "opensearchpy", "opensearchpy.exceptions")
        self.errors = (exceptions.OpenSearchException, OSError)
        password = target.password or os.environ.get("OPENSEARCH_PASSWORD", "")
        login = (target.user, password) if target.user else None
        client = library.OpenSearch(target.url(port=9200), http_auth=login, timeout=60, max_retries=0)
        super().__init__(target, client)

    def _vector_field(self, shape: Shape) -> dict[str, Any]:
        space = metric_name(("cosinesimil", "innerproduct", "l2"), shape.metric)
        method = {"name": "hnsw", "engine": "lucene", "space_type": space}
        return {"type": "knn_vector", "dimension": shape.dimension, "method": method}

    def _dimension_and_metric(self, field: dict[str, Any]) -> tuple[Any, Any]:
        space = field.get("method", {}).get("space_type") or field.get("space_type", "l2")
        return field.get("dimension"), space

    def _settings(self) -> dict[str, Any]:
        return {"settings": {"index": {"knn": True}}}

    def _bulk(self, lines: list[dict[str, Any]]) -> Any:
        return self._client.bulk(body=lines)


class Elasticsearch(_Index):
    """Writes rows to an index with a `dense_vector` field."""

    def __init__(self, target: Target) -> None:
        library, transport = import_client("elasticsearch", "elasticsearch", "elastic_transport")
        self.errors = (library.ApiError, transport.TransportError, OSError)
        key = os.environ.get("ELASTIC_API_KEY")
        login: dict[str, Any] = {"api_key": key} if key else {}
        if target.user:
            password = target.password or os.environ.get("ELASTIC_PASSWORD", "")
            login = {"basic_auth": (target.user, password)}
        client = library.Elasticsearch(
            target.url(port=9200), request_timeout=60, max_retries=0, retry_on_timeout=False, **login
        )
        super().__init__(target, client)

    def _vector_field(self, shape: Shape) -> dict[str, Any]:
        # The similarity `dot_product` of Elasticsearch accepts only vectors of length 1.
        similarity = metric_name(("cosine", "max_inner_product", "l2_norm"), shape.metric)
        return {"type": "dense_vector", "dims": shape.dimension, "index": True, "similarity": similarity}

    def _dimension_and_metric(self, field: dict[str, Any]) -> tuple[Any, Any]:
        return field.get("dims"), field.get("similarity", "cosine")

    def _bulk(self, lines: list[dict[str, Any]]) -> Any:
        return self._client.bulk(operations=lines)


OPENSEARCH = Sink(
    "opensearch",
    "vectors",
    OpenSearch,
    "USER:PASSWORD@HOST:9200",
    extra="opensearch",
    options=OPTIONS,
    default_tables=("vectors",),
    reserved=RESERVED,
)
ELASTICSEARCH = Sink(
    "elasticsearch",
    "vectors",
    Elasticsearch,
    "USER:PASSWORD@HOST:9200",
    extra="elasticsearch",
    options=OPTIONS,
    default_tables=("vectors",),
    reserved=RESERVED,
)
