"""Selects the objects and people that texts may name.

Search uses every label to rank clips. Texts name only what was almost always correct in tests on arbitrary
clips: people with a score of at least 0.5, detections that the classifier confirms and that are in at least
half of the frames, and the most specific concept whose summed probability over the clip is at least 0.5.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tl_data.local.perception.evidence import Clip
from tl_data.local.perception.vision import concepts

MIN_PROBABILITY = 0.5  # smallest probability of a concept, and smallest score of a person
_MIN_DETECTION_SCORE = 0.5  # smallest score of a confirmed detection
_MAX_CLASSES = 100  # a concept with more classes is too general for a name

#: Concepts whose names are too abstract for texts.
ABSTRACT = frozenset((
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
#: Basic-level names. Texts use such a name for every more specific concept: "dog" for each breed.
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


#: Hypernyms of places.
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
    """An object or place of a clip that texts may name."""

    name: str  # the basic-level name: "dog"
    probability: float  # 0..1
    count: int = 1
    kind: str = ""  # a more specific probable name: "Airedale"; "" for none
    number: int = -1  # the number of the concept


def people_in(clip: Clip) -> int:
    """The largest number of certain people in one frame."""
    return sum(name == "person" and score >= MIN_PROBABILITY for name, score in clip.objects)


def names_of(clip: Clip) -> tuple[Name, ...]:
    """The names for the objects and places of a clip, without people, most probable first."""
    table = concepts.table()
    names: dict[str, Name] = {}
    for thing in clip.things:
        if thing.name == "person" or not thing.agreed or thing.probability < _MIN_DETECTION_SCORE:
            continue
        if 2 * thing.frames >= clip.frames:
            number = table.of_thing[thing.name].number
            names[thing.name] = Name(thing.name, thing.probability, max(1, thing.count), "", number)
    if (best := _most_specific(clip)) is not None:
        concept, probability = best
        name = basic_name(concept.number)
        named_concepts = {table.of_thing[thing].number for thing in names}
        if not named_concepts & concept.above:
            specific_name = concept.name if concept.leaf is not None and concept.name != name else ""
            names[name] = Name(name, round(probability, 3), 1, specific_name, concept.number)
    return tuple(sorted(names.values(), key=lambda name: -name.probability))


def is_place(name: Name) -> bool:
    """Whether a name is that of a place: a church, a shore."""
    table = concepts.table()
    hypernyms = (
        {table.concepts[number_above].name for number_above in table.concepts[name.number].above}
        if name.number >= 0
        else set()
    )
    return bool(hypernyms & _PLACES)


def basic_name(number: int) -> str:
    """The basic-level name of a concept: "butterfly" for the species admiral."""
    table = concepts.table()
    concept = table.concepts[number]
    hypernyms = sorted(
        (table.concepts[number_above] for number_above in concept.above), key=lambda hypernym: -hypernym.depth
    )
    for hypernym in hypernyms:
        if name := next((name for name in hypernym.names if name in BASIC), ""):
            return name
    return concept.name


def _most_specific(clip: Clip) -> tuple[concepts.Concept, float] | None:
    """The most specific probable concept of the classifier, with its probability; None without one."""
    table = concepts.table()
    probabilities = concepts.sum_probabilities((label.number, label.mean) for label in clip.labels)
    candidates: Iterable[tuple[concepts.Concept, float]] = (
        (table.concepts[number], probability)
        for number, probability in probabilities.items()
        if probability >= MIN_PROBABILITY
        and table.concepts[number].leaves < _MAX_CLASSES
        and table.concepts[number].name not in ABSTRACT
    )
    person = table.of_thing["person"].number
    return max(
        ((concept, probability) for concept, probability in candidates if person not in concept.above),
        key=lambda item: (item[0].depth, item[1]),
        default=None,
    )
