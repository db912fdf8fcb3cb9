"""Converts evidence into facts: short statements, each with its time and the kind of its evidence.

Every text of the built-in writer is composed of facts. Speech and on-screen text are quoted and never
paraphrased: a paraphrase needs a language model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from tl_data.local.perception.attributes import (
    MAIN_SHARE,
    camera_words,
    color_names,
    counts,
    join_names,
    moves,
    screen_text_between,
    speech_between,
)
from tl_data.local.perception.evidence import Clip, Evidence, Span
from tl_data.local.perception.languages import sure_languages
from tl_data.local.perception.vision.naming import Name, is_place, names_of, people_in
from tl_data.local.search import word_vectors
from tl_data.local.search.parser import tokens
from tl_data.local.search.patterns import STOP_WORDS

#: Quotes and measurements with a confidence (0 to 1) below this are marked as uncertain.
UNCERTAIN_BELOW = 0.45


@dataclass(frozen=True)
class Fact:
    """One statement about a part of the video. `text` is a sentence without a time. Times in seconds."""

    start_sec: float
    end_sec: float
    kind: str  # shown, said, seen or heard
    text: str
    weight: float  # 0 to 1: how informative the fact is
    quote: str = ""  # the words shown or said
    confidence: float | None = None  # the confidence of the least certain part, 0 to 1; None if unknown
    things: bool = False  # whether the fact names people or objects rather than colours or motion

    def within(self, start: float, end: float) -> str:
        """The text for a sentence that names a time range.

        The time of the fact follows, unless the fact covers at least 85 % of the range.
        """
        covered = min(self.end_sec, end) - max(self.start_sec, start)
        if covered >= 0.85 * (end - start):
            return self.text
        # The sentences are joined to one, so that the time applies to all of them.
        text = self.text if self.quote else "; ".join(lower_first(part) for part in self.text.split(". "))
        return f"{text} ({clock_range(self.start_sec, self.end_sec)})"


def clock(seconds: float) -> str:
    """A time as text: 0:07, 12:30, 1:02:03."""
    total = int(seconds)
    hours, remainder = divmod(total, 3600)
    minutes, remainder = divmod(remainder, 60)
    return f"{hours}:{minutes:02}:{remainder:02}" if hours else f"{minutes}:{remainder:02}"


def lower_first(text: str) -> str:
    """A text whose first letter is in lower case."""
    return text[0].lower() + text[1:] if text else text


def clock_range(start: float, end: float) -> str:
    """A time range as text, rounded outward to whole seconds: 0:07-0:12."""
    return f"{clock(start)}-{clock(max(ceil(end - 0.05), start))}"


def sentence(text: str) -> str:
    """Turn a text into a sentence that begins with a capital letter and ends with a full stop."""
    text = text.strip()
    if not text:
        return ""
    text = text[0].upper() + text[1:]
    return text if text.rstrip('"”')[-1:] in tuple(".!?") else text + "."


def facts_of(evidence: Evidence, start: float = 0.0, end: float = float("inf")) -> list[Fact]:
    """The facts between two times, in the order of time. Times in seconds."""
    end = min(end, max([evidence.probe.duration_sec, *(clip.end_sec for clip in evidence.clips)]))
    clips = [clip for clip in evidence.clips if min(clip.end_sec, end) - max(clip.start_sec, start) > 0.2]
    facts = [
        *_screen_facts(evidence, start, end),
        *_speech_facts(evidence, start, end),
        *_visual_facts(clips),
        *_sound_facts(clips),
    ]
    return sorted(facts, key=lambda fact: (fact.start_sec, ORDER[fact.kind], fact.end_sec))


#: Kind of fact -> its position among facts that start at the same time.
ORDER = {"shown": 0, "said": 1, "seen": 2, "heard": 3}


def _screen_facts(evidence: Evidence, start: float, end: float) -> list[Fact]:
    """Facts about on-screen text. Lines that appear within 1.5 s are joined into one fact."""
    facts: list[Fact] = []
    group: list[Span] = []
    for span in screen_text_between(evidence, start, end):
        if group and span.start_sec - group[0].start_sec > 1.5:
            facts.append(_screen_fact(group))
            group = []
        group.append(span)
    return [*facts, _screen_fact(group)] if group else facts


def _screen_fact(spans: Sequence[Span]) -> Fact:
    texts: list[str] = []
    for text in dict.fromkeys(" ".join(span.text.split()) for span in spans):
        if texts and text[:1].islower():  # this line continues the previous one
            texts[-1] = f"{texts[-1]} {text}"
        else:
            texts.append(text)
    texts = texts[:6]
    confidence = np.mean([span.confidence for span in spans])
    remark = " (hard to read)" if confidence < UNCERTAIN_BELOW else ""
    quote = join_names(f'"{text}"' for text in texts)
    return Fact(
        spans[0].start_sec,
        max(span.end_sec for span in spans),
        "shown",
        f"The screen shows {quote}{_language_phrase(spans)}{remark}",
        0.4 + 0.25 * float(confidence) + 0.25 * _informativeness(" ".join(texts)),
        texts[0],
        round(min(span.confidence for span in spans), 3),
    )


def _speech_facts(evidence: Evidence, start: float, end: float) -> list[Fact]:
    spans = speech_between(evidence, start, end)
    weights = _centrality([span.text for span in spans])
    facts = []
    for span, weight in zip(spans, weights, strict=True):
        text = " ".join(span.text.split())
        remark = " (the recognition is unsure)" if span.confidence < UNCERTAIN_BELOW else ""
        words = f'Speech{_language_phrase([span])} is recognised as: "{text}"{remark}'
        facts.append(
            Fact(span.start_sec, span.end_sec, "said", words, 0.35 + 0.45 * weight, text, span.confidence)
        )
    return facts


def _language_phrase(spans: Sequence[Span]) -> str:
    """A phrase that names the languages of a quote, such as " in French"; "" for English."""
    names = [name.title() for name in sure_languages(spans) if name != "english"]
    return f" in {join_names(names)}" if names else ""


def _centrality(texts: Sequence[str]) -> list[float]:
    """How close each sentence is to the mean of all sentences, 0 to 1.

    A sentence with few content words gets a lower value.
    """
    if not texts:
        return []
    vectors = word_vectors.word_vectors(list(texts))
    mean_vector = word_vectors.unit(np.asarray(vectors.sum(axis=0, keepdims=True), np.float32))[0]
    return [
        0.5 * max(0.0, float(cosine)) + 0.5 * _informativeness(text)
        for text, cosine in zip(texts, vectors @ mean_vector, strict=True)
    ]


def _informativeness(text: str) -> float:
    """How informative the words of a line are, 0 to 1: "Thank you" is low, names and facts are high."""
    return min(
        1.0, sum(word_vectors.word_weight(word) for word in tokens(text) if word not in STOP_WORDS) / 4
    )


def _visual_facts(clips: Iterable[Clip]) -> list[Fact]:
    """Visual facts. Adjacent clips that lead to the same text share one fact."""
    things: list[Fact] = []
    appearance: list[Fact] = []
    for clip in clips:
        start, end = clip.start_sec, clip.end_sec
        if objects_text := _objects_text(clip):
            confidence = min(
                [*(confidence for _, confidence in clip.objects), *(n.probability for n in names_of(clip))],
                default=None,
            )
            things = _append_fact(
                things,
                Fact(
                    start,
                    end,
                    "seen",
                    sentence(objects_text).rstrip("."),
                    0.6,
                    things=True,
                    confidence=confidence,
                ),
            )
        sentences = [part for part in (_picture_text(clip), _motion_text(clip)) if part]
        if sentences:
            text = ". ".join(sentence(part).rstrip(".") for part in sentences)
            motion_weight = 0.15 if moves(clip) or clip.camera != "static" else 0.0
            appearance = _append_fact(
                appearance,
                Fact(start, end, "seen", text, 0.2 + motion_weight, confidence=_minimum_confidence(clip)),
            )
    return things + appearance


def _doubt_remark(confidence: float | None) -> str:
    """A remark after an uncertain measurement, or ""."""
    return " (unsure)" if confidence is not None and confidence < UNCERTAIN_BELOW else ""


def _minimum_confidence(clip: Clip) -> float | None:
    """The lowest confidence of the stated picture and motion of a clip."""
    stated = [clip.confidences.colors]
    stated += [clip.confidences.motion, clip.confidences.direction] if moves(clip) else []
    stated += [clip.confidences.camera] if clip.camera not in ("static", "") else []
    return min((confidence for confidence in stated if confidence is not None), default=None)


def _picture_text(clip: Clip) -> str:
    shares = color_names(clip)
    names = [name for name, share in shares.items() if share >= 0.02][:3]
    if not names:
        return ""
    if shares[names[0]] >= MAIN_SHARE:
        return f"the picture is mostly {names[0]}" + (f" with {join_names(names[1:])}" if names[1:] else "")
    return f"the picture is {join_names(names)}"


def _motion_text(clip: Clip) -> str:
    parts = []
    if moves(clip):
        direction = f" {clip.direction}{_doubt_remark(clip.confidences.direction)}" if clip.direction else ""
        parts.append(f"something moves{direction}")
    if clip.camera not in ("static", ""):
        parts.append(camera_words(clip.camera) + _doubt_remark(clip.confidences.camera))
    return " while ".join(parts)


def _objects_text(clip: Clip) -> str:
    people, names = people_in(clip), names_of(clip)
    words = [count_phrase(people, "person")] if people else []
    words += [
        count_phrase(name.count, name.name) + _kind_remark(name) for name in names if not is_place(name)
    ]
    faces = counts(clip).get("face", 0)
    if not people and faces:
        words.append(count_phrase(faces, "face"))
    place = next((name for name in names if is_place(name)), None)
    text = ""
    if words:
        single = len(words) == 1 and words[0].startswith(("a ", "an "))
        text = f"{join_names(words)} {'is' if single else 'are'} in view"
    if place:
        text += ("; " if text else "") + f"the place looks like {count_phrase(1, place.kind or place.name)}"
    return text


#: Names of the numbers 0 to 9.
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def count_phrase(number: int, name: str) -> str:
    """A number and a name in words: "a dog", "two dogs"."""
    if number == 1:
        return name if name.endswith("s") and not name.endswith(("ss", "us")) else f"{article(name)} {name}"
    word = _NUMBERS[number] if number < len(_NUMBERS) else str(number)
    return f"{word} {plural(name)}"


def article(name: str) -> str:
    """The indefinite article of a name."""
    return "an" if name[:1].lower() in tuple("aeiou") else "a"


def plural(name: str) -> str:
    """The plural of a name."""
    irregular = {"person": "people", "mouse": "mice", "knife": "knives", "sheep": "sheep", "fish": "fish"}
    if name in irregular or (name.endswith("s") and not name.endswith(("ss", "us"))):
        return irregular.get(name, name)
    if name.endswith(("ch", "sh", "x", "s")):
        return f"{name}es"
    return f"{name[:-1]}ies" if name.endswith("y") and name[-2:-1] not in tuple("aeiou") else f"{name}s"


def _kind_remark(name: Name) -> str:
    return f" (probably {article(name.kind)} {name.kind})" if name.kind else ""


#: Traits that `facts_of` omits: the kind and text of the fact that answers a question about the trait.
_STATED = {
    "bright": ("seen", "the picture is bright"),
    "dark": ("seen", "the picture is dark"),
    "still": ("seen", "nothing moves"),
    "fast": ("seen", "something moves fast"),
    "slow": ("seen", "something moves slowly"),
    "camera static": ("seen", "the camera stands still"),
    "loud": ("heard", "the sound is loud"),
    "quiet": ("heard", "the sound is quiet"),
    "sound silence": ("heard", "there is silence"),
}


def trait_fact(trait: str, start: float, end: float) -> Fact | None:
    """The fact that states a trait; None if `facts_of` already states the trait."""
    kind, text = _STATED.get(trait, ("", ""))
    return Fact(start, end, kind, text, 0.1) if text else None


def _sound_facts(clips: Iterable[Clip]) -> list[Fact]:
    names = {"music": "music plays", "noise": "there is sound without words or music"}
    facts: list[Fact] = []
    for clip in clips:
        if clip.sound in names:
            text = names[clip.sound] + _doubt_remark(clip.confidences.sound)
            fact = Fact(clip.start_sec, clip.end_sec, "heard", text, 0.15, confidence=clip.confidences.sound)
            facts = _append_fact(facts, fact)
    return facts


def _append_fact(facts: list[Fact], fact: Fact) -> list[Fact]:
    """Append a fact to a list. If it continues the last fact with the same text, the two are merged."""
    if facts and facts[-1].text == fact.text and fact.start_sec - facts[-1].end_sec < 0.5:
        last = facts.pop()
        confidences = [item.confidence for item in (last, fact) if item.confidence is not None]
        fact = replace(
            fact,
            start_sec=last.start_sec,
            weight=max(last.weight, fact.weight),
            confidence=min(confidences, default=None),
        )
    return [*facts, fact]
