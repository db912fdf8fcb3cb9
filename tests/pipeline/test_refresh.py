"""Re-embedding in place: another model's vectors leave, video by video, priced before, resumable."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Engine
from tests.support.odd_server import OddServer
from tl_data import pipeline
from tl_data.connection import connect
from tl_data.errors import SchemaMismatch
from tl_data.lake.lake import Format, Lake
from tl_data.lake.schemas import CHAPTERS, CLIPS, SUMMARIES, VECTORS, VIDEOS, LakeSchema
from tl_data.pipeline.job import Job, Source

OLDER, NEWER = "marengo2.7", "marengo3.0"
Put = Callable[..., str]
MakeJob = Callable[..., Job]


@pytest.fixture
def profile() -> str:
    """The account of `make_job` is of 2025: that of `newer` has another model."""
    return "2025"


@pytest.fixture
def newer(make_job: MakeJob, today: Engine, tmp_path: Path) -> MakeJob:
    """The same job on an account of today: another model, another index, and prices that show."""
    prices = tmp_path / "prices.toml"
    prices.write_text("as_of = 2026-11-01\n[index]\nvideo_minute = 0.042\n[analyze]\ncall = 0.001\n")
    settings = {"base_url": today.base_url, "index": uuid.uuid4().hex}
    made: list[Job] = []

    def make(source: Source | list[str | None], **changes: object) -> Job:
        job = make_job(source, settings=settings, prices=str(prices), **{"refresh": True, **changes})
        made.append(job)
        return job

    yield make
    for job in made[:1]:
        connect(job.load_settings()).close()


def models(lake: Lake) -> dict[str, str]:
    """The model of each video's vectors; a video never has two."""
    rows = lake.read(VECTORS, ["video_id", "model"]).to_pylist()
    found = {row["video_id"]: row["model"] for row in rows}
    assert len({(row["video_id"], row["model"]) for row in rows}) == len(found)
    return found


def by_url(lake: Lake, declared: LakeSchema, *columns: str) -> dict[str, list[tuple[object, ...]]]:
    """What a table holds of each URL, whatever id its video has."""
    urls = {row["video_id"]: row["url"] for row in lake.read(VIDEOS).to_pylist()}
    found: dict[str, list[tuple[object, ...]]] = {}
    for row in lake.read(declared).to_pylist():
        found.setdefault(urls[row["video_id"]], []).append(tuple(str(row[c]) for c in columns))
    return {url: sorted(rows) for url, rows in found.items()}


@pytest.mark.parametrize("kind", ["delta", "parquet"])
def test_vectors_are_replaced_in_place_for_the_planned_price(
    put: Put, make_job: MakeJob, newer: MakeJob, kind: Format
) -> None:
    urls: list[str | None] = [put("a.mp4"), put("b.mp4"), put("c.mp4")]
    pipeline.run(make_job(urls, format=kind, prompts=("", "It's short")))
    lake = Lake(make_job(urls).folder, kind)
    before = {declared: by_url(lake, declared, "model") for declared in (VECTORS, CLIPS)}
    texts = by_url(lake, SUMMARIES, "prompt", "summary", "at"), by_url(lake, CHAPTERS, "title", "start_sec")
    came_in = {row["url"]: row["indexed_at"] for row in lake.read(VIDEOS).to_pylist()}

    job = newer(urls, format=kind)
    first = pipeline.run(job.but(limit=1))
    assert (first.submitted, first.calls, first.exit_code) == (1, 1, 0)
    assert sorted(models(lake).values()) == [OLDER, OLDER, NEWER]

    planned = pipeline.plan(job)
    assert (planned.unchanged, planned.new, planned.refreshed, planned.calls) == (1, 2, 2, 2)
    assert "2 videos with new vectors; summaries and chapters are kept" in "\n".join(planned.lines())
    done = pipeline.run(job)
    assert (done.unchanged, done.submitted, done.failed, done.exit_code) == (1, 2, 0, 0)
    assert (done.price, done.calls) == (planned.price, planned.calls)
    assert done.price > 0
    assert set(models(lake).values()) == {NEWER}
    for declared, rows in before.items():
        after = by_url(lake, declared, "model")
        assert {url: len(r) for url, r in after.items()} == {url: len(r) for url, r in rows.items()}
        assert {row for rows in after.values() for row in rows} == {(NEWER,)}
    assert texts == (
        by_url(lake, SUMMARIES, "prompt", "summary", "at"),
        by_url(lake, CHAPTERS, "title", "start_sec"),
    )
    videos = lake.read(VIDEOS).to_pylist()
    assert {row["url"]: row["indexed_at"] for row in videos} == came_in
    assert {row["model"] for row in videos} == {NEWER}
    again = pipeline.run(job)
    assert (again.unchanged, again.submitted, again.calls) == (3, 0, 0)
    assert pipeline.plan(job.but(refresh=False)).unchanged == 3, "an ordinary run goes on with the new model"


def test_killed_between_the_commits_of_texts_and_of_videos(
    put: Put, make_job: MakeJob, newer: MakeJob
) -> None:
    """The texts have their new ids already, the table `videos` still names the old ones."""
    urls: list[str | None] = [put("a.mp4"), put("b.mp4")]
    pipeline.run(make_job(urls))
    lake = Lake(make_job(urls).folder)
    videos = lake.read(VIDEOS)
    texts = by_url(lake, SUMMARIES, "summary", "at"), by_url(lake, CHAPTERS, "title")
    assert pipeline.run(newer(urls)).submitted == 2
    lake.table(VIDEOS).replace(videos)
    again = pipeline.run(newer(urls))
    assert (again.reused, again.submitted, again.calls, again.exit_code) == (2, 0, 0, 0)
    assert texts == (by_url(lake, SUMMARIES, "summary", "at"), by_url(lake, CHAPTERS, "title"))
    assert set(models(lake).values()) == {NEWER}


def test_the_table_videos_is_a_source_for_a_refresh(
    put: Put, make_job: MakeJob, newer: MakeJob, tmp_path: Path
) -> None:
    """A video that left the source is reported, and found through the table `videos`."""
    a, b = put("a.mp4"), put("b.mp4")
    pipeline.run(make_job([a, b]))
    lake = Lake(make_job([]).folder)
    part = pipeline.run(newer([a], tables=("vectors",)))
    assert part.exit_code == 1
    assert f"still has 1 video of {OLDER}" in part.lines()[0]
    assert by_url(lake, CLIPS, "model")[a][0] == (NEWER,), "also a table that the job did not name"
    rest = pipeline.run(newer(Source("delta", f"{lake.folder}/videos", key="source_key")))
    assert (rest.unchanged, rest.submitted, rest.exit_code) == (1, 1, 0)
    assert set(models(lake).values()) == {NEWER}
    assert set(by_url(lake, CHAPTERS, "title")) == {a, b}


def test_two_files_of_one_content(files: OddServer, put: Put, make_job: MakeJob, newer: MakeJob) -> None:
    put("a.mp4")
    a = files.folder / "a.mp4"
    shutil.copyfile(a, b := files.folder / "b.mp4")
    paths: list[str | None] = [str(a), str(b)]
    pipeline.run(make_job(paths))
    lake = Lake(make_job(paths).folder)
    assert len(models(lake)) == 1
    done = pipeline.run(newer(paths))
    assert (done.submitted, done.reused, done.exit_code) == (1, 1, 0), done.lines()
    assert list(models(lake).values()) == [NEWER]


def test_an_index_keeps_its_model(put: Put, make_job: MakeJob, tmp_path: Path) -> None:
    urls: list[str | None] = [put("a.mp4")]
    job = make_job(urls)
    pipeline.run(job)
    wrong = job.but(refresh=True, settings={**job.settings, "search_model": NEWER})
    for verb in (pipeline.plan, pipeline.run):
        with pytest.raises(SchemaMismatch, match=r"has the model marengo2\.7, .* run is marengo3\.0") as no:
            verb(wrong)
        assert f'index = "{job.settings["index"]}-{NEWER}"' in str(no.value)
    connect(wrong.load_settings()).close()
    assert set(models(Lake(job.folder)).values()) == {OLDER}
