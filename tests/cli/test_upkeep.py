"""Commands that look after the ledger and the tables: forget by filter, migrate."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner, Result
from deltalake import write_deltalake

from tl_data.cli.jobs import lake
from tl_data.cli.ledger import ledger as ledger_group
from tl_data.errors import MediaRefused
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import RUNS
from tl_data.ledger.ledger import Ledger
from tl_data.ledger.models import Call


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ledger with one call that went well and two that were refused for good."""
    monkeypatch.setenv("TL_LEDGER", str(tmp_path / "ledger"))

    async def fill() -> None:
        kept = Ledger.open(str(tmp_path / "ledger"))

        async def well() -> dict[str, int]:
            return {"a": 1}

        await kept.once(Call("analyze", "c0", content="http://h/good.mp4"), well)
        for number, code in enumerate(("video_file_broken", "video_url_not_found")):

            async def refused(code: str = code) -> None:
                raise MediaRefused("no", code)

            with pytest.raises(MediaRefused):
                await kept.once(Call("index", f"c{number + 1}", content=f"http://h/{code}.mp4"), refused)
        await kept.aclose()

    asyncio.run(fill())
    return tmp_path


def forget(*words: str) -> Result:
    return CliRunner().invoke(ledger_group, ["forget", *words])


def left(place: Path) -> set[str]:
    async def contents() -> set[str]:
        kept = Ledger.open(str(place / "ledger"))
        found = {str(entry.content) async for entry in kept.entries()}
        await kept.aclose()
        return found

    return asyncio.run(contents())


def test_calls_are_forgotten_by_what_they_are(place: Path) -> None:
    good, broken, gone = (f"http://h/{n}.mp4" for n in ("good", "video_file_broken", "video_url_not_found"))
    assert left(place) == {good, broken, gone}
    assert forget("--code", "video_file_broken", "--dry-run").exit_code == 0
    assert left(place) == {good, broken, gone}
    assert forget("--code", "video_file_broken").exit_code == 0
    assert left(place) == {good, gone}
    assert forget("--failed", "--operation", "analyze").exit_code == 0
    assert left(place) == {good, gone}
    assert forget("--failed").exit_code == 0
    assert left(place) == {good}
    assert forget("--content", "h/good").exit_code == 0
    assert left(place) == set()
    assert forget().exit_code == 2
    assert forget("key", "--failed").exit_code == 2


def test_tables_are_migrated_by_hand(tmp_path: Path) -> None:
    former = [f for f in RUNS.schema if f.name not in RUNS.added and f.name != "price"]
    schema = pa.schema([*(f.remove_metadata() for f in former), ("price", pa.float64())])
    rows = pa.Table.from_pylist([{"run_id": "r", "distinct": 2, "price": 0.5}], schema)
    write_deltalake(str(tmp_path / "lake" / "runs"), rows)
    (tmp_path / "job.toml").write_text("[source]\nurls = ['http://h/a.mp4']\n[outputs]\nfolder = 'lake'\n")
    for changed in (True, False):
        done = CliRunner().invoke(lake, ["migrate", str(tmp_path / "job.toml")])
        assert done.exit_code == 0, done.output
        assert ("up to date" not in done.output) == changed
    [row] = Lake(str(tmp_path / "lake")).read(RUNS).to_pylist()
    assert (row["distinct_videos"], float(row["price"])) == (2, 0.5)
