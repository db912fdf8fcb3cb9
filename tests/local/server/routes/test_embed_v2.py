"""/embed-v2: every type of input at once, videos by task, and what is refused."""

from __future__ import annotations

import base64
import math
from pathlib import Path
from typing import Any

import pytest

from tests.local.conftest import API, problem
from tests.local.server.routes.test_assets import uploaded
from tests.support import media
from tests.support.odd_server import OddServer
from tl_data.demo.scene import painter

NOWHERE = "0123456789abcdef01234567"


def asked(api: API, kind: str, given: Any, model: str = "marengo3.0", **more: Any) -> Any:
    """What is sent for one type of input."""
    body = {"input_type": kind, "model_name": model, kind: given, **more}
    return api.post("/embed-v2", json=body)


def data(answer: Any) -> list[dict[str, Any]]:
    """The vectors of an answer, all of length one."""
    assert answer.status_code == 200, answer.text
    for item in answer.json()["data"]:
        assert math.hypot(*item["embedding"]) == pytest.approx(1, abs=1e-3)
    return list(answer.json()["data"])


def test_texts_and_pictures_alone_and_together(api: API, tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(painter(media.SCENE, 480, 360)(0.5)).save(file := tmp_path / "frame.png")
    picture = {"base64_string": base64.b64encode(file.read_bytes()).decode()}
    (text,) = data(asked(api, "text", {"input_text": "a red circle"}))
    old = api.form("/embed", ("model_name", "marengo3.0"), ("text", "a red circle")).json()
    assert text["embedding"] == old["text_embedding"]["segments"][0]["float"]
    (image,) = data(asked(api, "image", {"media_source": picture}))
    (both,) = data(asked(api, "text_image", {"media_source": picture, "input_text": "a red circle"}))
    sources = [{"media_type": "image", **picture}]
    several = {"input_text": "a red circle", "media_sources": sources}
    assert data(asked(api, "multi_input", several, "marengo3.5")) == [both]
    assert data(asked(api, "multi_input", {"media_sources": sources})) == [image]
    between = sum(a * b for a, b in zip(both["embedding"], text["embedding"], strict=True))
    assert between == pytest.approx(
        sum(a * b for a, b in zip(both["embedding"], image["embedding"], strict=True)), abs=1e-3
    )
    long = {"input_text": "one " * 600}
    assert len(data(asked(api, "text", long, auto_truncate=True))) == 1


def test_sounds_and_videos(api: API, film: Path, files: OddServer) -> None:
    (files.folder / "film.mp4").write_bytes(film.read_bytes())
    by_url = {"media_source": {"url": files.url("film.mp4")}}
    asset = {"media_source": {"asset_id": uploaded(api, film)}}
    options = {"embedding_option": ["visual"], "embedding_scope": ["clip", "asset"]}
    video = data(asked(api, "video", by_url | options))
    assert {item["embedding_option"] for item in video} == {"visual"}
    assert [item["embedding_scope"] for item in video][-1] == "asset"
    assert video[-1]["start_sec"] == 0
    assert data(asked(api, "video", asset | options)) == video
    short = {
        "segmentation": {"strategy": "fixed", "fixed": {"duration_sec": 2}},
        "start_sec": 1,
        "end_sec": 5,
    }
    times = [(item["start_sec"], item["end_sec"]) for item in data(asked(api, "video", asset | short))]
    assert set(times) == {(1, 3), (3, 5)}
    sound = data(asked(api, "audio", by_url))
    assert {item["embedding_option"] for item in sound} <= {"audio", "transcription"}


def test_mixed_inputs_are_charged_in_any_order(api: API, film: Path, tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(painter(media.SCENE, 480, 360)(0.5)).save(file := tmp_path / "frame.png")
    picture = {"media_type": "image", "base64_string": base64.b64encode(file.read_bytes()).decode()}
    video = {"media_type": "video", "asset_id": uploaded(api, film)}

    def calls() -> list[int]:
        bill = api.engine("GET", "/bill").json()
        return [bill.get(name, {}).get("calls", 0) for name in ("embed_image", "embed_video", "embed_text")]

    for order in ([picture, video], [video, picture]):
        before = calls()
        given = {"input_text": "a red circle", "media_sources": order}
        assert len(data(asked(api, "multi_input", given, "marengo3.5"))) == 1
        assert [now - then for now, then in zip(calls(), before, strict=True)] == [1, 1, 0]


def test_a_task(api: API, film: Path) -> None:
    given = {"media_source": {"asset_id": uploaded(api, film)}, "embedding_option": ["visual"]}
    body = {"input_type": "video", "model_name": "marengo3.5", "video": given}
    made = api.post("/embed-v2/tasks", json=body)
    assert (made.status_code, made.json()["status"], made.json()["data"]) == (202, "processing", None)
    done = api.settled(made.json()["_id"], "/embed-v2/tasks")
    assert done["status"] == "ready"
    assert done["data"] == data(asked(api, "video", given))
    listed = api.get("/embed-v2/tasks", params={"status": "ready"}).json()["data"]
    assert made.json()["_id"] in [task["_id"] for task in listed]
    gone = {"url": "http://127.0.0.1:9/a.mp4"}
    lost = api.post("/embed-v2/tasks", json=body | {"video": {"media_source": gone}}).json()
    failed = api.settled(lost["_id"], "/embed-v2/tasks")
    assert (failed["status"], failed["data"]) == ("failed", None)
    assert failed["error"]["message"]


def test_a_large_file_in_the_request_itself(api: API, tmp_path: Path) -> None:
    import wave

    with wave.open(str(sound := tmp_path / "long.wav"), "wb") as file:
        file.setparams((2, 2, 48_000, 0, "NONE", ""))
        file.writeframes(bytes(4 * 48_000 * 60))  # a minute of silence, 11.5 MB
    whole = {"media_source": {"base64_string": base64.b64encode(sound.read_bytes()).decode()}}
    (one,) = data(asked(api, "audio", whole | {"embedding_option": ["audio"], "embedding_scope": ["asset"]}))
    assert one["end_sec"] == pytest.approx(60, abs=0.1)


def test_a_task_about_sound(api: API, film: Path) -> None:
    asset = {"media_source": {"asset_id": uploaded(api, film)}, "embedding_scope": ["clip", "asset"]}
    body = {"input_type": "audio", "model_name": "marengo3.0", "audio": asset}
    made = api.post("/embed-v2/tasks", json=body).json()
    done = api.settled(made["_id"], "/embed-v2/tasks")
    assert (done["status"], done["metadata"]["input_type"]) == ("ready", "audio")
    assert done["data"] == data(asked(api, "audio", asset))
    late = {"start_sec": 1, "end_sec": 9999}
    made = api.post("/embed-v2/tasks", json=body | {"audio": asset | late}).json()
    failed = api.settled(made["_id"], "/embed-v2/tasks")
    assert (
        "The end_sec parameter is invalid. It should be at most the duration of the audio"
        in (failed["error"]["message"])
    )
    picture = {"input_type": "text", "model_name": "marengo3.0", "text": {"input_text": "x"}}
    refused = api.post("/embed-v2/tasks", json=picture)
    assert problem(refused) == (400, "parameter_invalid")
    assert "audio, video, document, image. You sent 'text'" in refused.json()["message"]


VIDEO = {"media_source": {"url": "http://127.0.0.1:9/a.mp4"}}


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        ("smell", {}, "text, image, text_image, audio, video, multi_input. You sent 'smell'"),
        ("text", None, "text parameter is required"),
        ("text", "x", "received string, but expected object"),
        ("text", 7, "received number, but expected object"),
        ("text", {}, "input_text parameter is required"),
        ("text", {"input_text": " "}, "not blank. You sent ' '"),
        ("text", {"input_text": "x " * 600}, "equal to 500. You sent 600 tokens"),
        ("image", {}, "one of url, base64_string, asset_id"),
        ("image", {"media_source": {"base64_string": "?"}}, "not valid base64"),
        ("image", {"media_source": {"base64_string": "aGFsbG8="}}, "JPEG or PNG"),
        ("image", {"media_source": {"asset_id": NOWHERE}}, f"{NOWHERE} does not exist in assets"),
        ("multi_input", {}, "input_text, media_sources"),
        ("multi_input", {"media_sources": [{"media_type": "disc"}]}, "values: image. You sent 'disc'"),
        ("video", VIDEO | {"embedding_option": ["smell"]}, "visual, audio, transcription. You sent 'smell'"),
        ("video", VIDEO | {"embedding_scope": ["page"]}, "clip, asset. You sent 'page'"),
        ("video", VIDEO | {"segmentation": 5}, "object. You sent 5"),
        ("video", VIDEO | {"segmentation": {"fixed": {"duration_sec": 50}}}, "between 2 and 10. You sent 50"),
        ("video", VIDEO | {"start_sec": "soon"}, "number between 0"),
        ("video", VIDEO | {"start_sec": 5, "end_sec": 4}, "greater than start_sec, 5. You sent 4"),
        ("video", VIDEO, "URL"),
    ],
)
def test_refusals(api: API, kind: str, given: Any, words: str) -> None:
    answer = asked(api, kind, given)
    assert answer.status_code in (400, 404)
    problem(answer)
    assert words in answer.json()["message"]
