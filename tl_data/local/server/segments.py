"""Analysis by segments: validation of the segment definitions, and the segments of a video."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tl_data.local import models
from tl_data.local.errors import invalid, not_provided
from tl_data.local.models import TextModel
from tl_data.local.perception.evidence import Evidence
from tl_data.local.server import references
from tl_data.local.server.context import Engine
from tl_data.local.server.schema_dialect import (
    FORMAT_KEY,
    TIMESTAMP_FORMATS,
    format_timestamp,
    format_timestamps,
    plain_schema,
)
from tl_data.local.tasks.inline_video import within_window
from tl_data.local.text.writer import GeneratedText, GenerationOptions, WriterInput

MAX_DEFINITIONS, MAX_REFERENCES, MAX_ENUM = 20, 4, 100
SHORTEST_SEC = 2.0  # default of `min_segment_duration`, and the smallest length that a request may set
SCALARS = ("string", "boolean", "number", "integer")
TYPES = (*SCALARS, "array", "timestamp", "time_array")
RESERVED = ("start_time", "end_time", "metadata")
#: A description with one of these words asks for consecutive parts of a video, such as its chapters.
PARTS = re.compile(r"\b(scenes?|chapters?|segments?|shots?|sections?|topics?|parts?)\b", re.IGNORECASE)

Json = dict[str, Any]


@dataclass(frozen=True)
class Definition:
    """One kind of segment. `ranges` are the time ranges given in the request, in seconds."""

    id: str
    description: str
    fields: tuple[Json, ...] = ()
    ranges: tuple[tuple[float, float], ...] = ()
    pictures: tuple[references.Reference, ...] = ()


@dataclass(frozen=True)
class Definitions:
    """All kinds of segments of a request.

    `form` is the format of their times. `shortest` and `longest` limit their lengths, in seconds.
    """

    kinds: tuple[Definition, ...]
    form: str = "seconds"
    shortest: float = SHORTEST_SEC
    longest: float | None = None


def read_definitions(body: Json, limits: TextModel) -> Definitions:
    """Validate the `response_format` of an analysis by segments.

    Raises:
        EngineError: parameter_not_provided or parameter_invalid; the message names the wrong part.
    """
    response_format = body.get("response_format")
    if response_format is None:
        raise not_provided("response_format")
    if not isinstance(response_format, dict) or response_format.get("type") != "segment_definitions":
        raise _invalid_format(
            'It must be {"type": "segment_definitions", "segment_definitions": [...]}.', response_format
        )
    kinds = response_format.get("segment_definitions")
    if not isinstance(kinds, list) or not 1 <= len(kinds) <= MAX_DEFINITIONS:
        raise _invalid_format(f"It must hold 1 to {MAX_DEFINITIONS} segment_definitions.", kinds)
    form = response_format.get("segment_time_format", "seconds")
    if form not in TIMESTAMP_FORMATS:
        raise _invalid_format(f"segment_time_format must be one of {', '.join(TIMESTAMP_FORMATS)}.", form)
    definitions = tuple(_read_definition(kind, limits) for kind in kinds)
    if len({definition.id for definition in definitions}) < len(definitions):
        raise _invalid_format("The ids of segment_definitions must differ.")
    has_ranges = any(definition.ranges for definition in definitions)
    for name in ("start_time", "end_time", "min_segment_duration", "max_segment_duration"):
        if has_ranges and name in body:
            raise invalid(name, "It cannot be combined with time_ranges.", body[name])
    if has_ranges and body.get("max_tokens") == "unlimited":
        raise invalid("max_tokens", "unlimited cannot be combined with time_ranges.")
    shortest = _read_length(body, "min_segment_duration")
    longest = _read_length(body, "max_segment_duration")
    if longest is not None and longest < (shortest or SHORTEST_SEC):
        text = f"It must be at least min_segment_duration, {shortest or SHORTEST_SEC:g}."
        raise invalid("max_segment_duration", text, longest)
    return Definitions(definitions, form, shortest or SHORTEST_SEC, longest)


def _read_length(body: Json, name: str) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value < SHORTEST_SEC:
        raise invalid(name, f"It must be a number of at least {SHORTEST_SEC:g}.", value)
    return float(value)


def _invalid_format(text: str, value: object = None) -> Exception:
    return invalid("response_format", text) if value is None else invalid("response_format", text, value)


def _read_definition(definition: Any, limits: TextModel) -> Definition:
    if not isinstance(definition, dict):
        raise _invalid_format("Each of segment_definitions must be an object.", definition)
    for name in ("id", "description"):
        if not isinstance(definition.get(name), str) or not definition[name].strip():
            raise _invalid_format(f"Each of segment_definitions needs a text as its {name}.", definition)
    pictures = references.read_references(
        "media_sources", definition.get("media_sources") or [], MAX_REFERENCES
    )
    references.check_mentions("response_format", definition["description"], pictures, all_or_none=False)
    fields = definition.get("fields") or []
    if not isinstance(fields, list):
        raise _invalid_format("fields must be an array.", fields)
    for field in fields:
        _check_field(field, limits)
    if len({field["name"] for field in fields}) < len(fields):
        raise _invalid_format(f"The names of the fields of {definition['id']} must differ.")
    return Definition(
        definition["id"],
        definition["description"],
        tuple(fields),
        _read_ranges(definition.get("time_ranges")),
        tuple(pictures),
    )


def _read_ranges(time_ranges: Any) -> tuple[tuple[float, float], ...]:
    if time_ranges is None:
        return ()
    if not isinstance(time_ranges, list) or not time_ranges:
        raise _invalid_format("time_ranges must be an array that is not empty.", time_ranges)
    ranges: list[tuple[float, float]] = []
    for item in time_ranges:
        times = [item.get(name) for name in ("start_time", "end_time")] if isinstance(item, dict) else []
        numbers = [t for t in times if isinstance(t, int | float) and not isinstance(t, bool)]
        if len(numbers) != 2 or numbers[0] < 0 or numbers[1] - numbers[0] < SHORTEST_SEC:
            raise _invalid_format(f"Each of time_ranges must have at least {SHORTEST_SEC:g} seconds.", item)
        ranges.append((float(numbers[0]), float(numbers[1])))
    ranges.sort()
    if any(later[0] < earlier[1] for earlier, later in pairwise(ranges)):
        raise _invalid_format("time_ranges must not overlap.", time_ranges)
    return tuple(ranges)


def _check_field(field: Any, limits: TextModel, *, inner: bool = False) -> None:
    if not isinstance(field, dict):
        raise _invalid_format("Each field must be an object.", field)
    for name in ("name", "type", "description"):
        if not isinstance(field.get(name), str) or not field[name]:
            raise _invalid_format(f"Each field needs a text as its {name}.", field)
    kind, name = field["type"], field["name"]
    if kind not in (SCALARS if inner else TYPES):
        allowed = SCALARS if inner else TYPES
        raise _invalid_format(f"The type of the field {name} must be one of {', '.join(allowed)}.", kind)
    if name in RESERVED:
        raise _invalid_format(f"The name {name} is reserved.")
    if (kind == "timestamp") != ("format" in field):
        raise _invalid_format(
            f"A timestamp needs a format, and no other type has one. The field {name} is {kind}."
        )
    if kind == "timestamp" and field["format"] not in TIMESTAMP_FORMATS:
        raise _invalid_format(
            f"The format of {name} must be one of {', '.join(TIMESTAMP_FORMATS)}.", field["format"]
        )
    if (choices := field.get("enum")) is not None:
        texts = isinstance(choices, list) and all(isinstance(text, str) for text in choices)
        if not texts or not 1 <= len(choices) <= MAX_ENUM or kind == "timestamp":
            raise _invalid_format(f"The enum of {name} must hold 1 to {MAX_ENUM} texts.", choices)
        if inner and kind != "string":
            raise _invalid_format(f"Only a string can have an enum, but {name} is {kind}.")
    items = field.get("items")
    if kind == "array" and (not isinstance(items, dict) or items.get("type") not in SCALARS):
        raise _invalid_format(f"The items of {name} need a type: {', '.join(SCALARS)}.", items)
    if kind == "time_array":
        if not limits.unlimited:
            raise _invalid_format(f"The field {name} is a time_array, which only pegasus1.6 supports.")
        inner_fields = items.get("fields") if isinstance(items, dict) else None
        if not isinstance(inner_fields, list) or not inner_fields or (items or {}).get("type") != "object":
            raise _invalid_format(f"The items of {name} must be of type object and have fields.", items)
        for inner_field in inner_fields:
            _check_field(inner_field, limits, inner=True)
    if kind not in ("array", "time_array") and items is not None:
        raise _invalid_format(f"Only arrays can have items, but {name} is {kind}.", items)


async def write_segments(
    engine: Engine,
    writer_input: WriterInput,
    definitions: Definitions,
    options: GenerationOptions,
    window: tuple[float, float],
) -> tuple[GeneratedText, bool]:
    """Write the segments as JSON text. The second value is whether the text exceeds the token limit.

    Each definition has its own segments: the time ranges in the request, if it has some; else the chapters of
    the video, if its description asks for parts; else the parts of the video that match the description. The
    fields are written from the evidence of the segment.
    """
    writer, segments = engine.stages.writer, dict[str, list[Json]]()
    input_tokens = output_tokens = 0
    for kind in definitions.kinds:
        description = await references.describe_mentions(
            engine, kind.description, kind.pictures, "media_sources"
        )
        segments[kind.id] = []
        for start, end in _bounds(writer_input.evidence, kind, description, definitions, window):
            evidence = within_window(writer_input.evidence, start, end)
            values: Json = {}
            if kind.fields:
                schema = _schema(kind.fields)
                frames = tuple(frame for frame in writer_input.frames if start <= frame.time <= end)
                generated = await writer.analyze(
                    WriterInput(evidence, frames),
                    description,
                    plain_schema(schema),
                    GenerationOptions(options.temperature),
                )
                input_tokens += generated.input_tokens or 0
                output_tokens += generated.output_tokens or 0
                values = json.loads(format_timestamps(generated.text, schema))
            segment = {"end_time": format_timestamp(end, definitions.form), "metadata": values}
            segments[kind.id].append(segment | {"start_time": format_timestamp(start, definitions.form)})
    text = json.dumps(segments, ensure_ascii=False, separators=(",", ":"))
    exceeds_limit = options.max_tokens is not None and models.count_tokens(text) > options.max_tokens
    return GeneratedText(text, "stop", input_tokens or None, output_tokens or None), exceeds_limit


def _bounds(
    evidence: Evidence,
    kind: Definition,
    description: str,
    definitions: Definitions,
    window: tuple[float, float],
) -> Sequence[tuple[float, float]]:
    """Start and end of the segments of a definition in seconds, in order, within the analyzed part."""
    if not evidence.clips:
        return []
    low, high = max(window[0], evidence.clips[0].start_sec), min(window[1], evidence.clips[-1].end_sec)
    if kind.ranges:
        return [(start, end) for start, end in kind.ranges if end <= evidence.probe.duration_sec + 0.05]
    if PARTS.search(description):
        from tl_data.local.text.chapters import chapters_of

        time_ranges = [(chapter.start_sec, chapter.end_sec) for chapter in chapters_of(evidence)]
    else:
        from tl_data.local.search.query import LOW
        from tl_data.local.search.search import find_in_video

        hits = find_in_video(evidence, description, ("visual", "audio"))
        time_ranges = sorted((hit.start_sec, hit.end_sec) for hit in hits if hit.score >= LOW)
    bounds: list[tuple[float, float]] = []
    for start, end in time_ranges:
        start, end = max(low, start), min(high, end)
        if end - start < definitions.shortest:  # extend the segment within the video
            start = max(low, min(start, high - definitions.shortest))
            end = min(high, start + definitions.shortest)
        if definitions.longest is not None:
            end = min(end, start + definitions.longest)
        if bounds and start < bounds[-1][1]:
            start = bounds[-1][1]
        if end - start >= min(definitions.shortest, high - low) - 1e-6:
            bounds.append((round(start, 3), round(end, 3)))
    return bounds


def _schema(fields: Sequence[Json]) -> Json:
    """The lowered schema of a segment's fields."""
    properties = {field["name"]: _property(field) for field in fields}
    return {"type": "object", "properties": properties, "required": list(properties)}


def _property(field: Json) -> Json:
    """The lowered JSON schema of one field."""
    kind, common = field["type"], {"description": field["description"]}
    if kind == "timestamp":
        return common | {"type": "number", FORMAT_KEY: field["format"]}
    if kind == "array":
        return common | {"type": "array", "items": {"type": field["items"]["type"]}}
    if kind == "time_array":
        inner = {item["name"]: _property(item) for item in field["items"]["fields"]}
        times = {name: {"type": "number", FORMAT_KEY: "seconds"} for name in ("start_time", "end_time")}
        item_schema = {"type": "object", "properties": times | inner, "required": [*times, *inner]}
        return common | {"type": "array", "items": item_schema}
    return common | {"type": kind} | ({"enum": field["enum"]} if "enum" in field else {})
