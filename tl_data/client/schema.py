"""Structured output: checks of JSON schemas before a request, and a tolerant parser for JSON responses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tl_data.errors import APIError, BadRequest, SchemaMismatch, ServerFailed

Json = dict[str, Any]

TYPES = ("array", "boolean", "integer", "null", "number", "object", "string", "timestamp")
STRING_FORMATS = ("uuid", "date-time", "date", "time")
TIME_FORMATS = ("seconds", "hh:mm:ss", "hh:mm:ss.fff")
#: Keywords that are allowed with every type. The API ignores title, description and comments. It spells them
#: $comments; JSON Schema has $comment.
_COMMON = {"type", "title", "description", "$comment", "$comments", "const", "enum", "anyOf", "$ref", "$defs"}
#: Further keywords that are allowed with one type.
_BY_TYPE: dict[str, set[str]] = {
    "integer": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
    "string": {"pattern", "format"},
    "array": {"items", "minItems"},
    "object": {"properties", "required"},
    "timestamp": {"format"},
}
#: Names of properties that the API always fills with a time in the video.
_TIME_PROPERTIES = ("start_time", "end_time")
#: Paths at which a timestamp is allowed, with "." for each property and "[]" for the items of an array: the
#: root, $.a, $.a[], $[].a, $[].a[] and $.a[].b.
_TIMESTAMP_PATHS = ("", ".", ".[]", "[].", "[].[]", ".[].")

MAX_DEFINITIONS = 20  # maximum number of segment definitions of one analysis
MAX_ENUM_VALUES = 100  # maximum number of values in the enum of a segment field
#: Types of the fields of a segment.
FIELD_TYPES = ("string", "boolean", "number", "integer", "array", "timestamp", "time_array")
#: Names that a field of a segment must not have.
RESERVED = ("start_time", "end_time", "metadata")


def check_schema(schema: object) -> None:
    """Check a JSON schema against the subset that the API supports.

    Raises:
        SchemaMismatch: the schema is not supported. The message contains the JSON pointer of the first
            problem and a replacement.
    """
    for place, problem in _problems(schema, "", ""):
        raise SchemaMismatch(f"json_schema{place}: {problem}")


def _problems(schema: object, place: str, path: str | None) -> Iterator[tuple[str, str]]:
    """The problems of a schema: the JSON pointer and the text of each.

    Args:
        place: the JSON pointer of the schema.
        path: the path of its values, as in `_TIMESTAMP_PATHS`; None in a definition, whose path depends on
            the references to it.
    """
    if not isinstance(schema, Mapping):
        yield place, f'{_short(schema)} is not a schema; use an object such as {{"type": "string"}}'
        return
    kind = schema.get("type")
    kinds = kind if isinstance(kind, list) else [kind]
    for each in kinds:
        if each is not None and each not in TYPES:
            yield f"{place}/type", f"{_short(each)} is not a type; use {', '.join(TYPES)}"
            return
    if kind is None and not any(word in schema for word in ("anyOf", "$ref", "const", "enum")):
        yield place, "type, anyOf, $ref, const or enum is required"
    allowed = _COMMON.union(*(_BY_TYPE.get(str(each), set()) for each in kinds))
    for word in schema:
        if word not in allowed:
            yield f"{place}/{_token(word)}", f"the API does not support `{word}` {_replacement(word, kind)}"
    if kind == "array" and schema.get("minItems") not in (None, 0, 1):
        yield f"{place}/minItems", f"{schema['minItems']} is not supported; use 0 or 1"
    if kind == "string" and schema.get("format") not in (None, *STRING_FORMATS):
        yield (
            f"{place}/format",
            f"{_short(schema['format'])} is not supported; use {', '.join(STRING_FORMATS)}",
        )
    if kind == "timestamp":
        if schema.get("format") not in TIME_FORMATS:
            yield f"{place}/format", f"a timestamp needs one of {', '.join(TIME_FORMATS)}"
        if path is not None and path not in _TIMESTAMP_PATHS:
            yield place, "a timestamp must be at the top level or in the objects of a top-level array"
    properties = schema.get("properties", {})
    if not isinstance(properties, Mapping):
        yield f"{place}/properties", "must be an object"
        return
    required = schema.get("required", [])
    if not isinstance(required, list):
        yield f"{place}/required", "must be a list of names"
    elif unknown := [name for name in required if name not in properties]:
        yield f"{place}/required", f"{_short(unknown[0])} is not a property"
    for name, inner in properties.items():
        at = f"{place}/properties/{_token(name)}"
        if name in _TIME_PROPERTIES and isinstance(inner, Mapping):
            is_time = inner.get("type") in ("number", "integer", "timestamp") or (
                inner.get("type") == "string" and "format" not in inner
            )
            if not is_time:
                yield at, f"`{name}` is a time: use number, integer, timestamp, or string without format"
        yield from _problems(inner, at, _extended(path, "."))
    if "items" in schema:
        yield from _problems(schema["items"], f"{place}/items", _extended(path, "[]"))
    if isinstance(schema.get("anyOf"), list):
        for number, inner in enumerate(schema["anyOf"]):
            yield from _problems(inner, f"{place}/anyOf/{number}", path)
    if isinstance(schema.get("$defs"), Mapping):
        for name, inner in schema["$defs"].items():
            yield from _problems(inner, f"{place}/$defs/{_token(name)}", None)


def _extended(path: str | None, step: str) -> str | None:
    return None if path is None else path + step


def _replacement(word: str, kind: object) -> str:
    """What to use instead of an unsupported keyword, as the end of a message."""
    if word in ("additionalProperties", "maxItems", "uniqueItems", "minLength", "maxLength"):
        return "(HTTP 422): omit it and describe the constraint in the prompt"
    if word in ("allOf", "oneOf", "not"):
        return "(HTTP 422): use anyOf"
    return f"with type {kind}: omit it" if kind else "here: omit it"


def check_segments(definitions: object, *, time_arrays: bool) -> list[Json]:
    """Check segment definitions against the rules of the API, and return them.

    Args:
        time_arrays: whether the model supports fields of type time_array (Pegasus 1.6).

    Raises:
        SchemaMismatch: a definition breaks a rule. The message contains the JSON pointer of the first problem
            and a replacement.
    """
    if not isinstance(definitions, list) or not 1 <= len(definitions) <= MAX_DEFINITIONS:
        raise SchemaMismatch(f"definitions must be a JSON list of 1 to {MAX_DEFINITIONS} segment definitions")
    seen: set[str] = set()
    for number, definition in enumerate(definitions):
        place = f"definitions/{number}"
        if not isinstance(definition, dict):
            raise SchemaMismatch(f"{place} must be an object with id and description")
        for name in ("id", "description"):
            if not isinstance(definition.get(name), str) or not definition[name].strip():
                raise SchemaMismatch(f"{place}/{name} is missing; it must be text")
        if definition["id"] in seen:
            raise SchemaMismatch(f"{place}/id repeats {definition['id']!r}; ids must be unique")
        seen.add(definition["id"])
        for at, field in enumerate(definition.get("fields") or []):
            _check_field(field, f"{place}/fields/{at}", time_arrays)
    return definitions


def _check_field(field: object, place: str, time_arrays: bool) -> None:
    if not isinstance(field, dict):
        raise SchemaMismatch(f"{place} must be an object with name, type and description")
    for name in ("name", "type", "description"):
        if not isinstance(field.get(name), str):
            raise SchemaMismatch(f"{place}/{name} is missing; it must be text")
    if field["name"] in RESERVED:
        raise SchemaMismatch(f"{place}/name is {field['name']!r}; {', '.join(RESERVED)} are reserved")
    if field["type"] not in FIELD_TYPES:
        raise SchemaMismatch(f"{place}/type is {field['type']!r}; use {', '.join(FIELD_TYPES)}")
    if field["type"] == "time_array" and not time_arrays:
        raise SchemaMismatch(f"{place}/type is time_array, which needs pegasus1.6: set analyze_model to it")
    if field["type"] == "timestamp" and field.get("format") not in TIME_FORMATS:
        raise SchemaMismatch(f"{place}/format: a timestamp needs one of {', '.join(TIME_FORMATS)}")
    if field["type"] != "timestamp" and "format" in field:
        raise SchemaMismatch(f"{place}/format: only a timestamp has a format")
    if len(field.get("enum") or []) > MAX_ENUM_VALUES:
        raise SchemaMismatch(
            f"{place}/enum has {len(field['enum'])} values; at most {MAX_ENUM_VALUES} are supported"
        )
    if field["type"] == "array" and not (field.get("items") or {}).get("type"):
        raise SchemaMismatch(f"{place}/items/type is missing; an array needs the type of its items")


_decoder = json.JSONDecoder()


def read_json(text: str) -> tuple[Any, str]:
    """Parse the JSON value at the start of a text; returns the value and its JSON text.

    Structured responses of Pegasus 1.5 sometimes begin with blank lines or end with unrelated text, and a
    language model may enclose them in a Markdown fence. What precedes and follows the value is ignored.

    Raises:
        ValueError: the text does not begin with a complete JSON value.
    """
    start = re.match(r"\s*(?:```(?:json)?\s*)?", text)
    at = start.end() if start else 0
    value, end = _decoder.raw_decode(text, at)
    return value, text[at:end]


#: A property name of a JSON object, with the colon after it.
_NAME = re.compile(r'\s*,?\s*("(?:[^"\\]|\\.)*")\s*:\s*')


def complete_properties(text: str) -> Json:
    """The complete properties of a JSON object that may be truncated; {} if no property is complete."""
    start = re.match(r"\s*(?:```(?:json)?\s*)?\{", text)
    properties: Json = {}
    at = start.end() if start else len(text)
    while name := _NAME.match(text, at):
        try:
            value, end = _decoder.raw_decode(text, name.end())
        except ValueError:
            break
        if end == len(text) and not isinstance(value, str | list | dict):
            break  # the end of a number may be missing
        properties[str(json.loads(name[1]))] = value
        at = end
    return properties


def structured(answer: Json) -> Json:
    """Remove everything except the JSON value from the `data` of a response.

    Raises:
        BadRequest: with code `answer_truncated`, the JSON exceeds max_tokens; `partial` is its beginning.
        ServerFailed: with code `answer_unreadable`, `data` is not JSON.
    """
    text = str(answer.get("data") or "")
    try:
        _, json_text = read_json(text)
    except ValueError:
        raise _parse_error(text, answer.get("finish_reason") == "length") from None
    return {**answer, "data": json_text}


def _parse_error(text: str, truncated: bool) -> APIError:
    error: APIError
    if truncated:
        error = BadRequest(
            f"the structured response was truncated at max_tokens, after {len(text)} characters: raise "
            "max_tokens, or request fewer fields in the schema",
            "answer_truncated",
            200,
        )
    else:
        error = ServerFailed(f"the structured response is not JSON: {text[:80]!r}", "answer_unreadable", 200)
    error.partial = text
    return error


def _token(name: object) -> str:
    """Escape a name for a JSON pointer."""
    return str(name).replace("~", "~0").replace("/", "~1")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:57]}..."
