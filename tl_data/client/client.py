"""The client of the API: every operation as an async method, under the API's own parameter names.

Dicts come back as the API sends them (ids in `_id`); unknown fields are kept, and no field is insisted on.
This file says how a call is made: limiter, retries, receipt and errors around one exchange of bytes.
What the calls are is said topic by topic in the files beside it.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urljoin, urlsplit

from tl_data.client import analyze as analysis
from tl_data.client import embed as embeddings
from tl_data.client import indexes, tasks
from tl_data.client import search as searches
from tl_data.client.request import Ask, Json
from tl_data.client.responses import decoded, error_from, request_id_of, unreadable, wait_hint
from tl_data.client.retry import Repeat, persist
from tl_data.client.transport import Answer, Stream, Wire
from tl_data.errors import APIError, BadRequest, ServerFailed, SettingsError, TLDataError
from tl_data.media import remote
from tl_data.runtime.shutdown import under_way
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


class Client:
    """The API at one address, with one key, inside one event loop.

        async with Client(settings, base_url=SERVICE_URL) as client:
            async for index in client.list_indexes():
                ...

    Every method raises the classes of `tl_data.errors`; None means "not given" for every option.
    """

    create_index = indexes.create_index
    list_indexes = indexes.list_indexes
    retrieve_index = indexes.retrieve_index
    update_index = indexes.update_index
    delete_index = indexes.delete_index
    list_videos = indexes.list_videos
    retrieve_video = indexes.retrieve_video
    update_video = indexes.update_video
    delete_video = indexes.delete_video
    create_task = tasks.create_task
    list_tasks = tasks.list_tasks
    retrieve_task = tasks.retrieve_task
    delete_task = tasks.delete_task
    create_import = tasks.create_import
    import_status = tasks.import_status
    import_logs = tasks.import_logs
    search = searches.search
    analyze = analysis.analyze
    analyze_stream = analysis.analyze_stream
    gist = analysis.gist
    summarize = analysis.summarize
    embed = embeddings.embed
    create_embed_task = embeddings.create_embed_task
    list_embed_tasks = embeddings.list_embed_tasks
    retrieve_embed_task = embeddings.retrieve_embed_task
    embed_task_status = embeddings.embed_task_status
    probe_url = remote.probe_url
    read_range = remote.read_range

    def __init__(self, settings: Settings, *, base_url: str, limiter: Limiter | None = None) -> None:
        if settings.api_key and not (settings.api_key.isascii() and settings.api_key.isprintable()):
            raise SettingsError(
                "the API key holds characters that no key has; was it pasted with a line break?"
            )
        self.settings = settings
        self.base_url = base_url.rstrip("/")
        self.api_version: str | None = None  # as the API last said it
        self.wire = Wire(settings.timeout, settings.api_key)
        self.withdrawn: set[str] = set()  # endpoints that answered 410
        self.puts_videos = False  # the server knows PUT, not PATCH, for a video
        self._limiter = limiter

    def __repr__(self) -> str:
        return f"Client({self.base_url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections; a second time does nothing."""
        if self._limiter:
            await self._limiter.aclose()
        await self.wire.aclose()

    async def ask(self, ask: Ask) -> Json:
        """The JSON object of the answer, {} for an empty one.

        Raises:
            APIError: the API refused, failed or did not answer, after everything that repeating can do.
            MediaRefused: the API refused the video for what it is.
        """

        async def attempt() -> Json:
            answer = await self._sent(ask)
            value = decoded(answer.body)
            if value is None:
                raise unreadable(answer.status, answer.headers, answer.body, str(ask))
            self.note_usage(value.get("usage"))
            return value

        return await persist(attempt, ask.repeat, self.settings)

    async def create(self, ask: Ask) -> Json:
        """The answer to a request that makes something; it holds the `_id` of what was made.

        Raises:
            ServerFailed: there is no `_id` in it; what was asked for may exist all the same.
        """
        answer = await self.ask(ask)
        if not answer.get("_id"):
            failed = ServerFailed(f"{ask} was answered without an _id", "answer_unreadable", 200)
            failed.maybe_done = True
            raise failed
        return answer

    async def pages(self, path: str, query: Mapping[str, Any]) -> AsyncIterator[Json]:
        """The items of a listing with numbered pages, each once, even if it grows while it is read."""
        page = int(query.get("page") or 1)
        seen: set[str] = set()
        while True:
            limit = query.get("page_limit") or PAGE
            answer = await self.ask(Ask("GET", path, {**query, "page": page, "page_limit": limit}))
            items = answer.get("data") or []
            for item in items:
                name = item.get("_id")
                if name is None or name not in seen:
                    seen.add(name)
                    yield item
            last = (answer.get("page_info") or {}).get("total_page")
            # A page with items is not the last of none: such a count is not believed.
            if not items or (isinstance(last, int) and last and page >= last):
                return
            page += 1

    @asynccontextmanager
    async def streaming(self, ask: Ask) -> AsyncIterator[Stream]:
        """An answer read as it comes. Retried until it begins, not afterwards."""

        async def attempt() -> tuple[Any, Stream]:
            await self._admitted(ask)
            exchange = self.wire.stream(
                ask.method, self.base_url + ask.target, self._headers(ask), ask.content
            )
            with _told(ask) as told:
                stream = await exchange.__aenter__()
                _tell(told, ask, stream.status)
            try:
                if not 200 <= stream.status < 300:
                    body = b"".join([chunk async for chunk in stream.chunks])
                    raise self._judged(ask, Answer(stream.status, stream.headers, body))
                self._observed(ask, stream.status, stream.headers)
            except BaseException:
                await exchange.__aexit__(None, None, None)
                raise
            return exchange, stream

        exchange, stream = await persist(attempt, ask.repeat, self.settings)
        try:
            yield stream
        finally:
            await exchange.__aexit__(None, None, None)

    async def _sent(self, ask: Ask) -> Answer:
        """One attempt; a redirect within the same host is followed."""
        await self._admitted(ask)
        with _told(ask) as told:
            return await self._answered(ask, told)

    async def _answered(self, ask: Ask, told: Span) -> Answer:
        url = self.base_url + ask.target
        for _ in range(REDIRECTS):
            answer = await self.wire.send(
                ask.method,
                url,
                self._headers(ask),
                ask.form or ask.content,
                fresh=ask.repeat is Repeat.NEVER,
            )
            if answer.status not in (301, 302, 303, 307, 308):
                break
            url = self._moved(ask, url, answer)
        _tell(told, ask, answer.status)
        if not 200 <= answer.status < 300:
            raise self._judged(ask, answer)
        self._observed(ask, answer.status, answer.headers)
        return answer

    async def _admitted(self, ask: Ask) -> None:
        if self._limiter:
            await self._limiter.acquire(ask.category, video_minutes=ask.video_minutes, tokens=ask.tokens)
        if ask.category != "read":
            under_way(True)
        current().calls += 1

    def _observed(
        self, ask: Ask, status: int, headers: Mapping[str, str], retry_after: float | None = None
    ) -> None:
        self.api_version = headers.get("x-api-version") or self.api_version
        current().request_id = request_id_of(headers) or current().request_id
        if self._limiter:
            self._limiter.observe(ask.category, headers, status, retry_after)

    def _judged(self, ask: Ask, answer: Answer) -> TLDataError:
        error = error_from(answer.status, answer.headers, answer.body, str(ask))
        if isinstance(error, BadRequest):
            error.message += _values(ask, error.message)
        wait = error.retry_after if isinstance(error, APIError) else wait_hint(answer.headers)
        self._observed(ask, answer.status, answer.headers, wait)
        return error

    def _moved(self, ask: Ask, url: str, answer: Answer) -> str:
        """Where a redirect leads, if the key may go there and the method survives it."""
        target = urljoin(url, answer.headers.get("location", ""))
        same_host = urlsplit(target).hostname == urlsplit(url).hostname
        safer = not url.startswith("https:") or target.startswith("https:")
        if same_host and safer and (ask.method == "GET" or answer.status in (307, 308)):
            return target
        raise BadRequest(
            f"{ask} was redirected to {redacted(target)}, where the key is not sent. "
            "If that is the API's new address, set TL_BASE_URL to it",
            "redirected",
            answer.status,
            request_id_of(answer.headers),
        )

    def _headers(self, ask: Ask) -> dict[str, str]:
        headers = {"accept": "application/json"}
        if self.settings.api_key:
            headers["x-api-key"] = self.settings.api_key
        if ask.json is not None:
            headers["content-type"] = "application/json"
        return headers

    def note_usage(self, usage: object) -> None:
        """Add the tokens an answer says it used to the receipt of the running call."""
        if isinstance(usage, dict):
            receipt = current()
            receipt.input_tokens += int(usage.get("input_tokens") or 0)
            receipt.output_tokens += int(usage.get("output_tokens") or 0)


def _values(ask: Ask, message: str) -> str:
    """The values sent of the parameters that a refusal names, unless it shows them itself."""
    found = _PARAMETERS.search(message)
    if not found or "You sent" in message:
        return ""
    names = [name.strip() for name in (found[1] or found[2]).split(",")]
    values = {name: [redacted(repr(value)) for value in ask.sent(name)] for name in names}
    shown = [
        f"{name} = {text if len(text) <= VALUE else text[:VALUE] + '...'}"
        for name, texts in values.items()
        for text in texts
    ]
    return f" Sent was {', '.join(shown)}." if shown else ""


def _told(ask: Ask) -> AbstractContextManager[Span]:
    """The span of one request. Its name is a route, as names must be few; the path holds ids."""
    route = ask.path.split("/")[1]
    facts = {"http.request.method": ask.method, "url.path": ask.path}
    return span(f"{ask.method} /{route}", remote=True, category=ask.category, said=facts)


def _tell(told: Span, ask: Ask, status: int) -> None:
    told.say({"http.response.status_code": status})
    if status >= 400:
        told.fail(f"{ask}: HTTP {status}")
    count("tl_data.api.calls", 1, category=ask.category, status=str(status))
