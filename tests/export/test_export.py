"""What every export does: what changed since the last one, deletions too, safe to repeat and to kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tl_data
from tests.support.export_lake import AT, small_lake, video, write_chapters, write_clips, write_videos
from tl_data.errors import ExportError, SettingsError
from tl_data.export.rows import VectorRows
from tl_data.export.sink import error_kind, export_error, parse_target
from tl_data.export.state import State
from tl_data.lake.lake import Lake, open_lake
from tl_data.lake.row_ids import digests, row_id
from tl_data.lake.schemas import VECTORS


def _export(lake: Lake, target: str, **how: object) -> dict[str, int]:
    [report] = tl_data.export(lake.folder, target, **how)
    names = ("rows", "unchanged", "upserted", "deleted", "refused")
    return {name: getattr(report, name) for name in names}


def test_only_changes_are_sent_and_removed_rows_are_deleted(lake: Lake, tmp_path: Path) -> None:
    target = f"srt://{tmp_path}/out"
    assert _export(lake, target, dry_run=True)["upserted"] == 3
    assert not (tmp_path / "out").exists()
    assert _export(lake, target) == {"rows": 3, "unchanged": 0, "upserted": 3, "deleted": 0, "refused": 0}
    compared: list[tuple[str, int]] = []
    _export(lake, target, progress=lambda table, rows: compared.append((table, rows)))
    assert compared[-1] == ("clips", 3)
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}
    assert _export(lake, target)["unchanged"] == 3
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()} == before

    write_videos(lake, [video("news.mp4"), video("talk.mp4")])
    write_clips(lake, [("v-news.mp4", 0, 10, "other words"), ("v-talk.mp4", 0, 5, "short")])
    assert _export(lake, target) == {"rows": 2, "unchanged": 0, "upserted": 2, "deleted": 1, "refused": 0}
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["news.srt", "talk.srt"]
    assert "other words" in (tmp_path / "out" / "news.srt").read_text()


def test_a_target_that_was_removed_gets_all_rows_again(lake: Lake, tmp_path: Path) -> None:
    target = f"srt://{tmp_path}/out"
    _export(lake, target)
    for file in (tmp_path / "out").iterdir():
        file.unlink()
    (tmp_path / "out").rmdir()
    assert _export(lake, target)["upserted"] == 3
    assert _export(lake, target, full=True)["upserted"] == 3


def test_a_file_has_no_rows_after_all_rows_were_removed(lake: Lake, tmp_path: Path) -> None:
    target = f"jsonl://{tmp_path}/clips.jsonl?table=clips"
    assert _export(lake, target)["upserted"] == 9
    write_clips(lake, [])
    assert _export(lake, target) == {"rows": 0, "unchanged": 0, "upserted": 0, "deleted": 9, "refused": 0}
    assert (tmp_path / "clips.jsonl").read_bytes() == b""
    assert _export(lake, target)["deleted"] == 0
    write_clips(lake, [("v-news.mp4", 0, 10, "words")])
    assert _export(lake, target)["upserted"] == 1
    assert len((tmp_path / "clips.jsonl").read_text().splitlines()) == 1


def test_two_targets_have_two_states(lake: Lake, tmp_path: Path) -> None:
    for place in ("a", "b"):
        assert _export(lake, f"srt://{tmp_path}/{place}")["upserted"] == 3
    (one,) = tl_data.export(lake.folder, f"webvtt://{tmp_path}/a")
    assert one.upserted == 3
    assert len(list((tmp_path / "a").iterdir())) == 6


def test_a_killed_export_is_taken_up(lake: Lake, tmp_path: Path) -> None:
    """Killed between the request and its answer: the row may be there, so it is sent or deleted later."""
    with State(lake.folder, "t", "x") as state:
        piece = state.record_sending(["a", "b"])
        state.record_sent(piece, {"a": b"1", "b": b"2"})
        state.record_sending(["c"])
    with State(lake.folder, "t", "x") as again:
        assert again.rows == {"a": b"1", "b": b"2", "c": None}
        again.record_deleted(["a"])
    with State(lake.folder, "t", "x") as again:
        assert again.rows == {"b": b"2", "c": None}
        again.finish()
    with State(lake.folder, "t", "x") as again:
        assert again.rows == {"b": b"2", "c": None}
        again.forget()
    with State(lake.folder, "t", "x") as again:
        assert again.rows == {}


def test_kill_dash_nine_in_the_middle(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"), "parquet")
    write_videos(lake, [video(f"{n:04}.mp4") for n in range(1500)])
    write_clips(lake, [(f"v-{n:04}.mp4", 0, 10, "words") for n in range(1500)])
    out = tmp_path / "out"
    command = [sys.executable, "-m", "tl_data", "export", lake.folder, f"srt://{out}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while process.poll() is None and not list(out.glob("*.srt"))[100:] and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = _export(lake, f"srt://{out}")
    assert done["upserted"] + done["unchanged"] == 1500
    assert len(list(out.glob("*.srt"))) == 1500
    assert _export(lake, f"srt://{out}")["unchanged"] == 1500


def test_two_exports_to_one_target_at_once_are_refused(lake: Lake, tmp_path: Path) -> None:
    target = f"srt://{tmp_path}/out"
    with State(lake.folder, parse_target(target).identity, ""), pytest.raises(ExportError) as refused:
        _export(lake, target)
    assert refused.value.code == "export_running"


@pytest.mark.parametrize(
    "target",
    [
        *("lake", "unknown://x", "srt://", "srt://./a?colour=red", "edl://./a?fps=17.3"),
        *("edl://./a?fps=25&start=1:2", "edl://./a?fps=25&start=24:00:00:00"),
        "edl://./a?fps=29.97&start=00:01:00:00",
    ],
)
def test_a_wrong_target_is_refused(
    lake: Lake, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError):
        tl_data.export(lake.folder, target)
    assert not (tmp_path / "a").exists()


def test_a_wrong_lake_table_or_field_is_refused(lake: Lake, tmp_path: Path) -> None:
    place = f"jsonl://{tmp_path}/a.jsonl"
    for how in ({"table": "nothing"}, {"table": "clips", "fields": {"a": "nothing"}}, {}):
        with pytest.raises(SettingsError):
            tl_data.export(lake.folder, place, **how)
    with pytest.raises(SettingsError):
        open_lake(str(tmp_path / "nowhere"))


def test_passwords_are_not_shown() -> None:
    with pytest.raises(SettingsError):
        parse_target("lancedb://a[b/c")
    target = parse_target("pgvector://me:secret@host:5432/db?collection=c&metric=l2")
    assert (target.user, target.password, target.host, target.port) == ("me", "secret", "host", 5432)
    assert target.path == "db"
    assert "secret" not in target.name + target.identity
    assert target.name == "pgvector://host:5432/db?collection=c"


def test_ids_and_digests_stay_the_same(lake: Lake) -> None:
    """They are in the stores of users: a change would send everything again, or twice."""
    assert row_id("vectors", ("v", 0.0, 6.0, "clip", "visual")) == "334011fe-8540-5313-9a80-2673b104939e"
    first = next(iter(lake.batches(VECTORS)))
    assert len({*digests(first)}) == first.num_rows


def test_the_command(lake: Lake, tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tl_data", "export", lake.folder, *words],
            capture_output=True,
            text=True,
            check=False,
        )

    file = tmp_path / "a.jsonl"
    done = run(f"jsonl://{file}", "--table", "clips", "--field", "words=transcription", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["upserted"] == 9
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(rows) == 9
    assert {*rows[0]} == {"id", "words"}
    assert run("nothing://x").returncode == 2


def test_a_change_of_the_connection_leaves_the_digests_of_rows(lake: Lake) -> None:
    def options(target: str) -> str:
        return parse_target(target).content_options

    assert options("mongodb://h/db?tls=true&srv=true&replicaSet=a&authSource=b&directConnection=true") == ""
    assert options("weaviate://h?grpc_port=1&collection=c&tls=true") == options("weaviate://h") == ""
    assert options("vespa://h?schema_folder=app&namespace=n") == ""
    # These change what is written, or may name another server.
    assert options("qdrant://h?metric=dot&tls=true") == "metric=dot"
    assert options("pinecone://clips?host=other") == "host=other"
    assert options("webvtt://./out?language=en") == "language=en"


def test_an_error_says_whether_the_next_export_resumes() -> None:
    lost = [export_error("t", OSError("x"), "lost", resumes=resumes) for resumes in (False, True)]
    assert [error.code for error in lost] == ["target_lost"] * 2
    assert ["skips the rows" in str(error) for error in lost] == [False, True]


def test_errors_are_classified() -> None:
    class StatusError(Exception):
        def __init__(self, status: int, text: str = "") -> None:
            super().__init__(text)
            self.status_code = status

    assert error_kind(OSError(28, "No space left on device")) == "full"
    assert error_kind(StatusError(507)) == "full"
    assert error_kind(ConnectionResetError()) == "lost"
    assert error_kind(StatusError(503)) == "lost"
    assert error_kind(StatusError(429)) == "lost"
    assert error_kind(StatusError(401)) == "denied"
    assert error_kind(StatusError(400, "connection refused is no valid title")) == "row"
    assert error_kind(ValueError("field 'network' is closed")) == "row"


def test_small_lake_is_a_lake(tmp_path: Path) -> None:
    assert open_lake(str(tmp_path / small_lake(tmp_path / "x").folder)).format == "parquet"


def test_videos_that_left_the_source_are_not_exported(lake: Lake, tmp_path: Path) -> None:
    """`removed = "mark"` keeps their rows in the lake."""
    target = f"srt://{tmp_path}/out"
    _export(lake, target)
    write_videos(lake, [video("news.mp4"), video("talk.mp4", removed_at=AT)])
    assert _export(lake, target) == {"rows": 1, "unchanged": 1, "upserted": 0, "deleted": 2, "refused": 0}
    again = video("b.mp4", video_id="v-talk.mp4")
    write_videos(lake, [video("talk.mp4", removed_at=AT), again, video("c.mp4", video_id="v-talk.mp4")])
    [rows] = [r.rows for r in VectorRows(lake).batches()]
    by_video = dict(
        zip(rows.column("video_id").to_pylist(), rows.column("source_key").to_pylist(), strict=True)
    )
    assert by_video["v-talk.mp4"] == "b.mp4"
    write_videos(lake, [video("talk.mp4", removed_at=AT)])
    assert "v-talk.mp4" not in next(VectorRows(lake).batches()).rows.column("video_id").to_pylist()


def test_a_job_exports_what_it_wrote(lake: Lake, tmp_path: Path) -> None:
    job = tmp_path / "job.toml"

    def run(verb: str, targets: str) -> subprocess.CompletedProcess[str]:
        job.write_text(f'[outputs]\nfolder = "lake"\nformat = "parquet"\n[export]\ntargets = {targets}\n')
        command = [sys.executable, "-m", "tl_data", verb, str(job), "--json"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert run("run", '["srt://./out", "jsonl://./clips.jsonl"]').returncode == 2  # of which table?
    assert not (tmp_path / "out").exists()
    done = run("run", '["webvtt://./out?language=en", "edl://./cuts?table=chapters,clips"]')
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)["exports"]
    assert [(report["target"], report["upserted"]) for report in said] == [
        *((f"webvtt://{tmp_path}/out", 3), (f"edl://{tmp_path}/cuts", 3))
    ]
    assert len(list((tmp_path / "out").iterdir())) == 3
    assert run("run", '["nowhere://./out"]').returncode == 2


def test_chapters_replace_clips_in_the_same_folder(lake: Lake, tmp_path: Path) -> None:
    target = f"webvtt://{tmp_path}/out"
    _export(lake, target)
    assert _export(lake, target, table="chapters")["upserted"] == 3
    write_chapters(lake, [])
    assert _export(lake, target, table="chapters")["upserted"] == 3
    assert (tmp_path / "out" / "talk.vtt").read_text() == "WEBVTT\n"
