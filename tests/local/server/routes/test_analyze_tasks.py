"""/analyze/tasks: what /analyze says, made in the background; canceled, deleted, refused."""

from __future__ import annotations

from typing import Any

import pytest

from tests.local.conftest import API, IndexedVideos, problem
from tests.support.odd_server import OddServer

NOWHERE = "0123456789abcdef01234567"
ASKED = "What text is shown?"


def made(api: API, **body: Any) -> str:
    """A new task."""
    answer = api.post("/analyze/tasks", json={"prompt": ASKED, **body})
    assert (answer.status_code, answer.json()["status"]) == (202, "queued"), answer.text
    return str(answer.json()["task_id"])


def test_a_task_answers_what_analyze_does(api: API, indexed: IndexedVideos) -> None:
    schema = {
        "type": "json_schema",
        "json_schema": {"type": "object", "properties": {"a": {"type": "string"}}},
    }
    more = {"response_format": schema, "max_tokens": 300, "temperature": 0.1}
    video = {"type": "asset_id", "asset_id": indexed.videos[0]}  # an indexed video may stand for its asset
    one = api.settled(made(api, video=video, custom_id="mine", model_name="pegasus1.5"), "/analyze/tasks")
    two = api.settled(made(api, video_id=indexed.videos[0], **more), "/analyze/tasks")
    for task, given in ((one, {}), (two, more)):
        at_once = api.post(
            "/analyze", json={"video_id": indexed.videos[0], "prompt": ASKED, "stream": False, **given}
        )
        assert task["status"] == "ready"
        assert {name: task["result"][name] for name in ("data", "finish_reason", "usage")} == {
            name: value for name, value in at_once.json().items() if name != "id"
        }
        assert task["completed_at"] >= task["created_at"]
    assert (one["custom_id"], two["request_params"]["max_tokens"]) == ("mine", 300)
    listed = api.get("/analyze/tasks", params={"status": "ready", "asset_id": indexed.videos[0]}).json()
    assert [task["task_id"] for task in listed["data"]] == [two["task_id"], one["task_id"]]
    assert listed["page_info"]["total_results"] == 2
    assert api.delete(f"/analyze/tasks/{one['task_id']}").status_code == 204
    assert problem(api.get(f"/analyze/tasks/{one['task_id']}")) == (404, "resource_not_exists")
    assert problem(api.post(f"/analyze/tasks/{two['task_id']}/cancel")) == (409, "task_cannot_be_canceled")


def test_later_errors_are_in_the_task(api: API, files: OddServer) -> None:
    (files.folder / "text.mp4").write_text("no video")
    url = files.url("text.mp4")
    task = api.settled(made(api, video={"type": "url", "url": url}), "/analyze/tasks")
    assert (task["status"], task["error"]["code"]) == ("failed", "video_file_broken")
    assert task["video_source"] == {"type": "url", "url": url}
    assert "result" not in task
    found = api.get("/analyze/tasks", params={"video_url": url}).json()["data"]
    assert [found["task_id"] for found in found] == [task["task_id"]]


def test_a_canceled_task_stays_canceled(api: API, indexed: IndexedVideos) -> None:
    rule = {"kind": "stuck", "state": "processing", "route": "/analyze/tasks", "count": 1}
    assert api.engine("PUT", "/faults", json={"fault": [rule]}).status_code == 200
    task_id = made(api, video_id=indexed.videos[0])
    api.engine("DELETE", "/faults")
    assert api.post(f"/analyze/tasks/{task_id}/cancel").json() == {"task_id": task_id, "status": "canceled"}
    task = api.get(f"/analyze/tasks/{task_id}").json()
    assert (task["status"], task["error"]["code"]) == ("canceled", "user_canceled")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"video_id": NOWHERE}, f"{NOWHERE} does not exist in videos"),
        ({"video_id": "short"}, "video_id parameter is invalid"),
        ({}, "video_id parameter is required"),
        ({"video_id": NOWHERE, "prompt": " "}, "prompt parameter is invalid. It must not be blank"),
        ({"video_id": NOWHERE, "model_name": "gpt"}, "pegasus1.6, pegasus1. You sent 'gpt'"),
        ({"video_id": NOWHERE, "analysis_mode": "time_based_metadata"}, "analysis mode"),
        ({"video_id": NOWHERE, "temperature": 7}, "between 0 and 1. You sent 7"),
        ({"video_id": NOWHERE, "start_time": "soon"}, "start_time parameter is invalid"),
    ],
)
def test_refusals(api: API, body: dict[str, Any], words: str) -> None:
    answer = api.post("/analyze/tasks", json={"prompt": ASKED, **body})
    assert answer.status_code in (400, 404)
    problem(answer)
    assert words in answer.json()["message"]
    assert problem(api.get("/analyze/tasks", params={"status": "done"})) == (400, "parameter_invalid")
