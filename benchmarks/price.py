"""What 100 hours of video cost, and how many requests a video takes, by the engine's own bill and counts.

    python benchmarks/price.py [--videos 24] [--minutes 10] [--requests 0]

A job runs over short distinct videos on an engine of each profile, `2025` and `today`. What the engine bills
is scaled: minutes of video to 100 hours, calls and written tokens to as many videos of `--minutes` each.
Prices are those of the list of the package.

An account of 2025 is billed as the first edition was everywhere: each video is indexed, also for its texts
alone, and its summary, gist and chapters are an analysis each. `--requests 1000` also counts the requests of
a job of so many videos for texts alone, which takes as many minutes as the engine needs to see them.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks.films import film, with_label
from tl_data import pipeline
from tl_data.billing import Prices
from tl_data.connection import connect
from tl_data.demo.file_server import FileServer
from tl_data.pipeline.job import Job, Source

HOURS = 100
JOBS: dict[str, tuple[str, ...]] = {
    "default job": ("clips", "summaries", "chapters", "vectors"),
    "texts alone": ("summaries", "chapters"),
}
LEAST = {"default job": 0.40, "texts alone": 0.55}  # that they are to be cheaper by


@contextmanager
def engine(folder: Path, profile: str) -> Iterator[str]:
    """An engine of this profile; gives its base URL."""
    home = folder / f"engine-{profile}"
    home.mkdir()
    command = [sys.executable, "-m", "tl_data.local", "--home", str(home), "--port", "0", "--allow-private"]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen([*command, "--profile", profile], stdout=log, stderr=log)
    try:
        while not (home / "engine.json").is_file():
            if process.poll() is not None:
                raise SystemExit((home / "log").read_text())
            time.sleep(0.05)
        yield str(json.loads((home / "engine.json").read_text())["base_url"])
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def films(folder: Path, count: int) -> None:
    """Distinct videos: other bytes, the same picture."""
    data = film(folder / "film.mp4")
    for number in range(count):
        (folder / f"{number}.mp4").write_bytes(with_label(data, f"{number}"))


def measure(base_url: str, urls: list[str], folder: Path, tables: tuple[str, ...]) -> dict[str, Any]:
    """Run a job over these URLs: the engine's bill, the requests by route, and what the plan said."""
    control = base_url.removesuffix("/v1.3") + "/_engine"
    settings = {
        "api_key": "tlk_A0KEY",
        "base_url": base_url,
        "home": str(folder / "home"),
        "ledger": str(folder / "ledger"),
        "index": folder.name,
    }
    job = Job(Source("urls", tuple(urls)), str(folder / "lake"), settings=settings, tables=tables)
    connection = connect(job.load_settings())
    try:
        planned = pipeline.plan(job)
        for name in ("bill", "stats"):
            httpx.delete(f"{control}/{name}").raise_for_status()
        began = time.monotonic()
        done = pipeline.run(job)
        seconds = time.monotonic() - began
    finally:
        connection.close()
    if done.status != "done" or done.failed:
        raise SystemExit("\n".join(done.lines()))
    bill = httpx.get(f"{control}/bill").json()
    calls = sum(units["calls"] for units in bill.values())
    if (calls, sum(u["video_us"] for u in bill.values())) != (
        planned.calls,
        sum(u.video_us for u in planned.bill.operations.values()),
    ):
        raise SystemExit(f"the plan is not the bill: {planned.sentence()} / {bill}")
    requests = httpx.get(f"{control}/stats").json()["requests"]
    counts = {route: sum(n.values()) for route, n in requests.items() if "_engine" not in route}
    return {"bill": bill, "requests": counts, "seconds": seconds, "planned": planned.requests}


def scaled(bill: dict[str, Any], videos: int, minutes: float, prices: Prices) -> float:
    """The price of 100 hours, in videos of so many minutes."""
    seen = videos * 4 / 60  # minutes of the videos that were billed
    of_hours = HOURS * 60 / seen
    of_videos = HOURS * 60 / minutes / videos
    return sum(
        prices.of(
            operation,
            video_minutes=units["video_minutes"] * of_hours,
            calls=round(units["calls"] * of_videos),
            output_tokens=round(units["output_tokens"] * of_videos),
        )
        for operation, units in bill.items()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="What 100 hours of video cost, before and after.")
    parser.add_argument("--videos", type=int, default=24)
    parser.add_argument("--minutes", type=float, default=10.0, help="length of a video of the 100 hours")
    parser.add_argument("--requests", type=int, default=0, help="videos of a job whose requests are counted")
    options = parser.parse_args()
    prices, found = Prices.load(), dict[tuple[str, str], dict[str, Any]]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "films").mkdir()
        films(folder / "films", max(options.videos, options.requests))
        with FileServer(folder / "films") as server:
            urls = [server.url(f"{n}.mp4") for n in range(max(options.videos, options.requests))]
            for profile in ("2025", "today"):
                with engine(folder, profile) as base_url:
                    for number, (job, tables) in enumerate(JOBS.items()):
                        place = folder / f"{profile}-{number}"
                        found[profile, job] = measure(base_url, urls[: options.videos], place, tables)
                    if profile == "today" and options.requests:
                        many = measure(
                            base_url, urls[: options.requests], folder / "many", JOBS["texts alone"]
                        )
                        found["many", "texts alone"] = many
    ends = 0
    for job, least in LEAST.items():
        before, after = (
            scaled(found[profile, job]["bill"], options.videos, options.minutes, prices)
            for profile in ("2025", "today")
        )
        saved = 1 - after / before
        ends |= saved < least
        print(
            f"{job}, {HOURS} h: {before:.2f} before, {after:.2f} {prices.currency} now: {saved:.1%} less "
            f"(aim {least:.0%})"
        )
    for (profile, job), run in found.items():
        account, videos = ("today", options.requests) if profile == "many" else (profile, options.videos)
        total = sum(run["requests"].values())
        made = ", ".join(f"{n} {route}" for route, n in run["requests"].items() if route.startswith("POST"))
        print(
            f"{account}, {job}, {videos} videos: {total / videos:.2f} requests a video in "
            f"{run['seconds']:.0f} s; planned {run['planned'] / videos:.2f} without polls and batches; {made}"
        )
    raise SystemExit(ends)


if __name__ == "__main__":
    main()
