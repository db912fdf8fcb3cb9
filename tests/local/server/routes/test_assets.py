"""Assets: uploaded once, then indexed, asked about and deleted, each on its own."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.local.conftest import API, problem
from tests.support.odd_server import OddServer

NOWHERE = "0123456789abcdef01234567"


def settled(api: API, path: str) -> dict[str, Any]:
    """Wait for an asset, or an indexed one."""
    deadline = time.monotonic() + 60
    while (shown := api.get(path).json())["status"] not in ("ready", "failed"):
        assert time.monotonic() < deadline, shown
        time.sleep(0.05)
    return dict(shown)


def uploaded(api: API, film: Path, **fields: str) -> str:
    """An asset that is ready."""
    file = ("file", (film.name, film.read_bytes()))
    made = api.form("/assets", ("method", "direct"), file, *fields.items())
    assert made.status_code == 201
    assert settled(api, f"/assets/{made.json()['_id']}")["status"] == "ready"
    return str(made.json()["_id"])


def test_from_upload_to_search(api: API, film: Path, server: Any) -> None:
    asset_id = uploaded(api, film, user_metadata='{"team": "blue"}', filename="named.mp4")
    asset = api.get(f"/assets/{asset_id}").json()
    assert (asset["filename"], asset["file_type"], asset["method"]) == ("named.mp4", "video/mp4", "direct")
    assert asset["duration"] == pytest.approx(5, abs=0.2)
    assert asset["size"] == film.stat().st_size
    index_id = api.new_index("of assets")
    base = f"/indexes/{index_id}/indexed-assets"
    body = {"asset_id": asset_id, "user_metadata": {"number": 1}, "enable_video_stream": None}
    made = api.post(base, json=body)
    assert made.status_code == 202
    assert made.json()["asset_id"] == asset_id
    video_id = made.json()["_id"]
    ready = settled(api, f"{base}/{video_id}")
    assert ready["user_metadata"] == {"team": "blue", "number": 1}
    assert ready["system_metadata"]["width"] == 480
    assert ready["indexed_at"] >= ready["created_at"]
    asked = {"embedding_option": "visual", "transcription": "true"}
    assert api.get(f"{base}/{video_id}", params=asked).json()["embedding"]["video_embedding"]["segments"]
    # The same thing as a video, and found like one.
    assert api.get(f"/indexes/{index_id}/videos/{video_id}").status_code == 200
    found = api.form(
        "/search", ("index_id", index_id), ("search_options", "visual"), ("query_text", "Blue ship")
    )
    assert [hit["video_id"] for hit in found.json()["data"]] == [video_id]
    assert [item["_id"] for item in api.get(base, params={"status": "ready"}).json()["data"]] == [video_id]
    assert api.get(base, params={"status": "failed"}).json()["data"] == []
    by_asset = api.get(f"/assets/{asset_id}/indexed-assets").json()["data"]
    assert by_asset == [{"_id": video_id, "index": {"_id": index_id, "name": "of assets"}}]
    assert api.patch(f"{base}/{video_id}", json={"user_metadata": {"number": 2}}).status_code == 204
    assert api.get(f"{base}/{video_id}").json()["user_metadata"]["number"] == 2
    # The SDK for Python names the key in the parameter, that for JavaScript sends an object.
    for number, found_ids in (("2", [video_id]), ("1", [])):
        for query in ({"user_metadata[number]": number}, {"user_metadata": f'{{"number":{number}}}'}):
            listed = api.get(base, params=query).json()["data"]
            assert [item["_id"] for item in listed] == found_ids, query
    # Each goes without the other.
    assert api.delete(f"/assets/{asset_id}").status_code == 204
    assert problem(api.get(f"/assets/{asset_id}")) == (404, "resource_not_exists")
    assert api.get(f"{base}/{video_id}").status_code == 200
    assert api.delete(f"{base}/{video_id}").status_code == 204
    assert api.get(base).json()["data"] == api.get(f"/indexes/{index_id}/videos").json()["data"] == []
    assert not (server.home / "assets" / asset_id).exists()
    assert not (server.home / "videos" / video_id).exists()


def test_a_video_that_is_deleted_is_no_indexed_asset(api: API, film: Path) -> None:
    asset_id, index_id = uploaded(api, film), api.new_index("deleted from")
    base = f"/indexes/{index_id}/indexed-assets"
    video_id = api.post(base, json={"asset_id": asset_id}).json()["_id"]
    assert settled(api, f"{base}/{video_id}")["status"] == "ready"
    assert api.delete(f"/indexes/{index_id}/videos/{video_id}").status_code == 204
    assert api.get(base).json()["data"] == []
    assert problem(api.get(f"{base}/{video_id}")) == (404, "resource_not_exists")


def test_an_asset_by_url_answers_questions(api: API, film: Path, files: OddServer) -> None:
    (files.folder / "film.mp4").write_bytes(film.read_bytes())
    made = api.form("/assets", ("method", "url"), ("url", files.url("film.mp4"))).json()
    assert (made["status"], made["filename"]) == ("ready", "film.mp4")  # small ones are, at once
    video = {"type": "asset_id", "asset_id": made["_id"]}
    answer = api.post("/analyze", json={"video": video, "prompt": "What text is shown?", "stream": False})
    assert "Blue ship" in answer.json()["data"]
    said = {"video": video, "prompt_v2": {"input_text": "What text is shown?"}, "stream": False}
    assert api.post("/analyze", json=said).json()["data"] == answer.json()["data"]
    listed = api.get("/assets", params={"asset_ids": [made["_id"], NOWHERE]}).json()["data"]
    assert [item["_id"] for item in listed] == [made["_id"]]
    assert made["_id"] in [item["_id"] for item in api.get("/assets?filename=FILM").json()["data"]]
    assert api.get("/assets?filename=nothing").json()["data"] == []


def test_one_that_cannot_be_had(api: API, files: OddServer) -> None:
    made = api.form("/assets", ("method", "url"), ("url", files.url("none.mp4"))).json()
    failed = settled(api, f"/assets/{made['_id']}")
    assert failed["status"] == "failed"
    assert "404" in failed["error"]["message"]
    index_id = api.new_index("without")
    refused = api.post(f"/indexes/{index_id}/indexed-assets", json={"asset_id": made["_id"]})
    assert problem(refused) == (400, "parameter_invalid")
    assert "must be ready, but is failed" in refused.json()["message"]


def test_refusals(api: API) -> None:
    index_id = api.new_index("refusing assets")
    base = f"/indexes/{index_id}/indexed-assets"
    for fields, code, word in (
        ([], "parameter_not_provided", "method"),
        ([("method", "post")], "parameter_invalid", "direct, url. You sent 'post'"),
        ([("method", "url")], "parameter_not_provided", "url"),
        ([("method", "url"), ("url", "ftp://h/a")], "parameter_invalid", "You sent 'ftp://h/a'"),
        ([("method", "direct")], "parameter_not_provided", "file"),
        ([("method", "direct"), ("file", ("a.mp4", b""))], "video_file_broken", "empty"),
    ):
        answer = api.form("/assets", *fields, ("_", ("", b"")))  # type: ignore[misc]
        assert problem(answer) == (400, code)
        assert word in answer.json()["message"]
    for body, status, code in (
        ({}, 400, "parameter_not_provided"),
        ({"asset_id": 5}, 400, "parameter_invalid"),
        ({"asset_id": "short"}, 400, "parameter_invalid"),
        ({"asset_id": NOWHERE}, 404, "resource_not_exists"),
        ({"asset_id": NOWHERE, "enable_video_stream": "yes"}, 400, "parameter_invalid"),
    ):
        assert problem(api.post(base, json=body)) == (status, code)
    for path in (f"/assets/{NOWHERE}", f"{base}/{NOWHERE}"):
        for method in ("GET", "DELETE"):
            assert problem(api.request(method, path)) == (404, "resource_not_exists")
    assert problem(api.get(f"{base}?status=done")) == (400, "parameter_invalid")
    assert problem(api.get("/assets?asset_ids=short")) == (400, "parameter_invalid")


def test_an_image_is_an_asset_but_no_video(api: API, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (200, 200), "red").save(file := tmp_path / "red.png")
    asset_id = uploaded(api, file)
    assert "duration" not in api.get(f"/assets/{asset_id}").json()
    source = {"media_source": {"asset_id": asset_id}}
    body = {"input_type": "image", "model_name": "marengo3.0", "image": source}
    assert api.post("/embed-v2", json=body).json()["data"][0]["embedding"]
    refused = api.post(f"/indexes/{api.new_index('no images')}/indexed-assets", json={"asset_id": asset_id})
    assert problem(refused) == (400, "parameter_invalid")
    assert "must be a video" in refused.json()["message"]


def test_metadata_of_an_asset(api: API, film: Path) -> None:
    asset_id = uploaded(api, film, user_metadata='{"a": "x", "b": 1}')

    def kept() -> Any:
        return api.get(f"/assets/{asset_id}").json().get("user_metadata")

    path = f"/assets/{asset_id}/user-metadata"
    assert api.patch(path, json={"user_metadata": {"b": None, "c": ["s", "t"], "d": ""}}).status_code == 204
    assert kept() == {"a": "x", "c": ["s", "t"]}
    assert api.put(path, json={"user_metadata": {"e": True, "f": None}}).status_code == 204
    assert kept() == {"e": True}
    assert api.delete(path).status_code == 204
    assert kept() is None
    assert problem(api.patch(path, json={})) == (400, "parameter_not_provided")
    assert problem(api.put(path, json={"user_metadata": {"width": 1}})) == (400, "parameter_invalid")
    assert problem(api.delete(f"/assets/{NOWHERE}/user-metadata")) == (404, "resource_not_exists")


def test_the_transcription_of_an_asset(api: API, film: Path, tmp_path: Path) -> None:
    import wave

    from tl_data.demo.speech_synthesis import speak

    samples, rate = speak("Please keep the emergency exit clear at all times.")
    with wave.open(str(sound := tmp_path / "said.wav"), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    path = f"/assets/{uploaded(api, sound)}/transcription"
    transcription = api.get(path).json()
    assert transcription["status"] == "ready"
    assert set(transcription) == {"status", "words", "sentences", "utterances"}
    assert transcription["words"]
    assert {"start", "end", "value"} == set(transcription["words"][0])
    assert transcription["words"][0]["value"].split()[0] in transcription["sentences"][0]["value"]
    assert set(api.get(path, params={"include": "words"}).json()) == {"status", "words"}
    assert problem(api.get(path, params={"include": "noise"})) == (400, "parameter_invalid")
    assert api.get(f"/assets/{uploaded(api, film)}/transcription").json()["status"] == "ready"
