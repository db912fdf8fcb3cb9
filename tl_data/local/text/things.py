"""Answers questions about recognised objects and places, such as "which animal"; the answers have times."""

from __future__ import annotations

import re
from collections.abc import Callable

from tl_data.local.perception.evidence import Evidence
from tl_data.local.perception.vision import concepts
from tl_data.local.perception.vision.naming import Name, is_place, names_of, people_in
from tl_data.local.text.facts import article, clock_range, sentence

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


def answer(evidence: Evidence, question: str, where: str) -> list[str]:
    """Sentences that answer a question about objects or the place; [] for other questions.

    If nothing matching was recognised, one sentence says so. Evidence without labels gives [].
    """
    if not any(clip.labels for clip in evidence.clips):
        return []
    if _WHERE.match(question) or _PLACE.match(question):
        sentences = _sentences_about(evidence, is_place)
        return sentences or [f"The place was not recognised {where}."]
    if _ALL.match(question) and not _mentions(question):
        people = max((people_in(clip) for clip in evidence.clips), default=0)
        people_sentences = (
            [f"At most {people} {'person is' if people == 1 else 'people are'} in view at once."]
            if people
            else []
        )
        return [*_sentences_about(evidence, lambda _: True), *people_sentences] or [
            f"No things were recognised {where}."
        ]
    match = _WHICH.match(question)
    if match is None:
        return []
    words = match.group(1).split()
    for length in (3, 2, 1):
        requested = concepts.table().named([word.lower() for word in words[:length]])
        if len(words) >= length and requested:
            sentences = _sentences_about(evidence, _is_one_of({concept.number for concept in requested}))
            name = " ".join(words[:length])
            return sentences or [f"No {name} was recognised {where}."]
    return []


def _mentions(question: str) -> bool:
    """Whether a question is about words, sound or colours and not about objects."""
    return bool(
        re.search(r"\b(?:said|spoken|text|words?|written|heard|sound|music|colou?rs?)\b", question, re.I)
    )


def _is_one_of(numbers: set[int]) -> Callable[[Name], bool]:
    """A test whether a name belongs to one of these concepts or to a class below one."""

    def is_requested(name: Name) -> bool:
        return name.number >= 0 and bool(numbers & concepts.table().concepts[name.number].above)

    return is_requested


def _name_with_kind(name: Name) -> str:
    probably = f" (probably {article(name.kind)} {name.kind})" if name.kind else ""
    return f"{article(name.name)} {name.name}{probably}"


def _sentences_about(evidence: Evidence, is_requested: Callable[[Name], bool]) -> list[str]:
    """One sentence for each name that `is_requested` accepts, with the times at which it is in view."""
    times: dict[str, list[tuple[float, float]]] = {}
    names: dict[str, Name] = {}
    for clip in evidence.clips:
        for name in names_of(clip):
            if not is_requested(name):
                continue
            names.setdefault(name.name, name)
            spans = times.setdefault(name.name, [])
            if spans and clip.start_sec - spans[-1][1] < 0.5:
                spans[-1] = spans[-1][0], clip.end_sec
            else:
                spans.append((clip.start_sec, clip.end_sec))
    return [
        sentence(
            f"{_name_with_kind(names[name])} is in view at {', '.join(clock_range(*s) for s in spans[:4])}"
        )
        for name, spans in times.items()
    ]
