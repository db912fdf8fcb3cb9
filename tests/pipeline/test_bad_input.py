"""The main job over a column in which much is wrong: the good videos get in, the others say why not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pipeline.conftest import both
from tests.support import media
from tests.support.odd_server import OddServer
from tl_data import pipeline
from tl_data.errors import SchemaMismatch
from tl_data.lake.lake import Format, Lake
from tl_data.lake.schemas import CHAPTERS, CLIPS, ERRORS, RUNS, SUMMARIES, VECTORS, VIDEOS
from tl_data.pipeline.job import Job, Source

FILES = (
    media.html_page,
    media.text_named_mp4,
    media.truncated,
    media.a_blink,
    media.audio_only,
    media.zero_bytes,
)


def column(files: OddServer) -> dict[str, str | None]:
    """What each bad row is called here, and what stands in the column."""
    rows: dict[str, str | None] = {make.__name__: files.url(make(files.folder).name) for make in FILES}
    rows["not a url"] = "see the folder on the share"
    rows["not UTF-8"] = f"{files.base_url}/f\ufffdlm.mp4"
    rows["not there"] = files.url("not there.mp4")
    rows["a login page"] = files.odd("html")
    rows["forbidden"] = files.odd("403")
    rows["brackets in a path"] = "file://[x/y.mp4"
    rows["brackets in a host"] = "http://[x/y.mp4"
    rows["a long host"] = f"http://{'a' * 100}.example/y.mp4"
    rows["a device"] = "/dev/zero"
    rows["a null character"] = "a\0b"
    rows["null"] = None
    rows["empty"] = " "
    return rows


CODES = {
    "html_page": "video_file_broken",
    "text_named_mp4": "video_file_broken",
    "truncated": "video_file_broken",
    "a_blink": "video_duration_too_short",
    "audio_only": "video_file_broken",
    "zero_bytes": "video_file_broken",
    "not a url": "video_url_invalid",
    "not UTF-8": "video_url_invalid",
    "brackets in a path": "video_url_invalid",
    "brackets in a host": "video_url_invalid",
    "a long host": "video_url_invalid",
    "a device": "video_url_invalid",
    "a null character": "video_url_invalid",
    "not there": "video_url_not_found",
    "a login page": "video_url_not_media",
    "forbidden": "video_url_not_allowed",
    "null": "video_url_missing",
}


@pytest.mark.parametrize("kind", ["delta", "parquet"])
def test_good_rows_finish_and_bad_ones_say_why(
    files: OddServer, put: Callable[..., str], make_job: Callable[..., Job], kind: Format
) -> None:
    bad = column(files)
    good = put("good.mp4")
    media.unicode_name(files.folder)
    spaced = f"{files.base_url}/Größe 100%25 – 東京 (1).mp4"  # as people write it: only the % is encoded
    job = make_job([*bad.values(), *[good] * 5, spaced], format=kind)

    planned = pipeline.plan(job)
    report = pipeline.run(job)
    lake = Lake(job.folder, kind)
    errors = {row["url"]: row for row in lake.read(ERRORS).to_pylist()}
    messages = {
        name: errors[url if url and url.strip() else ""] for name, url in bad.items() if name != "empty"
    }

    assert {name: row["code"] for name, row in messages.items()} == CODES
    for name, row in messages.items():
        assert 20 < len(row["message"]) < 300, row
        assert "Traceback" not in row["message"], row
        assert (row["attempt"], row["retryable"], row["class"]) == (1, False, "MediaRefused"), (name, row)
    assert {row["url"] for row in lake.read(VIDEOS).to_pylist()} == {good, spaced}
    ids = set(lake.read(VIDEOS, ["video_id"]).column("video_id").to_pylist())
    for declared in (CLIPS, SUMMARIES, CHAPTERS, VECTORS):
        assert set(lake.read(declared, ["video_id"]).column("video_id").to_pylist()) == ids
    assert (report.rows, report.distinct, report.submitted, report.failed) == (24, 19, 2, 17)
    assert (report.paid_twice, report.exit_code, report.status) == (0, 1, "partial")
    assert (planned.distinct, planned.new, len(planned.refused)) == (19, 2, 17)
    assert {r.code for r in planned.refused} == set(CODES.values())

    again = pipeline.run(job)
    assert (again.reused, again.submitted, again.failed) == (2, 0, 17)
    assert (again.new_failures, again.exit_code) == (0, 0)  # all of them failed alike before
    assert {row["attempt"] for row in lake.read(ERRORS).to_pylist()} == {2}

    put("not there.mp4")
    (files.folder / "truncated.mp4").write_bytes((files.folder / "good.mp4").read_bytes() + b"\0\0\0\x08free")
    fixed = pipeline.run(job.but(limit=None))
    assert (fixed.reused, fixed.submitted, fixed.failed) == (2, 2, 15)
    left = {row["url"] for row in lake.read(ERRORS).to_pylist()}
    assert bad["not there"] not in left
    assert bad["truncated"] not in left
    assert len(lake.read(VIDEOS)) == 4
    assert [row["failed"] for row in sorted(lake.read(RUNS).to_pylist(), key=lambda r: r["started_at"])] == [
        17, 17, 15,
    ]  # fmt: skip


@pytest.mark.parametrize("profile", ["lenient"])  # the engine as people use it without a key
def test_a_plan_names_what_the_service_would_refuse(
    files: OddServer, make_job: Callable[..., Job], tmp_path: Path
) -> None:
    """The embedded engine takes a tiny video of half a second; a paid run later would not."""
    job = make_job([files.url(media.half_a_second(files.folder).name)])
    planned = pipeline.plan(job)
    assert (planned.new, planned.refused_count) == (1, 0)
    assert planned.service_codes == {"video_resolution_too_low": 1}
    assert [note.code for note in planned.service_refused] == ["video_resolution_too_low"]
    assert any("video_resolution_too_low" in line for line in planned.lines())
    report = pipeline.run(job)
    assert (report.submitted, report.failed, report.exit_code) == (1, 0, 0)
    assert len(Lake(str(tmp_path / "lake")).read(CLIPS)) == 1


@both
def test_the_platforms_own_refusal_is_a_row_too(
    files: OddServer, make_job: Callable[..., Job], tmp_path: Path, profile: str
) -> None:
    """What headers alone do not show: the platform finds it while it works, today before it indexes."""
    path = media.plain(files.folder)
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    data[start:] = bytes(len(data) - start)
    path.write_bytes(data)
    report = pipeline.run(make_job([files.url(path.name)]))
    sent = 1 if profile == "2025" else 0
    assert (report.submitted, report.failed, report.exit_code) == (sent, 1, 1)
    [row] = Lake(str(tmp_path / "lake")).read(ERRORS).to_pylist()
    assert row["class"] == "TaskFailed"
    assert row["code"]


def test_the_same_refused_bytes_are_not_read_every_night(
    files: OddServer, make_job: Callable[..., Job], tmp_path: Path
) -> None:
    """One HEAD tells that nothing has changed; another file, or other limits, are read again."""
    made = (media.truncated, media.text_named_mp4, media.a_blink)
    urls = [files.url(make(files.folder).name) for make in made]
    job = make_job(list(urls), tables=("clips",))

    def asked(run: Callable[[], object]) -> list[tuple[str, str]]:
        before = len(files.requests)
        run()
        return sorted({(command, path.rpartition("/")[2]) for command, path in files.requests[before:]})

    names = sorted(url.rpartition("/")[2] for url in urls)
    heads = [("HEAD", name) for name in names]
    assert asked(lambda: pipeline.run(job)) == [*[("GET", name) for name in names], *heads]
    messages = {row["url"]: row["message"] for row in Lake(job.folder).read(ERRORS).to_pylist()}

    assert asked(lambda: pipeline.plan(job)) == heads
    assert asked(lambda: pipeline.run(job)) == heads
    rows = Lake(job.folder).read(ERRORS).to_pylist()
    assert {row["url"]: row["message"] for row in rows} == messages
    assert {row["attempt"] for row in rows} == {2}

    with (files.folder / names[0]).open("ab") as file:
        file.write(b"more")
    assert asked(lambda: pipeline.run(job)) == [("GET", names[0]), *heads]

    for kept in (tmp_path / "ledger" / "refused").rglob("*"):
        if kept.is_file():
            kept.write_bytes(b"{")
    assert asked(lambda: pipeline.plan(job)) == [*[("GET", name) for name in names], *heads]


def test_a_source_that_changed_between_two_runs_leaves_the_tables_alone(
    put: Callable[..., str], make_job: Callable[..., Job], tmp_path: Path
) -> None:
    table = tmp_path / "videos.csv"
    table.write_text(f"id,link\n1,{put('a.mp4')}\n")
    job = make_job(Source("files", str(table), url="link", key="id"), tables=("clips",))
    assert pipeline.run(job).submitted == 1
    before = Lake(job.folder).read(VIDEOS).to_pylist()
    table.write_text(f"id,address\n1,{put('b.mp4')}\n")
    for verb in (pipeline.plan, pipeline.run):
        with pytest.raises(SchemaMismatch, match="the source has no column 'link'; it has id, address"):
            verb(job)
    assert Lake(job.folder).read(VIDEOS).to_pylist() == before
    assert Lake(job.folder).read(ERRORS).num_rows == 0


def test_on_the_command_line_a_fault_of_the_source_is_one_sentence(tmp_path: Path) -> None:
    """Whatever was open when it was met: DuckDB reports connections that nobody closed."""
    (tmp_path / "job.toml").write_text(
        '[source]\nfiles = "videos.csv"\nkey = "id"\n[outputs]\nfolder = "lake"\ntables = ["clips"]\n'
    )
    (tmp_path / "videos.csv").write_text("id,url\n1,https://example.com/a.mp4\n,https://example.com/b.mp4\n")
    done = subprocess.run(
        [sys.executable, "-m", "tl_data", "plan", "job.toml"],
        check=False, capture_output=True, text=True, cwd=tmp_path, env=dict(os.environ), timeout=100,
    )  # fmt: skip
    said = "Error: column 'id' of the source is the key, but NULL for https://example.com/b.mp4; "
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[1:] == [
        f"{said}set a key in every row"
    ]  # the first: which engine answers
