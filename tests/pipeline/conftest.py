"""Short videos that are quick to look at, and jobs over them."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Engine
from tests.support import media
from tests.support.odd_server import OddServer
from tl_data.connection import Connection, connect
from tl_data.pipeline.job import Job, Source


@pytest.fixture(scope="session")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A silent video of four seconds: the least that the API takes."""
    folder = tmp_path_factory.mktemp("quick")
    return media.write(
        folder / "quick.mp4",
        seconds=4,
        width=360,
        height=360,
        fps=5,
        audio=None,
        muxer={"movflags": "faststart"},
    )


@pytest.fixture
def put(files: OddServer, quick: Path) -> Callable[..., str]:
    """Make a distinct video of the name and give its URL; with `again=1` the file is another one."""

    def put_(name: str, again: int = 0) -> str:
        path = files.folder / name
        shutil.copyfile(quick, path)
        box = f"{name}{again}".encode()
        with path.open("ab") as file:  # a box of free space behind the video: other bytes, same picture
            file.write((len(box) + 8).to_bytes(4, "big") + b"free" + box)
        return files.url(name)

    return put_


@pytest.fixture
def make_job(engine: Engine, tmp_path: Path) -> Iterator[Callable[..., Job]]:
    """A job with a ledger and an index of its own; a list of URLs is a source."""
    settings = {
        "base_url": engine.base_url,
        "home": str(tmp_path / "home"),
        "ledger": str(tmp_path / "ledger"),
        "index": f"test-{uuid.uuid4().hex[:12]}",
        "poll_interval": 0.5,
        "retries": 1,
    }

    def make(source: Source | list[str | None], **changes: Any) -> Job:
        if isinstance(source, list):
            source = Source("urls", tuple(source))  # type: ignore[arg-type]
        more = changes.pop("settings", {})
        return Job(source, str(tmp_path / "lake"), **changes, settings={**settings, **more})

    yield make
    close(Job(Source("urls", ()), "", settings=settings))


def close(job: Job) -> None:
    """Close the connection of a job."""
    connection: Connection = connect(job.load_settings())
    connection.close()
