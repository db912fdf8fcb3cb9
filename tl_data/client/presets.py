"""Presets: the prompts and JSON schemas for summaries, titles, topics, hashtags, chapters, highlights and
annotations (what is seen); and prompts with pictures.

One request to /analyze with a combined schema returns several of them. All results except annotations have
the same fields as the responses of /gist and /summarize, which only accounts of 2025 still have.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tl_data.errors import BadRequest, ServerFailed

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
    """The prompt for one kind of text, and its property name and JSON schema in the response."""

    name: str
    prompt: str
    schema: Json


#: The presets by the API's names: values of `types` of /gist and of `type` of /summarize.
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
#: The presets of annotations, which are requested only on accounts of today.
ANNOTATION_PRESETS = (
    Preset(
        "on_screen_text",
        "List the texts that can be read on the screen, in order. Give each a start and an end in seconds.",
        _list_of(start_sec=_TIME, end_sec=_TIME, text=_TEXT),
    ),
    Preset(
        "objects",
        "List the objects that can be seen, in order. Give each a start and an end in seconds and a name.",
        _list_of(start_sec=_TIME, end_sec=_TIME, object_name=_TEXT),
    ),
)


def no_annotations() -> BadRequest:
    """The refusal of annotations on an account of 2025."""
    return BadRequest(
        "annotations need an account of today, and this one has the API of 2025: remove annotations from the "
        "outputs of the job",
        "not_supported",
    )


def schema_of(properties: Mapping[str, Json]) -> Json:
    """The `response_format` for a JSON object with these properties in this order, all required."""
    schema = {"type": "object", "properties": dict(properties), "required": list(properties)}
    return {"type": "json_schema", "json_schema": schema}


def prompt_v2(prompt: str, pictures: Iterable[Mapping[str, str]]) -> Json:
    """The API's `prompt_v2`: a prompt with pictures, which it refers to as <@image1>, <@image2> and so on.

    Args:
        pictures: for each picture its media source: `url` or `base64_string`.
    """
    sources = [
        {"name": f"image{number}", "media_type": "image", **picture}
        for number, picture in enumerate(pictures, 1)
    ]
    unnamed = [f"<@{source['name']}>" for source in sources if f"<@{source['name']}>" not in prompt]
    text = f"{prompt} The pictures are {', '.join(unnamed)}." if unnamed else prompt
    return {"input_text": text, "media_sources": sources}


def as_presets(values: Mapping[str, Any], names: Iterable[str]) -> Json:
    """Convert the properties of a structured response to the fields of /gist and /summarize.

    Raises:
        ServerFailed: with code `answer_unreadable`, a field does not match its schema.
    """
    try:
        fields = {name: values.get(name) for name in names}
        for name in ("chapters", "highlights"):
            if name in fields:
                parts: list[Any] = values.get(name) or []
                fields[name] = [_part(name, number, part) for number, part in enumerate(parts)]
        for name, label in (("on_screen_text", "text"), ("objects", "object_name")):
            if name in fields:
                fields[name] = [_annotation(item, label) for item in values.get(name) or []]
        if fields.get("hashtags"):
            tags = [str(tag) for tag in fields["hashtags"] or []]
            fields["hashtags"] = [tag if tag.startswith("#") else f"#{tag}" for tag in tags]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        text = f"the response does not match its schema: {type(error).__name__} {error}"
        raise ServerFailed(text, "answer_unreadable", 200) from None
    return fields


def _annotation(fields: Mapping[str, Any], label: str) -> Json:
    times = {name: float(fields[name]) for name in ("start_sec", "end_sec")}
    return {**times, "label": str(fields[label])}


def _part(name: str, number: int, fields: Mapping[str, Any]) -> Json:
    """Convert one chapter or highlight to the fields of /summarize."""
    part = dict(fields)
    if name == "chapters":
        part.setdefault("chapter_number", number)
    else:
        part["highlight"] = part.pop("highlight_title", part.get("highlight"))
    # /summarize returns `start` and `end` in whole seconds.
    return part | {"start": math.floor(part["start_sec"]), "end": math.ceil(part["end_sec"])}
