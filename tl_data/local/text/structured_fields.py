"""Finds values for the fields of a JSON schema by the names of the fields.

`Parts` finds the items of lists: chapters, lines, topics, colours, faces. `Values` finds single values:
`title`, `start_sec`, `has_music`, or the quote that matches the description.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import log10
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tl_data.local.perception.attributes import (
    color_shares,
    counts,
    moves,
    screen_text_between,
    speech_between,
)
from tl_data.local.perception.evidence import Clip, Evidence, Span
from tl_data.local.perception.languages import NAMES, sure_languages
from tl_data.local.search.query import MEDIUM, Hit
from tl_data.local.search.search import find_in_video
from tl_data.local.text.chapters import chapters_of, title_of, topics_of
from tl_data.local.text.facts import Fact, clock, facts_of, sentence


@dataclass(frozen=True)
class Scope:
    """The time range that a value describes, in seconds.

    `text` is set if the value describes a single topic, line or colour in the range.
    """

    start_sec: float
    end_sec: float
    text: str | None = None
    item: bool = field(default=False, compare=False)  # whether the scope is that of a list item


class Parts:
    """The parts of one video, as items of lists."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence

    @cached_property
    def lists(self) -> dict[str, Callable[[Scope], list[Scope]]]:
        """Pattern of list names -> the function that returns the parts."""
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
        """The sentences spoken in a scope."""
        return _scopes_of(speech_between(self.evidence, scope.start_sec, scope.end_sec))

    def shown(self, scope: Scope) -> list[Scope]:
        """The lines on screen in a scope."""
        return _scopes_of(screen_text_between(self.evidence, scope.start_sec, scope.end_sec))

    def chapters(self, scope: Scope) -> list[Scope]:
        """The chapters that overlap a scope."""
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
        """The clips that overlap a scope."""
        return [
            c
            for c in self.evidence.clips
            if min(c.end_sec, scope.end_sec) - max(c.start_sec, scope.start_sec) > 0.2
        ]

    def facts(self, scope: Scope) -> list[Fact]:
        """The facts of a scope."""
        return facts_of(self.evidence, scope.start_sec, scope.end_sec)

    def colors(self, scope: Scope) -> list[str]:
        """The five main colours of a scope, largest first."""
        total: dict[str, float] = {}
        for clip in self.clips(scope):
            for color, share in color_shares(clip).items():
                total[color] = total.get(color, 0.0) + share * (clip.end_sec - clip.start_sec)
        return [color for color, _ in sorted(total.items(), key=lambda item: (-item[1], item[0]))[:5]]


def _scopes_of(spans: list[Span]) -> list[Scope]:
    return [Scope(span.start_sec, span.end_sec, span.text.strip()) for span in spans]


UNKNOWN = object()  # means "no evidence"; None is a value


def matches(pattern: str, text: str) -> bool:
    """Whether a text contains a match of a client's pattern.

    RE2 (in pyarrow) needs linear time. Python's `re` takes exponential time for some
    patterns and blocks the process.
    """
    return bool(pc.match_substring_regex(pa.scalar(text), pattern=pattern).as_py())


def video_scope(evidence: Evidence) -> Scope:
    """The scope of the whole video."""
    return Scope(0.0, evidence.probe.duration_sec)


def _name_words(name: str) -> str:
    """Split the name of a field into words: "startSec" and "start_sec" become "start sec"."""
    return re.sub(r"[\W_]+", " ", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)).strip().lower()


class Values:
    """Finds values for the names of fields in the evidence of one video."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self._video_parts = Parts(evidence)
        self._hits_of: dict[str, list[Hit]] = {}

    def find(self, kind: str, name: str, description: str, scope: Scope) -> Any:
        """A value of a JSON type for a field name, or UNKNOWN."""
        name_words = _name_words(name)
        if kind == "string":
            return self._text(name_words, description, scope)
        if kind == "boolean":
            return self._boolean(name_words, description, scope)
        if kind in ("integer", "number"):
            return self._number(name_words, description, scope)
        return UNKNOWN

    def choose(self, allowed: list[Any], name: str, description: str, scope: Scope) -> Any:
        """The allowed value that the evidence supports best, or UNKNOWN."""
        texts = [value for value in allowed if isinstance(value, str) and value.strip()]
        named_text = self._named_text(_name_words(name), scope)
        for value in texts:
            if isinstance(named_text, str) and value.lower() in (
                named_text.lower(),
                named_text.lower().split()[0] if named_text else "",
            ):
                return value
        best, best_score = UNKNOWN, MEDIUM
        for value in texts:
            for hit in self._hits(_name_words(value), scope)[:1]:
                if hit.score > best_score:
                    best, best_score = value, hit.score
        return best

    def matching(self, pattern: str, text: str | None) -> str | None:
        """A piece of text in the evidence that matches a pattern, or None."""
        for source in [text or "", *(span.text for span in (*self.evidence.shown, *self.evidence.speech))]:
            for piece in [source.strip(), *source.split()]:
                if 0 < len(piece) <= 64 and matches(pattern, piece):
                    return piece
        return None

    def parts(self, name: str, description: str, scope: Scope, *, objects: bool) -> list[Scope]:
        """The scopes of the items of a list; [] without evidence."""
        # A list inside an item must not contain the same item again: the recursion would not end.
        parts = [p for p in self._parts(name, description, scope, objects) if not (scope.item and p == scope)]
        return [replace(part, item=True) for part in parts]

    def _parts(self, name: str, description: str, scope: Scope, objects: bool) -> list[Scope]:
        name_words = _name_words(name) or _name_words(description)
        for pattern, find_parts in self._video_parts.lists.items():
            if re.search(pattern, name_words):
                return list(find_parts(scope))
        hits = (
            [h for h in find_in_video(self.evidence, description or name_words) if h.score >= MEDIUM]
            if description or name_words
            else []
        )
        in_scope = [h for h in hits if h.start_sec < scope.end_sec and h.end_sec > scope.start_sec]
        distinct = sorted({(h.start_sec, h.end_sec): h for h in in_scope}.values(), key=lambda h: h.start_sec)
        if not distinct and objects and not name:  # a list of objects at the root has no name: chapters
            return self._video_parts.chapters(scope)
        return [Scope(h.start_sec, h.end_sec, None if objects else _quote_in(h.evidence)) for h in distinct]

    # ------------------------------------------------------------------------------------- texts

    def _text(self, name_words: str, description: str, scope: Scope) -> Any:
        named_text = self._named_text(name_words, scope)
        if named_text is not UNKNOWN:
            return named_text
        if scope.text is not None:
            return scope.text
        return self._quote(description or name_words, scope)

    def _named_text(self, name_words: str, scope: Scope) -> Any:
        """The text for a field whose name says which evidence it wants, or UNKNOWN."""
        facts = self._video_parts.facts(scope)
        if re.search(r"\b(?:start|begin\w*|from|timestamp|time)\b", name_words):
            return clock(scope.start_sec)
        if re.search(r"\b(?:end|until|stop)\b", name_words):
            return clock(scope.end_sec)
        if re.search(r"\blanguage\b", name_words):
            return self._language(name_words, scope)
        if re.search(r"\b(?:transcript\w*|speech|spoken|said|quote|dialogue|utterance)\b", name_words):
            return _join_texts(speech_between(self.evidence, scope.start_sec, scope.end_sec))
        if re.search(r"\b(?:on ?screen|screen|ocr|caption|shown|visible text|slide)\b", name_words):
            return _join_texts(screen_text_between(self.evidence, scope.start_sec, scope.end_sec))
        if re.search(r"\bcolou?r\b", name_words):
            return next(iter(self._video_parts.colors(scope)), UNKNOWN) if scope.text is None else scope.text
        if re.search(r"\b(?:camera|camera movement)\b", name_words):
            names_movement = re.search(r"\b(?:movements?|motion|moves)\b", name_words) is not None
            return self._longest_value(scope, "camera", "static" if names_movement else "")
        if re.search(r"\bdirection\b", name_words):
            return self._longest_value(scope, "direction")
        if re.search(r"\b(?:sound|audio)\b", name_words):
            return self._longest_value(scope, "sound")
        if re.search(r"\borientation\b", name_words) and self.evidence.probe.width:
            return "portrait" if self.evidence.probe.height > self.evidence.probe.width else "landscape"
        if re.search(r"\b(?:title|headline|heading|chapter)\b", name_words) and facts:
            return title_of(facts)
        if (
            re.search(
                r"\b(?:summary|description|overview|synopsis|abstract|content|what happens)\b", name_words
            )
            and facts
        ):
            best = sorted(sorted(facts, key=lambda fact: -fact.weight)[:3], key=lambda fact: fact.start_sec)
            return " ".join(sentence(fact.text) for fact in best)
        return UNKNOWN

    def _longest_value(self, scope: Scope, attribute: str, default: str = "") -> Any:
        """The value of a clip attribute that lasts longest in a scope, or UNKNOWN.

        `default` is returned only if no other value occurs.
        """
        values = [
            (getattr(clip, attribute), clip.end_sec - clip.start_sec)
            for clip in self._video_parts.clips(scope)
        ]
        values = [item for item in values if item[0]]
        return _longest_lasting([item for item in values if item[0] != default] or values)

    def _language(self, name_words: str, scope: Scope) -> Any:
        """The main language of speech or on-screen text. If the name says neither, speech is tried first."""
        start, end = scope.start_sec, scope.end_sec
        speech, screen_text = (
            speech_between(self.evidence, start, end),
            screen_text_between(self.evidence, start, end),
        )
        if re.search(r"\b(?:text|screen|caption|shown|written)\b", name_words):
            speech = []
        elif re.search(r"\b(?:speech|spoken|said|audio|speaker|voice)\b", name_words):
            screen_text = []
        for spans in (speech, screen_text):
            sure = sure_languages(spans)
            known = [(NAMES[s.language], s) for s in spans if NAMES.get(s.language, "").lower() in sure]
            if known:
                return _longest_lasting(
                    [(name, (s.end_sec - s.start_sec) * s.language_confidence) for name, s in known]
                )
        return UNKNOWN

    def _quote(self, question: str, scope: Scope) -> Any:
        """The quote in the best matching part of the video, or UNKNOWN."""
        quotes = (_quote_in(hit.evidence) for hit in self._hits(question, scope))
        return next((quote for quote in quotes if quote), UNKNOWN)

    def _hits(self, question: str, scope: Scope) -> list[Hit]:
        """The parts of a scope that match a question with at least medium confidence, best first."""
        if not re.search(r"\w", question):
            return []
        if question not in self._hits_of:
            self._hits_of[question] = [h for h in find_in_video(self.evidence, question) if h.score >= MEDIUM]
        return [
            hit
            for hit in self._hits_of[question]
            if hit.start_sec < scope.end_sec and hit.end_sec > scope.start_sec
        ]

    # ------------------------------------------------------------------------- numbers and truths

    def _number(self, name_words: str, description: str, scope: Scope) -> Any:
        probe, clips = self.evidence.probe, self._video_parts.clips(scope)
        rules: tuple[tuple[str, Callable[[], Any]], ...] = (
            (r"\b(?:start|begin\w*|from|timestamp)\b", lambda: scope.start_sec),
            (r"\b(?:end|until|stop)\b", lambda: scope.end_sec),
            (r"\b(?:duration|length|seconds)\b", lambda: scope.end_sec - scope.start_sec),
            (r"\bwidth\b", lambda: probe.width or UNKNOWN),
            (r"\bheight\b", lambda: probe.height or UNKNOWN),
            (r"\b(?:fps|frame rate)\b", lambda: probe.fps or UNKNOWN),
            (r"\b(?:size|bytes)\b", lambda: probe.size_bytes),
            # Unrecognised people may be present, so 0 means unknown.
            (r"\b(?:people|persons?|faces?)\b", lambda: max(map(_people_count, clips), default=0) or UNKNOWN),
            (r"\b(?:scenes?|chapters?|sections?|parts)\b", lambda: len(self._video_parts.chapters(scope))),
            (r"\bclips?\b", lambda: len(clips)),
            (
                r"\bwords?\b",
                lambda: sum(len((said.text or "").split()) for said in self._video_parts.said(scope)),
            ),
            (r"\b(?:confidence|certainty|sureness)\b", lambda: self._confidence(scope)),
            (r"\bbrightness\b", lambda: _mean([(c.brightness, c.end_sec - c.start_sec) for c in clips])),
            (r"\bloudness\b", lambda: _loudness(clips)),
        )
        for pattern, value in rules:
            if re.search(pattern, name_words):
                return value()
        answer = self._quote(description or name_words, scope)
        numbers = re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.])", answer) if isinstance(answer, str) else []
        return float(numbers[0]) if len(numbers) == 1 else UNKNOWN

    def _boolean(self, name_words: str, description: str, scope: Scope) -> Any:
        probe, clips = self.evidence.probe, self._video_parts.clips(scope)
        rules: tuple[tuple[str, Callable[[], Any]], ...] = (
            (r"\bmusic\b", lambda: any(clip.sound == "music" for clip in clips)),
            (
                r"\b(?:speech|spoken|talking|voice|dialogue|narration)\b",
                lambda: bool(self._video_parts.said(scope)),
            ),
            (
                r"\bsilence\b|\bha(?:s|ve)\b.*\bsilent\b",
                lambda: any(clip.sound == "silence" for clip in clips),
            ),
            (r"\b(?:silent|mute)\b", lambda: all(clip.sound == "silence" for clip in clips)),
            (r"\b(?:audio|sound)\b", lambda: probe.audio_codec is not None),
            (r"\b(?:text|captions?|ocr)\b", lambda: bool(self._video_parts.shown(scope))),
            (r"\b(?:faces?|people|persons?|humans?)\b", lambda: any(map(_people_count, clips)) or UNKNOWN),
            (r"\bcamera\b", lambda: any(clip.camera not in ("static", "") for clip in clips)),
            (r"\b(?:motion|moving|movement)\b", lambda: any(map(moves, clips))),
            (r"\b(?:portrait|vertical)\b", lambda: probe.height > probe.width),
            (r"\b(?:landscape|horizontal)\b", lambda: probe.width > probe.height),
        )
        for pattern, value in rules:
            if re.search(pattern, name_words):
                return value()
        question = re.sub(r"^(?:is|has|are|have|does|contains?|mentions?|shows?)\b", "", name_words).strip()
        # A missing match proves nothing: the value is unknown, not false.
        return True if question and self._quote(question, scope) is not UNKNOWN else UNKNOWN

    # ------------------------------------------------------------------------------------ helpers

    def _confidence(self, scope: Scope) -> Any:
        """The mean confidence of the facts that quote the text of a scope, or of all its facts."""
        facts = [fact for fact in self._video_parts.facts(scope) if fact.confidence is not None]
        quoted = [fact for fact in facts if scope.text and scope.text in fact.text]
        confidences = [fact.confidence for fact in quoted or facts if fact.confidence is not None]
        return sum(confidences) / len(confidences) if confidences else UNKNOWN


def _longest_lasting(values: list[tuple[str, float]]) -> Any:
    """The value with the largest total of seconds, or UNKNOWN."""
    seconds_of: dict[str, float] = {}
    for value, seconds in values:
        seconds_of[value] = seconds_of.get(value, 0.0) + seconds
    return max(seconds_of, key=lambda value: seconds_of[value]) if seconds_of else UNKNOWN


def _mean(values: list[tuple[float, float]]) -> Any:
    """The mean of values, weighted by seconds, or UNKNOWN."""
    seconds = sum(length for _, length in values)
    return sum(value * length for value, length in values) / seconds if seconds else UNKNOWN


def _loudness(clips: list[Clip]) -> Any:
    """The mean level in dBFS of the clips with sound, averaged as power."""
    power = _mean([(10 ** (c.loudness / 10), c.end_sec - c.start_sec) for c in clips if c.loudness > -99])
    return power if power is UNKNOWN else 10 * log10(power)


def _people_count(clip: Clip) -> int:
    """The number of faces or of people recognised in a clip, whichever is larger."""
    return max(counts(clip).get("face", 0), counts(clip).get("person", 0))


def _join_texts(spans: list[Span]) -> Any:
    return " ".join(dict.fromkeys(span.text.strip() for span in spans)) or UNKNOWN


def _quote_in(evidence: tuple[str, ...]) -> str | None:
    """The first quote among the reasons of a hit, or None."""
    for reason in evidence:
        kind, _, rest = reason.partition(": ")
        if kind in ("shown", "said") and rest:
            return rest.strip('"')
    return None
