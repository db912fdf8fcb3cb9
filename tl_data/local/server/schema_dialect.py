"""The JSON schema dialect of Pegasus: the extra type `timestamp`, and the unsupported keywords.

The text generators (built in, or a language model) accept plain JSON schema only. So a schema is lowered
before generation: each timestamp becomes a number of seconds. The timestamps in the generated text are then
converted to the requested formats.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from tl_data.local.errors import EngineError, invalid

Schema = dict[str, Any]
TIMESTAMP_FORMATS = ("seconds", "hh:mm:ss", "hh:mm:ss.fff")
TIMESTAMP_PROPERTIES = ("start_time", "end_time")  # always timestamps, whatever type the schema gives them
#: Keywords that the service rejects with 422; the message names the keyword.
UNSUPPORTED = (
    "minLength", "maxLength", "maxItems", "uniqueItems", "additionalProperties", "allOf", "oneOf", "not",
    "patternProperties", "minProperties", "maxProperties", "multipleOf",
)  # fmt: skip
BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
#: Paths where a timestamp is allowed: $.a, $.a[], $.a[].b, $[].a
TIMESTAMP_PATHS = re.compile(r"\$(?:\[\])?\.[^.\[\]]+(?:\[\])?|\$\.[^.\[\]]+\[\]\.[^.\[\]]+")
FORMAT_KEY = "x-form"  # key that holds the output format of a timestamp in a lowered schema


def check_dialect(schema: Schema) -> None:
    """Reject a valid JSON schema that the service does not support.

    Raises:
        EngineError: 422 for keywords that are not supported, 400 for a timestamp in the wrong place or
            format.
    """
    _check(schema, "$")


def _check(schema: Any, path: str) -> None:
    if not isinstance(schema, Mapping):
        return
    for name in UNSUPPORTED:
        if name in schema:
            raise EngineError(422, "unprocessable", f"{path}: the keyword {name} is not supported.")
    kind = schema.get("type")
    if kind != "integer" and (bound := next((name for name in BOUNDS if name in schema), None)):
        raise EngineError(422, "unprocessable", f"{path}: {bound} is only supported for integers.")
    if kind == "timestamp":
        if not TIMESTAMP_PATHS.fullmatch(path):
            text = (
                f"{path}: a timestamp must be a top-level property, or a property of the objects in a "
                "top-level array."
            )
            raise invalid("response_format", text)
        if schema.get("format") not in TIMESTAMP_FORMATS:
            text = f"{path}: a timestamp needs a format: {', '.join(TIMESTAMP_FORMATS)}."
            raise invalid("response_format", text, schema.get("format"))
    for name, inner in (schema.get("properties") or {}).items():
        inner_path = f"{path}.{name}"
        if name in TIMESTAMP_PROPERTIES and isinstance(inner, Mapping):
            _check_timestamp(inner, inner_path)
        _check(inner, inner_path)
    if "items" in schema:
        _check(schema["items"], f"{path}[]")
    for branch in schema.get("anyOf") or []:
        _check(branch, path)
    for name, inner in (schema.get("$defs") or {}).items():
        _check(inner, f"$defs.{name}")


def _check_timestamp(schema: Mapping[str, Any], path: str) -> None:
    kind = schema.get("type")
    if kind not in ("number", "integer", "string", "timestamp") or (kind == "string" and "format" in schema):
        text = f"{path}: it must be a number, an integer, a string without format, or a timestamp."
        raise invalid("response_format", text, schema.get("format", kind))


def lower(schema: Schema) -> Schema:
    """Replace each timestamp by a number of seconds. The key `x-form` keeps its output format."""
    return dict(_lower(schema, ""))


def _lower(schema: Any, name: str) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    kind = schema.get("type")
    if kind == "timestamp":
        rest = {k: v for k, v in schema.items() if k not in ("type", "format")}
        return rest | {"type": "number", FORMAT_KEY: schema["format"]}
    if name in TIMESTAMP_PROPERTIES and kind in ("string", "integer"):
        return dict(schema) | {
            "type": "number",
            FORMAT_KEY: "hh:mm:ss.fff" if kind == "string" else "integer",
        }
    result = dict(schema)
    for part in ("properties", "$defs"):
        if isinstance(result.get(part), Mapping):
            result[part] = {key: _lower(inner, key) for key, inner in result[part].items()}
    if "items" in result:
        result["items"] = _lower(result["items"], name)
    if isinstance(result.get("anyOf"), list):
        result["anyOf"] = [_lower(branch, name) for branch in result["anyOf"]]
    return result


def plain_schema(schema: Any) -> Any:
    """A lowered schema as plain JSON schema."""
    if isinstance(schema, Mapping):
        return {key: plain_schema(value) for key, value in schema.items() if key != FORMAT_KEY}
    if isinstance(schema, list):
        return [plain_schema(item) for item in schema]
    return schema


def has_timestamp_formats(schema: Any) -> bool:
    """Whether a lowered schema contains timestamps to format."""
    if isinstance(schema, Mapping):
        return FORMAT_KEY in schema or any(has_timestamp_formats(value) for value in schema.values())
    return isinstance(schema, list) and any(has_timestamp_formats(item) for item in schema)


def format_timestamps(text: str, schema: Schema) -> str:
    """Convert the timestamps of a generated text to the requested formats. Incomplete JSON is unchanged."""
    if not has_timestamp_formats(schema):
        return text
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return json.dumps(_format_timestamps(value, schema, schema), ensure_ascii=False)


def _format_timestamps(value: Any, schema: Any, root: Schema) -> Any:
    if not isinstance(schema, Mapping):
        return value
    if isinstance(ref := schema.get("$ref"), str):
        schema = (root.get("$defs") or {}).get(ref.removeprefix("#/$defs/"), {})
    if FORMAT_KEY in schema and isinstance(value, int | float) and not isinstance(value, bool):
        return format_timestamp(value, schema[FORMAT_KEY])
    if isinstance(value, dict):
        properties = schema.get("properties") or {}
        return {key: _format_timestamps(inner, properties.get(key), root) for key, inner in value.items()}
    if isinstance(value, list):
        return [_format_timestamps(item, schema.get("items"), root) for item in value]
    return value


def format_timestamp(seconds: float, form: str) -> float | int | str:
    """Seconds in one of the formats `seconds`, `integer`, `hh:mm:ss`, `hh:mm:ss.fff`."""
    if form == "seconds":
        return int(seconds) if float(seconds).is_integer() else round(seconds, 3)
    if form == "integer":
        return round(seconds)
    milliseconds = round(seconds * 1000)
    if form == "hh:mm:ss":
        milliseconds = round(milliseconds / 1000) * 1000
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    secs, millis = divmod(rest, 1000)
    clock = f"{hours:02d}:{minutes:02d}:{secs:02d}"
    return clock if form == "hh:mm:ss" else f"{clock}.{millis:03d}"
