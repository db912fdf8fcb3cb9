"""After a change of models, outdated videos are reported with their minutes and analyzed again at no cost."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from tests.support import media
from tests.support.tiny_clip import DIMENSION, make_clip
from tests.support.tiny_whisper import WORDS, make_whisper
from tl_data.cli.reindex import reindex
from tl_data.connection import Connection, connect
from tl_data.demo.scene import Scene
from tl_data.demo.videos import make_video
from tl_data.errors import APIError
from tl_data.functions import FUNCTIONS
from tl_data.local.perception.evidence import Evidence
from tl_data.local.storage.library import Library
from tl_data.settings import Settings

PLAIN = 320  # numbers of a vector without an encoder


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five seconds with a sentence."""
    scene = Scene(5, "Emergency exit", "", "Please keep the emergency exit clear.", color="red")
    return make_video(tmp_path_factory.mktemp("film") / "exit.mp4", (scene,), width=480, height=360, fps=10)


@contextmanager
def engine(home: Path, **models: Any) -> Iterator[Connection]:
    settings = Settings(home=str(home), retries=0, poll_interval=0.2, **models)
    connection = connect(settings)
    try:
        yield connection
    finally:
        connection.close(stop_engine=True)


def call(connection: Connection, name: str, **arguments: Any) -> Any:
    return connection.call(FUNCTIONS[name], **arguments)


def command(home: Path, *words: str, **models: str) -> subprocess.CompletedProcess[str]:
    own = {n: v for n, v in os.environ.items() if not n.startswith("TL_")}
    own |= {"TL_HOME": str(home), "COLUMNS": "300"} | models
    return subprocess.run(
        [sys.executable, "-m", "tl_data", *words],
        env=own, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_from_one_model_to_another_and_back(film: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    clip, whisper = make_clip(tmp_path / "tiny-clip"), make_whisper(tmp_path / "tiny-whisper")
    both = {"local_clip": str(clip), "local_whisper": str(whisper)}
    with engine(home) as before:
        video = call(before, "index_video", video=str(film))["video_id"]
        said = call(before, "transcript", video=video)
        assert "emergency" in said[0]["text"]
        assert {len(row["vector"]) for row in call(before, "video_vectors", video=video)} == {PLAIN}
        assert reindex(settings=before.settings, dry_run=True).videos == 0
    variables = {"TL_LOCAL_CLIP": str(clip), "TL_LOCAL_WHISPER": str(whisper)}
    findings = json.loads(command(home, "doctor", "--json", **variables).stdout)
    doctor = {f["what"]: f for f in findings}
    assert doctor["vision"]["found"].startswith("local-clip: clip-tiny-clip-")
    assert doctor["speech"]["found"].startswith("local-whisper: whisper-tiny-whisper-")
    assert doctor["text"]["found"].startswith("built in")
    assert doctor["reindex"]["found"].startswith("1 videos, 0.08 video minutes were analyzed by tl-local-2")
    assert doctor["reindex"]["do"] == "tl-data reindex"
    with engine(home, **both) as after:
        with pytest.raises(APIError, match="tl-data reindex") as refused:
            call(after, "video_vectors", video=video)
        assert refused.value.code == "video_looked_at_by_other_model"
        assert call(after, "search", index_id="tl_data", query_text="emergency exit")[0]["video_id"] == video
        plan = reindex("tl_data", settings=after.settings, dry_run=True)
        assert (plan.videos, round(plan.video_minutes, 2), plan.done) == (1, 0.08, 0)
        assert list(plan.by_model) == ["tl-local-2"]
        done = reindex("tl_data", settings=after.settings)
        assert (done.done, done.failed) == (1, [])
        assert {len(row["vector"]) for row in call(after, "video_vectors", video=video)} == {
            PLAIN + DIMENSION
        }
        transcript = call(after, "transcript", video=video)
        assert set(" ".join(row["text"] for row in transcript).split()) <= set(WORDS)
        assert transcript
        # The same file is the same video: known by the new models' name, and not indexed again.
        assert call(after, "index_video", video=str(film))["video_id"] == video
        key = (Path(after.settings.home) / "engine" / "engine.key").read_text()
        page = f"{after.base_url.removesuffix('/v1.3')}/_engine/stats"
        stats = httpx.get(page, headers={"x-api-key": key}).json()
        assert "POST /tasks" not in stats["requests"]
        assert reindex(settings=after.settings, dry_run=True).videos == 0
    said = command(home, "reindex", "--json")  # back to the built-in models, from the command line
    assert said.returncode == 0, said.stderr
    done = json.loads(said.stdout)
    assert (done["model"], done["done"], done["failed"]) == ("tl-local-2", 1, [])
    with engine(home) as again:
        assert "emergency" in call(again, "transcript", video=video)[0]["text"]
        assert {len(row["vector"]) for row in call(again, "video_vectors", video=video)} == {PLAIN}


def test_a_video_without_its_sound_fails_and_keeps_its_evidence(tmp_path: Path) -> None:
    """Uploaded without a stream, neither file nor stream is kept."""
    home, film = tmp_path / "home", media.plain(tmp_path)
    with engine(home) as before:
        video = call(before, "index_video", video=str(film), enable_video_stream=False)["video_id"]
    with engine(home, local_whisper=str(make_whisper(tmp_path / "tiny-whisper"))) as after:
        done = reindex(settings=after.settings)
        assert (done.done, [row["video_id"] for row in done.failed]) == (0, [video])
        assert "upload it again" in done.failed[0]["message"]
        assert call(after, "search", index_id="tl_data", query_text="blue ship")[0]["video_id"] == video
    with engine(home, local_clip=str(make_clip(tmp_path / "tiny-clip"))) as after:
        assert reindex(settings=after.settings).done == 1  # for the encoder the keyframes are enough


def as_of_an_earlier_version(home: Path) -> None:
    """Take out of what is stored whatever the first versions did not keep: they wrote it so."""
    with closing(sqlite3.connect(home / "engine" / "library.sqlite")) as db, db:
        for number, blob in db.execute("SELECT number, evidence FROM videos").fetchall():
            raw = json.loads(zlib.decompress(blob))
            del raw["form"]
            for clip in raw["clips"]:
                del clip["sure"]
            for span in raw["speech"] + raw["shown"]:
                del span["words"], span["language"], span["language_confidence"]
            packed = zlib.compress(json.dumps(raw).encode())
            db.execute("UPDATE videos SET evidence = ?, form = 'older' WHERE number = ?", (packed, number))
    with closing(sqlite3.connect(home / "engine" / "engine.sqlite")) as db, db:
        db.execute("ALTER TABLE videos DROP COLUMN form")


@contextmanager
def served(folder: Path, port: int = 0) -> Iterator[str]:
    """The files of a folder at an address."""
    handler = partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def evidence_of(home: Path, video: str) -> Evidence:
    library = Library(home / "engine" / "library.sqlite")
    try:
        return library.evidence(video)
    finally:
        library.close()


def test_evidence_of_an_earlier_version_is_rebuilt(tmp_path: Path) -> None:
    """From the stream that was kept, or from its URL while that gives the same bytes; else it stays."""
    home = tmp_path / "home"
    text, said = "Bitte halten Sie den Notausgang frei", "Please keep the emergency exit clear."
    scene = Scene(5, text, "", said, color="red", path=((0.8, 0.7), (0.2, 0.7)))
    film = make_video(tmp_path / "exit.mp4", (scene,), width=640, height=360, fps=10)
    same = media.plain(tmp_path)
    changed = make_video(tmp_path / "changed.mp4", (Scene(5, "Another"),), width=480, height=360, fps=10)
    with served(tmp_path) as base, engine(home) as before:
        video = call(before, "index_video", video=str(film))["video_id"]
        again, gone = (
            call(before, "index_video", video=f"{base}/{path.name}", enable_video_stream=False)["video_id"]
            for path in (same, changed)
        )
        vectors = call(before, "video_vectors", video=video)
    changed.write_bytes(film.read_bytes())
    first = {name: evidence_of(home, name) for name in (video, again, gone)}
    assert [span.language for span in first[video].shown] == ["de"]
    as_of_an_earlier_version(home)
    older = {name: evidence_of(home, name) for name in first}
    bare = older[video]
    assert (bare.form, bare.clips[0].confidences.colors, bare.shown[0].language) == (0, None, "")
    with served(tmp_path, int(base.rpartition(":")[2])), engine(home) as after:
        # Until its turn comes it is searched, and its vectors are still those of the same model.
        assert call(after, "search", index_id="tl_data", query_text="emergency exit")[0]["video_id"] == video
        assert call(after, "video_vectors", video=video) == vectors
        plan = reindex(settings=after.settings, dry_run=True)
        assert (plan.videos, round(plan.video_minutes, 2)) == (3, 0.25)
        assert plan.by_model == {"an earlier version of tl-local-2": plan.video_minutes}
        done = reindex(settings=after.settings)
        assert (done.done, [row["video_id"] for row in done.failed]) == (2, [gone])
        assert "gives another file" in done.failed[0]["message"]
        assert reindex(settings=after.settings, dry_run=True).videos == 1
        assert call(after, "search", index_id="tl_data", query_text="German text")[0]["video_id"] == video
        assert call(after, "index_video", video=str(film))["video_id"] == video
    fresh = {name: evidence_of(home, name) for name in first}
    assert fresh[gone] == older[gone]
    assert fresh[again] == first[again]
    assert fresh[video].probe == first[video].probe  # of the file that was given, not of the stream
    assert [(span.text, span.language) for span in fresh[video].shown] == [(text, "de")]
    assert fresh[video].speech == first[video].speech
    assert all(span.words for span in fresh[video].speech)
    measured = [
        [(clip.start_sec, clip.end_sec, clip.direction, clip.confidences) for clip in seen[video].clips]
        for seen in (first, fresh)
    ]
    assert measured[0] == measured[1]
    folder = home / "engine" / "videos" / video
    assert sorted(path.name for path in folder.iterdir()) == ["frames", "hls"]
    assert {clip.keyframe for clip in fresh[video].clips} <= {p.name for p in (folder / "frames").iterdir()}


def test_the_doctor_names_a_setting_that_cannot_be(tmp_path: Path) -> None:
    said = command(tmp_path / "home", "doctor", TL_LOCAL_WHISPER=str(tmp_path / "absent"))
    assert said.returncode == 1
    assert "TL_LOCAL_WHISPER names" in said.stdout
    said = command(
        tmp_path / "home", "doctor",
        TL_LOCAL_LLM_URL="http://127.0.0.1:9/v1", TL_LOCAL_LLM_MODEL="tiny", TL_LOCAL_LLM_KEY="sk-PLANTED",
    )  # fmt: skip
    assert "endpoint: tiny, http://127.0.0.1:9/v1" in said.stdout
    assert "sk-PLANTED" not in said.stdout + said.stderr
