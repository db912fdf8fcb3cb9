"""How a call is made: rate limiter, retries, usage and errors around one exchange of bytes.

The calls themselves are methods of the classes in the modules beside this one, one module per topic;
`client.Client` joins them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import urljoin, urlsplit

from tl_data.client.request import Json, Request
from tl_data.client.responses import decoded, error_from, request_id_of, unreadable
from tl_data.client.retry import Repeat, persist
from tl_data.client.transport import Answer, Stream, Transport
from tl_data.errors import (
    SHAPE_ADVICE,
    APIError,
    BadRequest,
    NotFound,
    ServerFailed,
    SettingsError,
    TLDataError,
    is_shape_refusal,
)
from tl_data.ratelimit.headers import wait_hint
from tl_data.runtime.shutdown import mark_in_flight
from tl_data.runtime.telemetry import Span, count, span
from tl_data.settings import Settings
from tl_data.urls import redacted
from tl_data.usage import current

if TYPE_CHECKING:
    from tl_data.ratelimit.limiter import Limiter

VALUE = 80  # characters of a refused value that a message shows
_PARAMETERS = re.compile(r"The (\w+) parameter is invalid|parameters are invalid: ([\w, ]+)")
PAGE = 50  # the most items the API gives a page
REDIRECTS = 5


#: Which kind of account answers: one whose videos are analysed by object and by task, or one of 2025.
Generation = Literal["today", "2025"]


class BaseClient:
    """The connection to the API at one address, with one key, inside one event loop."""

    def __init__(self, settings: Settings, *, base_url: str, limiter: Limiter | None = None) -> None:
        if settings.api_key and not (settings.api_key.isascii() and settings.api_key.isprintable()):
            raise SettingsError(
                "the API key holds characters that no key has; was it pasted with a line break?"
            )
        self.settings = settings
        self.base_url = base_url.rstrip("/")
        self.key = settings.key_for(self.base_url)
        self.api_version: str | None = None  # as the API last said it
        self.transport = Transport(settings.timeout, self.key)
        self.withdrawn: set[str] = set()  # endpoints that answered 410
        self.puts_videos = False  # the server knows PUT, not PATCH, for a video
        self.generation: Generation | None = None  # see `AnalyzeTaskMethods.account_generation`
        self.generation_lock = asyncio.Lock()
        self._limiter = limiter

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections; a second time does nothing."""
        if self._limiter:
            await self._limiter.aclose()
        await self.transport.aclose()

    async def ask(self, request: Request) -> Json:
        """The JSON object of the answer, {} for an empty one.

        Raises:
            APIError: the API refused, failed or did not answer, after everything that repeating can do.
            MediaRefused: the API refused the video for what it is.
        """

        async def attempt() -> Json:
            answer = await self._sent(request)
            value = decoded(answer.body)
            if value is None:
                raise unreadable(answer.status, answer.headers, answer.body, str(request))
            self.note_usage(value.get("usage"))
            return value

        return await persist(attempt, request.repeat, self.settings)

    async def ask_lines(self, request: Request) -> list[Json]:
        """The JSON objects of an answer in JSON Lines, in order. Raises what `ask` raises."""

        async def attempt() -> list[Json]:
            answer = await self._sent(request)
            lines = [decoded(line) for line in answer.body.splitlines() if line.strip()]
            if None in lines:
                raise unreadable(answer.status, answer.headers, answer.body, str(request))
            return [line for line in lines if line]

        return await persist(attempt, request.repeat, self.settings)

    async def create(self, request: Request, id_name: str = "_id") -> Json:
        """The answer to a request that makes something; it holds the id of what was made.

        Raises:
            ServerFailed: there is no id in it; what was asked for may exist all the same.
        """
        answer = await self.ask(request)
        if not answer.get(id_name):
            failed = ServerFailed(f"{request} was answered without {id_name}", "answer_unreadable", 200)
            failed.maybe_done = True
            raise failed
        return answer

    async def delete(self, where: str) -> None:
        """DELETE; that it is gone after an answer was lost means that the lost one had worked."""
        try:
            await self.ask(Request("DELETE", where))
        except APIError as error:
            if not (isinstance(error, NotFound) and error.maybe_done):
                raise

    async def pages(self, path: str, query: Mapping[str, Any]) -> AsyncIterator[Json]:
        """The items of a listing with numbered pages, each once, even if it grows while it is read."""
        page = int(query.get("page") or 1)
        seen: set[str] = set()
        while True:
            limit = query.get("page_limit") or PAGE
            answer = await self.ask(Request("GET", path, {**query, "page": page, "page_limit": limit}))
            items = answer.get("data") or []
            for item in items:
                name = item.get("_id") or item.get("task_id") or item.get("batch_id")
                if name is None or name not in seen:
                    seen.add(name)
                    yield item
            last = (answer.get("page_info") or {}).get("total_page")
            # A page with items is not the last of none: such a count is not believed.
            if not items or (isinstance(last, int) and last and page >= last):
                return
            page += 1

    @asynccontextmanager
    async def streaming(self, request: Request) -> AsyncIterator[Stream]:
        """An answer read as it comes. Retried until it begins, not afterwards."""

        async def attempt() -> tuple[Any, Stream]:
            await self._admitted(request)
            exchange = self.transport.stream(
                request.method, self.base_url + request.target, self._headers(request), request.content
            )
            with _request_span(request) as opened:
                stream = await exchange.__aenter__()
                _note_status(opened, request, stream.status)
            try:
                if not 200 <= stream.status < 300:
                    body = b"".join([chunk async for chunk in stream.chunks])
                    raise self._judged(request, Answer(stream.status, stream.headers, body))
                self._observed(request, stream.status, stream.headers)
            except BaseException:
                await exchange.__aexit__(None, None, None)
                raise
            return exchange, stream

        exchange, stream = await persist(attempt, request.repeat, self.settings)
        try:
            yield stream
        finally:
            await exchange.__aexit__(None, None, None)

    async def _sent(self, request: Request) -> Answer:
        """One attempt; a redirect within the same host is followed."""
        await self._admitted(request)
        with _request_span(request) as opened:
            return await self._answered(request, opened)

    async def _answered(self, request: Request, opened: Span) -> Answer:
        url = self.base_url + request.target
        for _ in range(REDIRECTS):
            answer = await self.transport.send(
                request.method,
                url,
                self._headers(request),
                request.form or request.content,
                fresh=request.repeat is Repeat.NEVER,
            )
            if answer.status not in (301, 302, 303, 307, 308):
                break
            url = self._moved(request, url, answer)
        _note_status(opened, request, answer.status)
        if not 200 <= answer.status < 300:
            raise self._judged(request, answer)
        self._observed(request, answer.status, answer.headers)
        return answer

    async def _admitted(self, request: Request) -> None:
        if self._limiter:
            await self._limiter.acquire(
                request.category, video_minutes=request.video_minutes, tokens=request.tokens
            )
        if request.category != "read":
            mark_in_flight(True)
        current().calls += 1

    def _observed(
        self, request: Request, status: int, headers: Mapping[str, str], retry_after: float | None = None
    ) -> None:
        self.api_version = headers.get("x-api-version") or self.api_version
        current().request_id = request_id_of(headers) or current().request_id
        if self._limiter:
            self._limiter.observe(request.category, headers, status, retry_after)

    def _judged(self, request: Request, answer: Answer) -> TLDataError:
        error = error_from(answer.status, answer.headers, answer.body, str(request))
        if isinstance(error, BadRequest):
            sent = _values(request, error.message)
            if is_shape_refusal(error.code, error.message):
                sent = f"{sent} {SHAPE_ADVICE}"
            error.message += sent
        wait = error.retry_after if isinstance(error, APIError) else wait_hint(answer.headers)
        self._observed(request, answer.status, answer.headers, wait)
        return error

    def _moved(self, request: Request, url: str, answer: Answer) -> str:
        """Where a redirect leads, if the key may go there and the method survives it."""
        target = urljoin(url, answer.headers.get("location", ""))
        same_host = urlsplit(target).hostname == urlsplit(url).hostname
        safer = not url.startswith("https:") or target.startswith("https:")
        if same_host and safer and (request.method == "GET" or answer.status in (307, 308)):
            return target
        raise BadRequest(
            f"{request} was redirected to {redacted(target)}, where the key is not sent. "
            "If that is the API's new address, set TL_BASE_URL to it",
            "redirected",
            answer.status,
            request_id_of(answer.headers),
        )

    def _headers(self, request: Request) -> dict[str, str]:
        headers = {"accept": "application/json", **request.headers}
        if self.key:
            headers["x-api-key"] = self.key
        if request.json is not None:
            headers["content-type"] = "application/json"
        return headers

    def note_usage(self, usage: object) -> None:
        """Add the tokens an answer says it used to the receipt of the running call."""
        if isinstance(usage, dict):
            receipt = current()
            receipt.input_tokens += _tokens(usage.get("input_tokens"))
            receipt.output_tokens += _tokens(usage.get("output_tokens"))


def _tokens(count: object) -> int:
    """A number of tokens; Marengo 3.5 counts them by type of content."""
    if isinstance(count, dict):
        return sum(_tokens(each) for each in count.values())
    return int(count) if isinstance(count, int | float) else 0


def _values(request: Request, message: str) -> str:
    """The values sent of the parameters that a refusal names, unless it shows them itself."""
    found = _PARAMETERS.search(message)
    if not found or "You sent" in message:
        return ""
    names = [name.strip() for name in (found[1] or found[2]).split(",")]
    values = {name: [redacted(repr(value)) for value in request.sent(name)] for name in names}
    shown = [
        f"{name} = {text if len(text) <= VALUE else text[:VALUE] + '...'}"
        for name, texts in values.items()
        for text in texts
    ]
    return f" Sent was {', '.join(shown)}." if shown else ""


def _request_span(request: Request) -> AbstractContextManager[Span]:
    """The span of one request. Its name is a route, as names must be few; the path holds ids."""
    route = request.path.split("/")[1]
    facts = {"http.request.method": request.method, "url.path": request.path}
    return span(f"{request.method} /{route}", remote=True, category=request.category, attributes=facts)


def _note_status(opened: Span, request: Request, status: int) -> None:
    opened.set_attributes({"http.response.status_code": status})
    if status >= 400:
        opened.fail(f"{request}: HTTP {status}")
    count("tl_data.api.calls", 1, category=request.category, status=str(status))
