"""What /analyze is asked for where the service has withdrawn /gist and /summarize (February 2026).
Text from video: open questions, whole or streamed, structured answers, gist and summaries.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import orjson

from tl_data.client.base import BaseClient
from tl_data.client.request import Json, Request, given, operation
from tl_data.client.responses import CLASSES
from tl_data.client.retry import Repeat
from tl_data.errors import APIError, BadRequest, ConnectionFailed, NotFound, ServerFailed
from tl_data.usage import current, minutes_about

_TEXT: Json = {"type": "string"}
_TEXTS: Json = {"type": "array", "items": _TEXT}


def _list_of(**fields: Json) -> Json:
    return {
        "type": "array",
        "items": {"type": "object", "properties": fields, "required": list(fields)},
    }


_TIME: Json = {"type": "number", "minimum": 0}


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
#: Tokens that the limiter sets aside for an answer; the API's headers then say what was really used.
EXPECTED_TOKENS = 300
#: Codes that come with status 400 before a text begins; in the middle of it there is no status to go by.
_REFUSALS = (
    "parameter_invalid", "parameter_not_provided", "parameter_unknown", "token_limit_exceeded",
    "video_not_ready", "index_not_supported_for_generate", "generic_error",
)  # fmt: skip


class AnalyzeMethods(BaseClient):
    @operation("POST /analyze")
    async def analyze(
        self,
        video_id: str,
        prompt: str,
        *,
        temperature: float | None = None,
        max_tokens: int | None = None,
        response_format: Json | None = None,
    ) -> Json:
        """Answer a prompt about a video: the text is in `data`, JSON text when `response_format` asks for it.

        Raises:
            BadRequest: with `answer_truncated`, the JSON did not fit into max_tokens; see `partial`.
        """
        body = given(
            video_id=video_id,
            prompt=prompt,
            temperature=temperature,
            stream=False,
            max_tokens=max_tokens,
            response_format=response_format,
        )
        answer = await self.ask(_ask("/analyze", body, max_tokens))
        if response_format is not None:
            _check_json(answer)
        return answer

    @operation("POST /analyze")
    async def analyze_stream(
        self,
        video_id: str,
        prompt: str,
        *,
        temperature: float | None = None,
        max_tokens: int | None = None,
        response_format: Json | None = None,
    ) -> AsyncIterator[Json]:
        """Answer a prompt about a video as it is written: events, the text in those of `text_generation`.

        Raises:
            APIError: also in the middle; its `partial` then holds the text received so far.
        """
        body = given(
            video_id=video_id,
            prompt=prompt,
            temperature=temperature,
            stream=True,
            max_tokens=max_tokens,
            response_format=response_format,
        )
        text: list[str] = []
        async with self.streaming(_ask("/analyze", body, max_tokens)) as stream:
            try:
                async for line in _lines(stream.chunks):
                    event = _event(line)
                    kind = event.get("event_type")
                    if kind == "text_generation":
                        text.append(str(event.get("text") or ""))
                    elif kind == "stream_end":
                        self.note_usage((event.get("metadata") or {}).get("usage"))
                    yield event
                    if kind == "stream_end":
                        return
                raise ConnectionFailed(
                    "the text broke off: the connection ended before the text did", "stream_cut"
                )
            except APIError as error:
                error.partial = "".join(text)
                raise

    @operation("POST /gist")
    async def gist(self, video_id: str, types: list[str]) -> Json:
        """Write title, topics and hashtags of a video; `types` are title, topic and hashtag.

        Where the service has withdrawn /gist, /analyze is asked for the same fields, and the receipt says so.
        """
        body = {"video_id": video_id, "types": types}
        if (answer := await self._unless_withdrawn("/gist", body)) is not None:
            return answer
        return await self._instead("/gist", video_id, types, None, None)

    @operation("POST /summarize")
    async def summarize(
        self,
        video_id: str,
        type: str,  # noqa: A002 - the API's own name
        prompt: str | None = None,
        temperature: float | None = None,
        *,
        max_tokens: int | None = None,
        response_format: Json | None = None,
    ) -> Json:
        """Write a `summary`, the `chapters` or the `highlights` of a video; `type` is their singular.

        `response_format` is for summaries alone: the summary is then JSON text. Where the service has
        withdrawn /summarize, /analyze is asked for the same fields; the receipt says so.
        """
        more = given(max_tokens=max_tokens, response_format=response_format)
        body = given(video_id=video_id, type=type, prompt=prompt, temperature=temperature) | more
        if (answer := await self._unless_withdrawn("/summarize", body)) is not None:
            return answer
        if type == "summary" and response_format is not None:
            asked = prompt or ASKS["summary"].prompt
            written = await self.analyze(video_id, asked, temperature=temperature, **more)
            current().fallback = "/analyze in place of /summarize"
            return given(id=written.get("id"), summary=written.get("data"), usage=written.get("usage"))
        return await self._instead("/summarize", video_id, [type], prompt, temperature, max_tokens)

    async def _unless_withdrawn(self, where: str, body: Json) -> Json | None:
        if where in self.withdrawn:
            return None
        try:
            return await self.ask(_ask(where, body, None))
        except NotFound as error:
            if error.http_status != 410 and error.code not in ("endpoint_deprecated", "endpoint_not_exists"):
                raise
            self.withdrawn.add(where)
            return None

    async def _instead(
        self,
        where: str,
        video_id: str,
        kinds: list[str],
        prompt: str | None,
        temperature: float | None,
        max_tokens: int | None = None,
    ) -> Json:
        """Request /analyze for the fields of a withdrawn endpoint."""
        if unknown := [kind for kind in kinds if kind not in ASKS]:
            raise BadRequest(
                f"the type parameter is invalid: {', '.join(unknown)}; use {', '.join(ASKS)}",
                "parameter_invalid",
            )
        asks = [ASKS[kind] for kind in kinds]
        fields = {a.name: a.schema for a in asks}
        schema: dict[str, Any] = {"type": "object", "properties": fields, "required": list(fields)}
        answer = await self.analyze(
            video_id,
            " ".join([a.prompt for a in asks] + ([prompt] if prompt else [])),
            temperature=temperature,
            max_tokens=max_tokens,
            response_format={"type": "json_schema", "json_schema": schema},
        )
        current().fallback = f"/analyze in place of {where}"
        try:
            return answered(answer, list(fields))
        except (AttributeError, KeyError, TypeError) as odd:
            raise ServerFailed(
                f"the answer does not follow its schema: {odd}", "answer_unreadable", 200
            ) from None


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


def _ask(where: str, body: Json, tokens: int | None) -> Request:
    expected = min(tokens or EXPECTED_TOKENS, EXPECTED_TOKENS)
    return Request(
        "POST",
        where,
        json=body,
        category="analyze",
        repeat=Repeat.ONCE,
        video_minutes=minutes_about(),
        tokens=expected,
    )


def _check_json(answer: Json) -> None:
    text = str(answer.get("data") or "")
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        reason = answer.get("finish_reason")
        error: APIError
        if reason == "length":
            error = BadRequest(
                f"the structured answer was cut off after {len(text)} characters, at the most tokens it may "
                "have: raise max_tokens, or ask for less in the schema",
                "answer_truncated",
                200,
            )
        else:
            error = ServerFailed(
                f"the structured answer is not JSON: {text[:80]!r}", "answer_unreadable", 200
            )
        error.partial = text
        raise error from None


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                yield line
    if rest.strip():
        yield rest


def _event(line: bytes) -> Json:
    """One event of the stream; an error event is raised."""
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError:
        event = None
    if not isinstance(event, dict):
        raise ServerFailed(f"a line of the text stream is not an event: {line[:80]!r}", "answer_unreadable")
    error = event.get("error")
    said = error if isinstance(error, dict) else event
    if event.get("event_type") == "stream_error" or "code" in event or said is not event:
        code = said.get("code")
        message = ": ".join(filter(None, ["the API ended the text with an error", said.get("message")]))
        kind = BadRequest if code in _REFUSALS else ServerFailed
        raise CLASSES.get(str(code), kind)(message, None if code is None else str(code))
    return event
