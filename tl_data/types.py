"""The Arrow types of the arguments and results of the catalog's functions.

DuckDB and Spark translate Arrow types themselves, so the package declares each type once. Times are seconds
from the start of the video as float64; sizes are bytes; vectors are float32. The API's `start` and `end` are
called `start_sec` and `end_sec` in all types, because END is reserved in SQL.
"""

from __future__ import annotations

import pyarrow as pa

TEXT = pa.string()
NUMBER = pa.float64()
COUNT = pa.int64()
FLAG = pa.bool_()
JSON = pa.string()  # text that contains JSON: no Arrow type becomes a JSON type in both DuckDB and Spark
TIME = pa.timestamp("us", tz="UTC")
TEXTS = pa.list_(TEXT)
VECTOR = pa.list_(pa.float32())

VIDEO = pa.struct(
    [
        ("video_id", TEXT),
        ("index_id", TEXT),
        ("task_id", TEXT),
        ("status", TEXT),
        ("duration_sec", NUMBER),
        ("width", COUNT),
        ("height", COUNT),
        ("fps", NUMBER),
        ("size_bytes", COUNT),
        ("asset_id", TEXT),
    ]
)

HITS = pa.list_(
    pa.struct(
        [
            ("video_id", TEXT),
            ("start_sec", NUMBER),
            ("end_sec", NUMBER),
            ("score", NUMBER),
            ("rank", COUNT),
            ("confidence", TEXT),
            ("thumbnail_url", TEXT),
            ("transcription", TEXT),
            ("user_metadata", JSON),
        ]
    )
)

CLIPS = pa.list_(
    pa.struct(
        [
            ("clip_number", COUNT),
            ("start_sec", NUMBER),
            ("end_sec", NUMBER),
            ("transcription", TEXT),
            ("thumbnail_url", TEXT),
            ("vector", VECTOR),
        ]
    )
)

CHAPTERS = pa.list_(
    pa.struct(
        [
            ("chapter_number", COUNT),
            ("start_sec", NUMBER),
            ("end_sec", NUMBER),
            ("title", TEXT),
            ("summary", TEXT),
        ]
    )
)

HIGHLIGHTS = pa.list_(
    pa.struct(
        [
            ("start_sec", NUMBER),
            ("end_sec", NUMBER),
            ("highlight", TEXT),
            ("summary", TEXT),
        ]
    )
)

TRANSCRIPT = pa.list_(
    pa.struct([("start_sec", NUMBER), ("end_sec", NUMBER), ("text", TEXT), ("speaker", TEXT)])
)

SEGMENTS = pa.list_(
    pa.struct([("definition", TEXT), ("start_sec", NUMBER), ("end_sec", NUMBER), ("fields", JSON)])
)

GIST = pa.struct([("title", TEXT), ("topics", TEXTS), ("hashtags", TEXTS)])

VECTORS = pa.list_(
    pa.struct(
        [
            ("start_sec", NUMBER),
            ("end_sec", NUMBER),
            ("embedding_scope", TEXT),
            ("embedding_option", TEXT),
            ("vector", VECTOR),
        ]
    )
)

ERROR = pa.struct(
    [
        ("class", TEXT),
        ("code", TEXT),
        ("http_status", COUNT),
        ("message", TEXT),
        ("retryable", FLAG),
        ("request_id", TEXT),
    ]
)

USAGE = pa.struct(
    [
        ("calls", COUNT),
        ("video_minutes", NUMBER),
        ("input_tokens", COUNT),
        ("output_tokens", COUNT),
        ("reused", COUNT),
    ]
)

PROVENANCE = pa.struct(
    [
        ("model", TEXT),
        ("api_version", TEXT),
        ("task_id", TEXT),
        ("content_key", TEXT),
        ("at", TIME),
    ]
)


def outcome_of(value: pa.DataType) -> pa.StructType:
    """The result type of a function's `try_` form. If a call fails, `error` is set and `value` is NULL."""
    return pa.struct([("value", value), ("error", ERROR), ("usage", USAGE), ("provenance", PROVENANCE)])
