"""The session: the client, ledger, videos and analyses that every catalog function uses.

A `video` argument is a URL, a local path, the id of an indexed video or the id of an asset. Functions that
need an index (clips, search) index a URL or path into the session's index. The ledger ensures that it is paid
only once. Texts need no index if the account analyzes URLs and assets directly.
"""

from __future__ import annotations

import asyncio
import difflib
import re
import tempfile
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tl_data.analysis import WHOLE, Analyses, TextRequest, TextResult, VideoRef, Window, parts_of
from tl_data.client import Client
from tl_data.client.assets import DIRECT
from tl_data.client.local_server import Models, made_by
from tl_data.client.responses import seconds_of, video_record
from tl_data.client.task_poller import TaskWatcher
from tl_data.errors import (
    APIError,
    BadRequest,
    MediaRefused,
    MissingExtra,
    NotFound,
    StillRunning,
    TaskFailed,
)
from tl_data.ledger.contents import Contents
from tl_data.ledger.ledger import Ledger
from tl_data.ledger.models import Call, Entry
from tl_data.ledger.recovery import (
    INDEXED_ASSET,
    forget_upload,
    is_withdrawn,
    lost_asset,
    lost_indexing,
    source_of,
    upload,
)
from tl_data.ledger.recovery import METADATA_KEY as METADATA_KEY
from tl_data.media.identity import Identity, identify, is_url, local_path
from tl_data.media.preflight import Lengths, facts_of
from tl_data.models import (
    GB,
    SEARCH_MODEL,
    SEARCH_MODEL_2025,
    SearchModel,
    search_model,
    text_model,
)
from tl_data.settings import Settings
from tl_data.urls import is_bucket
from tl_data.usage import current

Json = dict[str, Any]
Slots = AbstractAsyncContextManager[object]  # limits concurrent calls, as a semaphore does

TASK_BYTES = 2 * GB  # largest file that POST /tasks accepts; assets may be larger

RECHECK = 10.0  # seconds between two requests for an index that does not exist
MAX_LISTED = 20_000  # largest number of cached videos of listings

#: An id of the platform.
PLATFORM_ID = re.compile(r"[0-9a-f]{24}")


class Session:
    """The resources that calls share, within one event loop."""

    def __init__(
        self, settings: Settings, client: Client, ledger: Ledger, models: Models | None = None
    ) -> None:
        self.settings = settings
        self.client = client
        self.ledger = ledger
        self.watcher = TaskWatcher(client, settings)
        self.models = models  # of the embedded engine; None for the service and for strict profiles
        if models is not None:
            client.generation = "today"  # the embedded engine supports every request of today's API
        self.search_model = settings.search_model or (models.search if models else self._default_search())
        self.analyses = Analyses(
            client, ledger, self.watcher, settings.analyze_model or (models.analyze if models else None)
        )
        self.embed_model = self.search_model
        #: The model of vectors, as tables name it.
        self.vectors_by = made_by(self.search_model, models.search if models else None)
        self.embedded = models is not None
        self.arrived = 0  # videos that became ready while this session waited
        self.direct_bytes = DIRECT  # a larger file is uploaded in parts
        self._indexes: dict[str, str] = {}  # name of an index -> its id
        self.lengths = Lengths()
        self._creating, self._reading_models = asyncio.Lock(), asyncio.Lock()
        self._absent_until = 0.0  # `time.monotonic` until which the session's index is taken as absent
        self._tasks_gone = self._assets_gone = False  # whether the server has withdrawn /tasks, /assets
        self._contents = Contents(ledger.storage, likely=settings.same_content == "likely")
        client.host_headers  # noqa: B018 - reads the file of headers, so that an invalid one fails here
        self._refs: dict[tuple[str, str], VideoRef] = {}
        #: References to the videos of recent listings, by index id and video id.
        self._listed: OrderedDict[tuple[str, str], VideoRef] = OrderedDict()
        self._index_models: dict[str, list[str]] = {}  # id of an index -> its models
        self.without_transcription: set[str] = set()  # indexes that refused this option of a search

    def _default_search(self) -> str:
        return SEARCH_MODEL_2025 if self.client.generation == "2025" else SEARCH_MODEL

    @property
    def analyze_model(self) -> str:
        """The model that writes texts."""
        return self.analyses.model

    @property
    def texts_by(self) -> str:
        """The model that writes texts, as tables name it."""
        return made_by(self.analyze_model, self.models.analyze if self.models else None)

    async def aclose(self) -> None:
        """Close the connections and stop background work."""
        await self.analyses.aclose()
        await self.watcher.aclose()
        await self.ledger.aclose()
        await self.client.aclose()

    async def index_id(self, index: str | None = None, *, create: bool = False) -> str:
        """The id of an index.

        Args:
            index: its name or id; None is the session's index.
            create: whether to create an index that does not exist.

        Raises:
            NotFound: no index has this name and `create` is False; the message lists similar names.
        """
        index = index or self.settings.index
        if known := self._known_index(index):
            return known
        async with self._creating:
            if known := self._known_index(index) or await self._list_index(index):
                return known
            if not create:
                names = [str(record.get("index_name")) async for record in self.client.list_indexes()]
                raise NotFound(
                    f"index {index!r} not found; {_existing_indexes(index, names)}. Index a video into it "
                    f"first: tl-data index-video URL --index-id {index}",
                    "resource_not_exists",
                )
            return self._indexes.setdefault(index, await self._create_index(index))

    async def find_index(self, index: str | None = None) -> str | None:
        """The id of an index by its name or id; None if no index has this name. It takes one request."""
        index = index or self.settings.index
        if known := self._known_index(index):
            return known
        async with self._creating:
            return self._known_index(index) or await self._list_index(index)

    def _known_index(self, index: str) -> str | None:
        return index if PLATFORM_ID.fullmatch(index) else self._indexes.get(index)

    async def _list_index(self, name: str) -> str | None:
        async for record in self.client.list_indexes(index_name=name):
            if record.get("index_name") == name:
                self._note_models(record)
                return self._indexes.setdefault(name, str(record["_id"]))
        return None

    async def _create_index(self, name: str) -> str:
        """Create an index with the models that the account needs, and return its id."""
        options = ["visual", "audio"]
        search = {"model_name": self.search_model, "model_options": options}
        may_have_text_model = self.client.generation == "2025" or self.models is not None
        models = [search]
        if may_have_text_model and self.analyze_model != self.search_model:
            # An account of 2025 needs the text model in the index for analyses. Other accounts refuse it.
            models.append({"model_name": self.analyze_model, "model_options": options})
        try:
            index_id = await self.client.create_index(name, models, addons=["thumbnail"])
        except BadRequest as refused:
            if refused.code != "parameter_invalid" or models == [search]:
                raise
            models = [search]
            index_id = await self.client.create_index(name, models, addons=["thumbnail"])
        self._note_models({"_id": index_id, "models": models})
        return index_id

    async def index_models(self, index_id: str) -> list[str]:
        """The names of an index's models; requested once."""
        async with self._reading_models:
            if index_id not in self._index_models:
                self._note_models({"_id": index_id, **await self.client.retrieve_index(index_id)})
            return self._index_models[index_id]

    def _note_models(self, index: Json) -> None:
        # The embedded engine returns its own model name, and in `requested_as` the requested name.
        models = index.get("models") or []
        names = [str(model.get("requested_as") or model.get("model_name")) for model in models]
        self._index_models[str(index["_id"])] = names

    def search_options(self, index_id: str, model: SearchModel | None) -> list[str]:
        """The default search options of an index: all that it supports."""
        options = list(model.options if model is not None else ("visual", "audio"))
        return [o for o in options if o != "transcription" or index_id not in self.without_transcription]

    async def index_search_model(self, index_id: str) -> SearchModel | None:
        """The search model of an index; None if it is not in `models`, such as the embedded engine's."""
        rows = [row for name in await self.index_models(index_id) if (row := search_model(name))]
        return rows[0] if rows else None

    async def index_vectors(self, index_id: str) -> list[str]:
        """The embedding options of an index, such as visual and audio. Its videos have vectors of each."""
        model = await self.index_search_model(index_id)
        return list(model.vectors if model else map(self.embedding_option, ("visual", "audio")))

    @staticmethod
    def is_id(video: str) -> bool:
        """Whether a `video` argument is an id rather than a URL or path."""
        return bool(PLATFORM_ID.fullmatch(video))

    def embedding_option(self, option: str) -> str:
        """The search model's name for an embedding option: Marengo 2.7 names `visual` `visual-text`."""
        return "visual-text" if option == "visual" and self.search_model.endswith("2.7") else option

    async def retrieve_video(self, video_id: str, index_id: str | None = None) -> Json:
        """The record of an indexed video by id; free of charge."""
        index = await self.index_id(index_id)
        answer = await self.client.retrieve_video(index, video_id)
        self.lengths.keep(video_id, seconds_of(answer))
        return video_record(answer, index, None)

    async def identify(self, video: str, *, record: bool = True) -> Identity:
        """The identity of a URL or path.

        If a digest shows that another URL has the same content, both have the content key of the first one.

        Args:
            record: whether to write a new content key to the ledger's storage, for all processes; False for a
                plan, which writes nothing.

        Raises:
            MediaRefused, APIError: as for `media.identity.identify`.
            LedgerError: the ledger's store cannot be used.
        """
        identity = await identify(self.client, video, self.settings.signing_parameters)
        if identity.former_key and (index := await self._existing_index()) is not None:
            former = replace(identity, content_key=identity.former_key)
            if await self.ledger.get(self.index_call(former, index)) is not None:
                return former
        return await self._contents.resolve(identity, record=record)

    @asynccontextmanager
    async def sendable(self, video: str) -> AsyncIterator[str]:
        """The video in a form that can be sent to the API.

        This is the video itself, or the path of a temporary local copy if the API cannot fetch its URL.

        Raises:
            MediaRefused, APIError: the file cannot be read.
        """
        if not is_url(video) or await self.client.can_be_fetched(video):
            yield video
            return
        with tempfile.TemporaryDirectory(prefix="tl_data_copy_") as folder:
            name = (
                video.rpartition("/")[2]
                if is_bucket(video)
                else unquote(urlsplit(video).path).rpartition("/")[2]
            )
            copy = Path(folder, name.replace("/", "_").replace("\0", "")[-100:] or "video.mp4")
            await self.client.download(video, copy)
            yield str(copy)

    async def video(self, video: str, index_id: str | None = None) -> Json:
        """The indexed video of a URL or path as a record of type `types.VIDEO`; of an id only its ids."""
        if self.is_id(video):
            return {"video_id": video, "index_id": await self.index_id(index_id)}
        return await self.index_video(video, index_id)

    async def index_video(self, video: str, index_id: str | None = None, **options: Any) -> Json:
        """Index a URL or path at most once, also across processes.

        Raises:
            MediaRefused: the file cannot be reached, is not a video, or exceeds a limit of the model.
            TaskFailed: the platform accepted the video and failed to index it.
            APIError: the platform refused the request or could not be reached.
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
        """Ensure that an indexing task exists for this content, without waiting for it.

        Args:
            user_metadata, enable_video_stream: options of a new video; not part of the ledger's key.
            identity: the identity of the video, if known; it saves a request.
            seconds: the length of the video, if known. It counts towards limits of video minutes. If it is
                None and such a limit is set, the header of the file is read.
        """
        identity = identity or await self.identify(video)
        index = await self.index_id(index_id, create=True)
        call = self.index_call(identity, index, seconds)
        created: str | None = None

        async def send() -> str:
            nonlocal created
            length = await self.header_seconds(video) if seconds is None else seconds
            options: Json = {
                "user_metadata": {**(user_metadata or {}), METADATA_KEY: call.key},
                "enable_video_stream": enable_video_stream,
                "video_minutes": length / 60,
            }
            asset_id = await self.asset_to_index(video, identity)
            if asset_id is None:
                try:
                    async with self.sendable(video) as sent:
                        task = await self.client.create_task(index, **options, **source_of(sent))
                    created = task.get("created_at")
                    return str(task["_id"])
                except (NotFound, BadRequest) as gone:
                    if not is_withdrawn(gone) or self._assets_gone:
                        raise
                    self._tasks_gone = True
                asset_id = str((await self.asset(video, identity))["_id"])
            try:
                indexed = await self.client.index_asset(index, asset_id, **options)
            except NotFound:
                await self.forget_asset(identity)
                raise
            return INDEXED_ASSET + str(indexed["_id"])

        async def find() -> str | None:
            return await lost_indexing(self.client, self.watcher, index, call.key)

        current().model = self.vectors_by
        entry = await self.ledger.submit(call, send, find)
        return call, entry if entry.reused else replace(entry, created_at=created)

    async def indexes_assets(self, video: str) -> bool:
        """Whether a video becomes an asset to be indexed, instead of being sent to /tasks.

        This is so if the server has withdrawn /tasks; on an account of today, unless the server has withdrawn
        /assets; and on the engine, if a local file is too large for /tasks.
        """
        if self._tasks_gone or self._assets_gone:
            return self._tasks_gone
        if self.models is None and await self.client.account_generation() == "today":
            return True
        if self.client.generation == "2025" or is_url(video):
            return False
        try:
            return (await asyncio.to_thread(local_path(video).stat)).st_size > TASK_BYTES
        except OSError:
            return False  # the file cannot be read: the upload raises the error

    async def asset_to_index(self, video: str, identity: Identity, slots: Slots | None = None) -> str | None:
        """The id of the ready asset from which a video is indexed; None if the video is sent to /tasks.

        `slots` is held while the asset is submitted, and not while it is awaited.

        Raises the errors of `asset`.
        """
        if not await self.indexes_assets(video):
            return None
        try:
            return str((await self.asset(video, identity, slots))["_id"])
        except (NotFound, BadRequest) as gone:
            if not is_withdrawn(gone) or self._tasks_gone:
                raise
            self._assets_gone = True
            return None

    async def header_seconds(self, video: str) -> float:
        """The length by the file's header; 0 if it is unknown, or if no limit of video minutes is set."""
        if self.settings.video_minutes_per_hour is None and self.settings.video_minutes_per_day is None:
            return 0.0
        with suppress(MissingExtra, MediaRefused, APIError):  # the platform checks the file
            return (await facts_of(self.client, video)).duration_sec or 0.0
        return 0.0

    def index_call(self, identity: Identity, index_id: str, seconds: float | None = None) -> Call:
        """The ledger's call for indexing this content into this index."""
        return Call(
            "index",
            identity.content_key,
            {"index_id": index_id},
            self.search_model,
            content=identity.canonical,
            video_minutes=(seconds or 0.0) / 60,
        )

    async def collect_video(self, call: Call, entry: Entry) -> Json:
        """Wait for a submitted video and store its record in the ledger."""
        if entry.state == "done":
            return entry.record("video_id", "index_id")
        ready = await self.ready_video(call, entry)
        record, _ = await self.read_video(call, entry, ready)
        return record

    async def ready_video(self, call: Call, entry: Entry) -> Json:
        """Wait until a submitted video is in its index.

        Returns:
            Its record of type `types.VIDEO`, perhaps incomplete: with `video_id` and `index_id`, and if known
            `asset_id` and `duration_sec`. `read_video` completes it.
        """
        if entry.state == "done":
            return entry.record("video_id", "index_id")
        task_id, index = str(entry.task_id), str(call.params["index_id"])
        new = not entry.reused
        try:
            if task_id.startswith(INDEXED_ASSET):
                ready = await self.watcher.wait_indexed(task_id.removeprefix(INDEXED_ASSET), index, new=new)
                return video_record(ready, index, None)
            ready = await self.watcher.wait(task_id, index, since=entry.created_at, new=new)
            return video_record({**ready, "_id": str(ready["video_id"])}, index, task_id)
        except (TaskFailed, NotFound) as failed:
            await self.ledger.fail(call, failed)
            raise

    async def read_video(
        self, call: Call, entry: Entry, ready: Mapping[str, Any], **options: Any
    ) -> tuple[Json, Json]:
        """Read a video that is in its index, and store its record in the ledger.

        Args:
            ready: the result of `ready_video`.
            options: `embedding_option` and `transcription`, as in `Client.retrieve_video`.

        Returns:
            The record, and the API's answer from which it is made.
        """
        index, video_id = str(ready["index_id"]), str(ready["video_id"])
        by_asset = str(entry.task_id or "").startswith(INDEXED_ASSET)
        retrieve = self.client.retrieve_indexed_asset if by_asset else self.client.retrieve_video
        if entry.state == "done":
            return entry.record("video_id", "index_id"), await retrieve(index, video_id, **options)
        try:
            answer = await retrieve(index, video_id, **options)
        except NotFound as gone:
            await self.ledger.fail(call, gone)
            raise
        record = video_record(answer, index, None if by_asset else entry.task_id)
        minutes = float(record["duration_sec"] or 0.0) / 60
        self.arrived += 1
        await self.ledger.finish(call, record, video_minutes=minutes)
        if not entry.reused:
            current().video_minutes += minutes - call.video_minutes  # the difference to the estimate
        return record, answer

    # ---- texts ----------------------------------------------------------------------------------

    async def ref(self, video: str, index_id: str | None = None) -> VideoRef:
        """A reference to a video, for analyses.

        A URL or path is indexed only if `index_id` is given, or if the account analyzes only indexed videos.
        Otherwise a file that the API cannot fetch is uploaded as an asset, at most once.

        Raises:
            APIError, MediaRefused, TaskFailed: the video was not found, or could not be indexed or uploaded.
        """
        generation = await self.client.account_generation()
        if self.is_id(video):
            return await self._ref_of_id(video, index_id)
        if index_id is not None or generation == "2025":
            record = await self.index_video(video, index_id)
            url = video if await self.is_fetched(video) else None
            return await self._with_asset(VideoRef.of(record, url=url))
        identity = await self.identify(video)
        ledger_record = await self._ledger_record(identity)
        fetched = await self.is_fetched(video)
        if ledger_record is not None:
            url = video if fetched else None
            ref = VideoRef.of(ledger_record, url=url, content_key=identity.content_key)
            return await self._with_asset(ref)
        identifiers: Json = {"content_key": identity.content_key, "canonical": identity.canonical}
        if fetched:
            return VideoRef(url=video, duration_sec=self.lengths.of(video), **identifiers)
        asset = await self.asset(video, identity)
        return VideoRef(asset_id=str(asset["_id"]), duration_sec=asset.get("duration"), **identifiers)

    async def is_fetched(self, video: str) -> bool:
        """Whether the API fetches a video by its URL. Otherwise it must be uploaded as an asset."""
        return is_url(video) and await self.client.can_be_fetched(video)

    def keep_listed(self, index_id: str, video: Json) -> None:
        """Cache the ids and length of a listed video, so that its texts need no GET request."""
        record = video_record(video, index_id, None)
        self.lengths.keep(video["_id"], record["duration_sec"])
        self._listed[index_id, video["_id"]] = VideoRef.of(record)
        self._listed.move_to_end((index_id, video["_id"]))
        if len(self._listed) > MAX_LISTED:
            self._listed.popitem(last=False)

    async def _ref_of_id(self, video: str, index_id: str | None) -> VideoRef:
        """A reference to a video by the id of an indexed video or of an asset."""
        index = await self.index_id(index_id) if index_id is not None else await self._existing_index()
        if (known := self._refs.get((index or "", video))) is not None:
            return known
        listed = self._listed.get((index or "", video))
        if listed is not None and (listed.asset_id or self.client.generation == "2025"):
            return listed
        missing: NotFound | BadRequest | None = None
        ref: VideoRef | None = None
        if index is not None:
            try:
                answer = await self.client.retrieve_video(index, video)
                record = video_record(answer, index, None)
                self.lengths.keep(video, record["duration_sec"])
                ref = VideoRef.of(record)
            except (NotFound, BadRequest) as error:
                missing = error
        if ref is None and self.client.generation == "today" and index_id is None:
            try:
                asset = await self.client.retrieve_asset(video)
                ref = VideoRef(asset_id=str(asset["_id"]), duration_sec=asset.get("duration"))
            except (NotFound, BadRequest):
                ref = None
        if ref is None:
            # The id may be of a video in another index: then the analysis finds it or fails.
            if missing is not None and missing.http_status == 404 and self.client.generation == "today":
                raise missing
            ref = VideoRef(video_id=video, index_id=index)
        self._refs[index or "", video] = ref
        return ref

    async def _existing_index(self) -> str | None:
        """The id of the session's index; None if it does not exist, which is looked up every `RECHECK`."""
        if time.monotonic() < self._absent_until:
            return self._known_index(self.settings.index)
        found = await self.find_index()
        self._absent_until = 0.0 if found else time.monotonic() + RECHECK
        return found

    async def _ledger_record(self, identity: Identity) -> Json | None:
        """The ledger's record of a video in the session's index; None if there is none. Indexes nothing."""
        index = await self._existing_index()
        if index is None:
            return None
        entry = await self.ledger.get(self.index_call(identity, index))
        return entry.record("video_id", "index_id") if entry is not None and entry.state == "done" else None

    async def _with_asset(self, ref: VideoRef) -> VideoRef:
        """The reference with the asset id of an indexed video. It is requested if the reference lacks it."""
        if ref.asset_id or not ref.video_id or not ref.index_id or self.client.generation == "2025":
            return ref
        complete = await self._ref_of_id(ref.video_id, ref.index_id)
        return replace(ref, asset_id=complete.asset_id)

    async def asset(
        self,
        video: str,
        identity: Identity | None = None,
        slots: Slots | None = None,
    ) -> Json:
        """The ready asset of a URL or local file, uploaded at most once.

        `slots` is held while the asset is submitted, and not while it is awaited.

        Raises:
            MediaRefused: the file cannot be read, or the platform refused it.
            TaskFailed: the platform accepted the file and failed to process it.
        """
        async with slots or nullcontext():
            call, entry = await self.submit_asset(video, identity)
        return await self.collect_asset(call, entry)

    async def submit_asset(self, video: str, identity: Identity | None = None) -> tuple[Call, Entry]:
        """Ensure that an asset of this content exists or is being created, without waiting for it."""
        identity = identity or await self.identify(video)
        call = self.asset_call(identity)

        async def send() -> str:
            async with self.sendable(video) as sent:
                return await upload(self.client, self.ledger.storage, sent, call.key, self.direct_bytes)

        async def find() -> str | None:
            return await lost_asset(self.client, self.ledger.storage, call.key)

        return call, await self.ledger.submit(call, send, find)

    async def forget_asset(self, identity: Identity) -> None:
        """Forget the asset of a content that the platform no longer has. The next call uploads it again."""
        await self.ledger.forget(self.asset_call(identity).key)

    def asset_call(self, identity: Identity) -> Call:
        """The ledger's call for the asset of this content. An asset costs nothing by itself."""
        key, former = identity.content_key, identity.former_key
        return Call("asset", key, content=identity.canonical, units=0, former_content_key=former)

    async def collect_asset(self, call: Call, entry: Entry) -> Json:
        """Wait until an asset is ready, and store its record in the ledger.

        Returns:
            Its `_id`, `duration`, `size` and `filename`.
        """
        if entry.state == "done":
            return entry.record("_id")
        try:
            asset = await self.watcher.wait_asset(str(entry.task_id))
        except (TaskFailed, NotFound) as failed:
            await self.ledger.fail(call, failed)
            raise
        record = {name: asset.get(name) for name in ("_id", "duration", "size", "filename")}
        await self.ledger.finish(call, record, video_minutes=0.0)
        if asset.get("method") == "multipart":
            await forget_upload(self.ledger.storage, call.key)
        return record

    async def asset_ref(self, ref: VideoRef) -> VideoRef:
        """The reference with a ready asset, as batches need it. A URL is uploaded as an asset."""
        if ref.asset_id or not ref.url or self.client.generation == "2025":
            return ref
        asset = await self.asset(ref.url)
        duration = ref.duration_sec if ref.duration_sec is not None else asset.get("duration")
        return replace(ref, asset_id=str(asset["_id"]), duration_sec=duration)

    async def transcription(self, asset_id: str, kind: str) -> list[Json]:
        """Wait for the transcription of an asset, and return it; [] if there is no speech.

        Args:
            kind: words, sentences or utterances.

        Raises:
            TaskFailed: the platform could not transcribe the asset.
            StillRunning: the transcription was not ready after `settings.task_deadline` seconds.
        """
        pause, waited = 0.1, 0.0
        while True:
            try:
                answer = await self.client.asset_transcription(asset_id, [kind])
            except NotFound:
                await self.client.retrieve_asset(asset_id)  # raises if the asset is missing
                return []  # no speech
            if answer.get("status") == "ready":
                return list(answer.get(kind) or [])
            if answer.get("status") == "failed":
                reason = (answer.get("error") or {}).get("message") or "the transcription failed"
                raise TaskFailed(str(reason), None, "transcription_failed")
            if waited > self.settings.task_deadline:
                raise StillRunning(f"the transcription of asset {asset_id} is not ready", None)
            await asyncio.sleep(pause)
            waited += pause
            pause = min(self.settings.poll_interval, pause * 1.5)

    async def batches_texts(self) -> bool:
        """Whether assets are analyzed in batches: on an account of today, if the model supports batches."""
        model = text_model(self.analyze_model)
        return (
            model is not None
            and model.batches
            and self.models is None
            and await self.client.account_generation() == "today"
        )

    async def analyze_one(self, request: TextRequest) -> TextResult:
        """Run one request, from the ledger or by a call. Raises its first error."""
        result = (await self.analyses.run(request)).raised()
        current().model = self.text_author(result.models.get(0))
        return result

    async def analyze_many(self, requests: Sequence[TextRequest]) -> list[TextResult]:
        """Run many requests. The results are in the same order.

        Requests are sent in batches of up to 1,000 if account, model and videos allow it, otherwise by tasks,
        and on an account of 2025 by synchronous calls. Answers in the ledger are reused. A failed request has
        its errors in its result, and does not affect the others.

            record = await session.index_video(url)          # or a row of `videos`: video_id, asset_id, ...
            requests = [TextRequest(VideoRef.of(record), parts_of(["summary", "title", "chapters"]))]
            for result in await session.analyze_many(requests):
                result.answers[0]["summary"], result.errors   # by the index of the part

        Batches need assets. A video with only a URL is analyzed by a separate task, unless `asset_ref`
        uploads it as an asset.
        """
        refs = await asyncio.gather(*(self._with_asset(request.video) for request in requests))
        completed = [replace(r, video=ref) for r, ref in zip(requests, refs, strict=True)]
        return await self.analyses.run_many(completed)

    async def texts(
        self,
        video: str | VideoRef | Mapping[str, Any],
        outputs: Sequence[str],
        *,
        prompts: Sequence[str | None] = (None,),
        window: Window = WHOLE,
        index_id: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> Json:
        """Texts about a video. One analysis (2025: one per part) creates those that the ledger does not have.

        Args:
            video: a URL, path or id, a reference, or a record of type `types.VIDEO`.
            outputs: some of summary, title, topics, hashtags, chapters, highlights.
            prompts: one per summary; the result has the summaries in this order.

        Returns:
            The outputs by name, `summaries`, the `model`, and `errors` by output for parts that failed.

        Raises:
            TLDataError: every part failed.
        """
        if isinstance(video, str):
            ref = await self.ref(video, index_id)
        else:
            ref = await self._with_asset(video if isinstance(video, VideoRef) else VideoRef.of(video))
        parts = parts_of(outputs, prompts, temperature)
        request = TextRequest(ref, parts, window, temperature, max_tokens)
        return self.as_texts(await self.analyses.run(request), outputs)

    def as_texts(self, result: TextResult, outputs: Sequence[str]) -> Json:
        """A result in the form of `texts`. Raises the first error if every part failed."""
        if result.errors and not result.answers:
            result.raised()
        texts: Json = {"errors": {}, "summaries": []}
        for number, part in enumerate(result.request.parts):
            names = [n for n in outputs if n in part.properties]
            answer = result.answers.get(number)
            if answer is None:
                texts["errors"] |= dict.fromkeys(names, result.errors[number])
                texts["summaries"] += [None] if part.operation == "summary" else []
                continue
            texts |= {n: answer.get(n) for n in names if n not in texts}
            texts["summaries"] += [answer.get("summary")] if part.operation == "summary" else []
        texts["model"] = self.text_author(next(iter(result.models.values()), None))
        current().model = texts["model"]
        return texts

    def text_author(self, model: str | None) -> str:
        """The model that wrote a text, as tables name it."""
        if model is None:
            return self.texts_by
        return made_by(model, self.models.analyze if self.models else None)


def _existing_indexes(index: str, names: list[str]) -> str:
    """The names of existing indexes in a message, at most 20, the most similar ones first."""
    if not names:
        return "there are no indexes"
    similar = difflib.get_close_matches(index, names, 3)
    listed = [*similar, *(name for name in names if name not in similar)][:20]
    more = f" and {len(names) - len(listed)} more" if len(names) > len(listed) else ""
    return f"existing indexes: {', '.join(listed)}{more}"
