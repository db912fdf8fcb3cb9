"""A JSON schema checked and filled: the answer of /analyze with `response_format`.

The API takes a subset of JSON Schema 2020-12; `check` refuses anything else. A value is filled only where
its name or description says which evidence it wants (a title, chapters, start times, colours, whether
there is music ...) or where a passage of the video answers it (schema_values.py). Everything else is null
where the schema allows null, left out where it is not required, and otherwise the emptiest value that
conforms: an empty text, an empty list, 0, false. Nothing is made up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isfinite
from typing import Any

import pyarrow as pa

from tl_data.local.evidence import Evidence
from tl_data.local.schema_values import UNKNOWN, Scope, Values, matches, whole

Schema = Mapping[str, Any]

_TYPES = frozenset({"array", "boolean", "integer", "null", "number", "object", "string"})
_FORMATS = frozenset({"uuid", "date-time", "date", "time"})
_BOUNDS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
_ANYWHERE = frozenset(
    {
        "type", "title", "description", "default", "examples", "enum", "const", "anyOf", "$ref", "$defs",
        "$schema", "$id", "$comment",
    }
)  # fmt: skip
_KEYWORDS = _ANYWHERE | _BOUNDS | {
    "pattern", "format", "items", "minItems", "properties", "required", "additionalProperties",
}  # fmt: skip
_SILENT = frozenset({"title", "examples", "default", "$schema", "$id", "$comment"})  # taken, without effect
_DEEPEST = 24  # levels of a schema, and of a value
_LONGEST_PATTERN = 300


class Unsupported(ValueError):
    """The schema is not one of the API's subset, or no value without invention can conform to it."""


# --------------------------------------------------------------------------------------------- check


def check(schema: Schema) -> None:
    """Refuse a schema that uses more than the subset.

    Raises:
        Unsupported: with the place and the keyword.
    """
    _check(schema, schema, "$", 0)


def _check(schema: Any, root: Schema, at: str, depth: int) -> None:
    if depth > _DEEPEST:
        raise Unsupported(f"{at}: the schema is nested deeper than {_DEEPEST} levels")
    if not isinstance(schema, Mapping):
        raise Unsupported(f"{at}: a schema must be an object")
    if unknown := sorted(str(key) for key in schema if key not in _KEYWORDS):
        known = ", ".join(sorted(_KEYWORDS - _SILENT))
        raise Unsupported(f"{at}: the keyword {unknown[0]} is not supported; there are {known}")
    types = schema.get("type", [])
    for name in [types] if isinstance(types, str) else types if isinstance(types, list) else [types]:
        if not isinstance(name, str) or name not in _TYPES:
            known = ", ".join(sorted(_TYPES))
            raise Unsupported(f"{at}: the type {name!r} is not supported; there are {known}")
    _check_values(schema, at)
    _check_bounds(schema, at)
    if "$ref" in schema:
        _resolve(schema, root, at)
    for key in ("properties", "$defs"):
        inner = schema.get(key, {})
        if not isinstance(inner, Mapping):
            raise Unsupported(f"{at}: {key} must be an object")
        for name, one in inner.items():
            _check(one, root, f"{at}.{name}", depth + 1)
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        raise Unsupported(f"{at}: required must be a list of names")
    if not isinstance(schema.get("additionalProperties", True), bool):
        raise Unsupported(f"{at}: additionalProperties can only be true or false")
    if "items" in schema:
        _check(schema["items"], root, f"{at}[]", depth + 1)
    branches = schema.get("anyOf", [{}])
    if not isinstance(branches, list) or not branches:
        raise Unsupported(f"{at}: anyOf must be a list of schemas")
    for branch in schema.get("anyOf", []):
        _check(branch, root, f"{at}|", depth + 1)


def _check_values(schema: Schema, at: str) -> None:
    values = schema.get("enum", [None])
    if not isinstance(values, list) or not values:
        raise Unsupported(f"{at}: enum must be a list of values")
    if any(isinstance(value, list | dict) for value in [*values, schema.get("const")]):
        raise Unsupported(f"{at}: enum and const can only hold texts, numbers, true, false and null")


def _check_bounds(schema: Schema, at: str) -> None:
    for key in _BOUNDS & schema.keys():
        if isinstance(schema[key], bool) or not isinstance(schema[key], int | float):
            raise Unsupported(f"{at}: {key} must be a number")
    if schema.get("minItems", 0) not in (0, 1) or isinstance(schema.get("minItems", 0), bool):
        raise Unsupported(f"{at}: minItems can only be 0 or 1, but is {schema['minItems']!r}")
    if "format" in schema and schema["format"] not in _FORMATS:
        known = ", ".join(sorted(_FORMATS))
        raise Unsupported(f"{at}: the format {schema['format']!r} is not supported; there are {known}")
    if "pattern" in schema:
        pattern = schema["pattern"]
        if not isinstance(pattern, str) or len(pattern) > _LONGEST_PATTERN:
            raise Unsupported(f"{at}: pattern must be a text of at most {_LONGEST_PATTERN} characters")
        try:
            matches(pattern, "")
        except pa.ArrowInvalid as error:
            raise Unsupported(f"{at}: the pattern cannot be read: {error}") from error


def _resolve(schema: Schema, root: Schema, at: str) -> Schema:
    """The schema that a chain of references leads to, with the keywords beside the reference."""
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
        if str(ref) in seen or not isinstance(target, Mapping):
            raise Unsupported(f"{at}: the reference {ref!r} leads in a circle")
        seen.add(str(ref))
        schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
        if "$ref" in target:
            schema["$ref"] = target["$ref"]
    return schema


# ---------------------------------------------------------------------------------------------- fill


def fill(evidence: Evidence, schema: Schema, prompt: str | None = None) -> Any:
    """A value that conforms to the schema, filled from evidence.

    Args:
        prompt: what was asked; the description of the whole.

    Raises:
        Unsupported: see `check`; also for a required text with a pattern that no evidence matches.
    """
    check(schema)
    value, _ = _Filler(Values(evidence), schema).fill(schema, "", prompt or "", whole(evidence), "$", 0)
    return value


class _Filler:
    def __init__(self, values: Values, root: Schema) -> None:
        self._values, self._root = values, root

    def fill(
        self, schema: Schema, name: str, told: str, scope: Scope, at: str, depth: int
    ) -> tuple[Any, bool]:
        """A conforming value, and whether evidence stands behind it."""
        schema = _resolve(schema, self._root, at)
        told = str(schema.get("description") or schema.get("title") or told)
        if "const" in schema:
            return schema["const"], False
        if "enum" in schema:
            return self._choose(schema, name, told, scope)
        if "anyOf" in schema:
            return self._any_of(schema, name, told, scope, at, depth)
        types = _types(schema)
        if depth > _DEEPEST:
            return self._emptiest(schema, at)
        empty: Any = None
        for number, kind in enumerate(kind for kind in types if kind != "null"):
            value, known = self._of_type(kind, schema, name, told, scope, at, depth)
            if known:
                return value, True
            empty = value if number == 0 else empty
        return (None if "null" in types else empty), False

    def _of_type(
        self, kind: str, schema: Schema, name: str, told: str, scope: Scope, at: str, depth: int
    ) -> tuple[Any, bool]:
        if kind == "object":
            return self._object(schema, name, told, scope, at, depth)
        if kind == "array":
            return self._array(schema, name, told, scope, at, depth)
        found = self._values.find(kind, name, told, scope)
        if kind == "string":
            return self._text(found, schema, at)
        if kind in ("integer", "number"):
            return _number(found, kind, schema, at)
        return (found, True) if found is not UNKNOWN else (False, False)

    def _object(
        self, schema: Schema, name: str, told: str, scope: Scope, at: str, depth: int
    ) -> tuple[dict[str, Any], bool]:
        made: dict[str, Any] = {}
        any_known = False
        required = list(schema.get("required", ()))
        properties = dict(schema.get("properties", {}))
        for key in required:  # a required name without a schema takes any value
            properties.setdefault(key, {})
        for key, inner in properties.items():
            needed = key in required
            if depth >= _DEEPEST - 1 and not needed:
                continue
            value, known = self.fill(inner, key, "", scope, f"{at}.{key}", depth + 1)
            if known or needed or value is None:
                made[key] = value
            any_known = any_known or known
        return made, any_known

    def _array(
        self, schema: Schema, name: str, told: str, scope: Scope, at: str, depth: int
    ) -> tuple[list[Any], bool]:
        items = schema.get("items", {"type": "string"})
        made: list[Any] = []
        if depth < _DEEPEST - 1:
            wants_objects = "object" in _types(_resolve(items, self._root, at))
            for part in self._values.parts(name, told, scope, objects=wants_objects):
                value, known = self.fill(items, name, told, part, f"{at}[]", depth + 1)
                if known and value not in made:
                    made.append(value)
        if not made and schema.get("minItems", 0):
            return [self.fill(items, name, told, scope, f"{at}[]", depth + 1)[0]], False
        return made, bool(made)

    def _choose(self, schema: Schema, name: str, told: str, scope: Scope) -> tuple[Any, bool]:
        allowed = [value for value in schema["enum"] if _is_of(value, _types(schema))] or list(schema["enum"])
        found = self._values.choose(allowed, name, told, scope)
        if found is not UNKNOWN:
            return found, True
        if None in allowed:
            return None, False
        no_answer = ("unknown", "other", "none", "n/a", "unclear", "not_specified", "unspecified")
        return next((v for v in allowed if isinstance(v, str) and v.lower() in no_answer), allowed[0]), False

    def _any_of(
        self, schema: Schema, name: str, told: str, scope: Scope, at: str, depth: int
    ) -> tuple[Any, bool]:
        around = {key: value for key, value in schema.items() if key not in ("anyOf", "$defs")}
        tried: list[Any] = []
        refused: Unsupported | None = None
        for branch in schema["anyOf"]:
            try:
                value, known = self.fill({**around, **branch}, name, told, scope, at, depth + 1)
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
            raise Unsupported(f"{at}: the schema requires itself within itself without end")
        return self._of_type(types[0], schema, "", "", whole(self._values.evidence), at, _DEEPEST)

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
        raise Unsupported(f"{at}: nothing in the video matches the pattern; let the value be null")


_DAY = r"(?:19|20)\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])"
_CLOCK = r"(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\dZ"
# What a format looks like, and its emptiest value.
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
    """The types a schema allows, as far as it says so; what it implies else."""
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
        return sorted(_TYPES)
    return ["integer"] if _BOUNDS & schema.keys() else ["string"]


def _is_of(value: Any, types: list[str]) -> bool:
    if value is None:
        return "null" in types
    if isinstance(value, bool):
        return "boolean" in types
    if isinstance(value, str):
        return "string" in types
    return "number" in types or ("integer" in types and float(value).is_integer())


def _number(found: Any, kind: str, schema: Schema, at: str) -> tuple[int | float, bool]:
    """A number within the bounds: the one found, else the one nearest to zero."""
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
