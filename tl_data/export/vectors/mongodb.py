"""MongoDB: one collection. A vector is stored as a BSON float32 vector, which `$vectorSearch` can index."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from tl_data.errors import SettingsError
from tl_data.export.sink import BaseStore, Refused, Shape, Sink, Target, check_same, import_client
from tl_data.export.vectors.payload import COLLECTION, ids, matrix, payloads

EXTRA = "mongodb"
OPTIONS = ("authSource", "replicaSet", "tls", "directConnection")


class MongoDB(BaseStore):
    """Writes rows to one collection."""

    def __init__(self, target: Target) -> None:
        self._pymongo, self._binary, errors, bson = import_client(
            EXTRA, "pymongo", "bson.binary", "pymongo.errors", "bson.errors"
        )
        self.errors = (errors.PyMongoError, bson.BSONError, OverflowError)
        self._bulk_error = errors.BulkWriteError
        if not target.path or "/" in target.path:
            raise SettingsError("mongodb:// needs a database: mongodb://HOST:27017/DATABASE?collection=NAME")
        scheme = "mongodb+srv" if target.options.get("srv") == "true" else "mongodb"
        address = target.host + (f":{target.port}" if target.port else "")
        options = {n: _option_value(v) for n, v in target.options.items() if n in OPTIONS}
        password = target.password or os.environ.get("MONGODB_PASSWORD", "")
        login = {"username": target.user, "password": password} if target.user else {}
        self._client = self._pymongo.MongoClient(
            f"{scheme}://{address}/", serverSelectionTimeoutMS=20_000, **options, **login
        )
        self._collection = self._client[target.path][target.collection]
        self._address = target.name

    def ensure(self, shape: Shape, *, create: bool) -> bool:
        """Check the dimension of the collection. MongoDB creates a collection with its first row."""
        document = self._collection.find_one({"vector": {"$exists": True}}, {"vector": 1})
        if document is not None and shape.dimension is not None:
            vector = document["vector"]
            length = len(vector.as_vector().data) if isinstance(vector, self._binary.Binary) else len(vector)
            check_same("dimension", length, shape.dimension, self._address)
        return document is None

    def upsert(self, rows: pa.RecordBatch) -> list[Refused]:
        """Send one bulk write. Refused rows do not stop the others."""
        float32 = self._binary.BinaryVectorDtype.FLOAT32
        row_ids, payload_rows = ids(rows), payloads(rows, nulls=True)
        writes = []
        for id_, vector, payload in zip(row_ids, matrix(rows).tolist(), payload_rows, strict=True):
            packed = self._binary.Binary.from_vector(vector, float32)
            document = {"_id": id_, "vector": packed, **payload}
            writes.append(self._pymongo.ReplaceOne({"_id": id_}, document, upsert=True))
        try:
            self._collection.bulk_write(writes, ordered=False)
        except self._bulk_error as error:
            failures = error.details.get("writeErrors", [])
            if not failures:  # the write concern failed, which concerns all rows
                raise
            return [_refused_row(row_ids, payload_rows, failure) for failure in failures]
        return []

    def delete(self, ids: Sequence[str]) -> None:
        """Send one request."""
        self._collection.delete_many({"_id": {"$in": list(ids)}})

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _refused_row(row_ids: list[str], payload_rows: list[dict[str, Any]], failure: dict[str, Any]) -> Refused:
    number = failure["index"]
    text = str(failure.get("errmsg", "refused"))[:500]
    return Refused(
        row_ids[number],
        f"mongodb_{failure.get('code')}",
        text,
        str(payload_rows[number].get("video_id") or ""),
    )


def _option_value(value: str) -> str | bool:
    return value == "true" if value in ("true", "false") else value


SINK = Sink(
    "mongodb",
    "vectors",
    MongoDB,
    "USER:PASSWORD@HOST:27017/DATABASE",
    extra=EXTRA,
    options={
        **COLLECTION,
        **dict.fromkeys(OPTIONS, "as in a MongoDB connection string"),
        "srv": "true: mongodb+srv",
    },
    default_tables=("vectors",),
    reserved=re.compile(r"_id|\$.*"),
)
