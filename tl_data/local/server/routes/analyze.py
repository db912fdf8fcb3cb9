"""/analyze, its old name /generate, and /gist and /summarize: texts about one video."""

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

from tl_data.local import models
from tl_data.local.errors import EngineError, invalid, unknown_parameter
from tl_data.local.server.analyze_request import AnalyzeRequest, count_usage, truncation_warning
from tl_data.local.server.context import Engine, engine_of, while_connected
from tl_data.local.text.writer import GeneratedText

TYPES = ("summary", "chapter", "highlight")
GIST = ("title", "topic", "hashtag")


async def analyze(request: Request) -> Response:
    """POST /analyze and /generate"""
    engine = engine_of(request)
    analysis = await AnalyzeRequest.from_request(request, "video_id")
    if "analysis_mode" in analysis.body:
        raise unknown_parameter("analysis_mode")
    streamed = analysis.flag("stream", True)
    analysis.check()
    prompt = analysis.prompt(needed=True) or ""
    writer, response_id = engine.stages.writer, str(uuid.uuid4())
    if streamed and analysis.schema() is None and writer.streams:
        pieces = writer.stream(
            await analysis.writer_input(), await analysis.full_prompt(), analysis.generation_options()
        )
        first = await anext(pieces)  # an error before the first piece still gets an HTTP status
        return StreamingResponse(
            _stream_pieces(engine, analysis, response_id, first, pieces, prompt),
            media_type="application/x-ndjson",
        )
    generated = await while_connected(request, analysis.write())
    text, reason = generated.text, generated.reason or "stop"
    usage = _usage_to_json(engine, count_usage(engine, generated, prompt, analysis))
    if streamed:
        return StreamingResponse(
            _stream_text(response_id, text, reason, usage), media_type="application/x-ndjson"
        )
    response = {"id": response_id, "data": text, "finish_reason": reason, "usage": usage}
    return JSONResponse(response | (truncation_warning(reason) if engine.profile.video_tokens else {}))


def _usage_to_json(engine: Engine, usage: dict[str, int]) -> dict[str, int]:
    """The usage in a synchronous response. With `video_tokens` in the profile, it has only output tokens."""
    return {"output_tokens": usage["output_tokens"]} if engine.profile.video_tokens else usage


async def _stream_text(
    response_id: str, text: str, reason: str, usage: dict[str, int]
) -> AsyncIterator[bytes]:
    """The lines of a stream for a text that is complete."""
    yield _line({"event_type": "stream_start", "metadata": {"generation_id": response_id}})
    for fragment in models.token_fragments(text):
        yield _line({"event_type": "text_generation", "text": fragment})
        await asyncio.sleep(0)
    end = {"generation_id": response_id, "usage": usage}
    yield _line({"event_type": "stream_end", "finish_reason": reason, "metadata": end})


async def _stream_pieces(
    engine: Engine,
    analysis: AnalyzeRequest,
    response_id: str,
    first: GeneratedText,
    pieces: AsyncIterator[GeneratedText],
    prompt: str,
) -> AsyncIterator[bytes]:
    """The lines of a stream while the writer generates the text. `first` is its first piece."""
    yield _line({"event_type": "stream_start", "metadata": {"generation_id": response_id}})
    texts, piece = [first.text], first
    try:
        if first.text:
            yield _line({"event_type": "text_generation", "text": first.text})
        async for piece in pieces:
            if piece.text:
                texts.append(piece.text)
                yield _line({"event_type": "text_generation", "text": piece.text})
    except EngineError as error:  # the status has already been sent, so the stream reports the error
        yield _line({"event_type": "stream_error", "error": {"message": error.message}})
        return
    generated = replace(piece, text="".join(texts))
    usage = _usage_to_json(engine, count_usage(engine, generated, prompt, analysis))
    end = {"generation_id": response_id, "usage": usage}
    yield _line({"event_type": "stream_end", "finish_reason": piece.reason or "stop", "metadata": end})


def _line(event: dict[str, Any]) -> bytes:
    return json.dumps(event, ensure_ascii=False).encode() + b"\n"


async def gist(request: Request) -> Response:
    """POST /gist"""
    engine = engine_of(request)
    analysis = await AnalyzeRequest.from_request(request, "video_id", "types")
    types = analysis.choices("types", GIST)
    gists = await engine.stages.writer.gist(await analysis.writer_input())
    response: dict[str, Any] = {"id": str(uuid.uuid4())}
    for kind, key in zip(GIST, ("title", "topics", "hashtags"), strict=True):
        if kind in types:
            response[key] = gists[key]
    if engine.profile.plain_hashtags and "hashtags" in response:
        response["hashtags"] = [tag.removeprefix("#") for tag in response["hashtags"]]
    response["usage"] = count_usage(
        engine, GeneratedText(json.dumps(response, ensure_ascii=False)), None, analysis
    )
    return JSONResponse(response)


async def summarize(request: Request) -> Response:
    """POST /summarize"""
    engine = engine_of(request)
    analysis = await AnalyzeRequest.from_request(request, "video_id", "type")
    kind = analysis.choice("type", TYPES)
    prompt = analysis.prompt(needed=False)
    options = analysis.generation_options()
    schema = analysis.schema()
    if schema and kind != "summary":
        raise invalid("response_format", f"It can only be used with the type summary, not with {kind}.")
    writer_input, writer = await analysis.writer_input(), engine.stages.writer
    response: dict[str, Any] = {"id": str(uuid.uuid4()), "summarize_type": kind}
    if kind == "summary":
        writing = (
            writer.analyze(writer_input, prompt or "Summarize the video.", schema, options)
            if schema
            else writer.summarize(writer_input, prompt, options)
        )
        generated = await while_connected(request, writing)
        response["summary"] = generated.text
    elif kind == "chapter":
        response["chapters"] = [
            {
                "chapter_number": number,
                **_times_to_json(item),
                "chapter_title": item["chapter_title"],
                "chapter_summary": item["chapter_summary"],
            }
            for number, item in enumerate(await writer.chapters(writer_input, prompt, options))
        ]
    else:
        response["highlights"] = [
            {
                **_times_to_json(item),
                "highlight": item["highlight"],
                "highlight_summary": item["highlight_summary"],
            }
            for item in await writer.highlights(writer_input, prompt, options)
        ]
    response["usage"] = count_usage(
        engine, GeneratedText(json.dumps(response, ensure_ascii=False)), prompt, analysis
    )
    return JSONResponse(response)


def _times_to_json(item: dict[str, Any]) -> dict[str, float]:
    """Start and end: whole seconds for old SDKs, and the exact seconds."""
    start, end = float(item["start_sec"]), float(item["end_sec"])
    return {"start": int(start), "end": max(int(start) + 1, round(end)), "start_sec": start, "end_sec": end}


routes = [
    Route("/analyze", analyze, methods=["POST"]),
    Route("/generate", analyze, methods=["POST"]),
    Route("/gist", gist, methods=["POST"]),
    Route("/summarize", summarize, methods=["POST"]),
]
