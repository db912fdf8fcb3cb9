"""Ranks all clips, as Marengo 3.0 does: first the hits, then the other clips by the similarity of vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from tl_data.local.perception.evidence import Evidence
from tl_data.local.perception.vision.image_encoder import ImageEncoder
from tl_data.local.search import embeddings
from tl_data.local.search.query import Hit, Query
from tl_data.local.search.word_vectors import Vector

MAX_CLIPS = 2000  # clips whose vectors are compared; when it is reached, no further video is ranked


def rank_all_clips(
    hits: Sequence[Hit],
    query: Query,
    video_ids: Iterable[str],
    evidence_of: Callable[[str], Evidence],
    encoder: ImageEncoder | None,
) -> list[Hit]:
    """The hits, followed by the other clips of the videos by similarity, ranked consecutively.

    At most `query.limit` clips are returned in all.

    Args:
        hits: the hits of the query, best first.
        video_ids: the searched videos.
        evidence_of: returns the evidence of a video; raises KeyError if the video was deleted meanwhile.
        encoder: the active image-text encoder, if any.
    """
    query_vector = _vector(query, encoder)
    options = ["audio" if option == "sound" else option for option in query.options]
    rest: list[tuple[float, str, int, Hit]] = []
    for video_id in sorted(video_ids):
        if len(rest) >= MAX_CLIPS:
            break
        try:
            evidence = evidence_of(video_id)
        except KeyError:
            continue
        hits_of_video = [hit for hit in hits if hit.video_id == video_id]
        for number, clip in enumerate(evidence.clips):
            start, end = clip.start_sec, clip.end_sec
            if any(hit.clip_number == number or _covers(hit, start, end) for hit in hits_of_video):
                continue
            vectors = [embeddings.embed_clip(clip, evidence, option, encoder) for option in options]
            similarity = max((float(vector @ query_vector) for vector in vectors), default=0.0)
            rest.append((-round(similarity, 6), video_id, number, Hit(
                video_id, round(start, 3), round(end, 3), 0.0, "none", 0, number, None, clip.keyframe or "",
            )))  # fmt: skip
    rest.sort(key=lambda item: item[:3])
    ranked = [*hits, *(hit for *_, hit in rest)][: query.limit]
    return [
        Hit(**{**vars(hit), "rank": rank}) if hit.rank != rank else hit for rank, hit in enumerate(ranked, 1)
    ]


def _covers(hit: Hit, start: float, end: float) -> bool:
    """Whether a hit covers more than half of a clip."""
    return min(hit.end_sec, end) - max(hit.start_sec, start) > (end - start) / 2


def _vector(query: Query, encoder: ImageEncoder | None) -> Vector:
    """The sum of the vectors of the text and images of a query."""
    vectors = [embeddings.embed_text(query.text, encoder)] if query.text and query.text.strip() else []
    vectors += [embeddings.embed_image(image, encoder) for image in query.images]
    return np.asarray(np.sum(vectors, axis=0), np.float32)
