"""Makes the pictures of the viewer in this folder from a lake of `make demo`.

    python docs/img/make.py demo-lake      needs chromium, playwright and Pillow

Rows are added to copies of the tables `errors` and `alerts`, so that their pages have something to show.
"""

from __future__ import annotations

import io
import os
import shutil
import socket
import sys
import tempfile
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import uvicorn
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from tl_data.lake.base import rows_of
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import ALERTS, ERRORS, VIDEOS
from tl_data.view.app import app
from tl_data.view.server import open_lake

HERE = Path(__file__).parent
SIZE = (1200, 780)
FAILURES = [
    {"source_key": "trailer.mp4", "url": "https://example.com/trailer.mp4", "attempt": 1, "retryable": False}
    | {"class": "MediaRefused", "code": "video_duration_too_short"}
    | {"message": "the video has 1.5 s; at least 4 s are needed"},
    {"source_key": "interview.mov", "url": "https://example.com/b.mov", "attempt": 3, "retryable": True}
    | {"class": "ConnectionFailed", "code": "connection_failed"}
    | {"message": "example.com did not answer within 30 s"},
]


#: Question, file, start, end and words of a clip that a saved question found.
ALERTED = [
    ("someone names an emergency", "safety-briefing.mp4", 21.0, 28.0, "In an emergency, call the office."),
    ("a price is named", "product-launch.mp4", 15.0, 22.0, "The price is nine hundred dollars."),
]


def save(page: Page, name: str) -> None:
    """Save a picture of the page with 128 colours."""
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.quantize(128, Image.Quantize.MEDIANCUT).save(HERE / f"{name}.png", optimize=True)


def main(lake: str) -> None:
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        folder = Path(place) / "demo-lake"
        shutil.copytree(lake, folder, ignore=shutil.ignore_patterns("engine"))
        now = datetime.now(UTC)
        Lake(str(folder)).table(ERRORS).append(rows_of(ERRORS, [{**f, "failed_at": now} for f in FAILURES]))
        viewer = open_lake(str(folder))
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        server = uvicorn.Server(uvicorn.Config(app(viewer, "t", port), log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        alerts = [
            {
                "question": question,
                "content_key": v["content_key"],
                "video_id": v["video_id"],
                "url": v["url"],
            }
            | {"source_key": v["source_key"], "start_sec": start, "end_sec": end, "confidence": "high"}
            | {"rank": 1, "transcription": words, "found_at": now}
            for v in Lake(str(folder)).read(VIDEOS).to_pylist()
            for question, file, start, end, words in ALERTED
            if v["url"].endswith(file)
        ]
        Lake(str(folder)).table(ALERTS).append(rows_of(ALERTS, alerts))
        tile = next(t for t in viewer.library.tiles() if t["file"] == "safety-briefing.mp4")
        pages = {
            "wall": "#videos&sort=title",
            "video": f"#video={tile['id']}&t=9.5&q=emergency",
            "search": "#search&kind=words&text=two",
            "errors": "#errors",
            "runs": "#runs",
            "alerts": "#alerts",
        }
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=sandbox)
        schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
        for scheme in schemes:
            context = browser.new_context(
                viewport={"width": SIZE[0], "height": SIZE[1]},
                color_scheme="dark" if scheme == "dark" else "light",
            )
            page = context.new_page()
            for name, address in pages.items():
                page.goto(f"http://127.0.0.1:{port}/t/{address}")
                page.reload()
                page.wait_for_selector("main :is(.player, .tile, table)")
                page.wait_for_timeout(1500)
                save(page, f"{name}-{scheme}")
            context.close()
        browser.close()
        server.should_exit = True
        thread.join()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "demo-lake")
