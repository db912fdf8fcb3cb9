"""Speculative copies of Spark tasks that index videos: does a video that two tasks ask for get a second task?

    python benchmarks/speculation.py [--rounds 4]

A standalone cluster of two workers, on two addresses of this machine: Spark starts a speculative copy of a
task on another host only. Each round is one statement of four tasks with a video each. The server holds the
creation of two of them: one for a while before it is carried out, one after it, by an answer that drips. When
the two others are done Spark starts a copy of each of the held, which wants the same video at the same time.
The copies are counted from Spark's event log, the tasks created by the server.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.chaos import Server, library
from benchmarks.chaos_spark import spark_session

VIDEOS = 4  # a round, one a task
HELD = 12.0  # seconds; the other tasks, and the start of a copy, take less

FAULTS = [
    {"kind": "latency", "route": "/tasks", "method": "POST", "count": 1, "seconds": HELD},
    {"kind": "slow_body", "route": "/tasks", "method": "POST", "count": 1, "seconds": HELD},
]


def hold(server: Server) -> None:
    """The next two creations of tasks take long."""
    url = server.base_url.replace("/v1.3", "/_engine/faults")
    body = json.dumps({"fault": FAULTS}).encode()
    asked = urllib.request.Request(url, body, {"content-type": "application/json"}, method="PUT")
    with urllib.request.urlopen(asked, timeout=30) as answer:
        answer.read()


def one_round(spark: Any, urls: list[str]) -> int:
    """One statement, a task a video; gives the number of its distinct ready videos."""
    listed = ", ".join(f"'{url}'" for url in urls)
    frame = spark.range(0, len(urls), 1, len(urls)).selectExpr(f"array({listed})[CAST(id AS INT)] AS url")
    rows = frame.selectExpr("tl_index_video(url, 'copies') AS video").toArrow().to_pylist()
    return len({row["video"]["video_id"] for row in rows if row["video"]["status"] == "ready"})


def copies(events: Path) -> tuple[int, int, int, Counter[str]]:
    """By the event log: tasks, speculative ones, those of them that were first, and how all tasks ended."""
    started = speculative = won = 0
    ends: Counter[str] = Counter()
    for file in events.iterdir():
        for line in file.read_text().splitlines():
            event = json.loads(line)
            if event["Event"] == "SparkListenerTaskStart":
                started += 1
                speculative += event["Task Info"]["Speculative"]
            elif event["Event"] == "SparkListenerTaskEnd":
                reason = event["Task End Reason"]["Reason"]
                won += event["Task Info"]["Speculative"] and reason == "Success"
                ends[reason] += 1
    return started, speculative, won, ends


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=4)
    rounds = parser.parse_args().rounds

    import tl_data
    from tl_data.settings import Settings

    began, ready = time.monotonic(), 0
    with library(rounds * VIDEOS) as (names, files), tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        server = Server(folder, 0, faults="")
        with spark_session(folder, local=False, cores=2) as spark:
            settings = Settings(
                base_url=server.base_url,
                home=str(folder / "home"),
                ledger=str(folder / "ledger"),
                index="copies",
                poll_interval=0.5,
            )
            tl_data.register(spark, settings)
            for number in range(rounds):
                hold(server)
                ready += one_round(spark, [files.url(n) for n in names[number * VIDEOS :][:VIDEOS]])
        created = server.stats()["tasks_created"]
        server.kill()
        started, speculative, won, ends = copies(folder / "events")
    ended = ", ".join(f"{count} {reason}" for reason, count in sorted(ends.items()))
    print(
        f"{ready} of {rounds * VIDEOS} videos ready, {created} tasks created, {started} tasks of Spark "
        f"({ended}), {speculative} speculative, {won} of them first, {time.monotonic() - began:.0f} s"
    )
    sys.exit(not (created == ready == rounds * VIDEOS and speculative >= rounds))


if __name__ == "__main__":
    main()
