"""Vespa: writes documents through the document API, and the schema for the application package.

The document API cannot create a schema. With `?schema_folder=./app/schemas` the first export writes `NAME.sd`
to that folder, then sends the documents. Vespa refuses each of them until the schema is deployed with the
application. Deploy it and export again: refused documents are sent again.

Of the texts, titles and transcriptions get a BM25 index, for hybrid search. Other texts are attributes.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from tl_data.errors import SchemaMismatch
from tl_data.export.sink import BaseStore, Refused, Shape, Sink, Target, import_client
from tl_data.export.vectors.payload import ids, matrix, metric_name, payloads, type_name

EXTRA = "vespa"
FULL_TEXT_FIELDS = ("title", "transcription")
FIELD_TYPES = {
    "number": "double",
    "count": "long",
    "flag": "bool",
    "time": "string",
    "texts": "array<string>",
}
VALID_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")  # of fields, as in Vespa's reference of schemas


class Vespa(BaseStore):
    """Writes the documents of one schema."""

    def __init__(self, target: Target) -> None:
        [application] = import_client(EXTRA, "vespa.application")
        httpx, requests = import_client(EXTRA, "httpx", "requests")
        self.errors = (httpx.HTTPError, requests.RequestException, OSError, _VespaError)
        self._app = application.Vespa(target.url(port=8080))
        self._address, self._name = target.name, target.collection
        self._namespace = target.options.get("namespace", "tl_data")
        self._folder = target.options.get("schema_folder")

    def ensure(self, shape: Shape, *, create: bool) -> bool:
        """Write the schema file if `schema_folder` is set, or compare it with the existing one."""
        if self._folder is None or shape.dimension is None:
            return False
        file = Path(self._folder).expanduser() / f"{self._name}.sd"
        text = schema_text(self._name, shape)
        if file.exists():
            if file.read_text(encoding="utf-8") != text:
                raise SchemaMismatch(
                    f"{file} is not the schema that this export needs: dimension, metric or a field differs, "
                    "or it was edited. Nothing was sent. Choose another collection; or remove the file, "
                    "export, deploy the new one and export again."
                )
            return False
        if create:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        return True

    def upsert(self, rows: pa.RecordBatch) -> list[Refused]:
        """Send one put per document, several at a time. Each has an answer of its own."""
        payload_rows = payloads(rows, nulls=False)
        documents = [
            {"id": id_, "fields": {"id": id_, "vector": {"values": vector}, **payload}}
            for id_, vector, payload in zip(ids(rows), matrix(rows).tolist(), payload_rows, strict=True)
        ]
        videos = {d["id"]: str(p.get("video_id") or "") for d, p in zip(documents, payload_rows, strict=True)}
        return [
            Refused(id_, f"http_{status}", text, videos.get(id_, ""))
            for id_, status, text in self._feed(documents, "feed")
        ]

    def delete(self, ids: Sequence[str]) -> None:
        """Send one delete per document."""
        if failed := self._feed([{"id": id_} for id_ in ids], "delete"):
            raise _VespaError(failed[0][1], failed[0][2])

    def _feed(self, documents: list[dict[str, Any]], operation: str) -> list[tuple[str, int, str]]:
        failed: list[tuple[str, int, str]] = []
        unavailable = threading.Event()

        def record_failure(response: Any, id_: str) -> None:
            status = int(response.get_status_code())
            if status >= 300:
                failed.append((id_, status, str(response.get_json())[:500]))
            if _concerns_all(status):
                unavailable.set()

        def until_unavailable() -> Iterator[dict[str, Any]]:
            # The client would send each of the remaining documents several times, with pauses.
            for document in documents:
                if unavailable.is_set():
                    return
                yield document

        self._app.feed_iterable(
            until_unavailable(),
            schema=self._name,
            namespace=self._namespace,
            operation_type=operation,
            callback=record_failure,
            max_queue_size=16,
            num_retries_429=1,  # the runner sends the batch again, too
        )
        for _, status, text in failed:
            if _concerns_all(status):
                raise _VespaError(status, text)
        return failed


def _concerns_all(status: int) -> bool:
    """Whether a status concerns all documents: credentials, load, space, or the server itself."""
    return status in (401, 403, 429, 507) or status >= 500


class _VespaError(Exception):
    """An error status that the client returns instead of raising."""

    def __init__(self, status_code: int, text: str) -> None:
        super().__init__(text)
        self.status_code = status_code


def schema_text(name: str, shape: Shape) -> str:
    """The schema of the documents: attributes for filters, HNSW for vectors, BM25 for `FULL_TEXT_FIELDS`.

    The rank profile `hybrid` adds the closeness of the vector and the BM25 scores.
    """
    metric = metric_name(("angular", "dotproduct", "euclidean"), shape.metric)
    tensor = f"tensor<float>(x[{shape.dimension}])"
    fields = ["field id type string {\n      indexing: summary | attribute\n    }"]
    for field in shape.schema:
        type_ = FIELD_TYPES.get(type_name(field.type), "string")
        body = (
            "index | summary\n      index: enable-bm25"
            if field.name in FULL_TEXT_FIELDS
            else "attribute | summary"
        )
        fields.append(f"field {field.name} type {type_} {{\n      indexing: {body}\n    }}")
    fields.append(
        f"field vector type {tensor} {{\n      indexing: attribute | index\n"
        f"      attribute {{\n        distance-metric: {metric}\n      }}\n    }}"
    )
    full_text = [n for n in FULL_TEXT_FIELDS if n in shape.schema.names]
    bm25 = " + ".join(f"bm25({n})" for n in full_text)
    parts = ["document " + name + " {\n    " + "\n    ".join(fields) + "\n  }"]
    if full_text:
        parts.append(f"fieldset default {{\n    fields: {', '.join(full_text)}\n  }}")
    score = f"closeness(field, vector){' + ' + bm25 if bm25 else ''}"
    parts.append(
        f"rank-profile hybrid {{\n    inputs {{\n      query(q) {tensor}\n    }}\n"
        f"    first-phase {{\n      expression: {score}\n    }}\n  }}"
    )
    return f"schema {name} {{\n  " + "\n  ".join(parts) + "\n}\n"


SINK = Sink(
    "vespa",
    "vectors",
    Vespa,
    "HOST:8080",
    extra=EXTRA,
    options={
        "collection": "name of the schema; default: tl_vectors",
        "namespace": "namespace of the documents; default: tl_data",
        "schema_folder": "folder where NAME.sd is written",
        "tls": "true: HTTPS",
    },
    default_tables=("vectors",),
    valid_name=VALID_NAME,
)
