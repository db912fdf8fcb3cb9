"""Text from video: summaries, chapters, highlights, gist, segments, answers to prompts, JSON by schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from tl_data.analysis import (
    Part,
    TextRequest,
    Window,
    chapters_part,
    gist_part,
    highlights_part,
    summary_part,
)
from tl_data.catalog import Parameter, function
from tl_data.client.schema import check_schema, check_segments, read_json
from tl_data.errors import SchemaMismatch, ServerFailed
from tl_data.models import text_model
from tl_data.session import Session
from tl_data.types import CHAPTERS, COUNT, GIST, HIGHLIGHTS, JSON, NUMBER, SEGMENTS, TEXT, TEXTS

Rows = list[dict[str, Any]]
_VIDEO = {"video": "https://example.com/tour.mp4", "index_id": "demo"}

INDEX = Parameter(
    "index_id",
    TEXT,
    False,
    None,
    "name or id of an index. A URL or path is first indexed into it, once. NULL: a video id is looked up in "
    "the session's index; a URL is analyzed without an index",
)
#: Options for a part of the video.
WINDOW = (
    Parameter("start_sec", NUMBER, False, None, "start of the part to analyze, in seconds; 0 by default"),
    Parameter(
        "end_sec",
        NUMBER,
        False,
        None,
        "end of the part, in seconds; NULL is the end of the video. The part's length sets the price",
    ),
)
#: Options of every text function.
OPTIONS = (
    INDEX,
    Parameter("temperature", NUMBER, False, None, "0 to 1, randomness of the text; 0.2 by default"),
    Parameter("max_tokens", COUNT, False, None, "maximum number of tokens to write; 4,096 by default"),
    *WINDOW,
)
_IMAGES = Parameter(
    "images",
    TEXTS,
    False,
    None,
    "up to 4 URLs or paths of pictures; the prompt refers to them as <@image1>, <@image2>",
)


@function(TEXT, video=TEXT, prompt=TEXT, options=OPTIONS, example=_VIDEO, durable=True)
async def summarize(tl: Session, video: str, prompt: str | None = None, **options: Any) -> str | None:
    """Summarize a video as text.

    Args:
        video: URL, path or id of a video, or id of an asset.
        prompt: purpose, length or format of the summary.
    """
    answer = await _answer(tl, video, summary_part(prompt, options.get("temperature")), options)
    return answer.get("summary")


@function(CHAPTERS, video=TEXT, prompt=TEXT, options=OPTIONS, example=_VIDEO, durable=True)
async def chapters(tl: Session, video: str, prompt: str | None = None, **options: Any) -> Rows:
    """The chapters of a video, in order, with titles and summaries.

    Args:
        video: URL, path or id of a video, or id of an asset.
        prompt: what to divide the video by, such as topics.
    """
    answer = await _answer(tl, video, chapters_part(prompt, options.get("temperature")), options)
    return chapter_rows(answer.get("chapters"))


@function(HIGHLIGHTS, video=TEXT, prompt=TEXT, options=OPTIONS, example=_VIDEO, durable=True)
async def highlights(tl: Session, video: str, prompt: str | None = None, **options: Any) -> Rows:
    """The most notable parts of a video.

    Args:
        video: URL, path or id of a video, or id of an asset.
        prompt: what counts as notable.
    """
    answer = await _answer(tl, video, highlights_part(prompt, options.get("temperature")), options)
    return highlight_rows(answer.get("highlights"))


@function(GIST, video=TEXT, options=(INDEX, *WINDOW), example=_VIDEO, durable=True)
async def gist(tl: Session, video: str, **options: Any) -> dict[str, Any]:
    """Title, topics and hashtags of a video.

    Args:
        video: URL, path or id of a video, or id of an asset.
    """
    answer = await _answer(tl, video, gist_part(), options)
    return gist_row(answer)


@function(
    TEXT,
    video=TEXT,
    prompt=TEXT,
    options=(*OPTIONS, _IMAGES),
    example={**_VIDEO, "prompt": "What is shown on the signs?"},
    durable=True,
)
async def analyze(tl: Session, video: str, prompt: str, **options: Any) -> str | None:
    """Answer a prompt about a video, as text.

    Args:
        video: URL, path or id of a video, or id of an asset.
        prompt: the question or task. NULL gives NULL.
    """
    if prompt is None:
        return None
    params = {"prompt": prompt, **_key_options(options)}
    return (await _answer(tl, video, Part("analyze", params, prompt), options)).get("data")


@function(
    JSON,
    video=TEXT,
    prompt=TEXT,
    json_schema=JSON,
    options=(*OPTIONS, _IMAGES),
    example={
        **_VIDEO,
        "prompt": "What is the title?",
        "json_schema": '{"type": "object", "properties": {"title": {"type": "string"}}}',
    },
    durable=True,
)
async def extract(tl: Session, video: str, prompt: str, json_schema: str, **options: Any) -> str | None:
    """Answer a prompt about a video as JSON that conforms to a schema.

    Args:
        video: URL, path or id of a video, or id of an asset.
        prompt: what to extract. NULL gives NULL.
        json_schema: the JSON Schema of the answer, as text. NULL gives NULL.
    """
    if prompt is None or json_schema is None:
        return None
    schema = _json(json_schema, "json_schema")
    if text_model(tl.analyze_model) is not None:
        # Models of the service support only a part of JSON Schema.
        check_schema(schema)
    params = {"prompt": prompt, **_key_options(options), "json_schema": schema}
    response_format = {"type": "json_schema", "json_schema": schema}
    part = Part("extract", params, prompt, {}, response_format)
    return (await _answer(tl, video, part, options)).get("data")


@function(
    SEGMENTS,
    video=TEXT,
    definitions=JSON,
    options=(
        INDEX,
        *WINDOW,
        Parameter(
            "min_segment_sec", NUMBER, False, None, "minimum length of a segment in seconds, 2 or more"
        ),
        Parameter("max_segment_sec", NUMBER, False, None, "maximum length of a segment in seconds"),
        Parameter("max_tokens", COUNT, False, None, "maximum number of tokens to write; 32,768 by default"),
    ),
    example={
        "video": "https://example.com/tour.mp4",
        "definitions": '[{"id": "shop", "description": "A shop is seen", "fields": '
        '[{"name": "sign", "type": "string", "description": "what its sign says"}]}]',
    },
    durable=True,
)
async def segments(tl: Session, video: str, definitions: str, **options: Any) -> Rows:
    """The segments of a video that match definitions: one row per segment, with its fields as JSON.

    Each definition is billed for the whole analyzed length. Needs Pegasus 1.5 or later.

    Args:
        video: URL, path or id of a video, or id of an asset.
        definitions: JSON list of objects with id, description and fields (name, type, description); NULL
            gives no rows.
    """
    if definitions is None:
        return []
    model = text_model(tl.analyze_model)
    parsed = _json(definitions, "definitions")
    checked = check_segments(parsed, time_arrays=model is None or model.time_arrays)
    limits = {name: options.get(name) for name in ("min_segment_sec", "max_segment_sec", "max_tokens")}
    part = Part("segments", {"definitions": checked, **limits}, None)
    answer = await _answer(tl, video, part, options, definitions=tuple(checked))
    return segment_rows(answer)


def _key_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are part of the ledger key."""
    return {name: options.get(name) for name in ("temperature", "max_tokens", "images")}


async def _answer(
    tl: Session, video: str, part: Part, options: Mapping[str, Any], **more: Any
) -> dict[str, Any]:
    """The result of one analysis: from the ledger, or from a request that is sent once."""
    if part.properties and options.get("max_tokens") is not None:
        part = replace(part, params={**part.params, "max_tokens": options["max_tokens"]})
    request = TextRequest(
        await tl.ref(video, options.get("index_id")),
        (part,),
        Window(options.get("start_sec"), options.get("end_sec")),
        options.get("temperature"),
        options.get("max_tokens"),
        tuple(options.get("images") or ()),
        min_segment_sec=options.get("min_segment_sec"),
        max_segment_sec=options.get("max_segment_sec"),
        **more,
    )
    return (await tl.analyze_one(request)).answers[0]


def _json(text: str, name: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise SchemaMismatch(f"{name} is not JSON: {error}") from error


def chapter_rows(parts: list[dict[str, Any]] | None) -> Rows:
    """Chapters of an answer as rows of type `types.CHAPTERS`."""
    return [
        {
            "chapter_number": chapter.get("chapter_number", number),
            **_times(chapter),
            "title": chapter.get("chapter_title")
            or None,  # the engine sends "" for a chapter without a title
            "summary": chapter.get("chapter_summary"),
        }
        for number, chapter in enumerate(parts or [])
    ]


def highlight_rows(parts: list[dict[str, Any]] | None) -> Rows:
    """Highlights of an answer as rows of type `types.HIGHLIGHTS`."""
    return [
        {
            **_times(highlight),
            "highlight": highlight.get("highlight"),
            "summary": highlight.get("highlight_summary"),
        }
        for highlight in parts or []
    ]


def gist_row(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Title, topics and hashtags of an answer as a value of type `types.GIST`."""
    return {
        "title": answer.get("title") or None,
        "topics": answer.get("topics") or [],
        "hashtags": answer.get("hashtags") or [],
    }


def segment_rows(answer: Mapping[str, Any]) -> Rows:
    """The segments of an answer as rows of type `types.SEGMENTS`, sorted by definition and time.

    Raises:
        ServerFailed: `answer_unreadable`, the answer is not an object whose values are lists of segments.
    """
    try:
        segments_by_definition, _ = read_json(str(answer.get("data") or "{}"))
        rows = [
            {
                "definition": definition,
                "start_sec": float(segment["start_time"]),
                "end_sec": float(segment["end_time"]),
                "fields": orjson.dumps(segment.get("metadata") or {}).decode(),
            }
            for definition, segments in segments_by_definition.items()
            for segment in segments or []
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        text = f"the segments of the response are malformed: {type(error).__name__} {error}"
        raise ServerFailed(text, "answer_unreadable", 200) from None
    return sorted(rows, key=lambda row: (row["definition"], row["start_sec"], row["end_sec"]))


def _times(part: Mapping[str, Any]) -> dict[str, float | None]:
    """Start and end: exact seconds if the response has them, else whole seconds, as in responses of 2025."""
    return {
        "start_sec": part.get("start_sec", part.get("start")),
        "end_sec": part.get("end_sec", part.get("end")),
    }
