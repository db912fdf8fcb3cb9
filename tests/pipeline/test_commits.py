"""Tables that cannot be written while a run works: the run says so, and nothing it tells of is missing."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tl_data import pipeline
from tl_data.demo.serve import FileServer, Handler
from tl_data.errors import LakeError
from tl_data.jobs import Job
from tl_data.lake import Lake, rows_of
from tl_data.lake_delta import SMALL_FILES, Delta
from tl_data.lake_tables import CLIPS, RUNS, VIDEOS
from tl_data.progress import Step

Put = Callable[..., str]
MakeJob = Callable[..., Job]


@pytest.fixture
def gate(quick: Path) -> Iterator[tuple[FileServer, threading.Event]]:
    """A server that answers when the event is set."""
    opened = threading.Event()

    class Gate(Handler):
        def answer(self) -> None:
            opened.wait(60)
            self.file(quick)

    with FileServer(quick.parent, handler=Gate) as server:
        yield server, opened
        opened.set()


def test_rows_that_a_timed_commit_could_not_write_end_the_run(
    put: Put, make_job: MakeJob, gate: tuple[FileServer, threading.Event]
) -> None:
    """The folder is away for a moment only, and no video is worked on in it."""
    server, opened = gate
    job = make_job(
        [put("a.mp4"), server.url("slow.mp4")], format="parquet", tables=("clips",), commit_seconds=2
    )
    folder = Path(job.folder, "clips")
    table = Lake(job.folder, "parquet").table(CLIPS)
    aside, lock = folder.with_name("aside"), folder.with_name(".clips.lock")

    def broken() -> None:
        """The folder is away while one commit is tried: the lock is a pipe, which tells when that was."""
        with lock.open("rb") as pipe:
            pipe.read()
        aside.rename(folder)
        lock.unlink()
        opened.set()

    breaking = threading.Thread(target=broken)

    def progress(step: Step) -> None:
        if step.videos == 1 and not breaking.ident:
            folder.rename(aside)
            lock.unlink()
            os.mkfifo(lock)
            breaking.start()

    with pytest.raises(LakeError, match="cannot be written"):
        pipeline.run(job, progress=progress)
    breaking.join()
    [run] = Lake(job.folder, "parquet").read(RUNS).to_pylist()
    assert run["status"] == "stopped"
    again = pipeline.run(job)
    assert (again.status, again.failed, again.paid_twice) == ("done", 0, 0)
    told = set(table.batches(["video_id"]).read_all().column(0).to_pylist())
    assert told == set(Lake(job.folder, "parquet").read(VIDEOS).column("video_id").to_pylist())
    assert len(told) == 2


def test_a_compaction_that_cannot_be_made_leaves_the_commit(tmp_path: Path) -> None:
    """As when the disk has room for the rows and not for a copy of the table: here a file of it is away."""
    lake = Lake(str(tmp_path), "delta")
    table = Delta(f"{tmp_path}/runs", RUNS)
    table.replace_groups(rows_of(RUNS, [{"run_id": "a", "status": "done"}]))
    [file] = (tmp_path / "runs").glob("*.parquet")
    away = file.rename(tmp_path / "away")
    for number in range(SMALL_FILES):
        table.append(rows_of(RUNS, [{"run_id": f"b{number}", "status": "done"}]))
    away.rename(file)
    assert lake.read(RUNS).num_rows == SMALL_FILES + 1
    assert len(list((tmp_path / "runs").glob("*.parquet"))) == SMALL_FILES + 1
