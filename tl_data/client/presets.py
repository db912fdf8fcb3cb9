"""The texts that have a name: summary, title, topics, hashtags, chapters, highlights. How each is asked for.

/analyze is asked by one JSON schema for any of them together. The answers keep the shape that /gist and
/summarize gave, which accounts of 2025 still have.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tl_data.errors import ServerFailed

Json = dict[str, Any]

_TEXT: Json = {"type": "string"}
_TEXTS: Json = {"type": "array", "items": _TEXT}
_TIME: Json = {"type": "number"}


def _list_of(**fields: Json) -> Json:
    return {
        "type": "array",
        "items": {"type": "object", "properties": fields, "required": list(fields)},
    }


@dataclass(frozen=True)
class Preset:
    """A text that has a name: its property in the schema, and the sentence that asks for it."""

    name: str
    prompt: str
    schema: Json


#: `types` of /gist and `type` of /summarize -> the preset.
PRESETS: dict[str, Preset] = {
    "title": Preset("title", "Write a title for this video.", _TEXT),
    "topic": Preset("topics", "List the topics of this video, each in a few words.", _TEXTS),
    "hashtag": Preset("hashtags", "List hashtags for this video, each beginning with #.", _TEXTS),
    "summary": Preset("summary", "Summarize this video.", _TEXT),
    "chapter": Preset(
        "chapters",
        "Divide this video into chapters from beginning to end, without gaps. Give each a start and an end "
        "in seconds, a title and a summary.",
        _list_of(start_sec=_TIME, end_sec=_TIME, chapter_title=_TEXT, chapter_summary=_TEXT),
    ),
    "highlight": Preset(
        "highlights",
        "List the highlights of this video in order. Give each a start and an end in seconds, a title "
        "and a summary.",
        _list_of(start_sec=_TIME, end_sec=_TIME, highlight_title=_TEXT, highlight_summary=_TEXT),
    ),
}


def schema_of(properties: Mapping[str, Json]) -> Json:
    """`response_format` for an object of these properties, all required, in their order."""
    schema = {"type": "object", "properties": dict(properties), "required": list(properties)}
    return {"type": "json_schema", "json_schema": schema}


def as_presets(values: Mapping[str, Any], names: Iterable[str]) -> Json:
    """The fields of a structured answer in the shape of /gist and /summarize.

    Raises:
        ServerFailed: with `answer_unreadable`, a field is not what its schema says.
    """
    try:
        fields = {name: values.get(name) for name in names}
        for name in ("chapters", "highlights"):
            if name in fields:
                listed: list[Any] = values.get(name) or []
                fields[name] = [_part(name, number, part) for number, part in enumerate(listed)]
        if fields.get("hashtags"):
            tags = [str(tag) for tag in fields["hashtags"] or []]
            fields["hashtags"] = [tag if tag.startswith("#") else f"#{tag}" for tag in tags]
    except (AttributeError, KeyError, TypeError) as odd:
        text = f"the answer does not follow its schema: {type(odd).__name__} {odd}"
        raise ServerFailed(text, "answer_unreadable", 200) from None
    return fields


def _part(name: str, number: int, given: Mapping[str, Any]) -> Json:
    part = dict(given)
    if name == "chapters":
        part.setdefault("chapter_number", number)
    else:
        part["highlight"] = part.pop("highlight_title", part.get("highlight"))
    # `start` and `end` are whole seconds, as /summarize gave them.
    return part | {"start": math.floor(part["start_sec"]), "end": math.ceil(part["end_sec"])}
