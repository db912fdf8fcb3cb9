"""What may be named in a text: people, things that two models agree on, and concepts that are likely enough.

Ranking uses every label. A text says only what was right nearly always on clips that chose nothing: a person
at 0.5 or above, the detector's name where the classifier sees the same, and the most specific concept whose
summed probability over the clip is 0.5 or above.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tl_data.local.perception.evidence import Clip
from tl_data.local.perception.vision import concepts

SURE = 0.5  # probability of a concept, and score of a person
_FOUND = 0.5  # score of a detection that the classifier confirms
_BARE = 100  # classes below a concept from which on its name says little

#: Concepts that no person would name a thing by.
EMPTY = frozenset((
    "device", "covering", "consumer goods", "commodity", "instrumentality", "implement", "equipment",
    "conveyance", "structure", "artifact", "container", "vessel", "apparatus", "appliance", "durables",
    "instrument", "mechanism", "system", "creation", "product", "substance", "matter", "natural object",
    "geological formation", "physical entity", "abstraction", "object", "whole", "living thing",
    "organism", "entity", "chordate", "vertebrate", "placental", "carnivore", "ungulate",
    "even-toed ungulate",
    "canine", "feline", "area", "construction", "way", "barrier", "attachment",
    "restraint", "fastener", "support", "fabric", "cloth covering", "clothing", "garment",
    "protective covering", "shelter", "part", "machine", "measuring instrument", "electronic equipment",
    "home appliance", "kitchen appliance", "wheeled vehicle", "self-propelled vehicle", "craft",
    "game equipment", "sports equipment", "tool", "hand tool", "cutting implement", "food", "foodstuff",
    "solid", "nutriment", "course", "dish", "produce", "invertebrate", "arthropod", "mammal", "box",
    "stick", "rod", "bar", "mass", "unit", "medium", "communication system", "telecommunication system",
    "optical instrument", "source of illumination", "furnishing",
))  # fmt: skip
#: Names that a person says first for everything below them.
BASIC = (
    "dog", "cat", "bird", "fish", "snake", "lizard", "frog", "turtle", "crocodilian reptile",
    "dinosaur", "spider", "crab", "snail", "butterfly", "bee", "ant", "beetle", "dragonfly", "fly",
    "monkey", "ape", "bear", "fox", "wolf", "rabbit", "squirrel", "elephant", "sheep", "antelope",
    "whale", "seal", "insect", "flower", "mushroom", "fruit", "vegetable", "bread", "beverage", "car",
    "truck", "bus", "train", "boat", "ship", "airplane", "bicycle", "bottle", "cup", "glass", "bowl",
    "pot", "pan", "bag", "hat", "shoe", "boot", "helmet", "mask", "clock", "watch", "lamp", "chair",
    "table", "bed", "sofa", "telephone", "keyboard", "gun", "ball", "guitar", "piano", "drum", "bridge",
    "church", "house", "building", "mountain", "lake", "shore", "tower", "fence", "door",
)  # fmt: skip


_PLACES = {
    "building",
    "geological formation",
    "shop",
    "place of business",
    "room",
    "housing",
    "shore",
    "land",
}


@dataclass(frozen=True)
class Name:
    """Something that is in a clip for sure enough to be said."""

    name: str  # as a person says it: "dog"
    probability: float  # 0..1
    count: int = 1
    kind: str = ""  # a more special name that is likely, too: "Airedale"; "" for none
    number: int = -1  # of the concept


def people_in(clip: Clip) -> int:
    """How many people are in view at once for sure."""
    return sum(name == "person" and sure >= SURE for name, sure in clip.objects)


def names_of(clip: Clip) -> tuple[Name, ...]:
    """What may be named in a clip, people aside, surest first."""
    table = concepts.table()
    found: dict[str, Name] = {}
    for thing in clip.things:
        if thing.name == "person" or not thing.agreed or thing.probability < _FOUND:
            continue
        if 2 * thing.frames >= clip.frames:
            number = table.of_thing[thing.name].number
            found[thing.name] = Name(thing.name, thing.probability, max(1, thing.count), "", number)
    if (best := _most_specific(clip)) is not None:
        concept, sure = best
        name = basic_name(concept.number)
        below = {table.of_thing[thing].number for thing in found}
        if not below & concept.above:
            special = concept.name if concept.leaf is not None and concept.name != name else ""
            found[name] = Name(name, round(sure, 3), 1, special, concept.number)
    return tuple(sorted(found.values(), key=lambda name: -name.probability))


def is_place(name: Name) -> bool:
    """Whether a name is that of a place rather than of a thing in it: a church, a shore."""
    table = concepts.table()
    above = (
        {table.concepts[at].name for at in table.concepts[name.number].above} if name.number >= 0 else set()
    )
    return bool(above & _PLACES)


def basic_name(number: int) -> str:
    """The name that a person says first for a concept: "butterfly" for an admiral."""
    table = concepts.table()
    concept = table.concepts[number]
    above = sorted((table.concepts[at] for at in concept.above), key=lambda other: -other.depth)
    for other in above:
        if name := next((name for name in other.names if name in BASIC), ""):
            return name
    return concept.name


def _most_specific(clip: Clip) -> tuple[concepts.Concept, float] | None:
    table = concepts.table()
    mass = concepts.summed((label.number, label.mean) for label in clip.labels)
    likely: Iterable[tuple[concepts.Concept, float]] = (
        (table.concepts[number], sure)
        for number, sure in mass.items()
        if sure >= SURE and table.concepts[number].leaves < _BARE and table.concepts[number].name not in EMPTY
    )
    person = table.of_thing["person"].number
    return max(
        ((concept, sure) for concept, sure in likely if person not in concept.above),
        key=lambda item: (item[0].depth, item[1]),
        default=None,
    )
