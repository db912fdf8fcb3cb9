"""Scores of the words of a query against the lines of all candidates, computed as arrays.

A word is explained by itself, also with recognition errors, or by meaning. The score of a meaning is the mean
of
two cosines: of the nearest word of the line, and of the line as a whole. So one vaguely similar word scores
low in a sentence about something else. A word also scores less if the clip contains few of the query's words,
because a single one of three occurs by chance.

A search scores hundreds of candidates with thousands of words, most without any match, so each must be cheap.
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

# Weights of explanations, relative to 1.0 of the word itself. They were tuned on the labelled questions of
# benchmarks/engine_questions.py and the `tuning` ones of engine_in_other_words.py; engine_held_out.py and the
# `held_out` ones are for evaluation.
_NEAR_FROM, _NEAR_TO, _NEAR_MOST = 0.25, 0.80, 0.85  # cosine of two words; unrelated ones are below 0.2
_LIKE_FROM, _LIKE_TO, _LIKE_MOST = 0.15, 0.60, 0.85  # mean of the cosines of words and of lines
_TRAIT_AS_WORD = 0.8  # a trait of the query that is only spoken: "red"
_ALONE = 0.5  # weight of a word without any other word of the query
# Other readings: a word that only they contain may be wrong; the sentence as a whole hardly differs.
_MAYBE_WORD, _MAYBE_LINE = 0.75, 0.9

_MOST_LENGTHS = 100_000
_length_of: dict[str, float] = {}  # text of a line -> length of its vector

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
    """A line from its stored form."""
    return Line(kind, start, end, text, words_in(text), tuple(times))


@lru_cache(maxsize=50_000)
def words_in(text: str) -> tuple[str, ...]:
    """The words of a line; cached, because searches see the same lines."""
    return tuple(tokens(text))


def best_of(values: Values, starts: Rows) -> Values:
    """The largest value of each group. Groups begin at `starts`; the value of an empty group is 0."""
    if not len(starts):
        return np.zeros((*values.shape[:-1], 0))
    # The padding allows an empty last group. Other empty groups get the next group's value, reset below.
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
    """How well each line explains each part of the query, parts x lines, 0 to 1.

    Args:
        groups: the first line of each clip.
        lexical: compare spellings, with recognition errors.
        semantic: compare meanings of words and sentences.
    """
    found = np.zeros((len(question.parts), len(lines)))
    words = question.words
    if not lines or not words:
        return found
    present = {word: None for line in lines for word in line.words}
    place = {word: at for at, word in enumerate(present)}
    flat = np.array([place[word] for line in lines for word in line.words], np.int64)
    sizes = np.array([len(line.words) for line in lines], np.int64)
    starts = np.concatenate(([0], np.cumsum(sizes)[:-1]))
    maybe = np.array([line.kind == "maybe" for line in lines])
    doubt = np.where(maybe, _MAYBE_WORD, 1.0)
    spelled = _spelled(words, list(present), vocabulary) if lexical else np.zeros((len(words), len(present)))
    sums = word_vectors.word_sums(list(present)) if semantic else None
    same = best_of(spelled[:, flat], starts) * doubt
    near = best_of(_near(words, sums)[:, flat], starts) * doubt if sums is not None else np.zeros_like(same)
    like = _like(question, lines, sums, flat, starts) * np.where(maybe, _MAYBE_LINE, 1.0)
    row_of = {word: at for at, word in enumerate(words)}
    opened = [number for number, part in enumerate(question.parts) if part.words and not part.traits]
    for number, part in enumerate(question.parts):
        if not part.words:
            continue
        if part.words in question.phrases:
            known = {word: spelled[row_of[word]] for word in part.words}
            found[number] = doubt * np.array([_phrase(part, line, known, place) for line in lines])
        else:
            each = same[[row_of[word] for word in part.words]]
            found[number] = np.where(each.min(axis=0) > 0, each.mean(axis=0), 0.0)
    if opened and sums is not None:
        weights = np.array([question.parts[number].weight for number in opened])
        there = best_of((found[opened] > 0).astype(np.float64), groups)
        share = np.repeat(weights @ there / weights.sum(), np.diff(np.append(groups, len(lines))))
        found[opened] *= _ALONE + (1 - _ALONE) * share
    for number, part in enumerate(question.parts):
        if sums is None or not part.words:
            continue
        means = near[[row_of[word] for word in part.words]].mean(axis=0)
        if part.traits:
            meant = _scaled(means, _NEAR_FROM, _NEAR_TO, _NEAR_MOST)
        else:
            meant = _scaled((means + like) / 2, _LIKE_FROM, _LIKE_TO, _LIKE_MOST)
        found[number] = np.maximum(found[number], meant)
    found[[number for number, part in enumerate(question.parts) if part.traits]] *= _TRAIT_AS_WORD
    return found


def _scaled(values: Values, least: float, enough: float, most: float) -> Values:
    """Linear from 0 at `least` to `most` at `enough`."""
    return np.asarray(np.clip((values - least) / (enough - least), 0, 1) * most, np.float64)


def _spelled(words: Sequence[str], present: Sequence[str], vocabulary: Vocabulary) -> Values:
    """The probability that a present word spells a query word, query words x present words."""
    stems: dict[str, int] = {}
    stem_of = np.array([stems.setdefault(stem(word), len(stems)) for word in present], np.int64)
    sure_of = np.zeros((len(words), len(stems)))
    for row, word in enumerate(words):
        for other, sure in vocabulary.alike(word).items():
            if (at := stems.get(stem(other))) is not None:
                sure_of[row, at] = max(sure_of[row, at], sure)
        if (at := stems.get(stem(word))) is not None:
            sure_of[row, at] = 1.0
    return sure_of[:, stem_of]


def _near(words: Sequence[str], sums: Floats) -> Values:
    """The cosine of each query word and each present word, 0 if negative, query words x present words."""
    asked = np.stack([word_vectors.word_vector(word) * has_meaning(word) for word in words])
    return np.asarray(np.maximum(asked @ word_vectors.unit(sums).T, 0), np.float64)


def _like(question: Question, lines: Sequence[Line], sums: Floats | None, flat: Rows, starts: Rows) -> Values:
    """The cosine of each line and the words of the query that name no trait, 0 if negative."""
    asked = [word for part in question.parts if not part.traits for word in part.words]
    if sums is None or not len(flat) or not any(has_meaning(word) for word in asked):
        return np.zeros(len(lines))
    vector = word_vectors.word_vectors([" ".join(asked)])[0]
    ends = np.append(starts[1:], len(flat))
    # The sum over a line is a difference of two cumulative sums.
    running = np.concatenate(([0.0], np.cumsum((sums @ vector)[flat], dtype=np.float64)))
    along = running[ends] - running[starts]
    along[[line.kind == "named" for line in lines]] = 0
    some = np.flatnonzero(along > 1e-6)  # lengths are needed only for similar lines
    found = np.zeros(len(lines))
    found[some] = along[some] / _lengths(
        [lines[at].text for at in some.tolist()], sums, flat, starts[some], ends[some]
    )
    return found


def _lengths(texts: Sequence[str], sums: Floats, flat: Rows, starts: Rows, ends: Rows) -> Values:
    """The lengths of the vectors of lines; cached, because searches see the same lines."""
    # Another thread may clear the cache, so this call keeps its own references.
    known = {text: _length_of.get(text) for text in texts}
    if fresh := {text: at for at, text in enumerate(texts) if known[text] is None}:
        if len(_length_of) > _MOST_LENGTHS:
            _length_of.clear()
        spots = [np.arange(starts[at], ends[at]) for at in fresh.values()]
        heads = np.concatenate(([0], np.cumsum([len(spot) for spot in spots])[:-1]))
        totals = np.add.reduceat(sums[flat[np.concatenate(spots)]], heads, axis=0)
        made = dict(zip(fresh, np.linalg.norm(totals, axis=1).tolist(), strict=True))
        _length_of.update(made)
        known |= made
    return np.array([known[text] for text in texts], np.float64)


def _phrase(part: Part, line: Line, known: dict[str, Values], place: dict[str, int]) -> float:
    """How well a line contains the words of a quoted phrase, consecutively and in order."""
    n = len(part.words)
    best = 0.0
    for at in range(len(line.words) - n + 1):
        values = [float(known[word][place[line.words[at + i]]]) for i, word in enumerate(part.words)]
        best = max(best, sum(values) / n if min(values) > 0 else 0.0)
    if not best and "".join(part.words) in "".join(line.words):  # differing blanks
        best = 0.9
    return best
