"""Checks that a JSON schema stays within the API's subset, and validates values against such a schema.

Values are validated by jsonschema. Patterns come from requests, so RE2 matches them, in linear time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import pyarrow as pa

from tl_data.local.text.structured_fields import matches

Schema = Mapping[str, Any]

TYPES = frozenset({"array", "boolean", "integer", "null", "number", "object", "string"})
FORMATS = frozenset({"uuid", "date-time", "date", "time"})
BOUNDS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
#: Keywords that a schema may have.
_KEYWORDS = BOUNDS | {
    "type", "title", "description", "default", "examples", "enum", "const", "anyOf", "$ref", "$defs",
    "$schema", "$id", "$comment",
    "pattern", "format", "items", "minItems", "properties", "required", "additionalProperties",
}  # fmt: skip
#: Keywords that restrict no value. Messages about supported keywords do not list them.
_ANNOTATIONS = frozenset({"title", "examples", "default", "$schema", "$id", "$comment"})
MAX_DEPTH = 24  # the largest number of levels of a schema, and of a value
MAX_VALUES = 10_000  # the largest number of values of one answer, including those of rejected branches
#: The limit of CPU time for the check of a schema: that of 400,000 subschemas, or 20 of the worst patterns.
CHECK_SECONDS = 2.0
_MAX_PATTERN_CHARS = 300
_MAX_BOUND = 1e308  # the largest absolute value of a bound: a larger integer does not fit into a float


class Unsupported(ValueError):
    """The schema is outside of the API's subset, or the evidence has no value that conforms to it."""


class TooLarge(Unsupported):
    """The answer would have too many values, or would take too long to fill."""


def check(schema: Schema) -> None:
    """Refuse a schema that is outside of the API's subset, or whose answer would have too many values.

    Raises:
        Unsupported: the message names the place in the schema and the keyword.
    """
    _pattern_error("")  # the first pattern of a process loads the library, which is no fault of the schema
    _check(schema, schema, "$", 0, time.thread_time() + CHECK_SECONDS)
    if _minimum_values(schema, schema, 0, {}) > MAX_VALUES:
        raise TooLarge(f"$: the schema requires more than {MAX_VALUES} values")


def _minimum_values(schema: Any, root: Schema, depth: int, known: dict[tuple[int, int], int]) -> int:
    """A lower bound of the values that filling a schema builds: all branches of anyOf are built, one is kept.

    References are followed. `known` holds the count of each reference at each level.
    """
    if depth >= MAX_DEPTH or not isinstance(schema, Mapping):
        return 1
    if "$ref" in schema:
        # The id is a safe key: every schema with $ref belongs to `root`, which outlives this call.
        key = (id(schema), depth)
        if key not in known:
            known[key] = _minimum_values(resolve(schema, root, "$"), root, depth, known)
        return known[key]
    total = 1 + sum(_minimum_values(branch, root, depth + 1, known) for branch in schema.get("anyOf", ()))
    properties = schema.get("properties", {})
    for name in dict.fromkeys(schema.get("required", ())):
        if total > MAX_VALUES:
            break
        total += _minimum_values(properties.get(name, {}), root, depth + 1, known)
    if schema.get("minItems"):
        total += _minimum_values(schema.get("items", {}), root, depth + 1, known)
    return min(total, MAX_VALUES + 1)


def _check(schema: Any, root: Schema, at: str, depth: int, until: float) -> None:
    """Check a schema and the schemas inside it.

    Args:
        at: its JSON path, for error messages.
        until: the CPU time of this thread at which the check ends.
    """
    if time.thread_time() > until:
        raise TooLarge(f"{at}: the schema takes more than {CHECK_SECONDS:g} s to check")
    if depth > MAX_DEPTH:
        raise Unsupported(f"{at}: the schema is nested deeper than {MAX_DEPTH} levels")
    if not isinstance(schema, Mapping):
        raise Unsupported(f"{at}: a schema must be an object")
    if unknown := sorted(str(key) for key in schema if key not in _KEYWORDS):
        supported = ", ".join(sorted(_KEYWORDS - _ANNOTATIONS))
        raise Unsupported(f"{at}: the keyword {unknown[0]} is not supported; the API supports {supported}")
    types = schema.get("type", [])
    for name in [types] if isinstance(types, str) else types if isinstance(types, list) else [types]:
        if not isinstance(name, str) or name not in TYPES:
            supported = ", ".join(sorted(TYPES))
            raise Unsupported(f"{at}: the type {name!r} is not supported; the API supports {supported}")
    _check_values(schema, at)
    _check_bounds(schema, at)
    if "$ref" in schema:
        resolve(schema, root, at)
    for key in ("properties", "$defs"):
        inner = schema.get(key, {})
        if not isinstance(inner, Mapping):
            raise Unsupported(f"{at}: {key} must be an object")
        for name, subschema in inner.items():
            _check(subschema, root, f"{at}.{name}", depth + 1, until)
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        raise Unsupported(f"{at}: required must be a list of names")
    if not isinstance(schema.get("additionalProperties", True), bool):
        raise Unsupported(f"{at}: additionalProperties can only be true or false")
    if "items" in schema:
        _check(schema["items"], root, f"{at}[]", depth + 1, until)
    branches = schema.get("anyOf", [{}])
    if not isinstance(branches, list) or not branches:
        raise Unsupported(f"{at}: anyOf must be a list of schemas")
    for branch in schema.get("anyOf", []):
        _check(branch, root, f"{at}|", depth + 1, until)


def _check_values(schema: Schema, at: str) -> None:
    values = schema.get("enum", [None])
    if not isinstance(values, list) or not values:
        raise Unsupported(f"{at}: enum must be a list of values")
    if any(isinstance(value, list | dict) for value in [*values, schema.get("const")]):
        raise Unsupported(f"{at}: enum and const can only hold texts, numbers, true, false and null")


def _check_bounds(schema: Schema, at: str) -> None:
    for key in BOUNDS & schema.keys():
        if isinstance(schema[key], bool) or not isinstance(schema[key], int | float):
            raise Unsupported(f"{at}: {key} must be a number")
        if not abs(schema[key]) <= _MAX_BOUND:
            raise Unsupported(f"{at}: {key} must be a number between -1e308 and 1e308")
    min_items = schema.get("minItems", 0)
    if isinstance(min_items, bool) or not isinstance(min_items, int) or min_items not in (0, 1):
        raise Unsupported(f"{at}: minItems can only be 0 or 1, but is {schema['minItems']!r}")
    if "format" in schema and not (isinstance(schema["format"], str) and schema["format"] in FORMATS):
        supported = ", ".join(sorted(FORMATS))
        raise Unsupported(
            f"{at}: the format {schema['format']!r} is not supported; the API supports {supported}"
        )
    if "pattern" in schema:
        pattern = schema["pattern"]
        if not isinstance(pattern, str) or len(pattern) > _MAX_PATTERN_CHARS:
            raise Unsupported(f"{at}: pattern must be a text of at most {_MAX_PATTERN_CHARS} characters")
        if error := _pattern_error(pattern):
            raise Unsupported(f"{at}: the pattern cannot be read: {error}")


@lru_cache(maxsize=1024)
def _pattern_error(pattern: str) -> str | None:
    """Why RE2 refuses a pattern. Kept, because a bounded repeat of a Unicode class takes 0.1 s to compile."""
    try:
        matches(pattern, "")
    except pa.ArrowInvalid as error:
        return str(error)
    return None


def resolve(schema: Schema, root: Schema, at: str) -> Schema:
    """Follow a chain of references and add the keywords that stand beside each reference."""
    seen: set[str] = set()
    while "$ref" in schema:
        ref = schema["$ref"]
        name = ref.removeprefix("#/$defs/") if isinstance(ref, str) else ""
        definitions = root.get("$defs", {})
        if ref == "#":
            target: Any = root
        elif not name or name == ref or not isinstance(definitions, Mapping) or name not in definitions:
            raise Unsupported(f"{at}: the reference {ref!r} does not lead into $defs")
        else:
            target = definitions[name]
        if not isinstance(target, Mapping):
            raise Unsupported(f"{at}: the reference {ref!r} leads to something that is not a schema")
        if str(ref) in seen:
            raise Unsupported(f"{at}: the reference {ref!r} leads in a circle")
        seen.add(str(ref))
        if len(seen) > MAX_DEPTH:
            raise Unsupported(f"{at}: the reference leads through more than {MAX_DEPTH} others")
        schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
        if "$ref" in target:
            schema["$ref"] = target["$ref"]
    return schema


def violation(value: Any, schema: dict[str, Any]) -> str | None:
    """The first violation of the schema, as a sentence; None if the value conforms."""
    error = next(_validator()(schema).iter_errors(value), None)
    return None if error is None else f"{error.json_path}: {error.message[:300]}."


@lru_cache(maxsize=1)
def _validator() -> Any:
    from jsonschema import Draft202012Validator, ValidationError
    from jsonschema.validators import extend

    def pattern(_: Any, regex: str, instance: Any, __: Any) -> Iterator[ValidationError]:
        if isinstance(instance, str) and not matches(regex, instance):
            yield ValidationError(f"{instance[:80]!r} does not match {regex!r}")

    validator: Any = extend(Draft202012Validator, {"pattern": pattern})
    return lambda schema: validator(schema, format_checker=validator.FORMAT_CHECKER)
