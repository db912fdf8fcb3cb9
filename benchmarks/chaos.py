"""A job whose processes and server are killed at random, over a line that loses answers: who pays twice?

    python benchmarks/chaos.py [--seeds 20] [--first 0] [--videos 60] [--profile 2025]

The job runs as `tl-data run` in a process of its own, at times in two at once. By seed, it is killed
(SIGKILL) at random moments and started again; the server is killed and started on the same data; requests
are answered with 429, 500, 503, resets, and answers that break off, before and after they were carried out.
After each kill every table is read, by its own reader and by others. At the end the server reports how many
tasks it created, and each video is in the tables exactly once, or in `errors`. After one more run without
kills, which reconciles the killed runs, the table `runs` has what the server billed: tasks, minutes, and each
analysis that was answered. An analysis whose answer was lost is in no row; its tokens are printed as `lost`.

`ratio` is created tasks over distinct videos that the server was to take.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import duckdb
import httpx
from deltalake import DeltaTable

from benchmarks.billed import differences, lost_tokens
from benchmarks.films import film, with_label
from tl_data.demo.file_server import FileServer
from tl_data.lake.lake import Format, Lake
from tl_data.lake.schemas import TABLES

OUTPUTS = ("clips", "summaries", "vectors")
REFUSED = 2  # videos that nobody may take: one that is none, and one that is not there
KILLS = 12  # of the job, at most; then it may come to its end
RESTARTS = 4  # of the server, at most
READS = 3  # of a table by two readers that see different rows: a run that is alive may write in between
CALM = 9.0  # seconds between two of them, at most
LONGEST = 600.0  # seconds that one seed may take

#: The price list that comes with the package: the engine is free unless one is named.
PRICES = str(resources.files("tl_data").joinpath("prices.toml"))

#: What goes wrong on the line; `{seed}` chooses the dice, and the shape of the 429s.
FAULTS = """\
seed = {seed}
[[fault]]
kind = "reset"
route = "/tasks"
method = "POST"
probability = 0.08
after = true
[[fault]]
kind = "status"
status = 500
route = "/tasks"
method = "POST"
probability = 0.04
after = true
[[fault]]
kind = "reset"
route = "/assets"
method = "POST"
probability = 0.05
after = true
[[fault]]
kind = "reset"
route = "/indexes/*/indexed-assets"
method = "POST"
probability = 0.08
after = true
[[fault]]
kind = "reset"
route = "/analyze/batches"
method = "POST"
probability = 0.1
after = true
[[fault]]
kind = "truncate"
probability = 0.03
[[fault]]
kind = "too_many_requests"
shape = "{shape}"
seconds = 0.5
probability = 0.05
[[fault]]
kind = "status"
status = 503
probability = 0.03
[[fault]]
kind = "status"
status = 500
probability = 0.02
[[fault]]
kind = "reset"
probability = 0.03
[[fault]]
kind = "latency"
low = 0.0
high = 0.3
probability = 0.2
"""


def films(folder: Path, count: int) -> list[str]:
    """Names of distinct videos: other bytes, the same picture."""
    data = film(folder / "film.mp4")
    for number in range(count):
        (folder / f"{number}.mp4").write_bytes(with_label(data, f"{number}"))
    (folder / "page.mp4").write_text("<!doctype html><title>Sign in</title>")
    return [*(f"{number}.mp4" for number in range(count)), "page.mp4", "nowhere.mp4"]


class Server:
    """The engine, in a process of its own that can be killed and started again on the same data."""

    def __init__(self, folder: Path, seed: int, faults: str = FAULTS, profile: str = "lenient") -> None:
        self.profile = profile
        self.home, self.faults = folder / "server", folder / "faults.toml"
        shapes = ("retry_after", "reset", "text", "empty")
        self.faults.write_text(faults.format(seed=seed, shape=shapes[seed % 4]))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.base_url = f"http://127.0.0.1:{self.port}/v1.3"
        self.start()

    def start(self) -> None:
        """Wait until it listens."""
        command = ["-m", "tl_data", "serve", "--home", str(self.home), "--port", str(self.port)]
        command += ["--profile", self.profile]
        self.process = subprocess.Popen(
            [sys.executable, *command, "--faults", str(self.faults), "--allow-private"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline(), "the server did not start"

    def kill(self) -> None:
        """In the middle of whatever it does."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def stats(self) -> dict[str, Any]:
        """The server's own counts."""
        with urllib.request.urlopen(self.base_url.replace("/v1.3", "/_engine/stats"), timeout=30) as answer:
            found: dict[str, Any] = json.load(answer)
            return found


@dataclass
class Outcome:
    """What became of one seed."""

    seed: int
    format: Format
    videos: int  # distinct, that the server was to take
    created: int = 0  # tasks, by the server's own count
    kills: int = 0
    restarts: int = 0
    starts: int = 0
    reads: int = 0  # of all tables, after a kill
    minutes: float = 0.0  # of video, that the server billed
    lost: int = 0  # texts that the server wrote and no run has, in tokens
    seconds: float = 0.0
    lines: list[str] = field(default_factory=list)  # what the runs said that came to an end
    wrong: list[str] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Created tasks over distinct videos."""
        return self.created / self.videos


def read(outcome: Outcome, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Every table there is, by two readers each; what is wrong with them goes to the outcome."""
    lake, found = Lake(str(folder), outcome.format), {}
    for name, declared in TABLES.items():
        if name not in (*OUTPUTS, "videos", "errors", "runs"):
            continue
        place = folder / name
        if not lake.exists(declared):
            found[name] = []
            continue
        for _ in range(READS):
            rows = lake.read(declared).to_pylist()
            others = _counted(place, outcome.format, declared.by)
            if others == len(rows):
                break
        else:
            outcome.wrong.append(f"{name}: {len(rows)} rows, and {others} for another reader")
        found[name] = rows
    outcome.reads += 1
    _whole(outcome, found)
    return found


def _counted(place: Path, kind: Format, by: tuple[str, ...]) -> int:
    """Rows of a table, for a reader that is not ours."""
    if kind == "delta":
        return len(DeltaTable(str(place)).to_pyarrow_table(columns=list(by)))
    with duckdb.connect() as con:
        [(rows,)] = con.execute(f"SELECT count(*) FROM read_parquet('{place}/*.parquet')").fetchall()
        return int(rows)


def _whole(outcome: Outcome, found: dict[str, list[dict[str, Any]]]) -> None:
    """No video twice, none without its rows, none half."""
    keys = Counter(row["source_key"] for row in found["videos"])
    ids = {row["video_id"] for row in found["videos"]}
    if len(keys) != len(found["videos"]) or len(ids) != len(keys):
        outcome.wrong.append(f"videos: {len(found['videos'])} rows, {len(keys)} keys, {len(ids)} ids")
    if both := keys.keys() & {row["source_key"] for row in found["errors"]}:
        outcome.wrong.append(f"in videos and in errors: {sorted(both)[:3]}")
    for name in OUTPUTS:
        counts = Counter(row["video_id"] for row in found[name])
        if not ids <= counts.keys():
            outcome.wrong.append(f"{name}: nothing for {len(ids - counts.keys())} of {len(ids)} videos")
        if len(set(counts.values())) > 1:
            outcome.wrong.append(f"{name}: rows a video {sorted(set(counts.values()))}; all films are alike")


class Storm:
    """One seed: the job, the server, and what happens to them."""

    def __init__(
        self,
        seed: int,
        names: list[str],
        files: FileServer,
        folder: Path,
        kills: int,
        restarts: int,
        calm: float,
        profile: str,
        longest: float,
    ) -> None:
        self.dice, self.folder, self.longest = random.Random(seed), folder, longest
        self.most_kills, self.most_restarts, self.calm = kills, restarts, calm
        self.outcome = Outcome(seed, "delta" if seed % 2 else "parquet", len(names) - REFUSED)
        urls = [files.url(name) for name in names]
        self.keys = set(urls)
        urls += self.dice.choices(urls, k=len(urls) // 10)
        self.dice.shuffle(urls)
        self.server = Server(folder, seed, profile=profile)
        (folder / "videos.csv").write_text("\n".join(["url", *urls]))
        self.job = folder / "job.toml"
        self.job.write_text(
            f"""
prices = "{PRICES}"
[source]
files = "videos.csv"
[outputs]
folder = "lake"
format = "{self.outcome.format}"
tables = {json.dumps(OUTPUTS)}
[limits]
commit_videos = {self.dice.choice((1, 3, 10))}
commit_seconds = 2
[settings]
base_url = "{self.server.base_url}"
home = "home"
ledger = "ledger"
index = "chaos"
poll_interval = 0.5
concurrency = {self.dice.choice((4, 16))}
"""
        )

    def blow(self) -> Outcome:
        """Until the job says done."""
        began, done = time.monotonic(), False
        try:
            while not done and time.monotonic() - began < self.longest:
                done = self._once()
            if not done:
                self.outcome.wrong.append(f"not done after {self.longest:g} s")
            self._judge()
            self._audit()
        finally:
            if self.server.process.poll() is None:
                self.server.process.kill()
            self.server.process.communicate()
        self.outcome.seconds = time.monotonic() - began
        return self.outcome

    def _once(self) -> bool:
        """Start the job, once or twice at the same time, and let something happen to it."""
        crew = [self._start() for _ in range(self.dice.choice((1, 1, 2)))]
        while any(run.poll() is None for run in crew):
            if not self._wait(crew, self.dice.uniform(0.5, self.calm)):
                continue
            if self.outcome.restarts < self.most_restarts and self.dice.random() < 0.3:
                self._restart()
            elif self.outcome.kills < self.most_kills:
                for run in self.dice.sample(crew, self.dice.randint(1, len(crew))):
                    if run.poll() is None:
                        run.kill()
                        self.outcome.kills += 1
                read(self.outcome, self.folder / "lake")
            elif self.outcome.restarts >= self.most_restarts:
                break
        ended = [self._ended(run) for run in crew]  # all of them: each is waited for
        return any(ended)

    def _start(self) -> subprocess.Popen[bytes]:
        self.outcome.starts += 1
        with (self.folder / f"run-{self.outcome.starts}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tl_data", "run", "--json", str(self.job)],
                stdout=subprocess.PIPE, stderr=log,
                env={**os.environ, "PYTHONWARNINGS": "default", "TL_API_KEY": "tlk_CHA0S"},
            )  # fmt: skip

    def _wait(self, crew: list[subprocess.Popen[bytes]], seconds: float) -> bool:
        """Whether the time passed and somebody still runs."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and any(run.poll() is None for run in crew):
            time.sleep(0.02)
        return any(run.poll() is None for run in crew)

    def _restart(self) -> None:
        self.server.kill()
        self.outcome.restarts += 1
        time.sleep(self.dice.choice((0.0, 0.5, 3.0)))
        self.server.start()

    def _ended(self, run: subprocess.Popen[bytes]) -> bool:
        """Take the report of a run; whether it says done, and what is left is not worth another try."""
        out, _ = run.communicate()
        if run.returncode == -signal.SIGKILL:
            return False
        if run.returncode == 2:
            [*_, last] = (self.folder / f"run-{self.outcome.starts}.log").read_text().splitlines() or [""]
            self.outcome.wrong.append(f"a run ended with: {last}")
            return len(self.outcome.wrong) > 3
        try:
            said = json.loads(out)
        except ValueError:
            self.outcome.lines.append(f"exit {run.returncode}, nothing said")
            return False
        self.outcome.lines.append(f"exit {run.returncode} {said['status']} {said['reason']}")
        if said["paid_twice"]:
            self.outcome.wrong.append(f"a run reports {said['paid_twice']} paid twice")
        return said["status"] in ("done", "partial") and not any(
            error["retryable"] for error in said["errors"]
        )

    def _judge(self) -> None:
        outcome, stats = self.outcome, self.server.stats()
        outcome.created = stats["tasks_created"]
        found = read(outcome, self.folder / "lake")
        done = {row["source_key"] for row in found["videos"]}
        failed = {row["source_key"] for row in found["errors"]}
        if done | failed != self.keys:
            outcome.wrong.append(f"in no table: {sorted(self.keys - done - failed)[:3]}")
        if len(done) != outcome.videos:
            outcome.wrong.append(f"{len(done)} videos in the tables, {outcome.videos} wanted")
        if outcome.created != outcome.videos:
            outcome.wrong.append(f"{outcome.created} tasks created for {outcome.videos} videos")

    def _audit(self) -> None:
        """What the table `runs` says was paid, beside what the server billed."""
        outcome, server = self.outcome, self.server
        httpx.delete(server.base_url.replace("/v1.3", "/_engine/faults")).raise_for_status()
        last = self._start()
        last.communicate()
        if last.returncode != 0:  # some videos are refused, as they were before: nothing new failed
            outcome.wrong.append(f"the undisturbed run ended with {last.returncode}")
        stats, lake = server.stats(), Lake(str(self.folder / "lake"), outcome.format)
        rows = lake.read(TABLES["runs"]).to_pylist()
        outcome.minutes, outcome.lost = stats["video_minutes_indexed"], lost_tokens(rows, stats)
        outcome.wrong += differences(rows, self.folder / "ledger", stats, PRICES)


@contextmanager
def library(videos: int) -> Iterator[tuple[list[str], FileServer]]:
    """The films, over HTTP."""
    with tempfile.TemporaryDirectory() as folder:
        names = films(Path(folder), videos)
        with FileServer(Path(folder)) as files:
            yield names, files


def storm(
    seed: int,
    names: list[str],
    files: FileServer,
    folder: Path,
    *,
    kills: int = KILLS,
    restarts: int = RESTARTS,
    calm: float = CALM,
    profile: str = "today",
    longest: float = LONGEST,
) -> Outcome:
    """One seed in a folder of its own, which is left as it is."""
    return Storm(seed, names, files, folder, kills, restarts, calm, profile, longest).blow()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--videos", type=int, default=60)
    parser.add_argument("--longest", type=float, default=LONGEST, help="seconds that one seed may take")
    parser.add_argument("--profile", choices=["lenient", "today", "2025"], default="today")
    parser.add_argument("--keep", type=Path, help="where the folders of seeds that went wrong are kept")
    said = parser.parse_args()
    print(f"{'seed':>4} {'format':8}{'videos':>7}{'created':>8}{'ratio':>7}", end="")
    print(f"{'starts':>7}{'kills':>6}{'restarts':>9}{'reads':>6}{'seconds':>8}", end="")
    print(f"{'minutes':>9}{'lost':>6}  wrong", flush=True)
    ended = []
    with library(said.videos) as (names, files):
        for seed in range(said.first, said.first + said.seeds):
            with tempfile.TemporaryDirectory(prefix=f"chaos-{seed}-") as folder:
                o = storm(seed, names, files, Path(folder), profile=said.profile, longest=said.longest)
                if said.keep and o.wrong:
                    shutil.copytree(folder, said.keep / f"seed-{seed}", dirs_exist_ok=True)
            ended.append(o)
            print(f"{seed:4} {o.format:8}{o.videos:7}{o.created:8}{o.ratio:7.3f}", end="")
            print(f"{o.starts:7}{o.kills:6}{o.restarts:9}", end="")
            print(f"{o.reads:6}{o.seconds:8.0f}", end="")
            print(f"{o.minutes:9.3f}{o.lost:6}  {'; '.join(o.wrong) or '-'}", flush=True)
    created, videos = sum(o.created for o in ended), sum(o.videos for o in ended)
    print(f"{len(ended)} seeds, {sum(o.kills for o in ended)} kills of the job, ", end="")
    print(f"{sum(o.restarts for o in ended)} of the server: {created} tasks for {videos} videos, ", end="")
    print(f"ratio {created / videos:.3f}, {sum(bool(o.wrong) for o in ended)} seeds with something wrong")
    sys.exit(any(o.wrong for o in ended))


if __name__ == "__main__":
    main()
