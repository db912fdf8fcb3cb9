"""Videos into an index, and what an index knows of them."""

from __future__ import annotations

from typing import Any

import orjson

from tl_data.catalog import function
from tl_data.errors import SchemaMismatch
from tl_data.functions.embed import segments as segments_of
from tl_data.session import Session
from tl_data.types import CLIPS, FLAG, JSON, TEXT, TRANSCRIPT, VIDEO

Rows = list[dict[str, Any]]

#: What `unit` of a transcript may be -> the API's name.
SPOKEN = {"word": "words", "sentence": "sentences", "speaker": "utterances"}


@function(
    VIDEO,
    video=TEXT,
    index_id=TEXT,
    user_metadata=JSON,
    enable_video_stream=FLAG,
    example={"video": "https://example.com/tour.mp4", "index_id": "demo"},
    durable=True,
)
async def index_video(
    tl: Session,
    video: str,
    index_id: str | None = None,
    user_metadata: str | None = None,
    enable_video_stream: bool | None = None,
) -> dict[str, Any]:
    """Index a video once and give its record.

    The same content is never indexed twice into one index, whatever its URL is signed with and whoever asks.

    Args:
        video: URL of a video file, path of a local one, or the id of an indexed video.
        index_id: name or id of the index; created when no index has the name. NULL is the session's index.
        user_metadata: JSON object to keep with a newly indexed video; search can filter by it.
        enable_video_stream: whether the platform keeps a stream for playing; its default is true.
    """
    metadata = _metadata(user_metadata)
    if not tl.is_id(video):
        return await tl.index_video(
            video, index_id, user_metadata=metadata, enable_video_stream=enable_video_stream
        )
    return await tl.retrieve_video(video, index_id)


@function(
    CLIPS,
    video=TEXT,
    index_id=TEXT,
    embedding_option=TEXT,
    example={"video": "https://example.com/tour.mp4", "index_id": "demo"},
)
async def clips(
    tl: Session, video: str, index_id: str | None = None, embedding_option: str | None = None
) -> Rows:
    """The clips of a video: times, speech, thumbnail and vector.

    Args:
        video: URL, path or id; a URL or path is indexed first, once.
        index_id: name or id of the index; NULL is the session's index.
        embedding_option: which vector: visual (the default), audio or transcription.
    """
    known = await tl.video(video, index_id)
    option = tl.embedding_option(embedding_option or "visual")
    full = await tl.client.retrieve_video(
        known["index_id"], known["video_id"], embedding_option=[option], transcription=True
    )
    segments = [s for s in segments_of(full) if s["embedding_scope"] == "clip"]
    segments.sort(key=lambda s: (s["start_sec"], s["end_sec"]))
    speech = full.get("transcription") or []
    thumbnails = (full.get("hls") or {}).get("thumbnail_urls") or []
    return [
        {
            "clip_number": number,
            "start_sec": segment["start_sec"],
            "end_sec": segment["end_sec"],
            "transcription": _spoken(speech, segment["start_sec"], segment["end_sec"]),
            # The API does not say which thumbnail belongs to which clip; equal counts do.
            "thumbnail_url": thumbnails[number] if len(thumbnails) == len(segments) else None,
            "vector": segment["vector"],
        }
        for number, segment in enumerate(segments)
    ]


@function(
    TRANSCRIPT,
    video=TEXT,
    index_id=TEXT,
    unit=TEXT,
    example={"video": "https://example.com/tour.mp4", "index_id": "demo"},
)
async def transcript(tl: Session, video: str, index_id: str | None = None, unit: str | None = None) -> Rows:
    """What is said in a video, with times; with `unit => 'speaker'`, who says it.

    Args:
        video: URL, path or id; a URL or path is indexed first, once.
        index_id: name or id of the index; NULL is the session's index.
        unit: word, sentence or speaker, from the video's asset; no index is needed. NULL: what the index has.
    """
    if unit is not None:
        return await _spoken_in_asset(tl, video, index_id, unit)
    known = await tl.video(video, index_id)
    full = await tl.client.retrieve_video(known["index_id"], known["video_id"], transcription=True)
    return [_line(said) for said in full.get("transcription") or []]


async def _spoken_in_asset(tl: Session, video: str, index_id: str | None, unit: str) -> Rows:
    """The words, sentences or speakers of a video's asset; nothing if nobody speaks in it.

    Raises:
        SchemaMismatch: another kind, or an account without transcriptions of assets.
        TaskFailed: the service could not transcribe it.
    """
    kind = SPOKEN.get(unit)
    if kind is None:
        raise SchemaMismatch(f"unit is {unit!r}; use {', '.join(SPOKEN)}")
    ref = await tl.asset_ref(await tl.ref(video, index_id))
    if ref.asset_id is None:
        raise SchemaMismatch(
            f"{ref.name} has no asset, from which {unit}s are read: leave unit out for what the index has"
        )
    found = await tl.transcription(ref.asset_id, kind)
    return [_line(said) for said in found]


def _line(said: dict[str, Any]) -> dict[str, Any]:
    return {
        "start_sec": said.get("start"),
        "end_sec": said.get("end"),
        "text": said.get("value"),
        "speaker": said.get("speaker"),
    }


def _metadata(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        metadata = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise SchemaMismatch(f"user_metadata is not JSON: {error}") from error
    if not isinstance(metadata, dict):
        raise SchemaMismatch('user_metadata must be a JSON object, such as {"team": "news"}')
    return metadata


def _spoken(speech: list[dict[str, Any]], start: float, end: float) -> str | None:
    """The words whose middle lies in the clip, so that no word is counted in two clips."""
    inside = [s["value"] for s in speech if s.get("value") and start <= (s["start"] + s["end"]) / 2 < end]
    return " ".join(inside) or None
