"""/analyze with its old name /generate, /gist and /summarize: texts about one video."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tl_data.local import tokens
from tl_data.local.errors import APIProblem, invalid, unknown_parameter
from tl_data.local.server.analyze_request import Ask, cut_off, usage_of
from tl_data.local.server.context import Engine, engine_of
from tl_data.local.text.writer import Written

TYPES = ("summary", "chapter", "highlight")
GIST = ("title", "topic", "hashtag")


async def analyze(request: Request) -> Response:
    """POST /analyze and /generate"""
    engine = engine_of(request)
    ask = await Ask.of(request, "video_id")
    if "analysis_mode" in ask.body:
        raise unknown_parameter("analysis_mode")
    streamed = ask.flag("stream", True)
    ask.check()
    prompt = ask.prompt(needed=True) or ""
    writer, answer_id = engine.stages.writer, str(uuid.uuid4())
    if streamed and ask.schema() is None and writer.streams:
        pieces = writer.stream(await ask.material(), await ask.full_prompt(), ask.manner())
        first = await anext(pieces)  # what goes wrong before the first piece has a status of its own
        return StreamingResponse(
            _passed_on(engine, ask, answer_id, first, pieces, prompt), media_type="application/x-ndjson"
        )
    written = await ask.write()
    text, reason = written.text, written.reason or "stop"
    usage = _shown_usage(engine, usage_of(engine, written, prompt, ask))
    if streamed:
        return StreamingResponse(_events(answer_id, text, reason, usage), media_type="application/x-ndjson")
    answer = {"id": answer_id, "data": text, "finish_reason": reason, "usage": usage}
    return JSONResponse(answer | (cut_off(reason) if engine.profile.video_tokens else {}))


def _shown_usage(engine: Engine, usage: dict[str, int]) -> dict[str, int]:
    """The tokens that an answer at once tells of: today only those that were written."""
    return {"output_tokens": usage["output_tokens"]} if engine.profile.video_tokens else usage


async def _events(answer_id: str, text: str, reason: str, usage: dict[str, int]) -> AsyncIterator[bytes]:
    """The lines of a stream."""
    yield _line({"event_type": "stream_start", "metadata": {"generation_id": answer_id}})
    for fragment in tokens.fragments(text):
        yield _line({"event_type": "text_generation", "text": fragment})
        await asyncio.sleep(0)
    end = {"generation_id": answer_id, "usage": usage}
    yield _line({"event_type": "stream_end", "finish_reason": reason, "metadata": end})


async def _passed_on(
    engine: Engine, ask: Ask, answer_id: str, first: Written, pieces: AsyncIterator[Written], prompt: str
) -> AsyncIterator[bytes]:
    """The lines of a stream while its text is being written."""
    yield _line({"event_type": "stream_start", "metadata": {"generation_id": answer_id}})
    texts, piece = [first.text], first
    try:
        if first.text:
            yield _line({"event_type": "text_generation", "text": first.text})
        async for piece in pieces:
            if piece.text:
                texts.append(piece.text)
                yield _line({"event_type": "text_generation", "text": piece.text})
    except APIProblem as problem:  # the status has gone out: the API has no better form for it
        yield _line({"event_type": "stream_error", "error": {"message": problem.message}})
        return
    whole = replace(piece, text="".join(texts))
    usage = _shown_usage(engine, usage_of(engine, whole, prompt, ask))
    end = {"generation_id": answer_id, "usage": usage}
    yield _line({"event_type": "stream_end", "finish_reason": piece.reason or "stop", "metadata": end})


def _line(event: dict[str, Any]) -> bytes:
    return json.dumps(event, ensure_ascii=False).encode() + b"\n"


async def gist(request: Request) -> Response:
    """POST /gist"""
    engine = engine_of(request)
    ask = await Ask.of(request, "video_id", "types")
    types = ask.choices("types", GIST)
    found = await engine.stages.writer.gist(await ask.material())
    answer: dict[str, Any] = {"id": str(uuid.uuid4())}
    for kind, key in zip(GIST, ("title", "topics", "hashtags"), strict=True):
        if kind in types:
            answer[key] = found[key]
    if engine.profile.plain_hashtags and "hashtags" in answer:
        answer["hashtags"] = [tag.removeprefix("#") for tag in answer["hashtags"]]
    answer["usage"] = usage_of(engine, Written(json.dumps(answer, ensure_ascii=False)), None, ask)
    return JSONResponse(answer)


async def summarize(request: Request) -> Response:
    """POST /summarize"""
    engine = engine_of(request)
    ask = await Ask.of(request, "video_id", "type")
    kind = ask.choice("type", TYPES)
    prompt = ask.prompt(needed=False)
    manner = ask.manner()
    schema = ask.schema()
    if schema and kind != "summary":
        raise invalid("response_format", f"It can only be used with the type summary, not with {kind}.")
    material, writer = await ask.material(), engine.stages.writer
    answer: dict[str, Any] = {"id": str(uuid.uuid4()), "summarize_type": kind}
    if kind == "summary":
        written = (
            await writer.analyze(material, prompt or "Summarize the video.", schema, manner)
            if schema
            else await writer.summarize(material, prompt, manner)
        )
        answer["summary"] = written.text
    elif kind == "chapter":
        answer["chapters"] = [
            {
                "chapter_number": number,
                **_times(item),
                "chapter_title": item["chapter_title"],
                "chapter_summary": item["chapter_summary"],
            }
            for number, item in enumerate(await writer.chapters(material, prompt, manner))
        ]
    else:
        answer["highlights"] = [
            {**_times(item), "highlight": item["highlight"], "highlight_summary": item["highlight_summary"]}
            for item in await writer.highlights(material, prompt, manner)
        ]
    answer["usage"] = usage_of(engine, Written(json.dumps(answer, ensure_ascii=False)), prompt, ask)
    return JSONResponse(answer)


def _times(item: dict[str, Any]) -> dict[str, float]:
    """Whole numbers where old SDKs read integers, and the exact times beside them."""
    start, end = float(item["start_sec"]), float(item["end_sec"])
    return {"start": int(start), "end": max(int(start) + 1, round(end)), "start_sec": start, "end_sec": end}


routes = [
    Route("/analyze", analyze, methods=["POST"]),
    Route("/generate", analyze, methods=["POST"]),
    Route("/gist", gist, methods=["POST"]),
    Route("/summarize", summarize, methods=["POST"]),
]
