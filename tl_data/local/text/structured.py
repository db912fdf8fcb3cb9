"""Fills a JSON schema from evidence: the answer of /analyze with `response_format`.

The API takes a subset of JSON Schema 2020-12, and `check` refuses the rest. A value is filled if its name or
description names evidence (a title, chapters, start times, colours, whether there is music) or if a passage
of the video answers it (structured_fields.py). Any other value is null if the schema allows it, absent if it
is not required, and else the emptiest value that conforms: "", [], 0, false. Values are never invented.
"""

from __future__ import annotations

import re
import time
from math import isfinite
from typing import Any

from tl_data.local.perception.evidence import Evidence
from tl_data.local.text.json_schema import (
    BOUNDS,
    DEEPEST,
    MOST_VALUES,
    TYPES,
    Schema,
    TooLarge,
    Unsupported,
    check,
    resolve,
)
from tl_data.local.text.structured_fields import UNKNOWN, Scope, Values, matches, whole

FILL_SECONDS = 30.0  # longest time for one answer


def fill(evidence: Evidence, schema: Schema, prompt: str | None = None) -> Any:
    """Fill a schema from evidence.

    Args:
        prompt: the user's prompt; it is the description of the root.

    Raises:
        Unsupported: see `check`; also if no evidence matches the pattern of a required text.
    """
    check(schema)
    value, _ = _Filler(Values(evidence), schema).fill(schema, "", prompt or "", whole(evidence), "$", 0)
    return value


class _Filler:
    def __init__(self, values: Values, root: Schema) -> None:
        self._values, self._root = values, root
        self._filled = 0  # values so far, including those of rejected branches
        self._deadline = time.monotonic() + FILL_SECONDS

    def fill(
        self, schema: Schema, name: str, description: str, scope: Scope, at: str, depth: int
    ) -> tuple[Any, bool]:
        """A conforming value, and whether it is from evidence."""
        self._filled += 1
        if self._filled > MOST_VALUES:
            raise TooLarge(f"{at}: the answer would have more than {MOST_VALUES} values")
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
        if depth > DEEPEST:
            return self._emptiest(schema, at)
        empty: Any = None
        for number, kind in enumerate(kind for kind in types if kind != "null"):
            value, known = self._of_type(kind, schema, name, description, scope, at, depth)
            if known:
                return value, True
            empty = value if number == 0 else empty
        return (None if "null" in types else empty), False

    def _of_type(
        self, kind: str, schema: Schema, name: str, description: str, scope: Scope, at: str, depth: int
    ) -> tuple[Any, bool]:
        if kind == "object":
            return self._object(schema, scope, at, depth)
        if kind == "array":
            return self._array(schema, name, description, scope, at, depth)
        found = self._values.find(kind, name, description, scope)
        if kind == "string":
            return self._text(found, schema, at)
        if kind in ("integer", "number"):
            return _number(found, kind, schema, at)
        return (found, True) if found is not UNKNOWN else (False, False)

    def _object(self, schema: Schema, scope: Scope, at: str, depth: int) -> tuple[dict[str, Any], bool]:
        made: dict[str, Any] = {}
        any_known = False
        required = dict.fromkeys(schema.get("required", ()))
        properties = dict(schema.get("properties", {}))
        for key in required:  # a required name without a schema takes any value
            properties.setdefault(key, {})
        for key, inner in properties.items():
            needed = key in required
            if not needed and (depth >= DEEPEST - 1 or self._filled > MOST_VALUES // 2):
                continue
            value, known = self.fill(inner, key, "", scope, f"{at}.{key}", depth + 1)
            if known or needed or value is None:
                made[key] = value
            any_known = any_known or known
        return made, any_known

    def _array(
        self, schema: Schema, name: str, description: str, scope: Scope, at: str, depth: int
    ) -> tuple[list[Any], bool]:
        items = schema.get("items", {"type": "string"})
        made: list[Any] = []
        if depth < DEEPEST - 1:
            of_objects = "object" in _types(resolve(items, self._root, at))
            for part in self._values.parts(name, description, scope, objects=of_objects):
                value, known = self.fill(items, name, description, part, f"{at}[]", depth + 1)
                if known and value not in made:
                    made.append(value)
        if not made and schema.get("minItems", 0):
            return [self.fill(items, name, description, scope, f"{at}[]", depth + 1)[0]], False
        return made, bool(made)

    def _choose(self, schema: Schema, name: str, description: str, scope: Scope) -> tuple[Any, bool]:
        allowed = [value for value in schema["enum"] if _is_of(value, _types(schema))] or list(schema["enum"])
        found = self._values.choose(allowed, name, description, scope)
        if found is not UNKNOWN:
            return found, True
        if None in allowed:
            return None, False
        no_answer = ("unknown", "other", "none", "n/a", "unclear", "not_specified", "unspecified")
        return next((v for v in allowed if isinstance(v, str) and v.lower() in no_answer), allowed[0]), False

    def _any_of(
        self, schema: Schema, name: str, description: str, scope: Scope, at: str, depth: int
    ) -> tuple[Any, bool]:
        around = {key: value for key, value in schema.items() if key not in ("anyOf", "$defs")}
        tried: list[Any] = []
        refused: Unsupported | None = None
        branches = schema["anyOf"]
        if depth >= DEEPEST:  # a branch that recurses would not end
            branches = [branch for branch in branches if not {"$ref", "anyOf"} & branch.keys()]
        for branch in branches:
            try:
                value, known = self.fill({**around, **branch}, name, description, scope, at, depth + 1)
            except TooLarge:
                raise
            except Unsupported as error:
                refused = error
                continue
            if known:
                return value, True
            tried.append(value)
        if not tried:
            raise refused or Unsupported(f"{at}: no branch of anyOf can be filled")
        return (None, False) if None in tried else (tried[0], False)

    def _emptiest(self, schema: Schema, at: str) -> tuple[Any, bool]:
        types = _types(schema)
        if "null" in types:
            return None, False
        if types[0] == "array" and not schema.get("minItems"):
            return [], False
        if types[0] == "object" and not schema.get("required"):
            return {}, False
        if types[0] in ("array", "object"):
            raise Unsupported(f"{at}: the schema requires an infinite nesting of itself")
        return self._of_type(types[0], schema, "", "", whole(self._values.evidence), at, DEEPEST)

    def _text(self, found: Any, schema: Schema, at: str) -> tuple[str, bool]:
        text = found if isinstance(found, str) else None
        if "format" in schema:
            return _formatted(schema["format"], text)
        if "pattern" not in schema:
            return (text, True) if text is not None else ("", False)
        if text is not None and matches(schema["pattern"], text):
            return text, True
        if part := self._values.matching(schema["pattern"], text):
            return part, True
        for plain in _PLAIN:
            if matches(schema["pattern"], plain):
                return plain, False
        if "null" in _types(schema):
            return "", False
        raise Unsupported(f"{at}: nothing in the video matches the pattern; allow null for the value")


_DAY = r"(?:19|20)\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])"
_CLOCK = r"(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\dZ"
# Format -> its pattern and its emptiest value.
_FORMS = {
    "uuid": (r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", "00000000-0000-0000-0000-000000000000"),
    "date": (_DAY, "1970-01-01"),
    "date-time": (f"{_DAY}T{_CLOCK}", "1970-01-01T00:00:00Z"),
    "time": (_CLOCK, "00:00:00Z"),
}
_PLAIN = ("", "0", "00:00", "0:00", "00:00:00", "unknown", "none", "a", "A", "#a", "0.0", "N/A", "a@a.aa")


def _formatted(form: str, text: str | None) -> tuple[str, bool]:
    pattern, empty = _FORMS[form]
    match = re.search(pattern, text) if text else None
    return (match.group(), True) if match else (empty, False)


def _types(schema: Schema) -> list[str]:
    """The types that a schema names, else those that its keywords imply."""
    given = schema.get("type")
    if isinstance(given, str):
        return [given]
    if isinstance(given, list) and given:
        return list(given)
    if "properties" in schema or "required" in schema:
        return ["object"]
    if "items" in schema or "minItems" in schema:
        return ["array"]
    if "enum" in schema:
        return sorted(TYPES)
    return ["integer"] if BOUNDS & schema.keys() else ["string"]


def _is_of(value: Any, types: list[str]) -> bool:
    if value is None:
        return "null" in types
    if isinstance(value, bool):
        return "boolean" in types
    if isinstance(value, str):
        return "string" in types
    return "number" in types or ("integer" in types and float(value).is_integer())


def _number(found: Any, kind: str, schema: Schema, at: str) -> tuple[int | float, bool]:
    """A number within the bounds: the one found, else the conforming one nearest to 0."""
    if found is not UNKNOWN and not isinstance(found, bool) and isinstance(found, int | float):
        value: int | float = round(found) if kind == "integer" else round(float(found), 3)
        if _within(value, schema):
            return value, True
    least = max(schema.get("minimum", float("-inf")), schema.get("exclusiveMinimum", float("-inf")))
    most = min(schema.get("maximum", float("inf")), schema.get("exclusiveMaximum", float("inf")))
    tries = [0, least, most, least + 1, most - 1, (least + most) / 2]
    finite = [edge for edge in tries if isfinite(edge)]
    if kind == "integer":
        finite = [int(edge) + step for edge in finite for step in (-1, 0, 1)]
    for number in sorted(finite, key=abs):
        if _within(number, schema):
            return number, False
    raise Unsupported(f"{at}: no {kind} lies between the bounds")


def _within(number: int | float, schema: Schema) -> bool:
    return (
        number >= schema.get("minimum", number)
        and number <= schema.get("maximum", number)
        and ("exclusiveMinimum" not in schema or number > schema["exclusiveMinimum"])
        and ("exclusiveMaximum" not in schema or number < schema["exclusiveMaximum"])
    )
