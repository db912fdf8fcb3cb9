"""A job whose ledger or tables were damaged, changed or removed: a sentence says so, nothing is lost."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from deltalake import DeltaTable

from tests.pipeline.conftest import indexings
from tests.pipeline.test_interrupt import PROGRAM, consistent
from tl_data import pipeline
from tl_data.errors import LedgerError, NotFound
from tl_data.lake.lake import Format, Lake
from tl_data.lake.schemas import CLIPS, ERRORS, VIDEOS
from tl_data.pipeline.job import Job

Put = Callable[..., str]
MakeJob = Callable[..., Job]


def records(job: Job, name: str) -> list[Path]:
    return sorted(Path(str(job.settings["ledger"]), "calls").rglob(name))


def index_records(job: Job, name: str) -> list[Path]:
    return [p for p in records(job, name) if json.loads(p.read_bytes())["operation"] == "index"]


def test_damaged_records_cost_nothing(put: Put, make_job: MakeJob) -> None:
    """The videos are in the tables; when these are gone, too, the platform's own word is taken."""
    urls: list[str | None] = [put(f"{n}.mp4") for n in range(3)]
    job = make_job(urls, tables=("clips", "vectors"))
    assert pipeline.run(job).submitted == 3
    for done, damage in zip(
        index_records(job, "done"), (b"", b'{"tl_ledger": 1, "oper', b"\0" * 50), strict=True
    ):
        done.write_bytes(damage)
    assert pipeline.run(job).unchanged == 3
    shutil.rmtree(job.folder)
    again = pipeline.run(job)
    assert (again.status, again.submitted, again.failed, again.reused) == ("done", 0, 0, 3)
    assert (consistent(job), indexings(job)) == (3, 3)

    # Records that are JSON, but not of an indexed video, fail their own rows alone.
    for done, result in zip(index_records(job, "done")[:2], (None, {"video_id": 5}), strict=True):
        done.write_text(json.dumps(json.loads(done.read_text()) | {"result": result}))
    shutil.rmtree(job.folder)
    edited = pipeline.run(job)
    assert (edited.submitted, edited.failed, edited.reused) == (0, 2, 1)
    assert indexings(job) == 3


def test_a_ledger_of_a_newer_version_stops_the_run(
    put: Put, make_job: MakeJob, caplog: pytest.LogCaptureFixture
) -> None:
    job = make_job([put("a.mp4"), put("b.mp4")], tables=("clips",))
    pipeline.run(job)
    for done in index_records(job, "done"):
        done.write_text(json.dumps(json.loads(done.read_text()) | {"tl_ledger": 2}))
    shutil.rmtree(job.folder)
    with pytest.raises(LedgerError, match=r"newer tl_data \(format 2.*Upgrade tl_data"):
        pipeline.plan(job)
    gc.collect()
    assert "never retrieved" not in caplog.text  # both videos met it
    stopped = pipeline.run(job)
    assert (stopped.status, stopped.submitted, stopped.exit_code) == ("stopped", 0, 3)
    assert "newer tl_data" in stopped.reason
    assert Lake(job.folder).read(ERRORS).num_rows == 0  # no fault of the videos
    assert indexings(job) == 2


def test_a_record_of_another_job_that_cannot_be_read_leaves_the_run_alone(
    put: Put, make_job: MakeJob
) -> None:
    """The run has everything it needs of the ledger. Only calls that were paid twice are unknown."""
    other = make_job([put("b.mp4")], tables=("clips",))
    pipeline.submit(other)
    [sent] = index_records(other, "*.submitted")
    sent.write_text(json.dumps(json.loads(sent.read_text()) | {"tl_ledger": 2}))
    job = make_job([put("a.mp4")], tables=("clips",))
    report = pipeline.run(job)
    assert (report.status, report.submitted, report.paid_twice) == ("done", 1, None)
    assert Lake(job.folder).read(VIDEOS).num_rows == 1


def test_deleted_rows_are_restored_without_paying(put: Put, make_job: MakeJob) -> None:
    urls: list[str | None] = [put(f"{n}.mp4") for n in range(3)]
    job = make_job(urls, tables=("clips", "vectors"))
    pipeline.run(job)
    DeltaTable(f"{job.folder}/videos").delete(f"source_key = '{urls[0]}'")
    DeltaTable(f"{job.folder}/videos").delete(f"source_key = '{urls[1]}'")
    again = pipeline.run(job)
    assert (again.unchanged, again.reused, again.submitted, again.calls) == (1, 3, 0, 0)
    assert (consistent(job), indexings(job)) == (3, 3)


@pytest.mark.parametrize("kind", ["delta", "parquet"])
def test_a_renamed_table_is_rebuilt_without_paying(put: Put, make_job: MakeJob, kind: Format) -> None:
    """As the messages about damaged tables advise; a run that is stopped in between leaves the rest to do."""
    urls: list[str | None] = [put(f"{n}.mp4") for n in range(3)]
    job = make_job(urls, tables=("clips", "summaries"), format=kind)
    paid = pipeline.run(job).calls
    Path(job.folder, "clips").rename(Path(job.folder, "clips-old"))
    assert (pipeline.plan(job).known, pipeline.plan(job).calls) == (3, 0)
    pipeline.run(job.but(limit=1))
    again = pipeline.run(job)
    assert (paid, again.unchanged, again.reused, again.calls) == (3 + 3, 1, 3, 0)
    lake = Lake(job.folder, kind)
    assert {r["video_id"] for r in lake.read(CLIPS).to_pylist()} == {
        r["video_id"] for r in lake.read(VIDEOS).to_pylist()
    }
    assert pipeline.run(job).unchanged == 3


def on_a_small_disk(job: Job, folder: Path, before: str, size: str) -> subprocess.CompletedProcess[str]:
    """Run a job in a mount namespace of its own, where `folder` is a file system of this size."""
    said = asdict(job)
    said["place"] = said["source"].pop("place")
    (folder.parent / "job.json").write_text(json.dumps(said))
    inside = f'mount -t tmpfs -o size={size} tmpfs {folder} && {before} && exec {sys.executable} -c "$0" "$1"'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", inside, PROGRAM, str(folder.parent / "job.json")],
        check=False, capture_output=True, text=True, timeout=100, env=dict(os.environ),
    )  # fmt: skip
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip("this machine lets nobody mount a file system")
    return done


def test_a_ledger_that_cannot_be_written_pays_nothing(put: Put, make_job: MakeJob, tmp_path: Path) -> None:
    (place := tmp_path / "ledger").mkdir()
    job = make_job([put("a.mp4"), put("b.mp4")], tables=("clips",))
    done = on_a_small_disk(job, place, f"mount -o remount,ro {place}", "1m")
    assert done.returncode != 0, done
    [said] = [line for line in done.stderr.splitlines() if "LedgerError: " in line]
    assert f"the ledger cannot write {place}/" in said
    assert "no permission. Check the rights, or name another place with TL_LEDGER" in said
    with pytest.raises(NotFound):  # not even the index was made
        indexings(job)
    assert pipeline.run(job).submitted == 2  # in the folder beneath, which is writable


@pytest.mark.parametrize(("kind", "size"), [("delta", "48k"), ("parquet", "12k")])
def test_tables_on_a_full_disk(put: Put, make_job: MakeJob, tmp_path: Path, kind: str, size: str) -> None:
    """What was paid for is in the ledger: with more space the next run has it."""
    (place := tmp_path / "lake").mkdir()
    job = make_job([put(f"{n}.mp4") for n in range(3)], format=kind, tables=("clips", "vectors"))
    done = on_a_small_disk(job, place, "true", size)
    assert done.returncode != 0, done
    [said] = [line for line in done.stderr.splitlines() if "LakeError: " in line]
    assert "cannot be" in said
    assert "No space left" in said
    whole = pipeline.run(job)
    assert (whole.status, whole.failed, whole.paid_twice) == ("done", 0, 0)
    assert (consistent(job), indexings(job)) == (3, 3)
    assert Lake(job.folder, job.format).read(VIDEOS).num_rows == 3
