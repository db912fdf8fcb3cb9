"""`tl-data ledger ls` and `export` over a ledger of more calls than a terminal shows."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tl_data.cli.main import exit_code
from tl_data.errors import ServerFailed
from tl_data.ledger.ledger import EXPORT, Ledger
from tl_data.ledger.models import Call
from tl_data.object_store import Storage

DONE, FAILED = 130, 20


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TL_LEDGER", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "250")

    async def main() -> None:
        ledger = Ledger.open(str(tmp_path))

        async def answer() -> str:
            return "a text"

        async def fail() -> str:
            raise ServerFailed("broken", "internal_error", 500)

        for n in range(DONE):
            await ledger.once(Call("summary", f"c{n}", content=f"video {n}", video_minutes=1.0), answer)
        for n in range(FAILED):
            with pytest.raises(ServerFailed):
                await ledger.once(Call("gist", f"f{n}", content=f"other {n}"), fail)
        await ledger.aclose()

    asyncio.run(main())
    return tmp_path


def test_a_terminal_shows_a_page_and_the_count(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert exit_code("ledger", "ls") == 0
    out, err = capfd.readouterr()
    assert out.count("video ") + out.count("other ") == 100
    assert "100 of 150 calls (130 done, 20 failed)" in err
    assert exit_code("ledger", "ls", "--limit", "3", "--state", "failed") == 0
    out, err = capfd.readouterr()
    assert (out.count("video "), out.count("other ")) == (0, 3)


def test_programs_get_every_call(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert exit_code("ledger", "ls", "--json") == 0
    rows = json.loads(capfd.readouterr().out)
    assert len(rows) == DONE + FAILED
    assert list(rows[0]) == EXPORT.names
    assert exit_code("ledger", "ls", "--json", "--operation", "gist", "--limit", "7") == 0
    assert len(json.loads(capfd.readouterr().out)) == 7
    assert exit_code("ledger", "ls", "--json", "--operation", "none") == 0
    assert json.loads(capfd.readouterr().out) == []
    assert exit_code("ledger", "export", "--csv") == 0
    assert len(list(csv.DictReader(io.StringIO(capfd.readouterr().out)))) == DONE + FAILED
    file = place.parent / "ledger.parquet"
    assert exit_code("ledger", "export", "--parquet", str(file)) == 0
    assert pq.read_table(file).schema.equals(EXPORT)
    assert pq.read_table(file).num_rows == DONE + FAILED


def test_counting_reads_no_record(place: Path) -> None:
    class Counting(Storage):
        reads = 0

        async def read(self, path: str) -> bytes | None:
            self.reads += 1
            return await super().read(path)

    async def main() -> None:
        storage = Counting(str(place))
        ledger = Ledger(storage)
        assert await ledger.count() == {"done": DONE, "failed": FAILED}
        assert storage.reads == 0
        batches = ledger.batches(rows=10)
        assert (await anext(batches)).num_rows == 10
        assert storage.reads < DONE + FAILED
        await batches.aclose()  # type: ignore[attr-defined]
        await ledger.aclose()

    asyncio.run(main())
