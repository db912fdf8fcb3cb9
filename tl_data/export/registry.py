"""The tools that an export can write to, by the first word of the address."""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType

from tl_data.errors import SettingsError
from tl_data.export.sink import Sink

#: Scheme -> module below `tl_data.export` and the record's name in it. Modules are imported when used.
SINKS = MappingProxyType(
    {
        "webvtt": ("editing.subtitles", "WEBVTT"),
        "srt": ("editing.subtitles", "SRT"),
        "ttml": ("editing.subtitles", "TTML"),
        "youtube": ("editing.subtitles", "YOUTUBE"),
        "otio": ("editing.otio", "SINK"),
        "fcpxml": ("editing.xml", "FCPXML"),
        "premiere": ("editing.xml", "PREMIERE"),
        "edl": ("editing.edl", "EDL"),
        "markers": ("editing.edl", "MARKERS"),
        "labelstudio": ("editing.labelstudio", "SINK"),
        "lancedb": ("vectors.lancedb", "SINK"),
        "qdrant": ("vectors.qdrant", "SINK"),
        "milvus": ("vectors.milvus", "SINK"),
        "chroma": ("vectors.chroma", "SINK"),
        "pgvector": ("vectors.pgvector", "SINK"),
        "postgresql": ("vectors.pgvector", "SINK"),
        "mongodb": ("vectors.mongodb", "SINK"),
        "pinecone": ("vectors.pinecone", "SINK"),
        "opensearch": ("vectors.opensearch", "OPENSEARCH"),
        "elasticsearch": ("vectors.opensearch", "ELASTICSEARCH"),
        "vespa": ("vectors.vespa", "SINK"),
        "redis": ("vectors.redis", "SINK"),
        "weaviate": ("vectors.weaviate", "SINK"),
        "oracle": ("vectors.oracle", "SINK"),
        "snowflake": ("warehouses.files", "SNOWFLAKE"),
        "bigquery": ("warehouses.files", "BIGQUERY"),
        "databricks": ("warehouses.files", "DATABRICKS"),
        "jsonl": ("text.jsonl", "SINK"),
    }
)


def sink_of(scheme: str) -> Sink:
    """The record of a tool.

    Raises:
        SettingsError: there is no such tool.
    """
    if scheme not in SINKS:
        raise SettingsError(f"no tool {scheme!r}; there are {', '.join(sorted(SINKS))}")
    module, name = SINKS[scheme]
    found: Sink = getattr(import_module(f"tl_data.export.{module}"), name)
    return found
