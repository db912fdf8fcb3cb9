"""Recognised things in search: by name, by what they are kinds of, and by a picture of another one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from tests.support.drawn_things import clock, film, wall
from tl_data.local.perception import analyze
from tl_data.local.perception.attributes import words_of
from tl_data.local.perception.evidence import Clip, Evidence, Label, Probe, Span, Thing
from tl_data.local.perception.vision import concepts, objects
from tl_data.local.search.broader import is_person
from tl_data.local.search.embeddings import embed_clip, embed_text
from tl_data.local.search.query import Query
from tl_data.local.search.search import find_in_video
from tl_data.local.storage.library import Library

BOX = (0.3, 0.2, 0.4, 0.6)


def label(name: str, probability: float) -> Label:
    [concept] = [c for c in concepts.table().of_leaf.values() if name in c.names]
    assert concept.leaf is not None
    return Label(concept.leaf, concept.name, probability, probability, 0.0)


def clip(number: int, *labels: Label, things: tuple[Thing, ...] = (), people: int = 0) -> Clip:
    objects_ = (("person", 0.9),) * people
    return Clip(
        4.0 * number, 4.0 * number + 4, f"{number:05d}.jpg", colors=(("gray", 0.6),), labels=labels,
        things=things, objects=objects_, frames=2,
    )  # fmt: skip


@pytest.fixture(scope="module")
def zoo() -> Evidence:
    """A dog, a butterfly that the detector calls a bird, a bus, two people, one, a wall: 4 s each."""
    person = Thing("person", 0.9, 0, 2, BOX, 1, True, 2)
    clips = (
        clip(0, label("Airedale", 0.6), label("Lakeland terrier", 0.2)),
        clip(1, label("admiral", 0.7), things=(Thing("bird", 0.96, 0, 2, BOX, 1, False, 2),)),
        clip(2, label("minibus", 0.4), things=(Thing("bus", 0.8, 0, 2, BOX, 1, True, 2),)),
        clip(3, people=2, things=(replace(person, count=2),)),
        clip(4, people=1, things=(person,)),
        clip(5),
    )
    return Evidence(Probe(24.0, 640, 360, 25.0, 1, "h264", None), clips, object_models="see")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("a dog", 0), ("terriers", 0), ("a butterfly", 1), ("insects", 1), ("a bus", 2), ("vehicles", 2),
        ("two people", 3), ("several men", 3), ("one person", 4), ("a man alone", 4),
    ],
)  # fmt: skip
def test_things_are_found_by_what_they_are(zoo: Evidence, text: str, number: int) -> None:
    best = find_in_video(zoo, text)[0]
    assert best.clip_number == number
    assert best.confidence in ("medium", "high")


@pytest.mark.parametrize("text", ["a giraffe", "a guitar", "pizza", "an umbrella", "a train"])
def test_what_nothing_shows_stays_below_medium(zoo: Evidence, text: str) -> None:
    assert all(hit.confidence in ("low", "none") for hit in find_in_video(zoo, text))


def test_the_word_that_only_the_detector_says_is_a_guess(zoo: Evidence) -> None:
    hits = find_in_video(zoo, "a bird")
    assert not hits or hits[0].confidence != "high"
    assert "bird" not in words_of(zoo.clips[1], zoo).named.split()
    assert "butterfly" in words_of(zoo.clips[1], zoo).named.split()


@pytest.mark.parametrize(
    ("text", "number"), [("puppies", 0), ("a trolleybus", 2), ("a monarch butterfly", 1)]
)
def test_a_word_below_a_concept_finds_it_with_low_confidence(zoo: Evidence, text: str, number: int) -> None:
    """No class is called so, but WordNet has the word just below one: a puppy is a dog."""
    best = find_in_video(zoo, text)[0]
    assert (best.clip_number, best.confidence) == (number, "low")


@pytest.mark.parametrize("text", ["a photographer", "nurses", "an astronaut"])
def test_a_kind_of_people_finds_people_with_low_confidence(zoo: Evidence, text: str) -> None:
    hits = find_in_video(zoo, text)
    assert (min(hit.start_sec for hit in hits), max(hit.end_sec for hit in hits)) == (12.0, 20.0)
    assert {hit.confidence for hit in hits} == {"low"}


@pytest.mark.parametrize(
    ("text", "known"), [("boy", True), ("bastard", False), ("chink", False), ("slut", False)]
)
def test_slurs_and_obscenities_are_no_words_for_people(text: str, known: bool) -> None:
    assert is_person([text]) is known


def test_the_most_probable_clip_is_first_and_a_mention_is_not(zoo: Evidence) -> None:
    surer = clip(1, label("Airedale", 0.97))
    spoken = (Span(8.0, 10.0, "The dog of a friend.", 0.9),)
    evidence = replace(zoo, clips=(clip(0, label("Airedale", 0.5)), surer, clip(2)), speech=spoken)
    hits = find_in_video(evidence, "a dog")
    assert [hit.clip_number for hit in hits] == [1, 2, 0]
    assert hits[1].score == pytest.approx(75, abs=1)
    assert find_in_video(evidence, "someone says dog")[0].score == pytest.approx(100, abs=1)


def test_vectors_of_clips_lie_near_the_names_of_their_things(zoo: Evidence) -> None:
    vectors = [embed_clip(one, zoo, "visual") for one in zoo.clips]
    for text, number in (("dog", 0), ("butterfly", 1), ("bus", 2)):
        cosines = [float(vector @ embed_text(text)) for vector in vectors]
        assert max(range(len(cosines)), key=cosines.__getitem__) == number, text


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    folder = tmp_path_factory.mktemp("things")
    made = Library(folder / "library.sqlite", object_models=objects.load_object_models)
    made.add("index", "clock", analyze(film(folder / "clock.mp4", [(wall(), 2.5), (clock(hour=2.2), 2.5)])))
    made.add("index", "wall", analyze(film(folder / "wall.mp4", [(wall(), 3.0)])))
    yield made
    made.close()


def test_a_picture_of_a_thing_finds_another_one(library: Library) -> None:
    other = cv2.cvtColor(clock(480, 480, hour=7.5), cv2.COLOR_RGB2BGR)
    other = cv2.flip(cv2.addWeighted(other, 0.6, other, 0, 10), 0)[:, ::-1]
    picture = cv2.imencode(".png", other)[1].tobytes()
    hit = library.search(Query("index", images=(picture,)))[0]
    assert (hit.video_id, hit.start_sec) == ("clock", pytest.approx(2.5, abs=0.3))


def test_a_library_finds_things_again_after_it_was_closed(library: Library, tmp_path: Path) -> None:
    for text in ("a clock", "clocks", "a timepiece"):
        hit = library.search(Query("index", text))[0]
        assert (hit.video_id, hit.start_sec) == ("clock", pytest.approx(2.5, abs=0.3)), text
    known = library.evidence("clock")
    first = Library(tmp_path / "library.sqlite")
    first.add("index", "clock", known)
    first.close()
    again = Library(tmp_path / "library.sqlite")
    try:
        assert again.search(Query("index", "a clock"))[0].video_id == "clock"
    finally:
        again.close()
