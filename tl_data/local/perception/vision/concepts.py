"""Hypernyms of the classes of the classifier and the detector: a "tabby" is a cat and an animal.

tools/wordnet_table.py derives the table from WordNet 3.0. Each row is a concept. The probability of a concept
in a clip is the sum of the probabilities of the classifier's classes below it, or that of the best detection
below it if it is larger.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

from tl_data.local.perception.evidence import Clip

#: The classifier confirms a detection if it gives the detected class at least this probability. Otherwise the
#: detection does not count in full. For example, the detector alone scores a drawn rabbit as a cow with 0.98.
AGREED = 0.05
UNCONFIRMED = 0.5  # weight of a detection that the classifier does not confirm
_MAX_CLASSES = 450  # concepts with more classes are too general: object, whole, artifact
#: COCO class -> ImageNet classes that confirm it although they are not below it in WordNet: an espresso is in
#: a cup, and the detector detects an ox as a cow.
_CONFIRM = {"cup": (504, 967, 968), "wine glass": (572, 966), "potted plant": (738,), "cow": (345,)}
#: Words that mean more than in WordNet -> the wider concept: in WordNet, a bus is no vehicle.
_WIDER = {"vehicle": "conveyance"}
_MAX_WORDS = 3  # of a concept's name in a query


@dataclass
class Concept:
    """A row of the table: a class or a hypernym of classes."""

    number: int
    parents: tuple[int, ...]
    leaf: int | None  # number of the ImageNet class; None if the concept is no such class
    things: tuple[str, ...]  # COCO classes with this meaning
    names: tuple[str, ...]
    above: frozenset[int] = frozenset()  # numbers of its hypernyms, and its own
    leaves: int = 0  # number of ImageNet classes at or below it
    depth: int = 0  # length of its longest chain of hypernyms
    below_things: set[str] = field(default_factory=set)  # COCO classes at or below it

    @property
    def name(self) -> str:
        """The most common name."""
        return self.names[0]


class Table:
    """All concepts, by number, ImageNet class (leaf), COCO class (thing) and name."""

    def __init__(self, text: str) -> None:
        self.concepts: list[Concept] = []
        self.of_leaf: dict[int, Concept] = {}
        self.of_thing: dict[str, Concept] = {}
        self._plurals: dict[str, str] = {}
        for line in text.splitlines():
            if line.startswith("#"):
                continue
            fields = line.split("\t")
            if fields[0] == "!":
                self._plurals[fields[1]] = fields[2]
                continue
            self._add(fields)
        self._relate()
        self.by_name: dict[str, list[Concept]] = {}
        for concept in self.concepts:
            if concept.leaves <= _MAX_CLASSES:
                for name in dict.fromkeys((*concept.names, *concept.things)):
                    self.by_name.setdefault(name.lower().replace("-", " "), []).append(concept)

        for word, wider in _WIDER.items():
            self.by_name[word] += self.by_name[wider]

    def _add(self, fields: Sequence[str]) -> None:
        """Add the concept of a line."""
        number, parents, leaf, things, names = fields
        concept = Concept(
            int(number),
            tuple(int(parent) for parent in parents.split(",") if parent),
            int(leaf) if leaf else None,
            tuple(things.split(",")) if things else (),
            tuple(names.split(",")),
        )
        self.concepts.append(concept)
        if concept.leaf is not None:
            self.of_leaf[concept.leaf] = concept
        self.of_thing |= dict.fromkeys(concept.things, concept)

    def _relate(self) -> None:
        """Set the fields of the concepts that depend on other concepts."""

        def above(number: int) -> frozenset[int]:
            concept = self.concepts[number]
            if not concept.above:
                numbers = {number}
                for parent in concept.parents:
                    numbers |= above(parent)
                concept.above = frozenset(numbers)
                concept.depth = 1 + max((self.concepts[p].depth for p in concept.parents), default=0)
            return concept.above

        for concept in self.concepts:
            for number in above(concept.number):
                self.concepts[number].leaves += concept.leaf is not None
                self.concepts[number].below_things.update(concept.things)

    def named(self, words: Sequence[str]) -> list[Concept]:
        """The concepts with this name, in the singular or plural; [] if there are none."""
        text = " ".join(words)
        for form in (text, self._plurals.get(text, text), *singular_forms(text)):
            if concepts := self.by_name.get(form):
                return concepts
        return []

    def pieces(self, words: Sequence[str]) -> list[tuple[tuple[int, ...], list[Concept]]]:
        """Find the longest phrases of a query that name concepts: their word positions and the concepts."""
        phrases, position = [], 0
        while position < len(words):
            for length in range(min(_MAX_WORDS, len(words) - position), 0, -1):
                if concepts := self.named(words[position : position + length]):
                    phrases.append((tuple(range(position, position + length)), concepts))
                    position += length
                    break
            else:
                position += 1
        return phrases


def singular_forms(text: str) -> Iterable[str]:
    """A name and its possible singular forms."""
    yield text
    for ending, replacement in (("ies", "y"), ("ves", "f"), ("es", ""), ("s", "")):
        if text.endswith(ending) and len(text) > len(ending) + 2:
            yield text[: -len(ending)] + replacement


@cache
def table() -> Table:
    """Load the table, once per process."""
    return Table((files(__package__) / "wordnet.tsv").read_text(encoding="utf-8"))


def sum_probabilities(labels: Iterable[tuple[int, float]]) -> dict[int, float]:
    """The probability of every concept above some ImageNet classes: the sum over its classes, at most 1.

    Args:
        labels: (number, probability) of ImageNet classes.
    """
    all_concepts = table()
    sums: dict[int, float] = {}
    for leaf, probability in labels:
        for number in all_concepts.of_leaf[leaf].above:
            sums[number] = sums.get(number, 0.0) + probability
    return {number: min(1.0, probability) for number, probability in sums.items()}


def agrees(thing: str, sums: Mapping[int, float]) -> bool:
    """Whether the classifier confirms a COCO class of the detector.

    Args:
        sums: the result of `sum_probabilities` for the same frame.
    """
    all_concepts = table()
    concept = all_concepts.of_thing.get(thing)
    if concept is None:
        return False
    confirming = sum(sums.get(all_concepts.of_leaf[leaf].number, 0.0) for leaf in _CONFIRM.get(thing, ()))
    return sums.get(concept.number, 0.0) + confirming >= AGREED


def probabilities(clip: Clip) -> dict[int, float]:
    """The probability of each concept in a clip, 0 to 1: the larger of classifier and detector."""
    by_concept = sum_probabilities((label.number, label.probability) for label in clip.labels)
    all_concepts = table()
    for thing in clip.things:
        if thing.name == "person":
            continue  # people are counted and confirmed separately
        concept = all_concepts.of_thing.get(thing.name)
        if concept is None:
            continue
        weighted = thing.probability * (1.0 if thing.agreed else UNCONFIRMED)
        for number in concept.above:
            by_concept[number] = max(by_concept.get(number, 0.0), weighted)
    return {
        number: weighted
        for number, weighted in by_concept.items()
        if all_concepts.concepts[number].leaves <= _MAX_CLASSES
    }
