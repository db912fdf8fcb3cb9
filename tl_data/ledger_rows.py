"""The ledger as a table: one row a call."""

from __future__ import annotations

from typing import Any

import orjson
import pyarrow as pa

from tl_data.records import Entry

#: What `export()` gives.
EXPORT = pa.schema(
    {
        "key": pa.string(),
        "state": pa.string(),
        "operation": pa.string(),
        "content": pa.string(),
        "content_key": pa.string(),
        "model": pa.string(),
        "params": pa.string(),
        "attempt": pa.int32(),
        "at": pa.timestamp("us", tz="UTC"),
        "task_id": pa.string(),
        "video_minutes": pa.float64(),
        "error_class": pa.string(),
        "error_code": pa.string(),
        "error_message": pa.string(),
        "retryable": pa.bool_(),
        "owner": pa.string(),
        "perhaps_paid_twice": pa.bool_(),
    }
)


def row_of(entry: Entry) -> dict[str, Any]:
    """An entry as a row of the schema `EXPORT`."""
    failure = entry.failure
    return {
        "key": entry.key,
        "state": entry.state,
        "operation": entry.operation,
        "content": entry.content,
        "content_key": entry.content_key,
        "model": entry.model,
        "params": orjson.dumps(entry.params, option=orjson.OPT_SORT_KEYS).decode(),
        "attempt": entry.attempt,
        "at": int(entry.at * 1_000_000),
        "task_id": entry.task_id,
        "video_minutes": entry.video_minutes,
        "error_class": failure.kind if failure else None,
        "error_code": failure.code if failure else None,
        "error_message": failure.message if failure else None,
        "retryable": failure.retryable if failure else None,
        "owner": entry.owner,
        "perhaps_paid_twice": entry.doubt is not None,
    }
