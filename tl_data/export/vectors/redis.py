"""Redis with its query engine: one hash a row, below the name of the index, and an HNSW index over them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from tl_data.export.sink import BaseStore, Refused, Shape, Sink, Target, imported, same
from tl_data.export.vectors.payload import ids, kind, matrix, named, payloads

EXTRA = "redis"
WORDS = ("title", "transcription")


class Redis(BaseStore):
    """The hashes `NAME:ID`, and the index `NAME`."""

    def __init__(self, target: Target) -> None:
        self._library, exceptions = imported(EXTRA, "redis", "redis.exceptions")
        self.errors = (exceptions.RedisError, OSError)
        self._wrong = exceptions.ResponseError
        # Of the server as a whole, not of one row.
        self._server = (exceptions.OutOfMemoryError, exceptions.ReadOnlyError, exceptions.BusyLoadingError)
        self._client = self._library.Redis(
            host=target.host,
            port=target.port or 6379,
            username=target.user or None,
            password=target.password or None,
            ssl=target.options.get("tls") == "true",
            protocol=2,
        )
        self._where, self._name = target.name, target.collection

    def ensure(self, shape: Shape, *, create: bool) -> bool:
        """Check the index, or create it."""
        metric = named(("COSINE", "IP", "L2"), shape.metric)
        try:
            found = self._client.execute_command("FT.INFO", self._name)
        except self._wrong as error:
            if not re.search(r"(?i)unknown index|no such index|not found", str(error)):
                raise
            if create and shape.dimension is not None:
                self._client.execute_command("FT.CREATE", *self._index(shape, metric))
            return True
        there = _pairs(found)
        for attribute in there.get("attributes", []):
            field = _pairs(attribute)
            if field.get("attribute") == "vector":
                if shape.dimension is not None:
                    same("dimension", int(field["dim"]), shape.dimension, self._where)
                same("metric", field["distance_metric"], metric, self._where)
                return False
        same("field vector", "missing", "VECTOR", self._where)
        return False

    def _index(self, shape: Shape, metric: str) -> list[str]:
        command = [self._name, "ON", "HASH", "PREFIX", "1", f"{self._name}:", "SCHEMA"]
        command += ["vector", "VECTOR", "HNSW", "6", "TYPE", "FLOAT32", "DIM", str(shape.dimension)]
        command += ["DISTANCE_METRIC", metric]
        for field in shape.fields:
            if field.name in WORDS:
                command += [field.name, "TEXT"]
            elif kind(field.type) in ("number", "count"):
                command += [field.name, "NUMERIC", "SORTABLE"]
            else:
                command += [field.name, "TAG", "SEPARATOR", "\x1f"]
        return command

    def upsert(self, rows: pa.RecordBatch) -> list[Refused]:
        """One round trip. A row takes the place of its former self as a whole."""
        found, payload_rows, vectors = ids(rows), payloads(rows, nulls=False), matrix(rows)
        refused = []
        with self._client.pipeline(transaction=False) as pipe:
            for number, id_ in enumerate(found):
                key = f"{self._name}:{id_}"
                mapping = {n: _plain(v) for n, v in payload_rows[number].items()}
                pipe.delete(key)
                pipe.hset(key, mapping={"vector": vectors[number].tobytes(), **mapping})
            answers = pipe.execute(raise_on_error=False)
        for number, (id_, answer) in enumerate(zip(found, answers[1::2], strict=True)):
            if isinstance(answer, Exception):
                if isinstance(answer, self._server):
                    raise answer
                of = str(payload_rows[number].get("video_id") or "")
                refused.append(Refused(id_, "refused_by_target", str(answer)[:500], of))
        return refused

    def delete(self, ids: Sequence[str]) -> None:
        """One command."""
        self._client.delete(*(f"{self._name}:{id_}" for id_ in ids))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _plain(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    return value if isinstance(value, str | int | float) else str(value)


def _pairs(flat: Any) -> dict[str, Any]:
    """A reply of names and values in turn, or a map, with names as text."""
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
    options={"collection": "name of the index; tl_vectors if it is not given", "tls": "true: TLS"},
    tables=("vectors",),
    reserved=re.compile(r"__.*"),
)
