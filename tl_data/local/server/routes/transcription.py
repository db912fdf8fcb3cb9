"""/assets/{asset_id}/transcription: the speech of an asset."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tl_data.local.errors import APIProblem, one_of
from tl_data.local.perception.evidence import Span
from tl_data.local.server.context import engine_of
from tl_data.local.server.pagination import split
from tl_data.local.server.routes.assets import asset_of

PARTS = ("words", "sentences", "utterances")


async def retrieve(request: Request) -> Response:
    """GET /assets/{asset_id}/transcription: transcribed synchronously, then cached.

    The engine does not separate speakers, so that each sentence is one utterance.
    """
    engine = engine_of(request)
    row = asset_of(engine, request.path_params["asset_id"])
    wanted = split(request.query_params.getlist("include"))
    if any(part not in PARTS for part in wanted):
        raise one_of("include", PARTS, wanted)
    if row["status"] != "ready":
        answer = {"status": row["status"]}
        return JSONResponse(answer | ({"error": row["error"]} if row["error"] else {}))
    speech: tuple[Span, ...] = ()
    if row["duration"] is not None:  # images have no sound
        asset = {"type": "asset_id", "asset_id": row["id"]}
        speech = (await engine.inline_videos.writer_input(asset, check=lambda _: None)).evidence.speech
    if not speech and engine.profile.name == "today":
        raise APIProblem(404, "not_found", "The asset has no transcription.")
    sentences = [_entry(span.start_sec, span.end_sec, span.text) for span in speech]
    words = [_entry(word.start_sec, word.end_sec, word.text) for span in speech for word in span.words]
    found = {"words": words, "sentences": sentences, "utterances": sentences}
    return JSONResponse({"status": "ready"} | {part: found[part] for part in wanted or PARTS})


def _entry(start: float, end: float, text: str) -> dict[str, Any]:
    return {"start": start, "end": end, "value": text}


routes = [Route("/assets/{asset_id}/transcription", retrieve, methods=["GET"])]
