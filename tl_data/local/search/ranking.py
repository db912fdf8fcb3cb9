"""Ranks candidates by the share of the query that their evidence explains.

Each part of the query gets its best explanation in the evidence of the search options: a trait, a recognised
object, the encoder's score of the picture, the word itself, the word with a recognition error, or a word or
sentence of similar meaning. The score of a clip is the weighted mean over the parts. The scores of all
candidates are computed at once, and the reasons only for the candidates above the threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import orjson

from tl_data.local.perception.attributes import TRAIT_NUMBER
from tl_data.local.search.clip_index import ClipIndex
from tl_data.local.search.labels import LabelScores
from tl_data.local.search.parser import Part, Question
from tl_data.local.search.term_scores import Line, Values, group_maxima, line_of, term_scores
from tl_data.local.search.transcript import time_range
from tl_data.local.search.vectors import Floats, Rows

TextRow = tuple[int, str, str, str]  # clip id, maybe, named, spans as JSON (see clip_index.text_row)

#: Search option -> kinds of evidence: what is `seen` in pictures, `shown` as text on screen, `heard` besides
#: speech, and `said`.
EVIDENCE_KINDS = {
    "visual": ("seen", "shown"),
    "audio": ("heard", "said"),
    "sound": ("heard",),  # audio without speech
    "transcription": ("said",),
}

#: Kind of line -> kinds of evidence. Alternative readings ("maybe") count as speech, also of screen text.
_EXPLAINS = {"shown": ("shown",), "said": ("said",), "maybe": ("said",), "named": ("seen",)}

_OTHER_KIND = 0.75  # weight of evidence of another kind than the query names: "the title" for a spoken word
_MENTION = 0.75  # weight of words on screen or in speech for a part that names a visible concept
_MIN_SHARE = 0.25  # with the operator "and", the smallest share of the query that each option must explain
_MIN_VALUE = 0.35  # the smallest value that counts for that share; vague similarities of meaning are below it


@dataclass
class Match:
    """A matching clip, before adjacent ones are merged."""

    row: int
    score: float  # 0..1
    evidence: tuple[str, ...]
    spans: tuple[tuple[float, float], ...] = ()  # start and end of the words that matched
    only_words: bool = False  # whether only words explain the match; their times then bound the hit
    speech: tuple[tuple[float, float, str], ...] = ()  # start, end and text of speech


@dataclass
class _Explanation:
    """The best explanation of one part of the query by one kind of evidence."""

    value: float = 0.0
    reason: str = ""
    line: Line | None = None

    def offer(self, value: float, reason: str, line: Line | None = None) -> None:
        if value > self.value + 1e-9:
            self.value, self.reason, self.line = value, reason, line


def evidence_kind(trait: str) -> str:
    """The kind of evidence of a trait: `seen` or `heard`; `shown` or `said` for a language."""
    kind, _, language = trait.partition(" ")
    if language and kind in ("text", "speech"):
        return "shown" if kind == "text" else "said"
    return "heard" if trait.startswith("sound ") or trait in ("loud", "quiet") else "seen"


def _readings(maybe: str, lines: Sequence[Line]) -> list[Line]:
    """The alternative readings of the lines, with the times of the lines; see `Words.maybe`."""
    if not maybe:
        return []
    groups = maybe.split("\n\n")
    # Texts of an earlier version have no paragraphs, so it is unknown which line a reading belongs to.
    times = [(line.start, line.end) for line in lines]
    times = times if len(times) == len(groups) else [(0.0, 0.0)] * len(groups)
    return [
        line_of("maybe", *time, reading)
        for group, time in zip(groups, times, strict=True)
        for reading in group.split("\n")
        if reading
    ]


class Ranker:
    """Ranks the candidates of one query.

    Args:
        texts: returns the texts of clips by their ids.
        needs_each_option: whether each option must explain a part of the query (the operator "and").
        lexical, semantic: see `term_scores`; `lexical` also compares traits.
        pictures: the encoder score of the picture of each row, if an encoder is used.
        labels: the scores of the objects of each row; None if no object explains any part.
    """

    def __init__(
        self,
        index: ClipIndex,
        texts: Callable[[list[int]], list[TextRow]],
        question: Question,
        options: Sequence[str],
        *,
        needs_each_option: bool = False,
        lexical: bool = True,
        semantic: bool = True,
        pictures: Floats | None = None,
        labels: LabelScores | None = None,
    ) -> None:
        self._index, self._texts, self._question, self._options = index, texts, question, options
        self._needs_each_option, self._lexical, self._semantic = needs_each_option, lexical, semantic
        self._pictures = pictures  # encoder score of each row, 0 to 1
        self._labels = labels.scores if labels else None  # of objects for each part and row, 0 to 1
        self._concept_parts = sorted(labels.named) if labels else []
        self._kinds = sorted({kind for option in options for kind in EVIDENCE_KINDS[option]})
        self._total = sum(part.weight for part in question.parts) or 1.0

    def rank(self, rows: Rows, minimum: float = 0.0) -> list[Match]:
        """The matches among the candidates, with scores of at least `minimum`."""
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
        # The name of a concept is in the text of every clip that probably shows it. `label_scores` scores the
        # same concept by its probability, so that the most probable clip is first.
        scores[np.ix_(self._concept_parts, [at for at, line in enumerate(lines) if line.kind == "named"])] = 0
        shares = self._shares(rows, lines, starts, scores)
        matches = []
        scores_of_line, first_line = scores.T.tolist(), starts.tolist()
        for position in np.flatnonzero((shares > 0) & (shares >= minimum - 1e-9)).tolist():
            values = scores_of_line[first_line[position] : first_line[position] + sizes[position]]
            if match := self._match(int(rows[position]), groups[position], values):
                matches.append(match)
        return matches

    def _lines(self, rows: Rows) -> list[list[Line]]:
        """The texts of each candidate."""
        ids = self._index.ids[rows].tolist()
        lines_of: dict[int, list[Line]] = {}
        for clip, maybe, named, spans in self._texts(ids):
            lines = [line_of(*span) for span in orjson.loads(spans)]
            lines += _readings(maybe, lines)
            lines += [line_of("named", 0.0, 0.0, named)] if named else []
            lines_of[clip] = lines
        return [lines_of.get(clip, []) for clip in ids]

    def _shares(self, rows: Rows, lines: Sequence[Line], starts: Rows, scores: Values) -> Values:
        """The share of the query that the evidence of each candidate explains."""
        factor = np.array([self._factor(line.kind) for line in lines])
        best = group_maxima(scores * factor, starts)
        if self._question.hint is None:  # a mention of a thing is weaker evidence than its picture
            best[self._concept_parts] *= _MENTION
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
        """The weight of a kind of line as evidence of `kinds`, or of any kind that it explains."""
        searched_kinds = [kind for kind in kinds or _EXPLAINS[kind] if kind in self._kinds]
        hint = self._question.hint
        return max((1.0 if hint in (None, kind) else _OTHER_KIND for kind in searched_kinds), default=0.0)

    # ------------------------------------------------------------------------------ one candidate

    def _match(self, row: int, lines: Sequence[Line], values: Sequence[Sequence[float]]) -> Match | None:
        explanations: list[dict[str, _Explanation]] = []
        for number, part in enumerate(self._question.parts):
            by_kind = {kind: _Explanation() for kind in self._kinds}
            self._explain_by_trait(row, part, by_kind)
            if self._pictures is not None and not part.traits and "seen" in by_kind:
                by_kind["seen"].offer(float(self._pictures[row]), f"picture: {part.text}")
            if self._labels is not None and "seen" in by_kind:
                by_kind["seen"].offer(float(self._labels[number, row]), f"seen: {part.text}")
            for line, score in zip(lines, values, strict=True):
                if score[number]:
                    mention = number in self._concept_parts and self._question.hint is None
                    self._explain_by_line(part, line, score[number] * (_MENTION if mention else 1), by_kind)
            explanations.append(by_kind)
        best_explanations = [
            max(by_kind.values(), key=lambda explanation: explanation.value) for by_kind in explanations
        ]
        share = self._weighted_mean([explanation.value for explanation in best_explanations])
        if share <= 0 or (self._needs_each_option and not self._explains_each_option(explanations)):
            return None
        reasons = tuple(
            dict.fromkeys(explanation.reason for explanation in best_explanations if explanation.value > 0)
        )
        spans = {
            self._time_of(part, explanation.line)
            for part, explanation in zip(self._question.parts, best_explanations, strict=True)
            if explanation.line and explanation.line.end > 0
        }
        return Match(
            row,
            share,
            reasons,
            tuple(sorted(spans)),
            only_words=all(
                explanation.line is not None and explanation.line.end > 0
                for explanation in best_explanations
                if explanation.value > 0
            ),
            speech=tuple((line.start, line.end, line.text) for line in lines if line.kind == "said"),
        )

    def _time_of(self, part: Part, line: Line) -> tuple[float, float]:
        """The time of the words of a part in a line, or of the line if their times are unknown."""
        times = tuple(zip(line.times[::2], line.times[1::2], strict=True))
        word_range = time_range(part.words, line.words, times, self._index.vocabulary) if times else None
        return word_range or (line.start, line.end)

    def _weighted_mean(self, values: Iterable[float]) -> float:
        """The mean of one value for each part of the query, weighted by the weights of the parts."""
        weighed = zip(self._question.parts, values, strict=True)
        return sum(part.weight * value for part, value in weighed) / self._total

    def _explains_each_option(self, explanations: Sequence[dict[str, _Explanation]]) -> bool:
        """Whether the evidence of each search option explains enough of the query; see `_MIN_SHARE`."""

        def share(option: str) -> float:
            values = [max(by_kind[kind].value for kind in EVIDENCE_KINDS[option]) for by_kind in explanations]
            return self._weighted_mean([value if value >= _MIN_VALUE else 0.0 for value in values])

        return all(share(option) >= _MIN_SHARE for option in self._options)

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
