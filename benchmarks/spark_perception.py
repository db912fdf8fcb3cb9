"""The engine's analysis on Spark executors: videos per minute with one executor and with two, and memory.

    python benchmarks/spark_perception.py [--videos 12] [--seconds 20] [--folder FOLDER]

Each measurement is a process of its own with its own session, `local[1]` or `local[2]`: an executor is a
Python worker with one core and one thread. The videos are drawn ones with speech, each different, or the
files of FOLDER. The first chunk loads the models and is not measured. `load` is the machine's load average
before the measurement: other programs take their share of the cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from tl_data.demo.scene import Scene
from tl_data.demo.videos import make_video

COLORS = ("red", "blue", "green", "orange", "purple", "yellow")


def films(folder: Path, count: int, seconds: int) -> list[Path]:
    """Different videos of the same length."""
    made = []
    for number in range(count):
        color, background = COLORS[number % 6], ("black", "white", "sand")[number % 3]
        scene = Scene(
            seconds, f"Film {number}", f"Part {number}", f"This is film number {number}, it is {color}.",
            background=background, shape="circle", color=color, path=((0.2, 0.6), (0.8, 0.6)),
        )  # fmt: skip
        made.append(make_video(folder / f"{number:03d}.mp4", (scene,), width=640, height=360, fps=25))
    return made


def processes() -> dict[int, tuple[int, float]]:
    """The largest resident size in MB and the CPU seconds of each analysing process, by pid."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().decode().split("\0")
            if "tl_data.local.perception.worker_pool" in line and "--alone" in line:
                status = (folder / "status").read_text()
                size = int(status.partition("VmHWM:")[2].split()[0]) >> 10
                times = (folder / "stat").read_text().rpartition(") ")[2].split()[11:13]
                seconds = sum(map(int, times)) / os.sysconf("SC_CLK_TCK")
                found[int(folder.name)] = (size, seconds)
        except (OSError, IndexError, ValueError):
            continue
    return found


def measure(executors: int, folder: str, files: list[str]) -> dict[str, Any]:
    """Run `perceive` over the files, after one video a worker that loads the models."""
    import tl_data.spark

    before, load = set(processes()), os.getloadavg()[0]
    conf = {"spark.ui.enabled": "false", "spark.log.level": "ERROR", "spark.driver.memory": "1g"}
    spark = tl_data.spark.session(f"local[{executors}]", delta=False, **conf)
    warm, measured = files[:executors], files[executors:]

    def run(paths: list[str], lake: str) -> Any:
        df = spark.createDataFrame([(path,) for path in paths], "url string")
        return tl_data.spark.perceive(df, lake=lake, media=folder, per_task=1)

    seen: dict[int, tuple[int, float]] = {}
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.5):
            seen.update({pid: found for pid, found in processes().items() if pid not in before})

    threading.Thread(target=watch, daemon=True).start()
    with tempfile.TemporaryDirectory() as lakes:
        run(warm, f"{lakes}/warm")
        time.sleep(1)
        warmed = sum(seconds for _, seconds in seen.values())
        begun = time.monotonic()
        report = run(measured, f"{lakes}/lake")
        passed = time.monotonic() - begun
        time.sleep(1)
    stop.set()
    spark.stop()
    return {
        "executors": executors,
        "videos": report.analyzed,
        "failed": report.failed,
        "seconds": round(passed, 1),
        "videos_per_minute": round(report.analyzed / passed * 60, 2),
        "times_real_time": round(report.minutes * 60 / passed, 2),
        "cpu_seconds_per_video_second": round(
            (sum(seconds for _, seconds in seen.values()) - warmed) / (report.minutes * 60), 3
        ),
        "megabytes_per_worker": max((size for size, _ in seen.values()), default=0),
        "workers": len(report.workers),
        "load": round(load, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--videos", type=int, default=12)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--folder", help="a folder of videos")
    parser.add_argument("--executors", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.executors:
        files = sorted(str(path) for path in Path(args.folder).glob("*.mp4"))
        print(json.dumps(measure(args.executors, args.folder, files)))
        return
    with tempfile.TemporaryDirectory() as made:
        if not args.folder:
            films(Path(made), args.videos + 2, args.seconds)
        results = []
        for executors in (1, 2):
            command = [
                sys.executable,
                __file__,
                "--folder",
                args.folder or made,
                "--executors",
                str(executors),
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            results.append(json.loads(done.stdout.splitlines()[-1]))
            print(results[-1])
    ratio = results[1]["videos_per_minute"] / results[0]["videos_per_minute"]
    print(f"ratio {ratio:.2f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
