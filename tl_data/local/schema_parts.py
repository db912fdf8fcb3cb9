"""The parts of a video that a list can be about: chapters, lines, topics, colours, faces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from tl_data.local.chapters import chapters_of, topics_of
from tl_data.local.evidence import Clip, Evidence, Span
from tl_data.local.facts import Fact, facts_of
from tl_data.local.traits import color_shares, counts
from tl_data.local.words import said_between, shown_between


@dataclass(frozen=True)
class Scope:
    """The stretch that a value is about; `text` if it is about one thing in it: a topic, a line, a colour."""

    start_sec: float
    end_sec: float
    text: str | None = None
    item: bool = field(default=False, compare=False)  # it is an item of a list already


class Parts:
    """Finds them in the evidence of one video."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence

    @cached_property
    def lists(self) -> dict[str, Callable[[Scope], list[Scope]]]:
        """Names of lists, as patterns, and what such a list is about."""
        return {
            r"\bhash ?tags?\b": self._hashtags,
            r"\b(?:topics?|keywords?|tags?|themes?|subjects?)\b": self._topics,
            r"\bcolou?rs?\b|\bpalette\b": lambda scope: self._texts(self.colors(scope), scope),
            r"\b(?:transcript\w*|speech|utterances?|quotes?|dialogue|sentences|spoken)\b": self.said,
            r"\b(?:on ?screen|screen|ocr|captions?|titles|slides?|shown|visible text|texts)\b": self.shown,
            r"\b(?:chapters?|scenes?|sections?|segments?|parts|timeline|steps?|shots?)\b": self.chapters,
            r"\b(?:highlights?|moments?|key points?|takeaways?)\b": self._highlights,
            r"\b(?:objects?|detections?|people|persons?|faces?)\b": self._objects,
        }

    def _topics(self, scope: Scope) -> list[Scope]:
        return self._texts(topics_of(self.evidence), scope)

    def _hashtags(self, scope: Scope) -> list[Scope]:
        return self._texts([f"#{topic.title()}" for topic in topics_of(self.evidence)], scope)

    def _texts(self, texts: list[str], scope: Scope) -> list[Scope]:
        return [Scope(scope.start_sec, scope.end_sec, text) for text in texts]

    def said(self, scope: Scope) -> list[Scope]:
        """The sentences spoken in a stretch."""
        return _spans(said_between(self.evidence, scope.start_sec, scope.end_sec))

    def shown(self, scope: Scope) -> list[Scope]:
        """The lines shown in a stretch."""
        return _spans(shown_between(self.evidence, scope.start_sec, scope.end_sec))

    def chapters(self, scope: Scope) -> list[Scope]:
        """The chapters that a stretch has a part of."""
        return [
            Scope(chapter.start_sec, chapter.end_sec)
            for chapter in chapters_of(self.evidence)
            if chapter.start_sec < scope.end_sec and chapter.end_sec > scope.start_sec
        ]

    def _highlights(self, scope: Scope) -> list[Scope]:
        facts = sorted(self.facts(scope), key=lambda fact: -fact.weight)[:3]
        return [Scope(f.start_sec, f.end_sec) for f in sorted(facts, key=lambda fact: fact.start_sec)]

    def _objects(self, scope: Scope) -> list[Scope]:
        return [
            Scope(clip.start_sec, clip.end_sec, name)
            for clip in self.evidence.clips
            if clip.start_sec < scope.end_sec and clip.end_sec > scope.start_sec
            for name in counts(clip)
        ]

    def clips(self, scope: Scope) -> list[Clip]:
        """The clips that a stretch has a part of."""
        return [
            c
            for c in self.evidence.clips
            if min(c.end_sec, scope.end_sec) - max(c.start_sec, scope.start_sec) > 0.2
        ]

    def facts(self, scope: Scope) -> list[Fact]:
        """The facts of a stretch."""
        return facts_of(self.evidence, scope.start_sec, scope.end_sec)

    def colors(self, scope: Scope) -> list[str]:
        """The five main colours of a stretch, largest first."""
        total: dict[str, float] = {}
        for clip in self.clips(scope):
            for color, share in color_shares(clip).items():
                total[color] = total.get(color, 0.0) + share * (clip.end_sec - clip.start_sec)
        return [color for color, _ in sorted(total.items(), key=lambda item: (-item[1], item[0]))[:5]]


def _spans(spans: list[Span]) -> list[Scope]:
    return [Scope(span.start_sec, span.end_sec, span.text.strip()) for span in spans]
