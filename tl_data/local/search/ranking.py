"""Judging candidates: which share of a question does the evidence of a clip explain?

Each part of the question is looked for in everything the search options allow, and takes the best
explanation it finds: a measured trait, the word itself, the word with a slip of the recogniser in it, or a
word or sentence of like meaning. The parts' weights make the share. All candidates get their share at
once; what explains them is put into words only for those that are good enough to be found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import orjson

from tl_data.local.perception.attributes import TRAIT_NUMBER
from tl_data.local.search.clip_index import Shelf
from tl_data.local.search.parser import Part, Question
from tl_data.local.search.term_scores import Line, Values, best_of, credits_of, line_of
from tl_data.local.search.transcript import stretch
from tl_data.local.search.vectors import Floats, Rows

TextRow = tuple[int, str, str, str]  # clip id, maybe, named, spans as JSON (see packing.text_row)

# What each search option reads.
SIGHTS = {
    "visual": ("seen", "shown"),
    "audio": ("heard", "said"),
    "sound": ("heard",),  # audio without speech
    "transcription": ("said",),
}

# What a line of each kind can explain. Other readings ("maybe") are of speech: text on screen has none.
_SPEAKS_FOR = {"shown": ("shown",), "said": ("said",), "maybe": ("said",), "named": ("seen",)}

# How well each kind of explanation explains, against 1.0 for the word or trait itself; see crediting.py.
_OTHER_PLACE = 0.75  # the query says "the title", the word was spoken
_ALSO = 0.25  # share that each option must explain by itself for "and"
_AT_ALL = 0.35  # what counts for that: a meaning that is vaguely near does not


@dataclass
class Match:
    """A clip that answers, before it is merged with its neighbours."""

    row: int
    score: float  # 0..1
    evidence: tuple[str, ...]
    spans: tuple[tuple[float, float], ...] = ()  # of the words that matched
    only_words: bool = False  # nothing but words explains it: their times are the moment
    said: tuple[tuple[float, float, str], ...] = ()


@dataclass
class _Credit:
    """The best explanation of one part in one sight."""

    value: float = 0.0
    told: str = ""
    line: Line | None = None

    def offer(self, value: float, told: str, line: Line | None = None) -> None:
        if value > self.value + 1e-9:
            self.value, self.told, self.line = value, told, line


def sight_of(trait: str) -> str:
    """What a trait rests on: `seen`, `heard`, or for a language `shown` or `said`."""
    kind, _, language = trait.partition(" ")
    if language and kind in ("text", "speech"):
        return "shown" if kind == "text" else "said"
    return "heard" if trait.startswith("sound ") or trait in ("loud", "quiet") else "seen"


def _readings(maybe: str, lines: Sequence[Line]) -> list[Line]:
    """The other readings of the lines, with the lines' times; see `Words.maybe`."""
    if not maybe:
        return []
    groups = maybe.split("\n\n")
    # Texts of an earlier version have no paragraphs: of whose time each reading is remains unknown.
    times = [(line.start, line.end) for line in lines]
    times = times if len(times) == len(groups) else [(0.0, 0.0)] * len(groups)
    return [
        line_of("maybe", *time, reading)
        for group, time in zip(groups, times, strict=True)
        for reading in group.split("\n")
        if reading
    ]


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
        labels: Floats | None = None,
    ) -> None:
        self._shelf, self._texts, self._question, self._options = shelf, texts, question, options
        self._both, self._lexical, self._semantic = both, lexical, semantic
        self._pictures = pictures  # how well the question fits each row's picture, 0..1
        self._labels = labels  # how well recognised things explain each part in each row, 0..1
        self._sights = sorted({sight for option in options for sight in SIGHTS[option]})
        self._total = sum(part.weight for part in question.parts) or 1.0

    def judge(self, rows: Rows, least: float = 0.0) -> list[Match]:
        """The candidates that explain anything, with their share; none with a share below `least`."""
        if not len(rows):
            return []
        groups = self._lines(rows)
        lines = [line for group in groups for line in group]
        sizes = [len(group) for group in groups]
        starts = np.concatenate(([0], np.cumsum(sizes)[:-1])).astype(np.int64)
        worths = credits_of(
            self._question,
            lines,
            starts,
            self._shelf.vocabulary,
            lexical=self._lexical,
            semantic=self._semantic,
        )
        shares = self._shares(rows, lines, starts, worths)
        found = []
        by_line, first = worths.T.tolist(), starts.tolist()
        for at in np.flatnonzero((shares > 0) & (shares >= least - 1e-9)).tolist():
            values = by_line[first[at] : first[at] + sizes[at]]
            if match := self._one(int(rows[at]), groups[at], values):
                found.append(match)
        return found

    def _lines(self, rows: Rows) -> list[list[Line]]:
        """The texts of each candidate."""
        ids = self._shelf.ids[rows].tolist()
        found: dict[int, list[Line]] = {}
        for clip, maybe, named, spans in self._texts(ids):
            lines = [line_of(*span) for span in orjson.loads(spans)]
            lines += _readings(maybe, lines)
            lines += [line_of("named", 0.0, 0.0, named)] if named else []
            found[clip] = lines
        return [found.get(clip, []) for clip in ids]

    def _shares(self, rows: Rows, lines: Sequence[Line], starts: Rows, worths: Values) -> Values:
        """The share of the question that each candidate explains."""
        factor = np.array([self._factor(line.kind) for line in lines])
        best = best_of(worths * factor, starts)
        for number, part in enumerate(self._question.parts):
            if self._pictures is not None and not part.traits and "seen" in self._sights:
                best[number] = np.maximum(best[number], self._pictures[rows])
            if self._labels is not None and "seen" in self._sights:
                best[number] = np.maximum(best[number], self._labels[number, rows])
            for trait, credit in part.traits if self._lexical else ():
                if sight_of(trait) in self._sights and trait in TRAIT_NUMBER:
                    strengths = self._shelf.strengths(TRAIT_NUMBER[trait], rows)
                    best[number] = np.maximum(best[number], credit * strengths)
        weights = np.array([part.weight for part in self._question.parts])
        return np.asarray(weights @ best / self._total, np.float64)

    def _factor(self, kind: str, *sights: str) -> float:
        """What a line of a kind is worth, at best or for one sight."""
        here = [sight for sight in sights or _SPEAKS_FOR[kind] if sight in self._sights]
        hint = self._question.hint
        return max((1.0 if hint in (None, sight) else _OTHER_PLACE for sight in here), default=0.0)

    # ------------------------------------------------------------------------------ one candidate

    def _one(self, row: int, lines: Sequence[Line], values: Sequence[Sequence[float]]) -> Match | None:
        table: list[dict[str, _Credit]] = []
        for number, part in enumerate(self._question.parts):
            by_sight = {sight: _Credit() for sight in self._sights}
            self._by_trait(row, part, by_sight)
            if self._pictures is not None and not part.traits and "seen" in by_sight:
                by_sight["seen"].offer(float(self._pictures[row]), f"picture: {part.text}")
            if self._labels is not None and "seen" in by_sight:
                by_sight["seen"].offer(float(self._labels[number, row]), f"seen: {part.text}")
            for line, worth in zip(lines, values, strict=True):
                if worth[number]:
                    self._by_line(part, line, worth[number], by_sight)
            table.append(by_sight)
        best = [max(by_sight.values(), key=lambda credit: credit.value) for by_sight in table]
        share = self._share([credit.value for credit in best])
        if share <= 0 or (self._both and not self._each_option(table)):
            return None
        told = tuple(dict.fromkeys(credit.told for credit in best if credit.value > 0))
        spans = {
            self._spot(part, credit.line)
            for part, credit in zip(self._question.parts, best, strict=True)
            if credit.line and credit.line.end > 0
        }
        return Match(
            row,
            share,
            told,
            tuple(sorted(spans)),
            only_words=all(c.line is not None and c.line.end > 0 for c in best if c.value > 0),
            said=tuple((line.start, line.end, line.text) for line in lines if line.kind == "said"),
        )

    def _spot(self, part: Part, line: Line) -> tuple[float, float]:
        """When a line explains a part: while its words are spoken, if that is known, else all the time."""
        times = tuple(zip(line.times[::2], line.times[1::2], strict=True))
        found = stretch(part.words, line.words, times, self._shelf.vocabulary) if times else None
        return found or (line.start, line.end)

    def _share(self, values: Iterable[float]) -> float:
        weighed = zip(self._question.parts, values, strict=True)
        return sum(part.weight * value for part, value in weighed) / self._total

    def _each_option(self, table: Sequence[dict[str, _Credit]]) -> bool:
        def share(option: str) -> float:
            values = [max(by_sight[sight].value for sight in SIGHTS[option]) for by_sight in table]
            return self._share([value if value >= _AT_ALL else 0.0 for value in values])

        return all(share(option) >= _ALSO for option in self._options)

    def _by_trait(self, row: int, part: Part, by_sight: dict[str, _Credit]) -> None:
        if not self._lexical:
            return
        for trait, credit in part.traits:
            sight = sight_of(trait)
            if sight in by_sight and trait in TRAIT_NUMBER:
                strength = self._shelf.strength(TRAIT_NUMBER[trait], row)
                by_sight[sight].offer(credit * strength, trait)

    def _by_line(self, part: Part, line: Line, value: float, by_sight: dict[str, _Credit]) -> None:
        quoted = line.kind in ("shown", "said")
        told = f'{line.kind}: "{line.text}"' if quoted else f"{line.kind}: {part.text}"
        for sight in _SPEAKS_FOR[line.kind]:
            if sight in by_sight:
                by_sight[sight].offer(value * self._factor(line.kind, sight), told, line)
