"""Searches an index (`find`), or a single video without an index (`find_in_video`). Hits are sorted by score.

Candidates come from measured traits, recognised objects, full-text search (BM25 with stems), nearest word
vectors and the image encoder (retrieval.py). Each candidate is then scored part by part (ranking.py). Its
score is the share of the query that its evidence explains: by a trait, by an object, by a word on screen or
in speech, or by a word of similar spelling or meaning. It is no similarity, so a query about things that are
missing in the evidence scores below `medium`.

Objects are recognised, but actions are not: "a dog running" finds dogs. With an image-text encoder
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
from tl_data.local.search.query import Hit, Query, check, confidence, minimum_score
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
        fetch: runs SQL on the full-text table of the index, which is named `words` in the SQL.
        encoder: the active image-text encoder, if any.
        object_models: the models for the images of the query, if any.

    Raises:
        ValueError: an unknown option, operator or threshold, a query without text and image, or an image that
            cannot be decoded.
    """
    check(query)
    allowed = index.allowed(query.video_ids)
    if not allowed.any():
        return []
    question = parser.parse(query.text) if query.text and query.text.strip() else None
    matches: dict[int, Match] = {}
    if question:
        pictures = picture_scores(index, encoder, question, query, len(allowed))
        labels = label_scores(index, question, len(allowed)) if "visual" in query.options else None
        rows = candidates(index, fetch, question, query, allowed, pictures, labels.scores if labels else None)
        ranker = Ranker(
            index,
            lambda ids: texts_of(fetch, ids),
            question,
            query.options,
            needs_each_option=query.operator == "and",
            lexical="lexical" in query.transcription_options,
            semantic="semantic" in query.transcription_options,
            pictures=pictures,
            labels=labels,
        )
        matches = {
            match.row: match
            for match in ranker.rank(rows, 0.0 if query.images else minimum_score(query) / 100)
        }
    if query.images:
        matches = search_images(index, query, allowed, matches if question else None, encoder, object_models)
    minimum = minimum_score(query)
    return hits_of(index, [match for match in matches.values() if 100 * match.score >= minimum], query)


def hits_of(index: ClipIndex, matches: Iterable[Match], query: Query) -> list[Hit]:
    """Merge adjacent matches with the same evidence into hits with exact start and end."""
    ids = index.ids
    groups: list[list[Match]] = []
    for match in sorted(matches, key=lambda match: match.row):
        if groups and _belong_together(groups[-1][-1], match, ids):
            groups[-1].append(match)
        else:
            groups.append([match])
    scored_groups: list[tuple[float, float, float, str, Match, list[Match]]] = []
    for group in groups:
        start, end = index.times(group[0].row)[0], index.times(group[-1].row)[1]
        spans = [span for match in group for span in match.spans]
        if spans and all(match.only_words for match in group):
            start, end = min(span[0] for span in spans), max(span[1] for span in spans)
        best = max(group, key=lambda match: (match.score, _overlap(index.times(match.row), start, end)))
        video = index.videos.get(int(ids[best.row]) >> 16)
        if video is not None:
            scored_groups.append((best.score, start, end, video, best, group))
    scored_groups.sort(key=lambda item: (-round(item[0], 4), item[4].row))  # ties keep the order of insertion
    hits: list[Hit] = []
    for rank, (score, start, end, video, best, group) in enumerate(scored_groups[: query.limit], 1):
        speech = sorted(
            {span for match in group for span in match.speech if span[0] < end and span[1] > start}
        )
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
                transcription=" ".join(text for _, _, text in speech) or None,
                evidence=best.evidence,
            )
        )
    return hits


def _overlap(times: tuple[float, float], start: float, end: float) -> float:
    """The seconds of a clip that lie inside a time range."""
    return min(times[1], end) - max(times[0], start)


def _belong_together(before: Match, after: Match, ids: NDArray[np.int64]) -> bool:
    """Whether two matches are adjacent clips of a video with the same evidence."""
    if int(ids[after.row]) - int(ids[before.row]) != 1:  # the ids of adjacent clips are consecutive
        return False
    if before.only_words and after.only_words:
        return bool(set(before.spans) & set(after.spans)) or before.evidence == after.evidence
    return before.evidence == after.evidence and abs(before.score - after.score) < 0.2


_NUMBER = 1  # the number of the single video in its index


def find_in_video(evidence: Evidence, text: str, options: tuple[str, ...] = ("visual", "audio")) -> list[Hit]:
    """Find the parts of a single video that match a text; see `find`."""
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
    ranker = Ranker(index, lambda _: rows, question, options, labels=labels)
    matches = ranker.rank(np.arange(index.count, dtype=np.int64))
    return hits_of(index, matches, Query("", text, options=options))
