"""Uploads in parts that break off: the next call sends only the parts that the platform does not have."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.client.conftest import Server, server  # noqa: F401 - the scripted server, as a fixture
from tests.conftest import Engine
from tests.support import media
from tests.support.processes import kill_when
from tests.support.scripted import say
from tl_data.client import Client
from tl_data.connection import connect
from tl_data.errors import ServerFailed
from tl_data.ledger.recovery import lost_asset, upload
from tl_data.object_store import Storage
from tl_data.ratelimit.limiter import Limiter
from tl_data.settings import Settings

CHUNK = 8 << 20  # bytes of the engine's parts
PROGRAM = """
import json, sys
from tl_data.connection import connect
from tl_data.settings import Settings
said = json.loads(sys.argv[1])
connection = connect(Settings(**said["settings"]))
connection.session.direct_bytes = said["direct"]
connection.run(connection.session.asset(said["video"]))
"""


@pytest.fixture(scope="module")
def six_parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of six parts: what follows the film is free space of its container."""
    path = media.write(tmp_path_factory.mktemp("large") / "large.mp4", seconds=4, fps=5, audio=None)
    free = 5 * CHUNK
    with path.open("ab") as file:
        file.write(struct.pack(">I4s", free, b"free"))
        file.truncate(file.tell() + free - 8)
    assert -(-path.stat().st_size // CHUNK) == 6
    return path


class Platform:
    """An account of today that counts the parts it was sent."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.root = engine.base_url.removesuffix("/v1.3")
        self.settings: dict[str, Any] = {
            "base_url": engine.base_url,
            "home": str(folder / "home"),
            "ledger": str(folder / "ledger"),
            "poll_interval": 0.2,
            "retries": 0,
        }

    def faults(self, *rules: dict[str, Any]) -> None:
        httpx.put(f"{self.root}/_engine/faults", json={"fault": list(rules)}).raise_for_status()

    def requests(self, method: str, path: str) -> int:
        counts = httpx.get(f"{self.root}/_engine/stats").raise_for_status().json()["requests"]
        return sum(sum(n.values()) for route, n in counts.items() if route.startswith(f"{method} {path}"))

    def active(self) -> list[dict[str, Any]]:
        """The uploads that are not complete."""
        url = f"{self.settings['base_url']}/assets/multipart-uploads"
        with httpx.Client(headers={"x-api-key": "tlk_A0KEY"}) as client:
            uploads = client.get(url).raise_for_status().json()["data"]
            return [client.get(f"{url}/{one['upload_id']}").raise_for_status().json() for one in uploads]

    def asset(self, video: Path) -> dict[str, Any]:
        """The ready asset of a file, uploaded in parts."""
        connection = connect(Settings(**self.settings))
        connection.session.direct_bytes = CHUNK
        try:
            return connection.run(connection.session.asset(str(video)))
        finally:
            connection.close()


@pytest.fixture
def platform(today: Engine, tmp_path: Path) -> Iterator[Platform]:
    platform = Platform(today, tmp_path)
    yield platform
    platform.faults()


def test_an_upload_whose_part_failed_is_resumed(platform: Platform, six_parts: Path) -> None:
    platform.faults({"kind": "status", "status": 503, "route": "/media/*", "method": "PUT", "count": 1})
    before = platform.requests("PUT", "/media")
    with pytest.raises(ServerFailed) as caught:
        platform.asset(six_parts)
    assert caught.value.http_status == 503
    [upload] = platform.active()
    # Those that were under way with the one that failed, and those that began before its response.
    completed = upload["chunks_completed"]
    assert 3 <= completed <= 5
    broken = platform.requests("PUT", "/media")
    assert broken - before == completed + 1
    asset = platform.asset(six_parts)
    assert asset["size"] == six_parts.stat().st_size
    assert platform.requests("PUT", "/media") - broken == 6 - completed
    assert platform.active() == []
    created = platform.requests("POST", "/assets/multipart-uploads")
    assert platform.asset(six_parts) == asset
    assert platform.requests("POST", "/assets/multipart-uploads") == created
    assert not list(Path(platform.settings["ledger"], "uploads").rglob("*.*"))


def test_an_upload_of_a_killed_process_is_resumed(platform: Platform, six_parts: Path) -> None:
    # The report of the first four parts is processed, and its response takes a long time.
    drips = {"kind": "slow_body", "route": "/assets/multipart-uploads/*", "method": "POST", "seconds": 600}
    platform.faults(drips | {"count": 1})
    said = {"settings": platform.settings, "video": str(six_parts), "direct": CHUNK}
    before = platform.requests("PUT", "/media")
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, json.dumps(said)], env=dict(os.environ), text=True
    )
    kill_when(lambda: any(upload["chunks_completed"] >= 4 for upload in platform.active()), process)
    [upload] = platform.active()
    sent = platform.requests("PUT", "/media")
    assert sent - before >= 4
    asset = platform.asset(six_parts)
    assert asset["size"] == six_parts.stat().st_size
    assert platform.requests("PUT", "/media") - sent == 6 - upload["chunks_completed"] == 2
    assert platform.active() == []


@pytest.mark.parametrize(
    ("method", "status", "found"),
    [
        ("multipart", "processing", False),  # its parts may be missing
        ("multipart", "ready", True),
        ("direct", "processing", True),
        ("direct", "failed", False),
    ],
)
def test_an_upload_that_may_lack_parts_is_no_lost_asset(
    server: Server,  # noqa: F811
    tmp_path: Path,
    method: str,
    status: str,
    found: bool,
) -> None:
    asset = {"_id": "a1", "filename": "v.tl_data_key-0123.mp4", "method": method, "status": status}
    server.tell("GET /assets", say(200, {"data": [asset], "page_info": {"page": 1, "total_page": 1}}))
    settings = Settings(api_key="tlk_x", base_url=server.url)

    async def look() -> str | None:
        async with Client(settings, base_url=server.url, limiter=Limiter.of(settings)) as client:
            return await lost_asset(client, Storage(str(tmp_path / "ledger")), "0123")

    assert asyncio.run(look()) == ("a1" if found else None)


def test_a_file_that_was_replaced_is_uploaded_whole(
    platform: Platform, six_parts: Path, tmp_path: Path
) -> None:
    """Both versions have one length and, as files of hosts without an ETag may have, one key."""
    video = Path(shutil.copy(six_parts, tmp_path / "v.mp4"))
    settings = Settings(**platform.settings, api_key="tlk_A0KEY")

    async def send() -> str:
        async with Client(
            settings, base_url=platform.settings["base_url"], limiter=Limiter.of(settings)
        ) as client:
            return await upload(client, Storage(str(tmp_path / "uploads")), str(video), "0123", CHUNK)

    platform.faults({"kind": "status", "status": 503, "route": "/media/*", "method": "PUT", "count": 1})
    with pytest.raises(ServerFailed):
        asyncio.run(send())
    with video.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"x")
    sent = platform.requests("PUT", "/media")
    assert asyncio.run(send())
    assert platform.requests("PUT", "/media") - sent == 6
