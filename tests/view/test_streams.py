"""HLS: the platform's stream of a video whose source is gone, and a playlist that the lake names."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support import media
from tests.support.http_servers import serving
from tests.support.library import Library
from tests.view.conftest import Served, make_sound
from tests.view.test_browser import CHROMIUM, Opened, browser, opened, time_of, wait_playing, wait_until
from tests.view.test_view import ask, get
from tl_data.connection import connect
from tl_data.functions import LISTINGS
from tl_data.lake.base import rows_of
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import VIDEOS
from tl_data.local.tasks.hls import PLAYLIST, write_stream
from tl_data.view.app import Viewer
from tl_data.view.snapshot import LakeFolder

__all__ = ["browser", "opened"]  # fixtures


@pytest.fixture(scope="module")
def indexed(
    library: Library, tmp_path_factory: pytest.TempPathFactory, serve: Callable[[Viewer], Served]
) -> tuple[Served, str]:
    """A lake of an indexed video whose file is gone, and the id of the video. The engine has its stream."""
    folder = tmp_path_factory.mktemp("indexed")
    rows = (
        row
        for batch in connect(library.settings).batches(LISTINGS["videos"], index_id=library.index)
        for row in batch.to_pylist()
    )
    first = next(rows)
    known = {"source_key": "gone", "url": str(folder / "gone.mp4"), "status": "ready"}
    known |= {name: first[name] for name in ("video_id", "index_id", "duration_sec")}
    Lake(str(folder)).table(VIDEOS).append(rows_of(VIDEOS, [known]))
    served = serve(Viewer(LakeFolder(str(folder)), "indexed", library.settings))
    deadline = time.monotonic() + 60  # the stream is packaged after the video is ready
    while get(served, "stream", id=first["video_id"])[0] != 200:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    return served, first["video_id"]


def test_a_video_whose_source_is_gone_has_the_stream_of_the_platform(indexed: tuple[Served, str]) -> None:
    served, video_id = indexed
    play = ask(served, "api/video", id=video_id)["play"]
    assert (play["kind"], play["stream"]) == ("none", True)
    status, headers, body = get(served, "stream", id=video_id)
    assert (status, headers["content-type"]) == (200, "application/vnd.apple.mpegurl")
    parts = [line for line in body.decode().splitlines() if not line.startswith("#")]
    assert parts
    assert all(part.startswith(f"stream?id={video_id}&n=") for part in parts)  # nothing signed
    status, headers, body = get(served, parts[0])
    assert (status, headers["content-type"], body[0]) == (200, "video/mp2t", 0x47)


def test_the_viewer_fetches_no_other_address(indexed: tuple[Served, str]) -> None:
    served, video_id = indexed
    for number in ("99999", "-1", "http://127.0.0.1/"):
        status, _, body = get(served, "stream", id=video_id, n=number)
        assert (status, "error" in json.loads(body)) == (404, True)
    assert get(served, "stream", id="nobody")[0] == 404


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_file_that_gives_only_sound_is_replaced_by_the_stream(
    opened: Opened, indexed: tuple[Served, str], tmp_path: Path, serve: Callable[[Viewer], Served]
) -> None:
    served, video_id = indexed
    make_sound(sound := tmp_path / "talk.webm")
    record = served.viewer.library.find(video_id)
    assert record is not None
    row = {"source_key": "sound", "url": str(sound), "status": "ready", "video_id": video_id}
    row["index_id"] = record["record"]["index_id"]
    Lake(str(tmp_path / "lake")).table(VIDEOS).append(rows_of(VIDEOS, [row]))
    other = serve(Viewer(LakeFolder(str(tmp_path / "lake")), "sound", served.viewer.settings))
    page = opened.page
    page.goto(f"{other.url}#video={video_id}&t=1&play=1")
    wait_until(page, "(document.querySelector('.player video')?.videoWidth ?? 0) > 0")
    wait_playing(page)
    wait_until(page, "document.querySelector('.player video').currentTime > 1.2")


class _Handler(SimpleHTTPRequestHandler):
    """Serves a folder to pages of any origin."""

    def end_headers(self) -> None:
        self.send_header("Access-Control-Allow-Origin", "*")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def playlist(tmp_path: Path) -> Iterator[str]:
    """The URL of a playlist of three seconds."""
    source = media.plain(tmp_path)
    (folder := tmp_path / "hls").mkdir()
    write_stream(source, folder)
    with serving(functools.partial(_Handler, directory=str(folder))) as url:
        yield f"{url}/{PLAYLIST}"


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_both_play(
    opened: Opened,
    indexed: tuple[Served, str],
    playlist: str,
    tmp_path: Path,
    serve: Callable[[Viewer], Served],
) -> None:
    served, video_id = indexed
    page = opened.page
    page.goto(f"{served.url}#video={video_id}&t=1&play=1")
    wait_playing(page)
    wait_until(page, "document.querySelector('.player video').currentTime > 1.2")
    assert all(url.startswith((served.url, "blob:")) for url in opened.requests)
    row = {"source_key": "list", "url": playlist, "status": "ready"}
    Lake(str(tmp_path / "lake")).table(VIDEOS).append(rows_of(VIDEOS, [row]))
    other = serve(Viewer(LakeFolder(str(tmp_path / "lake")), "list"))
    opened.requests.clear()
    page.goto(f"{other.url}#video=list&play=1")
    wait_until(page, "(document.querySelector('.player video')?.readyState ?? 0) >= 3")
    page.evaluate("document.querySelector('.player video').play()")
    wait_until(page, "document.querySelector('.player video').currentTime > 0.5")
    assert time_of(page) > 0.5
    hosts = {urlsplit(url).netloc for url in opened.requests if not url.startswith("blob:")}
    assert hosts == {urlsplit(other.url).netloc, urlsplit(playlist).netloc}
    assert any(url.endswith(".ts") for url in opened.requests)
