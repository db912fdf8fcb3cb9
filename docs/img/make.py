"""Makes the pictures of the viewer, the playground and SQL in this folder from a lake of `make demo`.

    python docs/img/make.py demo-lake      needs chromium, playwright and Pillow

The pictures show what jobs wrote. In a copy of the lake, a second job asks two saved questions, and its
source lists two videos that fail, so that the pages of alerts and errors have rows.
"""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import duckdb
import uvicorn
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from rich.console import Console
from rich.syntax import Syntax

from tl_data import pipeline, register
from tl_data.connection import Connection, connect
from tl_data.demo.file_server import FileServer
from tl_data.demo.scene import Scene
from tl_data.demo.videos import make_video
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import VIDEOS
from tl_data.pipeline.job import OUTPUTS, Alerts, Job, Source
from tl_data.settings import Settings
from tl_data.view.app import Viewer, app
from tl_data.view.server import open_lake

HERE = Path(__file__).parent
SIZE = (1200, 780)
QUESTIONS = ("someone wears a safety helmet", "keep the emergency exit clear")
SQL = """\
SELECT v.source_key, c.start_sec, c.end_sec, c.confidence, left(c.transcription, 40) AS spoken
FROM tl_search('demo', 'keep the emergency exit clear', max_hits => 3) c
JOIN videos v USING (video_id)
ORDER BY c.rank"""
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


def run_job(folder: Path, connection: Connection) -> None:
    """Run a second job on the videos of the demo, at their URLs, and on two that fail."""
    with (folder / "videos.csv").open(encoding="utf-8") as file:
        videos = list(csv.DictReader(file))
    port = urlsplit(videos[0]["url"]).port or 0
    make_video(folder / "media" / "trailer.mp4", [Scene(0.3, "Soon")], width=360, height=360, fps=10)
    with FileServer(folder / "media", port) as server:
        videos.append({"name": "trailer.mp4", "title": "Trailer", "url": server.url("trailer.mp4")})
        videos.append({"name": "interview.mp4", "title": "Interview", "url": server.url("interview.mp4")})
        with (folder / "nightly.csv").open("w", newline="", encoding="utf-8") as file:
            rows = csv.DictWriter(file, ["name", "title", "url"])
            rows.writeheader()
            rows.writerows(videos)
        source = Source("files", str(folder / "nightly.csv"), url="url", key="name")
        alerts = Alerts(Source("urls", QUESTIONS, section="alerts"), threshold="medium")
        settings = {"home": connection.settings.home, "index": connection.settings.index}
        job = Job(source, str(folder), name="nightly", tables=OUTPUTS, alerts=alerts, settings=settings)
        print("\n".join(pipeline.run(job, connection=connection).lines()))
        print("\n".join(pipeline.alert(job, connection=connection).lines()))


@contextmanager
def served(viewer: Viewer) -> Iterator[str]:
    """Serve the viewer of a lake, and give its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app(viewer, "t", port), log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}/t/"
    finally:
        server.should_exit = True
        thread.join()


def save(page: Page, name: str) -> None:
    """Save a picture of the page with 256 colours. An octree keeps small areas of a strong colour."""
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.quantize(256, Image.Quantize.FASTOCTREE).save(HERE / f"{name}.png", optimize=True)


@contextmanager
def opened(browser: Browser, scheme: Literal["light", "dark"], key: str = "") -> Iterator[Page]:
    size = {"width": SIZE[0], "height": SIZE[1]}
    context = browser.new_context(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
    context.add_init_script(f"sessionStorage.setItem('tl_data.key', {key!r})")
    yield context.new_page()
    context.close()


def take_viewer(browser: Browser, viewer: Viewer, address: str) -> None:
    tile = next(t for t in viewer.library.tiles() if t["file"] == "safety-briefing.mp4")
    pages = {
        "wall": "#videos&sort=title",
        "video": f"#video={tile['id']}&t=9.5&q=emergency",
        "search": "#search&kind=words&text=two",
        "errors": "#errors",
        "runs": "#runs",
        "alerts": "#alerts",
    }
    for scheme in SCHEMES:
        with opened(browser, scheme) as page:
            for name, fragment in pages.items():
                page.goto(address + fragment)
                page.reload()
                page.wait_for_selector("main :is(.player, .tile, table)")
                page.wait_for_timeout(1500)
                save(page, f"{name}-{scheme}")


def take_playground(browser: Browser, address: str, key: str) -> None:
    for scheme in SCHEMES:
        with opened(browser, scheme, key) as page:
            page.goto(address)
            page.wait_for_selector(".tile")
            page.locator("select").select_option(label="demo (6)")
            page.get_by_label("Words").fill("helmet and gloves")
            page.keyboard.press("Enter")
            page.wait_for_selector(".tiles .score")
            page.locator(".tiles a").first.click()
            page.wait_for_selector(".lane-chapters .mark")
            page.wait_for_timeout(1500)
            page.keyboard.press("Space")
            page.wait_for_timeout(500)
            save(page, f"playground-{scheme}")


def take_sql(lake: Lake, settings: Settings) -> None:
    """Save a statement in DuckDB and its result as text in an SVG."""
    console = Console(record=True, width=108, file=io.StringIO())
    with duckdb.connect() as con:
        register(con, settings)
        con.register("videos", lake.read(VIDEOS))
        console.print(Syntax(f'con.sql("""\n{SQL}\n""")', "sql", background_color="default"))
        console.print(str(con.sql(SQL)), highlight=False)
    svg = console.export_svg(title="DuckDB")
    # The fonts of the machine are used, so that the picture loads nothing.
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL).replace("Fira Code, monospace", "monospace")
    (HERE / "sql.svg").write_text(
        "\n".join(line.rstrip() for line in svg.splitlines()) + "\n", encoding="utf-8"
    )


def main(lake: str) -> None:
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        folder = Path(place) / "demo-lake"
        shutil.copytree(lake, folder)
        home = folder / "engine"
        connection = connect(Settings(home=str(home), index="demo"))
        try:
            run_job(folder, connection)
            take_sql(Lake(str(folder)), connection.settings)
            sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
            options = ["--autoplay-policy=no-user-gesture-required", *sandbox]
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=options)
            viewer = open_lake(str(folder))
            with served(viewer) as address:
                take_viewer(browser, viewer, address)
            key = (home / "engine" / "engine.key").read_text(encoding="utf-8").strip()
            take_playground(browser, connection.base_url.removesuffix("v1.3"), key)
            browser.close()
        finally:
            connection.close(stop_engine=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "demo-lake")
