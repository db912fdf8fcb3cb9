"""Hypernyms of the classes of the classifier and the detector: a "tabby" is a cat and an animal.

The table is derived from WordNet 3.0 by tools/wordnet_table.py. A concept is a row of it. Its probability in
a clip is the sum over the classifier's classes below it, or the best detection below it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

from tl_data.local.perception.evidence import Clip

#: A detection counts in full only if the classifier agrees: at least this share of its probability is below
#: the detector's class. The detector takes a drawn rabbit for a cow at 0.98; both models never do.
AGREED = 0.05
UNCONFIRMED = 0.5  # weight of a detection that the classifier does not confirm
_BROAD = 450  # concepts with more classes are too general: object, whole, artifact
#: Classes of ImageNet that confirm a class of COCO although WordNet does not place them below it: an espresso
#: is in a cup, and the detector takes an ox for a cow.
_CONFIRM = {"cup": (504, 967, 968), "wine glass": (572, 966), "potted plant": (738,), "cow": (345,)}
_ALSO = {"vehicle": "conveyance"}  # words with a wider meaning than in WordNet, where a bus is no vehicle
_LONGEST = 3  # most words of a concept's name in a query


@dataclass
class Concept:
    """A row of the table."""

    number: int
    parents: tuple[int, ...]
    leaf: int | None  # class of ImageNet
    things: tuple[str, ...]  # classes of COCO
    names: tuple[str, ...]
    above: frozenset[int] = frozenset()  # its hypernyms and itself
    leaves: int = 0  # classes of ImageNet at or below it
    depth: int = 0
    below_things: set[str] = field(default_factory=set)  # classes of COCO at or below it

    @property
    def name(self) -> str:
        """The most common name."""
        return self.names[0]


class Table:
    """All concepts, by number, class and name."""

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
            self._take(fields)
        self._relate()
        self.by_name: dict[str, list[Concept]] = {}
        for concept in self.concepts:
            if concept.leaves <= _BROAD:
                for name in dict.fromkeys((*concept.names, *concept.things)):
                    self.by_name.setdefault(name.lower().replace("-", " "), []).append(concept)

        for word, wider in _ALSO.items():
            self.by_name[word] += self.by_name[wider]

    def _take(self, fields: Sequence[str]) -> None:
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
        def above(number: int) -> frozenset[int]:
            concept = self.concepts[number]
            if not concept.above:
                found = {number}
                for parent in concept.parents:
                    found |= above(parent)
                concept.above = frozenset(found)
                concept.depth = 1 + max((self.concepts[p].depth for p in concept.parents), default=0)
            return concept.above

        for concept in self.concepts:
            for number in above(concept.number):
                self.concepts[number].leaves += concept.leaf is not None
                self.concepts[number].below_things.update(concept.things)

    def named(self, words: Sequence[str]) -> list[Concept]:
        """The concepts with this name, in the singular or plural; [] if there are none."""
        text = " ".join(words)
        for form in self._singular(text):
            if found := self.by_name.get(form):
                return found
        return []

    def _singular(self, text: str) -> Iterable[str]:
        yield text
        if text in self._plurals:
            yield self._plurals[text]
        for ending, instead in (("ies", "y"), ("ves", "f"), ("es", ""), ("s", "")):
            if text.endswith(ending) and len(text) > len(ending) + 2:
                yield text[: -len(ending)] + instead

    def pieces(self, words: Sequence[str]) -> list[tuple[tuple[int, ...], list[Concept]]]:
        """The longest phrases of a query that name concepts: positions of the words, and the concepts."""
        found, at = [], 0
        while at < len(words):
            for length in range(min(_LONGEST, len(words) - at), 0, -1):
                if concepts := self.named(words[at : at + length]):
                    found.append((tuple(range(at, at + length)), concepts))
                    at += length
                    break
            else:
                at += 1
        return found


@cache
def table() -> Table:
    """The table, loaded once per process."""
    return Table((files(__package__) / "wordnet.tsv").read_text(encoding="utf-8"))


def summed(labels: Iterable[tuple[int, float]]) -> dict[int, float]:
    """The summed probability of every concept above the given classes of ImageNet, clipped at 1."""
    known = table()
    found: dict[int, float] = {}
    for leaf, probability in labels:
        for number in known.of_leaf[leaf].above:
            found[number] = found.get(number, 0.0) + probability
    return {number: min(1.0, probability) for number, probability in found.items()}


def agrees(thing: str, mass: Mapping[int, float]) -> bool:
    """Whether the classifier confirms a class of the detector. `mass` is `summed` of the same frame."""
    known = table()
    concept = known.of_thing.get(thing)
    if concept is None:
        return False
    beside = sum(mass.get(known.of_leaf[leaf].number, 0.0) for leaf in _CONFIRM.get(thing, ()))
    return mass.get(concept.number, 0.0) + beside >= AGREED


def probabilities(clip: Clip) -> dict[int, float]:
    """The probability of each concept in a clip, 0 to 1: the larger of classifier and detector."""
    found = summed((label.number, label.probability) for label in clip.labels)
    known = table()
    for thing in clip.things:
        if thing.name == "person":
            continue  # people are counted and confirmed separately
        concept = known.of_thing.get(thing.name)
        if concept is None:
            continue
        worth = thing.probability * (1.0 if thing.agreed else UNCONFIRMED)
        for number in concept.above:
            found[number] = max(found.get(number, 0.0), worth)
    return {number: worth for number, worth in found.items() if known.concepts[number].leaves <= _BROAD}
