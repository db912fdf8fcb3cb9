"""What /analyze is asked for where the service has withdrawn /gist and /summarize (February 2026)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import orjson

Json = dict[str, Any]

_TEXT: Json = {"type": "string"}
_TEXTS: Json = {"type": "array", "items": _TEXT}
_TIME: Json = {"type": "number", "minimum": 0}


def _list_of(**fields: Json) -> Json:
    return {
        "type": "array",
        "items": {"type": "object", "properties": fields, "required": list(fields)},
    }


@dataclass(frozen=True)
class Wanted:
    """A field of the withdrawn endpoint's answer, and how to ask for it."""

    name: str
    prompt: str
    schema: Json


#: `types` of /gist and `type` of /summarize -> what to ask instead.
ASKS: dict[str, Wanted] = {
    "title": Wanted("title", "Write a title for this video.", _TEXT),
    "topic": Wanted("topics", "List the topics of this video, each in a few words.", _TEXTS),
    "hashtag": Wanted("hashtags", "List hashtags for this video, each beginning with #.", _TEXTS),
    "summary": Wanted("summary", "Summarize this video.", _TEXT),
    "chapter": Wanted(
        "chapters",
        "Divide this video into chapters from beginning to end, without gaps. Give each a start and an end "
        "in seconds, a title and a summary.",
        _list_of(start_sec=_TIME, end_sec=_TIME, chapter_title=_TEXT, chapter_summary=_TEXT),
    ),
    "highlight": Wanted(
        "highlights",
        "List the highlights of this video in order. Give each a start and an end in seconds, a title "
        "and a summary.",
        _list_of(start_sec=_TIME, end_sec=_TIME, highlight_title=_TEXT, highlight_summary=_TEXT),
    ),
}


def answered(answer: Json, names: list[str]) -> Json:
    """The answer of /analyze in the shape of the withdrawn endpoint's."""
    said = orjson.loads(answer["data"])
    fields = {name: said.get(name) for name in names}
    for name in ("chapters", "highlights"):
        for number, part in enumerate(fields.get(name) or []):
            if name == "chapters":
                part.setdefault("chapter_number", number)
            else:
                part["highlight"] = part.pop("highlight_title", None)
            # `start` and `end` are whole seconds, as the withdrawn endpoint gave them.
            part |= {"start": math.floor(part["start_sec"]), "end": math.ceil(part["end_sec"])}
    if fields.get("hashtags"):
        fields["hashtags"] = [tag if tag.startswith("#") else f"#{tag}" for tag in fields["hashtags"]]
    return {"id": answer.get("id"), **fields, "usage": answer.get("usage")}
