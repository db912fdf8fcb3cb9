"""The demo, run once for all tests that look at what it leaves."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

import tl_data
from tl_data.connection import connect
from tl_data.demo.videos import DemoVideo
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import CHAPTERS, CLIPS, SUMMARIES, VIDEOS
from tl_data.settings import Settings


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "tl_data", "demo", *arguments]
    return subprocess.run(command, check=False, cwd=cwd, capture_output=True, text=True, timeout=600)


def running_in(folder: Path) -> list[str]:
    """Command lines of processes that have to do with a folder."""
    lines = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(entry.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue  # ended meanwhile
    return [line for line in lines if str(folder) in line]


@pytest.fixture(scope="session")
def place(videos: list[DemoVideo], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder in which the demo finds its videos made."""
    folder = tmp_path_factory.mktemp("demo")
    shutil.copytree(videos[0].path.parent, folder / "demo-lake" / "media")
    return folder


@pytest.fixture(scope="session")
def first(place: Path) -> subprocess.CompletedProcess[str]:
    return run(cwd=place)


@pytest.fixture(scope="session")
def lake(first: subprocess.CompletedProcess[str], place: Path) -> Lake:
    assert first.returncode == 0, first.stderr
    return Lake(str(place / "demo-lake"))


@pytest.fixture(scope="module")
def con(lake: Lake) -> Iterator[duckdb.DuckDBPyConnection]:
    """The demo's tables and functions in DuckDB, as a user has them afterwards."""
    settings = Settings(home=str(Path(lake.folder) / "engine"), index="demo")
    with duckdb.connect() as con:
        tl_data.register(con, settings)
        for table in (VIDEOS, CLIPS, SUMMARIES, CHAPTERS):
            con.register(table.name, lake.read(table))
        yield con
    connect(settings).close(stop_engine=True)
