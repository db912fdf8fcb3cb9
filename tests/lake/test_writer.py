"""Commits: a table that cannot be written during a run is reported, and compactions stay small."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from tl_data import pipeline
from tl_data.demo.file_server import FileServer, Handler
from tl_data.errors import LakeError
from tl_data.lake.base import rows_of
from tl_data.lake.delta import SMALL_FILES, Delta
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import CLIPS, RUNS, VECTORS, VIDEOS
from tl_data.pipeline.job import Job
from tl_data.pipeline.progress import Step

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
    video_ids = set(table.batches(["video_id"]).read_all().column(0).to_pylist())
    assert video_ids == set(Lake(job.folder, "parquet").read(VIDEOS).column("video_id").to_pylist())
    assert len(video_ids) == 2


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


def test_vectors_are_compacted_in_a_form_that_takes_little_memory(tmp_path: Path) -> None:
    """Small groups of rows, no dictionary of numbers that never repeat, and a log with checkpoints."""
    table = Lake(str(tmp_path), "delta").table(VECTORS)
    numbers = np.random.default_rng(1).standard_normal((SMALL_FILES, 20, 64), np.float32)
    for video, clips_of_it in enumerate(numbers):
        rows = [
            {"video_id": f"v{video}", "start_sec": float(n), "model": "m", "dimension": 64, "vector": one}
            for n, one in enumerate(clips_of_it.tolist())
        ]
        table.replace_groups(rows_of(VECTORS, rows))
    DeltaTable(str(tmp_path / "vectors")).vacuum(0, dry_run=False, enforce_retention_duration=False)
    [file] = (tmp_path / "vectors").glob("*.parquet")
    written = pq.ParquetFile(file).metadata
    assert (written.num_rows, written.num_row_groups) == (SMALL_FILES * 20, 2)
    columns = [written.row_group(0).column(n) for n in range(written.num_columns)]
    packed = {column.path_in_schema.partition(".")[0]: column.has_dictionary_page for column in columns}
    assert packed["video_id"]
    assert not packed["vector"]
    for video in range(SMALL_FILES, 2 * SMALL_FILES):
        table.replace_groups(rows_of(VECTORS, [{"video_id": f"v{video}", "dimension": 64}]))
    assert list((tmp_path / "vectors" / "_delta_log").glob("*.checkpoint.parquet"))
