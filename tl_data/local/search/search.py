"""A query -> the moments that answer it, best first.

Three ways to find candidates: measured traits added up over all clips, full-text search with BM25 and
word stems, and nearest vectors for paraphrases. Every candidate is then judged part by part: which share
of what was asked does its evidence explain, by a trait, by a word shown or spoken, by a word that is
spelled or meant alike? That share, not a similarity, becomes the score, and so a question about things
that are not in the evidence stays below `medium`.

Things are recognised, actions are not: "a dog running" finds dogs. With an encoder of pictures
(image_encoder.py) a part of the question that is no measured trait is also explained by how well the question
fits the clip's picture.

Searching a single video that need not be in any library: the passages that answer a question.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from tl_data.local.perception.attributes import words_of
from tl_data.local.perception.evidence import Evidence
from tl_data.local.perception.vision.image_encoder import Sight
from tl_data.local.perception.vision.objects import Eyes
from tl_data.local.search import parser
from tl_data.local.search.clip_index import Shelf, clip_id, pack_of, text_row, vocabulary_of
from tl_data.local.search.image_search import with_images
from tl_data.local.search.labels import label_credits
from tl_data.local.search.query import Hit, Query, check, confidence, least_of
from tl_data.local.search.ranking import Judge, Match, TextRow
from tl_data.local.search.retrieval import Fetch, candidates, fitting_pictures, texts_of


def find(
    shelf: Shelf, fetch: Fetch, query: Query, sight: Sight | None = None, eyes: Eyes | None = None
) -> list[Hit]:
    """Answer a query from one index.

    Args:
        shelf: the columns of the index.
        fetch: runs SQL on the index's full-text table, called `words` in it.
        sight: the encoder of pictures that is at work, if there is one.
        eyes: what recognises things in the pictures of the query, if anything does.

    Raises:
        ValueError: an option, operator or threshold that does not exist, or nothing asked.
    """
    check(query)
    allowed = shelf.allowed(query.video_ids)
    if not allowed.any():
        return []
    question = parser.parse(query.text) if query.text and query.text.strip() else None
    found: dict[int, Match] = {}
    if question:
        pictures = fitting_pictures(shelf, sight, question, query, len(allowed))
        labels = label_credits(shelf, question, len(allowed)) if "visual" in query.options else None
        rows = candidates(shelf, fetch, question, query, allowed, pictures, labels)
        judge = Judge(
            shelf,
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
            match.row: match for match in judge.judge(rows, 0.0 if query.images else least_of(query) / 100)
        }
    if query.images:
        found = with_images(shelf, query, allowed, found if question else None, sight, eyes)
    least = least_of(query)
    return hits_of(shelf, [match for match in found.values() if 100 * match.score >= least], query)


def hits_of(shelf: Shelf, matches: Iterable[Match], query: Query) -> list[Hit]:
    """Matches as moments: neighbours with the same evidence are one, with its exact start and end."""
    ids = shelf.ids
    moments: list[list[Match]] = []
    for match in sorted(matches, key=lambda match: match.row):
        if moments and _one_moment(moments[-1][-1], match, ids):
            moments[-1].append(match)
        else:
            moments.append([match])
    found: list[tuple[float, float, float, str, Match, list[Match]]] = []
    for moment in moments:
        start, end = shelf.times(moment[0].row)[0], shelf.times(moment[-1].row)[1]
        spans = [span for match in moment for span in match.spans]
        if spans and all(match.only_words for match in moment):
            start, end = min(span[0] for span in spans), max(span[1] for span in spans)
        best = max(moment, key=lambda match: (match.score, _shared(shelf.times(match.row), start, end)))
        video = shelf.videos.get(int(ids[best.row]) >> 16)
        if video is not None:
            found.append((best.score, start, end, video, best, moment))
    found.sort(key=lambda item: (-round(item[0], 4), item[4].row))  # ties: as they were added
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
    """Seconds of a clip that lie in a stretch."""
    return min(times[1], end) - max(times[0], start)


def _one_moment(before: Match, after: Match, ids: NDArray[np.int64]) -> bool:
    """Whether two matches are neighbouring clips of a video that carry the same evidence."""
    if int(ids[after.row]) - int(ids[before.row]) != 1:  # ids of one video count up, videos lie far apart
        return False
    if before.only_words and after.only_words:
        return bool(set(before.spans) & set(after.spans)) or before.evidence == after.evidence
    return before.evidence == after.evidence and abs(before.score - after.score) < 0.2


_NUMBER = 1  # of the only video


def moments(evidence: Evidence, text: str, options: tuple[str, ...] = ("visual", "audio")) -> list[Hit]:
    """The moments of a video that answer a question in words, best first; see `search.find`."""
    words = [words_of(clip, evidence) for clip in evidence.clips]
    shelf = Shelf()
    shelf.add(pack_of(_NUMBER, evidence, words), "")
    shelf.vocabulary.add(vocabulary_of(words))
    rows: list[TextRow] = []
    for position, (clip, word) in enumerate(zip(evidence.clips, words, strict=True)):
        if row := text_row(evidence, clip, word):
            rows.append((clip_id(_NUMBER, position), row[2], row[3], row[4]))
    question = parser.parse(text)
    labels = label_credits(shelf, question, shelf.count) if "visual" in options else None
    judge = Judge(shelf, lambda _: rows, question, options, labels=labels)
    matches = judge.judge(np.arange(shelf.count, dtype=np.int64))
    return hits_of(shelf, matches, Query("", text, options=options))
