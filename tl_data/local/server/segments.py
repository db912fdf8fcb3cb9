"""Analysis by segments: validation of the definitions, and the segments found in the evidence."""

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
SHORTEST_SEC = 2.0
SCALARS = ("string", "boolean", "number", "integer")
TYPES = (*SCALARS, "array", "timestamp", "time_array")
RESERVED = ("start_time", "end_time", "metadata")
#: Descriptions with one of these words ask for the parts of a video, not for moments of a kind.
PARTS = re.compile(r"\b(scenes?|chapters?|segments?|shots?|sections?|topics?|parts?)\b", re.IGNORECASE)

Json = dict[str, Any]


@dataclass(frozen=True)
class Definition:
    """One kind of segment."""

    id: str
    description: str
    fields: tuple[Json, ...] = ()
    ranges: tuple[tuple[float, float], ...] = ()
    pictures: tuple[references.Reference, ...] = ()


@dataclass(frozen=True)
class Definitions:
    """All kinds of segments of a request. Lengths are in seconds."""

    kinds: tuple[Definition, ...]
    form: str = "seconds"
    shortest: float = SHORTEST_SEC
    longest: float | None = None


def read_definitions(body: Json, limits: TextModel) -> Definitions:
    """Check the `response_format` of an analysis by segments.

    Raises:
        APIProblem: parameter_not_provided or parameter_invalid, with the place.
    """
    given = body.get("response_format")
    if given is None:
        raise not_provided("response_format")
    if not isinstance(given, dict) or given.get("type") != "segment_definitions":
        raise _wrong('It must be {"type": "segment_definitions", "segment_definitions": [...]}.', given)
    kinds = given.get("segment_definitions")
    if not isinstance(kinds, list) or not 1 <= len(kinds) <= MAX_DEFINITIONS:
        raise _wrong(f"It must hold 1 to {MAX_DEFINITIONS} segment_definitions.", kinds)
    form = given.get("segment_time_format", "seconds")
    if form not in TIMESTAMP_FORMATS:
        raise _wrong(f"segment_time_format must be one of {', '.join(TIMESTAMP_FORMATS)}.", form)
    found = tuple(_definition(kind, limits) for kind in kinds)
    if len({kind.id for kind in found}) < len(found):
        raise _wrong("The ids of segment_definitions must differ.")
    ranged = any(kind.ranges for kind in found)
    for name in ("start_time", "end_time", "min_segment_duration", "max_segment_duration"):
        if ranged and name in body:
            raise invalid(name, "It is not used together with time_ranges.", body[name])
    if ranged and body.get("max_tokens") == "unlimited":
        raise invalid("max_tokens", "unlimited is not used together with time_ranges.")
    shortest = _length(body, "min_segment_duration")
    longest = _length(body, "max_segment_duration")
    if longest is not None and longest < (shortest or SHORTEST_SEC):
        text = f"It must be at least min_segment_duration, {shortest or SHORTEST_SEC:g}."
        raise invalid("max_segment_duration", text, longest)
    return Definitions(found, form, shortest or SHORTEST_SEC, longest)


def _length(body: Json, name: str) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value < SHORTEST_SEC:
        raise invalid(name, f"It must be a number of at least {SHORTEST_SEC:g}.", value)
    return float(value)


def _wrong(text: str, value: object = None) -> Exception:
    return invalid("response_format", text) if value is None else invalid("response_format", text, value)


def _definition(given: Any, limits: TextModel) -> Definition:
    if not isinstance(given, dict):
        raise _wrong("Each of segment_definitions must be an object.", given)
    for name in ("id", "description"):
        if not isinstance(given.get(name), str) or not given[name].strip():
            raise _wrong(f"Each of segment_definitions needs a text as its {name}.", given)
    pictures = references.read_references("media_sources", given.get("media_sources") or [], MAX_REFERENCES)
    references.check_mentions("response_format", given["description"], pictures, all_or_none=False)
    fields = given.get("fields") or []
    if not isinstance(fields, list):
        raise _wrong("fields must be an array.", fields)
    for one in fields:
        _check_field(one, limits)
    if len({one["name"] for one in fields}) < len(fields):
        raise _wrong(f"The names of the fields of {given['id']} must differ.")
    return Definition(
        given["id"], given["description"], tuple(fields), _ranges(given.get("time_ranges")), tuple(pictures)
    )


def _ranges(given: Any) -> tuple[tuple[float, float], ...]:
    if given is None:
        return ()
    if not isinstance(given, list) or not given:
        raise _wrong("time_ranges must be an array that is not empty.", given)
    found: list[tuple[float, float]] = []
    for one in given:
        times = [one.get(name) for name in ("start_time", "end_time")] if isinstance(one, dict) else []
        numbers = [t for t in times if isinstance(t, int | float) and not isinstance(t, bool)]
        if len(numbers) != 2 or numbers[0] < 0 or numbers[1] - numbers[0] < SHORTEST_SEC:
            raise _wrong(f"Each of time_ranges must have at least {SHORTEST_SEC:g} seconds.", one)
        found.append((float(numbers[0]), float(numbers[1])))
    found.sort()
    if any(later[0] < earlier[1] for earlier, later in pairwise(found)):
        raise _wrong("time_ranges must not overlap.", given)
    return tuple(found)


def _check_field(given: Any, limits: TextModel, *, inner: bool = False) -> None:
    if not isinstance(given, dict):
        raise _wrong("Each field must be an object.", given)
    for name in ("name", "type", "description"):
        if not isinstance(given.get(name), str) or not given[name]:
            raise _wrong(f"Each field needs a text as its {name}.", given)
    kind, name = given["type"], given["name"]
    if kind not in (SCALARS if inner else TYPES):
        allowed = SCALARS if inner else TYPES
        raise _wrong(f"The type of the field {name} must be one of {', '.join(allowed)}.", kind)
    if name in RESERVED:
        raise _wrong(f"The name {name} is reserved.")
    if (kind == "timestamp") != ("format" in given):
        raise _wrong(f"A format belongs to a timestamp and to nothing else, but the field {name} is {kind}.")
    if kind == "timestamp" and given["format"] not in TIMESTAMP_FORMATS:
        raise _wrong(f"The format of {name} must be one of {', '.join(TIMESTAMP_FORMATS)}.", given["format"])
    if (choices := given.get("enum")) is not None:
        texts = isinstance(choices, list) and all(isinstance(text, str) for text in choices)
        if not texts or not 1 <= len(choices) <= MAX_ENUM or kind == "timestamp":
            raise _wrong(f"The enum of {name} must hold 1 to {MAX_ENUM} texts.", choices)
        if inner and kind != "string":
            raise _wrong(f"An enum belongs to a string, but {name} is {kind}.")
    items = given.get("items")
    if kind == "array" and (not isinstance(items, dict) or items.get("type") not in SCALARS):
        raise _wrong(f"The items of {name} need a type: {', '.join(SCALARS)}.", items)
    if kind == "time_array":
        if not limits.unlimited:
            raise _wrong(f"The field {name} is a time_array, which pegasus1.6 alone takes.")
        inside = items.get("fields") if isinstance(items, dict) else None
        if not isinstance(inside, list) or not inside or (items or {}).get("type") != "object":
            raise _wrong(f"The items of {name} must be of type object and have fields.", items)
        for one in inside:
            _check_field(one, limits, inner=True)
    if kind not in ("array", "time_array") and items is not None:
        raise _wrong(f"items belong to arrays, but {name} is {kind}.", items)


async def write_segments(
    engine: Engine,
    writer_input: WriterInput,
    wanted: Definitions,
    options: GenerationOptions,
    window: tuple[float, float],
) -> tuple[GeneratedText, bool]:
    """The segments as JSON text, and whether the limit of tokens was reached before the end.

    Each definition has its own segments: the chapters of the video if its description asks for parts, else
    the moments that match the description. The fields are written from the evidence of the segment.
    """
    writer, found = engine.stages.writer, dict[str, list[Json]]()
    read = spent = 0
    for kind in wanted.kinds:
        about = await references.describe_mentions(engine, kind.description, kind.pictures, "media_sources")
        found[kind.id] = []
        for start, end in _bounds(writer_input.evidence, kind, about, wanted, window):
            inside = within_window(writer_input.evidence, start, end)
            values: Json = {}
            if kind.fields:
                schema = _schema(kind.fields)
                part = WriterInput(inside, tuple(f for f in writer_input.frames if start <= f.time <= end))
                generated = await writer.analyze(
                    part, about, plain_schema(schema), GenerationOptions(options.temperature)
                )
                read, spent = read + (generated.input_tokens or 0), spent + (generated.output_tokens or 0)
                values = json.loads(format_timestamps(generated.text, schema))
            segment = {"end_time": format_timestamp(end, wanted.form), "metadata": values}
            found[kind.id].append(segment | {"start_time": format_timestamp(start, wanted.form)})
    text = json.dumps(found, ensure_ascii=False, separators=(",", ":"))
    over = options.max_tokens is not None and models.count_tokens(text) > options.max_tokens
    return GeneratedText(text, "stop", read or None, spent or None), over


def _bounds(
    evidence: Evidence,
    kind: Definition,
    about: str,
    wanted: Definitions,
    window: tuple[float, float],
) -> Sequence[tuple[float, float]]:
    """Where the segments of a definition begin and end, in order, inside what is known."""
    if not evidence.clips:
        return []
    low, high = max(window[0], evidence.clips[0].start_sec), min(window[1], evidence.clips[-1].end_sec)
    if kind.ranges:
        return [(start, end) for start, end in kind.ranges if end <= evidence.probe.duration_sec + 0.05]
    if PARTS.search(about):
        from tl_data.local.text.chapters import chapters_of

        moments = [(one.start_sec, one.end_sec) for one in chapters_of(evidence)]
    else:
        from tl_data.local.search.query import LOW
        from tl_data.local.search.search import moments as answers

        hits = answers(evidence, about, ("visual", "audio"))
        moments = sorted((hit.start_sec, hit.end_sec) for hit in hits if hit.score >= LOW)
    found: list[tuple[float, float]] = []
    for start, end in moments:
        start, end = max(low, start), min(high, end)
        if end - start < wanted.shortest:  # extend it within the video
            start = max(low, min(start, high - wanted.shortest))
            end = min(high, start + wanted.shortest)
        if wanted.longest is not None:
            end = min(end, start + wanted.longest)
        if found and start < found[-1][1]:
            start = found[-1][1]
        if end - start >= min(wanted.shortest, high - low) - 1e-6:
            found.append((round(start, 3), round(end, 3)))
    return found


def _schema(fields: Sequence[Json]) -> Json:
    """The lowered schema of a segment's fields."""
    properties = {one["name"]: _property(one) for one in fields}
    return {"type": "object", "properties": properties, "required": list(properties)}


def _property(one: Json) -> Json:
    kind, described = one["type"], {"description": one["description"]}
    if kind == "timestamp":
        return described | {"type": "number", FORMAT_KEY: one["format"]}
    if kind == "array":
        return described | {"type": "array", "items": {"type": one["items"]["type"]}}
    if kind == "time_array":
        inner = {field["name"]: _property(field) for field in one["items"]["fields"]}
        times = {name: {"type": "number", FORMAT_KEY: "seconds"} for name in ("start_time", "end_time")}
        item = {"type": "object", "properties": times | inner, "required": [*times, *inner]}
        return described | {"type": "array", "items": item}
    return described | {"type": kind} | ({"enum": one["enum"]} if "enum" in one else {})
