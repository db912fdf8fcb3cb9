"""Jobs over short videos, each with a ledger and an index of its own."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Engine
from tl_data.connection import Connection, connect
from tl_data.pipeline.job import Job, Source


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
