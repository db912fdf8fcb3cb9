"""Text from video: summaries, chapters, highlights, gist, open-ended analysis, extraction by schema."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

from tl_data.catalog import function
from tl_data.errors import SchemaMismatch
from tl_data.session import Session
from tl_data.types import CHAPTERS, COUNT, GIST, HIGHLIGHTS, JSON, NUMBER, TEXT

Rows = list[dict[str, Any]]
_VIDEO = {"video": "https://example.com/tour.mp4", "index_id": "demo"}


@function(TEXT, video=TEXT, prompt=TEXT, index_id=TEXT, temperature=NUMBER, example=_VIDEO, durable=True)
async def summarize(
    tl: Session,
    video: str,
    prompt: str | None = None,
    index_id: str | None = None,
    temperature: float | None = None,
) -> str | None:
    """Summarize a video as text.

    Args:
        video: URL, path or id; a URL or path is indexed first, once.
        prompt: what the summary is for, its length or form.
        index_id: name or id of the index; NULL is the session's index.
        temperature: 0 to 1, how freely to write; 0.2 by default.
    """
    answer = await _summary(tl, video, index_id, "summary", prompt, temperature)
    return answer.get("summary")


@function(CHAPTERS, video=TEXT, prompt=TEXT, index_id=TEXT, temperature=NUMBER, example=_VIDEO, durable=True)
async def chapters(
    tl: Session,
    video: str,
    prompt: str | None = None,
    index_id: str | None = None,
    temperature: float | None = None,
) -> Rows:
    """The chapters of a video, in order, with titles and summaries.

    Args:
        video: URL, path or id; a URL or path is indexed first, once.
        prompt: what to divide by.
        index_id: name or id of the index; NULL is the session's index.
        temperature: 0 to 1, how freely to write; 0.2 by default.
    """
    answer = await _summary(tl, video, index_id, "chapter", prompt, temperature)
    return [
        {
            "chapter_number": chapter.get("chapter_number", number),
            **_times(chapter),
            "title": chapter.get("chapter_title"),
            "summary": chapter.get("chapter_summary"),
        }
        for number, chapter in enumerate(answer.get("chapters") or [])
    ]


@function(
    HIGHLIGHTS, video=TEXT, prompt=TEXT, index_id=TEXT, temperature=NUMBER, example=_VIDEO, durable=True
)
async def highlights(
    tl: Session,
    video: str,
    prompt: str | None = None,
    index_id: str | None = None,
    temperature: float | None = None,
) -> Rows:
    """The most notable moments of a video.

    Args:
        video: URL, path or id; a URL or path is indexed first, once.
        prompt: what counts as notable.
        index_id: name or id of the index; NULL is the session's index.
        temperature: 0 to 1, how freely to write; 0.2 by default.
    """
    answer = await _summary(tl, video, index_id, "highlight", prompt, temperature)
    return [
        {
            **_times(moment),
            "highlight": moment.get("highlight"),
            "summary": moment.get("highlight_summary"),
        }
        for moment in answer.get("highlights") or []
    ]


@function(GIST, video=TEXT, index_id=TEXT, example=_VIDEO, durable=True)
async def gist(tl: Session, video: str, index_id: str | None = None) -> dict[str, Any]:
    """Title, topics and hashtags of a video.

    Args:
        video: URL, path or id; a URL or path is indexed first, once.
        index_id: name or id of the index; NULL is the session's index.
    """
    types = ["title", "topic", "hashtag"]

    async def ask(video_id: str) -> dict[str, Any]:
        return await tl.client.gist(video_id, types)

    answer = await _paid(tl, "gist", video, index_id, {}, ask)
    return {
        "title": answer.get("title"),
        "topics": answer.get("topics") or [],
        "hashtags": answer.get("hashtags") or [],
    }


@function(
    TEXT,
    video=TEXT,
    prompt=TEXT,
    index_id=TEXT,
    temperature=NUMBER,
    max_tokens=COUNT,
    example={**_VIDEO, "prompt": "What is shown on the signs?"},
    durable=True,
)
async def analyze(
    tl: Session,
    video: str,
    prompt: str,
    index_id: str | None = None,
    temperature: float | None = None,
    max_tokens: int | None = None,
) -> str | None:
    """Answer a prompt about a video, as text.

    Args:
        video: URL, path or id; a URL or path is indexed first, once.
        prompt: the question or task, up to 2,000 tokens. NULL gives NULL.
        index_id: name or id of the index; NULL is the session's index.
        temperature: 0 to 1, how freely to write; 0.2 by default.
        max_tokens: most tokens to write.
    """
    if prompt is None:
        return None
    options: dict[str, Any] = {
        "prompt": prompt,
        "temperature": temperature,
        "max_tokens": max_tokens,
    }

    async def ask(video_id: str) -> dict[str, Any]:
        return await tl.client.analyze(video_id, **options)

    answer = await _paid(tl, "analyze", video, index_id, options, ask)
    return answer.get("data")


@function(
    JSON,
    video=TEXT,
    prompt=TEXT,
    json_schema=JSON,
    index_id=TEXT,
    temperature=NUMBER,
    max_tokens=COUNT,
    example={
        **_VIDEO,
        "prompt": "What is the title?",
        "json_schema": '{"type": "object", "properties": {"title": {"type": "string"}}}',
    },
    durable=True,
)
async def extract(
    tl: Session,
    video: str,
    prompt: str,
    json_schema: str,
    index_id: str | None = None,
    temperature: float | None = None,
    max_tokens: int | None = None,
) -> str | None:
    """Answer a prompt about a video as JSON that conforms to a schema.

    Args:
        video: URL, path or id; a URL or path is indexed first, once.
        prompt: what to extract. NULL gives NULL.
        json_schema: the JSON Schema of the answer, as text. NULL gives NULL.
        index_id: name or id of the index; NULL is the session's index.
        temperature: 0 to 1, how freely to write; 0.2 by default.
        max_tokens: most tokens to write.
    """
    if prompt is None or json_schema is None:
        return None
    try:
        schema = orjson.loads(json_schema)
    except orjson.JSONDecodeError as error:
        raise SchemaMismatch(f"json_schema is not JSON: {error}") from error
    options: dict[str, Any] = {
        "prompt": prompt,
        "temperature": temperature,
        "max_tokens": max_tokens,
    }
    wanted = {"type": "json_schema", "json_schema": schema}

    async def ask(video_id: str) -> dict[str, Any]:
        return await tl.client.analyze(video_id, **options, response_format=wanted)

    answer = await _paid(tl, "extract", video, index_id, {**options, "json_schema": schema}, ask)
    return answer.get("data")


async def _summary(
    tl: Session,
    video: str,
    index_id: str | None,
    kind: str,
    prompt: str | None,
    temperature: float | None,
) -> dict[str, Any]:
    options: dict[str, Any] = {"prompt": prompt, "temperature": temperature}

    async def ask(video_id: str) -> dict[str, Any]:
        return await tl.client.summarize(video_id, kind, **options)

    return await _paid(tl, kind, video, index_id, options, ask)


async def _paid(
    tl: Session,
    operation: str,
    video: str,
    index_id: str | None,
    params: Mapping[str, Any],
    ask: Callable[[str], Awaitable[dict[str, Any]]],
) -> dict[str, Any]:
    """Ask once for each video and question, ever; the answer comes from the ledger afterwards."""
    known = await tl.video(video, index_id)

    async def do() -> dict[str, Any]:
        return await ask(str(known["video_id"]))

    return dict(await tl.once(operation, known, params, do))


def _times(part: Mapping[str, Any]) -> dict[str, float | None]:
    """Exact seconds where the answer has them; whole ones otherwise (the older shape)."""
    return {
        "start_sec": part.get("start_sec", part.get("start")),
        "end_sec": part.get("end_sec", part.get("end")),
    }
