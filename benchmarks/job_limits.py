"""A job at the limits of the service: how much longer than these force does it take?

    python benchmarks/job_limits.py [--videos 24] [--window 20]

The embedded engine refuses what is beyond its limits, in windows that begin with their first request, and
tells them in its headers, as the service does. Each way is one run of a job over new videos with chapters:
an indexing task and an analysis a video.

free       no limits: what the work itself takes
index      a quarter of the tasks in each window
analyze    a third of the analyses in each window

`forced` is the sum of the windows that must pass before the last request may be sent, and `ratio` the time of
the run beside that and the time of the free run together.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import urllib.request
from pathlib import Path

from benchmarks.chaos import Server, films
from tl_data import pipeline
from tl_data.connection import connect
from tl_data.pipeline.job import Job, Source


def limit(server: Server, **requests: tuple[int, float]) -> None:
    """So many requests of a category in so many seconds; nothing is limited otherwise."""
    limits = {
        category: [{"dimension": "Request", "limit": count, "seconds": seconds}]
        for category, (count, seconds) in requests.items()
    }
    body = json.dumps({"generation": "2026", "limits": limits}).encode()
    url = server.base_url.replace("/v1.3", "/_engine/rates")
    asked = urllib.request.Request(url, body, {"content-type": "application/json"}, method="PUT")
    with urllib.request.urlopen(asked, timeout=30) as answer:
        answer.read()


def one_run(server: Server, folder: Path, name: str, videos: list[str]) -> float:
    """Seconds of a run over videos that are new to its index and its ledger."""
    settings = {
        "base_url": server.base_url,
        "home": str(folder),
        "ledger": str(folder / name / "ledger"),
        "index": name,
        "poll_interval": 0.5,
    }
    source = Source("urls", tuple(videos))
    job = Job(source, str(folder / name / "lake"), tables=("chapters",), settings=settings)
    began = time.monotonic()
    report = pipeline.run(job)
    took = time.monotonic() - began
    connect(job.load_settings()).close()
    assert (report.status, report.submitted, report.calls) == ("done", len(videos), 2 * len(videos))
    return took


def main() -> None:
    """Print a row for each way."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=int, default=24)
    parser.add_argument("--window", type=float, default=20.0)
    arguments = parser.parse_args()
    count, window = arguments.videos, arguments.window
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "films").mkdir()
        names = films(folder / "films", count)[:count]
        videos = [str(folder / "films" / name) for name in names]
        server = Server(folder, 0, "seed = {seed}  # no faults, of the shape {shape} or any other\n")
        try:
            free = one_run(server, folder, "free", videos)
            print(f"{'way':8} {'forced':>8} {'took':>8} {'ratio':>6}")
            print(f"{'free':8} {0.0:8.1f} {free:8.1f}")
            for way, parts in (("index", 4), ("analyze", 3)):
                limit(server, **{way: (-(-count // parts), window)})
                took, forced = one_run(server, folder, way, videos), (parts - 1) * window
                print(f"{way:8} {forced:8.1f} {took:8.1f} {took / (forced + free):6.2f}")
        finally:
            server.kill()


if __name__ == "__main__":
    main()
