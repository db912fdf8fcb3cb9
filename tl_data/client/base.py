"""The base of the client: sends a request with rate limiting, retries, usage accounting and error mapping.

The operations of the API are methods of the classes in the other modules of this package, one module per
topic. `tl_data.client.Client` inherits from all of them.
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
from tl_data.client.retry import Repeat, with_retries
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
from tl_data.object_store import Buckets
from tl_data.ratelimit.headers import wait_hint
from tl_data.runtime.shutdown import mark_in_flight
from tl_data.runtime.telemetry import Span, count, span
from tl_data.settings import Settings
from tl_data.urls import redacted
from tl_data.usage import current

if TYPE_CHECKING:
    from tl_data.client.transport import Response, Stream
    from tl_data.ratelimit.limiter import Limiter

VALUE_CHARS = 80  # maximum length of a rejected parameter's value in a message
#: The names of the rejected parameters in an error message of the API.
_PARAMETERS = re.compile(r"The (\w+) parameter is invalid|parameters are invalid: ([\w, ]+)")
PAGE = 50  # the API's maximum number of items on a page of a list
REDIRECTS = 5  # maximum number of redirects of a request


#: The API generation of the account. `today`: an analysis takes a video object and can run as a task. `2025`:
#: an analysis takes the id of an indexed video, and there are no analysis tasks.
Generation = Literal["today", "2025"]


class BaseClient:
    """The connection to the API at one address, with one key, inside one event loop."""

    def __init__(self, settings: Settings, *, base_url: str, limiter: Limiter | None = None) -> None:
        if settings.api_key and not (settings.api_key.isascii() and settings.api_key.isprintable()):
            raise SettingsError(
                "the API key contains invalid characters (pasted with a line break?); set TL_API_KEY again"
            )
        self.settings = settings
        self.base_url = base_url.rstrip("/")
        self.key = settings.key_for(self.base_url)
        self.api_version: str | None = None  # from the latest response
        # The HTTP libraries take a fifth of a second to import, which registering functions does not need.
        from tl_data.client.transport import Transport

        self.transport = Transport(settings.timeout, self.key)
        self.buckets = Buckets(settings.signed_url_hours)
        self.deprecated_endpoints: set[str] = set()  # endpoints that returned 410
        self.updates_videos_with_put = False  # whether the server supports PUT, not PATCH, for a video
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
        """Close all connections. Calling it again has no effect."""
        if self._limiter:
            await self._limiter.aclose()
        await self.transport.aclose()

    async def send(self, request: Request) -> Json:
        """Send a request and return the JSON object of the response, {} for an empty body.

        Raises:
            APIError: the request failed, and retries are exhausted or do not apply.
            MediaRefused: the API rejected the video itself, such as its duration or resolution.
        """

        async def attempt() -> Json:
            answer = await self._attempt(request)
            value = decoded(answer.body)
            if value is None:
                raise unreadable(answer.status, answer.headers, answer.body, str(request))
            self.note_usage(value.get("usage"))
            return value

        return await with_retries(attempt, request.repeat, self.settings)

    async def send_lines(self, request: Request) -> list[Json]:
        """Send a request and return the objects of a JSON Lines response, in order. Raises as `send` does."""

        async def attempt() -> list[Json]:
            answer = await self._attempt(request)
            lines = [decoded(line) for line in answer.body.splitlines() if line.strip()]
            if None in lines:
                raise unreadable(answer.status, answer.headers, answer.body, str(request))
            return [line for line in lines if line]

        return await with_retries(attempt, request.repeat, self.settings)

    async def create(self, request: Request, id_name: str = "_id") -> Json:
        """Send a request that creates a resource and return the response, which contains its id.

        Raises:
            ServerFailed: the response has no id. `maybe_done` is set: the resource may exist.
        """
        answer = await self.send(request)
        if not answer.get(id_name):
            failed = ServerFailed(f"the response to {request} has no {id_name}", "answer_unreadable", 200)
            failed.maybe_done = True
            raise failed
        return answer

    async def delete(self, route: str) -> None:
        """Send a DELETE. A 404 after a lost response is success: the lost attempt deleted the resource."""
        try:
            await self.send(Request("DELETE", route))
        except APIError as error:
            if not (isinstance(error, NotFound) and error.maybe_done):
                raise

    async def pages(self, path: str, query: Mapping[str, Any]) -> AsyncIterator[Json]:
        """Iterate over a paginated list. An item that moves to a later page during this is yielded once."""
        page = int(query.get("page") or 1)
        seen: set[str] = set()
        while True:
            limit = query.get("page_limit") or PAGE
            answer = await self.send(Request("GET", path, {**query, "page": page, "page_limit": limit}))
            items = answer.get("data") or []
            for item in items:
                name = item.get("_id") or item.get("task_id") or item.get("batch_id")
                if name is None or name not in seen:
                    seen.add(name)
                    yield item
            last = (answer.get("page_info") or {}).get("total_page")
            # Some servers report total_page 0 although a page has items; that number is ignored.
            if not items or (isinstance(last, int) and last and page >= last):
                return
            page += 1

    @asynccontextmanager
    async def streaming(self, request: Request) -> AsyncIterator[Stream]:
        """Send a request and read the response body as it arrives. There are no retries once it begins."""

        async def attempt() -> tuple[Any, Stream]:
            signed = await self._acquire(request)
            exchange = self.transport.stream(
                request.method, self.base_url + request.target, self._headers(request), signed.content
            )
            with _request_span(request) as request_span:
                stream = await exchange.__aenter__()
                _record_status(request_span, request, stream.status)
            try:
                if not 200 <= stream.status < 300:
                    body = b"".join([chunk async for chunk in stream.chunks])
                    raise self._error(request, self.transport.response(stream, body))
                self._observe(request, stream.status, stream.headers)
            except BaseException:
                await exchange.__aexit__(None, None, None)
                raise
            return exchange, stream

        exchange, stream = await with_retries(attempt, request.repeat, self.settings)
        try:
            yield stream
        finally:
            await exchange.__aexit__(None, None, None)

    async def _attempt(self, request: Request) -> Response:
        """Send a request once. A redirect within the same host is followed."""
        signed = await self._acquire(request)
        with _request_span(request) as request_span:
            return await self._exchange(request, signed, request_span)

    async def _exchange(self, request: Request, signed: Request, request_span: Span) -> Response:
        url = self.base_url + request.target
        for _ in range(REDIRECTS):
            answer = await self.transport.send(
                request.method,
                url,
                self._headers(request),
                signed.form or signed.content,
                fresh=request.repeat is Repeat.NEVER,
            )
            if answer.status not in (301, 302, 303, 307, 308):
                break
            url = self._redirect_target(request, url, answer)
        _record_status(request_span, request, answer.status)
        if not 200 <= answer.status < 300:
            raise self._error(request, answer)
        self._observe(request, answer.status, answer.headers)
        return answer

    async def _acquire(self, request: Request) -> Request:
        """Wait for the rate limits, sign the addresses of objects in buckets, and count the call.

        Returns the request to send.
        """
        if self._limiter:
            await self._limiter.acquire(
                request.category, video_minutes=request.video_minutes, tokens=request.tokens
            )
        signed = await self._signed(request)  # may fail: nothing is in flight then
        if request.category != "read":
            mark_in_flight(True)
        current().calls += 1
        return signed

    async def _signed(self, request: Request) -> Request:
        """Replace the addresses of objects in buckets by signed URLs, directly before the request is sent."""
        signed = {address: await self.buckets.sign("GET", address) for address in request.bucket_addresses()}
        return request.with_addresses(signed) if signed else request

    def _observe(
        self, request: Request, status: int, headers: Mapping[str, str], retry_after: float | None = None
    ) -> None:
        self.api_version = headers.get("x-api-version") or self.api_version
        current().request_id = request_id_of(headers) or current().request_id
        if self._limiter:
            self._limiter.observe(request.category, headers, status, retry_after)

    def _error(self, request: Request, answer: Response) -> TLDataError:
        """The exception for a response that is not 2xx, with the values of the parameters that it names."""
        error = error_from(answer.status, answer.headers, answer.body, str(request))
        if isinstance(error, BadRequest):
            values = _sent_values(request, error.message)
            if is_shape_refusal(error.code, error.message):
                values = f"{values} {SHAPE_ADVICE}"
            error.message += values
        wait = error.retry_after if isinstance(error, APIError) else wait_hint(answer.headers)
        self._observe(request, answer.status, answer.headers, wait)
        return error

    def _redirect_target(self, request: Request, url: str, answer: Response) -> str:
        """The URL of a redirect.

        Raises:
            BadRequest: the host or the method would change, or HTTPS would become HTTP.
        """
        target = urljoin(url, answer.headers.get("location", ""))
        same_host = urlsplit(target).hostname == urlsplit(url).hostname
        keeps_https = not url.startswith("https:") or target.startswith("https:")
        if same_host and keeps_https and (request.method == "GET" or answer.status in (307, 308)):
            return target
        raise BadRequest(
            f"{request} was redirected to {redacted(target)}. A redirect to another host, from HTTPS to HTTP "
            "or with another method is not followed. If this is the new address of the API, set TL_BASE_URL "
            "to it",
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
        """Add the tokens reported in a response to the usage of the current call."""
        if isinstance(usage, dict):
            receipt = current()
            receipt.input_tokens += _tokens(usage.get("input_tokens"))
            receipt.output_tokens += _tokens(usage.get("output_tokens"))


def _tokens(count: object) -> int:
    """A number of tokens, which Marengo 3.5 reports as an object with a number per modality."""
    if isinstance(count, dict):
        return sum(_tokens(each) for each in count.values())
    return int(count) if isinstance(count, int | float) else 0


def _sent_values(request: Request, message: str) -> str:
    """A sentence with the sent values of the parameters that an error message names.

    "" if the message names no parameter, or contains the values itself.
    """
    match = _PARAMETERS.search(message)
    if not match or "You sent" in message:
        return ""
    names = [name.strip() for name in (match[1] or match[2]).split(",")]
    values = {name: [redacted(repr(value)) for value in request.sent(name)] for name in names}
    pairs = [
        f"{name} = {text if len(text) <= VALUE_CHARS else text[:VALUE_CHARS] + '...'}"
        for name, texts in values.items()
        for text in texts
    ]
    return f" The request contained {', '.join(pairs)}." if pairs else ""


def _request_span(request: Request) -> AbstractContextManager[Span]:
    """The telemetry span of one request. Its name contains no ids, so that spans can be grouped by name."""
    route = request.path.split("/")[1]
    attributes = {"http.request.method": request.method, "url.path": request.path}
    return span(f"{request.method} /{route}", remote=True, category=request.category, attributes=attributes)


def _record_status(request_span: Span, request: Request, status: int) -> None:
    request_span.set_attributes({"http.response.status_code": status})
    if status >= 400:
        request_span.fail(f"{request}: HTTP {status}")
    count("tl_data.api.calls", 1, category=request.category, status=str(status))
