"""/analyze, /generate, /gist, /summarize: whole and streamed; every refusal once."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.local.conftest import API, IndexedVideos, problem
from tests.support.odd_server import OddServer

NOWHERE = "0123456789abcdef01234567"
XML = {"response_format": {"type": "xml"}}
SHORT = {"response_format": {"type": "json_schema", "json_schema": {"type": "string", "maxLength": 3}}}
SCHEMA = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "keywords": {"type": "array", "items": {"type": "string"}}},
    "required": ["title"],
}


@pytest.mark.parametrize("path", ["/analyze", "/generate"])
def test_whole(api: API, indexed: IndexedVideos, path: str) -> None:
    answer = api.post(
        path,
        json={
            "video_id": indexed.videos[0],
            "prompt": "What text is shown?",
            "stream": False,
            "temperature": None,
        },
    )
    body = answer.json()
    assert set(body) == {"id", "data", "finish_reason", "usage"}
    assert isinstance(body["data"], str)
    assert "Blue ship" in body["data"]
    assert body["finish_reason"] == "stop"
    assert body["usage"]["output_tokens"] > 0
    assert body["usage"]["input_tokens"] > 0


def test_streamed_by_default(api: API, indexed: IndexedVideos) -> None:
    ask = {"video_id": indexed.videos[0], "prompt": "Summarize the video."}
    whole = api.post("/analyze", json={**ask, "stream": False}).json()
    answer = api.post("/analyze", json=ask)
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    events = [json.loads(line) for line in answer.text.splitlines()]
    assert events[0]["event_type"] == "stream_start"
    assert events[-1]["event_type"] == "stream_end"
    assert events[-1]["metadata"]["generation_id"] == events[0]["metadata"]["generation_id"]
    assert events[-1]["metadata"]["usage"] == whole["usage"]
    assert {event["event_type"] for event in events[1:-1]} == {"text_generation"}
    assert "".join(event["text"] for event in events[1:-1]) == whole["data"]
    assert not any("code" in event for event in events)


def test_a_client_may_leave_in_the_middle(api: API, indexed: IndexedVideos) -> None:
    with api.stream(
        "POST", "/analyze", json={"video_id": indexed.videos[0], "prompt": "Summarize."}
    ) as answer:
        assert next(answer.iter_lines())
    assert api.get("/indexes").status_code == 200


def test_cut_at_max_tokens(api: API, indexed: IndexedVideos) -> None:
    ask = {"video_id": indexed.videos[0], "prompt": "Summarize the video.", "max_tokens": 5, "stream": False}
    body = api.post("/analyze", json=ask).json()
    assert body["finish_reason"] == "length"
    assert body["usage"]["output_tokens"] == 5


def test_as_json_by_a_schema(api: API, indexed: IndexedVideos) -> None:
    form = {"type": "json_schema", "json_schema": SCHEMA}
    body = api.post(
        "/analyze",
        json={"video_id": indexed.videos[0], "prompt": "Describe", "stream": False, "response_format": form},
    ).json()
    assert isinstance(json.loads(body["data"])["title"], str)


def test_videos_that_come_with_the_request(
    api: API, indexed: IndexedVideos, files: OddServer, film: Path
) -> None:
    (files.folder / "film.mp4").write_bytes(film.read_bytes())
    text = base64.b64encode(film.read_bytes()).decode()
    for video in (
        {"type": "url", "url": files.url("film.mp4")},
        {"type": "base64_string", "base64_string": text},
        {"type": "asset_id", "asset_id": indexed.videos[0]},
    ):
        ask = {"video": video, "prompt": "What text is shown?", "stream": False, "end_time": 4.5}
        assert "Blue ship" in api.post("/analyze", json=ask).json()["data"]
    ask = {"video": {"type": "url", "url": files.odd("404")}, "prompt": "x"}
    assert problem(api.post("/analyze", json=ask)) == (400, "video_url_not_accessible")


def test_gist_returns_the_requested_types(api: API, indexed: IndexedVideos) -> None:
    whole = api.post(
        "/gist", json={"video_id": indexed.videos[0], "types": ["title", "topic", "hashtag"]}
    ).json()
    assert set(whole) == {"id", "title", "topics", "hashtags", "usage"}
    assert whole["title"]
    assert all(tag.startswith("#") for tag in whole["hashtags"])
    part = api.post("/gist", json={"video_id": indexed.videos[0], "types": ["topic"]}).json()
    assert set(part) == {"id", "topics", "usage"}


def test_summaries(api: API, indexed: IndexedVideos) -> None:
    def made(kind: str, **more: Any) -> dict[str, Any]:
        return dict(api.post("/summarize", json={"video_id": indexed.videos[0], "type": kind, **more}).json())

    assert set(made("summary")) == {"id", "summarize_type", "summary", "usage"}
    assert made("summary", prompt="in one sentence")["summary"].strip()
    chapters = made("chapter")["chapters"]
    assert [chapter["chapter_number"] for chapter in chapters] == list(range(len(chapters)))
    highlights = made("highlight", prompt=None)["highlights"]
    assert {"highlight", "highlight_summary"} <= set(highlights[0])
    for item in [*chapters, *highlights]:
        assert isinstance(item["start"], int)
        assert isinstance(item["end"], int)
        assert item["start"] < item["end"]
        assert item["start_sec"] < item["end_sec"] <= 5.5


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/analyze", {"prompt": "x"}, 400, "parameter_not_provided"),
        ("/analyze", {"video_id": "{video}"}, 400, "parameter_not_provided"),
        ("/analyze", {"video_id": "{video}", "prompt": " "}, 400, "parameter_invalid"),
        ("/analyze", {"video_id": "{video}", "prompt": 5}, 400, "parameter_invalid"),
        ("/analyze", {"video_id": 7, "prompt": "x"}, 400, "parameter_invalid"),
        ("/analyze", {"video_id": "x", "prompt": "x"}, 400, "parameter_invalid"),
        ("/analyze", {"video_id": NOWHERE, "prompt": "x"}, 404, "resource_not_exists"),
        ("/analyze", {"video_id": "{video}", "prompt": "word " * 2001}, 400, "parameter_invalid"),
        ("/analyze", {"video_id": "{video}", "prompt": "x", "temperature": 2}, 400, "parameter_invalid"),
        ("/analyze", {"video_id": "{video}", "prompt": "x", "temperature": True}, 400, "parameter_invalid"),
        ("/analyze", {"video_id": "{video}", "prompt": "x", "max_tokens": 1}, 400, "parameter_invalid"),
        ("/analyze", {"video_id": "{video}", "prompt": "x", "max_tokens": 5.5}, 400, "parameter_invalid"),
        ("/analyze", {"video_id": "{video}", "prompt": "x", "stream": "yes"}, 400, "parameter_invalid"),
        ("/analyze", {"video_id": "{video}", "prompt": "x"} | XML, 400, "parameter_invalid"),
        ("/analyze", {"video_id": "{video}", "prompt": "x"} | SHORT, 400, "parameter_invalid"),
        ("/analyze", {"video": {"type": "url", "url": "nowhere"}, "prompt": "x"}, 400, "parameter_invalid"),
        ("/analyze", {"video": {"type": "url"}, "prompt": "x"}, 400, "parameter_invalid"),
        ("/analyze", {"video": "a.mp4", "prompt": "x"}, 400, "parameter_invalid"),
        ("/analyze", {"video": {"type": "base64_string", "base64_string": "?"}, "prompt": "x"}, 400,
         "parameter_invalid"),
        ("/analyze", {"video": {"type": "base64_string", "base64_string": "AAAA"}, "prompt": "x"}, 400,
         "video_file_broken"),
        ("/analyze", {"video": {"type": "asset_id", "asset_id": NOWHERE}, "prompt": "x"}, 404,
         "resource_not_exists"),
        ("/analyze", {"video_id": "{video}", "prompt": "x", "start_time": 3, "end_time": 2}, 400,
         "parameter_invalid"),
        ("/gist", {"video_id": "{video}"}, 400, "parameter_not_provided"),
        ("/gist", {"video_id": "{video}", "types": []}, 400, "parameter_invalid"),
        ("/gist", {"video_id": "{video}", "types": ["mood"]}, 400, "parameter_invalid"),
        ("/gist", {"video_id": "{video}", "types": "title"}, 400, "parameter_invalid"),
        ("/summarize", {"video_id": "{video}"}, 400, "parameter_not_provided"),
        ("/summarize", {"video_id": "{video}", "type": "poem"}, 400, "parameter_invalid"),
        ("/summarize", {"video_id": NOWHERE, "type": "summary"}, 404, "resource_not_exists"),
    ],
)  # fmt: skip
def test_refusals(
    api: API, indexed: IndexedVideos, path: str, body: dict[str, Any], status: int, code: str
) -> None:
    body = {name: indexed.videos[0] if value == "{video}" else value for name, value in body.items()}
    assert problem(api.post(path, json=body)) == (status, code)


def test_videos_that_are_not_ready_or_not_for_texts(api: API, film: Any) -> None:
    stuck = {"kind": "stuck", "route": "/tasks", "method": "POST", "count": 1, "state": "pending"}
    api.engine("PUT", "/faults", json={"fault": [stuck]})
    index_id = api.new_index("not ready")
    task = api.upload(index_id, film)
    ask = {"video_id": task["video_id"], "prompt": "x"}
    assert problem(api.post("/analyze", json=ask)) == (400, "video_not_ready")
    api.engine("DELETE", "/faults")
    mute = api.new_index("mute", [{"model_name": "marengo3.0", "model_options": ["visual", "audio"]}])
    task = api.upload(mute, film)
    assert api.settled(task["_id"])["status"] == "ready"
    ask = {"video_id": task["video_id"], "prompt": "x"}
    assert problem(api.post("/analyze", json=ask)) == (400, "index_not_supported_for_generate")
