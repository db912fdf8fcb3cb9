"""How well the lines of all candidates explain the words of a question, in a few array operations.

A search judges hundreds of candidates with thousands of words, and most of them explain nothing: those
must cost next to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tl_data.local import meaning
from tl_data.local.columns import Floats, Rows
from tl_data.local.matching import Vocabulary, has_meaning, stem
from tl_data.local.questions import Part, Question, tokens

# How well each kind of explanation explains, against 1.0 for the word itself. Set with the
# labelled questions of benchmarks/engine_questions.py in view; engine_held_out.py has the others.
_NEAR_FROM, _NEAR_TO, _NEAR_MOST = 0.25, 0.80, 0.85  # cosine of two words; strangers stay below 0.2
_LIKE_FROM, _LIKE_TO, _LIKE_MOST = 0.25, 0.65, 0.85  # cosine of the question and a sentence
_TRAIT_AS_WORD = 0.8  # "red" was asked for and said, not seen

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """A span of a candidate, ready to compare."""

    kind: str  # shown, said, maybe or named
    start: float
    end: float
    text: str
    words: tuple[str, ...]
    times: tuple[float, ...] = ()  # start and end of each word, one after the other, if they are known


def line_of(kind: str, start: float, end: float, text: str, times: Sequence[float] = ()) -> Line:
    """A line from what the library keeps of it."""
    return Line(kind, start, end, text, words_in(text), tuple(times))


@lru_cache(maxsize=50_000)
def words_in(text: str) -> tuple[str, ...]:
    """The words of a line; remembered, because the same lines are candidates again and again."""
    return tuple(tokens(text))


def best_of(values: Values, starts: Rows) -> Values:
    """The largest value of each group; groups begin at `starts` and an empty one has 0."""
    if not len(starts):
        return np.zeros((*values.shape[:-1], 0))
    # A zero at the end lets an empty last group exist; an empty one elsewhere would take its neighbour's.
    padded = np.concatenate((values, np.zeros((*values.shape[:-1], 1))), axis=-1)
    best = np.maximum.reduceat(padded, starts, axis=-1)
    sizes = np.diff(np.append(starts, values.shape[-1]))
    best[..., sizes == 0] = 0
    return np.asarray(np.maximum(best, 0), np.float64)


def credits_of(
    question: Question, lines: Sequence[Line], vocabulary: Vocabulary, *, lexical: bool, semantic: bool
) -> Values:
    """For each part of the question (rows) and each line, how well the line explains it, 0..1.

    Args:
        lexical: words may be explained as they are spelled, with slips.
        semantic: words and sentences may be explained by others of like meaning.
    """
    found = np.zeros((len(question.parts), len(lines)))
    if not lines:
        return found
    words = question.words
    present = {word: None for line in lines for word in line.words}
    place = {word: at for at, word in enumerate(present)}
    flat = np.array([place[word] for line in lines for word in line.words], np.int64)
    sizes = np.array([len(line.words) for line in lines], np.int64)
    starts = np.concatenate(([0], np.cumsum(sizes)[:-1]))
    sums = meaning.word_sums(list(present)) if semantic and present else None
    worth = _worth(words, list(present), sums, vocabulary, lexical=lexical)
    by_line = best_of(worth[:, flat], starts)
    likes = _likes(question, lines, sums, flat, starts) if semantic else None
    row_of = {word: at for at, word in enumerate(words)}
    for number, part in enumerate(question.parts):
        if not part.words:
            continue
        if part.words in question.phrases:
            known = {word: worth[row_of[word]] for word in part.words}
            value = np.array([_phrase(part, line, known, place) for line in lines])
        else:
            each = by_line[[row_of[word] for word in part.words]]
            value = np.where(each.min(axis=0) > 0, each.mean(axis=0), 0.0)
        if part.traits:
            value = value * _TRAIT_AS_WORD
        elif likes is not None:
            value = np.maximum(value, likes)
        found[number] = value
    return found


def _worth(
    words: Sequence[str],
    present: Sequence[str],
    sums: Floats | None,
    vocabulary: Vocabulary,
    *,
    lexical: bool,
) -> Values:
    """For each word asked (rows) and each word present, how well the second explains the first."""
    stems: dict[str, int] = {}
    stem_of = np.array([stems.setdefault(stem(word), len(stems)) for word in present], np.int64)
    worth = np.zeros((len(words), len(stems)))
    if sums is not None:
        able = [row for row, word in enumerate(words) if has_meaning(word)]
        if able:
            asked = np.stack([meaning.word_vector(words[row]) for row in able])
            near = (meaning.unit(sums) @ asked.T - _NEAR_FROM) * (_NEAR_MOST / (_NEAR_TO - _NEAR_FROM))
            for row, values in zip(able, np.minimum(near.T, _NEAR_MOST), strict=True):
                chosen = np.flatnonzero(values > 0)
                np.maximum.at(worth[row], stem_of[chosen], values[chosen])
    if lexical:
        for row, word in enumerate(words):
            for other, sure in vocabulary.alike(word).items():
                if (at := stems.get(stem(other))) is not None:
                    worth[row, at] = max(worth[row, at], sure)
            if (at := stems.get(stem(word))) is not None:
                worth[row, at] = 1.0
    return worth[:, stem_of] if len(present) else np.zeros((len(words), 0))


def _likes(
    question: Question, lines: Sequence[Line], sums: Floats | None, flat: Rows, starts: Rows
) -> Values | None:
    """How near in meaning each sentence is to the open words of the question, 0..1."""
    asked = [word for part in question.parts if not part.traits for word in part.words]
    if sums is None or not any(has_meaning(word) for word in asked):
        return None
    vector = meaning.word_vectors([" ".join(asked)])[0]
    kept = [number for number, line in enumerate(lines) if line.kind in ("said", "shown") and line.words]
    first = {lines[number].text: number for number in reversed(kept)}  # each text once
    chosen = np.array(sorted(first.values()), np.int64)
    likes = np.zeros(len(lines))
    if not len(chosen):
        return None
    ends = np.append(starts[1:], len(flat))
    spots = [np.arange(starts[number], ends[number]) for number in chosen]
    heads = np.concatenate(([0], np.cumsum([len(spot) for spot in spots])[:-1]))
    totals = np.add.reduceat(sums[flat[np.concatenate(spots)]], heads, axis=0)
    cosines = meaning.unit(np.asarray(totals, np.float32)) @ vector
    near = np.clip((cosines - _LIKE_FROM) / (_LIKE_TO - _LIKE_FROM), 0, 1) * _LIKE_MOST
    value_of = {lines[number].text: float(value) for number, value in zip(chosen, near, strict=True)}
    likes[kept] = [value_of[lines[number].text] for number in kept]
    return likes


def _phrase(part: Part, line: Line, known: dict[str, Values], place: dict[str, int]) -> float:
    """How well a line holds the words of a quoted phrase, in order and next to one another."""
    n = len(part.words)
    best = 0.0
    for at in range(len(line.words) - n + 1):
        values = [float(known[word][place[line.words[at + i]]]) for i, word in enumerate(part.words)]
        best = max(best, sum(values) / n if min(values) > 0 else 0.0)
    if not best and "".join(part.words) in "".join(line.words):  # a blank more or less
        best = 0.9
    return best
