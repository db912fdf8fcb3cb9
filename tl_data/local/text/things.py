"""Answers about recognised objects and places: which animal, which objects, what place; with times."""

from __future__ import annotations

import re
from collections.abc import Callable

from tl_data.local.perception.evidence import Evidence
from tl_data.local.perception.vision import concepts
from tl_data.local.perception.vision.naming import Name, is_place, names_of, people_in
from tl_data.local.text.facts import article, between, sentence

_KIND = r"(?: (?:kind|sort|type|breed|species)s?(?: of)?)?"
_WHICH = re.compile(rf"^\s*(?:what|which){_KIND} (?:the )?([a-z][a-z -]*)", re.I)
_ALL = re.compile(
    r"^\s*(?:what|which)(?: (?:things?|objects?|items?))?(?: all)? "
    r"(?:is|are|can be|do you|can you|appears?)\b.*"
    r"\b(?:in|seen|see|visible|shown|view|video|clip|picture|recogni[sz]ed)\b",
    re.I,
)
_PLACE = re.compile(r"^\s*(?:what|which) (?:kind of )?(?:place|location|setting)\b", re.I)
_WHERE = re.compile(r"^\s*where (?:is|was) (?:this|it|that|the (?:video|clip|scene|film))\b", re.I)


def answered(evidence: Evidence, question: str, where: str) -> list[str]:
    """Sentences that answer a question about objects or the place; [] for other questions.

    An object that was not recognised is named in a sentence. Evidence without labels gives [].
    """
    if not any(clip.labels for clip in evidence.clips):
        return []
    if _WHERE.match(question) or _PLACE.match(question):
        found = _said(evidence, is_place)
        return found or [f"The place was not recognised {where}."]
    if _ALL.match(question) and not _mentions(question):
        people = max((people_in(clip) for clip in evidence.clips), default=0)
        seen = (
            [f"At most {people} {'person is' if people == 1 else 'people are'} in view at once."]
            if people
            else []
        )
        return [*_said(evidence, lambda _: True), *seen] or [f"No things were recognised {where}."]
    match = _WHICH.match(question)
    if match is None:
        return []
    words = match.group(1).split()
    for length in (3, 2, 1):
        meant = concepts.table().named([word.lower() for word in words[:length]])
        if len(words) >= length and meant:
            found = _said(evidence, _is_one_of({concept.number for concept in meant}))
            asked = " ".join(words[:length])
            return found or [f"No {asked} was recognised {where}."]
    return []


def _mentions(question: str) -> bool:
    """Whether a question is about words, sound or colours and not about objects."""
    return bool(
        re.search(r"\b(?:said|spoken|text|words?|written|heard|sound|music|colou?rs?)\b", question, re.I)
    )


def _is_one_of(numbers: set[int]) -> Callable[[Name], bool]:
    def wanted(name: Name) -> bool:
        return name.number >= 0 and bool(numbers & concepts.table().concepts[name.number].above)

    return wanted


def _called(name: Name) -> str:
    probably = f" (probably {article(name.kind)} {name.kind})" if name.kind else ""
    return f"{article(name.name)} {name.name}{probably}"


def _said(evidence: Evidence, wanted: Callable[[Name], bool]) -> list[str]:
    """One sentence per name, with the times at which it is in view."""
    times: dict[str, list[tuple[float, float]]] = {}
    names: dict[str, Name] = {}
    for clip in evidence.clips:
        for name in names_of(clip):
            if not wanted(name):
                continue
            names.setdefault(name.name, name)
            spans = times.setdefault(name.name, [])
            if spans and clip.start_sec - spans[-1][1] < 0.5:
                spans[-1] = spans[-1][0], clip.end_sec
            else:
                spans.append((clip.start_sec, clip.end_sec))
    return [
        sentence(f"{_called(names[name])} is in view at {', '.join(between(*span) for span in spans[:4])}")
        for name, spans in times.items()
    ]
