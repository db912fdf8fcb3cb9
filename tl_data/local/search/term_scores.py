"""Scores of the words of a query against the lines of all candidates, computed as arrays.

A word of the query is explained by itself, also with recognition errors, or by meaning. The score by meaning
is the mean of two cosines: with the nearest word of the line, and with the line as a whole. So a vaguely
similar word scores low in a sentence about something else. For a word that names a trait, only the first
cosine is used. A word also scores less if the clip contains few other words of the query, because a single
one of three may occur by chance.

A search scores hundreds of candidates with thousands of words, most without a match, so each must be cheap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tl_data.local.search import word_vectors
from tl_data.local.search.fuzzy import Vocabulary, has_meaning, stem
from tl_data.local.search.parser import Part, Question, tokens
from tl_data.local.search.vectors import Floats, Rows

# Weights of explanations; the word itself has the weight 1.0. They were tuned on the labelled questions of
# benchmarks/engine_questions.py and on the `tuning` questions of engine_in_other_words.py. The questions of
# engine_held_out.py and the `held_out` questions are for evaluation.
# Scores rise linearly with a cosine: from 0 at `..._FROM` to `..._MOST` at `..._TO`.
_NEAR_FROM, _NEAR_TO, _NEAR_MOST = 0.25, 0.80, 0.85  # cosine of two words; below 0.2 if they are unrelated
_LIKE_FROM, _LIKE_TO, _LIKE_MOST = 0.15, 0.60, 0.85  # mean of the cosines of the words and of the line
_TRAIT_AS_WORD = 0.8  # a word for a trait, such as "red", that is found only in a text
_ALONE = 0.5  # a word in a clip that contains no other word of the query
# Words and lines of alternative readings: a word may be wrong, but the meaning of the line hardly differs.
_MAYBE_WORD, _MAYBE_LINE = 0.75, 0.9

_MAX_NORMS = 100_000  # the largest size of `_norm_of`
_norm_of: dict[str, float] = {}  # text of a line -> norm of its vector

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """A line of text of a candidate, tokenized."""

    kind: str  # shown, said, maybe or named
    start: float
    end: float
    text: str
    words: tuple[str, ...]
    times: tuple[float, ...] = ()  # start and end of each word in one flat list; () if unknown


def line_of(kind: str, start: float, end: float, text: str, times: Sequence[float] = ()) -> Line:
    """Make a line from its stored values."""
    return Line(kind, start, end, text, words_in(text), tuple(times))


@lru_cache(maxsize=50_000)
def words_in(text: str) -> tuple[str, ...]:
    """The words of a line. They are cached, because searches read the same lines again."""
    return tuple(tokens(text))


def group_maxima(values: Values, starts: Rows) -> Values:
    """The largest value of each group, 0 for an empty group. Groups begin at `starts`."""
    if not len(starts):
        return np.zeros((*values.shape[:-1], 0))
    # The padding allows an empty last group. `reduceat` gives other empty groups a wrong value, reset below.
    padded = np.concatenate((values, np.zeros((*values.shape[:-1], 1))), axis=-1)
    best = np.maximum.reduceat(padded, starts, axis=-1)
    sizes = np.diff(np.append(starts, values.shape[-1]))
    best[..., sizes == 0] = 0
    return np.asarray(np.maximum(best, 0), np.float64)


def term_scores(
    question: Question,
    lines: Sequence[Line],
    groups: Rows,
    vocabulary: Vocabulary,
    *,
    lexical: bool,
    semantic: bool,
) -> Values:
    """How well each line explains each part of the query: parts x lines, 0 to 1.

    Args:
        groups: the position of the first line of each clip.
        lexical: compare spellings, with recognition errors.
        semantic: compare meanings of words and sentences.
    """
    scores = np.zeros((len(question.parts), len(lines)))
    words = question.words
    if not lines or not words:
        return scores
    present_words = {word: None for line in lines for word in line.words}
    position_of = {word: position for position, word in enumerate(present_words)}
    word_positions = np.array([position_of[word] for line in lines for word in line.words], np.int64)
    sizes = np.array([len(line.words) for line in lines], np.int64)
    starts = np.concatenate(([0], np.cumsum(sizes)[:-1]))
    is_alternative = np.array([line.kind == "maybe" for line in lines])
    reading_weight = np.where(is_alternative, _MAYBE_WORD, 1.0)
    spelled = (
        _spelling_probabilities(words, list(present_words), vocabulary)
        if lexical
        else np.zeros((len(words), len(present_words)))
    )
    sums = word_vectors.word_sums(list(present_words)) if semantic else None
    spelling_scores = group_maxima(spelled[:, word_positions], starts) * reading_weight
    nearest_cosines = (
        group_maxima(_word_cosines(words, sums)[:, word_positions], starts) * reading_weight
        if sums is not None
        else np.zeros_like(spelling_scores)
    )
    line_cosines = _line_cosines(question, lines, sums, word_positions, starts) * np.where(
        is_alternative, _MAYBE_LINE, 1.0
    )
    row_of = {word: position for position, word in enumerate(words)}
    word_parts = [number for number, part in enumerate(question.parts) if part.words and not part.traits]
    for number, part in enumerate(question.parts):
        if not part.words:
            continue
        if part.words in question.phrases:
            word_probabilities = {word: spelled[row_of[word]] for word in part.words}
            scores[number] = reading_weight * np.array(
                [_phrase_score(part, line, word_probabilities, position_of) for line in lines]
            )
        else:
            word_scores = spelling_scores[[row_of[word] for word in part.words]]
            scores[number] = np.where(word_scores.min(axis=0) > 0, word_scores.mean(axis=0), 0.0)
    if word_parts and sums is not None:
        weights = np.array([question.parts[number].weight for number in word_parts])
        is_found = group_maxima((scores[word_parts] > 0).astype(np.float64), groups)
        share = np.repeat(weights @ is_found / weights.sum(), np.diff(np.append(groups, len(lines))))
        scores[word_parts] *= _ALONE + (1 - _ALONE) * share
    for number, part in enumerate(question.parts):
        if sums is None or not part.words:
            continue
        means = nearest_cosines[[row_of[word] for word in part.words]].mean(axis=0)
        if part.traits:
            meaning_scores = _scale(means, _NEAR_FROM, _NEAR_TO, _NEAR_MOST)
        else:
            meaning_scores = _scale((means + line_cosines) / 2, _LIKE_FROM, _LIKE_TO, _LIKE_MOST)
        scores[number] = np.maximum(scores[number], meaning_scores)
    scores[[number for number, part in enumerate(question.parts) if part.traits]] *= _TRAIT_AS_WORD
    return scores


def _scale(values: Values, start: float, end: float, maximum: float) -> Values:
    """Map values linearly: from 0 at `start` to `maximum` at `end`, constant outside."""
    return np.asarray(np.clip((values - start) / (end - start), 0, 1) * maximum, np.float64)


def _spelling_probabilities(
    words: Sequence[str], present_words: Sequence[str], vocabulary: Vocabulary
) -> Values:
    """The probability that a present word is a query word with errors: query words x present words."""
    stems: dict[str, int] = {}
    stem_of = np.array([stems.setdefault(stem(word), len(stems)) for word in present_words], np.int64)
    probabilities = np.zeros((len(words), len(stems)))
    for row, word in enumerate(words):
        for other, probability in vocabulary.similar_spellings(word).items():
            if (column := stems.get(stem(other))) is not None:
                probabilities[row, column] = max(probabilities[row, column], probability)
        if (column := stems.get(stem(word))) is not None:
            probabilities[row, column] = 1.0
    return probabilities[:, stem_of]


def _word_cosines(words: Sequence[str], sums: Floats) -> Values:
    """The cosine of each query word and each present word, 0 if negative: query words x present words."""
    query_vectors = np.stack([word_vectors.word_vector(word) * has_meaning(word) for word in words])
    return np.asarray(np.maximum(query_vectors @ word_vectors.unit(sums).T, 0), np.float64)


def _line_cosines(
    question: Question, lines: Sequence[Line], sums: Floats | None, word_positions: Rows, starts: Rows
) -> Values:
    """The cosine of each line and the words of the query that name no trait, 0 if negative."""
    query_words = [word for part in question.parts if not part.traits for word in part.words]
    if sums is None or not len(word_positions) or not any(has_meaning(word) for word in query_words):
        return np.zeros(len(lines))
    vector = word_vectors.word_vectors([" ".join(query_words)])[0]
    ends = np.append(starts[1:], len(word_positions))
    # The sum over a line is a difference of two cumulative sums.
    cumulative_sums = np.concatenate(([0.0], np.cumsum((sums @ vector)[word_positions], dtype=np.float64)))
    dot_products = cumulative_sums[ends] - cumulative_sums[starts]
    dot_products[[line.kind == "named" for line in lines]] = 0
    similar_lines = np.flatnonzero(dot_products > 1e-6)  # norms are computed only for similar lines
    cosines = np.zeros(len(lines))
    cosines[similar_lines] = dot_products[similar_lines] / _line_norms(
        [lines[at].text for at in similar_lines.tolist()],
        sums,
        word_positions,
        starts[similar_lines],
        ends[similar_lines],
    )
    return cosines


def _line_norms(texts: Sequence[str], sums: Floats, word_positions: Rows, starts: Rows, ends: Rows) -> Values:
    """The norms of the vectors of lines. They are cached, because searches read the same lines again."""
    # Another thread may clear the cache, so this call keeps its own references.
    norms = {text: _norm_of.get(text) for text in texts}
    if new_texts := {text: position for position, text in enumerate(texts) if norms[text] is None}:
        if len(_norm_of) > _MAX_NORMS:
            _norm_of.clear()
        positions = [np.arange(starts[position], ends[position]) for position in new_texts.values()]
        first_positions = np.concatenate(
            ([0], np.cumsum([len(words_of_line) for words_of_line in positions])[:-1])
        )
        totals = np.add.reduceat(sums[word_positions[np.concatenate(positions)]], first_positions, axis=0)
        new_norms = dict(zip(new_texts, np.linalg.norm(totals, axis=1).tolist(), strict=True))
        _norm_of.update(new_norms)
        norms |= new_norms
    return np.array([norms[text] for text in texts], np.float64)


def _phrase_score(
    part: Part, line: Line, word_probabilities: dict[str, Values], position_of: dict[str, int]
) -> float:
    """How well a line contains the words of a quoted phrase, consecutively and in order."""
    n = len(part.words)
    best = 0.0
    for start in range(len(line.words) - n + 1):
        values = [
            float(word_probabilities[word][position_of[line.words[start + i]]])
            for i, word in enumerate(part.words)
        ]
        best = max(best, sum(values) / n if min(values) > 0 else 0.0)
    if not best and "".join(part.words) in "".join(line.words):  # the spaces differ
        best = 0.9
    return best
