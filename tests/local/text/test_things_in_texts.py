"""Texts name people and things that were recognised for sure enough, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tl_data.local.perception.evidence import Clip, Evidence, Label, Probe, Span, Thing
from tl_data.local.perception.vision import concepts
from tl_data.local.text import builtin, summaries

BOX = (0.3, 0.2, 0.4, 0.6)


def label(name: str, probability: float) -> Label:
    [concept] = [c for c in concepts.table().of_leaf.values() if name in c.names]
    assert concept.leaf is not None
    return Label(concept.leaf, concept.name, probability, probability, 0.0)


def video(*clips: Clip, speech: tuple[Span, ...] = ()) -> Evidence:
    placed = tuple(
        replace(
            clip, start_sec=4.0 * at, end_sec=4.0 * at + 4, frames=2, colors=(("gray", 0.6), ("olive", 0.2))
        )
        for at, clip in enumerate(clips)
    )
    return Evidence(
        Probe(4.0 * len(clips), 640, 360, 25.0, 1, "h264", None), placed, speech, object_models="see"
    )


DOG = Clip(0, 4, "0.jpg", labels=(label("Airedale", 0.6), label("Lakeland terrier", 0.2)))
COW = Clip(0, 4, "1.jpg", labels=(label("hog", 0.04),), things=(Thing("cow", 0.98, 0, 2, BOX, 1, False, 2),))
BUS = Clip(
    0, 4, "2.jpg", labels=(label("minibus", 0.4),), things=(Thing("bus", 0.8, 0, 2, BOX, 1, True, 2),),
    objects=(("person", 0.9), ("person", 0.8)),
)  # fmt: skip
CHURCH = Clip(0, 4, "3.jpg", labels=(label("church", 0.7),))
WALL = Clip(0, 4, "4.jpg", labels=(label("can opener", 0.01),))


def test_a_summary_names_people_and_objects_and_no_colours() -> None:
    text = builtin.summarize(video(DOG, BUS))
    assert "dog (probably an Airedale)" in text
    assert "two people and a bus are in view" in text
    assert "olive" not in text
    assert text.index("dog") < text.index("bus")


def test_titles_name_recognised_objects() -> None:
    assert "dog" in summaries.gist(video(DOG))["title"].lower()
    assert summaries.gist(video(WALL))["title"] == ""
    assert builtin.chapters(video(WALL))[0]["chapter_title"] == ""
    assert "dog" in summaries.gist(video(DOG))["topics"]


def test_a_drawn_rabbit_is_no_cow() -> None:
    found = video(COW)
    assert "cow" not in builtin.summarize(found)
    assert summaries.gist(found)["title"] == ""
    assert "No animal was recognised" in builtin.analyze(found, "What animal is in this video?")


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What animal is in this video?", "A dog (probably an Airedale) is in view at 0:00-0:04."),
        ("Which kind of vehicle can be seen?", "A bus is in view at 0:04-0:08."),
        ("What furniture is there?", "No furniture was recognised in this video."),
        ("Where is this?", "A church is in view at 0:08-0:12."),
    ],
)
def test_questions_about_kinds_are_answered_with_times(question: str, answer: str) -> None:
    assert builtin.analyze(video(DOG, BUS, CHURCH), question) == answer


def test_all_things_are_listed_and_people_counted() -> None:
    found = video(DOG, BUS)
    text = builtin.analyze(found, "What things are visible in the video?")
    assert "dog" in text
    assert "bus" in text
    assert "At most 2 people" in builtin.analyze(found, "How many people are there?")
    assert "Yes" in builtin.analyze(found, "Is there a person?")
    assert "was not recognised" in builtin.analyze(video(WALL), "Where is this?")


def test_evidence_without_labels_answers_as_before() -> None:
    old = replace(video(DOG), clips=(Clip(0, 4, "0.jpg", colors=(("gray", 0.6),)),), object_models="")
    assert "dog" not in builtin.analyze(old, "What animal is in this video?")
    assert "not recognised" not in builtin.analyze(old, "Where is this?")
