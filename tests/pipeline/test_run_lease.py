"""Which runs the table `runs` calls running, and which of them have died."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tl_data import pipeline
from tl_data.billing import Bill, Prices, RunAccount
from tl_data.connection import Connection, connect
from tl_data.errors import LakeError
from tl_data.lake.base import rows_of
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import RUNS
from tl_data.pipeline.job import Job
from tl_data.pipeline.recovery import RunReconciler, run_lease


def status(lake: Lake) -> dict[str, str]:
    """Of each run."""
    return {row["run_id"]: row["status"] for row in lake.read(RUNS).to_pylist()}


def running(lake: Lake, *run_ids: str) -> None:
    """Rows as runs write them when they begin."""
    at = datetime.now(UTC)
    rows = [{"run_id": r, "job": "job", "status": "running", "started_at": at, "calls": 0} for r in run_ids]
    lake.table(RUNS).append(rows_of(RUNS, rows))


@pytest.fixture
def connection(make_job: Callable[..., Job]) -> Connection:
    return connect(make_job([]).load_settings())


async def looked(connection: Connection, lake: Lake) -> list[str]:
    """The runs that were found to have died."""
    reconciler = RunReconciler(connection.session, lake.table(RUNS), Prices.free(), lake.folder)
    died = await reconciler.find_interrupted()
    await reconciler.close()
    return died


def test_a_run_that_lives_is_left_alone(connection: Connection, tmp_path: Path) -> None:
    lake, storage = Lake(str(tmp_path / "lake")), connection.session.ledger.storage
    running(lake, "mine", "of another ledger")

    async def while_alive() -> list[str]:
        async with run_lease(storage, RunAccount("mine", Bill()), lake.folder):
            return await looked(connection, lake)

    assert connection.run(while_alive()) == []
    assert connection.run(looked(connection, lake)) == [], "it ended well: it wrote its row"
    assert status(lake) == {"mine": "running", "of another ledger": "running"}


def test_a_run_that_could_not_write_its_end_is_found(connection: Connection, tmp_path: Path) -> None:
    lake, storage = Lake(str(tmp_path / "lake")), connection.session.ledger.storage
    running(lake, "mine", "other")

    async def failed() -> None:
        async with run_lease(storage, RunAccount("mine", Bill()), lake.folder):
            raise LakeError("the disk is full")

    with pytest.raises(LakeError):
        connection.run(failed())
    assert connection.run(looked(connection, lake)) == ["mine"]
    assert status(lake) == {"mine": "interrupted", "other": "running"}
    assert connection.run(looked(connection, lake)) == []


def test_a_run_that_died_before_it_had_a_row_leaves_nothing(connection: Connection, tmp_path: Path) -> None:
    """Its lease goes; that of a run over other tables is theirs."""
    lake, storage = Lake(str(tmp_path / "lake")), connection.session.ledger.storage

    async def failed(run: str, folder: str) -> None:
        async with run_lease(storage, RunAccount(run, Bill()), folder):
            raise LakeError("the disk is full")

    for run, folder in (("mine", lake.folder), ("another's", str(tmp_path / "other"))):
        with pytest.raises(LakeError):
            connection.run(failed(run, folder))
    assert connection.run(looked(connection, lake)) == []
    assert [lease.name for lease in (tmp_path / "ledger" / "runs").iterdir()] == ["another's"]


def test_a_lease_that_cannot_be_read_proves_nothing_while_it_is_young(
    connection: Connection, tmp_path: Path
) -> None:
    lake, storage = Lake(str(tmp_path / "lake")), connection.session.ledger.storage
    running(lake, "mine")
    asyncio.run(storage.write("runs/mine", b"{half a rec"))
    assert connection.run(looked(connection, lake)) == []
    assert status(lake) == {"mine": "running"}


def test_a_run_leaves_no_lease(put: Callable[..., str], make_job: Callable[..., Job], tmp_path: Path) -> None:
    job = make_job([put("a.mp4")], tables=("clips",))
    report = pipeline.run(job)
    assert status(Lake(job.folder)) == {report.run_id: "done"}
    assert not list((tmp_path / "ledger" / "runs").iterdir())
