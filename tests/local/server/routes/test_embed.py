"""/embed and /embed/tasks: vectors of every kind of thing; every refusal once."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Engine
from tests.local.conftest import API, problem
from tests.local.server.routes.test_search import png
from tests.support import media
from tests.support.odd_server import OddServer

NOWHERE = "0123456789abcdef01234567"
OLD = ("model_name", "Marengo-retrieval-2.7")
NEW = ("model_name", "marengo3.0")


def vector(answer: Any, kind: str) -> list[float]:
    """The first vector of a block."""
    return list(answer.json()[f"{kind}_embedding"]["segments"][0]["float"])


def test_texts_have_vectors_of_length_one(api: API) -> None:
    answer = api.form("/embed", OLD, ("text", "a red car"), ("text", ("upload", b"a red car")))
    assert (answer.json()["model_name"], len(vector(answer, "text"))) == ("Marengo-retrieval-2.7", 1024)
    assert answer.headers["x-engine-model"] == answer.json()["engine_model"] == "tl-local-2"
    assert set(answer.json()) == {"model_name", "engine_model", "text_embedding"}
    new = api.form("/embed", NEW, ("text", "a red car"))
    assert (new.json()["model_name"], len(vector(new, "text"))) == ("marengo3.0", 512)
    own = api.form("/embed", ("model_name", "tl-local-2"), ("text", "a red car"))
    assert own.json()["model_name"] == "tl-local-2"
    assert sum(x * x for x in vector(answer, "text")) == pytest.approx(1, abs=1e-3)
    as_file = api.form("/embed", OLD, ("text", ("upload", b"a red car")))
    assert vector(as_file, "text") == vector(answer, "text")


def test_long_texts_are_cut_or_refused(api: API) -> None:
    long, start, end = "one " * 50 + "two " * 50, "one " * 50 + "two " * 27, "one " * 27 + "two " * 50
    for cut, same in (("end", start), ("start", end)):
        cut_off = api.form("/embed", OLD, ("text", long), ("text_truncate", cut))
        assert vector(cut_off, "text") == vector(api.form("/embed", OLD, ("text", same)), "text")
    refused = api.form("/embed", OLD, ("text", long), ("text_truncate", "none"))
    assert problem(refused) == (400, "parameter_invalid")
    assert "77" in refused.json()["message"]
    assert api.form("/embed", NEW, ("text", long), ("text_truncate", "none")).status_code == 200
    # Marengo 3.0 cuts the end, whatever is asked for.
    longer, kept = "one " * 300 + "two " * 300, "one " * 300 + "two " * 200
    cut_off = api.form("/embed", NEW, ("text", longer), ("text_truncate", "none"))
    assert vector(cut_off, "text") == vector(api.form("/embed", NEW, ("text", kept)), "text")


def test_several_things_in_one_call(api: API, files: OddServer, film: Path) -> None:
    (files.folder / "a.png").write_bytes(png(200, 200))
    answer = api.form(
        "/embed",
        NEW,
        ("text", "red"),
        ("image_url", files.url("a.png")),
        ("audio_file", ("a.mp4", film.read_bytes())),
    )
    body = answer.json()
    assert {"model_name", "text_embedding", "image_embedding", "audio_embedding"} < set(body)
    assert body["image_embedding"]["metadata"] == {"input_url": files.url("a.png")}
    assert body["audio_embedding"]["metadata"]["input_filename"] == "a.mp4"
    assert body["audio_embedding"]["segments"][0]["start_offset_sec"] == 0
    assert len({len(vector(answer, kind)) for kind in ("text", "image", "audio")}) == 1
    partly = api.form("/embed", NEW, ("text", "red"), ("image_url", files.odd("404"))).json()
    assert partly["text_embedding"]["segments"]
    assert "404" in partly["image_embedding"]["error_message"]


def test_a_short_video(api: API, film: Path) -> None:
    def billed() -> float:
        return float(api.engine("GET", "/bill").json().get("embed_video", {}).get("video_us", 0))

    before = billed()
    offset = ("audio_start_offset_sec", "1")  # of sounds; a video is embedded and billed whole
    answer = api.form("/embed", NEW, ("video_file", ("a.mp4", film.read_bytes())), offset)
    video = answer.json()["video_embedding"]
    assert {segment["embedding_scope"] for segment in video["segments"]} == {"clip", "video"}
    assert billed() - before == pytest.approx(1e6 * video["metadata"]["duration"], abs=2000)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ([("text", "x")], "parameter_not_provided"),
        ([NEW], "parameter_not_provided"),
        ([("model_name", "gpt"), ("text", "x")], "parameter_invalid"),
        ([NEW, ("text", " ")], "parameter_invalid"),
        ([NEW, ("text", "x"), ("text_truncate", "middle")], "parameter_invalid"),
        ([NEW, ("image_url", "no url")], "parameter_invalid"),
        ([NEW, ("image_url", "http://127.0.0.1:9/a.png")], "parameter_invalid"),
        ([NEW, ("audio_url", "http://127.0.0.1:9/a.wav")], "parameter_invalid"),
        ([NEW, ("video_url", "http://127.0.0.1:9/a.mp4")], "video_url_not_accessible"),
        ([NEW, ("image_file", ("a.png", b""))], "image_file_broken"),
        ([NEW, ("image_file", ("a.png", b"text"))], "parameter_invalid"),
        ([NEW, ("image_file", ("a.png", png(8, 8)))], "parameter_invalid"),
        ([NEW, ("image_file", ("a.png", png(200, 200)[:60]))], "image_file_broken"),
        ([NEW, ("audio_file", ("a.wav", b"no sound"))], "audio_file_broken"),
        ([NEW, ("audio_start_offset_sec", "soon"), ("text", "x")], "parameter_invalid"),
        ([NEW, ("video_file", ("a.mp4", b"no video"))], "video_file_broken"),
    ],
)
def test_refusals(api: API, fields: list[tuple[str, Any]], code: str) -> None:
    answer = api.form("/embed", *fields, ("_", ("", b"")))
    assert problem(answer) == (400, code)
    if code == "parameter_invalid":
        named = {name for name, _ in fields} - {"model_name", "text"} or {name for name, _ in fields}
        assert any(f"The {name} parameter is invalid." in answer.json()["message"] for name in named)


@pytest.fixture(scope="module")
def long_film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """13 s with sound."""
    return media.write(tmp_path_factory.mktemp("film") / "long.mp4", seconds=13)


def test_a_task_from_start_to_end(api: API, long_film: Path) -> None:
    scopes = [("video_embedding_scope", "clip"), ("video_embedding_scope", "video")]
    made = api.form("/embed/tasks", OLD, *scopes, ("video_file", (long_film.name, long_film.read_bytes())))
    assert made.status_code == 201
    task_id = made.json()["_id"]
    early = api.get(f"/embed/tasks/{task_id}").json()
    assert early["status"] in ("processing", "ready")
    assert api.settled(task_id, "/embed/tasks")["status"] == "ready"
    status = api.get(f"/embed/tasks/{task_id}/status").json()
    assert (status["_id"], status["model_name"], status["status"]) == (task_id, OLD[1], "ready")
    assert "segments" not in status["video_embedding"]
    block = api.get(f"/embed/tasks/{task_id}").json()["video_embedding"]
    assert block["metadata"]["input_filename"] == "long.mp4"
    assert block["metadata"]["video_embedding_scope"] == ["clip", "video"]
    assert block["metadata"]["duration"] == pytest.approx(13, abs=0.3)
    seen = [s for s in block["segments"] if s["embedding_option"] == "visual-text"]
    times = [(s["start_offset_sec"], s["end_offset_sec"]) for s in seen if s["embedding_scope"] == "clip"]
    assert times == [(0, 6), (6, 12)]  # the last second is too short for a clip
    assert sum(s["embedding_scope"] == "video" for s in seen) == 1
    only = api.get(f"/embed/tasks/{task_id}", params={"embedding_option": "audio"}).json()
    assert {s["embedding_option"] for s in only["video_embedding"]["segments"]} <= {"audio"}
    assert problem(api.get(f"/embed/tasks/{task_id}", params={"embedding_option": "x"})) == (
        400,
        "parameter_invalid",
    )
    listed = api.get("/embed/tasks", params={"status": "ready"}).json()["data"]
    assert task_id in [task["_id"] for task in listed]
    assert "segments" not in listed[0]["video_embedding"]
    assert api.get("/embed/tasks", params={"started_at": "2999-01-01T00:00:00Z"}).json()["data"] == []
    assert api.get("/embed/tasks", params={"ended_at": "2020-01-01T00:00:00Z"}).json()["data"] == []
    assert problem(api.get("/embed/tasks", params={"status": "done"})) == (400, "parameter_invalid")


def test_offsets_and_clip_length(api: API, long_film: Path, files: OddServer) -> None:
    (files.folder / "long.mp4").write_bytes(long_film.read_bytes())
    fields = [
        ("video_url", files.url("long.mp4")),
        ("video_clip_length", "2"),
        ("video_embedding_scopes", "clip"),
    ]
    offsets = [("video_start_offset_sec", "4"), ("video_end_offset_sec", "10")]
    task_id = api.form("/embed/tasks", NEW, *fields, *offsets).json()["_id"]
    assert api.settled(task_id, "/embed/tasks")["status"] == "ready"
    block = api.get(f"/embed/tasks/{task_id}", params={"embedding_option": "visual"}).json()[
        "video_embedding"
    ]
    times = [(s["start_offset_sec"], s["end_offset_sec"]) for s in block["segments"]]
    assert times == [(4, 6), (6, 8), (8, 10)]
    too_far = [("video_start_offset_sec", "4"), ("video_end_offset_sec", "60")]
    task_id = api.form("/embed/tasks", NEW, *fields, *too_far).json()["_id"]
    failed = api.settled(task_id, "/embed/tasks")
    assert (failed["status"], failed["error"]["code"]) == ("failed", "parameter_invalid")


@pytest.mark.parametrize(
    "fields",
    [
        [("video_clip_length", "1")],
        [("video_clip_length", "11")],
        [("video_start_offset_sec", "5"), ("video_end_offset_sec", "5")],
        [("video_start_offset_sec", "-1")],
        [("video_start_offset_sec", "0"), ("video_end_offset_sec", "3"), ("video_clip_length", "6")],
        [("video_embedding_scope", "shot")],
        [("video_url", "no url")],
        [("model_name", "gpt")],
    ],
)
def test_bad_tasks(api: API, fields: list[tuple[str, str]]) -> None:
    given = dict([NEW, ("video_url", "http://127.0.0.1:9/a.mp4"), *fields])
    assert problem(api.form("/embed/tasks", *given.items())) == (400, "parameter_invalid")


def test_tasks_that_are_not_there(api: API) -> None:
    for path in ("", "/status"):
        assert problem(api.get(f"/embed/tasks/{NOWHERE}{path}")) == (404, "resource_not_exists")
        assert problem(api.get(f"/embed/tasks/x{path}")) == (400, "parameter_invalid")
    assert problem(api.form("/embed/tasks", NEW)) == (400, "parameter_not_provided")


def test_results_are_kept_for_a_while(start_engine: Callable[..., Engine]) -> None:
    engine = start_engine("--embed-task-seconds", "1", "--allow-private")
    with API(engine.base_url) as api:
        task_id = api.form("/embed/tasks", NEW, ("video_url", "http://127.0.0.1:9/a.mp4")).json()["_id"]
        assert api.get(f"/embed/tasks/{task_id}").status_code == 200
        assert [task["_id"] for task in api.get("/embed/tasks").json()["data"]] == [task_id]
        time.sleep(1.1)
        assert problem(api.get(f"/embed/tasks/{task_id}")) == (404, "resource_not_exists")
        listed = api.get("/embed/tasks", params={"started_at": "2020-01-01T00:00:00Z"}).json()
        assert (listed["data"], listed["page_info"]["total_results"]) == ([], 0)
