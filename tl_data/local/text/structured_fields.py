"""Values for the fields of a JSON schema, found by their names.

`Parts` gives the parts of a video for lists: chapters, lines, topics, colours, faces. `Values` gives single
values: `title`, `start_sec`, `has_music`, or the passage that matches the description.
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
from tl_data.local.search.search import moments
from tl_data.local.text.chapters import chapters_of, title_of, topics_of
from tl_data.local.text.facts import Fact, clock, facts_of, sentence


@dataclass(frozen=True)
class Scope:
    """The time range of a value, in seconds. `text` is set for one topic, line or colour in it."""

    start_sec: float
    end_sec: float
    text: str | None = None
    item: bool = field(default=False, compare=False)  # an item of a list


class Parts:
    """The parts of one video, for lists."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence

    @cached_property
    def lists(self) -> dict[str, Callable[[Scope], list[Scope]]]:
        """Patterns of list names, each with the function that gives the parts."""
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
        return _spans(speech_between(self.evidence, scope.start_sec, scope.end_sec))

    def shown(self, scope: Scope) -> list[Scope]:
        """The lines on screen in a scope."""
        return _spans(screen_text_between(self.evidence, scope.start_sec, scope.end_sec))

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


def _spans(spans: list[Span]) -> list[Scope]:
    return [Scope(span.start_sec, span.end_sec, span.text.strip()) for span in spans]


UNKNOWN = object()  # no evidence; a value may also be null


def matches(pattern: str, text: str) -> bool:
    """Whether a text contains a match of a client's pattern, in linear time.

    It uses RE2 (through pyarrow): `re` takes exponential time for some patterns and blocks the process.
    """
    return bool(pc.match_substring_regex(pa.scalar(text), pattern=pattern).as_py())


def whole(evidence: Evidence) -> Scope:
    """The scope of the whole video."""
    return Scope(0.0, evidence.probe.duration_sec)


def _words(name: str) -> str:
    """A property's name as words: "startSec" and "start_sec" -> "start sec"."""
    return re.sub(r"[\W_]+", " ", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)).strip().lower()


class Values:
    """Finds values for names in the evidence of one video."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self._found = Parts(evidence)
        self._asked: dict[str, list[Hit]] = {}

    def find(self, kind: str, name: str, description: str, scope: Scope) -> Any:
        """A value of a JSON type for a name, or UNKNOWN."""
        name_words = _words(name)
        if kind == "string":
            return self._text(name_words, description, scope)
        if kind == "boolean":
            return self._truth(name_words, description, scope)
        if kind in ("integer", "number"):
            return self._count(name_words, description, scope)
        return UNKNOWN

    def choose(self, allowed: list[Any], name: str, description: str, scope: Scope) -> Any:
        """The allowed value that the evidence supports best, or UNKNOWN."""
        texts = [value for value in allowed if isinstance(value, str) and value.strip()]
        own = self._named_text(_words(name), scope)
        for value in texts:
            if isinstance(own, str) and value.lower() in (own.lower(), own.lower().split()[0] if own else ""):
                return value
        best, most = UNKNOWN, MEDIUM
        for value in texts:
            for hit in self._hits(_words(value), scope)[:1]:
                if hit.score > most:
                    best, most = value, hit.score
        return best

    def matching(self, pattern: str, text: str | None) -> str | None:
        """A piece of text in the evidence that matches a pattern, or None."""
        for source in [text or "", *(span.text for span in (*self.evidence.shown, *self.evidence.speech))]:
            for piece in [source.strip(), *source.split()]:
                if 0 < len(piece) <= 64 and matches(pattern, piece):
                    return piece
        return None

    def parts(self, name: str, description: str, scope: Scope, *, objects: bool) -> list[Scope]:
        """The scopes of a list's items; [] without evidence."""
        # A list inside an item may not contain that item again: the recursion would not end.
        parts = [p for p in self._parts(name, description, scope, objects) if not (scope.item and p == scope)]
        return [replace(part, item=True) for part in parts]

    def _parts(self, name: str, description: str, scope: Scope, objects: bool) -> list[Scope]:
        name_words = _words(name) or _words(description)
        for pattern, make in self._found.lists.items():
            if re.search(pattern, name_words):
                return list(make(scope))
        hits = (
            [h for h in moments(self.evidence, description or name_words) if h.score >= MEDIUM]
            if description or name_words
            else []
        )
        inside = [h for h in hits if h.start_sec < scope.end_sec and h.end_sec > scope.start_sec]
        found = sorted({(h.start_sec, h.end_sec): h for h in inside}.values(), key=lambda h: h.start_sec)
        if not found and objects and not name:  # an unnamed root list of objects: the chapters
            return self._found.chapters(scope)
        return [Scope(h.start_sec, h.end_sec, None if objects else _quoted(h.evidence)) for h in found]

    # ------------------------------------------------------------------------------------- texts

    def _text(self, name_words: str, description: str, scope: Scope) -> Any:
        own = self._named_text(name_words, scope)
        if own is not UNKNOWN:
            return own
        if scope.text is not None:
            return scope.text
        return self._answer(description or name_words, scope)

    def _named_text(self, name_words: str, scope: Scope) -> Any:
        """The text for a name that names its evidence, or UNKNOWN."""
        facts = self._found.facts(scope)
        if re.search(r"\b(?:start|begin\w*|from|timestamp|time)\b", name_words):
            return clock(scope.start_sec)
        if re.search(r"\b(?:end|until|stop)\b", name_words):
            return clock(scope.end_sec)
        if re.search(r"\blanguage\b", name_words):
            return self._language(name_words, scope)
        if re.search(r"\b(?:transcript\w*|speech|spoken|said|quote|dialogue|utterance)\b", name_words):
            return _joined(speech_between(self.evidence, scope.start_sec, scope.end_sec))
        if re.search(r"\b(?:on ?screen|screen|ocr|caption|shown|visible text|slide)\b", name_words):
            return _joined(screen_text_between(self.evidence, scope.start_sec, scope.end_sec))
        if re.search(r"\bcolou?r\b", name_words):
            return next(iter(self._found.colors(scope)), UNKNOWN) if scope.text is None else scope.text
        if re.search(r"\b(?:camera|camera movement)\b", name_words):
            moves = re.search(r"\b(?:movements?|motion|moves)\b", name_words) is not None
            return self._most(scope, "camera", "static" if moves else "")
        if re.search(r"\bdirection\b", name_words):
            return self._most(scope, "direction")
        if re.search(r"\b(?:sound|audio)\b", name_words):
            return self._most(scope, "sound")
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

    def _most(self, scope: Scope, what: str, rather_not: str = "") -> Any:
        """The value with the most seconds in a scope; `rather_not` only if there is no other."""
        found = [(getattr(clip, what), clip.end_sec - clip.start_sec) for clip in self._found.clips(scope)]
        found = [item for item in found if item[0]]
        return _lasting([item for item in found if item[0] != rather_not] or found)

    def _language(self, name_words: str, scope: Scope) -> Any:
        """The main language of speech or of on-screen text: of the named one, else of the first known."""
        start, end = scope.start_sec, scope.end_sec
        said, shown = (
            speech_between(self.evidence, start, end),
            screen_text_between(self.evidence, start, end),
        )
        if re.search(r"\b(?:text|screen|caption|shown|written)\b", name_words):
            said = []
        elif re.search(r"\b(?:speech|spoken|said|audio|speaker|voice)\b", name_words):
            shown = []
        for spans in (said, shown):
            sure = sure_languages(spans)
            known = [(NAMES[s.language], s) for s in spans if NAMES.get(s.language, "").lower() in sure]
            if known:
                return _lasting(
                    [(name, (s.end_sec - s.start_sec) * s.language_confidence) for name, s in known]
                )
        return UNKNOWN

    def _answer(self, question: str, scope: Scope) -> Any:
        """The quote of the best passage, or UNKNOWN."""
        quotes = (_quoted(hit.evidence) for hit in self._hits(question, scope))
        return next((quote for quote in quotes if quote), UNKNOWN)

    def _hits(self, question: str, scope: Scope) -> list[Hit]:
        """The moments in a scope that match a question with at least medium confidence, best first."""
        if not re.search(r"\w", question):
            return []
        if question not in self._asked:
            self._asked[question] = [h for h in moments(self.evidence, question) if h.score >= MEDIUM]
        return [
            hit
            for hit in self._asked[question]
            if hit.start_sec < scope.end_sec and hit.end_sec > scope.start_sec
        ]

    # ------------------------------------------------------------------------- numbers and truths

    def _count(self, name_words: str, description: str, scope: Scope) -> Any:
        probe, clips = self.evidence.probe, self._found.clips(scope)
        rules: tuple[tuple[str, Callable[[], Any]], ...] = (
            (r"\b(?:start|begin\w*|from|timestamp)\b", lambda: scope.start_sec),
            (r"\b(?:end|until|stop)\b", lambda: scope.end_sec),
            (r"\b(?:duration|length|seconds)\b", lambda: scope.end_sec - scope.start_sec),
            (r"\bwidth\b", lambda: probe.width or UNKNOWN),
            (r"\bheight\b", lambda: probe.height or UNKNOWN),
            (r"\b(?:fps|frame rate)\b", lambda: probe.fps or UNKNOWN),
            (r"\b(?:size|bytes)\b", lambda: probe.size_bytes),
            # People who were not recognised may still be present: 0 is unknown.
            (r"\b(?:people|persons?|faces?)\b", lambda: max(map(_people, clips), default=0) or UNKNOWN),
            (r"\b(?:scenes?|chapters?|sections?|parts)\b", lambda: len(self._found.chapters(scope))),
            (r"\bclips?\b", lambda: len(clips)),
            (r"\bwords?\b", lambda: sum(len((said.text or "").split()) for said in self._found.said(scope))),
            (r"\b(?:confidence|certainty|sureness)\b", lambda: self._confidence(scope)),
            (r"\bbrightness\b", lambda: _mean([(c.brightness, c.end_sec - c.start_sec) for c in clips])),
            (r"\bloudness\b", lambda: _loudness(clips)),
        )
        for pattern, value in rules:
            if re.search(pattern, name_words):
                return value()
        answer = self._answer(description or name_words, scope)
        numbers = re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.])", answer) if isinstance(answer, str) else []
        return float(numbers[0]) if len(numbers) == 1 else UNKNOWN

    def _truth(self, name_words: str, description: str, scope: Scope) -> Any:
        probe, clips = self.evidence.probe, self._found.clips(scope)
        rules: tuple[tuple[str, Callable[[], Any]], ...] = (
            (r"\bmusic\b", lambda: any(clip.sound == "music" for clip in clips)),
            (
                r"\b(?:speech|spoken|talking|voice|dialogue|narration)\b",
                lambda: bool(self._found.said(scope)),
            ),
            (
                r"\bsilence\b|\bha(?:s|ve)\b.*\bsilent\b",
                lambda: any(clip.sound == "silence" for clip in clips),
            ),
            (r"\b(?:silent|mute)\b", lambda: all(clip.sound == "silence" for clip in clips)),
            (r"\b(?:audio|sound)\b", lambda: probe.audio_codec is not None),
            (r"\b(?:text|captions?|ocr)\b", lambda: bool(self._found.shown(scope))),
            (r"\b(?:faces?|people|persons?|humans?)\b", lambda: any(map(_people, clips)) or UNKNOWN),
            (r"\bcamera\b", lambda: any(clip.camera not in ("static", "") for clip in clips)),
            (r"\b(?:motion|moving|movement)\b", lambda: any(map(moves, clips))),
            (r"\b(?:portrait|vertical)\b", lambda: probe.height > probe.width),
            (r"\b(?:landscape|horizontal)\b", lambda: probe.width > probe.height),
        )
        for pattern, value in rules:
            if re.search(pattern, name_words):
                return value()
        question = re.sub(r"^(?:is|has|are|have|does|contains?|mentions?|shows?)\b", "", name_words).strip()
        # Absence of a match proves nothing: it is unknown, not false.
        return True if question and self._answer(question, scope) is not UNKNOWN else UNKNOWN

    # ------------------------------------------------------------------------------------ helpers

    def _confidence(self, scope: Scope) -> Any:
        """The mean confidence of a scope's evidence: of the quoted facts if there are any, else of all."""
        facts = [fact for fact in self._found.facts(scope) if fact.confidence is not None]
        quoted = [fact for fact in facts if scope.text and scope.text in fact.text]
        sures = [fact.confidence for fact in quoted or facts if fact.confidence is not None]
        return sum(sures) / len(sures) if sures else UNKNOWN


def _lasting(found: list[tuple[str, float]]) -> Any:
    """The value with the most seconds, or UNKNOWN."""
    total: dict[str, float] = {}
    for value, seconds in found:
        total[value] = total.get(value, 0.0) + seconds
    return max(total, key=lambda value: total[value]) if total else UNKNOWN


def _mean(found: list[tuple[float, float]]) -> Any:
    """The mean of values weighted by seconds, or UNKNOWN."""
    seconds = sum(length for _, length in found)
    return sum(value * length for value, length in found) / seconds if seconds else UNKNOWN


def _loudness(clips: list[Clip]) -> Any:
    """The mean level of the clips with sound in dBFS, averaged as power."""
    power = _mean([(10 ** (c.loudness / 10), c.end_sec - c.start_sec) for c in clips if c.loudness > -99])
    return power if power is UNKNOWN else 10 * log10(power)


def _people(clip: Clip) -> int:
    """The larger number of faces and people recognised in a clip."""
    return max(counts(clip).get("face", 0), counts(clip).get("person", 0))


def _joined(spans: list[Span]) -> Any:
    return " ".join(dict.fromkeys(span.text.strip() for span in spans)) or UNKNOWN


def _quoted(evidence: tuple[str, ...]) -> str | None:
    """The quote among the reasons of a hit, or None."""
    for reason in evidence:
        kind, _, rest = reason.partition(": ")
        if kind in ("shown", "said") and rest:
            return rest.strip('"')
    return None
