"""Workers are processes of their own: a file that breaks one costs its task and nothing else."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tl_data.demo.scene import Scene
from tl_data.demo.videos import make_video
from tl_data.local.perception.evidence import Evidence, NotVideo, from_json, to_json
from tl_data.local.perception.worker_pool import WorkerFailed, WorkerPool


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scenes = [
        Scene(3, caption="Open all hours", background="blue"),
        Scene(3, background="red", backdrop="city", speech="The green field is wide."),
    ]
    return make_video(tmp_path_factory.mktemp("video") / "two.mp4", scenes, width=640, height=360, fps=15)


def run(use: Callable[[WorkerPool], Awaitable[Any]], **options: Any) -> Any:
    async def session() -> Any:
        pool = WorkerPool(**{"workers": 1, **options})
        try:
            return await use(pool)
        finally:
            await pool.aclose()

    return asyncio.run(session())


def worker_that(does: str) -> tuple[str, ...]:
    """The command of a worker that reads a request and then does something else than its work."""
    return (sys.executable, "-c", f"import os, sys, time\nsys.stdin.readline()\n{does}")


def test_looks_and_stays_warm(video: Path, tmp_path: Path) -> None:
    async def use(pool: WorkerPool) -> tuple[Evidence, Evidence, list[float], list[int]]:
        progress: list[float] = []
        pids = []
        first = await pool.analyze(video, tmp_path / "first", on_progress=progress.append)
        pids += [worker.process.pid for worker in pool._all]
        second = await pool.analyze(video, tmp_path / "second")
        pids += [worker.process.pid for worker in pool._all]
        return first, second, progress, pids

    first, second, progress, pids = run(use)
    assert first == second
    assert [clip.cut for clip in first.clips] == [True, True]
    assert all((tmp_path / "first" / clip.keyframe).stat().st_size > 1000 for clip in first.clips)
    assert progress[-1] == 1.0
    assert all(0 <= share <= 1 for share in progress)
    assert pids[0] == pids[1]
    assert from_json(to_json(first)) == first


def test_a_worker_without_work_ends(video: Path) -> None:
    async def use(pool: WorkerPool) -> tuple[list[int], list[int]]:
        await pool.probe(video)
        [first] = pool._all
        await asyncio.wait_for(first.process.wait(), 30)  # ended by the pool: nothing else closes its stdin
        await pool.probe(video)
        return [first.process.pid], [worker.process.pid for worker in pool._all]

    first, second = run(use, idle_seconds=0.2)
    assert len(second) == 1
    assert first != second


def test_refuses_and_goes_on(video: Path, tmp_path: Path) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("This is no video.\n" * 50)

    async def use(pool: WorkerPool) -> int:
        with pytest.raises(NotVideo, match="cannot be read"):
            await pool.analyze(text, tmp_path / "out")
        with pytest.raises(NotVideo):
            await pool.probe(text)
        return (await pool.probe(video)).width

    assert run(use) == 640


@pytest.mark.parametrize(
    ("does", "says"),
    [
        ("time.sleep(60)", "no progress for 4 s"),
        ("while True: print('{\"progress\": 0.1}', flush=True); time.sleep(0.1)", "longer than 6 s"),
        ("hoard = bytearray(400 << 20); time.sleep(60)", "more than the 300 MB allowed"),
        ("os.abort()", "signal SIGABRT"),
        ("sys.exit(3)", "exit code 3"),
    ],
    ids=["hangs", "never ends", "hoards", "crashes", "leaves"],
)
def test_a_bad_worker_fails_its_task_only(does: str, says: str, video: Path, tmp_path: Path) -> None:
    async def use(pool: WorkerPool) -> None:
        for _ in range(1 + (does == "os.abort()")):  # the pool has room for the next one
            with pytest.raises(WorkerFailed, match=says):
                await pool.analyze(video, tmp_path / "out", seconds=6)
        assert not pool._all

    run(use, command=worker_that(does), stall_seconds=4, megabytes=300)


def test_cancelling_a_look_ends_its_worker(video: Path, tmp_path: Path) -> None:
    async def use(pool: WorkerPool) -> None:
        look = asyncio.create_task(pool.analyze(video, tmp_path / "out"))
        await asyncio.sleep(0.3)
        (worker,) = pool._all
        look.cancel()
        with pytest.raises(asyncio.CancelledError):
            await look
        with pytest.raises(ProcessLookupError):
            os.kill(worker.process.pid, 0)

    run(use)
