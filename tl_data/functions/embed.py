"""Vectors of text, images, audio and video, all in the space of one model."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from tl_data.catalog import Parameter, function
from tl_data.client.remote import media_url
from tl_data.errors import APIError, BadRequest, NotFound, SchemaMismatch, TaskFailed
from tl_data.functions.search import media
from tl_data.ledger.models import AmbiguousTask, Call
from tl_data.ledger.recovery import (
    CLIP_SECONDS,
    V2_TASK,
    embedding_task,
    is_withdrawn,
    marked_name,
    source_of,
)
from tl_data.models import SearchModel, embed_name, search_model
from tl_data.session import Session
from tl_data.types import COUNT, NUMBER, TEXT, TEXTS, VECTOR, VECTORS
from tl_data.usage import current

Json = dict[str, Any]

#: The schema of the rows that the ledger keeps.
SCHEMA = pa.schema(list(VECTORS.value_type))


async def embed_video(session: Session, video: str, parameters: Mapping[str, Any]) -> list[Json]:
    """The vectors of a URL or path, as rows of type `types.VECTORS`.

    Args:
        parameters: parameters of an embedding task, with the API's names; no value is None.

    Raises:
        MediaRefused, TaskFailed, APIError: as for `Session.index_video`.
    """
    client, ledger = session.client, session.ledger
    identity = await session.identify(video)
    model = current().model = session.embed_model
    call = Call(
        "embed_video",
        identity.content_key,
        parameters,
        model,
        content=identity.canonical,
        former_content_key=identity.former_key,
    )
    models = {model} | ({session.models.search} if session.models else set())
    has_v2 = await _has_v2(session)
    known_model = search_model(model)
    only_v2 = has_v2 and known_model is not None and known_model.multi_input_only  # Marengo 3.5

    async def send_v2() -> str:
        if await session.is_fetched(video):
            source = {"url": media_url(video)}
            minutes = await _minutes(session, video, parameters)
        else:
            asset = await session.asset(video, identity)
            source = {"asset_id": str(asset["_id"])}
            minutes = float(asset.get("duration") or 0.0) / 60
        block = {"media_source": source, **_v2_options(parameters, model)}
        task = await client.create_embed_v2_task("video", model, video_minutes=minutes, video=block)
        return V2_TASK + str(task["_id"])

    # A file is embedded by /embed, whose tasks show its name, so that a lost task can be found. Tasks of
    # /embed-v2 show nothing of an asset.
    v2_first = only_v2 or (has_v2 and await session.is_fetched(video))

    async def send() -> str:
        if v2_first:
            try:
                return await send_v2()
            except (NotFound, BadRequest) as gone:
                if only_v2 or not is_withdrawn(gone):
                    raise
        minutes = await _minutes(session, video, parameters)
        try:
            async with session.sendable(video) as sent:
                return await client.create_embed_task(
                    embed_name(model),
                    **source_of(sent),
                    filename=marked_name(sent, call.key),
                    video_minutes=minutes,
                    **parameters,
                )
        except (NotFound, BadRequest) as gone:
            if v2_first or not has_v2 or not is_withdrawn(gone):
                raise
        return await send_v2()

    async def find() -> str | AmbiguousTask | None:
        doubt: AmbiguousTask | None = None
        for v2 in (True,) if only_v2 else (v2_first, not v2_first) if has_v2 else (False,):
            found = await embedding_task(
                client, session.watcher, ledger, call, video, models,
                v2=v2, may_be_withdrawn=has_v2 and not only_v2,
            )  # fmt: skip
            if isinstance(found, str):
                return V2_TASK + found if v2 else found
            doubt = doubt or found
        return doubt

    entry = await ledger.submit(call, send, find)
    if entry.state == "done":
        recorded = entry.result  # a list in ledgers of earlier versions
        return list(recorded.to_pylist() if isinstance(recorded, pa.Table) else recorded)
    task_id = str(entry.task_id)
    uses_v2 = only_v2 or task_id.startswith(V2_TASK)
    try:
        wait = session.watcher.wait_embed_v2 if uses_v2 else session.watcher.wait_embed
        task = await wait(task_id.removeprefix(V2_TASK))
    except (TaskFailed, NotFound) as failed:
        await ledger.fail(call, failed)
        raise
    # The ledger keeps an Arrow table: it takes a fifth of the space of JSON text.
    rows = pa.Table.from_pylist(rows_of_v2(task) if uses_v2 else segments(task), SCHEMA)
    minutes = max(rows["end_sec"].to_pylist(), default=0.0) / 60
    await ledger.finish(call, rows, video_minutes=minutes)
    if not entry.reused:
        current().video_minutes += minutes
    return list(rows.to_pylist())


async def _has_v2(session: Session) -> bool:
    """Whether the account has /embed-v2 for the session's model."""
    model = search_model(session.embed_model)
    if model is None or not model.embed_v2 or session.models is not None:
        return False
    return await session.client.account_generation() == "today"


def _v2_options(parameters: Mapping[str, Any], model: str) -> Json:
    """Convert parameters of an embedding task to the options of /embed-v2.

    Clips of Marengo 3.0 have `CLIP_SECONDS` by default, as in its tasks of /embed.
    """
    names = {"video_start_offset_sec": "start_sec", "video_end_offset_sec": "end_sec"}
    options: Json = {new: parameters[old] for old, new in names.items() if old in parameters}
    known = search_model(model)
    nested = known is not None and known.multi_input_only
    if length := parameters.get("video_clip_length") or (None if nested else CLIP_SECONDS):
        fixed = {"strategy": "fixed", "fixed": {"duration_sec": length}}
        options["segmentation"] = {"temporal": fixed} if nested else fixed
    scopes = parameters.get("video_embedding_scope") or ["clip"]
    return options | {"embedding_scope": ["asset" if scope == "video" else scope for scope in scopes]}


async def _minutes(session: Session, video: str, parameters: Mapping[str, Any]) -> float:
    """Minutes of video that a task embeds, for the limit of video minutes; 0 if no limit is set."""
    start, end = parameters.get("video_start_offset_sec"), parameters.get("video_end_offset_sec")
    if start is not None and end is not None:
        return float(end - start) / 60
    return await session.header_seconds(video) / 60


def segments(video: Mapping[str, Any]) -> list[Json]:
    """The embedding segments of a video or an embedding task, as rows of type `types.VECTORS`."""
    block = (video.get("embedding") or video).get("video_embedding") or {}
    return vector_rows(block.get("segments") or [])


def vector_rows(segments: Iterable[Mapping[str, Any]]) -> list[Json]:
    """Embedding segments of the API, as rows of type `types.VECTORS`."""
    return [
        {
            "start_sec": s.get("start_offset_sec"),
            "end_sec": s.get("end_offset_sec"),
            "embedding_scope": s.get("embedding_scope"),
            "embedding_option": s.get("embedding_option"),
            "vector": s["float"],
        }
        for s in segments
    ]


Rows = list[dict[str, Any]]


#: Options of the functions that return one vector without creating a task.
OPTIONS = (
    Parameter("model_name", TEXT, False, None, "marengo3.0 or marengo3.5; NULL is the session's model"),
    Parameter("embedding_dimension", COUNT, False, None, "numbers per vector; marengo3.5 makes 256 or 512"),
)


@function(VECTOR, text=TEXT, text_truncate=TEXT, options=OPTIONS, example={"text": "a red car"})
async def embed_text(
    tl: Session,
    text: str,
    text_truncate: str | None = None,
    **options: Any,
) -> list[float]:
    """The vector of a text, comparable with those of clips.

    Args:
        text: what to embed.
        text_truncate: where to cut a text that is too long: end, start or none (an error). In the service,
            Marengo 3.0 does not accept this option, and Marengo 3.5 accepts end and none.
    """
    model = await _model_without_task(tl, options)
    if isinstance(model, str):
        answer = await tl.client.embed(embed_name(model), text=text, text_truncate=text_truncate)
        return list(_vectors(answer, "text_embedding")[0]["vector"])
    auto_truncate = {"end": True, "none": False}.get(text_truncate or "")
    if text_truncate is not None and (auto_truncate is None or not model.multi_input_only):
        accepted = "end and none" if model.multi_input_only else "no text_truncate"
        raise SchemaMismatch(f"text_truncate is {text_truncate!r}; {model.name} accepts {accepted}")
    block = {"input_text": text}
    return await _one_vector(tl, model, "text", block, block, options, auto_truncate=auto_truncate)


@function(VECTOR, image=TEXT, options=OPTIONS, example={"image": "https://example.com/car.jpg"})
async def embed_image(tl: Session, image: str, **options: Any) -> list[float]:
    """The vector of a picture, comparable with those of clips.

    Args:
        image: URL or path of a JPEG or PNG.
    """
    model = await _model_without_task(tl, options)
    if isinstance(model, str):
        async with tl.sendable(image) as sent:
            answer = await tl.client.embed(embed_name(model), **media(sent, "image_url", "image_file"))
        return list(_vectors(answer, "image_embedding")[0]["vector"])
    source = await _media_source(tl, image)
    multi_input = {"media_sources": [{"name": "image", "media_type": "image", **source}]}
    return await _one_vector(tl, model, "image", {"media_source": source}, multi_input, options)


@function(
    VECTORS, audio=TEXT, audio_start_offset_sec=NUMBER, example={"audio": "https://example.com/jingle.wav"}
)
async def audio_vectors(tl: Session, audio: str, audio_start_offset_sec: float | None = None) -> Rows:
    """The vectors of an audio file, comparable with those of clips.

    Args:
        audio: URL or path of a WAV, MP3 or FLAC.
        audio_start_offset_sec: start of the part to embed, in seconds.
    """
    model = await _model_without_task(tl, {})
    if isinstance(model, str) or model.multi_input_only:
        async with tl.sendable(audio) as sent:
            answer = await tl.client.embed(
                embed_name(tl.embed_model),
                audio_start_offset_sec=audio_start_offset_sec,
                **media(sent, "audio_url", "audio_file"),
            )
        return _vectors(answer, "audio_embedding")
    block: dict[str, Any] = {"media_source": await _media_source(tl, audio), "embedding_scope": ["clip"]}
    if audio_start_offset_sec is not None:
        block["start_sec"] = audio_start_offset_sec
    answer = await tl.client.embed_v2("audio", model.name, audio=block)
    return rows_of_v2(answer)


async def _model_without_task(tl: Session, options: Mapping[str, Any]) -> SearchModel | str:
    """The model of a request without a task: a `SearchModel` for /embed-v2, or a name for /embed.

    Raises:
        SchemaMismatch: the model has no vectors of the requested dimension.
    """
    name, dimension = options.get("model_name"), options.get("embedding_dimension")
    chosen = str(name or tl.embed_model)
    generation = await tl.client.account_generation()
    current().model = tl.vectors_by if name is None else name
    model = search_model(chosen)
    uses_v2 = model is not None and model.embed_v2 and generation == "today" and tl.models is None
    if dimension is not None and (not uses_v2 or model is None or dimension not in model.dimensions):
        dimensions = ", ".join(map(str, model.dimensions)) if uses_v2 and model is not None else ""
        raise SchemaMismatch(
            f"embedding_dimension is {dimension}; {chosen} makes {dimensions or 'vectors of one dimension'}"
        )
    return model if uses_v2 and model is not None else chosen


async def _one_vector(
    tl: Session,
    model: SearchModel,
    input_type: str,
    block: Json,
    multi_input: Json,
    options: Mapping[str, Any],
    auto_truncate: bool | None = None,
) -> list[float]:
    """The vector of a text or picture from /embed-v2.

    `block` describes the input; Marengo 3.5 accepts only `multi_input`, which describes the same input.
    """
    if model.multi_input_only:
        input_type, block = "multi_input", multi_input
    block_by_name: dict[str, Any] = {input_type: block}
    answer = await tl.client.embed_v2(
        input_type,
        model.name,
        embedding_dimension=options.get("embedding_dimension"),
        auto_truncate=auto_truncate,
        **block_by_name,
    )
    rows = rows_of_v2(answer)
    if not rows:
        raise APIError("embedding failed: the answer holds no vector", "embedding_failed", 200)
    return list(rows[0]["vector"])


async def _media_source(tl: Session, source: str) -> Json:
    """A URL, or the content of a file that the API cannot fetch, as a media source of /embed-v2."""
    async with tl.sendable(source) as sent:
        url_or_file = media(sent, "url", "file")
        if "url" in url_or_file:
            return {"url": media_url(url_or_file["url"])}
        content = await asyncio.to_thread(url_or_file["file"].read_bytes)
        return {"base64_string": base64.b64encode(content).decode()}


def rows_of_v2(answer: Mapping[str, Any]) -> Rows:
    """The vectors of an answer or task of /embed-v2, as rows of type `types.VECTORS`, by time."""
    rows = [
        {
            "start_sec": part.get("start_sec"),
            "end_sec": part.get("end_sec"),
            # /embed-v2 calls the scope of a whole video `asset`; older routes call it `video`.
            "embedding_scope": "video"
            if part.get("embedding_scope") == "asset"
            else part.get("embedding_scope"),
            "embedding_option": part.get("embedding_option"),
            "vector": part["embedding"],
        }
        for part in answer.get("data") or []
    ]
    return sorted(rows, key=lambda row: (row["start_sec"] or 0.0, row["end_sec"] or 0.0))


@function(
    VECTORS,
    video=TEXT,
    index_id=TEXT,
    embedding_option=TEXTS,
    video_embedding_scope=TEXTS,
    video_clip_length=COUNT,
    video_start_offset_sec=NUMBER,
    video_end_offset_sec=NUMBER,
    example={"video": "https://example.com/tour.mp4"},
    durable=True,
)
async def video_vectors(
    tl: Session,
    video: str,
    index_id: str | None = None,
    embedding_option: list[str] | None = None,
    video_embedding_scope: list[str] | None = None,
    video_clip_length: int | None = None,
    video_start_offset_sec: float | None = None,
    video_end_offset_sec: float | None = None,
) -> Rows:
    """The vectors of a video: one row per clip (or whole video) and kind of evidence.

    The vectors of an indexed video are read from its index, at no charge. A URL or path is embedded once, by
    a separate task, and is not added to an index.

    Args:
        video: id of an indexed video, or URL or path of a video file.
        index_id: name or id of the index of a video id. NULL is the session's index.
        embedding_option: kinds of evidence: visual, audio, transcription. NULL is all of them.
        video_embedding_scope: clip (the default), video, or both. For a URL or path.
        video_clip_length: seconds per clip, 2 to 10; 6 by default. For a URL or path.
        video_start_offset_sec: start of the part to embed, in seconds; requires the end. For a URL or path.
        video_end_offset_sec: end of the part to embed, in seconds; requires the start. For a URL or path.
    """
    requested = [tl.embedding_option(o) for o in embedding_option or []]
    if tl.is_id(video):
        index = await tl.index_id(index_id)
        kinds = requested or await tl.index_vectors(index)
        full = await tl.client.retrieve_video(index, video, embedding_option=kinds)
        return segments(full)
    options = {
        "video_embedding_scope": video_embedding_scope,
        "video_clip_length": video_clip_length,
        "video_start_offset_sec": video_start_offset_sec,
        "video_end_offset_sec": video_end_offset_sec,
    }
    rows = await embed_video(tl, video, {name: value for name, value in options.items() if value is not None})
    return [row for row in rows if not requested or row["embedding_option"] in requested]


def _vectors(answer: dict[str, Any], block: str) -> Rows:
    """The segments of one block of an answer of /embed, as rows of type `types.VECTORS`.

    Raises:
        APIError: the HTTP status is 200, but the block reports a failure or is missing.
    """
    part = answer.get(block) or {}
    if not (segments := part.get("segments")):
        reason = part.get("error_message") or f"the answer holds no {block}"
        raise APIError(f"embedding failed: {reason}", "embedding_failed", 200)
    return vector_rows(segments)
