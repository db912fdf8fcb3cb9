"""What signs a URL stands in the tables only where the job lets it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.support.odd_server import OddServer
from tl_data import pipeline
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import ERRORS, VIDEOS
from tl_data.pipeline.job import Job


def test_no_secret_of_a_url_stands_in_redacted_tables(
    make_job: Callable[..., Job], put: Callable[..., str], files: OddServer
) -> None:
    """One video that is in, one that is not there, one that is no address."""
    there, gone = put("a.mp4"), files.url("none.mp4")
    source = [f"{there}?api_key=PLANTED", f"{gone}?token=PLANTED", "httpx://u:PLANTED@e.com/v?sig=PLANTED"]
    job = make_job(source, tables=("clips",), urls="redacted")
    report = pipeline.run(job)
    assert (report.submitted, report.failed) == (1, 2)
    lake = Lake(job.folder)
    shown = lake.read(VIDEOS)["url"].to_pylist() + lake.read(ERRORS)["url"].to_pylist()
    planted = [p for p in Path(job.folder).rglob("*") if p.is_file() and b"PLANTED" in p.read_bytes()]
    assert planted == []
    assert sorted(url.partition("?")[0] for url in shown) == sorted([there, gone, "httpx://***@e.com/v"])
    again = pipeline.run(job)
    assert (again.reused, again.submitted, again.failed, again.new_failures) == (1, 0, 2, 0)


def test_secrets_that_tell_videos_apart_still_do(
    make_job: Callable[..., Job], put: Callable[..., str]
) -> None:
    """`key` looks like a secret, and may name the video."""
    job = make_job([f"{put('a.mp4')}?key=1", f"{put('b.mp4')}?key=2"], tables=("clips",), urls="redacted")
    assert pipeline.run(job).failed == 0
    rows = Lake(job.folder).read(VIDEOS).to_pylist()
    assert len({row["source_key"] for row in rows}) == 2
    assert not [row for row in rows if "key=1" in str(row) or "key=2" in str(row)]
