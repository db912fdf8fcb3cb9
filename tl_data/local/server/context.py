"""The components of a running engine, and how routes access them."""

from __future__ import annotations

import asyncio
import hmac
import os
import re
import secrets
import shutil
import time
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from tl_data.local.config import STATUSES, Config
from tl_data.local.errors import AssetNotReady, invalid, unknown_resource, unknown_video
from tl_data.local.profiles import Profile
from tl_data.local.rate_limits import RateLimits
from tl_data.local.server.faults import Faults
from tl_data.local.server.forms import Form, read_form
from tl_data.local.service import Stages
from tl_data.local.storage.counters import Bill, Stats
from tl_data.local.storage.database import ID, Row, Store, Where, now
from tl_data.local.tasks.inline_video import InlineVideos
from tl_data.local.tasks.queue import UNFINISHED, Queue

T = TypeVar("T")

MEDIA = "/media"  # path prefix of signed URLs
URL_LIFETIME_SEC = 12 * 3600  # how long a signed URL is valid, at least
#: Names of files that a signed URL may lead to.
FILE_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}\.[a-z0-9]{2,4}")
FOLDERS = ("frames", "hls", "parts")  # folders that a signed URL may lead to


class SignedUrls:
    """Signs and verifies the URLs of thumbnails, streams and parts of uploads. These URLs need no API key.

    The expiry time and the signature are part of the path, so the relative segment URLs of a playlist
    inherit them. The secret is stored in the data folder.
    """

    def __init__(self, home: Path) -> None:
        key_file = home / "media.key"
        if not key_file.exists():
            new_file = home / f"media.key.{os.getpid()}"
            new_file.touch(mode=0o600)
            new_file.write_text(secrets.token_hex(32), encoding="ascii")
            new_file.replace(key_file)
        self._secret = key_file.read_text(encoding="ascii").encode()

    def url_for(self, base_url: str, video_id: str, folder: str, name: str) -> str:
        """Create the URL of one file. It stays the same for an hour, so browsers can cache it.

        Args:
            video_id: the id of the video, or of the multipart upload.
        """
        expires = (int(time.time()) // 3600 + 1) * 3600 + URL_LIFETIME_SEC
        ticket = f"{expires}-{self._sign(video_id, expires)}"
        return f"{base_url.rstrip('/')}{MEDIA}/{ticket}/{video_id}/{folder}/{name}"

    def allows(self, ticket: str, video_id: str, folder: str, name: str) -> bool:
        """Whether a URL is signed and not expired, and names a file in one of FOLDERS.

        Args:
            ticket: the part of the path with the expiry time and the signature.
        """
        expires, _, signature = ticket.partition("-")
        if not (expires.isdecimal() and len(expires) < 12 and int(expires) > time.time()):
            return False
        valid = hmac.compare_digest(signature.encode(), self._sign(video_id, int(expires)).encode())
        return valid and folder in FOLDERS and FILE_NAME.fullmatch(name) is not None

    def _sign(self, video_id: str, expires: int) -> str:
        return hmac.new(self._secret, f"{video_id} {expires}".encode(), sha256).hexdigest()[:32]


@dataclass
class Engine:
    """The components of one engine, shared by all routes."""

    config: Config
    store: Store
    stages: Stages
    queue: Queue
    faults: Faults
    rates: RateLimits
    stats: Stats
    signed_urls: SignedUrls
    inline_videos: InlineVideos
    bill: Bill
    importing: asyncio.Lock = field(default_factory=asyncio.Lock)  # held while an import starts

    @property
    def profile(self) -> Profile:
        """The version of the service that the engine reproduces."""
        return self.config.profile

    @property
    def uploads(self) -> Path:
        """The folder where uploaded files stay until a task moves them."""
        return self.config.home / "uploads"

    @property
    def created_status(self) -> int:
        """The HTTP status of a response that creates a task."""
        return STATUSES[self.config.statuses][0]

    @property
    def updated_status(self) -> int:
        """The HTTP status of a response to an update."""
        return STATUSES[self.config.statuses][1]

    def prepare(self) -> None:
        """Create the folders, and delete files that a killed process left behind."""
        for name in ("uploads", "embeds"):
            folder = self.config.home / name
            keep = {row["id"] for row in self.store.rows("embed_tasks", [Where("status", "=", "processing")])}
            for path in folder.iterdir() if folder.is_dir() else ():
                if path.is_dir() and path.name not in keep:
                    shutil.rmtree(path, ignore_errors=True)
                elif path.is_file():
                    path.unlink(missing_ok=True)
            folder.mkdir(exist_ok=True)
        videos = self.config.home / "videos"
        videos.mkdir(exist_ok=True)
        known_ids = {row["video_id"] for row in self.store.rows("tasks", columns=["video_id"])}
        known_ids |= {row["id"] for row in self.store.rows("videos", columns=["id"])}
        for path in videos.iterdir():
            if path.name not in known_ids:
                shutil.rmtree(path, ignore_errors=True)

    def form(
        self, request: Request, *files: str, max_file: int | None = None
    ) -> AbstractAsyncContextManager[Form]:
        """Parse the multipart body of a request. `files` names the fields that contain files."""
        return read_form(
            request, self.uploads, files=files,
            max_file=max_file or self.config.video_bytes, max_body=self.config.max_body_bytes,
            json_too=self.profile.json_forms,
        )  # fmt: skip

    def index(self, index_id: str, name: str = "index_id") -> Row:
        """Return an existing index. `name` is the parameter for error messages.

        Raises:
            EngineError: the id is malformed (400) or unknown (404).
        """
        row = self.store.get("indexes", check_id(name, index_id))
        if row is None:
            raise unknown_resource(index_id, "indexes")
        return row

    def asset(self, asset_id: str, name: str = "asset_id") -> Row | None:
        """Return an asset; None if the id is unknown.

        A new asset is reported as `processing` until the configured delay is over. A video that was uploaded
        to an index is also an asset, with the same id.

        Raises:
            EngineError: the id is malformed (400).
        """
        row = self.store.get("assets", check_id(name, asset_id))
        if row is None:
            return self._asset_of_task(asset_id)
        delayed = row["status"] == "ready" and (row["ready_at"] or "") > now()
        return row | {"status": "processing"} if delayed else row

    def _asset_of_task(self, video_id: str) -> Row | None:
        tasks = self.store.rows("tasks", [Where("video_id", "=", video_id)], limit=1)
        if not self.profile.asset_of_video or not tasks or tasks[0]["asset_id"]:
            return None
        task = tasks[0]
        if task["status"] == "ready" and self.store.get("videos", video_id) is None:
            return None  # the video was deleted
        names = ("created_at", "updated_at", "filename", "size", "duration", "width", "height", "fps", "url")
        status = task["status"] if task["status"] in ("ready", "failed") else "processing"
        return {name: task[name] for name in names} | {
            "id": video_id, "status": status, "method": "url" if task["url"] else "direct", "kind": "video",
            "user_metadata": {}, "error": task["error"], "sha256": task["sha256"], "ready_at": None,
            "indexed": True,
        }  # fmt: skip

    def ready_asset(self, asset_id: str) -> Row:
        """Return an asset that is `ready`.

        Raises:
            EngineError: the id is malformed (400) or unknown (404), or the asset is not ready (400).
        """
        row = self.asset(asset_id)
        if row is None:
            raise unknown_resource(asset_id, "assets")
        if row["status"] != "ready":
            raise AssetNotReady(asset_id, row["status"])
        return row

    def video(self, index_id: str, video_id: str) -> Row:
        """Return a video of an index. While its task runs, the row has the fields of the task.

        Raises:
            EngineError: an id is malformed (400) or unknown (404).
        """
        self.index(index_id)
        row = self.store.get("videos", check_id("video_id", video_id))
        if row is None:
            row = self._video_of_task(video_id)
        if row is None or row["index_id"] != index_id:
            raise unknown_video(f"Video {video_id} does not exist in index {index_id}.")
        return row

    def _video_of_task(self, video_id: str) -> Row | None:
        where = [Where("video_id", "=", video_id), Where("status", "in", UNFINISHED)]
        tasks = self.store.rows("tasks", where, limit=1)
        if not tasks:
            return None
        missing = ("indexed_at", "hls_status", "hls_updated_at", "video_title", "looked_by")
        return tasks[0] | {"id": video_id, "task_id": tasks[0]["id"]} | dict.fromkeys(missing)


def engine_of(request: Request) -> Engine:
    """Return the engine that serves a request."""
    engine: Engine = request.app.state.engine
    return engine


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Await `work`, and cancel it when the client disconnects. The body of the request must have been read.

    Raises:
        ClientDisconnect: the client has disconnected.
    """
    task = asyncio.ensure_future(work)
    disconnected = asyncio.ensure_future(_until_disconnected(request))
    try:
        await asyncio.wait({task, disconnected}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        disconnected.cancel()


async def _until_disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def check_id(name: str, value: str) -> str:
    """Validate the format of an id, and return it.

    Raises:
        EngineError: the id is malformed (400).
    """
    if not ID.fullmatch(value):
        raise invalid(name, "It must be an id of 24 lower-case hexadecimal digits.", value)
    return value


def find_task(request: Request, table: str) -> Row:
    """Return the task whose id is in the path. Raises the same errors as `find_row`."""
    return find_row(request, table, "task_id")


def find_row(request: Request, table: str, parameter: str) -> Row:
    """Return the row whose id is in the path parameter `parameter`.

    Raises:
        EngineError: the id is malformed (400) or unknown (404).
    """
    row_id = check_id(parameter, request.path_params[parameter])
    row = engine_of(request).store.get(table, row_id)
    if row is None:
        raise unknown_resource(row_id, table)
    return row
