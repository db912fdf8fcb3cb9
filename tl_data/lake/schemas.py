"""The schemas of the tables of a lake: columns, descriptions, and the columns that identify a group.

`LakeSchema.by` names the columns whose values identify a group of rows. A commit replaces whole groups: all
clips of one video, the summary of a video and prompt, the row of a source key.

The description of a column is stored as its comment in Delta and as field metadata in Parquet.

A table of the previous release is readable, and the first write migrates it. Until then `added` columns are
NULL, `renamed` columns are read under their former names, and columns of `former` types are cast. After a
renaming, both columns are written for one release, with the same values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from tl_data.types import COUNT, FLAG, NUMBER, TEXT, TEXTS, TIME, VECTOR

MONEY = pa.decimal128(18, 9)


@dataclass(frozen=True)
class LakeSchema:
    """The schema of one table."""

    name: str
    schema: pa.Schema
    by: tuple[str, ...]  # the columns that identify a group of rows
    doc: str
    added: frozenset[str] = frozenset()  # columns that tables of the previous release lack
    #: New name -> former name of a column; both are written.
    renamed: Mapping[str, str] = field(default_factory=dict, hash=False)
    #: Column -> column from which a NULL is filled, as "video:<value>".
    derived: Mapping[str, str] = field(default_factory=dict, hash=False)
    #: Column -> its type in the previous release.
    former: Mapping[str, pa.DataType] = field(default_factory=dict, hash=False)

    def description(self, column: str) -> str:
        """The description of a column."""
        return ((self.schema.field(column).metadata or {}).get(b"comment") or b"").decode()


def _columns(*described: tuple[str, pa.DataType, str]) -> pa.Schema:
    return pa.schema(
        [pa.field(name, kind, metadata={"comment": comment}) for name, kind, comment in described]
    )


def _former(name: str, kind: pa.DataType, now: str) -> tuple[str, pa.DataType, str]:
    return (name, kind, f"Former name of {now}, with the same values; removed in the next release")


_VIDEO_ID = ("video_id", TEXT, "The platform's id of the indexed video; NULL if it is not indexed")
_MODEL = ("model", TEXT, "The model that created the content of the row")
_START = ("start_sec", NUMBER, "Start in seconds from the beginning of the video")
_END = ("end_sec", NUMBER, "End in seconds from the beginning of the video")
_CONTENT = ("content_key", TEXT, "Identifies the content: changes when the file behind the URL changes")
_CUT = (
    "finish_reason",
    TEXT,
    "Why the text ended: stop, or length if the limit of tokens cut it off",
)

_TEXT_OF = (
    "content_key",
    TEXT,
    "Identifies the content, as in videos, also without an index; video:<video_id> in rows of "
    "the previous release",
)

VIDEOS = LakeSchema(
    "videos",
    _columns(
        ("source_key", TEXT, "The source's key column; without one, the canonical URL"),
        ("url", TEXT, "The URL or path as the source has it"),
        ("canonical_url", TEXT, "The URL without the parameters of a signature"),
        _CONTENT,
        _VIDEO_ID,
        ("index_id", TEXT, "The index of the video"),
        ("task_id", TEXT, "The indexing task"),
        ("status", TEXT, "State on the platform"),
        ("duration_sec", NUMBER, "Length in seconds"),
        ("width", COUNT, "Width in pixels"),
        ("height", COUNT, "Height in pixels"),
        ("fps", NUMBER, "Frames per second"),
        ("size_bytes", COUNT, "Size of the file in bytes"),
        ("model", TEXT, "The model that indexed the video"),
        ("made", TEXTS, "The outputs of this video in other tables: clips, vectors, summaries:<prompt>, ..."),
        (
            "indexed_at",
            TIME,
            "When the video was added to the tables or last got outputs; a refresh of its vectors keeps it",
        ),
        ("asset_id", TEXT, "The platform's id of the uploaded file; NULL without one"),
        ("job", TEXT, "The job whose source lists the video"),
        ("removed_at", TIME, "When the source stopped listing the video (removed = mark); else NULL"),
    ),
    ("source_key",),
    "one row per indexed source row: maps the source's key to the video's id",
    added=frozenset({"asset_id", "job", "removed_at"}),
)

CLIPS = LakeSchema(
    "clips",
    _columns(
        _VIDEO_ID,
        ("clip_number", COUNT, "Position in the video, from 0"),
        _START,
        _END,
        ("transcription", TEXT, "The words spoken in the clip"),
        (
            "thumbnail_url",
            TEXT,
            "NULL: links to thumbnails are signed for an hour. tl_clips(video_id) gives a fresh one",
        ),
        _MODEL,
    ),
    ("video_id",),
    "the clips of a video, with their speech",
)

SUMMARIES = LakeSchema(
    "summaries",
    _columns(
        _VIDEO_ID,
        ("prompt", TEXT, "The prompt of the summary; empty for a plain summary"),
        ("summary", TEXT, "The summary"),
        ("title", TEXT, "The title of the video"),
        ("topics", TEXTS, "The topics of the video"),
        ("hashtags", TEXTS, "Hashtags for the video"),
        _MODEL,
        _former("at", TIME, "made_at"),
        ("made_at", TIME, "When the summary was created"),
        _CUT,
        _TEXT_OF,
    ),
    ("content_key", "prompt"),
    "one row per video and prompt: the summary, and the video's title, topics and hashtags",
    added=frozenset({"made_at", "finish_reason", "content_key"}),
    derived={"content_key": "video_id"},
    renamed={"made_at": "at"},
)

CHAPTERS = LakeSchema(
    "chapters",
    _columns(
        _VIDEO_ID,
        ("chapter_number", COUNT, "Position in the video, from 0"),
        _START,
        _END,
        ("title", TEXT, "The title of the chapter"),
        ("summary", TEXT, "The summary of the chapter"),
        _MODEL,
        _CUT,
        _TEXT_OF,
    ),
    ("content_key",),
    "the chapters of a video",
    added=frozenset({"finish_reason", "content_key"}),
    derived={"content_key": "video_id"},
)

HIGHLIGHTS = LakeSchema(
    "highlights",
    _columns(
        _VIDEO_ID,
        ("highlight_number", COUNT, "Position in the video, from 0"),
        _START,
        _END,
        ("highlight", TEXT, "The title of the highlight"),
        ("summary", TEXT, "What happens in it"),
        _MODEL,
        _CUT,
        _TEXT_OF,
    ),
    ("content_key",),
    "the most notable parts of a video",
)

ANNOTATIONS = LakeSchema(
    "annotations",
    _columns(
        _VIDEO_ID,
        ("annotation_number", COUNT, "Position in the answer, from 0"),
        ("kind", TEXT, "text: words on the screen; object: a thing in the picture"),
        _START,
        _END,
        ("label", TEXT, "The words on the screen, or the name of the object"),
        _MODEL,
        _CUT,
        _TEXT_OF,
    ),
    ("content_key",),
    "what is seen in a video, and when: words on the screen and objects",
)

VECTORS = LakeSchema(
    "vectors",
    _columns(
        _VIDEO_ID,
        _START,
        _END,
        ("embedding_scope", TEXT, "The scope of the vector: clip or video"),
        ("embedding_option", TEXT, "The kind of evidence: visual, audio, transcription"),
        _MODEL,
        ("dimension", COUNT, "Number of values in the vector"),
        ("vector", VECTOR, "The embedding; compare it with vectors of the same model only"),
    ),
    ("video_id",),
    "the vectors of a video: one model and one dimension in the whole table",
)

EVIDENCE = LakeSchema(
    "evidence",
    _columns(
        ("video_id", TEXT, "Identifies the content: the first 24 hex digits of its SHA-256"),
        _CONTENT,
        ("sha256", TEXT, "SHA-256 of the file"),
        _MODEL,
        ("form", COUNT, "Version of the evidence"),
        ("evidence", pa.binary(), "What was recognised in the video, with times, as compressed JSON"),
        ("made_at", TIME, "When the video was analyzed"),
    ),
    ("video_id",),
    "what the embedded engine recognised in a video, when it ran on a Spark cluster",
)

FRAMES = LakeSchema(
    "frames",
    _columns(
        _VIDEO_ID,
        ("sec", NUMBER, "Time of the picture in seconds from the beginning of the video"),
        ("kind", TEXT, "poster: the picture that represents the video; moment: any other picture"),
        ("jpeg", pa.binary(), "The picture as JPEG"),
        ("width", COUNT, "Width in pixels"),
        ("height", COUNT, "Height in pixels"),
    ),
    ("video_id",),
    "small pictures of a video, available without its source",
)

ERRORS = LakeSchema(
    "errors",
    _columns(
        ("source_key", TEXT, "The source's key, as in videos"),
        ("url", TEXT, "The URL or path as the source has it"),
        ("class", TEXT, "The class of the error"),
        ("code", TEXT, "The code of the error"),
        ("message", TEXT, "What happened, and the next step"),
        ("retryable", FLAG, "Whether the next run tries again"),
        ("http_status", COUNT, "HTTP status of the response"),
        ("request_id", TEXT, "The platform's id of the request"),
        ("attempt", COUNT, "Number of consecutive runs in which the video or output failed"),
        _CONTENT,
        _former("at", TIME, "failed_at"),
        ("output", TEXT, "The output that failed, as in videos.made; NULL if the video itself failed"),
        ("failed_at", TIME, "When the video or output failed last"),
    ),
    ("source_key",),
    "one row per failed or refused video or output; removed when it succeeds",
    added=frozenset({"output", "failed_at"}),
    renamed={"failed_at": "at"},
)

ALERTS = LakeSchema(
    "alerts",
    _columns(
        ("question", TEXT, "The saved question"),
        _CONTENT,
        _VIDEO_ID,
        ("source_key", TEXT, "The source's key, as in videos"),
        ("url", TEXT, "The URL or path as the source has it"),
        _START,
        _END,
        ("confidence", TEXT, "high, medium or low; NULL from models that only rank"),
        ("rank", COUNT, "Position among the hits of the search, from 1"),
        ("transcription", TEXT, "The words spoken in the clip"),
        _MODEL,
        ("run_id", TEXT, "The run that found the clip"),
        _former("at", TIME, "found_at"),
        ("found_at", TIME, "When the clip was found"),
        ("answer", TEXT, "With verify = true: the answer of the check; else NULL"),
    ),
    ("question", "content_key"),
    "one row per clip that matched a saved question; overlapping clips are reported once",
    added=frozenset({"found_at", "answer"}),
    renamed={"found_at": "at"},
)

ASKED = LakeSchema(
    "asked",
    _columns(
        _CONTENT,
        ("questions", TEXTS, "The saved questions that were run on the video"),
        _former("at", TIME, "asked_at"),
        ("asked_at", TIME, "When the questions were run last"),
    ),
    ("content_key",),
    "one row per video: the saved questions that were run on it",
    added=frozenset({"asked_at"}),
    renamed={"asked_at": "at"},
)

RUNS = LakeSchema(
    "runs",
    _columns(
        ("run_id", TEXT, "Identifies the run"),
        ("job", TEXT, "The name of the job"),
        (
            "status",
            TEXT,
            "running, done, partial (some videos failed), budget, failures, stopped, interrupted; digest",
        ),
        ("rows", COUNT, "Rows of the source"),
        _former("distinct", COUNT, "distinct_videos"),
        ("unchanged", COUNT, "Videos already in the tables"),
        ("reused", COUNT, "Videos taken from the tables, the ledger or an earlier run's task"),
        ("submitted", COUNT, "Indexing tasks created"),
        ("failed", COUNT, "Videos that failed or were refused, or of which an output failed"),
        ("video_minutes", NUMBER, "Minutes of video submitted for indexing"),
        ("calls", COUNT, "Paid calls: indexing tasks, analyses and searches"),
        ("input_tokens", COUNT, "Input tokens of the analyses"),
        ("output_tokens", COUNT, "Output tokens of the analyses"),
        ("price", MONEY, "Price of the run, in `currency`"),
        ("currency", TEXT, "Currency of the price list"),
        ("paid_twice", COUNT, "Indexing tasks beyond one for each video; NULL if not measured"),
        ("model", TEXT, "The model of the vectors"),
        ("started_at", TIME, "When the run began"),
        ("ended_at", TIME, "When the run ended; NULL while it is in progress, and for a killed run"),
        ("distinct_videos", COUNT, "Distinct videos of the source"),
        ("new_failures", COUNT, "Failed videos that did not fail with the same error before"),
        ("removed", COUNT, "Videos marked or deleted because the source no longer lists them"),
        ("digest_until", TIME, "For a digest: the end of the period that its page covers"),
    ),
    ("run_id",),
    "one row per run: counts, cost and outcome",
    added=frozenset({"distinct_videos", "new_failures", "removed", "digest_until"}),
    renamed={"distinct_videos": "distinct"},
    former={"price": NUMBER},
)

#: The tables of texts, whose rows belong to the content of a video.
TEXT_TABLES = (SUMMARIES, CHAPTERS, HIGHLIGHTS, ANNOTATIONS)

TABLES: dict[str, LakeSchema] = {
    t.name: t
    for t in (
        VIDEOS,
        CLIPS,
        SUMMARIES,
        CHAPTERS,
        HIGHLIGHTS,
        ANNOTATIONS,
        VECTORS,
        FRAMES,
        EVIDENCE,
        ALERTS,
        ASKED,
        ERRORS,
        RUNS,
    )
}


def with_former_names(declared: LakeSchema, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with each renamed column under both names, and with derived values for NULLs."""
    both = dict(row)
    for now, former in declared.renamed.items():
        value = both.get(now) if both.get(now) is not None else both.get(former)
        both[now] = both[former] = value
    for name, source in declared.derived.items():
        if both.get(name) is None and both.get(source) is not None:
            both[name] = f"video:{both[source]}"
    return both
