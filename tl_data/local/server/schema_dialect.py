"""The dialect of JSON schema that Pegasus takes: its own type `timestamp`, and what it refuses.

Writers support plain JSON schema. A schema is lowered before generation: each timestamp becomes a number of
seconds. The timestamps of the result are then converted to the requested format.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from tl_data.local.errors import APIProblem, invalid

Schema = dict[str, Any]
CLOCKS = ("seconds", "hh:mm:ss", "hh:mm:ss.fff")
MOMENTS = ("start_time", "end_time")  # properties whose values are moments, whatever the prompt says
#: Keywords that no service of this dialect takes: 422 names them.
UNSUPPORTED = (
    "minLength", "maxLength", "maxItems", "uniqueItems", "additionalProperties", "allOf", "oneOf", "not",
    "patternProperties", "minProperties", "maxProperties", "multipleOf",
)  # fmt: skip
BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
PLACES = re.compile(r"\$(?:\[\])?\.[^.\[\]]+(?:\[\])?|\$\.[^.\[\]]+\[\]\.[^.\[\]]+")  # of a timestamp
FORM = "x-form"  # where a lowered schema keeps the form of a moment


def check_dialect(schema: Schema) -> None:
    """Refuse what the service refuses, beyond what plain JSON schema allows.

    Raises:
        APIProblem: 422 for keywords that are not supported, 400 for a timestamp in the wrong place or form.
    """
    _check(schema, "$")


def _check(schema: Any, at: str) -> None:
    if not isinstance(schema, Mapping):
        return
    for name in UNSUPPORTED:
        if name in schema:
            raise APIProblem(422, "unprocessable", f"{at}: the keyword {name} is not supported.")
    kind = schema.get("type")
    if kind != "integer" and (bound := next((name for name in BOUNDS if name in schema), None)):
        raise APIProblem(422, "unprocessable", f"{at}: {bound} is only supported for integers.")
    if kind == "timestamp":
        if not PLACES.fullmatch(at):
            text = f"{at}: a timestamp belongs at the top level or in the objects of a list there."
            raise invalid("response_format", text)
        if schema.get("format") not in CLOCKS:
            text = f"{at}: a timestamp needs a format: {', '.join(CLOCKS)}."
            raise invalid("response_format", text, schema.get("format"))
    for name, inner in (schema.get("properties") or {}).items():
        place = f"{at}.{name}"
        if name in MOMENTS and isinstance(inner, Mapping):
            _check_moment(inner, place)
        _check(inner, place)
    if "items" in schema:
        _check(schema["items"], f"{at}[]")
    for branch in schema.get("anyOf") or []:
        _check(branch, at)
    for name, inner in (schema.get("$defs") or {}).items():
        _check(inner, f"$defs.{name}")


def _check_moment(schema: Mapping[str, Any], at: str) -> None:
    kind = schema.get("type")
    if kind not in ("number", "integer", "string", "timestamp") or (kind == "string" and "format" in schema):
        text = f"{at}: it must be a number, an integer, a string without format, or a timestamp."
        raise invalid("response_format", text, schema.get("format", kind))


def lowered(schema: Schema) -> Schema:
    """The schema for a writer: every moment is a number of seconds; `FORM` names the form that it gets."""
    return dict(_lowered(schema, ""))


def _lowered(schema: Any, name: str) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    kind = schema.get("type")
    if kind == "timestamp":
        rest = {k: v for k, v in schema.items() if k not in ("type", "format")}
        return rest | {"type": "number", FORM: schema["format"]}
    if name in MOMENTS and kind in ("string", "integer"):
        return dict(schema) | {"type": "number", FORM: "hh:mm:ss.fff" if kind == "string" else "integer"}
    made = dict(schema)
    for part in ("properties", "$defs"):
        if isinstance(made.get(part), Mapping):
            made[part] = {key: _lowered(inner, key) for key, inner in made[part].items()}
    if "items" in made:
        made["items"] = _lowered(made["items"], name)
    if isinstance(made.get("anyOf"), list):
        made["anyOf"] = [_lowered(branch, name) for branch in made["anyOf"]]
    return made


def without_forms(schema: Any) -> Any:
    """A lowered schema as plain JSON schema."""
    if isinstance(schema, Mapping):
        return {key: without_forms(value) for key, value in schema.items() if key != FORM}
    if isinstance(schema, list):
        return [without_forms(item) for item in schema]
    return schema


def has_forms(schema: Any) -> bool:
    """Whether a lowered schema holds a moment that its answer must be put into a form for."""
    if isinstance(schema, Mapping):
        return FORM in schema or any(has_forms(value) for value in schema.values())
    return isinstance(schema, list) and any(has_forms(item) for item in schema)


def in_form(text: str, schema: Schema) -> str:
    """The answer with its moments as they were asked for; one that was cut off stays as it is."""
    if not has_forms(schema):
        return text
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return json.dumps(_in_form(value, schema, schema), ensure_ascii=False)


def _in_form(value: Any, schema: Any, root: Schema) -> Any:
    if not isinstance(schema, Mapping):
        return value
    if isinstance(ref := schema.get("$ref"), str):
        schema = (root.get("$defs") or {}).get(ref.removeprefix("#/$defs/"), {})
    if FORM in schema and isinstance(value, int | float) and not isinstance(value, bool):
        return moment(value, schema[FORM])
    if isinstance(value, dict):
        properties = schema.get("properties") or {}
        return {key: _in_form(inner, properties.get(key), root) for key, inner in value.items()}
    if isinstance(value, list):
        return [_in_form(item, schema.get("items"), root) for item in value]
    return value


def moment(seconds: float, form: str) -> float | int | str:
    """A moment as a number, a whole number or a clock: `seconds`, `integer`, `hh:mm:ss`, `hh:mm:ss.fff`."""
    if form == "seconds":
        return int(seconds) if float(seconds).is_integer() else round(seconds, 3)
    if form == "integer":
        return round(seconds)
    milliseconds = round(seconds * 1000)
    if form == "hh:mm:ss":
        milliseconds = round(milliseconds / 1000) * 1000
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    whole, part = divmod(rest, 1000)
    clock = f"{hours:02d}:{minutes:02d}:{whole:02d}"
    return clock if form == "hh:mm:ss" else f"{clock}.{part:03d}"
