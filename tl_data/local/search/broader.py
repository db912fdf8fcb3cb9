"""Words that no concept of the table has as a name, and the concepts just above them in WordNet.

The classifier knows no fedora, but a fedora is a hat. tools/wordnet_table.py derives the words: those at most
two steps below a concept of perception/vision/concepts.py, and words for people, such as "photographer". The
last word of a class's name counts as well: a wall may be a "stone wall".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from itertools import pairwise

from tl_data.local.perception.vision.concepts import Concept, singular_forms, table

PERSON = "person"


@cache
def _broader() -> tuple[dict[str, list[tuple[int, int]]], frozenset[str]]:
    """Word -> numbers of the concepts above it, each with the number of steps; and the words for people."""
    above: dict[str, list[tuple[int, int]]] = {}
    people: frozenset[str] = frozenset()
    for line in (files(__package__) / "broader.tsv").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        key, _, words = line.partition("\t")
        if key == PERSON:
            people = frozenset(words.split(","))
            continue
        number, _, steps = key.partition(":")
        for word in words.split(","):
            above.setdefault(word, []).append((int(number), int(steps)))
    return above, people


@cache
def _heads() -> dict[str, list[Concept]]:
    """The last word of a class's name of several words -> the classes: "wall" -> stone wall."""
    heads: dict[str, list[Concept]] = {}
    for concept in table().concepts:
        if concept.leaf is not None or concept.things:
            for name in {n.lower().rpartition(" ")[2] for n in (*concept.names, *concept.things) if " " in n}:
                heads.setdefault(name, []).append(concept)
    return heads


def concepts_above(words: Sequence[str]) -> list[tuple[Concept, int]]:
    """The concepts above a word or phrase, each with the number of steps; [] if it is unknown."""
    above, _ = _broader()
    found: list[tuple[Concept, int]] = []
    for form in singular_forms(" ".join(words)):
        found += [(table().concepts[number], steps) for number, steps in above.get(form, ())]
        found += [(concept, 1) for concept in _heads().get(form, ())]
        if found:
            break
    return found


def is_person(words: Sequence[str]) -> bool:
    """Whether a word or phrase means a kind of people: "photographer", "nurses"."""
    _, people = _broader()
    return any(form in people for form in singular_forms(" ".join(words)))


def phrases(words: Sequence[str], free: Iterable[int]) -> list[tuple[int, ...]]:
    """The positions of the words and of the pairs of adjacent words among `free`, pairs first."""
    positions = sorted(free)
    pairs = [(first, second) for first, second in pairwise(positions) if second == first + 1]
    return [*pairs, *((position,) for position in positions)]
