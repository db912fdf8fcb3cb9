"""Finds the candidates of a query: clips that match by traits, objects, words, vectors or image encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from tl_data.local.perception.attributes import TRAIT_NUMBER
from tl_data.local.perception.vision.image_encoder import NEUTRAL, ImageEncoder, caption_scores
from tl_data.local.search import word_vectors
from tl_data.local.search.clip_index import ClipIndex
from tl_data.local.search.parser import Question
from tl_data.local.search.query import Query
from tl_data.local.search.ranking import EVIDENCE_KINDS, TextRow, evidence_kind
from tl_data.local.search.vectors import Bools, Floats, Rows

Fetch = Callable[[str, Sequence[str | int]], list[tuple[Any, ...]]]  # (SQL, values) -> rows

_BY_TRAIT, _BY_WORD, _BY_VECTOR = 300, 300, 80  # the largest number of candidates from each source
_COMMON = 5_000  # from this number of matches on, ranking by BM25 is too slow and is skipped


def picture_scores(
    index: ClipIndex, encoder: ImageEncoder | None, question: Question, query: Query, count: int
) -> Floats | None:
    """The encoder score of each clip's picture for the query, 0 to 1; None if the encoder is not used."""
    if encoder is None or "visual" not in query.options or "semantic" not in query.transcription_options:
        return None
    query_vector, *neutral = encoder.texts([question.text, *NEUTRAL])
    cosines = index.encoder_cosines(query_vector, count)
    if cosines is None:
        return None
    neutral_cosines = [c for vector in neutral if (c := index.encoder_cosines(vector, count)) is not None]
    return caption_scores(cosines, np.asarray(np.max(neutral_cosines, axis=0), np.float32))


def candidates(
    index: ClipIndex,
    fetch: Fetch,
    question: Question,
    query: Query,
    allowed: Bools,
    pictures: Floats | None,
    labels: Floats | None = None,
) -> Rows:
    """The rows of the candidates, ascending."""
    kinds = {kind for option in query.options for kind in EVIDENCE_KINDS[option]}
    groups: list[Rows] = []
    if "lexical" in query.transcription_options:
        groups.append(_find_by_traits(index, question, kinds, allowed))
        groups.append(
            _find_by_words(index, fetch, question, kinds, allowed, "semantic" in query.transcription_options)
        )
    if "semantic" in query.transcription_options:
        vector = word_vectors.word_vectors([question.text])[0]
        if vector.any():
            texts = [
                rows
                for kind_of_text, rows in (("shown", index.shown), ("said", index.said))
                if kind_of_text in kinds
            ]
            groups += [text.nearest(vector, _BY_VECTOR, allowed)[0] for text in texts]
    if pictures is not None:
        best = np.argsort(-np.where(allowed, pictures, 0), kind="stable")[:_BY_VECTOR]
        groups.append(np.asarray(best[allowed[best] & (pictures[best] > 0)], np.int64))
    if labels is not None and "seen" in kinds:
        weights = np.array([part.weight for part in question.parts], np.float32)
        groups.append(_best_rows(np.where(allowed, weights @ labels, 0), _BY_TRAIT))
    return np.unique(np.concatenate(groups)) if groups else np.zeros(0, np.int64)


def _best_rows(scores: Floats, limit: int) -> Rows:
    """The rows of the largest scores above 0."""
    limit = min(limit, len(scores))
    rows = np.argpartition(-scores, limit - 1)[:limit]
    return np.asarray(rows[scores[rows] > 0], np.int64)


def _find_by_traits(index: ClipIndex, question: Question, kinds: set[str], allowed: Bools) -> Rows:
    total = trait_scores(index, question, kinds, len(allowed))
    if total is None:
        return np.zeros(0, np.int64)
    return _best_rows(np.where(allowed, total, 0), _BY_TRAIT)


def trait_scores(index: ClipIndex, question: Question, kinds: Iterable[str], count: int) -> Floats | None:
    """The share of the query that the traits of each clip explain; None if it names no trait."""
    total: Floats | None = None
    for part in question.parts:
        best: Floats | None = None
        for trait, credit in part.traits:
            if evidence_kind(trait) in kinds and trait in TRAIT_NUMBER:
                column = index.trait(TRAIT_NUMBER[trait], count) * np.float32(credit * part.weight / 255)
                best = column if best is None else np.maximum(best, column)
        if best is not None:
            total = best if total is None else total + best
    return total


def _find_by_words(
    index: ClipIndex, fetch: Fetch, question: Question, kinds: set[str], allowed: Bools, by_meaning: bool
) -> Rows:
    words = question.words
    if not words:
        return np.zeros(0, np.int64)
    columns_with_kinds = (("shown", "shown"), ("said", "said"), ("maybe", "said"), ("named", "seen"))
    columns = [column for column, kind in columns_with_kinds if kind in kinds]
    if not columns:  # the option `sound` searches no words
        return np.zeros(0, np.int64)
    groups = []
    for word in words:
        group = [word, *index.vocabulary.similar_spellings(word)]
        if by_meaning:
            group += index.vocabulary.similar_meanings(word)
        groups.append(" OR ".join(_quote(alternative) for alternative in dict.fromkeys(group)))
    column_filter = f"{{{' '.join(columns)}}} : "
    select = "SELECT rowid FROM words WHERE words MATCH ?"
    # Clips with all words come first, so that clips with a common word cannot displace them.
    all_words = column_filter + "(" + " AND ".join(f"({group})" for group in groups) + ")"
    ids = fetch(f"{select} LIMIT ?", (all_words, _BY_WORD)) if len(groups) > 1 else []
    if len(ids) < _BY_WORD:
        # Pairs of words are also searched without the space, which recognised text often lacks.
        joined_pairs = [_quote(a + b) for a, b in pairwise(words)]
        any_word = f"{column_filter}({' OR '.join([*groups, *joined_pairs])})"
        matches = fetch(f"{select} LIMIT ?", (any_word, _COMMON))
        if _BY_WORD < len(matches) < _COMMON:
            matches = fetch(f"{select} ORDER BY rank LIMIT ?", (any_word, _BY_WORD))
        ids = list(dict.fromkeys([*ids, *matches]))
    rows = index.rows_of(np.array([row[0] for row in ids], np.int64))
    rows = rows[(rows >= 0) & (rows < len(allowed))]
    return rows[allowed[rows]][:_BY_WORD]


def texts_of(fetch: Fetch, ids: list[int]) -> list[TextRow]:
    """The texts of clips, for `Ranker`."""
    rows: list[TextRow] = []
    for start in range(0, len(ids), 500):
        chunk = ids[start : start + 500]
        placeholders = ",".join("?" * len(chunk))
        sql = f"SELECT rowid, maybe, named, spans FROM words WHERE rowid IN ({placeholders})"
        rows += [(row[0], row[1], row[2], row[3]) for row in fetch(sql, chunk)]
    return rows


def _quote(word: str) -> str:
    """Quote a word for a full-text query."""
    return '"' + word.replace('"', '""') + '"'
