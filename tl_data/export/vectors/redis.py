"""Redis with its query engine: one hash per row (key `INDEX:ID`), and an HNSW index over the hashes."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from tl_data.export.sink import BaseStore, Refused, Shape, Sink, Target, check_same, import_client
from tl_data.export.vectors.payload import ids, matrix, metric_name, payloads, type_name

EXTRA = "redis"
WORDS = ("title", "transcription")


class Redis(BaseStore):
    """Writes rows to the hashes of one index."""

    def __init__(self, target: Target) -> None:
        self._library, exceptions = import_client(EXTRA, "redis", "redis.exceptions")
        self.errors = (exceptions.RedisError, OSError)
        self._response_error = exceptions.ResponseError
        # Errors that concern the whole server, not one row.
        self._server_errors = (
            exceptions.OutOfMemoryError,
            exceptions.ReadOnlyError,
            exceptions.BusyLoadingError,
        )
        self._client = self._library.Redis(
            host=target.host,
            port=target.port or 6379,
            username=target.user or None,
            password=target.password or os.environ.get("REDIS_PASSWORD"),
            ssl=target.options.get("tls") == "true",
            protocol=2,
        )
        self._address, self._name = target.name, target.collection

    def ensure(self, shape: Shape, *, create: bool) -> bool:
        """Check the index, or create it."""
        metric = metric_name(("COSINE", "IP", "L2"), shape.metric)
        try:
            reply = self._client.execute_command("FT.INFO", self._name)
        except self._response_error as error:
            if not re.search(r"(?i)unknown index|no such index|not found", str(error)):
                raise
            if create and shape.dimension is not None:
                self._client.execute_command("FT.CREATE", *self._index_arguments(shape, metric))
            return True
        info = _pairs(reply)
        for attribute in info.get("attributes", []):
            field = _pairs(attribute)
            if field.get("attribute") == "vector":
                if shape.dimension is not None:
                    check_same("dimension", int(field["dim"]), shape.dimension, self._address)
                check_same("metric", field["distance_metric"], metric, self._address)
                return False
        check_same("field vector", "missing", "VECTOR", self._address)
        return False

    def _index_arguments(self, shape: Shape, metric: str) -> list[str]:
        command = [self._name, "ON", "HASH", "PREFIX", "1", f"{self._name}:", "SCHEMA"]
        command += ["vector", "VECTOR", "HNSW", "6", "TYPE", "FLOAT32", "DIM", str(shape.dimension)]
        command += ["DISTANCE_METRIC", metric]
        for field in shape.schema:
            if field.name in WORDS:
                command += [field.name, "TEXT"]
            elif type_name(field.type) in ("number", "count"):
                command += [field.name, "NUMERIC", "SORTABLE"]
            else:
                command += [field.name, "TAG", "SEPARATOR", "\x1f"]
        return command

    def upsert(self, rows: pa.RecordBatch) -> list[Refused]:
        """Send one pipeline. Each row replaces all fields of its earlier version."""
        row_ids, payload_rows, vectors = ids(rows), payloads(rows, nulls=False), matrix(rows)
        refused = []
        with self._client.pipeline(transaction=False) as pipe:
            for number, id_ in enumerate(row_ids):
                key = f"{self._name}:{id_}"
                mapping = {n: _field_value(v) for n, v in payload_rows[number].items()}
                pipe.delete(key)
                pipe.hset(key, mapping={"vector": vectors[number].tobytes(), **mapping})
            answers = pipe.execute(raise_on_error=False)
        for number, (id_, answer) in enumerate(zip(row_ids, answers[1::2], strict=True)):
            if isinstance(answer, Exception):
                if isinstance(answer, self._server_errors):
                    raise answer
                video = str(payload_rows[number].get("video_id") or "")
                refused.append(Refused(id_, "refused_by_target", str(answer)[:500], video))
        return refused

    def delete(self, ids: Sequence[str]) -> None:
        """Send one command."""
        self._client.delete(*(f"{self._name}:{id_}" for id_ in ids))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _field_value(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    return value if isinstance(value, str | int | float) else str(value)


def _pairs(flat: Any) -> dict[str, Any]:
    """A reply as a dictionary with text keys. Redis sends a map, or a flat list of names and values."""
    items = list(flat.items()) if isinstance(flat, dict) else list(zip(flat[::2], flat[1::2], strict=False))
    return {_text(n): _text(v) if isinstance(v, bytes) else v for n, v in items}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


SINK = Sink(
    "redis",
    "vectors",
    Redis,
    "USER:PASSWORD@HOST:6379",
    extra=EXTRA,
    options={"collection": "name of the index; default: tl_vectors", "tls": "true: TLS"},
    default_tables=("vectors",),
    reserved=re.compile(r"__.*"),
)
