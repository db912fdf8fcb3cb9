"""The engine's analysis on Spark executors: videos a minute with one executor and with two, memory, and bits.

    python benchmarks/spark_perception.py [--videos 10] [--seconds 20] [--folder FOLDER]

Takes about four minutes on two idle cores. An executor is a Python worker with one core and one thread: each
measurement is a process with its own session, `local[1]` or `local[2]`. `plain` is the peer in the same run:
the same analysis in one process and in two, without Spark; its ratio is what these cores can give. Models are
loaded before the time is taken. `busy` is the share of the executors' time that is analysis, `load` the load
average before a measurement. The videos are drawn ones with speech, each different, or the files of FOLDER.

The vectors of both sessions are compared bit by bit with those of the plain process, and for two videos with
those of an embedded engine.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from tl_data.demo.scene import Scene
from tl_data.demo.videos import make_video

COLORS = ("red", "blue", "green", "orange", "purple", "yellow")
WARM = 2  # videos that load the models, and are not measured
Vectors = dict[str, str]  # video, kind, part and start of a vector -> its bits in hex


def films(folder: Path, count: int, seconds: int) -> None:
    """Different videos of the same length."""
    for number in range(count):
        color, background = COLORS[number % 6], ("black", "white", "sand")[number % 3]
        scene = Scene(
            seconds, f"Film {number}", f"Part {number}", f"This is film number {number}, it is {color}.",
            background=background, shape="circle", color=color, path=((0.2, 0.6), (0.8, 0.6)),
        )  # fmt: skip
        make_video(folder / f"{number:03d}.mp4", (scene,), width=640, height=360, fps=25)


def name_of(video_id: str, option: str, scope: str, start: float) -> str:
    return f"{video_id} {option} {scope} {start:.3f}"


def bits(vector: Any) -> str:
    return struct.pack(f"{len(vector)}f", *vector).hex()


def processes() -> dict[int, tuple[int, int, float]]:
    """Each analyzing process by pid: largest resident MB of it and of its parent, and its CPU seconds."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().decode().split("\0")
            if "tl_data.local.perception.worker_pool" in line and "--alone" in line:
                status = (folder / "status").read_text()
                parent = Path(f"/proc/{status.partition('PPid:')[2].split()[0]}/status").read_text()
                sizes = [int(text.partition("VmHWM:")[2].split()[0]) >> 10 for text in (status, parent)]
                times = (folder / "stat").read_text().rpartition(") ")[2].split()[11:13]
                seconds = sum(map(int, times)) / os.sysconf("SC_CLK_TCK")
                found[int(folder.name)] = (sizes[0], sizes[1], seconds)
        except (OSError, IndexError, ValueError):
            continue
    return found


# ------------------------------------------------------------------------------------ processes of their own


def analyze_plain(folder: str) -> None:
    """Analyze the files that stdin names, one a line; print the result of each as JSON."""
    from tl_data.local.perceive import Access, Perceiver

    with Perceiver(Access(media=folder)) as perceiver:
        for line in sys.stdin:
            found = perceiver.finish(perceiver.start(Path(line.strip()).as_uri()))
            vectors = {
                name_of(
                    found.sha256[:24],
                    s["embedding_option"], s["embedding_scope"], s["start_offset_sec"],
                ): bits(s["float"])
                for s in found.segments
            }  # fmt: skip
            print(json.dumps({"minutes": found.duration_sec / 60, "vectors": vectors}), flush=True)


def analyze_on_spark(executors: int, folder: str, files: list[str], lake: str) -> dict[str, Any]:
    """Run `perceive` over the files, after one video a worker that loads the models."""
    import tl_data.spark

    before, load = set(processes()), os.getloadavg()[0]
    conf = {"spark.ui.enabled": "false", "spark.log.level": "ERROR", "spark.driver.memory": "1g"}
    spark = tl_data.spark.session(f"local[{executors}]", delta=False, **conf)

    def run(paths: list[str], into: str) -> Any:
        df = spark.createDataFrame([(path,) for path in paths], "url string")
        return tl_data.spark.perceive(df, lake=into, media=folder, per_task=1)

    seen: dict[int, tuple[int, int, float]] = {}
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.5):
            seen.update({pid: found for pid, found in processes().items() if pid not in before})

    threading.Thread(target=watch, daemon=True).start()
    with tempfile.TemporaryDirectory() as warm:
        run(files[:executors], warm)
    time.sleep(1)
    warmed, began = sum(found[2] for found in seen.values()), time.monotonic()
    report = run(files[WARM:], lake)
    passed = time.monotonic() - began
    time.sleep(1)
    stop.set()
    spark.stop()
    cpu = sum(found[2] for found in seen.values()) - warmed
    return {
        "executors": executors,
        "videos": report.analyzed,
        "failed": report.failed,
        "seconds": round(passed, 1),
        "videos_per_minute": round(report.analyzed / passed * 60, 2),
        "cpu_seconds_per_video_second": round(cpu / (report.minutes * 60), 3),
        "busy": round(report.analysis_seconds / (passed * executors), 3),
        "megabytes_analysis": max((found[0] for found in seen.values()), default=0),
        "megabytes_python_worker": max((found[1] for found in seen.values()), default=0),
        "workers": len(report.workers),
        "load": round(load, 1),
    }


# ---------------------------------------------------------------------------------------------- the parent


def plain(count: int, folder: str, files: list[str]) -> tuple[dict[str, Any], Vectors]:
    """Analyze the files in so many processes at once; returns the measurement and the vectors."""
    load, vectors, minutes = os.getloadavg()[0], Vectors(), 0.0
    command = [sys.executable, __file__, "--plain", "--folder", folder]
    with ExitStack() as stack, ThreadPoolExecutor(count) as threads:
        workers = [
            stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            for _ in range(count)
        ]
        todo: queue.SimpleQueue[str] = queue.SimpleQueue()

        def analyze(worker: subprocess.Popen[str], path: str) -> dict[str, Any]:
            assert worker.stdin is not None
            assert worker.stdout is not None
            worker.stdin.write(f"{path}\n")
            worker.stdin.flush()
            return dict(json.loads(worker.stdout.readline()))

        def work(worker: subprocess.Popen[str]) -> list[dict[str, Any]]:
            found = []
            while not todo.empty():
                try:
                    found.append(analyze(worker, todo.get_nowait()))
                except queue.Empty:
                    break
            return found

        list(threads.map(analyze, workers, files[:WARM]))
        for path in files[WARM:]:
            todo.put(path)
        began = time.monotonic()
        for found in threads.map(work, workers):
            for one in found:
                vectors |= one["vectors"]
                minutes += one["minutes"]
        passed = time.monotonic() - began
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.close()
    videos = len(files) - WARM
    return {
        "plain": count,
        "videos": videos,
        "seconds": round(passed, 1),
        "videos_per_minute": round(videos / passed * 60, 2),
        "times_real_time": round(minutes * 60 / passed, 2),
        "load": round(load, 1),
    }, vectors


def on_spark(executors: int, folder: str, lake: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--folder", folder, "--lake", lake, "--executors", str(executors)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def vectors_of_lake(lake: str) -> Vectors:
    from tl_data.lake.lake import Lake
    from tl_data.lake.schemas import VECTORS

    return {
        name_of(
            row["video_id"],
            row["embedding_option"], row["embedding_scope"], row["start_sec"],
        ): bits(row["vector"])
        for row in Lake(lake).read(VECTORS).to_pylist()
    }  # fmt: skip


@contextmanager
def engine() -> Iterator[str]:
    """An embedded engine; gives its base URL."""
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "tl_data.local", "--home", home, "--port", "0", "--workers", "1"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            try:
                while not (state := Path(home, "engine.json")).is_file():
                    assert process.poll() is None, "the engine did not start"
                    time.sleep(0.1)
                yield str(json.loads(state.read_text())["base_url"])
            finally:
                process.terminate()


def vectors_of_engine(files: list[str], ids: dict[str, str], model: str) -> Vectors:
    """The vectors that an engine returns for files. `ids` are the ids of the videos in the lake, by file."""
    vectors: Vectors = {}
    with engine() as base_url, httpx.Client(base_url=base_url, timeout=60) as api:
        models = [{"model_name": model, "model_options": ["visual", "audio"]}]
        index = api.post("/indexes", json={"index_name": "bits", "models": models}).json()["_id"]
        for path in files:
            with open(path, "rb") as file:
                task = api.post("/tasks", data={"index_id": index}, files={"video_file": file}).json()
            while (state := api.get(f"/tasks/{task['_id']}").json())["status"] != "ready":
                assert state["status"] != "failed", state
                time.sleep(0.5)
            options = {"embedding_option": ["visual", "audio", "transcription"]}
            answer = api.get(f"/indexes/{index}/videos/{task['video_id']}", params=options).json()
            for s in answer["embedding"]["video_embedding"]["segments"]:
                option, scope = s["embedding_option"], s["embedding_scope"]
                vectors[name_of(ids[path], option, scope, s["start_offset_sec"])] = bits(s["float"])
    return vectors


def videos_of_lake(lake: str) -> tuple[dict[str, str], str]:
    """The ids of videos by path, and the name of the models."""
    from tl_data.lake.lake import Lake
    from tl_data.lake.schemas import VIDEOS

    rows = Lake(lake).read(VIDEOS, ["url", "video_id", "model"]).to_pylist()
    return {row["url"]: row["video_id"] for row in rows}, rows[0]["model"]


def compare(name: str, found: Vectors, reference: Vectors) -> bool:
    different = [key for key in reference if found.get(key) != reference[key]]
    equal = bool(reference) and not different and set(found) >= set(reference)
    print(f"{name}: {len(reference) - len(different)} of {len(reference)} vectors equal bit by bit")
    return equal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--videos", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--folder", help="a folder of videos, at least four")
    parser.add_argument("--executors", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--lake", help=argparse.SUPPRESS)
    parser.add_argument("--plain", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.plain:
        analyze_plain(args.folder)
        return
    if args.executors:
        files = sorted(str(path) for path in Path(args.folder).glob("*.mp4"))
        print(json.dumps(analyze_on_spark(args.executors, args.folder, files, args.lake)))
        return
    with tempfile.TemporaryDirectory() as made:
        folder = str(Path(args.folder or made).absolute())
        if not args.folder:
            films(Path(made), args.videos + WARM, args.seconds)
        files = sorted(str(path) for path in Path(folder).glob("*.mp4"))
        rates: dict[str, list[float]] = {"plain": [], "executors": []}
        equal = []
        reference: Vectors = {}
        for count in (1, 2):
            measured, vectors = plain(count, folder, files)
            print(measured, flush=True)
            rates["plain"].append(measured["videos_per_minute"])
            reference = reference or vectors
        equal.append(compare("2 plain, 1 plain", vectors, reference))
        with tempfile.TemporaryDirectory() as lakes:
            for count in (1, 2):
                measured = on_spark(count, folder, lake := f"{lakes}/{count}")
                print(measured, flush=True)
                rates["executors"].append(measured["videos_per_minute"])
                equal.append(compare(f"{count} executors, plain", vectors_of_lake(lake), reference))
            ids, model = videos_of_lake(lake)
            single = vectors_of_engine(files[WARM : WARM + 2], ids, model)
            equal.append(compare("2 executors, engine", vectors_of_lake(lake), single))
    for name, (one, two) in rates.items():
        print(f"{name}: ratio {two / one:.2f} on {os.cpu_count()} cores")
    sys.exit(0 if all(equal) else 1)


if __name__ == "__main__":
    main()
