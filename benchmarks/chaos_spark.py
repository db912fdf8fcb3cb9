"""Spark whose Python workers are killed at random, with speculation on: does any video get a second task?

    python benchmarks/chaos_spark.py [--seeds 3] [--videos 20] [--local]

A standalone cluster of two workers, on two addresses of this machine: Spark starts a speculative copy of a
task on another host only. Each round indexes all videos by `tl_index_video` in a lateral join that Spark
evaluates twice, or by the writer `twelvelabs`, while a thread kills Python workers (SIGKILL) and the server.
A statement that fails is run again. With `--local` there is one process of Spark and no speculation. What
is killed seldom runs long enough for a copy of it: benchmarks/speculation.py is about those.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyspark

from benchmarks.chaos import Server, library
from tl_data.demo.file_server import FileServer

WAYS = ("written", "selected")
FAILURES = 30  # of one task, before Spark gives the statement up
LONGEST = 400.0  # seconds that one seed may take


@dataclass
class Outcome:
    """What became of one seed."""

    seed: int
    videos: int
    created: int = 0  # tasks, by the server's own count
    rows: int = 0
    statements: int = 0
    kills: int = 0  # of Python workers
    restarts: int = 0  # of the server
    speculative: int = 0  # tasks
    attempts: int = 0  # tasks in all
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


def descendants(pid: int) -> list[int]:
    """Processes that a process started, directly or not."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            children.setdefault(int(stat.read_text().rpartition(")")[2].split()[1]), []).append(
                int(stat.parent.name)
            )
        except (OSError, IndexError):
            continue  # ended meanwhile
    found, todo = [], [pid]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def python_workers() -> list[int]:
    """The processes that Spark's daemons forked for tasks."""
    daemons = [pid for pid in descendants(os.getpid()) if b"pyspark.daemon" in _command(pid)]
    return [pid for daemon in daemons for pid in descendants(daemon) if pid in daemons]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@contextmanager
def cluster(folder: Path, cores: int = 1) -> Iterator[str]:
    """A master and two workers of so many cores, as if on two hosts; gives the master's address."""
    spark_class = str(Path(pyspark.__file__).parent / "bin" / "spark-class")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "SPARK_WORKER_DIR": str(folder / "work")}

    def start(name: str, *said: str) -> subprocess.Popen[bytes]:
        with (folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen([spark_class, *said], stdout=log, stderr=log, env=environment)

    package = "org.apache.spark.deploy"
    here = ("--host", "127.0.0.1", "--port", str(port), "--webui-port", "0")
    running = [start("master", f"{package}.master.Master", *here)]
    try:
        for number in (2, 3):
            host = ("--host", f"127.0.0.{number}", "--webui-port", "0")
            said = (*host, "--cores", str(cores), "--memory", "1g")
            worker = f"{package}.worker.Worker"
            running.append(start(f"worker-{number}", worker, *said, f"spark://127.0.0.1:{port}"))
        yield f"spark://127.0.0.1:{port}"
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


@contextmanager
def spark_session(folder: Path, local: bool, cores: int = 1) -> Iterator[Any]:
    """A session on a cluster of its own, with speculation that does not hesitate."""
    from tl_data.spark import session

    (folder / "events").mkdir()
    with ExitStack() as stack:
        master = f"local[2,{FAILURES}]" if local else stack.enter_context(cluster(folder, cores))
        spark = session(
            master,
            delta=False,
            **{
                "spark.driver.bindAddress": "127.0.0.1",
                "spark.driver.host": "127.0.0.1",
                "spark.eventLog.compress": "false",
                "spark.eventLog.dir": (folder / "events").as_uri(),
                "spark.eventLog.enabled": "true",
                "spark.eventLog.rolling.enabled": "false",
                "spark.executor.memory": "600m",
                "spark.local.dir": str(folder / "local"),
                "spark.log.level": "OFF",
                "spark.speculation": "true",
                "spark.speculation.interval": "200ms",
                "spark.speculation.minTaskRuntime": "1s",
                "spark.speculation.multiplier": "1.1",
                "spark.speculation.quantile": "0.1",
                "spark.sql.shuffle.partitions": "4",
                "spark.sql.warehouse.dir": str(folder / "warehouse"),
                "spark.task.maxFailures": str(FAILURES),
                "spark.ui.enabled": "false",
                "spark.ui.showConsoleProgress": "false",
            },
        )
        try:
            yield spark
        finally:
            spark.stop()


class Killer(threading.Thread):
    """Kills processes until it is stopped."""

    def __init__(self, outcome: Outcome, server: Server, dice: random.Random, most: int) -> None:
        super().__init__(name="killer")
        self.outcome, self.server, self.dice, self.most = outcome, server, dice, most
        self.stop = threading.Event()

    def run(self) -> None:
        while not self.stop.wait(self.dice.uniform(0.3, 3.0)):
            if self.dice.random() < 0.1 and self.outcome.restarts < 2:
                self.server.kill()
                self.outcome.restarts += 1
                self.server.start()
            elif self.outcome.kills < self.most and (there := python_workers()):
                try:
                    os.kill(self.dice.choice(there), 9)
                except ProcessLookupError:
                    continue
                self.outcome.kills += 1


def storm(
    seed: int,
    names: list[str],
    files: FileServer,
    spark: Any,
    folder: Path,
    *,
    kills: int,
    ways: list[str],
) -> Outcome:
    """One seed: each way until it has ended well."""
    import tl_data
    from tl_data.settings import Settings

    dice, server = random.Random(seed), Server(folder, seed)
    urls = [files.url(name) for name in names]
    outcome, began = Outcome(seed, len(urls)), time.monotonic()
    settings = Settings(
        base_url=server.base_url,
        home=str(folder / "home"),
        ledger=str(folder / "ledger"),
        index="chaos",
        poll_interval=0.5,
    )
    tl_data.register(spark, settings)
    rows = [(url,) for url in [*urls, *dice.choices(urls, k=len(urls) // 4)]]
    dice.shuffle(rows)
    frame = spark.createDataFrame(rows, "url string").repartition(5)
    frame.createOrReplaceTempView("films")
    killer = Killer(outcome, server, dice, kills)
    killer.start()

    def written() -> int:
        frame.write.format("twelvelabs").mode("append").option("index_id", "chaos").save()
        return len(rows)

    def selected() -> int:
        called = "SELECT url, tl_index_video(url, 'chaos') AS video FROM films"
        once = spark.sql(f"SELECT * FROM ({called}) WHERE video.status = 'ready' ORDER BY video.video_id")
        return len(once.toArrow())

    chosen = [way for way in (written, selected) if way.__name__ in ways]
    dice.shuffle(chosen)
    try:
        for way in chosen:
            while time.monotonic() - began < LONGEST:
                outcome.statements += 1
                try:
                    outcome.rows = way()
                except Exception as error:  # noqa: BLE001 - whatever Spark makes of it: run it again
                    said = str(error)
                    if not any(known in said for known in ("crashed", "failed at row", "FAILED", "lost")):
                        outcome.wrong.append(said[:300])
                        break
                else:
                    break
            else:
                outcome.wrong.append(f"{way.__name__}: not done after {LONGEST:g} s")
            if outcome.rows != len(rows):
                outcome.wrong.append(f"{way.__name__}: {outcome.rows} rows of {len(rows)}")
    finally:
        killer.stop.set()
        killer.join()
    outcome.created = server.stats()["tasks_created"]
    server.kill()
    if outcome.created != outcome.videos:
        outcome.wrong.append(f"{outcome.created} tasks created for {outcome.videos} videos")
    outcome.seconds = time.monotonic() - began
    return outcome


def count_tasks(events: Path) -> tuple[int, int]:
    """Tasks that Spark started, and how many of them were speculative copies, by its event log."""
    started = speculative = 0
    for file in events.iterdir():
        for line in file.read_text().splitlines():
            if '"SparkListenerTaskStart"' in line:
                started += 1
                speculative += json.loads(line)["Task Info"]["Speculative"]
    return started, speculative


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--videos", type=int, default=20)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--local", action="store_true")
    said = parser.parse_args()
    failed = 0
    with library(said.videos) as (names, files):
        for seed in range(said.first, said.first + said.seeds):
            with tempfile.TemporaryDirectory() as place:
                folder = Path(place)
                with spark_session(folder, said.local) as spark:
                    good = names[: said.videos]
                    o = storm(seed, good, files, spark, folder, kills=said.kills, ways=said.ways)
                o.attempts, o.speculative = count_tasks(folder / "events")
            failed += bool(o.wrong)
            print(
                f"seed {seed}: {o.created} tasks for {o.videos} videos, {o.kills} workers killed, server "
                f"killed {o.restarts} times, {o.statements} statements, {o.attempts} tasks of Spark, "
                f"{o.speculative} speculative, {o.seconds:.0f} s; wrong: {'; '.join(o.wrong) or '-'}",
                flush=True,
            )
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
