"""The viewer in Chromium, over lakes of 1,000 and 10,000 videos: first picture of the wall, click to playing.

    python benchmarks/viewer.py            needs chromium and playwright

The peer is a page without content from the same server in the same run: what the browser takes by itself.
"""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import uvicorn
from playwright.sync_api import Page, sync_playwright

from tests.view.conftest import make_lake, make_video
from tl_data.lake.base import rows_of
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import CLIPS, VIDEOS
from tl_data.view.app import Viewer, app
from tl_data.view.library import Library, Query
from tl_data.view.snapshot import LakeFolder

PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
TILE = "[...document.querySelectorAll('.tile img')].some(i => i.complete && i.naturalWidth)"
PLAYING = (
    "(v => v && !v.paused && !v.seeking && v.currentTime > 10.02)(document.querySelector('.player video'))"
)


def until(page: Page, condition: str) -> float:
    """Seconds until a condition holds."""
    started = time.perf_counter()
    while not page.evaluate(condition):
        page.wait_for_timeout(5)
    return time.perf_counter() - started


def measured(page: Page, url: str, rounds: int) -> dict[str, float]:
    """Medians in seconds."""
    wall, paint, play = [], [], []
    for _ in range(rounds):
        started = time.perf_counter()
        page.goto("about:blank")
        page.goto(url)
        until(page, TILE)
        wall.append(time.perf_counter() - started)
        paint.append(float(page.evaluate(PAINT)) / 1000)
        page.locator(".tile a").first.click()
        page.wait_for_selector(".lane-clips .mark")
        until(page, "document.querySelector('.player video')?.readyState >= 1")
        started = time.perf_counter()
        page.locator(".lane-clips .mark").nth(2).click()
        until(page, PLAYING)
        play.append(time.perf_counter() - started)
    return {
        "paint": statistics.median(paint),
        "wall": statistics.median(wall),
        "play": statistics.median(play),
    }


def served(viewer: Viewer) -> tuple[str, Any]:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app(viewer, "t", port), log_level="warning", lifespan="off"))
    threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True).start()
    return f"http://127.0.0.1:{port}/t/", server


def main() -> None:
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        video = Path(place) / "a.webm"
        make_video(video)
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=[
                "--autoplay-policy=no-user-gesture-required",
                *(["--no-sandbox"] if os.geteuid() == 0 else []),
            ],
        )
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        for videos in (1_000, 10_000):
            folder = Path(place) / f"lake-{videos}"
            make_lake(folder, lambda n: str(video), videos)
            viewer = Viewer(LakeFolder(str(folder)), "bench")
            started = time.perf_counter()
            viewer.library.tiles()
            read = time.perf_counter() - started
            url, server = served(viewer)
            page.goto(f"{url}static/icon.svg")
            peer = []
            for _ in range(7):
                page.goto("about:blank")
                started = time.perf_counter()
                page.goto(f"{url}static/icon.svg")
                peer.append(time.perf_counter() - started)
            found = measured(page, f"{url}#videos&state=ready", 7)
            print(
                f"{videos:>6} videos: tables read in {read:.2f} s; first paint {found['paint']:.2f} s, first "
                f"picture {found['wall']:.2f} s (a page with one picture: {statistics.median(peer):.2f} s), "
                f"click to playing {found['play']:.2f} s"
            )
            server.should_exit = True
        browser.close()
        million(Path(place) / "million")


def million(folder: Path) -> None:
    """A lake of a million clips without a browser. The peer is reading the table of clips alone."""
    videos, each = 10_000, 100
    ids = [f"{n:024x}" for n in range(videos)]
    lake = Lake(str(folder))
    rows = [
        {"source_key": f"k{n}", "url": f"/v/{n}.mp4", "video_id": ids[n], "status": "ready"}
        for n in range(videos)
    ]
    lake.table(VIDEOS).append(rows_of(VIDEOS, rows))
    starts = np.tile(np.arange(each) * 5.0, videos)
    columns: dict[str, Any] = {
        "video_id": np.repeat(np.array(ids), each),
        "clip_number": np.tile(np.arange(each), videos),
        "start_sec": starts,
        "end_sec": starts + 5,
        "transcription": [f"number {n} is open" if n % 10 == 0 else None for n in range(len(starts))],
    }
    arrays = [
        pa.array(columns[f.name]).cast(f.type) if f.name in columns else pa.nulls(len(starts), f.type)
        for f in CLIPS.schema
    ]
    lake.table(CLIPS).append(pa.table(arrays, schema=CLIPS.schema))
    started = time.perf_counter()
    lake.read(CLIPS)
    peer = time.perf_counter() - started
    library = Library(LakeFolder(str(folder)))
    times = []
    for act in (
        library.lake.snapshot,
        lambda: library.page(Query()),
        lambda: library.page(Query(text="number 500000 ")),
        lambda: library.search_words("number 500000 ", 120),
        lambda: library.video(ids[5000]),
    ):
        started = time.perf_counter()
        act()
        times.append(time.perf_counter() - started)
    opened, first, filtered, searched, video = times
    print(
        f"1,000,000 clips: opened in {opened:.2f} s (the table alone: {peer:.2f} s), page {first:.2f} s, "
        f"filter by a text {filtered:.2f} s, search {searched:.2f} s, one video {video * 1000:.1f} ms"
    )


if __name__ == "__main__":
    main()
