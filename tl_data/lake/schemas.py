"""The tables of a lake, declared once: their Arrow schemas and the columns a merge goes by.

`by` names the columns that identify what a commit replaces as a whole: all clips of one video,
one summary of a video for one prompt, the one row of a source key. A commit never leaves half of
such a group.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from tl_data.types import COUNT, FLAG, NUMBER, TEXT, TEXTS, TIME, VECTOR


@dataclass(frozen=True)
class LakeSchema:
    """One table: its name, its columns, and what a merge replaces."""

    name: str
    schema: pa.Schema
    by: tuple[str, ...]
    doc: str


VIDEOS = LakeSchema(
    "videos",
    pa.schema(
        [
            ("source_key", TEXT),  # the source's key column; without one, the canonical URL
            ("url", TEXT),  # as the source says it
            ("canonical_url", TEXT),  # without the parameters that only sign it
            ("content_key", TEXT),  # changes when the file behind the URL changes
            ("video_id", TEXT),
            ("index_id", TEXT),
            ("task_id", TEXT),
            ("status", TEXT),
            ("duration_sec", NUMBER),
            ("width", COUNT),
            ("height", COUNT),
            ("fps", NUMBER),
            ("size_bytes", COUNT),
            ("model", TEXT),
            ("made", TEXTS),  # what the other tables hold for this video: `clips`, `summaries:<prompt>`, ...
            ("indexed_at", TIME),
        ]
    ),
    ("source_key",),
    "one row a source row that was indexed: from the source's key to the video's id",
)

CLIPS = LakeSchema(
    "clips",
    pa.schema(
        [
            ("video_id", TEXT),
            ("clip_number", COUNT),
            ("start_sec", NUMBER),
            ("end_sec", NUMBER),
            ("transcription", TEXT),
            ("thumbnail_url", TEXT),
            ("model", TEXT),
        ]
    ),
    ("video_id",),
    "the clips a video was cut into, with the words spoken in each",
)

SUMMARIES = LakeSchema(
    "summaries",
    pa.schema(
        [
            ("video_id", TEXT),
            ("prompt", TEXT),
            ("summary", TEXT),
            ("title", TEXT),
            ("topics", TEXTS),
            ("hashtags", TEXTS),
            ("model", TEXT),
            ("at", TIME),
        ]
    ),
    ("video_id", "prompt"),
    "one row a video and prompt: the summary, and the video's title, topics and hashtags",
)

CHAPTERS = LakeSchema(
    "chapters",
    pa.schema(
        [
            ("video_id", TEXT),
            ("chapter_number", COUNT),
            ("start_sec", NUMBER),
            ("end_sec", NUMBER),
            ("title", TEXT),
            ("summary", TEXT),
            ("model", TEXT),
        ]
    ),
    ("video_id",),
    "the chapters of a video",
)

VECTORS = LakeSchema(
    "vectors",
    pa.schema(
        [
            ("video_id", TEXT),
            ("start_sec", NUMBER),
            ("end_sec", NUMBER),
            ("embedding_scope", TEXT),
            ("embedding_option", TEXT),
            ("model", TEXT),
            ("dimension", COUNT),
            ("vector", VECTOR),
        ]
    ),
    ("video_id",),
    "the vectors of a video: one model and one dimension in the whole table",
)

ERRORS = LakeSchema(
    "errors",
    pa.schema(
        [
            ("source_key", TEXT),
            ("url", TEXT),
            ("class", TEXT),
            ("code", TEXT),
            ("message", TEXT),
            ("retryable", FLAG),
            ("http_status", COUNT),
            ("request_id", TEXT),
            ("attempt", COUNT),
            ("content_key", TEXT),
            ("at", TIME),
        ]
    ),
    ("source_key",),
    "one row a video that was refused or failed; it leaves when the video is in",
)

ALERTS = LakeSchema(
    "alerts",
    pa.schema(
        [
            ("question", TEXT),
            ("content_key", TEXT),  # as in `videos`: a video that is embedded anew keeps it
            ("video_id", TEXT),
            ("source_key", TEXT),
            ("url", TEXT),
            ("start_sec", NUMBER),
            ("end_sec", NUMBER),
            ("confidence", TEXT),
            ("rank", COUNT),
            ("transcription", TEXT),
            ("model", TEXT),
            ("run_id", TEXT),
            ("at", TIME),
        ]
    ),
    ("question", "content_key"),
    "one row a clip that matched a saved question when its video was new",
)

ASKED = LakeSchema(
    "asked",
    pa.schema([("content_key", TEXT), ("questions", TEXTS), ("at", TIME)]),
    ("content_key",),
    "one row a video: the saved questions that it has been asked",
)

RUNS = LakeSchema(
    "runs",
    pa.schema(
        [
            ("run_id", TEXT),
            ("job", TEXT),
            ("status", TEXT),  # running, done, budget, failures, interrupted
            ("rows", COUNT),
            ("distinct", COUNT),
            ("unchanged", COUNT),
            ("reused", COUNT),
            ("submitted", COUNT),
            ("failed", COUNT),
            ("video_minutes", NUMBER),
            ("calls", COUNT),
            ("input_tokens", COUNT),
            ("output_tokens", COUNT),
            ("price", NUMBER),
            ("currency", TEXT),
            ("paid_twice", COUNT),
            ("model", TEXT),
            ("started_at", TIME),
            ("ended_at", TIME),
        ]
    ),
    ("run_id",),
    "one row a run: what it did, what it cost, and how it ended",
)

TABLES: dict[str, LakeSchema] = {
    t.name: t for t in (VIDEOS, CLIPS, SUMMARIES, CHAPTERS, VECTORS, ALERTS, ASKED, ERRORS, RUNS)
}
