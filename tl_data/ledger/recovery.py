"""Finds tasks without a record: their process was killed, or never got the answer.

An indexing task has the ledger's key in the metadata of its video. An embedding task has no metadata; the
platform shows only its source: the URL, or the name of the uploaded file, which contains the key. A URL
identifies the video, but not the embedded part of it. Such a task is taken for the lost one only if its
vectors cover the requested part, or the whole length in the file's header. Otherwise it is an
`AmbiguousTask`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from tl_data.client.assets import DIRECT, upload_type
from tl_data.errors import APIError, BadRequest, MediaRefused, MissingExtra, NotFound, TaskFailed
from tl_data.ledger.models import AmbiguousTask, Call
from tl_data.media.identity import canonical_url, is_url, local_path
from tl_data.media.preflight import facts_of
from tl_data.ratelimit.headers import moment
from tl_data.urls import is_bucket

if TYPE_CHECKING:
    from tl_data.client import Client
    from tl_data.client.task_poller import TaskWatcher
    from tl_data.ledger.ledger import Ledger

Json = dict[str, Any]
Like = Literal["marked", "same", "unknown", "other"]

#: The name of the ledger's key in a video's `user_metadata`, for recovery after a crash.
METADATA_KEY = "tl_data_key"

#: The prefix of the id of an indexed asset where the ledger has the id of an indexing task.
INDEXED_ASSET = "indexed-asset:"

#: States of an unfinished task.
UNFINISHED = ["uploading", "validating", "pending", "queued", "indexing"]

CLOCKS = timedelta(minutes=5)  # largest difference between the platform's clock and ours
LISTED = timedelta(days=1)  # tasks are listed from this long before a claim; marked ones have no limit
LEAST_CLIP = 2.0  # seconds; a shorter last clip is omitted
SLACK = 0.25  # seconds by which the end of a video may differ between header and platform
CLIP_SECONDS, SCOPES = 6.0, ["clip"]  # defaults of the API
OFFSETS = ("video_start_offset_sec", "video_end_offset_sec")


def source_of(video: str) -> Json:
    """The parameter of the API for a URL or a path."""
    return {"video_url": video} if is_url(video) else {"video_file": local_path(video)}


def marked_name(video: str, key: str) -> str | None:
    """The name of an uploaded file for embedding, which contains the ledger's key; None for a URL."""
    if is_url(video):
        return None
    path = local_path(video)
    return f"{path.stem[:100]}.{METADATA_KEY}-{key}{path.suffix}"


async def upload(client: Client, video: str, key: str) -> str:
    """Create an asset of a URL or local file, with the ledger's key in its name; returns its id.

    A large file is uploaded in parts. An upload that was interrupted within the last day is resumed.
    """
    metadata = {METADATA_KEY: key}
    if is_url(video):
        place = video if is_bucket(video) else urlsplit(video).path
        stem, _, suffix = place.rpartition("/")[2].rpartition(".")
        name = f"{(stem or suffix or 'video')[:100]}.{METADATA_KEY}-{key}.{suffix[:8] if stem else 'mp4'}"
        return str((await client.create_asset(url=video, filename=name, user_metadata=metadata))["_id"])
    path, name = local_path(video), str(marked_name(video, key))
    try:
        size = path.stat().st_size
    except OSError as error:
        raise MediaRefused(f"{path} cannot be read: {error.strerror}") from error
    if size <= DIRECT:
        return str((await client.create_asset(file=path, filename=name, user_metadata=metadata))["_id"])
    begun = await client.create_upload(name, size, type=upload_type(name), user_metadata=metadata)
    await client.upload_parts(path, begun)
    return str(begun["asset_id"])


async def lost_asset(client: Client, key: str) -> str | None:
    """The asset of an earlier request for this key whose answer was lost, unless it failed."""
    mark = f"{METADATA_KEY}-{key}"
    async for asset in client.list_assets(filename=mark):
        if mark in str(asset.get("filename")) and asset.get("status") != "failed":
            return str(asset["_id"])
    return None


async def lost_indexed_asset(client: Client, watcher: TaskWatcher | None, index: str, key: str) -> str | None:
    """The indexed asset of an earlier request for this key whose answer was lost, unless it failed.

    The list may ignore the filter, and does not show the key: each candidate is asked for it. One that shows
    no metadata before it is ready is awaited, if there is a watcher.
    """
    async for found in client.list_indexed_assets(index, user_metadata={METADATA_KEY: key}):
        if found.get("status") == "failed":
            continue
        asset_id = str(found["_id"])
        try:
            shown = await client.retrieve_indexed_asset(index, asset_id)
            if "user_metadata" not in shown and shown.get("status") != "ready" and watcher is not None:
                await watcher.wait_indexed(asset_id, index)
                shown = await client.retrieve_indexed_asset(index, asset_id)
        except (NotFound, TaskFailed):
            continue
        if (shown.get("user_metadata") or {}).get(METADATA_KEY) == key:
            return asset_id
    return None


async def lost_indexing(client: Client, watcher: TaskWatcher | None, index: str, key: str) -> str | None:
    """What an earlier, lost request made to index the content of this key, as the ledger names it: an indexed
    asset, or a task of /tasks; None if there is neither.

    Args:
        watcher: waits for tasks that do not show yet what they are for; None: they are passed over.
    """
    if await client.account_generation() == "today":
        try:
            if (found := await lost_indexed_asset(client, watcher, index, key)) is not None:
                return INDEXED_ASSET + found
        except (NotFound, BadRequest) as gone:
            if not is_withdrawn(gone):
                raise
    try:
        return await indexing_task(client, watcher, index, key)
    except (NotFound, BadRequest) as gone:
        if not is_withdrawn(gone):
            raise
        return None


def is_withdrawn(error: NotFound | BadRequest) -> bool:
    """Whether the endpoint does not exist on this account, rather than what it was asked for."""
    codes = (None, "endpoint_not_exists", "endpoint_deprecated")
    return error.http_status in (404, 405, 410) and error.code in codes


async def indexing_task(client: Client, watcher: TaskWatcher | None, index: str, key: str) -> str | None:
    """The task of an earlier request for this key whose answer was lost, or None.

    A ready video is found by its metadata. An unfinished task has none, and some servers show its video only
    when it is ready, so such tasks are awaited: the alternative may be to pay twice. Without a watcher
    nothing is awaited.
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
            found = await _metadata_of(client, index, task)
            if found is None and watcher is not None:
                found = await _metadata_of(client, index, await watcher.wait(task["_id"], index))
        except TaskFailed:
            continue
        if (found or {}).get(METADATA_KEY) == key:
            return str(task["_id"])
    return None


async def _metadata_of(client: Client, index: str, task: Mapping[str, Any]) -> Json | None:
    """The user metadata of a task's video; None while the server does not show it."""
    try:
        video = await client.retrieve_video(index, str(task["video_id"]))
    except APIError as hidden:
        if hidden.http_status in (400, 404):
            return None
        raise
    return dict(video.get("user_metadata") or {})


async def embedding_task(
    client: Client, watcher: TaskWatcher, ledger: Ledger, call: Call, video: str, models: set[str]
) -> str | AmbiguousTask | None:
    """The task of an earlier request for this call whose answer was lost; None if there is certainly none.

    The candidates were created since the first claim without a record (at any time if marked with the key),
    have not failed, and are in no record of this ledger.

    Args:
        models: the names that the server may use for the call's model.
    """
    since = await ledger.unsettled_since(call)
    if since is None:
        return None
    begun = datetime.fromtimestamp(since, UTC) - CLOCKS
    tasks: dict[str, Like] = {}
    sent = await _sent_url(client, video)
    try:
        async for task in client.list_embed_tasks(started_at=f"{begun - LISTED:%Y-%m-%dT%H:%M:%SZ}"):
            like = _likeness(task, call, sent, models)
            created = moment(task.get("created_at"))
            early = created is not None and created < begun and like != "marked"
            if task.get("status") != "failed" and like != "other" and not early:
                tasks[str(task["_id"])] = like
    except (BadRequest, NotFound) as refused:
        return AmbiguousTask(
            f"the server does not list its embedding tasks ({refused.code or refused.http_status})"
        )
    if tasks:
        known = {entry.task_id async for entry in ledger.entries(operation=call.operation)}
        tasks = {task_id: like for task_id, like in tasks.items() if task_id not in known}
    unsure: list[str] = []
    for task_id, like in reversed(tasks.items()):  # the oldest first
        if like == "marked":
            return task_id
        ours = await _is_about(client, watcher, task_id, call, video) if like == "same" else None
        if ours:
            return task_id
        if ours is None:
            unsure.append(task_id)
    if not unsure:
        return None
    shown = ", ".join(unsure[:3]) + (", ..." if len(unsure) > 3 else "")
    return AmbiguousTask(
        f"a process ended before it wrote its task down, and {shown} may be it; "
        "the platform does not show enough of an embedding task to decide"
    )


async def _sent_url(client: Client, video: str) -> str | None:
    """The canonical URL that the platform shows for a video; None if its file is uploaded."""
    if not is_url(video) or not await client.can_be_fetched(video):
        return None
    return canonical_url(await client.buckets.sign("GET", video) if is_bucket(video) else video)


def _likeness(task: Mapping[str, Any], call: Call, sent: str | None, models: set[str]) -> Like:
    """Whether a task is of this video with these parameters, as far as the platform shows it.

    Args:
        sent: the video's canonical URL; None for an uploaded file.
    """
    shown = (task.get("video_embedding") or {}).get("metadata") or {}
    url, name = shown.get("input_url"), shown.get("input_filename")
    if sent is None:
        if name:
            return "marked" if f"{METADATA_KEY}-{call.key}" in name else "other"
        return "other" if url else "unknown"
    if url:
        try:
            if canonical_url(str(url)) != sent:
                return "other"
        except MediaRefused:
            return "other"
    elif name:
        return "other"
    model = task.get("model_name")
    if model and _plain(str(model)) not in {_plain(each) for each in models}:
        return "other"
    same = bool(url and model)
    for asked, seen, default in (
        (call.params.get("video_clip_length"), shown.get("video_clip_length"), CLIP_SECONDS),
        (call.params.get("video_embedding_scope"), shown.get("video_embedding_scope"), SCOPES),
    ):
        # The default of a model may differ from the one known here: then it is undecided.
        if seen is not None and asked is not None and _set(seen) != _set(asked):
            return "other"
        same = same and seen is not None and _set(seen) == _set(default if asked is None else asked)
    return "same" if same else "unknown"


async def _is_about(
    client: Client, watcher: TaskWatcher, task_id: str, call: Call, video: str
) -> bool | None:
    """Whether a task embeds the same part of the video as this call; None if undecided.

    Only the times of the vectors show the part.
    """
    try:
        task = await watcher.wait_embed(task_id)
    except (TaskFailed, NotFound):
        return False
    except APIError:
        return None
    segments = (task.get("video_embedding") or {}).get("segments") or []
    starts, ends = ([float(s[n]) for s in segments if s.get(n) is not None] for n in _SPAN)
    if not starts or not ends:
        return None
    shown = min(starts), max(ends)
    clip = float(call.params.get("video_clip_length") or CLIP_SECONDS)
    start, end = (call.params.get(offset) for offset in OFFSETS)
    begin = float(start or 0.0)
    if end is not None and _is_span(shown, begin, float(end), clip):
        return True
    try:
        length = (await facts_of(client, video)).duration_sec
    except (MediaRefused, MissingExtra, APIError):
        length = None
    if end is None:
        return _is_span(shown, begin, length, clip) if length else None
    stop = min(float(end), length) if length else float(end)
    if _is_span(shown, begin, stop, clip):
        return True
    # Nearly the same, or the same if times count from the beginning of the part: undecided.
    near = abs(shown[0] - begin) < clip and abs(shown[1] - stop) < clip
    return None if near or _is_span(shown, 0.0, stop - begin, clip) else False


def _is_span(shown: tuple[float, float], start: float, end: float, clip: float) -> bool:
    """Whether vectors cover the range from start to end; a too short last clip may be missing."""
    rest = (end - start) % clip
    ends = {end, end - rest if rest < LEAST_CLIP else end}
    return abs(shown[0] - start) <= SLACK and any(abs(shown[1] - last) <= SLACK for last in ends)


_SPAN = ("start_offset_sec", "end_offset_sec")


def _set(value: Any) -> set[Any]:
    return set(value) if isinstance(value, list | tuple) else {float(value)}


def _plain(model: str) -> str:
    """The short name of a model. Older ones have two: marengo2.7, Marengo-retrieval-2.7."""
    return model.lower().replace("-retrieval-", "")
