"""Judging candidates: which share of a question does the evidence of a clip explain?

Each part of the question is looked for in everything the search options allow, and takes the best
explanation it finds: a measured trait, the word itself, the word with a slip of the recogniser in it, or a
word or sentence of like meaning. The parts' weights make the share.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tl_data.local import space
from tl_data.local.columns import Floats, Rows
from tl_data.local.matching import has_meaning, stem
from tl_data.local.questions import Part, Question, tokens
from tl_data.local.shelf import Shelf
from tl_data.local.words import TRAIT_NUMBER

TextRow = tuple[int, str, str, str]  # clip id, maybe, named, spans as JSON (see packing.text_row)

# What each search option reads.
SIGHTS = {"visual": ("seen", "shown"), "audio": ("heard", "said"), "transcription": ("said",)}

# How well each kind of explanation explains, against 1.0 for the word or trait itself. Set on one half of
# the labelled questions of benchmarks/engine_quality.py and measured on the other.
_OTHER_PLACE = 0.75  # the query says "the title", the word was spoken
_TRAIT_AS_WORD = 0.8  # "red" was asked for and said, not seen
_MAYBE = 0.75  # another reading of the recogniser
_NEAR_FROM, _NEAR_TO, _NEAR_MOST = 0.35, 0.80, 0.85  # cosine of two words
_LIKE_FROM, _LIKE_TO, _LIKE_MOST = 0.25, 0.65, 0.85  # cosine of the question and a sentence
_ALSO = 0.25  # share that each option must explain by itself for "and"


@dataclass
class Match:
    """A clip that answers, before it is merged with its neighbours."""

    row: int
    score: float  # 0..1
    evidence: tuple[str, ...]
    spans: tuple[tuple[float, float], ...] = ()  # of the words that matched
    only_words: bool = False  # nothing but words explains it: their times are the moment
    said: tuple[tuple[float, float, str], ...] = ()


@dataclass(frozen=True)
class _Line:
    """A span of a candidate, ready to compare."""

    kind: str  # shown, said, maybe or named
    start: float
    end: float
    text: str
    words: tuple[str, ...]
    stems: frozenset[str]


@dataclass
class _Credit:
    """The best explanation of one part in one sight."""

    value: float = 0.0
    told: str = ""
    line: _Line | None = None

    def offer(self, value: float, told: str, line: _Line | None = None) -> None:
        if value > self.value + 1e-9:
            self.value, self.told, self.line = value, told, line


def sight_of(trait: str) -> str:
    """What a trait rests on: `heard`, or `seen`."""
    return "heard" if trait.startswith("sound ") or trait in ("loud", "quiet") else "seen"


class Judge:
    """Judges the candidates of one question."""

    def __init__(
        self,
        shelf: Shelf,
        texts: Callable[[list[int]], list[TextRow]],
        question: Question,
        options: Sequence[str],
        *,
        both: bool = False,
        lexical: bool = True,
        semantic: bool = True,
        pictures: Floats | None = None,
    ) -> None:
        self._shelf, self._texts, self._question, self._options = shelf, texts, question, options
        self._both, self._lexical, self._semantic = both, lexical, semantic
        self._pictures = pictures  # how well the question fits each row's picture, 0..1
        self._sights = sorted({sight for option in options for sight in SIGHTS[option]})
        self._total = sum(part.weight for part in question.parts) or 1.0
        self._open = [part for part in question.parts if not part.traits and part.words]

    def judge(self, rows: Rows) -> list[Match]:
        """The candidates that explain anything, with their share."""
        lines = self._lines(rows)
        likes = self._likes(lines)
        worth = self._word_credits(lines)
        found = []
        for row in rows.tolist():
            if match := self._one(row, lines.get(row, []), worth, likes):
                found.append(match)
        return found

    # ------------------------------------------------------------------------------- what is there

    def _lines(self, rows: Rows) -> dict[int, list[_Line]]:
        """The texts of the candidates, by row."""
        ids = self._shelf.ids[rows]
        row_of = dict(zip(ids.tolist(), rows.tolist(), strict=True))
        found: dict[int, list[_Line]] = {}
        for clip, maybe, named, spans in self._texts(list(row_of)):
            lines = [_line(*span) for span in json.loads(spans)]
            lines += [_line("maybe", 0.0, 0.0, maybe)] if maybe else []
            lines += [_line("named", 0.0, 0.0, named)] if named else []
            found[row_of[clip]] = lines
        return found

    def _word_credits(self, lines: dict[int, list[_Line]]) -> dict[str, dict[str, float]]:
        """For each word asked, the stems that explain it and how well."""
        present = sorted({word for some in lines.values() for line in some for word in line.words})
        worth: dict[str, dict[str, float]] = {}
        use_meaning = bool(present) and self._semantic
        vectors = space.unit(space.word_sums(present)) if use_meaning else None
        for word in self._question.words:
            known: dict[str, float] = {}
            if vectors is not None and has_meaning(word):
                cosines = vectors @ space.word_vector(word)
                for i in np.flatnonzero(cosines > _NEAR_FROM).tolist():
                    near = _NEAR_MOST * min(1.0, (float(cosines[i]) - _NEAR_FROM) / (_NEAR_TO - _NEAR_FROM))
                    other = stem(present[i])
                    known[other] = max(known.get(other, 0.0), near)
            if self._lexical:
                for other, sure in self._shelf.vocabulary.alike(word).items():
                    known[stem(other)] = max(known.get(stem(other), 0.0), sure)
                known[stem(word)] = 1.0
            worth[word] = known
        return worth

    def _likes(self, lines: dict[int, list[_Line]]) -> dict[str, float]:
        """How near in meaning each sentence is to the open words of the question, 0..1."""
        if not (self._semantic and self._open):
            return {}
        asked = " ".join(word for part in self._open for word in part.words)
        if not any(has_meaning(word) for word in asked.split()):
            return {}
        kinds = ("said", "shown")
        texts = sorted({line.text for some in lines.values() for line in some if line.kind in kinds})
        if not texts:
            return {}
        cosines = np.stack([_sentence(text) for text in texts]) @ space.word_vectors([asked])[0]
        near = np.clip((cosines - _LIKE_FROM) / (_LIKE_TO - _LIKE_FROM), 0, 1) * _LIKE_MOST
        return {text: float(value) for text, value in zip(texts, near, strict=True) if value > 0}

    # ------------------------------------------------------------------------------ one candidate

    def _one(
        self,
        row: int,
        lines: Sequence[_Line],
        worth: dict[str, dict[str, float]],
        likes: dict[str, float],
    ) -> Match | None:
        table: list[dict[str, _Credit]] = []
        for part in self._question.parts:
            by_sight = {sight: _Credit() for sight in self._sights}
            self._by_trait(row, part, by_sight)
            if self._pictures is not None and not part.traits and "seen" in by_sight:
                by_sight["seen"].offer(float(self._pictures[row]), f"picture: {part.text}")
            if part.words:
                for line in lines:
                    self._by_line(part, line, worth, likes, by_sight)
            table.append(by_sight)
        best = [max(by_sight.values(), key=lambda credit: credit.value) for by_sight in table]
        share = self._share([credit.value for credit in best])
        if share <= 0 or (self._both and not self._each_option(table)):
            return None
        told = tuple(dict.fromkeys(credit.told for credit in best if credit.value > 0))
        spans = {(c.line.start, c.line.end) for c in best if c.line and c.line.end > 0}
        return Match(
            row,
            share,
            told,
            tuple(sorted(spans)),
            only_words=all(c.line is not None and c.line.end > 0 for c in best if c.value > 0),
            said=tuple((line.start, line.end, line.text) for line in lines if line.kind == "said"),
        )

    def _share(self, values: Iterable[float]) -> float:
        weighed = zip(self._question.parts, values, strict=True)
        return sum(part.weight * value for part, value in weighed) / self._total

    def _each_option(self, table: Sequence[dict[str, _Credit]]) -> bool:
        return all(
            self._share([max(by_sight[s].value for s in SIGHTS[option]) for by_sight in table]) >= _ALSO
            for option in self._options
        )

    def _by_trait(self, row: int, part: Part, by_sight: dict[str, _Credit]) -> None:
        if not self._lexical:
            return
        for trait, credit in part.traits:
            sight = sight_of(trait)
            if sight in by_sight and trait in TRAIT_NUMBER:
                strength = self._shelf.strength(TRAIT_NUMBER[trait], row)
                by_sight[sight].offer(credit * strength, trait)

    def _by_line(
        self,
        part: Part,
        line: _Line,
        worth: dict[str, dict[str, float]],
        likes: dict[str, float],
        by_sight: dict[str, _Credit],
    ) -> None:
        value = (
            self._phrase(part, line, worth)
            if part.words in self._question.phrases
            else _mean([_best(worth[word], line.stems) for word in part.words])
        )
        if not part.traits:
            value = max(value, likes.get(line.text, 0.0))
        else:
            value *= _TRAIT_AS_WORD
        if value <= 0:
            return
        if line.kind == "named":
            sights: tuple[str, ...] = ("seen",)
        elif line.kind == "maybe":
            sights, value = ("shown", "said"), value * _MAYBE
        else:
            sights = (line.kind,)
        for sight in sights:
            if sight in by_sight:
                elsewhere = self._question.hint not in (None, sight)
                told = (
                    f'{line.kind}: "{line.text}"'
                    if line.kind in ("shown", "said")
                    else f"{line.kind}: {part.text}"
                )
                by_sight[sight].offer(value * _OTHER_PLACE if elsewhere else value, told, line)

    def _phrase(self, part: Part, line: _Line, worth: dict[str, dict[str, float]]) -> float:
        """How well a line holds the words of a quoted phrase, in order and next to one another."""
        n = len(part.words)
        stems = [stem(word) for word in line.words]
        best = 0.0
        for at in range(len(stems) - n + 1):
            values = [worth[word].get(stems[at + i], 0.0) for i, word in enumerate(part.words)]
            best = max(best, _mean(values) if min(values) > 0 else 0.0)
        if not best and "".join(part.words) in "".join(line.words):  # a blank more or less
            best = 0.9
        return best


def _line(kind: str, start: float, end: float, text: str) -> _Line:
    return _Line(kind, start, end, text, *_taken_apart(text))


@lru_cache(maxsize=50_000)
def _taken_apart(text: str) -> tuple[tuple[str, ...], frozenset[str]]:
    words = tuple(tokens(text))
    return words, frozenset(stem(word) for word in words)


@lru_cache(maxsize=50_000)
def _sentence(text: str) -> space.Vector:
    """The vector of a line, from its words, whose vectors are remembered."""
    total = space.word_sums(_taken_apart(text)[0]).sum(axis=0, keepdims=True)
    return np.asarray(space.unit(np.asarray(total, np.float32))[0], np.float32)


def _best(known: dict[str, float], stems: frozenset[str]) -> float:
    return max((known[s] for s in known.keys() & stems), default=0.0)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values and min(values) > 0 else 0.0
