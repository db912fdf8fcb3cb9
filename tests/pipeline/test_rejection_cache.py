"""Answers that are remembered: none that is older than a video that came in."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

import tl_data
from tests.conftest import Engine
from tests.support.library import Library
from tl_data.catalog import FUNCTIONS
from tl_data.connection import connect
from tl_data.settings import Settings
from tl_data.spark.worker import Worker


def test_a_search_sees_a_video_that_another_function_indexed(
    put: Callable[..., str], today: Engine, tmp_path: Path
) -> None:
    settings = Settings.load(
        base_url=today.base_url,
        ledger=str(tmp_path / "ledger"),
        index=f"test-{uuid.uuid4().hex[:12]}",
        poll_interval=0.5,
    )

    def found() -> set[str]:
        hits = tl_data.search(settings.index, "a red object", settings=settings)
        return {hit["video_id"] for hit in hits}

    try:
        one = tl_data.index_video(put("a.mp4"), settings=settings)["video_id"]
        assert found() == {one}
        # Texts of a URL need no index; with one, the video is indexed.
        assert tl_data.gist(put("b.mp4"), index_id=settings.index, settings=settings)["topics"]
        assert len(found()) == 2
        session = connect(settings).session
        # A task that was submitted before is waited for, which is not paid for and indexes a video, too.
        connect(settings).run(session.submit_video(put("c.mp4")))
        tl_data.clips(put("c.mp4"), settings=settings)
        assert len(found()) == 3
    finally:
        connect(settings).close()


def test_a_new_registration_discards_shared_answers(library: Library) -> None:
    """The process of a worker outlives the registration of the functions that it works for."""
    columns = [pa.array([value]) for value in (library.index, "a red object")]
    takes = FUNCTIONS["search"].parameters
    columns += [pa.nulls(1, p.type) for p in takes[len(columns) :]]

    def calls(scope: str) -> int:
        [answers] = Worker(library.settings, scope).outcomes("search", [columns])
        [row] = answers.to_pylist()
        assert row["error"] is None
        return int(row["usage"]["calls"])

    first, second = uuid.uuid4().hex, uuid.uuid4().hex
    assert [calls(first) > 0, calls(first) > 0, calls(second) > 0] == [True, False, True]
