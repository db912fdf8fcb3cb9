"""Ranks candidates by the share of the query that their evidence explains.

Each part of the query takes its best explanation in the evidence of the search options: a trait, the word
itself, the word with a recognition error, or a word or sentence of similar meaning. The score of a clip is
the weighted mean over the parts. Scores of all candidates are computed at once; the reasons are composed only
for those above the threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import orjson

from tl_data.local.perception.attributes import TRAIT_NUMBER
from tl_data.local.search.clip_index import ClipIndex
from tl_data.local.search.parser import Part, Question
from tl_data.local.search.term_scores import Line, Values, best_of, line_of, term_scores
from tl_data.local.search.transcript import time_range
from tl_data.local.search.vectors import Floats, Rows

TextRow = tuple[int, str, str, str]  # clip id, maybe, named, spans as JSON (see clip_index.text_row)

# Search option -> kinds of evidence.
EVIDENCE_KINDS = {
    "visual": ("seen", "shown"),
    "audio": ("heard", "said"),
    "sound": ("heard",),  # audio without speech
    "transcription": ("said",),
}

# Kind of line -> kinds of evidence. Only speech has other readings ("maybe").
_EXPLAINS = {"shown": ("shown",), "said": ("said",), "maybe": ("said",), "named": ("seen",)}

# Weights of explanations, relative to 1.0 of the word or trait itself; see term_scores.py.
_OTHER_PLACE = 0.75  # the query says "the title", the word was spoken
_ALSO = 0.25  # least share of each option for the operator "and"
_AT_ALL = 0.35  # least value that counts for it, which excludes vague similarities of meaning


@dataclass
class Match:
    """A matching clip, before adjacent ones are merged."""

    row: int
    score: float  # 0..1
    evidence: tuple[str, ...]
    spans: tuple[tuple[float, float], ...] = ()  # of the words that matched
    only_words: bool = False  # explained by words alone, whose times are then those of the moment
    said: tuple[tuple[float, float, str], ...] = ()


@dataclass
class _Explanation:
    """The best explanation of one part by one kind of evidence."""

    value: float = 0.0
    reason: str = ""
    line: Line | None = None

    def offer(self, value: float, reason: str, line: Line | None = None) -> None:
        if value > self.value + 1e-9:
            self.value, self.reason, self.line = value, reason, line


def evidence_kind(trait: str) -> str:
    """The kind of evidence of a trait: `seen`, `heard`, or for a language `shown` or `said`."""
    kind, _, language = trait.partition(" ")
    if language and kind in ("text", "speech"):
        return "shown" if kind == "text" else "said"
    return "heard" if trait.startswith("sound ") or trait in ("loud", "quiet") else "seen"


def _readings(maybe: str, lines: Sequence[Line]) -> list[Line]:
    """The other readings of the lines, with the times of the lines; see `Words.maybe`."""
    if not maybe:
        return []
    groups = maybe.split("\n\n")
    # Texts of an earlier version have no paragraphs, so the line of a reading is unknown.
    times = [(line.start, line.end) for line in lines]
    times = times if len(times) == len(groups) else [(0.0, 0.0)] * len(groups)
    return [
        line_of("maybe", *time, reading)
        for group, time in zip(groups, times, strict=True)
        for reading in group.split("\n")
        if reading
    ]


class Ranker:
    """Ranks the candidates of one query."""

    def __init__(
        self,
        index: ClipIndex,
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
        self._index, self._texts, self._question, self._options = index, texts, question, options
        self._both, self._lexical, self._semantic = both, lexical, semantic
        self._pictures = pictures  # encoder score of each row, 0..1
        self._labels = labels  # score of recognised objects for each part and row, 0..1
        self._kinds = sorted({kind for option in options for kind in EVIDENCE_KINDS[option]})
        self._total = sum(part.weight for part in question.parts) or 1.0

    def rank(self, rows: Rows, least: float = 0.0) -> list[Match]:
        """The matches among the candidates, with scores of at least `least`."""
        if not len(rows):
            return []
        groups = self._lines(rows)
        lines = [line for group in groups for line in group]
        sizes = [len(group) for group in groups]
        starts = np.concatenate(([0], np.cumsum(sizes)[:-1])).astype(np.int64)
        scores = term_scores(
            self._question,
            lines,
            starts,
            self._index.vocabulary,
            lexical=self._lexical,
            semantic=self._semantic,
        )
        shares = self._shares(rows, lines, starts, scores)
        found = []
        by_line, first = scores.T.tolist(), starts.tolist()
        for at in np.flatnonzero((shares > 0) & (shares >= least - 1e-9)).tolist():
            values = by_line[first[at] : first[at] + sizes[at]]
            if match := self._match(int(rows[at]), groups[at], values):
                found.append(match)
        return found

    def _lines(self, rows: Rows) -> list[list[Line]]:
        """The texts of each candidate."""
        ids = self._index.ids[rows].tolist()
        found: dict[int, list[Line]] = {}
        for clip, maybe, named, spans in self._texts(ids):
            lines = [line_of(*span) for span in orjson.loads(spans)]
            lines += _readings(maybe, lines)
            lines += [line_of("named", 0.0, 0.0, named)] if named else []
            found[clip] = lines
        return [found.get(clip, []) for clip in ids]

    def _shares(self, rows: Rows, lines: Sequence[Line], starts: Rows, scores: Values) -> Values:
        """The share of the query that each candidate explains."""
        factor = np.array([self._factor(line.kind) for line in lines])
        best = best_of(scores * factor, starts)
        for number, part in enumerate(self._question.parts):
            if self._pictures is not None and not part.traits and "seen" in self._kinds:
                best[number] = np.maximum(best[number], self._pictures[rows])
            if self._labels is not None and "seen" in self._kinds:
                best[number] = np.maximum(best[number], self._labels[number, rows])
            for trait, credit in part.traits if self._lexical else ():
                if evidence_kind(trait) in self._kinds and trait in TRAIT_NUMBER:
                    strengths = self._index.strengths(TRAIT_NUMBER[trait], rows)
                    best[number] = np.maximum(best[number], credit * strengths)
        weights = np.array([part.weight for part in self._question.parts])
        return np.asarray(weights @ best / self._total, np.float64)

    def _factor(self, kind: str, *kinds: str) -> float:
        """The weight of a kind of line: the largest, or that for the given kinds of evidence."""
        here = [kind for kind in kinds or _EXPLAINS[kind] if kind in self._kinds]
        hint = self._question.hint
        return max((1.0 if hint in (None, kind) else _OTHER_PLACE for kind in here), default=0.0)

    # ------------------------------------------------------------------------------ one candidate

    def _match(self, row: int, lines: Sequence[Line], values: Sequence[Sequence[float]]) -> Match | None:
        table: list[dict[str, _Explanation]] = []
        for number, part in enumerate(self._question.parts):
            by_kind = {kind: _Explanation() for kind in self._kinds}
            self._explain_by_trait(row, part, by_kind)
            if self._pictures is not None and not part.traits and "seen" in by_kind:
                by_kind["seen"].offer(float(self._pictures[row]), f"picture: {part.text}")
            if self._labels is not None and "seen" in by_kind:
                by_kind["seen"].offer(float(self._labels[number, row]), f"seen: {part.text}")
            for line, score in zip(lines, values, strict=True):
                if score[number]:
                    self._explain_by_line(part, line, score[number], by_kind)
            table.append(by_kind)
        best = [max(by_kind.values(), key=lambda credit: credit.value) for by_kind in table]
        share = self._share([credit.value for credit in best])
        if share <= 0 or (self._both and not self._each_option(table)):
            return None
        reason = tuple(dict.fromkeys(credit.reason for credit in best if credit.value > 0))
        spans = {
            self._spot(part, credit.line)
            for part, credit in zip(self._question.parts, best, strict=True)
            if credit.line and credit.line.end > 0
        }
        return Match(
            row,
            share,
            reason,
            tuple(sorted(spans)),
            only_words=all(c.line is not None and c.line.end > 0 for c in best if c.value > 0),
            said=tuple((line.start, line.end, line.text) for line in lines if line.kind == "said"),
        )

    def _spot(self, part: Part, line: Line) -> tuple[float, float]:
        """The time of a part in a line: that of its words if known, else that of the line."""
        times = tuple(zip(line.times[::2], line.times[1::2], strict=True))
        found = time_range(part.words, line.words, times, self._index.vocabulary) if times else None
        return found or (line.start, line.end)

    def _share(self, values: Iterable[float]) -> float:
        weighed = zip(self._question.parts, values, strict=True)
        return sum(part.weight * value for part, value in weighed) / self._total

    def _each_option(self, table: Sequence[dict[str, _Explanation]]) -> bool:
        def share(option: str) -> float:
            values = [max(by_kind[kind].value for kind in EVIDENCE_KINDS[option]) for by_kind in table]
            return self._share([value if value >= _AT_ALL else 0.0 for value in values])

        return all(share(option) >= _ALSO for option in self._options)

    def _explain_by_trait(self, row: int, part: Part, by_kind: dict[str, _Explanation]) -> None:
        if not self._lexical:
            return
        for trait, credit in part.traits:
            kind = evidence_kind(trait)
            if kind in by_kind and trait in TRAIT_NUMBER:
                strength = self._index.strength(TRAIT_NUMBER[trait], row)
                by_kind[kind].offer(credit * strength, trait)

    def _explain_by_line(
        self, part: Part, line: Line, value: float, by_kind: dict[str, _Explanation]
    ) -> None:
        quoted = line.kind in ("shown", "said")
        reason = f'{line.kind}: "{line.text}"' if quoted else f"{line.kind}: {part.text}"
        for kind in _EXPLAINS[line.kind]:
            if kind in by_kind:
                by_kind[kind].offer(value * self._factor(line.kind, kind), reason, line)
