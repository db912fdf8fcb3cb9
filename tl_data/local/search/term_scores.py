"""How well the lines of all candidates explain the words of a question, in a few array operations.

A word asked for is explained by the word itself, however it was misread or misheard, or by what it means:
how near is the nearest word of a line, and how near is the line as a whole? Both count the same, so a single
word that is vaguely near explains little in a sentence about something else. And where meaning counts, too,
the fewer of the words asked for a clip holds, the less each tells: one of three may stand in any sentence.

A search judges hundreds of candidates with thousands of words, and most of them explain nothing: those
must cost next to nothing.
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

# How well each kind of explanation explains, against 1.0 for the word itself. Set with the
# labelled questions of benchmarks/engine_questions.py and the `tuning` ones of engine_in_other_words.py in
# view; engine_held_out.py and the `held_out` ones are the others.
_NEAR_FROM, _NEAR_TO, _NEAR_MOST = 0.25, 0.80, 0.85  # cosine of two words; strangers stay below 0.2
_LIKE_FROM, _LIKE_TO, _LIKE_MOST = 0.15, 0.60, 0.85  # mean cosine of word with word, question with line
_TRAIT_AS_WORD = 0.8  # "red" was asked for and said, not seen
_ALONE = 0.5  # what a word tells when next to nothing else of the question is there
# Another reading of the recogniser: the word that only it has may be wrong, the sentence hardly differs.
_MAYBE_WORD, _MAYBE_LINE = 0.75, 0.9

_MOST_LENGTHS = 100_000
_length_of: dict[str, float] = {}  # of the vectors of lines, by their text

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
    question: Question,
    lines: Sequence[Line],
    groups: Rows,
    vocabulary: Vocabulary,
    *,
    lexical: bool,
    semantic: bool,
) -> Values:
    """For each part of the question (rows) and each line, how well the line explains it, 0..1.

    Args:
        groups: where the lines of each clip begin.
        lexical: words may be explained as they are spelled, with slips.
        semantic: words and sentences may be explained by others of like meaning.
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
    """From 0 at `least` to `most` at `enough`."""
    return np.asarray(np.clip((values - least) / (enough - least), 0, 1) * most, np.float64)


def _spelled(words: Sequence[str], present: Sequence[str], vocabulary: Vocabulary) -> Values:
    """For each word asked (rows) and each word present, how surely the second is the first."""
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
    """For each word asked (rows) and each word present, the cosine of their meanings, 0 at least."""
    asked = np.stack([word_vectors.word_vector(word) * has_meaning(word) for word in words])
    return np.asarray(np.maximum(asked @ word_vectors.unit(sums).T, 0), np.float64)


def _like(question: Question, lines: Sequence[Line], sums: Floats | None, flat: Rows, starts: Rows) -> Values:
    """The cosine of each line of text and the open words of the question, 0 at least."""
    asked = [word for part in question.parts if not part.traits for word in part.words]
    if sums is None or not len(flat) or not any(has_meaning(word) for word in asked):
        return np.zeros(len(lines))
    vector = word_vectors.word_vectors([" ".join(asked)])[0]
    ends = np.append(starts[1:], len(flat))
    # The sum along a line is a difference of two running sums.
    running = np.concatenate(([0.0], np.cumsum((sums @ vector)[flat], dtype=np.float64)))
    along = running[ends] - running[starts]
    along[[line.kind == "named" for line in lines]] = 0
    some = np.flatnonzero(along > 1e-6)  # what is not near at all need not be measured
    found = np.zeros(len(lines))
    found[some] = along[some] / _lengths(
        [lines[at].text for at in some.tolist()], sums, flat, starts[some], ends[some]
    )
    return found


def _lengths(texts: Sequence[str], sums: Floats, flat: Rows, starts: Rows, ends: Rows) -> Values:
    """The lengths of the vectors of lines; remembered, because the same lines come again and again."""
    # Another thread may clear what is remembered: what this call needs it holds itself.
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
    """How well a line holds the words of a quoted phrase, in order and next to one another."""
    n = len(part.words)
    best = 0.0
    for at in range(len(line.words) - n + 1):
        values = [float(known[word][place[line.words[at + i]]]) for i, word in enumerate(part.words)]
        best = max(best, sum(values) / n if min(values) > 0 else 0.0)
    if not best and "".join(part.words) in "".join(line.words):  # a blank more or less
        best = 0.9
    return best
