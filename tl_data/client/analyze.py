"""POST /analyze, /gist and /summarize: text from video, in one response or streamed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson

from tl_data.client.base import BaseClient
from tl_data.client.presets import PRESETS, as_presets, schema_of
from tl_data.client.request import Json, Request, given, operation
from tl_data.client.responses import CLASSES
from tl_data.client.retry import Repeat
from tl_data.client.schema import read_json, structured
from tl_data.errors import APIError, BadRequest, ConnectionFailed, NotFound, ServerFailed
from tl_data.models import TEXT_MODEL, TEXT_MODEL_2025
from tl_data.usage import current, minutes_about

#: Tokens that the limiter reserves for a response. The headers of the response report the actual number.
EXPECTED_TOKENS = 300

#: Codes of error events in a stream that become a BadRequest. Such events have no HTTP status.
_BAD_REQUEST_CODES = (
    "parameter_invalid", "parameter_not_provided", "parameter_unknown", "token_limit_exceeded",
    "video_not_ready", "index_not_supported_for_generate", "generic_error",
)  # fmt: skip

#: The API's video object, such as {"type": "asset_id", "asset_id": ...}, or, on accounts of 2025 only, the id
#: of an indexed video.
Video = Mapping[str, Any] | str


def video_fields(video: Video | None, model_name: str | None) -> Json:
    """The request fields for a video and the model.

    A video object is always sent with a model, because the server's default changed from Pegasus 1.2 to 1.5.
    With a video id and no model, the server uses Pegasus 1.2.
    """
    if isinstance(video, str):
        return given(video_id=video, model_name=model_name)
    return given(model_name=model_name or TEXT_MODEL, video=dict(video) if video is not None else None)


def text_request(
    route: str, body: Json, *, tokens: int | None = None, repeat: Repeat, **more: Any
) -> Request:
    """A request that is billed by the duration of a video and the tokens of the response."""
    expected = min(tokens if isinstance(tokens, int) else EXPECTED_TOKENS, EXPECTED_TOKENS)
    return Request(
        "POST",
        route,
        json=body,
        category="analyze",
        repeat=repeat,
        video_minutes=minutes_about(),
        tokens=expected,
        **more,
    )


class AnalyzeMethods(BaseClient):
    """POST /analyze, and /gist and /summarize on accounts that still have them."""

    @operation("POST /analyze")
    async def analyze(
        self,
        video: Video | None,
        prompt: str | None,
        *,
        model_name: str | None = None,
        prompt_v2: Json | None = None,
        image: list[Json] | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        response_format: Json | None = None,
        start_time: float | None = None,
        end_time: float | None = None,
    ) -> Json:
        """Answer a prompt about a video; the text is in `data`. With `response_format` it is JSON.

        Args:
            video: a video object, or the id of an indexed video; None if `image` is given.
            model_name: pegasus1.5 or pegasus1.6. None: `models.TEXT_MODEL`; for the id of an indexed video,
                the server's default, Pegasus 1.2.
            start_time, end_time: the part to analyze, in seconds from the start of the file.

        Raises:
            BadRequest: with code `answer_truncated`, the JSON exceeds max_tokens; `partial` contains its
                beginning.
        """
        body = video_fields(video, model_name) | given(
            image=image,
            prompt=prompt,
            prompt_v2=prompt_v2,
            temperature=temperature,
            stream=False,
            max_tokens=max_tokens,
            response_format=response_format,
            start_time=start_time,
            end_time=end_time,
        )
        answer = await self.send(text_request("/analyze", body, tokens=max_tokens, repeat=Repeat.ONCE))
        current().model = body.get("model_name") or TEXT_MODEL_2025
        return cleaned(answer, response_format)

    @operation("POST /analyze")
    async def analyze_stream(
        self,
        video: Video,
        prompt: str,
        *,
        model_name: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        response_format: Json | None = None,
        start_time: float | None = None,
        end_time: float | None = None,
    ) -> AsyncIterator[Json]:
        """Answer a prompt about a video as a stream of events; those of type `text_generation` hold the text.

        Raises:
            APIError: also after the first event; `partial` then contains the text received so far.
        """
        body = video_fields(video, model_name) | given(
            prompt=prompt,
            temperature=temperature,
            stream=True,
            max_tokens=max_tokens,
            response_format=response_format,
            start_time=start_time,
            end_time=end_time,
        )
        text: list[str] = []
        request = text_request("/analyze", body, tokens=max_tokens, repeat=Repeat.ONCE)
        async with self.streaming(request) as stream:
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
                raise ConnectionFailed("stream closed before the response was complete", "stream_cut")
            except APIError as error:
                error.partial = "".join(text)
                raise

    @operation("POST /gist")
    async def gist(self, video: Video, types: list[str]) -> Json:
        """Write title, topics and hashtags of a video; `types` are title, topic and hashtag.

        For a video object, or if the server no longer has /gist, the fields come from /analyze, and
        `Usage.fallback` of the current call is set.
        """
        body = {"video_id": video, "types": types}
        if isinstance(video, str) and (answer := await self._unless_deprecated("/gist", body)) is not None:
            return answer
        return await self._preset("/gist", video, types, None, None)

    @operation("POST /summarize")
    async def summarize(
        self,
        video: Video,
        type: str,  # noqa: A002 - the API's own name
        prompt: str | None = None,
        temperature: float | None = None,
        *,
        max_tokens: int | None = None,
        response_format: Json | None = None,
    ) -> Json:
        """Write the summary, chapters or highlights of a video; `type` is summary, chapter or highlight.

        `response_format` applies only to summaries: the summary is then JSON text. For a video object, or if
        the server no longer has /summarize, the fields come from /analyze, and `Usage.fallback` of the
        current call is set.
        """
        options = given(max_tokens=max_tokens, response_format=response_format)
        body = given(video_id=video, type=type, prompt=prompt, temperature=temperature) | options
        if (
            isinstance(video, str)
            and (answer := await self._unless_deprecated("/summarize", body)) is not None
        ):
            return answer
        if type == "summary" and response_format is not None:
            text = prompt or PRESETS["summary"].prompt
            written = await self.analyze(video, text, temperature=temperature, **options)
            current().fallback = "/analyze in place of /summarize"
            return given(id=written.get("id"), summary=written.get("data"), usage=written.get("usage"))
        return await self._preset("/summarize", video, [type], prompt, temperature, max_tokens)

    async def _unless_deprecated(self, route: str, body: Json) -> Json | None:
        """Call an endpoint that the server may have removed; None if it has. The result is remembered."""
        if route in self.deprecated_endpoints:
            return None
        try:
            answer = await self.send(text_request(route, body, repeat=Repeat.ONCE))
        except NotFound as error:
            if error.http_status != 410 and error.code not in ("endpoint_deprecated", "endpoint_not_exists"):
                raise
            self.deprecated_endpoints.add(route)
            return None
        current().model = TEXT_MODEL_2025
        return answer

    async def _preset(
        self,
        route: str,
        video: Video,
        kinds: list[str],
        prompt: str | None,
        temperature: float | None,
        max_tokens: int | None = None,
    ) -> Json:
        """Request the fields of a deprecated endpoint from /analyze."""
        if unknown := [kind for kind in kinds if kind not in PRESETS]:
            raise BadRequest(
                f"the type parameter is invalid: {', '.join(unknown)}; use {', '.join(PRESETS)}",
                "parameter_invalid",
            )
        presets = [PRESETS[kind] for kind in kinds]
        answer = await self.analyze(
            video,
            " ".join([p.prompt for p in presets] + ([prompt] if prompt else [])),
            temperature=temperature,
            max_tokens=max_tokens,
            response_format=schema_of({p.name: p.schema for p in presets}),
        )
        current().fallback = f"/analyze in place of {route}"
        values, _ = read_json(answer["data"])
        if not isinstance(values, dict):
            text = f"the response does not match its schema: it is a {type(values).__name__}"
            raise ServerFailed(text, "answer_unreadable", 200)
        fields = as_presets(values, [p.name for p in presets])
        return {"id": answer.get("id"), **fields, "usage": answer.get("usage")}


def cleaned(answer: Json, response_format: Json | None) -> Json:
    """Remove the blank lines at the start of a response; with a schema, everything except the JSON value.

    Responses of Pegasus 1.5 begin with blank lines.

    Raises:
        BadRequest, ServerFailed: as for `schema.structured`.
    """
    if response_format is not None:
        return structured(answer)
    if isinstance(answer.get("data"), str):
        return {**answer, "data": answer["data"].lstrip("\r\n")}
    return answer


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Split a stream into its lines that are not blank."""
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                yield line
    if rest.strip():
        yield rest


def _event(line: bytes) -> Json:
    """Decode one event of the stream. Raises an APIError for an error event."""
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError:
        event = None
    if not isinstance(event, dict):
        raise ServerFailed(f"a line of the stream is not an event: {line[:80]!r}", "answer_unreadable")
    error = event.get("error")
    fields = error if isinstance(error, dict) else event
    if event.get("event_type") == "stream_error" or "code" in event or fields is not event:
        code = fields.get("code")
        message = ": ".join(filter(None, ["the API ended the stream with an error", fields.get("message")]))
        kind = BadRequest if code in _BAD_REQUEST_CODES else ServerFailed
        raise CLASSES.get(str(code), kind)(message, None if code is None else str(code))
    return event
