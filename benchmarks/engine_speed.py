"""How long the embedded engine looks at a video, beside plain decoding, and in how much memory.

    python benchmarks/engine_speed.py [--minutes 1] [--hour] [--two-hours] [--queue 0] [--folder DIR]

Makes a minute of 720p at 30 frames a second with speech, screen text and motion. It is decoded and
nothing else, then looked at by a worker as in the engine: wall time and CPU time over the time of the
video. --minutes repeats the minute (its packets, not encoded anew). --hour looks at an hour of it, and
--two-hours at two hours in 1080p, for memory; --queue looks at so many short videos, two at a time, and
prints how busy the cores were. --no-detector leaves the detector out. The start of the engine is measured
until it answers. `--json FILE` keeps the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import av

from tl_data.demo.scene import Scene
from tl_data.demo.videos import make_video
from tl_data.local.models import Tiers
from tl_data.local.perception.evidence import Evidence
from tl_data.local.perception.worker_pool import WorkerPool, _resident_bytes

SENTENCES = [
    "Our profit doubled in the last quarter.", "Please wash your hands before you eat.",
    "The train to the city leaves in ten minutes.", "Children under twelve travel for free.",
    "Water the plants twice a week.", "The museum opens on Sunday afternoon.",
]  # fmt: skip
CAPTIONS = ["Quarterly Results", "Lunch Menu Thursday", "Platform 9 Departures", "Do Not Enter"]
COLORS = ["red", "green", "blue", "yellow", "purple", "orange"]
MEGABYTES = 1536  # a worker that takes more fails


def minute(path: Path, width: int, height: int) -> Path:
    """A minute of twelve scenes; made once."""
    scenes = [
        Scene(
            5.0, CAPTIONS[n % 4] if n % 2 else "", "", SENTENCES[n // 2] if n % 2 == 0 else "",
            background=COLORS[(n + 2) % 6], color=COLORS[n % 6],
            shape=("circle", "square", "triangle")[n % 3],
            path=((0.15, 0.65), (0.85, 0.65)), tone=220.0 if n % 4 == 3 else 0.0,
            camera="pan left" if n % 6 == 5 else "static", backdrop="city" if n % 6 == 5 else "plain",
        )
        for n in range(12)
    ]  # fmt: skip
    return path if path.is_file() else make_video(path, scenes, width, height, 30)


def repeated(source: Path, times: int) -> Path:
    """The video so many times one after the other, from its packets."""
    target = source.with_name(f"{source.stem}-{times}.mp4")
    if times == 1 or target.is_file():
        return source if times == 1 else target
    part = target.with_suffix(".part")
    with av.open(str(source)) as read, av.open(str(part), "w", format="mp4") as write:
        streams = {stream.index: write.add_stream_from_template(stream) for stream in read.streams}
        length = float((read.duration or 0) / av.time_base)
        for turn in range(times):
            read.seek(0)
            for packet in read.demux():
                if packet.dts is None or packet.pts is None:
                    continue
                shift = round(turn * length / packet.time_base)
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                packet.stream = streams[packet.stream.index]
                write.mux(packet)
    return part.replace(target)


def decode(path: Path) -> tuple[float, float]:
    """Seconds, and seconds of CPU, of decoding every picture on all cores."""
    began, cpu = time.perf_counter(), time.process_time()
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for _ in container.decode(video=0):
            pass
    return time.perf_counter() - began, time.process_time() - cpu


def start(folder: Path) -> dict[str, float]:
    """Seconds until the engine answers, and its seconds of CPU and megabytes by then."""
    home = folder / "engine"
    (home / "engine.json").unlink(missing_ok=True)
    began = time.perf_counter()
    command = [sys.executable, "-m", "tl_data.local", "--home", str(home), "--port", "0"]
    engine = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not (home / "engine.json").is_file():
            if engine.poll() is not None:
                raise SystemExit("the engine does not start")
            time.sleep(0.01)
        base_url = json.loads((home / "engine.json").read_text())["base_url"]
        key = (home / "engine.key").read_text().strip() if (home / "engine.key").is_file() else ""
        request = urllib.request.Request(f"{base_url}/indexes", headers={"x-api-key": key})
        with urllib.request.urlopen(request, timeout=30) as answer:
            answer.read()
        wall = time.perf_counter() - began
        cpu, megabytes = _cpu_seconds(engine.pid), _own_bytes(engine.pid) / 2**20
    finally:
        engine.terminate()
        engine.wait()
    print(f"start: {wall:.1f} s until it answers, CPU {cpu:.1f} s; {megabytes:.0f} MB; load {_load():.1f}")
    return {"wall_s": wall, "cpu_s": cpu, "megabytes": megabytes}


def look(
    paths: list[Path], workers: int, folder: Path, detector: bool = True
) -> tuple[list[Evidence], dict[str, float]]:
    """What was seen, and the seconds, seconds of CPU and most megabytes of one worker and of its ears."""

    async def run() -> tuple[list[Evidence], dict[str, float]]:
        pool = WorkerPool(workers, megabytes=MEGABYTES, stall_seconds=600, tiers=Tiers(detector=detector))
        try:
            await asyncio.gather(*(pool.analyze(paths[0], folder / f"warm-{n}") for n in range(workers)))
            most = ears = 0
            began, cpu = time.perf_counter(), _cpu(pool)
            jobs = asyncio.gather(*(pool.analyze(path, folder / str(n)) for n, path in enumerate(paths)))
            while not jobs.done():
                await asyncio.wait([jobs], timeout=0.2)
                for worker in pool._all:
                    both, children = _resident_bytes(worker.process.pid), _children(worker.process.pid)
                    hearing = sum(_own_bytes(child) for child in children)
                    most, ears = max(most, both - hearing), max(ears, hearing)
            taken = time.perf_counter() - began
            return await jobs, {
                "wall_s": taken,
                "cpu_s": _cpu(pool) - cpu,
                "megabytes": most / 2**20,
                "speech_megabytes": ears / 2**20,
            }
        finally:
            await pool.aclose()

    return asyncio.run(run())


def _cpu(pool: WorkerPool) -> float:
    """Seconds of CPU that the workers and their ears have taken."""
    workers = [worker.process.pid for worker in pool._all]
    return sum(_cpu_seconds(one) for worker in workers for one in (worker, *_children(worker)))


def _cpu_seconds(pid: int | str) -> float:
    """Seconds of CPU that one process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _children(pid: int) -> list[str]:
    """The processes that a worker started: the one that hears."""
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def _own_bytes(pid: int | str) -> int:
    """Bytes of memory of one process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def report(name: str, path: Path, folder: Path, detector: bool = True) -> dict[str, Any]:
    """Decode a file, look at it, print and give the figures."""
    began = _load()
    plain, plain_cpu = decode(path)
    (evidence,), figures = look([path], 1, folder, detector)
    seconds = evidence.probe.duration_sec
    figures |= {
        "video_s": seconds, "decode_s": plain, "decode_cpu_s": plain_cpu, "load": began,
        "clips": len(evidence.clips),
    }  # fmt: skip
    print(
        f"{name}: {seconds:.0f} s of {evidence.probe.width}x{evidence.probe.height}, "
        f"{len(evidence.clips)} clips, {len(evidence.speech)} sentences, "
        f"{len(evidence.shown)} lines; load before {began:.1f}\n"
        f"  decoding   {plain / seconds:6.3f} of the video's time, CPU {plain_cpu / seconds:6.3f}\n"
        f"  looking    {figures['wall_s'] / seconds:6.3f} of the video's time, CPU "
        f"{figures['cpu_s'] / seconds:6.3f}; at most {figures['megabytes']:.0f} MB, "
        f"hearing {figures['speech_megabytes']:.0f} MB"
    )
    return figures


def queue(count: int, source: Path, folder: Path) -> dict[str, float]:
    """Look at one short video many times, as many at once as there are cores."""
    cores = os.cpu_count() or 1
    found, figures = look([source] * count, cores, folder)
    busy = figures["cpu_s"] / figures["wall_s"] / cores
    print(
        f"queue: {len(found)} videos of {found[0].probe.duration_sec:.0f} s in {figures['wall_s']:.0f} s "
        f"on {cores} cores, {busy:.0%} busy with them; at most {figures['megabytes']:.0f} MB a worker"
    )
    return {**figures, "busy": busy}


def _load() -> float:
    return os.getloadavg()[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "tl_data-engine-speed")
    parser.add_argument("--minutes", type=int, default=1)
    parser.add_argument("--hour", action="store_true")
    parser.add_argument("--two-hours", action="store_true")
    parser.add_argument("--queue", type=int, default=0)
    parser.add_argument("--no-detector", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    seen = given.folder / "seen"
    one = minute(given.folder / "720p.mp4", 1280, 720)
    figures: dict[str, Any] = {"start": start(given.folder)}
    figures["720p"] = report("720p", repeated(one, given.minutes), seen, not given.no_detector)
    if given.hour:
        figures["hour"] = report("an hour", repeated(one, 60), seen)
    if given.two_hours:
        large = minute(given.folder / "1080p.mp4", 1920, 1080)
        figures["two hours"] = report("two hours", repeated(large, 120), seen)
    if given.queue:
        short = Scene(4.5, "Room 214", "", SENTENCES[0], shape="circle", path=((0.2, 0.6), (0.8, 0.6)))
        path = given.folder / "short.mp4"
        figures["queue"] = queue(
            given.queue, path if path.is_file() else make_video(path, [short], 640, 360), seen
        )
    print(f"most memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
