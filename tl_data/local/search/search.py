"""Searches an index, or a single video that is in no index (`moments`). Hits are sorted by score.

Candidates come from three sources: measured traits, full-text search (BM25 with stems), and nearest vectors.
Each candidate is then scored part by part (ranking.py): the score is the share of the query that its evidence
explains, by a trait, by a word on screen or in speech, or by a word of similar spelling or meaning. It is no
similarity, so a query about things that are not in the evidence stays below `medium`.

Objects are recognised, actions are not: "a dog running" finds dogs. With an image-text encoder
(image_encoder.py) the score of the clip's picture explains parts of the query that name no trait.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from tl_data.local.perception.attributes import words_of
from tl_data.local.perception.evidence import Evidence
from tl_data.local.perception.vision.image_encoder import ImageEncoder
from tl_data.local.perception.vision.objects import ObjectModels
from tl_data.local.search import parser
from tl_data.local.search.clip_index import ClipIndex, clip_id, columns_of, text_row, vocabulary_of
from tl_data.local.search.image_search import search_images
from tl_data.local.search.labels import label_scores
from tl_data.local.search.query import Hit, Query, check, confidence, least_of
from tl_data.local.search.ranking import Match, Ranker, TextRow
from tl_data.local.search.retrieval import Fetch, candidates, picture_scores, texts_of


def find(
    index: ClipIndex,
    fetch: Fetch,
    query: Query,
    encoder: ImageEncoder | None = None,
    object_models: ObjectModels | None = None,
) -> list[Hit]:
    """Search one index.

    Args:
        index: the columns of the index.
        fetch: runs SQL on the full-text table of the index, which the SQL calls `words`.
        encoder: the active image-text encoder, if any.
        object_models: the models for the images of the query, if any.

    Raises:
        ValueError: an unknown option, operator or threshold, or a query without text and image.
    """
    check(query)
    allowed = index.allowed(query.video_ids)
    if not allowed.any():
        return []
    question = parser.parse(query.text) if query.text and query.text.strip() else None
    found: dict[int, Match] = {}
    if question:
        pictures = picture_scores(index, encoder, question, query, len(allowed))
        labels = label_scores(index, question, len(allowed)) if "visual" in query.options else None
        rows = candidates(index, fetch, question, query, allowed, pictures, labels)
        rank = Ranker(
            index,
            lambda ids: texts_of(fetch, ids),
            question,
            query.options,
            both=query.operator == "and",
            lexical="lexical" in query.ways,
            semantic="semantic" in query.ways,
            pictures=pictures,
            labels=labels,
        )
        found = {
            match.row: match for match in rank.rank(rows, 0.0 if query.images else least_of(query) / 100)
        }
    if query.images:
        found = search_images(index, query, allowed, found if question else None, encoder, object_models)
    least = least_of(query)
    return hits_of(index, [match for match in found.values() if 100 * match.score >= least], query)


def hits_of(index: ClipIndex, matches: Iterable[Match], query: Query) -> list[Hit]:
    """Merge adjacent matches with the same evidence into moments with exact start and end."""
    ids = index.ids
    moments: list[list[Match]] = []
    for match in sorted(matches, key=lambda match: match.row):
        if moments and _one_moment(moments[-1][-1], match, ids):
            moments[-1].append(match)
        else:
            moments.append([match])
    found: list[tuple[float, float, float, str, Match, list[Match]]] = []
    for moment in moments:
        start, end = index.times(moment[0].row)[0], index.times(moment[-1].row)[1]
        spans = [span for match in moment for span in match.spans]
        if spans and all(match.only_words for match in moment):
            start, end = min(span[0] for span in spans), max(span[1] for span in spans)
        best = max(moment, key=lambda match: (match.score, _shared(index.times(match.row), start, end)))
        video = index.videos.get(int(ids[best.row]) >> 16)
        if video is not None:
            found.append((best.score, start, end, video, best, moment))
    found.sort(key=lambda item: (-round(item[0], 4), item[4].row))  # ties: in the order of insertion
    hits: list[Hit] = []
    for rank, (score, start, end, video, best, moment) in enumerate(found[: query.limit], 1):
        said = sorted({span for match in moment for span in match.said if span[0] < end and span[1] > start})
        points = round(min(100.0, 100 * score), 2)
        hits.append(
            Hit(
                video_id=video,
                start_sec=round(start, 3),
                end_sec=round(end, 3),
                score=points,
                confidence=confidence(points, query.adjust_confidence_level),
                rank=rank,
                clip_number=int(ids[best.row]) & 0xFFFF,
                transcription=" ".join(text for _, _, text in said) or None,
                evidence=best.evidence,
            )
        )
    return hits


def _shared(times: tuple[float, float], start: float, end: float) -> float:
    """Seconds of a clip inside a time range."""
    return min(times[1], end) - max(times[0], start)


def _one_moment(before: Match, after: Match, ids: NDArray[np.int64]) -> bool:
    """Whether two matches are adjacent clips of a video with the same evidence."""
    if int(ids[after.row]) - int(ids[before.row]) != 1:  # ids of a video are consecutive
        return False
    if before.only_words and after.only_words:
        return bool(set(before.spans) & set(after.spans)) or before.evidence == after.evidence
    return before.evidence == after.evidence and abs(before.score - after.score) < 0.2


_NUMBER = 1  # of the single video


def moments(evidence: Evidence, text: str, options: tuple[str, ...] = ("visual", "audio")) -> list[Hit]:
    """Search a single video; see `find`."""
    words = [words_of(clip, evidence) for clip in evidence.clips]
    index = ClipIndex()
    index.add(columns_of(_NUMBER, evidence, words), "")
    index.vocabulary.add(vocabulary_of(words))
    rows: list[TextRow] = []
    for position, (clip, word) in enumerate(zip(evidence.clips, words, strict=True)):
        if row := text_row(evidence, clip, word):
            rows.append((clip_id(_NUMBER, position), row[2], row[3], row[4]))
    question = parser.parse(text)
    labels = label_scores(index, question, index.count) if "visual" in options else None
    rank = Ranker(index, lambda _: rows, question, options, labels=labels)
    matches = rank.rank(np.arange(index.count, dtype=np.int64))
    return hits_of(index, matches, Query("", text, options=options))
