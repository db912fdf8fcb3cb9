"""Vectors of text, images, audio and video, all in the space of one model."""

from __future__ import annotations

from typing import Any

from tl_data.catalog import function
from tl_data.embedding import vector_rows
from tl_data.errors import APIError
from tl_data.functions.search import media
from tl_data.session import Session
from tl_data.types import COUNT, NUMBER, TEXT, TEXTS, VECTOR, VECTORS
from tl_data.usage import current

Rows = list[dict[str, Any]]


@function(VECTOR, text=TEXT, text_truncate=TEXT, example={"text": "a red car"})
async def embed_text(tl: Session, text: str, text_truncate: str | None = None) -> list[float]:
    """The vector of a text, comparable with those of clips.

    Args:
        text: what to embed.
        text_truncate: where a text that is too long is cut: end (the default), start, none (an error).
    """
    current().model = tl.embed_model
    answer = await tl.client.embed(tl.embed_model, text=text, text_truncate=text_truncate)
    return list(_vectors(answer, "text_embedding")[0]["vector"])


@function(VECTOR, image=TEXT, example={"image": "https://example.com/car.jpg"})
async def embed_image(tl: Session, image: str) -> list[float]:
    """The vector of a picture, comparable with those of clips.

    Args:
        image: URL or path of a JPEG or PNG.
    """
    current().model = tl.embed_model
    answer = await tl.client.embed(tl.embed_model, **media(image, "image_url", "image_file"))
    return list(_vectors(answer, "image_embedding")[0]["vector"])


@function(
    VECTORS, audio=TEXT, audio_start_offset_sec=NUMBER, example={"audio": "https://example.com/jingle.wav"}
)
async def audio_vectors(tl: Session, audio: str, audio_start_offset_sec: float | None = None) -> Rows:
    """The vectors of an audio file, comparable with those of clips.

    Args:
        audio: URL or path of a WAV, MP3 or FLAC.
        audio_start_offset_sec: where to begin, in seconds.
    """
    source = media(audio, "audio_url", "audio_file")
    current().model = tl.embed_model
    answer = await tl.client.embed(tl.embed_model, audio_start_offset_sec=audio_start_offset_sec, **source)
    return _vectors(answer, "audio_embedding")


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

    An indexed video's vectors are read from its index, at no charge. A URL or path is embedded by a task
    of its own, once; it does not enter an index.

    Args:
        video: id of an indexed video, or URL or path of a video file.
        index_id: name or id of the index of a video given by id; NULL is the session's index.
        embedding_option: kinds of evidence: visual, audio, transcription. NULL is all there are.
        video_embedding_scope: clip (the default), video, or both. For a URL or path.
        video_clip_length: seconds a clip, 2 to 10; 6 by default. For a URL or path.
        video_start_offset_sec: where to begin, in seconds; together with the end. For a URL or path.
        video_end_offset_sec: where to end, in seconds; together with the start. For a URL or path.
    """
    wanted = [tl.embedding_option(o) for o in embedding_option or []]
    if tl.is_id(video):
        options = wanted or [tl.embedding_option(o) for o in ("visual", "audio")]
        index = await tl.index_id(index_id)
        full = await tl.client.retrieve_video(index, video, embedding_option=options)
        return tl.segments(full)
    rows = await tl.embed_video(
        video,
        video_embedding_scope=video_embedding_scope,
        video_clip_length=video_clip_length,
        video_start_offset_sec=video_start_offset_sec,
        video_end_offset_sec=video_end_offset_sec,
    )
    return [row for row in rows if not wanted or row["embedding_option"] in wanted]


def _vectors(answer: dict[str, Any], block: str) -> Rows:
    """The segments of one block of an answer of /embed, as rows of VECTORS.

    Raises:
        APIError: HTTP was 200, but the block reports a failure or is missing.
    """
    part = answer.get(block) or {}
    if not (segments := part.get("segments")):
        reason = part.get("error_message") or f"the answer holds no {block}"
        raise APIError(f"embedding failed: {reason}", "embedding_failed", 200)
    return vector_rows(segments)
