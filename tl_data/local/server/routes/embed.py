"""/embed: vectors of texts, images, sounds and short videos, returned synchronously."""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tl_data.local import models
from tl_data.local.errors import EngineError, MediaError, invalid
from tl_data.local.media_validation import check_image, check_sound, check_video
from tl_data.local.perception.evidence import Evidence
from tl_data.local.search.dimensions import resize_segments
from tl_data.local.server.context import Engine, engine_of
from tl_data.local.server.forms import Form, Upload
from tl_data.local.server.old_names import EMBED, refuse_old_names
from tl_data.local.server.references import load_image
from tl_data.local.server.routes.tasks import read_source
from tl_data.local.storage.database import new_id
from tl_data.local.tasks.download import UNREACHABLE, fetch

#: One part of a response: the segments with their vectors, and metadata.
Block = dict[str, Any]
MODEL_HEADER = "X-Engine-Model"  # response header with the model that created the vectors
SCOPES = ("clip", "video")
DOWNLOAD_TIMEOUT_SEC = 300.0  # for a sound or short video
MAX_SYNC_SEC = 600.0  # longest sound or video that is embedded synchronously


def embed_model(engine: Engine, form: Form) -> str:
    """Read the name of the requested embedding model."""
    refuse_old_names(engine.profile, form.fields, EMBED)
    known = engine.profile.embed_models
    return models.check_embed_model(form.required("model_name"), engine.config.tiers, known)


async def create(request: Request) -> Response:
    """POST /embed"""
    engine = engine_of(request)
    files = ("image_file", "audio_file", "video_file")
    async with engine.form(request, *files) as form:
        name = embed_model(engine, form)
        start = form.number("audio_start_offset_sec", 0, 1e6) or 0.0
        embedders: dict[str, Callable[[], Awaitable[Block]]] = {}
        if form.text("text") is not None:
            text = _read_text(form, name)
            embedders["text"] = lambda: _embed_text(engine, text)
        for kind in ("image", "audio", "video"):
            if form.text(f"{kind}_url") is not None or form.upload(f"{kind}_file") is not None:
                url, upload = read_source(engine, form, kind)
                if kind == "image":
                    embedders[kind] = lambda url=url, upload=upload: _embed_image(engine, url, upload)  # type: ignore[misc]
                else:
                    embedders[kind] = lambda kind=kind, url=url, upload=upload: _embed_media(  # type: ignore[misc]
                        engine, name, kind, url, upload, start if kind == "audio" else 0.0
                    )
        if not embedders:
            raise EngineError(
                400,
                "parameter_not_provided",
                "Some required parameters are not provided. Give text, image_url, image_file, audio_url or "
                "audio_file.",
            )
        response: dict[str, Any] = {"model_name": models.response_model_name(name, engine.config.tiers)}
        for kind, embed in embedders.items():
            try:
                block = await embed()
                block["segments"] = resize_segments(name, block["segments"])
                response[f"{kind}_embedding"] = block
            except MediaError as error:
                # If there are other inputs, the response reports the error of this one in its place.
                if len(embedders) == 1:
                    raise _input_error(form, kind, error) from None
                response[f"{kind}_embedding"] = {"error_message": error.message, "segments": []}
    return vector_response(engine, response)


def _input_error(form: Form, kind: str, error: MediaError) -> EngineError:
    """The error of the request for an input that failed.

    It has the code of the error, or says that the value of the parameter is invalid.
    """
    # The code for an unreachable URL names a video, so it is not used for images and sounds.
    if error.code != "parameter_invalid" and not (error.code == UNREACHABLE and kind != "video"):
        return EngineError(400, error.code, error.message)
    if isinstance(error, OffsetTooLarge):
        return invalid("audio_start_offset_sec", error.message, form.text("audio_start_offset_sec"))
    url, upload = form.text(f"{kind}_url"), form.upload(f"{kind}_file")
    if url and url.strip():
        return invalid(f"{kind}_url", error.message, url)
    return invalid(f"{kind}_file", error.message, upload.filename if upload else "")


class OffsetTooLarge(MediaError):
    """The start offset is not before the end of the sound."""


def _read_text(form: Form, model: str) -> str:
    """Read the text of a request, truncated to the token limit of the model if the request allows it."""
    text = (form.text("text") or "").strip()
    truncate = form.choice("text_truncate", ("none", "start", "end"), "end")
    if not text:
        raise invalid("text", "It must not be blank.", form.text("text"))
    if model == "marengo3.0":  # this model always truncates at the end
        truncate = "end"
    limit = models.token_limit(model)
    if models.count_tokens(text) <= limit:
        return text
    if truncate == "none":
        raise models.too_long("text", text, limit)
    return models.first_tokens(text, limit) if truncate == "end" else models.last_tokens(text, limit)


async def _embed_text(engine: Engine, text: str) -> Block:
    vector = await engine.stages.embed_text(text)
    engine.bill.charge("embed_text")
    return {"segments": [{"float": vector}]}


async def _embed_image(engine: Engine, url: str | None, upload: Upload | None) -> Block:
    image = await load_image(engine, url) if url else upload.path.read_bytes() if upload else b""
    check_image(image, 64, 32 << 20)
    try:
        vector = await engine.stages.embed_image(image)
    except ValueError as error:
        raise MediaError("image_file_broken", f"Cannot read image file. {error}") from None
    engine.bill.charge("embed_image")
    return {"segments": [{"float": vector}], "metadata": _origin(url, upload)}


def _origin(url: str | None, upload: Upload | None) -> dict[str, str]:
    """The metadata that names the source of an input."""
    return {"input_url": url} if url else {"input_filename": upload.filename if upload else ""}


async def _embed_media(
    engine: Engine, model: str, kind: str, url: str | None, upload: Upload | None, start: float
) -> Block:
    """Embed a sound or a short video. `start` is the offset in a sound, in seconds; 0 for a video."""
    folder = engine.config.home / "embeds" / new_id()
    folder.mkdir(parents=True)
    try:
        source = folder / "source"
        if url:
            limit = engine.config.video_bytes
            await fetch(url, source, engine.config, limit=limit, seconds=DOWNLOAD_TIMEOUT_SEC, what=kind)
        elif upload:
            os.replace(upload.path, source)
        evidence = await analyze_source(engine, kind, source, folder / "frames")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    duration = evidence.probe.duration_sec
    if kind == "video":
        options = models.embed_options(model)
        segments = await engine.stages.segments_of(evidence, options, SCOPES, 6.0)
    else:
        if start >= duration:
            text = f"It must be less than the length of the audio, {duration:.2f} seconds."
            raise OffsetTooLarge("parameter_invalid", text)
        segments = await engine.stages.segments_of(evidence, ("audio",), ("clip",), 10.0, start)
        if not segments:  # the sound is shorter than one clip
            segments = await engine.stages.segments_of(evidence, ("audio",), ("video",), None, start)
    engine.store.increment("video minutes embedded", duration / 60)
    engine.bill.charge(f"embed_{kind}", seconds=round(duration - start, 3))
    return {"segments": segments, "metadata": _origin(url, upload) | {"duration": round(duration, 3)}}


async def analyze_source(engine: Engine, kind: str, source: Path, frames: Path) -> Evidence:
    """Validate and analyze a sound or a short video.

    Raises:
        MediaError: the file is neither, or is too long for a synchronous request.
    """
    try:
        probe = await engine.stages.probe(source)
        if kind == "video":
            check_video(probe, engine.profile)
        else:
            check_sound(probe)
        if probe.duration_sec > MAX_SYNC_SEC:
            text = f"It has {probe.duration_sec:.0f} seconds; the limit of this endpoint is {MAX_SYNC_SEC:g}."
            raise MediaError("video_duration_too_long", f"{text} Use an embedding task.")
        return await engine.stages.analyze(source, frames)
    except MediaError as error:
        if kind == "audio" and error.code == "video_file_broken":
            text = error.message.replace("video or sound", "sound").replace("video", "audio")
            raise MediaError("audio_file_broken", text) from None
        raise


def vector_response(engine: Engine, body: Block, status: int = 200) -> JSONResponse:
    """Create a response with vectors. A header has their model; under `lenient`, the body has it, too."""
    model = engine.config.tiers.search_model
    if engine.profile.own_fields:
        body = body | {"engine_model": model}
    return JSONResponse(body, status, {MODEL_HEADER: model})


routes = [Route("/embed", create, methods=["POST"])]
