"""Words and traits of clips, and how questions are taken apart."""

from __future__ import annotations

import pytest

from tests.support.known import PLANT, SALES, SHAPES, SILENT, clip
from tl_data.local.perception.attributes import (
    TRAITS,
    audio_words,
    base_color,
    join_names,
    places,
    screen_text_between,
    speech_between,
    traits_of,
    visual_words,
    words_of,
)
from tl_data.local.search.fuzzy import Vocabulary, resemblance, sound_key, stem
from tl_data.local.search.parser import parse


def test_words_are_apart_by_what_they_rest_on() -> None:
    words = words_of(SALES.clips[1], SALES)
    assert words.seen == "mostly white with green, green in the center, nothing moves, bright"
    assert words.shown == "Revenue by region"
    assert words.sound == "someone speaks"
    assert words.said == "Our revenue grew by twelve percent compared to last year."
    assert words.named == ""
    assert words_of(SALES.clips[1], SALES).maybe == ""
    assert words_of(SALES.clips[2], SALES).maybe.split("\n\n") == ["", "mostly the growth"]  # shown, said
    assert words_of(PLANT.clips[1], PLANT).named == "face"


def test_motion_camera_and_light_in_words() -> None:
    assert "something moves left" in visual_words(SHAPES.clips[0])
    assert "red on the left" in visual_words(SHAPES.clips[0])
    assert "the camera pans right" in visual_words(SHAPES.clips[2])
    assert "the camera zooms in" in visual_words(SHAPES.clips[3])
    assert visual_words(SALES.clips[3]).endswith("dark")
    assert audio_words(SHAPES.clips[3]) == "music, loud"
    assert audio_words(SILENT.clips[0]) == ""


def test_traits_have_known_names_and_strengths() -> None:
    for evidence in (SALES, SHAPES, PLANT, SILENT):
        for part in evidence.clips:
            found = traits_of(part, evidence.probe)
            assert set(found) <= set(TRAITS)
            assert all(0 < strength <= 1 for strength in found.values())
    small, large = (traits_of(clip(0, 5, colors=(("red", share),)))["red"] for share in (0.02, 0.5))
    assert small < large
    assert len(TRAITS) == len(set(TRAITS))


@pytest.mark.parametrize(
    ("name", "color"),
    [
        ("dark blue", "blue"),
        ("Crimson", "red"),
        ("light gray", "gray"),
        ("turquoise", "cyan"),
        ("plaid", None),
    ],
)
def test_colour_names_lead_to_the_twelve(name: str, color: str | None) -> None:
    assert base_color(name) == color


def test_places_and_lists() -> None:
    assert places("top left") == ["top", "left"]
    assert places("middle") == ["center"]
    assert join_names(["a", "b", "c"]) == "a, b and c"
    assert (join_names([]), join_names(["a"])) == ("", "a")


def test_spans_belong_to_clips_they_really_overlap() -> None:
    assert [span.text for span in speech_between(SALES, 4.7, 6.0)] == []
    assert len(speech_between(SALES, 0.0, 12.0)) == 2
    assert [span.text for span in screen_text_between(SALES, 17.8, 24.0)] == ["Thank you"]


@pytest.mark.parametrize(
    ("text", "traits"),
    [
        ("a red object moving to the left", {"red", "moves left"}),
        ("an azure square that goes from left to right", {"blue", "moves right"}),
        ("the camera slowly pans left", {"camera pan left"}),
        ("camera moves up", {"camera tilt up"}),
        ("zooming out", {"camera zoom out"}),
        ("handheld", {"camera shaky"}),
        ("a hand-held camera", {"camera shaky"}),
        ("hand held", {"camera shaky"}),
        ("a closeup of a man", {"face"}),
        ("close-up of a person", {"face"}),
        ("a close  up of a woman", {"face"}),
        ("french voiceover", {"speech french"}),
        ("a spanish voice-over", {"speech spanish"}),
        ("german  voice over", {"speech german"}),
        ("mostly green picture", {"mostly green", "green"}),
        ("on a black background", {"mostly black", "black"}),
        ("everything is blue", {"mostly blue", "blue"}),
        ("it all turns dark red", {"mostly red", "red"}),
        ("blue all over", {"mostly blue", "blue"}),
        ("the whole picture is blue", {"mostly blue", "blue"}),
        ("crimson fills the whole screen", {"mostly red", "red"}),
        ("nothing but violet", {"mostly purple", "purple"}),
        ("a yellow circle on pink", {"yellow", "mostly pink", "pink"}),
        (
            "a green star, moving left, on plain white while someone talks",
            {"green", "mostly white", "moves left"},
        ),
        ("a sustained chord", {"sound music"}),
        ("a long held tone", {"sound music"}),
        ("yellow on the right side", {"yellow", "right yellow"}),
        ("silence", {"sound silence"}),
        ("soft background music", {"sound music"}),
        ("someone talking", {"sound speech"}),
        ("text on the screen", {"text"}),
        ("a crowd", {"people", "faces", "person", "face"}),
        ("it is falling", {"moves down"}),
        ("nothing moves", {"still"}),
    ],
)
def test_questions_name_traits(text: str, traits: set[str]) -> None:
    assert {trait for part in parse(text).parts for trait, _ in part.traits} >= traits


@pytest.mark.parametrize(
    "text",
    ["a cat on red tiles", "full of yellow flowers", "two men in blue", "a black friday sale on white wine"],
)
def test_the_colour_of_a_thing_is_not_taken_for_that_of_the_picture(text: str) -> None:
    assert not any(trait.startswith("mostly") for part in parse(text).parts for trait, _ in part.traits)


def test_questions_keep_what_nothing_can_explain() -> None:
    parts = parse("a dog running on the beach").parts
    assert [part.text for part in parts] == ["dog", "running", "beach"]
    assert all(part.traits == () and part.weight > 0.5 for part in parts)


def test_quotes_and_hints() -> None:
    question = parse('the slide that says "Net Revenue"')
    assert question.phrases == (("net", "revenue"),)
    assert question.hint == "shown"
    assert parse("the speaker mentions taxes").hint == "said"
    assert [part.text for part in parse("the speaker mentions taxes").parts] == ["taxes"]
    assert parse("who are you").phrases == (("who", "are", "you"),)
    assert parse("?!").parts == ()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("moving", "moves"),
        ("parties", "party"),
        ("revenues", "revenue"),
        ("stopped", "stops"),
        ("quickly", "quick"),
    ],
)
def test_stems(one: str, other: str) -> None:
    assert stem(one) == stem(other)


def test_misspellings_match_in_long_words_only() -> None:
    assert resemblance("revenue", "reveneu") > 0.7
    assert resemblance("invoice", "lnvoice") == 0.9
    assert resemblance("2047", "2O47".lower()) == 0.9
    assert resemblance("ball", "call") == 0
    assert resemblance("network", "networking") > 0.5
    assert resemblance("quality", "quantity") == 0
    assert sound_key("phone") != sound_key("bone")


def test_a_vocabulary_finds_alike_and_like_words() -> None:
    words = Vocabulary()
    words.add(["automobile", "banana", "revenue", "physician"])
    words.add(["automobile"])
    assert list(words.similar_spellings("reveneu")) == ["revenue"]
    assert words.similar_spellings("automobile") == {}
    assert words.similar_meanings("doctor")[:1] == ["physician"]
    assert words.similar_meanings("car")[:1] == ["automobile"]
    assert words.similar_meanings("1984") == []
