"""Fills a JSON schema from evidence: the answer of /analyze with `response_format`.

The API accepts a subset of JSON Schema 2020-12, and `check` refuses the rest. A value is filled if its name
or description names evidence (a title, chapters, start times, colours, whether there is music) or if a part
of the video answers it (structured_fields.py). Any other value is null if the schema allows null, absent if
it is not required, and otherwise the emptiest value that conforms: "", [], 0, false. An enum without null
gives its value for "unknown", such as "other", or else its first one: allow null to tell it from an answer.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from math import isfinite
from typing import Any

from tl_data.local.perception.evidence import Evidence
from tl_data.local.text.json_schema import (
    BOUNDS,
    MAX_DEPTH,
    MAX_VALUES,
    TYPES,
    Schema,
    TooLarge,
    Unsupported,
    check,
    resolve,
)
from tl_data.local.text.structured_fields import UNKNOWN, Scope, Values, matches, video_scope

FILL_SECONDS = 30.0  # the time limit of one answer


def fill(
    evidence: Evidence,
    schema: Schema,
    prompt: str | None = None,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> Any:
    """Fill a schema from evidence.

    Args:
        prompt: the user's prompt; it serves as the description of the root.
        is_cancelled: called before each value. True ends the filling with `TooLarge`.

    Raises:
        Unsupported: `check` refuses the schema, or no evidence matches the pattern of a required text.
    """
    check(schema)
    filler = _Filler(Values(evidence), schema, is_cancelled)
    value, _ = filler.fill(schema, "", prompt or "", video_scope(evidence), "$", 0)
    return value


class _Filler:
    """Fills one schema.

    In all methods `at` is the JSON path of the value, for error messages, and `depth` its level. The methods
    return a value and whether it comes from evidence.
    """

    def __init__(self, values: Values, root: Schema, is_cancelled: Callable[[], bool]) -> None:
        self._values, self._root, self._is_cancelled = values, root, is_cancelled
        self._filled = 0  # the number of values so far, including those of rejected branches
        self._deadline = time.monotonic() + FILL_SECONDS

    def fill(
        self, schema: Schema, name: str, description: str, scope: Scope, at: str, depth: int
    ) -> tuple[Any, bool]:
        """Fill a schema for the field `name`."""
        self._filled += 1
        if self._filled > MAX_VALUES:
            raise TooLarge(f"{at}: the answer would have more than {MAX_VALUES} values")
        if self._is_cancelled():
            raise TooLarge(f"{at}: the request was cancelled")
        if time.monotonic() > self._deadline:
            raise TooLarge(f"{at}: the answer took longer than {FILL_SECONDS:g} seconds")
        schema = resolve(schema, self._root, at)
        description = str(schema.get("description") or schema.get("title") or description)
        if "const" in schema:
            return schema["const"], False
        if "enum" in schema:
            return self._choose(schema, name, description, scope)
        if "anyOf" in schema:
            return self._any_of(schema, name, description, scope, at, depth)
        types = _types(schema)
        if depth > MAX_DEPTH:
            return self._emptiest(schema, at)
        empty: Any = None
        for number, kind in enumerate(kind for kind in types if kind != "null"):
            value, known = self._fill_type(kind, schema, name, description, scope, at, depth)
            if known:
                return value, True
            empty = value if number == 0 else empty
        return (None if "null" in types else empty), False

    def _fill_type(
        self, kind: str, schema: Schema, name: str, description: str, scope: Scope, at: str, depth: int
    ) -> tuple[Any, bool]:
        if kind == "object":
            return self._object(schema, scope, at, depth)
        if kind == "array":
            return self._array(schema, name, description, scope, at, depth)
        evidence_value = self._values.find(kind, name, description, scope)
        if kind == "string":
            return self._text(evidence_value, schema, at)
        if kind in ("integer", "number"):
            return _number(evidence_value, kind, schema, at)
        return (evidence_value, True) if evidence_value is not UNKNOWN else (False, False)

    def _object(self, schema: Schema, scope: Scope, at: str, depth: int) -> tuple[dict[str, Any], bool]:
        result: dict[str, Any] = {}
        any_known = False
        required = dict.fromkeys(schema.get("required", ()))
        properties = dict(schema.get("properties", {}))
        for key in required:  # a required field without a schema accepts any value
            properties.setdefault(key, {})
        for key, subschema in properties.items():
            is_required = key in required
            if not is_required and (depth >= MAX_DEPTH - 1 or self._filled > MAX_VALUES // 2):
                continue
            value, known = self.fill(subschema, key, "", scope, f"{at}.{key}", depth + 1)
            if known or is_required or value is None:
                result[key] = value
            any_known = any_known or known
        return result, any_known

    def _array(
        self, schema: Schema, name: str, description: str, scope: Scope, at: str, depth: int
    ) -> tuple[list[Any], bool]:
        items = schema.get("items", {"type": "string"})
        result: list[Any] = []
        if depth < MAX_DEPTH - 1:
            holds_objects = "object" in _types(resolve(items, self._root, at))
            for part in self._values.parts(name, description, scope, objects=holds_objects):
                value, known = self.fill(items, name, description, part, f"{at}[]", depth + 1)
                if known and value not in result:
                    result.append(value)
        if not result and schema.get("minItems", 0):
            return [self.fill(items, name, description, scope, f"{at}[]", depth + 1)[0]], False
        return result, bool(result)

    def _choose(self, schema: Schema, name: str, description: str, scope: Scope) -> tuple[Any, bool]:
        allowed = [value for value in schema["enum"] if _has_type(value, _types(schema))] or list(
            schema["enum"]
        )
        chosen = self._values.choose(allowed, name, description, scope)
        if chosen is not UNKNOWN:
            return chosen, True
        if None in allowed:
            return None, False
        no_answer = ("unknown", "other", "none", "n/a", "unclear", "not_specified", "unspecified")
        return next((v for v in allowed if isinstance(v, str) and v.lower() in no_answer), allowed[0]), False

    def _any_of(
        self, schema: Schema, name: str, description: str, scope: Scope, at: str, depth: int
    ) -> tuple[Any, bool]:
        shared_keywords = {key: value for key, value in schema.items() if key not in ("anyOf", "$defs")}
        empty_values: list[Any] = []
        refusal: Unsupported | None = None
        branches = schema["anyOf"]
        if depth >= MAX_DEPTH:  # a recursive branch would not end
            branches = [branch for branch in branches if not {"$ref", "anyOf"} & branch.keys()]
        for branch in branches:
            try:
                value, known = self.fill(
                    {**shared_keywords, **branch}, name, description, scope, at, depth + 1
                )
            except TooLarge:
                raise
            except Unsupported as error:
                refusal = error
                continue
            if known:
                return value, True
            empty_values.append(value)
        if not empty_values:
            raise refusal or Unsupported(f"{at}: no branch of anyOf can be filled")
        return (None, False) if None in empty_values else (empty_values[0], False)

    def _emptiest(self, schema: Schema, at: str) -> tuple[Any, bool]:
        """The emptiest value of a schema that is nested too deeply to be filled from evidence."""
        types = _types(schema)
        if "null" in types:
            return None, False
        if types[0] == "array" and not schema.get("minItems"):
            return [], False
        if types[0] == "object" and not schema.get("required"):
            return {}, False
        if types[0] in ("array", "object"):
            raise Unsupported(f"{at}: the schema requires an infinite nesting of itself")
        return self._fill_type(types[0], schema, "", "", video_scope(self._values.evidence), at, MAX_DEPTH)

    def _text(self, evidence_value: Any, schema: Schema, at: str) -> tuple[str, bool]:
        """A text that has the format or matches the pattern of the schema."""
        text = evidence_value if isinstance(evidence_value, str) else None
        if "format" in schema:
            return _extract_format(schema["format"], text)
        if "pattern" not in schema:
            return (text, True) if text is not None else ("", False)
        if text is not None and matches(schema["pattern"], text):
            return text, True
        if part := self._values.matching(schema["pattern"], text):
            return part, True
        for plain in _EMPTY:
            if matches(schema["pattern"], plain):
                return plain, False
        if "null" in _types(schema):
            return "", False
        raise Unsupported(f"{at}: nothing in the video matches the pattern; allow null for the value")


_DAY = r"(?:19|20)\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])"
_CLOCK = r"(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\dZ"
#: Format -> its pattern and its emptiest value.
_FORMATS = {
    "uuid": (r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", "00000000-0000-0000-0000-000000000000"),
    "date": (_DAY, "1970-01-01"),
    "date-time": (f"{_DAY}T{_CLOCK}", "1970-01-01T00:00:00Z"),
    "time": (_CLOCK, "00:00:00Z"),
}
#: Values that are tried when no evidence matches a pattern, the emptiest first.
_EMPTY = ("", "0", "00:00", "0:00", "00:00:00", "unknown", "none", "a", "A", "#a", "0.0", "N/A", "a@a.aa")


def _extract_format(form: str, text: str | None) -> tuple[str, bool]:
    """The part of a text that has a format, or else the emptiest value of the format."""
    pattern, empty = _FORMATS[form]
    match = re.search(pattern, text) if text else None
    return (match.group(), True) if match else (empty, False)


def _types(schema: Schema) -> list[str]:
    """The types that a schema names, or those that its keywords imply."""
    types = schema.get("type")
    if isinstance(types, str):
        return [types]
    if isinstance(types, list) and types:
        return list(types)
    if "properties" in schema or "required" in schema:
        return ["object"]
    if "items" in schema or "minItems" in schema:
        return ["array"]
    if "enum" in schema:
        return sorted(TYPES)
    return ["integer"] if BOUNDS & schema.keys() else ["string"]


def _has_type(value: Any, types: list[str]) -> bool:
    """Whether a value of an enum has one of these JSON types."""
    if value is None:
        return "null" in types
    if isinstance(value, bool):
        return "boolean" in types
    if isinstance(value, str):
        return "string" in types
    return "number" in types or ("integer" in types and float(value).is_integer())


def _number(evidence_value: Any, kind: str, schema: Schema, at: str) -> tuple[int | float, bool]:
    """The number from evidence if it is within the bounds, or else the conforming number nearest to 0."""
    if (
        evidence_value is not UNKNOWN
        and not isinstance(evidence_value, bool)
        and isinstance(evidence_value, int | float)
    ):
        value: int | float = round(evidence_value) if kind == "integer" else round(float(evidence_value), 3)
        if _is_within_bounds(value, schema):
            return value, True
    minimum = max(schema.get("minimum", float("-inf")), schema.get("exclusiveMinimum", float("-inf")))
    maximum = min(schema.get("maximum", float("inf")), schema.get("exclusiveMaximum", float("inf")))
    candidates = [0, minimum, maximum, minimum + 1, maximum - 1, (minimum + maximum) / 2]
    finite = [number for number in candidates if isfinite(number)]
    if kind == "integer":
        finite = [int(number) + step for number in finite for step in (-1, 0, 1)]
    for number in sorted(finite, key=abs):
        if _is_within_bounds(number, schema):
            return number, False
    raise Unsupported(f"{at}: no {kind} lies between the bounds")


def _is_within_bounds(number: int | float, schema: Schema) -> bool:
    return (
        number >= schema.get("minimum", number)
        and number <= schema.get("maximum", number)
        and ("exclusiveMinimum" not in schema or number > schema["exclusiveMinimum"])
        and ("exclusiveMaximum" not in schema or number < schema["exclusiveMaximum"])
    )
