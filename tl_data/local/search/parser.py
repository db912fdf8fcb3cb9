"""Parses a query into traits, words and quoted phrases.

"a red box moving to the left while someone says 'net revenue'" becomes the traits `red` and `moves left` and
the phrase "net revenue". Parts that no evidence explains ("pouring") stay in the query with their weight, so
that a clip that explains half of it scores half.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from tl_data.local.perception.attributes import COLOR_NAMES, COLORS, PLACE_NAMES, PLACES
from tl_data.local.search import patterns
from tl_data.local.search.word_vectors import word_weight

_TOKEN = re.compile(r"[^\W_]+(?:[.,:/][0-9]+)*")
_TURNS = {
    "left": "camera pan left",
    "right": "camera pan right",
    "up": "camera tilt up",
    "down": "camera tilt down",
}


@dataclass(frozen=True)
class Part:
    """One part of a query, explained by any of its traits or by its words on screen or in speech."""

    text: str
    weight: float
    traits: patterns.Credits = ()
    words: tuple[str, ...] = ()  # empty if only a trait can explain it


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
    """Words and numbers in lower case. "12.5" and "10:30" are one token; apostrophes are removed."""
    return _TOKEN.findall(text.lower().replace("'", "").replace("’", ""))


@lru_cache(maxsize=4096)
def parse(text: str) -> Question:
    """Parse a query. It never fails: unknown words are words to match."""
    quoted = [tuple(tokens(a or b)) for a, b in patterns.QUOTED.findall(text)]
    phrases = [phrase for phrase in quoted if phrase]
    parts = [Part(" ".join(phrase), sum(map(word_weight, phrase)), words=phrase) for phrase in phrases]
    rest = " " + re.sub(r"[^\w\s'-]+", " ", patterns.QUOTED.sub(" ", text)).lower() + " "
    shown = patterns.SHOWN.search(rest) is not None
    hint = "shown" if shown else "said" if patterns.SAID.search(rest) else None
    rest, measured = _traits(patterns.SPEAKER.sub(" ", rest))
    if hint:
        rest = patterns.SHOWN.sub(" ", patterns.SAID.sub(" ", rest))
    words = [word for word in tokens(rest) if word not in patterns.EMPTY]
    plain = [word for word in words if word not in patterns.GENERIC or not (measured or len(words) > 1)]
    parts += [Part(word, word_weight(word), words=(word,)) for word in dict.fromkeys(plain)]
    parts += measured
    if not parts and hint:  # "someone talking", "text on screen": the kind of evidence is the query
        parts, hint = [Part(text.strip(), 1.0, (("text" if shown else "sound speech", 1.0),))], None
    if not parts and (every := tuple(tokens(text))):  # only stop words, as in "who are you": a phrase
        parts, phrases = [Part(text.strip(), 1.0, words=every)], [every]
    return Question(text, tuple(parts), tuple(phrases), hint)


def _traits(rest: str) -> tuple[str, list[Part]]:
    """Extract the phrases that name traits; returns the remaining text and the parts."""
    parts: list[Part] = []
    colors: list[str] = []
    spots: list[str] = []

    def take_place(match: re.Match[str]) -> str:
        names = [PLACE_NAMES.get(group, group) for group in match.groups() if group]
        spots.extend(name for name in names if name in PLACES)
        return " "

    for number, (pattern, traits) in enumerate(patterns.RULES):
        if number == patterns.FIRST_COLOR:  # directions are extracted by now: a remaining "left" is a place
            rest = patterns.PLACE.sub(take_place, rest)

        def take(match: re.Match[str], traits: patterns.Credits = traits) -> str:
            group = next((g for g in match.groups() if g), "")
            caught = COLOR_NAMES.get(group, group)
            named = tuple((_named(trait, caught), credit) for trait, credit in traits)
            words = tuple(word for word in tokens(match.group()) if word not in patterns.EMPTY)
            parts.append(Part(match.group().strip(), 1.0, named, words[:3]))
            if caught in COLORS:
                colors.append(caught)
            return " "

        rest = pattern.sub(take, rest)
    for spot in spots:
        named = tuple((f"{spot} {color}", 1.0) for color in colors)
        # A place without a colour cannot be matched. It stays in the query with a small weight.
        parts.append(Part(spot, 0.8 if named else 0.3, named))
    return rest, parts


def _named(trait: str, caught: str) -> str:
    return _TURNS[caught] if trait == "way {0}" else trait.format(caught)
