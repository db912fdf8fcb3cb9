"""Parses a query into traits, words and quoted phrases.

"a red box moving to the left while someone says 'net revenue'" becomes the traits `red` and `moves left` and
the phrase "net revenue". A clip explains a part of the query if its evidence has the trait or the words of
the part. Parts that no clip explains ("pouring") stay in the query with their weight, so that a clip that
explains half of the query gets half the score.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from tl_data.local.perception.attributes import COLOR_NAMES, COLORS, PLACE_NAMES, PLACES
from tl_data.local.search import patterns
from tl_data.local.search.word_vectors import word_weight

_TOKEN = re.compile(r"[^\W_]+(?:[.,:/][0-9]+)*")
_POSSESSIVE = re.compile(r"(?<=\w)['’]s\b")
_TEXT_WEIGHT = 0.4  # weight of the part "text on screen" of a query that has other parts
_CAMERA_TURNS = {
    "left": "camera pan left",
    "right": "camera pan right",
    "up": "camera tilt up",
    "down": "camera tilt down",
}


@dataclass(frozen=True)
class Part:
    """A part of a query. Any of its traits explains it, and so do its words on screen or in speech."""

    text: str
    weight: float
    traits: patterns.Traits = ()
    words: tuple[str, ...] = ()  # empty if only a trait can explain the part


@dataclass(frozen=True)
class Question:
    """A parsed query."""

    text: str
    parts: tuple[Part, ...]
    phrases: tuple[tuple[str, ...], ...] = ()  # quoted words, which must match in this order
    hint: str | None = None  # "shown" or "said" if the query names the kind of evidence

    @property
    def words(self) -> list[str]:
        """The distinct words of all parts."""
        return list(dict.fromkeys(word for part in self.parts for word in part.words))


def tokens(text: str) -> list[str]:
    """Words and numbers in lower case. "12.5" and "10:30" are one token.

    Apostrophes are removed, and the ending of a possessive: "somebody's" is the word "somebody".
    """
    return _TOKEN.findall(_POSSESSIVE.sub("", text.lower()).replace("'", "").replace("’", ""))


@lru_cache(maxsize=4096)
def parse(text: str) -> Question:
    """Parse a query. Every text can be parsed: unknown words are matched as words."""
    quoted = [tuple(tokens(a or b)) for a, b in patterns.QUOTED.findall(text)]
    phrases = [phrase for phrase in quoted if phrase]
    parts = [Part(" ".join(phrase), sum(map(word_weight, phrase)), words=phrase) for phrase in phrases]
    remaining = " " + re.sub(r"[^\w\s'-]+", " ", patterns.QUOTED.sub(" ", text)).lower() + " "
    asks_for_text = patterns.SCREEN_TEXT_CUE.search(remaining) is not None
    hint = "shown" if asks_for_text else "said" if patterns.SPEECH_CUE.search(remaining) else None
    remaining, trait_parts = _extract_traits(patterns.SPEAKER.sub(" ", remaining))
    if hint:
        remaining = patterns.SCREEN_TEXT_CUE.sub(" ", patterns.SPEECH_CUE.sub(" ", remaining))
    words = [word for word in tokens(remaining) if word not in patterns.STOP_WORDS]
    plain_words = [
        word for word in words if word not in patterns.GENERIC or not (trait_parts or len(words) > 1)
    ]
    parts += [Part(word, word_weight(word), words=(word,)) for word in dict.fromkeys(plain_words)]
    parts += trait_parts
    if parts and asks_for_text and patterns.ANY_TEXT.search(text.lower()):
        # "a page of text": any text explains a part.
        parts.append(Part("text", _TEXT_WEIGHT, (("text", 1.0),)))
    if not parts and hint:  # "someone talking", "text on screen": the kind of evidence is the query
        parts, hint = [Part(text.strip(), 1.0, (("text" if asks_for_text else "sound speech", 1.0),))], None
    if not parts and (all_words := tuple(tokens(text))):  # "who are you": stop words are matched as a phrase
        parts, phrases = [Part(text.strip(), 1.0, words=all_words)], [all_words]
    return Question(text, tuple(parts), tuple(phrases), hint)


def _extract_traits(remaining: str) -> tuple[str, list[Part]]:
    """Extract the phrases that name traits; returns the remaining text and the extracted parts."""
    parts: list[Part] = []
    colors: list[str] = []
    places: list[str] = []

    def take_place(match: re.Match[str]) -> str:
        names = [PLACE_NAMES.get(group, group) for group in match.groups() if group]
        places.extend(name for name in names if name in PLACES)
        return " "

    def apply(rules: patterns.Rules, text: str) -> str:
        for pattern, traits in rules:

            def take(match: re.Match[str], traits: patterns.Traits = traits) -> str:
                group = next((g for g in match.groups() if g), "")
                group_name = COLOR_NAMES.get(group, group)
                named_traits = tuple((_format_trait(trait, group_name), credit) for trait, credit in traits)
                words = tuple(word for word in tokens(match.group()) if word not in patterns.STOP_WORDS)
                parts.append(Part(match.group().strip(), 1.0, named_traits, words[:3]))
                if group_name in COLORS:
                    colors.append(group_name)
                return " "

            text = pattern.sub(take, text)
        return text

    remaining = apply(patterns.MOVEMENT_RULES, remaining)
    remaining = patterns.PLACE.sub(take_place, remaining)
    remaining = apply(patterns.OTHER_RULES, remaining)
    for place in places:
        place_traits = tuple((f"{place} {color}", 1.0) for color in colors)
        # A place without a colour cannot be matched and gets a small weight.
        parts.append(Part(place, 0.8 if place_traits else 0.3, place_traits))
    return remaining, parts


def _format_trait(trait: str, name: str) -> str:
    """Insert the captured name, such as a colour or direction, into the name of a trait."""
    return _CAMERA_TURNS[name] if trait == "turn {0}" else trait.format(name)
