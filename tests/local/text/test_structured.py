"""JSON schemas filled from evidence: always conforming, filled where evidence is, null or empty elsewhere."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.known import EMPTY, PLANT, SALES, SHAPES, SILENT, VIDEOS
from tl_data.local.perception.evidence import Span
from tl_data.local.text import builtin
from tl_data.local.text.json_schema import TooLarge, Unsupported, check
from tl_data.local.text.structured import fill
from tl_data.local.text.structured_fields import matches


def conforming(evidence: Any, schema: dict[str, Any], prompt: str = "") -> Any:
    value = fill(evidence, schema, prompt)
    jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).validate(
        json.loads(json.dumps(value))
    )
    return value


REPORT = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "summary": {"type": "string"},
        "duration_sec": {"type": "number"},
        "has_music": {"type": "boolean"},
        "topics": {"type": "array", "items": {"type": "string"}},
        "main_color": {"type": "string"},
        "sentiment": {"type": ["string", "null"]},
        "director": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "chapters": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "title": {"type": "string"},
                    "start_sec": {"type": "number"},
                    "end_sec": {"type": "number"},
                    "transcript": {"type": ["string", "null"]},
                },
                "required": ["title", "start_sec", "end_sec", "transcript"],
            },
        },
    },
    "required": [
        "title",
        "summary",
        "duration_sec",
        "has_music",
        "topics",
        "main_color",
        "sentiment",
        "director",
        "chapters",
    ],
}


@pytest.mark.parametrize("evidence", list(VIDEOS.values()), ids=list(VIDEOS))
def test_a_report_conforms_for_every_video(evidence: Any) -> None:
    value = conforming(evidence, REPORT, "Describe the video")
    assert value["duration_sec"] == evidence.probe.duration_sec
    assert value["director"] is None
    assert value["sentiment"] is None


def test_a_report_holds_the_evidence() -> None:
    value = conforming(SALES, REPORT)
    assert value["title"] == "Quarterly review"
    assert "Revenue by region" in value["summary"]
    assert value["has_music"] is True
    assert "revenue" in value["topics"]
    assert value["main_color"] == "white"
    assert [c["start_sec"] for c in value["chapters"]] == [0.0, 6.0, 18.0]
    assert "twelve percent" in value["chapters"][1]["transcript"]
    assert value["chapters"][2]["transcript"] is None


def test_names_without_evidence_are_left_out_or_empty() -> None:
    optional = {"type": "object", "properties": {"price": {"type": "number"}, "title": {"type": "string"}}}
    assert conforming(SALES, optional) == {"title": "Quarterly review"}
    required = {**optional, "required": ["price", "title"]}
    assert conforming(SALES, required)["price"] == 0


def test_a_passage_answers_a_name_or_its_description() -> None:
    schema = {
        "type": "object",
        "properties": {
            "rule": {"type": ["string", "null"], "description": "what visitors must wear: helmet"},
            "extension": {"type": ["integer", "null"], "description": "call extension"},
        },
        "required": ["rule", "extension"],
    }
    value = conforming(PLANT, schema)
    assert value["rule"] == "All visitors must wear a helmet inside the building."
    assert value["extension"] == 112


def test_lists_of_lines_and_colours() -> None:
    schema = {
        "type": "object",
        "properties": {
            "on_screen_text": {"type": "array", "items": {"type": "string"}},
            "colors": {"type": "array", "items": {"type": "string"}},
            "speech": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"start": {"type": "number"}, "text": {"type": "string"}},
                    "required": ["start", "text"],
                },
            },
        },
        "required": ["on_screen_text", "colors", "speech"],
    }
    value = conforming(SALES, schema)
    assert value["on_screen_text"] == ["Quarterly review", "Revenue by region", "Thank you"]
    assert value["colors"][0] == "white"
    assert [line["start"] for line in value["speech"]] == [0.6, 7.0, 12.5]
    assert conforming(SILENT, schema)["speech"] == []


def test_motion_without_direction_is_motion() -> None:
    names = ("has_motion", "has_camera_movement")
    schema = {
        "type": "object",
        "properties": {name: {"type": "boolean"} for name in names},
        "required": list(names),
    }

    def seen(**measured: Any) -> list[bool]:
        value = conforming(replace(SILENT, clips=(replace(SILENT.clips[0], **measured),)), schema)
        return [value[name] for name in names]

    assert seen() == [False, False]
    assert seen(motion=0.2) == [True, False]  # it turns on the spot
    assert seen(motion=0.2, camera="pan left") == [False, True]


def test_choices_are_made_by_evidence() -> None:
    schema = {
        "type": "object",
        "properties": {"camera": {"enum": ["static", "pan right", "unknown"]}},
        "required": ["camera"],
    }
    assert conforming(SHAPES, schema)["camera"] in ("static", "pan right")
    mood = {"enum": ["happy", "sad", None]}
    assert conforming(SHAPES, {"type": "object", "properties": {"mood": mood}, "required": ["mood"]}) == {
        "mood": None
    }
    forced = {"enum": ["happy", "sad", "unknown"]}
    assert conforming(SHAPES, {"type": "object", "properties": {"mood": forced}, "required": ["mood"]}) == {
        "mood": "unknown"
    }


def test_references_and_branches() -> None:
    schema = {
        "$defs": {
            "moment": {
                "type": "object",
                "properties": {"start": {"type": "integer", "minimum": 0}},
                "required": ["start"],
            }
        },
        "type": "object",
        "properties": {
            "highlights": {"type": "array", "items": {"$ref": "#/$defs/moment"}, "minItems": 1},
            "first": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/moment"}]},
        },
        "required": ["highlights", "first"],
    }
    value = conforming(SALES, schema)
    assert value["highlights"]
    assert value["first"] == {"start": 0}


def test_a_tree_that_refers_to_itself_ends() -> None:
    tree = {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "title": {"type": "string"},
                    "parts": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                },
            }
        },
        "$ref": "#/$defs/node",
    }
    assert conforming(EMPTY, tree) is not None
    endless = {
        "$defs": {
            "node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}, "required": ["next"]}
        },
        "$ref": "#/$defs/node",
    }
    with pytest.raises(Unsupported, match="infinite nesting"):
        fill(EMPTY, endless)


@pytest.mark.parametrize(
    "bounds",
    [
        {"minimum": 5},
        {"maximum": -3},
        {"exclusiveMinimum": 0, "maximum": 10},
        {"minimum": -7, "exclusiveMaximum": -6},
        {"minimum": 1_000_000},
    ],
)
def test_numbers_are_within_their_bounds(bounds: dict[str, Any]) -> None:
    for kind in ("integer", "number"):
        schema = {"type": "object", "properties": {"start": {"type": kind, **bounds}}, "required": ["start"]}
        conforming(SALES, schema)


def test_patterns_and_formats() -> None:
    schema = {
        "type": "object",
        "properties": {
            "start": {"type": "string", "pattern": r"^\d+:\d\d$"},
            "hashtag": {"type": "string", "pattern": "^#"},
            "phone": {"type": ["string", "null"], "pattern": r"^\d{3}$"},
            "id": {"type": "string", "format": "uuid"},
            "date": {"type": "string", "format": "date"},
            "made_at": {"type": "string", "format": "date-time"},
        },
        "required": ["start", "hashtag", "phone", "id", "date", "made_at"],
    }
    value = conforming(PLANT, schema)
    assert value["phone"] == "112"
    with pytest.raises(Unsupported, match="pattern"):
        fill(PLANT, {"type": "string", "pattern": "^zebra-[0-9]{17}$"})


@pytest.mark.parametrize(
    ("schema", "word"),
    [
        ({"type": "string", "minLength": 3}, "minLength"),
        ({"type": "array", "items": {"type": "string"}, "maxItems": 3}, "maxItems"),
        ({"type": "array", "minItems": 2}, "minItems"),
        ({"oneOf": [{"type": "string"}]}, "oneOf"),
        ({"allOf": [{"type": "string"}]}, "allOf"),
        ({"type": "text"}, "type"),
        ({"type": "string", "format": "email"}, "format"),
        ({"type": "string", "pattern": "("}, "pattern"),
        ({"type": "object", "properties": {"a": {"type": "string", "maxLength": 3}}}, "maxLength"),
        ({"type": "object", "properties": []}, "properties"),
        ({"type": "object", "properties": {"a": 3}}, "object"),
        ({"type": "object", "required": "a"}, "required"),
        ({"enum": []}, "enum"),
        ({"enum": [{}]}, "enum"),
        ({"$ref": "#/$defs/none"}, "reference"),
        ({"$ref": "http://example.com/schema"}, "reference"),
        ({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "circle"),
        ({"anyOf": []}, "anyOf"),
        ({"type": "integer", "minimum": "3"}, "minimum"),
        ({"type": "object", "patternProperties": {}}, "patternProperties"),
    ],
)
def test_schemas_outside_of_the_subset_are_refused(schema: dict[str, Any], word: str) -> None:
    with pytest.raises(Unsupported, match=word):
        check(schema)
    with pytest.raises(Unsupported, match=word):
        fill(SALES, schema)


def test_an_impossible_range_is_refused() -> None:
    with pytest.raises(Unsupported, match="between the bounds"):
        fill(SALES, {"type": "integer", "minimum": 3, "maximum": 2})


def test_analyze_gives_the_value_as_json_text() -> None:
    text = builtin.analyze(SALES, "Report", json_schema=REPORT)
    assert json.loads(text)["title"] == "Quarterly review"


NAMES = st.sampled_from(
    ["title", "start", "end_time", "colors", "has_music", "x", "people", "summary", "speech", "steps"]
)
LEAVES = st.one_of(
    st.sampled_from(
        [
            {"type": "string"},
            {"type": "integer"},
            {"type": "number", "minimum": 1, "maximum": 5},
            {"type": "boolean"},
            {"type": "null"},
            {"type": ["string", "null"]},
            {"enum": ["red", "green", 3, None]},
            {"const": "fixed"},
            {"type": "string", "format": "uuid"},
            {},
        ]
    )
)
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(
            lambda items, least: {"type": "array", "items": items, "minItems": least},
            inner,
            st.sampled_from([0, 1]),
        ),
        st.builds(lambda branches: {"anyOf": branches}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(
            lambda properties, every: {
                "type": "object",
                "properties": properties,
                "required": list(properties)[: every * 9],
            },
            st.dictionaries(NAMES, inner, max_size=4),
            st.integers(0, 1),
        ),
    ),
    max_leaves=8,
)


@given(SCHEMAS, st.sampled_from(list(VIDEOS)))
@settings(max_examples=120, deadline=None)
def test_any_schema_of_the_subset_is_filled_with_a_conforming_value(
    schema: dict[str, Any], video: str
) -> None:
    conforming(VIDEOS[video], schema)


def test_catastrophic_patterns_take_linear_time() -> None:
    began = time.process_time()
    text = "a" * 200
    assert not matches("(a|a?)+$b", text)
    assert matches("(a|a?)+$", text)
    assert time.process_time() - began < 5  # `re` would need longer than the age of the universe


def test_an_invalid_pattern_is_refused() -> None:
    with pytest.raises(Unsupported, match="the pattern cannot be read"):
        check({"type": "object", "properties": {"a": {"type": "string", "pattern": "(?=x)("}}})


def test_a_value_covers_its_whole_scope() -> None:
    names = {
        "has_silence": "boolean", "is_silent": "boolean", "sound": "string", "camera": "string",
        "camera_movement": "string", "loudness": "number", "brightness": "number",
    }  # fmt: skip
    schema = {"type": "object", "properties": {name: {"type": kind} for name, kind in names.items()}}
    bright = replace(SHAPES, clips=(replace(SHAPES.clips[0], brightness=0.1), *SHAPES.clips[1:]))
    assert conforming(bright, schema) == {
        "has_silence": True, "is_silent": False, "sound": "silence", "camera": "static",
        "camera_movement": "pan right", "loudness": pytest.approx(-17.953, abs=0.01), "brightness": 0.4,
    }  # fmt: skip


def test_the_language_of_a_text_is_not_that_of_the_speech() -> None:
    def line(start: float, end: float, language: str) -> Span:
        return Span(start, end, "a line", 0.9, language=language, language_confidence=0.95)

    shown = (line(0, 9, "en"), line(12, 20, "en"), line(20, 24, "de"))
    names = ("speech_language", "text_language", "language")
    schema = {"type": "object", "properties": {name: {"type": ["string", "null"]} for name in names}}
    expectations = [[None, "English", "English"], ["French", None, "French"], ["French", "English", "French"]]
    spoken = (line(1, 4, "fr"),)
    for spans, expected in zip(((shown, ()), ((), spoken), (shown, spoken)), expectations, strict=True):
        value = conforming(replace(SALES, shown=spans[0], speech=spans[1]), schema)
        assert [value[name] for name in names] == expected


def doubling(
    levels: int, fan: int = 2, *, required: bool = True, through: str = "properties"
) -> dict[str, Any]:
    """A schema of a few KB that stands for `fan` ** `levels` values."""
    definitions: dict[str, Any] = {f"d{levels}": {"type": "string"}}
    for level in range(levels):
        below = {"$ref": f"#/$defs/d{level + 1}", "description": "the title"}
        if through == "anyOf":
            definitions[f"d{level}"] = {"anyOf": [below] * fan}
            continue
        names = [f"p{number}" for number in range(fan)]
        definitions[f"d{level}"] = {"type": "object", "properties": dict.fromkeys(names, below)}
        if required:
            definitions[f"d{level}"]["required"] = names
    return {"$defs": definitions, "$ref": "#/$defs/d0"}


@pytest.mark.parametrize(
    "schema",
    [
        doubling(20, 4),
        doubling(14),
        doubling(20, 4, through="anyOf"),
        {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]},
        {"type": "object", "properties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}}, "required": ["a", "b"]},
        {"type": "object", "properties": {}, "required": [f"p{number}" for number in range(20_000)]},
        {"type": "string", "format": []},
        {"type": "string", "format": {}},
        {"type": "array", "minItems": []},
        {"type": "integer", "minimum": 10**400},
        {"type": "number", "maximum": -(10**400)},
    ],
)  # fmt: skip
def test_a_schema_that_costs_too_much_is_refused_early(schema: dict[str, Any]) -> None:
    began = time.process_time()
    with pytest.raises(Unsupported):
        fill(PLANT, schema)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("schema", "word"),
    [
        (
            {
                "$ref": "#/$defs/a0",
                "$defs": {f"a{n}": {"$ref": f"#/$defs/a{n + 1}"} for n in range(4000)} | {"a4000": {}},
            },
            "more than 24 others",
        ),
        (
            {"properties": {f"p{n}": {"pattern": rf"(\pL|\pN){{1,100}}{n}"} for n in range(999)}},
            "to check",
        ),
        ({"anyOf": [{"anyOf": [{"anyOf": [{"type": "string"}] * 90}] * 90}] * 90}, "to check"),
    ],
    ids=["chain", "patterns", "branches"],
)
def test_a_schema_is_checked_in_limited_time(schema: dict[str, Any], word: str) -> None:
    began = time.thread_time()
    with pytest.raises(TooLarge if word == "to check" else Unsupported, match=word):
        check(schema)
    assert time.thread_time() - began < 4


def test_a_costly_pattern_counts_once() -> None:
    """Sixty names of people; to compile the pattern takes 0.1 s."""
    name = {"type": "string", "pattern": r"^\p{L}[\p{L}\p{N} .'-]{0,200}$"}
    check({"type": "object", "properties": {f"name{n}": name for n in range(60)}})


def test_the_values_of_an_answer_are_bounded_where_nothing_is_required() -> None:
    """What a schema leaves open is left out before the answer grows too large."""
    began = time.process_time()
    value = conforming(PLANT, doubling(20, 2, required=False))
    assert len(json.dumps(value)) < 1_000_000
    assert time.process_time() - began < 20
    with pytest.raises(TooLarge):
        check(doubling(14))
    check(doubling(12))


def test_a_branch_that_leads_to_itself_ends_in_the_other_one() -> None:
    schema = {
        "type": "object",
        "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}, "title": {"type": "string"}},
        "required": ["next"],
    }
    assert conforming(PLANT, schema)["next"] is not None
