"""The JSON Schema of a job file, and errors that name line and key and say what is allowed there."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from tl_data.errors import MissingExtra, SettingsError
from tl_data.settings import ABOVE_ZERO, Settings

TEXT = {"type": "string", "minLength": 1}
TEXTS = {"type": "array", "items": {"type": "string"}, "minItems": 1, "uniqueItems": True}
COUNT = {"type": "integer", "minimum": 1}
QUESTIONS = ("questions", "files", "delta", "query")
PLACES = ("files", "delta", "query", "urls", "folder", "spark_table", "spark_query")


def schema() -> dict[str, Any]:
    """The schema of a job file (JSON Schema 2020-12), for editors and for `check`."""
    source = dict.fromkeys(PLACES, TEXT) | {"urls": TEXTS, "url": TEXT, "key": TEXT, "database": TEXT}
    outputs = {
        "folder": TEXT,
        "format": {"enum": ["delta", "parquet"]},
        "tables": {
            "type": "array",
            "items": {"enum": ["clips", "summaries", "chapters", "vectors"]},
            "uniqueItems": True,
        },
        "prompts": TEXTS,
        "refresh": {"type": "boolean"},
    }
    alerts = dict.fromkeys(QUESTIONS, TEXT) | {
        "questions": {**TEXTS, "items": TEXT},
        "column": TEXT,
        "database": TEXT,
        "threshold": {"enum": ["high", "medium", "low", "none"]},
        "max_clips": COUNT,
    }
    digest = {
        "file": {
            "type": "string",
            "pattern": r"^[^:]+\.(md|html)$",
            "description": "a file on this machine that ends in .md or .html",
        },
        "days": COUNT,
    }
    limits = {
        "budget": {"type": "number", "minimum": 0},
        "max_failures": {
            "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": r"^\d+(\.\d+)?%$"}],
            "description": 'a count such as 10, or a share such as "5%"',
        },
        "limit": COUNT,
        "commit_videos": COUNT,
        "commit_seconds": {"type": "number", "exclusiveMinimum": 0},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A job of tl-data",
        **_object(
            {
                "name": TEXT,
                "engine": {"enum": ["duckdb", "spark"]},
                "prices": TEXT,
                "source": _object(source),
                "outputs": _object(outputs, ["folder"]),
                "alerts": _object(alerts),
                "digest": _object(digest, ["file"]),
                "limits": _object(limits),
                "settings": _object(_settings()),
            },
            ["outputs"],
        ),
    }


def _object(properties: Mapping[str, Any], required: Sequence[str] = ()) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }


def _settings() -> dict[str, Any]:
    """Every setting but the key, which must not stand in a file that is shared."""
    kinds: dict[str, Any] = {}
    for setting in fields(Settings):
        if setting.name != "api_key":
            said = str(setting.type)
            kind = "integer" if "int" in said else "number" if "float" in said else "string"
            kinds[setting.name] = {"type": kind}
    for name in ABOVE_ZERO:
        kinds[name]["exclusiveMinimum"] = 0
    return kinds


def check(table: Mapping[str, Any], text: str, where: str) -> None:
    """Compare a parsed job with the schema.

    Raises:
        SettingsError: all faults, one a line, each with its line number and key.
    """
    try:
        from jsonschema import Draft202012Validator
    except ImportError as error:
        raise MissingExtra("jsonschema", "jobs") from error
    found = sorted(Draft202012Validator(schema()).iter_errors(table), key=lambda e: list(map(str, e.path)))
    faults = [fault for error in found for fault in _faults(error)]
    faults += [*_source_faults(table), *_question_faults(table)]
    if faults:
        lines = [f"{where}, line {_line(text, path)}: {said}" for path, said in faults]
        raise SettingsError("\n".join(lines))


Fault = tuple[tuple[Any, ...], str]


def _faults(error: Any) -> Iterable[Fault]:
    path = tuple(error.absolute_path)
    key = _key(path)
    if error.validator == "additionalProperties":
        allowed = list(error.schema["properties"])
        for name in error.instance:
            if name not in allowed:
                yield (*path, name), _unknown(name, path, allowed)
    elif error.validator == "required":
        for name in error.validator_value:
            if name not in error.instance:
                yield path, f"{_key((*path, name))} is missing"
    elif error.validator == "enum":
        yield path, f"{key} is {error.instance!r}; it is one of {', '.join(error.validator_value)}"
    elif error.validator in ("anyOf", "pattern") and "description" in error.schema:
        yield path, f"{key} is {error.instance!r}; it is {error.schema['description']}"
    elif error.validator == "type":
        names = {
            "string": "text in quotes",
            "array": "a list",
            "object": "a table",
            "integer": "a whole number",
            "boolean": "true or false",
        }
        wanted = names.get(error.validator_value, f"a {error.validator_value}")
        yield path, f"{key} is {error.instance!r}; it must be {wanted}"
    elif error.validator in ("minimum", "exclusiveMinimum"):
        bound = "at least" if error.validator == "minimum" else "above"
        yield path, f"{key} is {error.instance}; it must be {bound} {error.validator_value}"
    else:
        yield path, f"{key}: {error.message}"


def _unknown(name: str, path: tuple[Any, ...], allowed: list[str]) -> str:
    place = f"[{_key(path)}]" if path else "a job"
    if name == "api_key":
        return "api_key may not stand in a job file, which is shared; set TL_API_KEY in the environment"
    close = difflib.get_close_matches(name, allowed, 1)
    hint = f"Did you mean {close[0]}?" if close else f"There are {', '.join(allowed)}"
    return f"{place} has no key {name!r}. {hint}"


def _source_faults(table: Mapping[str, Any]) -> Iterable[Fault]:
    """What a schema could only say in words nobody understands."""
    source = table.get("source")
    if source is None and not {"alerts", "digest"} & table.keys():
        yield (), "source is missing: a job needs [source], [alerts] or [digest]"
    if not isinstance(source, dict):
        return
    named = [place for place in PLACES if place in source]
    if len(named) != 1:
        those = f"it has {' and '.join(named)}" if named else "it has none"
        yield ("source", *named[-1:]), f"[source] needs exactly one of {', '.join(PLACES)}; {those}"
    if "database" in source and "query" not in source:
        yield ("source", "database"), "source.database is for a source.query; there is none"
    if any(place.startswith("spark") for place in named) and table.get("engine", "duckdb") != "spark":
        yield ("source", named[0]), f'source.{named[0]} needs engine = "spark"'


def _question_faults(table: Mapping[str, Any]) -> Iterable[Fault]:
    asked = table.get("alerts")
    if not isinstance(asked, dict):
        return
    named = [place for place in QUESTIONS if place in asked]
    if len(named) != 1:
        those = f"it has {' and '.join(named)}" if named else "it has none"
        yield ("alerts", *named[-1:]), f"[alerts] needs exactly one of {', '.join(QUESTIONS)}; {those}"
    if "database" in asked and "query" not in asked:
        yield ("alerts", "database"), "alerts.database is for an alerts.query; there is none"
    if "column" in asked and "questions" in asked:
        yield (
            ("alerts", "column"),
            "alerts.column is for a table of questions; alerts.questions has no columns",
        )


def _key(path: Sequence[Any]) -> str:
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).lstrip(".")


def _line(text: str, path: Sequence[Any]) -> int:
    """The line where a key stands, or its table, or 1. Good for the plain tables that job files are."""
    names = [p for p in path if not isinstance(p, int)]
    table: list[str] = []
    best = (0, 1)
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[([^\[\]]+)\]", line):
            table = [part.strip().strip("\"'") for part in header[1].split(".")]
            here = table
        elif key := re.match(r"\s*([\w.\"'-]+)\s*=", line):
            here = [*table, *(part.strip("\"'") for part in key[1].split("."))]
        else:
            continue
        if here == names[: len(here)] and len(here) > best[0]:
            best = (len(here), number)
    return best[1]
