"""The session: what every catalog function works with. Client, ledger, and the videos of an index.

A `video` argument is a URL, a local path or a video id. A URL or path is indexed once, through the ledger,
into the session's index, and then used by its id.
"""

from __future__ import annotations

import asyncio
import difflib
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from tl_data.client import Client
from tl_data.client.local_server import Models, made_by
from tl_data.client.responses import seconds_of, video_record
from tl_data.client.task_poller import TaskWatcher
from tl_data.errors import APIError, BadRequest, MediaRefused, MissingExtra, NotFound, TaskFailed
from tl_data.ledger.ledger import Ledger
from tl_data.ledger.models import Billed, Call, Entry
from tl_data.ledger.recovery import METADATA_KEY as METADATA_KEY
from tl_data.ledger.recovery import indexing_task, source_of
from tl_data.media.identity import Identity, identify
from tl_data.media.preflight import facts_of
from tl_data.runtime.durations import Lengths
from tl_data.settings import Settings
from tl_data.usage import about, current

Json = dict[str, Any]

_ID = re.compile(r"[0-9a-f]{24}")


class Session:
    """Everything a call needs, inside one event loop."""

    def __init__(
        self, settings: Settings, client: Client, ledger: Ledger, models: Models | None = None
    ) -> None:
        self.settings = settings
        self.client = client
        self.ledger = ledger
        self.watcher = TaskWatcher(client, settings)
        self.models = models  # of the engine on this machine, if it answers and not the service
        self.search_model = settings.search_model or (models.search if models else "marengo3.0")
        self.analyze_model = settings.analyze_model or (models.analyze if models else "pegasus1.2")
        self.embed_model = self.search_model
        self.vectors_by = made_by(self.search_model, models.search if models else None)  # in tables
        self.texts_by = made_by(self.analyze_model, models.analyze if models else None)
        self.embedded = models is not None
        self.arrived = 0  # videos that became ready while they were waited for here
        self._indexes: dict[str, str] = {}
        self.lengths = Lengths()
        self._creating = asyncio.Lock()

    async def aclose(self) -> None:
        """Close the connections and end what runs in the background."""
        await self.watcher.aclose()
        await self.ledger.aclose()
        await self.client.aclose()

    async def index_id(self, index: str | None = None, *, create: bool = False) -> str:
        """The id of an index given by name or id; None is the session's own.

        Raises:
            NotFound: no index has this name (and `create` is False); the most alike ones are named.
        """
        index = index or self.settings.index
        if _ID.fullmatch(index):
            return index
        if known := self._indexes.get(index):
            return known
        async with self._creating:
            if known := self._indexes.get(index):
                return known
            async for found in self.client.list_indexes(index_name=index):
                if found.get("index_name") == index:
                    return self._indexes.setdefault(index, found["_id"])
            if not create:
                names = [str(found.get("index_name")) async for found in self.client.list_indexes()]
                raise NotFound(
                    f"no index is called {index!r}; {_there_are(index, names)}. Index a video into it first: "
                    f"tl-data index-video URL --index-id {index}",
                    "resource_not_exists",
                )
            return self._indexes.setdefault(index, await self._create_index(index))

    async def _create_index(self, name: str) -> str:
        options = ["visual", "audio"]
        models = [{"model_name": self.search_model, "model_options": options}]
        if self.analyze_model != self.search_model:
            models.append({"model_name": self.analyze_model, "model_options": options})
        try:
            return await self.client.create_index(name, models, addons=["thumbnail"])
        except BadRequest as refused:
            # The service stopped taking Pegasus in indexes in 2026; analysis works without it since.
            if len(models) == 1 or refused.code != "parameter_invalid":
                raise
            return await self.client.create_index(name, models[:1], addons=["thumbnail"])

    @staticmethod
    def is_id(video: str) -> bool:
        """Whether a `video` argument is an id rather than a URL or path."""
        return bool(_ID.fullmatch(video))

    def embedding_option(self, option: str) -> str:
        """The name the session's model has for a kind of evidence: Marengo 2.7 says `visual-text`."""
        return "visual-text" if option == "visual" and self.search_model.endswith("2.7") else option

    async def retrieve_video(self, video_id: str, index_id: str | None = None) -> Json:
        """The record of an indexed video given by id; costs nothing."""
        index = await self.index_id(index_id)
        found = await self.client.retrieve_video(index, video_id)
        self.lengths.keep(video_id, seconds_of(found))
        return video_record(found, index, None)

    async def video(self, video: str, index_id: str | None = None) -> Json:
        """The indexed video behind a URL, path or id, as a record of type `types.VIDEO`."""
        if self.is_id(video):
            return {"video_id": video, "index_id": await self.index_id(index_id)}
        return await self.index_video(video, index_id)

    async def index_video(self, video: str, index_id: str | None = None, **options: Any) -> Json:
        """Index a URL or path once, however often and from wherever it is asked for.

        Raises:
            MediaRefused: it cannot be reached, is not a video, or breaks a limit of the model.
            TaskFailed: the platform took it and gave up on it.
            APIError: the platform refused it or could not be reached.
        """
        call, entry = await self.submit_video(video, index_id, **options)
        record = await self.collect_video(call, entry)
        for name in (video, record["video_id"]):
            self.lengths.keep(name, record.get("duration_sec"))
        return record

    async def submit_video(
        self,
        video: str,
        index_id: str | None = None,
        *,
        user_metadata: Mapping[str, Any] | None = None,
        enable_video_stream: bool | None = None,
        identity: Identity | None = None,
        seconds: float | None = None,
    ) -> tuple[Call, Entry]:
        """Make sure that an indexing task exists for this content; do not wait for it.

        The options are used when the content is new to the index; they are no part of what it is. An
        identity that is known already saves asking for it; a known length in seconds counts towards the
        limits of video minutes, and saves reading it from the file's header where such a limit is set.
        """
        identity = identity or await identify(self.client, video)
        index = await self.index_id(index_id, create=True)
        call = self.index_call(identity, index, seconds)
        created: str | None = None

        async def send() -> str:
            nonlocal created
            length = await self.header_seconds(video) if seconds is None else seconds
            task = await self.client.create_task(
                index,
                user_metadata={**(user_metadata or {}), METADATA_KEY: call.key},
                enable_video_stream=enable_video_stream,
                video_minutes=length / 60,
                **source_of(video),
            )
            created = task.get("created_at")
            return str(task["_id"])

        async def find() -> str | None:
            return await indexing_task(self.client, self.watcher, index, call.key)

        current().model = self.vectors_by
        entry = await self.ledger.submit(call, send, find)
        return call, entry if entry.reused else replace(entry, created_at=created)

    async def header_seconds(self, video: str) -> float:
        """The length by the file's header, if a limit of video minutes is set; 0 where it cannot be told."""
        if self.settings.video_minutes_per_hour is None and self.settings.video_minutes_per_day is None:
            return 0.0
        with suppress(MissingExtra, MediaRefused, APIError):  # the platform's own look decides
            return (await facts_of(self.client, video)).duration_sec or 0.0
        return 0.0

    def index_call(self, identity: Identity, index_id: str, seconds: float | None = None) -> Call:
        """The ledger's name for indexing this content, as long as its header says, into this index."""
        return Call(
            "index",
            identity.content_key,
            {"index_id": index_id},
            self.search_model,
            content=identity.canonical,
            video_minutes=(seconds or 0.0) / 60,
        )

    async def collect_video(self, call: Call, entry: Entry) -> Json:
        """Wait for a submitted video and keep its record in the ledger."""
        if entry.state == "done":
            return dict(entry.result)
        task_id, index = str(entry.task_id), str(call.params["index_id"])
        try:
            task = await self.watcher.wait(task_id, index, since=entry.created_at)
            found = await self.client.retrieve_video(index, str(task["video_id"]))
        except (TaskFailed, NotFound) as failed:
            await self.ledger.fail(call, failed)
            raise
        record = video_record(found, index, task_id)
        minutes = float(record["duration_sec"] or 0.0) / 60
        self.arrived += 1
        await self.ledger.finish(call, record, video_minutes=minutes)
        if not entry.reused:
            current().video_minutes += minutes - call.video_minutes  # more than was noted when it was sent
        return record

    async def once(
        self,
        operation: str,
        video: Mapping[str, Any],
        params: Mapping[str, Any],
        do: Callable[[], Awaitable[Any]],
    ) -> Any:
        """A paid call about an indexed video whose answer is kept in the ledger and never paid for again.

        `video` is a record as `video()` gives it; analysis is billed by its length.
        """
        current().model = self.texts_by
        seconds = video.get("duration_sec")
        call = self.paid_call(operation, str(video["video_id"]), params, float(seconds or 0.0))

        async def measured() -> Billed:  # an id says nothing of the length: it is asked for before it is paid
            length = seconds
            if length is None:
                length = await self._seconds(str(video["video_id"]), str(video["index_id"]))
            minutes = float(length) / 60
            with about(minutes):
                return Billed(await do(), minutes)

        return (await self.ledger.once(call, measured)).result

    async def _seconds(self, video_id: str, index_id: str) -> float:
        """The length of an indexed video, for the bill; 0 where the platform does not tell it."""
        known = self.lengths.of(video_id)
        if known is None:
            try:
                found = await self.client.retrieve_video(index_id, video_id)
            except APIError:  # of another index, or gone: the call itself tells
                return 0.0
            known = float(seconds_of(found) or 0.0)
            self.lengths.keep(video_id, known)
        return known

    def paid_call(
        self, operation: str, video_id: str, params: Mapping[str, Any], seconds: float = 0.0
    ) -> Call:
        """The ledger's name for a paid call about an indexed video."""
        given = {name: value for name, value in params.items() if value is not None}
        return Call(
            operation,
            f"video:{video_id}",
            given,
            self.analyze_model,
            content=f"video {video_id}",
            video_minutes=seconds / 60,
        )


def _there_are(index: str, names: list[str]) -> str:
    """The indexes that there are, the most alike first: a name may be misspelt, or one of hundreds."""
    if not names:
        return "there is none yet"
    alike = difflib.get_close_matches(index, names, 3)
    shown = [*alike, *(name for name in names if name not in alike)][:20]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return f"there are {', '.join(shown)}{more}"
