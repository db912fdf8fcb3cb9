"""Index videos, and read the clips and transcripts of indexed videos."""

from __future__ import annotations

from typing import Any

import orjson

from tl_data.catalog import function
from tl_data.errors import SchemaMismatch
from tl_data.functions.embed import segments as segments_of
from tl_data.session import Session
from tl_data.types import CLIPS, FLAG, JSON, TEXT, TRANSCRIPT, VIDEO

Rows = list[dict[str, Any]]

#: Value of the argument `unit` -> name of the transcription in the API.
TRANSCRIPT_UNITS = {"word": "words", "sentence": "sentences", "speaker": "utterances"}


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
    """Index a video once and return its record.

    A video is indexed once per index, even if its URL has another signature or another process requests it.
    The same bytes under another URL are also indexed once if the store reports a digest of them.

    Args:
        video: URL of a video file, path of a local one, or the id of an indexed video.
        index_id: name or id of the index; an unknown name creates an index. NULL is the session's index.
        user_metadata: JSON object to keep with a newly indexed video; search can filter by it.
        enable_video_stream: whether the platform keeps a stream for playback; true by default.
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
    return clip_rows(full, option)


def clip_rows(full: dict[str, Any], option: str) -> Rows:
    """The clips of the API's answer about a video, with the vectors of one kind of evidence."""
    segments = [s for s in segments_of(full) if s["embedding_scope"] == "clip"]
    segments = [s for s in segments if s["embedding_option"] in (option, None)]
    segments.sort(key=lambda s: (s["start_sec"], s["end_sec"]))
    speech = full.get("transcription") or []
    thumbnails = (full.get("hls") or {}).get("thumbnail_urls") or []
    return [
        {
            "clip_number": number,
            "start_sec": segment["start_sec"],
            "end_sec": segment["end_sec"],
            "transcription": _words_within(speech, segment["start_sec"], segment["end_sec"]),
            # The API does not relate thumbnails to clips. With equal numbers, they are in the same order.
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
    """The spoken words of a video, with times; with `unit => 'speaker'`, also the speakers.

    Args:
        video: URL, path or id; a URL or path is indexed first, once.
        index_id: name or id of the index; NULL is the session's index.
        unit: word, sentence or speaker, read from the video's asset, without an index. NULL: the parts of the
            index's transcript.
    """
    if unit is not None:
        return await _asset_transcript(tl, video, index_id, unit)
    known = await tl.video(video, index_id)
    full = await tl.client.retrieve_video(known["index_id"], known["video_id"], transcription=True)
    return [_line(part) for part in full.get("transcription") or []]


async def _asset_transcript(tl: Session, video: str, index_id: str | None, unit: str) -> Rows:
    """The words, sentences or speakers of a video's asset; no rows without speech.

    Raises:
        SchemaMismatch: `unit` has another value, or the account has no transcriptions of assets.
        TaskFailed: the service could not transcribe it.
    """
    kind = TRANSCRIPT_UNITS.get(unit)
    if kind is None:
        raise SchemaMismatch(f"unit is {unit!r}; use {', '.join(TRANSCRIPT_UNITS)}")
    ref = await tl.asset_ref(await tl.ref(video, index_id))
    if ref.asset_id is None:
        raise SchemaMismatch(
            f"{ref.name} has no asset to read {unit}s from; omit unit for the transcript of the index"
        )
    parts = await tl.transcription(ref.asset_id, kind)
    return [_line(part) for part in parts]


def _line(part: dict[str, Any]) -> dict[str, Any]:
    return {
        "start_sec": part.get("start"),
        "end_sec": part.get("end"),
        "text": part.get("value"),
        "speaker": part.get("speaker"),
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


def _words_within(speech: list[dict[str, Any]], start: float, end: float) -> str | None:
    """The words whose middle lies in the clip, so that no word is counted in two clips."""
    inside = [s["value"] for s in speech if s.get("value") and start <= (s["start"] + s["end"]) / 2 < end]
    return " ".join(inside) or None
