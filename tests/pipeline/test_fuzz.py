"""Damaged files in one folder: each is a row of its own, and the good video gets in."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.conftest import Engine
from tests.support.mutations import bases, mutated, unknown_codec
from tl_data import pipeline
from tl_data.connection import connect
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import ERRORS, VIDEOS
from tl_data.pipeline.job import Job, Source

FILES = int(os.environ.get("FUZZ_FILES", "16"))
IN_A_JOB = 50  # the analysis of what is still a video takes a second or more


@pytest.mark.parametrize("first", range(10_000, 10_000 + FILES, IN_A_JOB))
def test_a_file_never_stops_a_job(
    first: int, tmp_path: Path, quick: Path, make_job: Callable[..., Job], engine: Engine
) -> None:
    folder = tmp_path / "videos"
    originals = bases(tmp_path / "originals")
    folder.mkdir()
    (folder / "good.mp4").write_bytes(quick.read_bytes())
    (folder / "raw.mp4").write_bytes(unknown_codec(quick))
    for seed in range(first, min(first + IN_A_JOB, 10_000 + FILES)):
        name, data = mutated(seed, originals)
        (folder / name).write_bytes(data)
    job = make_job(Source("folder", str(folder)))

    planned = pipeline.plan(job)
    report = pipeline.run(job)
    lake = Lake(job.folder)
    good = {Path(row["url"]).name for row in lake.read(VIDEOS).to_pylist()}
    bad = {Path(row["url"]).name: row["code"] for row in lake.read(ERRORS).to_pylist()}
    assert "good.mp4" in good
    assert bad["raw.mp4"] == "video_file_broken"
    assert planned.distinct == report.distinct
    assert {path.name for path in folder.iterdir()} == good | bad.keys()
    assert all(bad.values())
    health = httpx.get(f"{engine.base_url.removesuffix('/v1.3')}/_engine/health", timeout=20)
    assert (health.status_code, health.json()["status"]) == (200, "ok")


def test_sql_gives_the_error_of_a_row(quick: Path, make_job: Callable[..., Job], tmp_path: Path) -> None:
    import duckdb

    from tl_data import register

    raw = tmp_path / "raw.mp4"
    raw.write_bytes(unknown_codec(quick))
    settings = make_job([]).load_settings()
    connection = duckdb.connect()
    register(connection, settings=settings)
    try:
        connection.execute("CREATE TABLE v AS SELECT unnest(?) AS url", [[str(raw), str(quick)]])
        rows = connection.execute("SELECT (try_tl_summarize(url)).error IS NOT NULL FROM v").fetchall()
        assert [row[0] for row in rows] == [True, False]
    finally:
        connection.close()
        connect(settings).close()
