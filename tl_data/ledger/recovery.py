"""Finds tasks on the platform that the ledger has no record of.

The process that submitted such a task was killed, or the answer to its request was lost.

An indexing task has the ledger's key in the metadata of its video, and an analysis task as its `custom_id`.
An embedding task of /embed has no metadata: the platform shows only its source, which is a URL or the name of
an uploaded file. The name of an uploaded file contains the key. A URL identifies the video but not the
embedded part of it, so a task with the same URL counts as the lost one only if its vectors cover the
requested part, or the whole length in the file's header. If that cannot be decided, the result is an
`AmbiguousTask`. A task of /embed-v2 shows its URL in the same way, but nothing of an asset.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import orjson

from tl_data.client.assets import DIRECT, upload_type
from tl_data.client.task_poller import MAX_CLOCK_DIFFERENCE
from tl_data.errors import (
    APIError,
    BadRequest,
    MediaRefused,
    MissingExtra,
    NotFound,
    StillRunning,
    TaskFailed,
)
from tl_data.ledger.models import AmbiguousTask, Call
from tl_data.media.identity import canonical_url, digest_of_blocks, is_url, local_path
from tl_data.media.preflight import facts_of
from tl_data.models import search_model, short_name
from tl_data.ratelimit.headers import moment
from tl_data.urls import is_bucket

if TYPE_CHECKING:
    from tl_data.client import Client
    from tl_data.client.task_poller import TaskWatcher
    from tl_data.ledger.ledger import Ledger
    from tl_data.object_store import Storage

Json = dict[str, Any]
#: How a task matches a call. `marked`: the name of its file has the call's key. `same`: its video and its
#: parameters are the same. `unknown`: the platform does not show enough. `other`: its video or a parameter is
#: another one.
Like = Literal["marked", "same", "unknown", "other"]

#: The field in a video's `user_metadata` that holds the ledger's key.
METADATA_KEY = "tl_data_key"

#: The prefix of a task id in the ledger that is the id of an indexed asset and not of an indexing task.
INDEXED_ASSET = "indexed-asset:"

#: The prefix of a task id in the ledger that is the id of a task of /embed-v2 and not of /embed.
V2_TASK = "embed-v2:"

#: States of an unfinished task.
UNFINISHED = ["uploading", "validating", "pending", "queued", "indexing"]

LIST_BEFORE = timedelta(days=1)  # the listing begins this long before the claim
MIN_CLIP = 2.0  # seconds; the platform omits a shorter last clip
TOLERANCE = 0.25  # seconds by which the end of a video may differ between its header and the platform
CLIP_SECONDS, SCOPES = 6.0, ["clip"]  # the API's defaults for the length of clips and the embedded scopes
#: The embedding options and the dimension of a task of /embed-v2 whose request names none.
V2_OPTIONS, V2_DIMENSION = {"visual", "audio", "transcription"}, 512
#: The parameters that select a part of a video.
OFFSETS = ("video_start_offset_sec", "video_end_offset_sec")


def source_of(video: str) -> Json:
    """The API's parameter for a video: `video_url` for a URL, `video_file` for a path."""
    return {"video_url": video} if is_url(video) else {"video_file": local_path(video)}


def marked_name(video: str, key: str) -> str | None:
    """The name, with the ledger's key in it, under which a file is uploaded for embedding. None for a URL."""
    if is_url(video):
        return None
    path = local_path(video)
    return f"{path.stem[:100]}.{METADATA_KEY}-{key}{path.suffix}"


async def upload(client: Client, storage: Storage, video: str, key: str, direct: int = DIRECT) -> str:
    """Create an asset from a URL or a local file, with the ledger's key in its name. Returns the asset's id.

    A file of more than `direct` bytes is uploaded in parts. The ids of such an upload are in the ledger's
    storage, so after an error, or in another process, the next call uploads only the missing parts. If the
    file has changed since then, or the record has no digest, a new upload starts.

    Raises:
        MediaRefused: the file cannot be read.
        APIError: the request, or a part, failed.
    """
    metadata = {METADATA_KEY: key}
    if is_url(video):
        address = video if is_bucket(video) else urlsplit(video).path
        stem, _, suffix = address.rpartition("/")[2].rpartition(".")
        name = f"{(stem or suffix or 'video')[:100]}.{METADATA_KEY}-{key}.{suffix[:8] if stem else 'mp4'}"
        return str((await client.create_asset(url=video, filename=name, user_metadata=metadata))["_id"])
    path, name = local_path(video), str(marked_name(video, key))
    try:
        size = path.stat().st_size
        digest = await asyncio.to_thread(digest_of_blocks, path) if size > direct else None
    except OSError as error:
        raise MediaRefused(f"{path} cannot be read: {error.strerror}") from error
    if digest is None:
        return str((await client.create_asset(file=path, filename=name, user_metadata=metadata))["_id"])
    content = {"total_size": size, "digest": digest}
    started = await _started_upload(storage, key)
    same = started is not None and content == {name: started.get(name) for name in content}
    if started is None or not same or not await _is_active(client, started):
        created = await client.create_upload(name, size, type=upload_type(name), user_metadata=metadata)
        # The signed URLs are not stored: they expire, and new ones can be requested.
        kept = {name: created[name] for name in ("upload_id", "asset_id", "chunk_size", "total_chunks")}
        await storage.write(_upload_path(key), orjson.dumps({**kept, **content}))
        started = created
    await client.upload_parts(path, started)
    return str(started["asset_id"])


async def forget_upload(storage: Storage, key: str) -> None:
    """Delete the record of an upload in parts; without an effect if there is none."""
    await storage.delete(_upload_path(key))


def _upload_path(key: str) -> str:
    return f"uploads/{key[:2]}/{key}"


async def _started_upload(storage: Storage, key: str) -> Json | None:
    """The record of an upload in parts that a call for this key started; None if there is none."""
    body = await storage.read(_upload_path(key))
    try:
        record = None if body is None else orjson.loads(body)
    except orjson.JSONDecodeError:
        return None  # incomplete, for example after a full disk
    names = {"upload_id", "asset_id", "chunk_size", "total_chunks", "total_size"}
    return record if isinstance(record, dict) and names <= set(record) else None


async def _upload_status(client: Client, started: Json) -> str:
    """The status of an upload in parts: active, completed, failed, or expired, also if it does not exist."""
    try:
        return str((await client.retrieve_upload(str(started["upload_id"]))).get("status"))
    except (NotFound, BadRequest):
        return "expired"


async def _is_active(client: Client, started: Json) -> bool:
    return await _upload_status(client, started) == "active"


async def lost_asset(client: Client, storage: Storage, key: str) -> str | None:
    """The asset of an earlier request for this key whose answer was lost, unless it failed.

    An upload in parts has an asset only when all of its parts were uploaded. Before that, the id of the asset
    is reserved, and `upload` continues.
    """
    started = await _started_upload(storage, key)
    if started is not None:
        status = await _upload_status(client, started)
        if status == "completed":
            return str(started["asset_id"])
        if status == "active":
            return None
    mark = f"{METADATA_KEY}-{key}"
    async for asset in client.list_assets(filename=mark):
        in_parts = asset.get("method") == "multipart"  # then parts may be missing until it is ready
        usable = asset.get("status") == "ready" or (asset.get("status") != "failed" and not in_parts)
        if mark in str(asset.get("filename")) and usable:
            return str(asset["_id"])
    return None


async def lost_indexed_asset(client: Client, watcher: TaskWatcher | None, index: str, key: str) -> str | None:
    """The indexed asset of an earlier request for this key whose answer was lost, unless it failed.

    The listing may ignore the filter and does not show the key, so each candidate is retrieved. If it shows
    no metadata before it is ready, and there is a watcher, it is awaited.
    """
    async for candidate in client.list_indexed_assets(index, user_metadata={METADATA_KEY: key}):
        if candidate.get("status") == "failed":
            continue
        asset_id = str(candidate["_id"])
        try:
            asset = await client.retrieve_indexed_asset(index, asset_id)
            if "user_metadata" not in asset and asset.get("status") != "ready" and watcher is not None:
                await watcher.wait_indexed(asset_id, index)
                asset = await client.retrieve_indexed_asset(index, asset_id)
        except (NotFound, TaskFailed):
            continue
        if (asset.get("user_metadata") or {}).get(METADATA_KEY) == key:
            return asset_id
    return None


async def lost_indexing(client: Client, watcher: TaskWatcher | None, index: str, key: str) -> str | None:
    """The indexed asset or indexing task of an earlier request for this key whose answer was lost.

    Args:
        watcher: waits for tasks that do not show their key yet. None: such tasks are skipped.

    Returns:
        The id, for an indexed asset with the prefix `INDEXED_ASSET`; None if there is neither.
    """
    if await client.account_generation() == "today":
        try:
            if (asset_id := await lost_indexed_asset(client, watcher, index, key)) is not None:
                return INDEXED_ASSET + asset_id
        except (NotFound, BadRequest) as error:
            if not is_withdrawn(error):
                raise
    try:
        return await indexing_task(client, watcher, index, key)
    except (NotFound, BadRequest) as error:
        if not is_withdrawn(error):
            raise
        return None


def is_withdrawn(error: NotFound | BadRequest) -> bool:
    """Whether the error means that this account does not have the endpoint, not that an object is missing."""
    codes = (None, "endpoint_not_exists", "endpoint_deprecated")
    return error.http_status in (404, 405, 410) and error.code in codes


async def indexing_task(client: Client, watcher: TaskWatcher | None, index: str, key: str) -> str | None:
    """The task of an earlier request for this key whose answer was lost, or None.

    A ready video is found by its metadata. Some servers show the metadata of a video only when it is ready,
    so unfinished tasks are awaited; otherwise the video may be paid for twice. Without a watcher no task is
    awaited.
    """
    marked: Json = {METADATA_KEY: key}
    ready = {str(video["_id"]) async for video in client.list_videos(index, **marked)}
    if ready:
        async for task in client.list_tasks(index_id=index, status="ready"):
            if task.get("video_id") in ready:
                return str(task["_id"])
    unfinished = [task async for task in client.list_tasks(index_id=index, status=UNFINISHED)]
    for task in unfinished:
        try:
            metadata = await _metadata_of(client, index, task)
            if metadata is None and watcher is not None:
                metadata = await _metadata_of(client, index, await watcher.wait(task["_id"], index))
        except TaskFailed:
            continue
        if (metadata or {}).get(METADATA_KEY) == key:
            return str(task["_id"])
    return None


async def _metadata_of(client: Client, index: str, task: Mapping[str, Any]) -> Json | None:
    """The user metadata of a task's video; None while the server does not show it."""
    try:
        video = await client.retrieve_video(index, str(task["video_id"]))
    except APIError as error:
        if error.http_status in (400, 404):
            return None
        raise
    return dict(video.get("user_metadata") or {})


class AnalysisTasks:
    """Analysis tasks by the ledger's key. Callers that ask at about the same time share one listing."""

    def __init__(self, client: Client, since: float) -> None:
        """
        Args:
            since: time of the earliest request of interest, in epoch seconds.
        """
        self._client, self._since = client, datetime.fromtimestamp(since, UTC) - MAX_CLOCK_DIFFERENCE
        self._ids: dict[str, str] = {}
        self._listed_at = float("-inf")  # monotonic time at which the listing began
        self._lock = asyncio.Lock()

    async def find(self, key: str) -> str | None:
        """The id of the task with this key that has not failed, by a listing that began after this call."""
        asked_at = time.monotonic()
        async with self._lock:
            if self._listed_at < asked_at:
                self._listed_at = time.monotonic()
                await self._list()
        return self._ids.get(key)

    async def _list(self) -> None:
        async for key, task_id in keyed_analyses(self._client, self._since):
            self._ids[key] = task_id


async def keyed_analyses(
    client: Client, since: datetime | None, asset_id: str | None = None
) -> AsyncIterator[tuple[str, str]]:
    """Ledger key and id of each analysis task that has a key and has not failed or been canceled.

    Args:
        since: the newest tasks come first, and the first one that is older than this is the last. None: all.
        asset_id: only the tasks of an asset.
    """
    async for task in client.list_analyze_tasks(asset_id=asset_id):
        if task.get("custom_id") and task.get("status") not in ("failed", "canceled"):
            yield str(task["custom_id"]), str(task["task_id"])
        created = moment(task.get("created_at"))
        if since is not None and created is not None and created < since:
            return


async def embedding_task(
    client: Client,
    watcher: TaskWatcher,
    ledger: Ledger,
    call: Call,
    video: str,
    models: set[str],
    *,
    v2: bool = False,
    may_be_withdrawn: bool = False,
) -> str | AmbiguousTask | None:
    """The task of an earlier request for this call whose answer was lost; None if there is certainly none.

    A candidate is a task that has not failed, is in no record of this ledger, and was created since the first
    claim without a recorded task. A task with the key in its name may be older.

    Args:
        models: the names by which the server may call the model.
        v2: look for a task of /embed-v2, not of /embed.
        may_be_withdrawn: whether the server may have withdrawn the route. Then it has no such task.
    """
    since = await ledger.unsettled_since(call)
    if since is None:
        return None
    earliest = datetime.fromtimestamp(since, UTC) - MAX_CLOCK_DIFFERENCE
    tasks: dict[str, tuple[Like, Json]] = {}
    sent, signing = await _sent_url(client, video), client.settings.signing_parameters
    tasks_since = client.list_embed_v2_tasks if v2 else client.list_embed_tasks
    try:
        async for task in tasks_since(started_at=f"{earliest - LIST_BEFORE:%Y-%m-%dT%H:%M:%SZ}"):
            like = _likeness(_as_older(task) if v2 else task, call, sent, models, signing)
            created = moment(task.get("created_at"))
            early = created is not None and created < earliest and like != "marked"
            if task.get("status") != "failed" and like != "other" and not early:
                tasks[str(task["_id"])] = like, task
    except (BadRequest, NotFound) as error:
        if may_be_withdrawn and is_withdrawn(error):
            return None
        return AmbiguousTask(
            f"the server does not list its embedding tasks ({error.code or error.http_status})"
        )
    if tasks:
        entries = ledger.entries(operation=call.operation)
        recorded = {str(entry.task_id).removeprefix(V2_TASK) async for entry in entries}
        tasks = {task_id: listed for task_id, listed in tasks.items() if task_id not in recorded}
    unsure: list[str] = []
    for task_id, (like, listed) in reversed(tasks.items()):  # the oldest first
        if like == "marked":
            return task_id
        matches: bool | None = None
        try:
            if v2 and sent is not None and _shown_of_v2(listed).get("input_url"):
                # Only the list shows the model, and only a task that has ended shows its options.
                ended = _as_older(_merged(listed, await watcher.wait_embed_v2(task_id)))
                like = _likeness(ended, call, sent, models, signing)
                matches = False if like == "other" else None
            elif v2:
                like = "unknown"  # it may be any task, so it is not awaited
            elif like == "same":
                ended = await watcher.wait_embed(task_id)
            if like == "same":
                matches = await _embeds_part(client, ended, call, video)
        except (TaskFailed, NotFound):
            matches = False
        except StillRunning:
            if not v2:
                raise  # a later run asks again
            matches = None
        except APIError:
            matches = None
        if matches:
            return task_id
        if matches is None:
            unsure.append(task_id)
    if not unsure:
        return None
    tasks_shown = ", ".join(unsure[:3]) + (", ..." if len(unsure) > 3 else "")
    return AmbiguousTask(
        f"a process ended before it recorded its task, which may be {tasks_shown}; "
        "the platform does not show enough of an embedding task to decide"
    )


async def _sent_url(client: Client, video: str) -> str | None:
    """The canonical URL that the platform shows for a video; None if the video's file is uploaded."""
    if not is_url(video) or not await client.can_be_fetched(video):
        return None
    sent = await client.buckets.sign("GET", video) if is_bucket(video) else video
    return canonical_url(sent, client.settings.signing_parameters)


def _likeness(task: Mapping[str, Any], call: Call, sent: str | None, models: set[str], signing: str) -> Like:
    """How a task matches a call, judged by what the platform shows of the task.

    Args:
        sent: the canonical URL of the video; None for an uploaded file.
        signing: the setting `signing_parameters`.
    """
    metadata = (task.get("video_embedding") or {}).get("metadata") or {}
    url, name = metadata.get("input_url"), metadata.get("input_filename")
    if sent is None:
        if name:
            return "marked" if f"{METADATA_KEY}-{call.key}" in name else "other"
        return "other" if url else "unknown"
    if url:
        try:
            if canonical_url(str(url), signing) != sent:
                return "other"
        except MediaRefused:
            return "other"
    elif name:
        return "other"
    model = task.get("model_name")
    if model and short_name(str(model)) not in {short_name(each) for each in models}:
        return "other"
    of_v2 = _likeness_of_v2(task["v2"], call) if "v2" in task else "same"
    if of_v2 == "other":
        return "other"
    same = bool(url and model) and of_v2 == "same"
    for requested, of_task, default in (
        (call.params.get("video_clip_length"), metadata.get("video_clip_length"), CLIP_SECONDS),
        (call.params.get("video_embedding_scope"), metadata.get("video_embedding_scope"), SCOPES),
    ):
        # A model may have another default than the one above. So if the call does not give a parameter, a
        # different value of the task means `unknown`, not `other`.
        if of_task is not None and requested is not None and _set(of_task) != _set(requested):
            return "other"
        expected = default if requested is None else requested
        same = same and of_task is not None and _set(of_task) == _set(expected)
    return "same" if same else "unknown"


def _likeness_of_v2(shown: Mapping[str, Any], call: Call) -> Like:
    """How the vectors of a task of /embed-v2 match those of our request, which names no options.

    Args:
        shown: the member `v2` of a task from `_as_older`.
    """
    model = search_model(call.model) if call.model else None
    nested = model is not None and model.multi_input_only  # Marengo 3.5; without `transcription` by default
    options, dimension = shown["options"], shown["dimension"]
    expected = [V2_OPTIONS, V2_OPTIONS - {"transcription"}] if nested else [V2_OPTIONS]
    if shown["fused"] or (dimension is not None and dimension != V2_DIMENSION):
        return "other"
    if options is not None and set(options) not in expected:
        # Fewer options may be those of another request, or those that a video without sound has.
        return "unknown" if set(options) < V2_OPTIONS else "other"
    # Vectors of Marengo 3.0 have one dimension only, so a task need not show it.
    return "unknown" if options is None or (nested and dimension is None) else "same"


def _merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> Json:
    """The fields of two objects; those of the second have precedence unless they are null."""
    return {**first, **{name: value for name, value in second.items() if value is not None}}


def _shown_of_v2(task: Mapping[str, Any]) -> Json:
    """The metadata of a task of /embed-v2, from the list and from its own response."""
    return _merged((task.get("video_embedding") or {}).get("metadata") or {}, task.get("metadata") or {})


def _as_older(task: Mapping[str, Any]) -> Json:
    """A task of /embed-v2 with the fields that a task of /embed has.

    Its embedding options, its dimension and whether it has fused vectors are in the member `v2`.
    """
    shown = _shown_of_v2(task)
    scopes = shown.get("embedding_scopes") or shown.get("video_embedding_scope")
    metadata = {
        "input_url": shown.get("input_url"),
        "input_filename": shown.get("input_filename"),
        "video_clip_length": shown.get("clip_length") or shown.get("video_clip_length"),
        "video_embedding_scope": scopes and ["video" if scope == "asset" else scope for scope in scopes],
    }
    segments = [
        {"start_offset_sec": part.get("start_sec"), "end_offset_sec": part.get("end_sec")}
        for part in task.get("data") or []
    ]
    only_v2 = {
        "options": shown.get("embedding_options"),
        "dimension": shown.get("embedding_dimension"),
        "fused": any(part.get("embedding_option") == "fused" for part in task.get("data") or []),
    }
    return {**task, "video_embedding": {"metadata": metadata, "segments": segments}, "v2": only_v2}


async def _embeds_part(client: Client, task: Mapping[str, Any], call: Call, video: str) -> bool | None:
    """Whether a ready task embeds the same part of the video as this call; None if that cannot be decided.

    The platform does not show the part. It follows from the times of the vectors.
    """
    segments = (task.get("video_embedding") or {}).get("segments") or []
    starts, ends = ([float(s[n]) for s in segments if s.get(n) is not None] for n in _SPAN)
    if not starts or not ends:
        return None
    covered = min(starts), max(ends)
    clip = float(call.params.get("video_clip_length") or CLIP_SECONDS)
    start, end = (call.params.get(offset) for offset in OFFSETS)
    begin = float(start or 0.0)
    if end is not None and _is_span(covered, begin, float(end), clip):
        return True
    try:
        length = (await facts_of(client, video)).duration_sec
    except (MediaRefused, MissingExtra, APIError):
        length = None
    if end is None:
        return _is_span(covered, begin, length, clip) if length else None
    stop = min(float(end), length) if length else float(end)
    if _is_span(covered, begin, stop, clip):
        return True
    # Undecided: the times are nearly the same, or the same if they count from the beginning of the part.
    near = abs(covered[0] - begin) < clip and abs(covered[1] - stop) < clip
    return None if near or _is_span(covered, 0.0, stop - begin, clip) else False


def _is_span(covered: tuple[float, float], start: float, end: float, clip: float) -> bool:
    """Whether vectors cover the range from start to end. A last clip that is too short may be missing."""
    rest = (end - start) % clip
    ends = {end, end - rest if rest < MIN_CLIP else end}
    return abs(covered[0] - start) <= TOLERANCE and any(abs(covered[1] - last) <= TOLERANCE for last in ends)


#: The fields of a vector with its times.
_SPAN = ("start_offset_sec", "end_offset_sec")


def _set(value: Any) -> set[Any]:
    return set(value) if isinstance(value, list | tuple) else {float(value)}
