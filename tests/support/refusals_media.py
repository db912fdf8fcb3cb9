"""The refusals of search, of texts and of vectors, and those that any request can meet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.refusals import (
    IMPORTS,
    INDEXES,
    IS_ID,
    NOWHERE,
    TASKS,
    URL,
    VIDEOS,
    Refusal,
    listing,
    missing,
    no,
    unknown,
)
from tests.support.refusals_today import TODAY

SEARCH = {"index_id": "{index}", "search_options": ["visual"]}
TEXT = {**SEARCH, "query_text": "x"}
PICTURE = {**SEARCH, "query_media_type": "image"}
ADDRESS = "{files}/page.html"


def filtered(filter: Any, *words: str) -> Refusal:  # noqa: A002 - the API's own name
    """A search whose filter is none."""
    return no("POST /search", "Filter", *words, code="search_filter_invalid", filter=filter, **TEXT)


def clash(*words: str, **sent: Any) -> Refusal:
    """Options of a search that do not go together."""
    return no("POST /search", *words, code="search_option_combination_not_supported", **sent)


SEARCHES = [
    missing("POST /search", "index_id", search_options=["visual"], query_text="x", below=True),
    missing("POST /search", "search_options", index_id="{index}", query_text="x", below=True),
    missing("POST /search", "query_text", "query_media_url", "query_media_file", **SEARCH),
    missing("POST /search", "query_media_type", query_media_url=[ADDRESS], **SEARCH, below=True),
    no("POST /search", "query_text", "' '", "blank", query_text=" ", **SEARCH),
    no("POST /search", "query_text", "600 tokens", "equal to 500", query_text="x " * 600, **SEARCH),
    no(
        "POST /search", "query_text", "78 tokens", "equal to 77", query_text="x " * 78, index_id="{old}",
        search_options=["visual"],
    ),
    no(
        "POST /search", "option smell", "visual, audio", index_id="{index}", search_options=["smell"],
        query_text="x", code="search_option_not_supported",
    ),
    no("POST /search", "index_id", "'short'", *IS_ID, **{**TEXT, "index_id": "short"}),
    unknown("POST /search", "indexes", **{**TEXT, "index_id": NOWHERE}),
    no("POST /search", "page_limit", "'51'", "between 1 and 50", page_limit=51, **TEXT),
    no("POST /search", "page_limit", "'-1'", "between 1 and 50", page_limit=-1, **TEXT),
    no("POST /search", "page_limit", "'many'", "whole number", page_limit="many", **TEXT),
    no("POST /search", "group_by", "'day'", "clip, video", group_by="day", **TEXT),
    no("POST /search", "threshold", "'huge'", "high, medium, low, none", threshold="huge", **TEXT),
    no(
        "POST /search", "adjust_confidence_level", "'2'", "between 0 and 1", adjust_confidence_level=2,
        **TEXT,
    ),
    no("POST /search", "sort_option", "'age'", "score, clip_count", sort_option="age", **TEXT),
    no("POST /search", "sort_option", "group_by set to video, not clip", sort_option="clip_count", **TEXT),
    no("POST /search", "operator", "'xor'", "or, and", operator="xor", **TEXT),
    no(
        "POST /search", "include_user_metadata", "'maybe'", "true, false", include_user_metadata="maybe",
        **TEXT,
    ),
    no(
        "POST /search", "transcription_options", "'loud'", "lexical, semantic",
        transcription_options=["loud"], **TEXT,
    ),
    no(
        "POST /search", "query_media_type", "'video'", "image", query_media_type="video",
        query_media_url=[ADDRESS], **SEARCH,
    ),
    no(
        "POST /search", "query_media_url", "nothing", "http:// or https://",
        query_media_url=["ftp://nothing"], **PICTURE, below=True,
    ),
    no(
        "POST /search", "ftp://nothing", "http:// or https://", code="video_url_invalid",
        query_media_url=["ftp://nothing"], own=True, **SEARCH,
    ),
    no(
        "POST /search", "query_media_url", "missing.jpg", "HTTP status 404",
        query_media_url=["{files}/missing.jpg"], **PICTURE,
    ),
    no("POST /search", "query_media_url", "page.html", "direct link", query_media_url=[ADDRESS], **PICTURE),
    no(
        "POST /search", "query_media_file", "page.mp4", "JPEG or PNG", query_media_file=Path("html_page"),
        **PICTURE,
    ),
    no(
        "POST /search", "query_media_file", "tiny.jpg", "at least 128x128", "is 32x32",
        query_media_file=Path("tiny_picture"), **PICTURE,
    ),
    no(
        "POST /search", "query_media_url", "t most 10", "You sent 11", query_media_url=[ADDRESS] * 11,
        **PICTURE,
    ),
    clash(
        "query_text", "Marengo 2.7", index_id="{old}", search_options=["visual"], query_text="x",
        query_media_type="image", query_media_url=[ADDRESS],
    ),
    clash(
        "audio", "needs visual", index_id="{index}", search_options=["audio"], query_media_type="image",
        query_media_url=[ADDRESS],
    ),
    clash(
        "transcription_options", "without transcription", query_media_url=[ADDRESS],
        transcription_options=["lexical"], **PICTURE,
    ),
    no(
        "POST /search", "option audio", "{old}", "following search options: visual",
        code="search_option_not_supported",
        index_id="{old}", search_options=["audio"], query_text="x",
    ),
    no(
        "POST /search", "Marengo family", code="index_not_supported_for_search",
        **{**TEXT, "index_id": "{writer}"},
    ),
    filtered("{", "JSON"),
    filtered("[1]", "JSON object", "[1]"),
    filtered("5", "JSON object", "5"),
    filtered({"duration": "five"}, "duration", "'five'", "number or a range"),
    filtered({"filename": 123}, "filename", "123", "text"),
    filtered({"filename": {"gte": 1}}, "filename", '{"gte": 1}', "text"),
    filtered({"duration": {"near": 1}}, "duration", "near", "gte, lte"),
    filtered({"width": {"gte": "x"}}, "width", '{"gte": "x"}', "numbers"),
    filtered({"id": NOWHERE}, "id", NOWHERE, "array of video ids"),
    filtered({"id": [123]}, "id", "[123]", "24 hexadecimal"),
    filtered({"id": ["short"]}, "id", "short", "24 hexadecimal"),
    filtered({"id": []}, "id", "[]", "array"),
    filtered({"own": [1]}, "own", "[1]", "a text, a number, a boolean or a range"),
    no(
        "POST /search", NOWHERE, "not in index {index}", code="search_video_not_in_same_index",
        filter={"id": [NOWHERE]}, **TEXT,
    ),
    no(
        "GET /search/{page_token}", "Token: rubbish", "new search request",
        code="search_page_token_expired", page_token="rubbish",
    ),
    no(
        "GET /search/{page_token}", "include_user_metadata", "'maybe'", "true, false", page_token="{token}",
        include_user_metadata="maybe",
    ),
]  # fmt: skip

ASK = {"video_id": "{video}", "prompt": "What is shown?"}
SCHEMA = {"type": "json_schema", "json_schema": {"type": "string", "minLength": 2}}


def of_a_video(route: str, **sent: Any) -> list[Refusal]:
    """What every request about one video refuses."""
    rest = {name: value for name, value in sent.items() if name != "video_id"}
    return [
        missing(route, "video_id", below=True, **rest),
        no(route, "video_id", "'short'", *IS_ID, **{**sent, "video_id": "short"}),
        unknown(route, "videos", **{**sent, "video_id": NOWHERE}),
        no(route, "{stuck}", "status indexing", code="video_not_ready", **{**sent, "video_id": "{stuck}"}),
        no(
            route,
            "Pegasus family",
            code="index_not_supported_for_generate",
            **{**sent, "video_id": "{silent}"},
        ),
    ]


def asked(route: str) -> list[Refusal]:
    """What /analyze and its old name refuse."""
    return [
        *of_a_video(route, **ASK),
        missing(route, "prompt", video_id="{video}", below=True),
        no(route, "prompt", "' '", "blank", **{**ASK, "prompt": " "}),
        no(route, "prompt", "2100 tokens", "equal to 2000", **{**ASK, "prompt": "x " * 2100}),
        no(route, "temperature", "2", "between 0 and 1", temperature=2.0, **ASK),
        no(route, "max_tokens", "1", "between 2 and 4096", max_tokens=1, **ASK),
        no(route, "max_tokens", "5000", "between 2 and 4096", max_tokens=5000, **ASK),
        no(route, "stream", "'yes'", "true, false", stream="yes", below=True, **ASK),
        no(
            route, "response_format", '{"type": "text"}', '"type": "json_schema"',
            response_format={"type": "text"}, **ASK,
        ),
        no(route, "response_format", "minLength", "the API supports", response_format=SCHEMA, **ASK),
        no(
            route, "video", '{"type": "disc"}', "url, base64_string, asset_id", prompt="x",
            video={"type": "disc"}, below=True,
        ),
        no(
            route, "video", "base64", prompt="x", video={"type": "base64_string", "base64_string": "?"},
            below=True,
        ),
        no(route, "end_time", "2", "greater than start_time", start_time=3, end_time=2, below=True, **ASK),
    ]  # fmt: skip


TEXTS = [
    *asked("POST /analyze"),
    *asked("POST /generate"),
    *of_a_video("POST /gist", video_id="{video}", types=["title"]),
    missing("POST /gist", "types", video_id="{video}", below=True),
    no("POST /gist", "types", "'smell'", "title, topic, hashtag", video_id="{video}", types=["smell"]),
    *of_a_video("POST /summarize", video_id="{video}", type="summary"),
    missing("POST /summarize", "type", video_id="{video}", below=True),
    no("POST /summarize", "type", "'smell'", "summary, chapter, highlight", video_id="{video}", type="smell"),
    no(
        "POST /summarize", "temperature", "-1", "between 0 and 1", video_id="{video}", type="summary",
        temperature=-1.0,
    ),
    no("POST /summarize", "prompt", "2100 tokens", video_id="{video}", type="summary", prompt="x " * 2100),
]  # fmt: skip

MODEL = {"model_name": "marengo3.0"}
WINDOW = {"video_start_offset_sec": 2, "video_end_offset_sec": 4}


def media(code: str, kind: str, *words: str, name: str = "video", engine: str = "open") -> Refusal:
    """A file that is refused for what it is."""
    return no("POST /embed", *words, code=code, engine=engine, **{f"{name}_file": Path(kind)}, **MODEL)


EMBEDS = [
    missing("POST /embed", "model_name", text="x", below=True),
    missing("POST /embed", "text", "image_url", "audio_file", **MODEL),
    no("POST /embed", "model_name", "'gpt'", "marengo3.0", model_name="gpt", text="x"),
    no("POST /embed", "text", "' '", "blank", text=" ", **MODEL),
    no(
        "POST /embed", "text", "78 tokens", "equal to 77", model_name="Marengo-retrieval-2.7",
        text="x " * 78, text_truncate="none",
    ),
    no(
        "POST /embed", "text_truncate", "'middle'", "none, start, end", text="x", text_truncate="middle",
        **MODEL,
    ),
    no(
        "POST /embed", "image_url", "'ftp://h/a'", "http:// or https://", image_url="ftp://h/a", below=True,
        **MODEL,
    ),
    no(
        "POST /embed", "audio_start_offset_sec", "'-1'", "between 0", audio_start_offset_sec=-1,
        audio_url=ADDRESS, **MODEL,
    ),
    no(
        "POST /embed", "image_file parameter", "JPEG or PNG", "You sent", image_file=Path("html_page"),
        **MODEL,
    ),
    no(
        "POST /embed", "audio_start_offset_sec", "the length of the audio, 5.00 seconds. You sent '60",
        audio_start_offset_sec=60, audio_file=Path("plain"), **MODEL,
    ),
    media("video_audio_track_not_exists", "no_audio", "no audio track", name="audio"),
    media("video_resolution_too_low", "too_small", "200x200", "360x360", engine="today"),
    media("video_resolution_too_high", "too_wide", "5200x400", "5184x2160", engine="today"),
    media("video_resolution_invalid_aspect_ratio", "extreme_aspect", "1440x360", "2.4:1", engine="today"),
    media("video_duration_too_short", "one_second", "1.0", "4 seconds", engine="today"),
    media("video_duration_too_long", "three_hours", "Current duration is 10801", "7200 seconds"),
    media("video_file_broken", "text_named_mp4", "Cannot read video file"),
    missing("POST /embed/tasks", "model_name", **URL, below=True),
    missing("POST /embed/tasks", "video_file", "video_url", **MODEL),
    missing("POST /embed/tasks", "video_end_offset_sec", video_start_offset_sec=2, **MODEL, **URL),
    missing("POST /embed/tasks", "video_start_offset_sec", video_end_offset_sec=2, **MODEL, **URL),
    no("POST /embed/tasks", "model_name", "'gpt'", "marengo3.0", model_name="gpt", **URL),
    no(
        "POST /embed/tasks", "video_clip_length", "11", "within 2-10 seconds", video_clip_length=11,
        **MODEL, **URL,
    ),
    no(
        "POST /embed/tasks", "video_clip_length", "3", "between the two offsets, 2 and 4",
        video_clip_length=3, **WINDOW, **MODEL, **URL,
    ),
    no(
        "POST /embed/tasks", "video_end_offset_sec", "1", "greater than video_start_offset_sec, 2",
        **{**WINDOW, "video_end_offset_sec": 1}, **MODEL, **URL,
    ),
    no(
        "POST /embed/tasks", "video_start_offset_sec", "'soon'", "number", video_start_offset_sec="soon",
        **MODEL, **URL,
    ),
    no(
        "POST /embed/tasks", "video_embedding_scope", "'frame'", "clip, video",
        video_embedding_scope=["frame"], **MODEL, **URL,
    ),
    *listing("GET /embed/tasks"),
    no("GET /embed/tasks", "status", "'done'", "processing, ready, failed", status="done"),
    no("GET /embed/tasks", "started_at", "'once'", "RFC 3339", started_at="once"),
    no("GET /embed/tasks", "ended_at", "'once'", "RFC 3339", ended_at="once"),
    *(
        row
        for tail in ("", "/status")
        for row in (
            no(f"GET /embed/tasks/{{task_id}}{tail}", "task_id", "'short'", *IS_ID, task_id="short"),
            unknown(f"GET /embed/tasks/{{task_id}}{tail}", "embed_tasks", task_id=NOWHERE),
        )
    ),
    no(
        "GET /embed/tasks/{task_id}", "embedding_option", "'smell'", "visual, audio",
        task_id="{embed_task}", embedding_option=["smell"],
    ),
]  # fmt: skip

ANY = [
    no("GET /engines", "GET", "/engines", "no longer exists", code="endpoint_not_exists", status=404),
    no("PUT /search", "PUT", "/search", "not allowed", code="method_not_allowed", status=405),
    no("GET /indexes", "version 1.3", "is 1.2", code="api_upgrade_required", version="v1.2"),
    no("GET /indexes", "invalid or expired", code="api_key_invalid", status=401, engine="strict"),
    no(
        "POST /search", "0.5req/1hour", "try again later after 20", code="too_many_requests", status=429,
        limits={"limits": {"search": {"limit": 0.5, "seconds": 3600}}}, **TEXT,
    ),
]  # fmt: skip

ROWS = [*INDEXES, *VIDEOS, *TASKS, *IMPORTS, *SEARCHES, *TEXTS, *EMBEDS, *ANY, *TODAY]
