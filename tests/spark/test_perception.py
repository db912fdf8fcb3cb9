"""`perceive`: the embedded engine's analysis on executors, equal to that of one engine bit by bit."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pyarrow as pa
import pytest

import tl_data.spark
from tests.spark.conftest import connect_session
from tests.support.library import Library
from tl_data.demo.file_server import FileServer
from tl_data.errors import SchemaMismatch
from tl_data.lake.base import rows_of
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import CLIPS, ERRORS, EVIDENCE, FRAMES, RUNS, VECTORS, VIDEOS
from tl_data.local.perceive import Access, Perceiver
from tl_data.spark import perception
from tl_data.spark.nearest import nearest
from tl_data.spark.perception_tables import INPUT, Report
from tl_data.view.snapshot import LakeFolder

if TYPE_CHECKING:
    from tests.conftest import Engine
    from tests.spark.conftest import Java

pytestmark = pytest.mark.spark


@dataclass
class Perceived:
    """A lake that `perceive` wrote, and its source."""

    lake: Lake
    folder: Path  # of the videos
    url: Callable[[str], str]
    report: Report
    rows: list[tuple[str, str | None]]  # key and URL

    def again(self, spark: Any, **options: Any) -> Report:
        df = spark.createDataFrame(self.rows, "id string, url string")
        return tl_data.spark.perceive(
            df,
            "url",
            lake=self.lake,
            key="id",
            allow_private=True,
            frames=True,
            **{"per_task": 8} | options,  # one task, so one worker loads the models
        )


@pytest.fixture(scope="module")
def perceived(
    classic: Java, library: Library, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Perceived]:
    """Made over Spark Connect; the tests repeat the call in a classic session."""
    folder = tmp_path_factory.mktemp("films")
    for name in ("plant.mp4", "soup.mp4"):
        shutil.copyfile(library.image.with_name(name), folder / name)
    (folder / "broken.mp4").write_bytes(b"no film at all" * 100)
    with FileServer(folder) as server:
        rows: list[tuple[str, str | None]] = [
            (key, server.url(f"{key}.mp4")) for key in ("plant", "soup", "broken", "absent")
        ]
        rows += [("same", server.url("plant.mp4")), ("none", None), ("private", "http://169.254.169.254/x")]
        lake = Lake(str(tmp_path_factory.mktemp("perceived") / "lake"))
        made = Perceived(lake, folder, server.url, Report(""), rows)
        with connect_session(classic) as client:
            made.report = made.again(client)
        yield made


def test_a_video_is_a_row_and_a_bad_file_is_a_row(perceived: Perceived) -> None:
    report = perceived.report
    assert (report.videos, report.analyzed, report.unchanged, report.failed) == (5, 2, 0, 4)
    assert report.minutes == pytest.approx(15 / 60, abs=0.02)
    videos = {row["source_key"]: row for row in perceived.lake.read(VIDEOS).to_pylist()}
    assert set(videos) == {"plant", "soup", "same"}
    assert videos["same"]["video_id"] == videos["plant"]["video_id"]
    assert videos["plant"]["made"] == ["clips", "evidence", "frames", "vectors"]
    rows = perceived.lake.read(ERRORS).to_pylist()
    assert {row["source_key"]: (row["code"], row["retryable"]) for row in rows} == {
        "broken": ("video_file_broken", False),
        "absent": ("video_url_not_found", True),
        "none": ("video_url_missing", False),
        "private": ("parameter_invalid", False),
    }
    [run] = perceived.lake.read(RUNS).to_pylist()
    assert (run["status"], run["rows"], run["failed"], run["price"]) == ("partial", 7, 4, 0)
    evidence = perceived.lake.read(EVIDENCE).to_pylist()
    assert {row["video_id"] for row in evidence} == {row["video_id"] for row in videos.values()}
    assert {row["model"] for row in evidence} == {report.model}


def retrieved(engine: Engine, url: str, model: str) -> dict[str, Any]:
    """A video as one engine analyses it and the API returns it."""
    with httpx.Client(base_url=engine.base_url, timeout=60) as api:
        models = [{"model_name": model, "model_options": ["visual", "audio"]}]
        name = f"single {url[-30:]}"
        index = api.post("/indexes", json={"index_name": name, "models": models}).json()["_id"]
        task = api.post("/tasks", data={"index_id": index, "video_url": url}, files={"x": b""}).json()
        deadline = time.monotonic() + 60
        while (state := api.get(f"/tasks/{task['_id']}").json())["status"] != "ready":
            assert state["status"] != "failed", state
            assert time.monotonic() < deadline
            time.sleep(0.2)
        options = {"embedding_option": ["visual", "audio", "transcription"], "transcription": "true"}
        answer = api.get(f"/indexes/{index}/videos/{task['video_id']}", params=options)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


def bits(vector: Any) -> bytes:
    return struct.pack(f"{len(vector)}f", *vector)


def vectors_of(perceived: Perceived, video_id: str) -> dict[tuple[str, str, float], bytes]:
    """The vectors of a video in the lake, by kind, part and start."""
    return {
        (row["embedding_option"], row["embedding_scope"], row["start_sec"]): bits(row["vector"])
        for row in perceived.lake.read(VECTORS).to_pylist()
        if row["video_id"] == video_id
    }


def test_vectors_and_words_are_those_of_one_engine_bit_by_bit(perceived: Perceived, engine: Engine) -> None:
    videos = {row["source_key"]: row["video_id"] for row in perceived.lake.read(VIDEOS).to_pylist()}
    compared = 0
    for key in ("plant", "soup"):
        full = retrieved(engine, perceived.url(f"{key}.mp4"), perceived.report.model)
        single = {
            (s["embedding_option"], s["embedding_scope"], s["start_offset_sec"]): bits(s["float"])
            for s in full["embedding"]["video_embedding"]["segments"]
        }
        own = vectors_of(perceived, videos[key])
        assert own == single
        compared += len(own)
        words = " ".join(part["value"] for part in full["transcription"])
        clips = [row for row in perceived.lake.read(CLIPS).to_pylist() if row["video_id"] == videos[key]]
        assert " ".join(row["transcription"] for row in clips if row["transcription"]) == words
    assert compared >= 12


def test_the_same_content_is_not_analysed_again(perceived: Perceived, java: Java) -> None:
    before = perceived.lake.read(VECTORS)
    perceived.rows.append(("third", perceived.url("plant.mp4")))
    report = perceived.again(java.spark, per_task=1)
    assert (report.analyzed, report.unchanged, report.failed) == (0, 2, 4)
    assert perceived.lake.read(VECTORS).equals(before)
    videos = {row["source_key"]: row for row in perceived.lake.read(VIDEOS).to_pylist()}
    assert videos["third"]["video_id"] == videos["plant"]["video_id"]
    attempts = {row["source_key"]: row["attempt"] for row in perceived.lake.read(ERRORS).to_pylist()}
    assert attempts["absent"] == 2
    assert attempts["broken"] == 1  # the same bytes fail again, so they are not read again


def test_nearest_and_the_viewer_read_the_lake(perceived: Perceived, java: Java) -> None:
    df = java.spark.read.format("delta").load(f"{perceived.lake.folder}/vectors")
    some = next(
        row for row in perceived.lake.read(VECTORS).to_pylist() if row["embedding_option"] == "visual"
    )
    [best] = nearest(df, some["vector"], k=1).collect()
    assert best["similarity"] == pytest.approx(1.0, abs=1e-6)
    assert best["video_id"] == some["video_id"]
    snapshot = LakeFolder(perceived.lake.folder).snapshot()
    assert snapshot.notes == []
    assert snapshot.counts["evidence"] == 2
    assert snapshot.counts["frames"] == perceived.lake.read(FRAMES).num_rows >= 8


def test_an_engine_serves_the_lake(perceived: Perceived, start_engine: Callable[..., Engine]) -> None:
    engine = start_engine("--lake", perceived.lake.folder)
    videos = {row["source_key"]: row["video_id"] for row in perceived.lake.read(VIDEOS).to_pylist()}
    with httpx.Client(base_url=engine.base_url, timeout=60) as api:
        [index] = api.get("/indexes").json()["data"]
        assert index["video_count"] == 2
        form = {"index_id": index["_id"], "query_text": "tomato soup", "search_options": "transcription"}
        hits = api.post("/search", data=form, files={"x": b""}).json()["data"]
        assert hits[0]["video_id"] == videos["soup"]
        params = {"embedding_option": "visual"}
        full = api.get(f"/indexes/{index['_id']}/videos/{videos['soup']}", params=params).json()
        assert full["system_metadata"]["filename"] == "soup.mp4"
        lake = {
            (v["embedding_scope"], v["start_sec"]): bits(v["vector"])
            for v in perceived.lake.read(VECTORS).to_pylist()
            if v["video_id"] == videos["soup"] and v["embedding_option"] == "visual"
        }
        segments = full["embedding"]["video_embedding"]["segments"]
        assert {(s["embedding_scope"], s["start_offset_sec"]): bits(s["float"]) for s in segments} == lake
        text = api.post(
            "/analyze", json={"video_id": videos["soup"], "prompt": "What is said?", "stream": False}
        )
        assert "soup" in text.json()["data"].lower()


def test_a_replaced_file_replaces_the_rows(perceived: Perceived, java: Java) -> None:
    before = {row["source_key"]: row["video_id"] for row in perceived.lake.read(VIDEOS).to_pylist()}
    vectors = vectors_of(perceived, before["plant"])
    shutil.copyfile(perceived.folder / "plant.mp4", perceived.folder / "soup.mp4")
    report = perceived.again(java.spark)
    assert (report.analyzed, report.unchanged) == (1, 1)
    after = {row["source_key"]: row["video_id"] for row in perceived.lake.read(VIDEOS).to_pylist()}
    assert after["soup"] == after["plant"] == before["plant"] != before["soup"]
    for declared in (CLIPS, VECTORS, EVIDENCE, FRAMES):
        ids = set(perceived.lake.read(declared, ["video_id"]).column("video_id").to_pylist())
        assert ids == {before["plant"]}
    # The file was analyzed again, now in a classic session.
    assert vectors_of(perceived, before["plant"]) == vectors


def test_a_lake_of_another_model_is_refused_before_anything_is_analysed(java: Java, tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    row = {"video_id": "a" * 24, "start_sec": 0.0, "model": "marengo3.0", "dimension": 1, "vector": [1.0]}
    lake.table(VECTORS).replace_groups(rows_of(VECTORS, [row]))
    df = java.spark.createDataFrame([("https://example.com/a.mp4",)], "url string")
    with pytest.raises(SchemaMismatch, match=r"marengo3\.0"):
        tl_data.spark.perceive(df, lake=lake)
    with pytest.raises(SchemaMismatch):
        tl_data.spark.perceive(df, "link", lake=lake)
    assert not lake.exists(VIDEOS)


def executor_results(perceived: Perceived, perceiver: Perceiver, access: Access, *names: str) -> Any:
    """The results of the executor's function in this process, as a generator."""
    rows = [{"canonical_url": name, "url": perceived.url(name), "known_key": None} for name in names]
    work = perception._Executor(access, perceiver.model, False, 1.0)
    return work([pa.RecordBatch.from_pylist(rows, INPUT)])


def test_a_worker_that_fails_is_retried_and_downloads_are_deleted(perceived: Perceived) -> None:
    access = Access(allow_private=True, analysis_seconds=0.01)
    with Perceiver(access) as perceiver:
        perception._perceivers[access] = perceiver
        try:
            stopped = executor_results(perceived, perceiver, access, "absent.mp4", "plant.mp4")
            [first] = next(stopped).to_pylist()
            assert (first["code"], first["retryable"]) == ("video_url_not_found", True)
            stopped.close()  # as Spark does for a cancelled task
            deadline = time.monotonic() + 10
            while list(perceiver._scratch.iterdir()):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            [batch] = executor_results(perceived, perceiver, access, "plant.mp4")
            [late] = batch.to_pylist()
            assert (late["state"], late["code"], late["retryable"]) == (
                "failed",
                "engine_worker_failed",
                True,
            )
            assert late["content_key"]
        finally:
            del perception._perceivers[access]


def test_an_interrupted_call_cancels_its_jobs(spark: Any, tmp_path: Path) -> None:
    def interrupt(*_: object) -> None:
        raise InterruptedError

    def serve(server: socket.socket) -> None:
        """Accept a connection, never answer, and interrupt the main thread."""
        with contextlib.suppress(OSError):
            connection, _ = server.accept()
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)
            with connection:
                ended.wait(120)

    lake, ended = Lake(str(tmp_path / "lake")), threading.Event()
    former = signal.signal(signal.SIGALRM, interrupt)
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        df = spark.createDataFrame([(f"http://127.0.0.1:{server.getsockname()[1]}/a.mp4",)], "url string")
        try:
            began = time.monotonic()
            with pytest.raises(InterruptedError):
                tl_data.spark.perceive(df, lake=lake, allow_private=True)
            assert time.monotonic() - began < 40, "the request has 60 s, and the download 30 minutes"
        finally:
            signal.signal(signal.SIGALRM, former)
            ended.set()
    thread.join()
    [run] = lake.read(RUNS).to_pylist()
    assert (run["status"], run["rows"]) == ("interrupted", 1)


def test_a_file_outside_of_the_media_folder_is_not_read(perceived: Perceived, tmp_path: Path) -> None:
    (secret := tmp_path / "secret.mp4").write_bytes(b"x" * 1000)
    media = Access(media=str(perceived.folder))
    with Perceiver(media, folder=tmp_path / "scratch") as perceiver:
        perception._perceivers[media] = perceiver
        try:
            rows = [
                {"canonical_url": str(path), "url": str(path), "known_key": None}
                for path in (secret, tmp_path / "absent.mp4")
            ]
            work = perception._Executor(media, perceiver.model, False, 1.0)
            outcomes = [
                row for batch in work([pa.RecordBatch.from_pylist(rows, INPUT)])
                for row in batch.to_pylist()
            ]  # fmt: skip
        finally:
            del perception._perceivers[media]
    assert [(row["code"], row["content_key"]) for row in outcomes] == [("parameter_invalid", None)] * 2
    assert outcomes[0]["message"] == outcomes[1]["message"], "it does not say which file exists"
