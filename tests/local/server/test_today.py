"""Analyses as the service of today makes them: by asset, by window, by segments, in batches; and the bill."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Engine
from tests.local.conftest import API

NOWHERE = "0123456789abcdef01234567"
ASKED = "What text is shown?"
SCENES = {
    "type": "segment_definitions",
    "segment_definitions": [
        {
            "id": "scenes", "description": "Each scene of the video",
            "fields": [
                {"name": "on_screen_text", "type": "string", "description": "The text on screen"},
                {"name": "at", "type": "timestamp", "format": "hh:mm:ss", "description": "When it begins"},
                {"name": "music", "type": "boolean", "description": "Whether there is music"},
            ],
        },
        {"id": "ad", "description": "An advert", "time_ranges": [{"start_time": 0, "end_time": 2.5}]},
    ],
}  # fmt: skip
DONE = ("ready", "failed", "canceled", "completed", "expired")


@pytest.fixture(scope="module")
def now(today: Engine) -> Iterator[API]:
    with API(today.base_url) as client:
        yield client


def until_done(api: API, path: str) -> dict[str, Any]:
    """Wait for the end of a task, batch or asset."""
    deadline = time.monotonic() + 60
    while (found := api.get(path).json())["status"] not in DONE:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return dict(found)


@pytest.fixture(scope="module")
def asset_id(now: API, film: Path) -> str:
    """An asset of 5 s: used before it is ready, it is refused; small ones are processing, too."""
    made = now.form("/assets", ("method", "direct"), ("file", ("film.mp4", film.read_bytes())))
    assert (made.status_code, made.json()["status"]) == (201, "processing")
    name = made.json()["_id"]
    video = {"type": "asset_id", "asset_id": name}
    early = now.post("/analyze", json={"video": video, "prompt": ASKED, "stream": False})
    assert (early.status_code, early.json()["code"]) == (400, "parameter_invalid")
    batch = {"model_name": "pegasus1.5", "analysis_mode": "general", "requests": [{"video": video}]}
    early = now.post("/analyze/batches", json=batch | {"defaults": {"prompt": {"input_text": ASKED}}})
    assert (early.status_code, early.json()["error"]["code"]) == (409, "asset_not_ready")
    ready = until_done(now, f"/assets/{name}")
    assert (ready["status"], ready["technical_metadata"]["video_width"]) == ("ready", 480)
    return str(name)


def bill_of(api: API, before: dict[str, Any]) -> tuple[float, int]:
    """Seconds and calls of analysis that were billed since `before`."""
    after = api.engine("GET", "/bill").json()
    units = [
        after.get("analyze", {}).get(u, 0) - before.get("analyze", {}).get(u, 0)
        for u in ("video_us", "calls")
    ]
    return units[0] / 1e6, units[1]


def length_of(api: API, asset_id: str) -> float:
    return float(api.get(f"/assets/{asset_id}").json()["duration"])


def test_at_once_the_whole_video_is_billed_and_a_task_bills_its_window(now: API, asset_id: str) -> None:
    video, window = {"type": "asset_id", "asset_id": asset_id}, {"start_time": 1, "end_time": 3.5}
    asked = {"model_name": "pegasus1.5", "video": video, "prompt": ASKED, **window}
    before = now.engine("GET", "/bill").json()
    at_once = now.post("/analyze", json=asked | {"stream": False}).json()
    assert set(at_once["usage"]) == {"output_tokens"}
    assert bill_of(now, before) == (pytest.approx(length_of(now, asset_id), abs=0.001), 1)
    before = now.engine("GET", "/bill").json()
    made = now.post("/analyze/tasks", json=asked | {"custom_id": "v-1_text"})
    assert made.status_code == 202
    task = until_done(now, f"/analyze/tasks/{made.json()['task_id']}")
    assert task["result"]["data"] == at_once["data"]
    assert task["result"]["usage"]["input_tokens"] > 3000  # the video counts
    assert bill_of(now, before) == (2.5, 1)
    assert task["custom_id"] == "v-1_text"
    assert task["video_source"]["system_metadata"]["duration"] == pytest.approx(length_of(now, asset_id))
    assert task["request_params"] | {"prompt": ""} == {
        "analysis_mode": "general", "prompt": "", "temperature": 0.2, "max_tokens": 4096, **window,
    }  # fmt: skip
    assert len(task["created_at"]) == len(task["completed_at"]) == len("2026-07-07T00:50:49Z")


def test_the_same_idempotency_key_gives_the_same_task_and_one_bill(now: API, asset_id: str) -> None:
    asked = {"video": {"type": "asset_id", "asset_id": asset_id}, "prompt": "Summarize."}
    before = now.engine("GET", "/bill").json()
    made = [
        now.post("/analyze/tasks", json=asked, headers={"Idempotency-Key": "once"}).json()["task_id"]
        for _ in range(3)
    ]
    assert len(set(made)) == 1
    until_done(now, f"/analyze/tasks/{made[0]}")
    assert bill_of(now, before)[1] == 1


def test_segments_are_billed_once_for_each_definition(now: API, asset_id: str) -> None:
    asked = {
        "model_name": "pegasus1.5", "video": {"type": "asset_id", "asset_id": asset_id},
        "analysis_mode": "time_based_metadata", "response_format": SCENES,
    }  # fmt: skip
    before = now.engine("GET", "/bill").json()
    task = until_done(now, f"/analyze/tasks/{now.post('/analyze/tasks', json=asked).json()['task_id']}")
    assert task["status"] == "ready", task
    found = json.loads(task["result"]["data"])
    assert list(found) == ["scenes", "ad"]
    scene = found["scenes"][0]
    assert "Blue ship" in scene["metadata"]["on_screen_text"]
    assert scene["metadata"]["at"] == "00:00:00"
    assert isinstance(scene["metadata"]["music"], bool)
    assert 0 <= scene["start_time"] < scene["end_time"] <= length_of(now, asset_id) + 0.01
    assert found["ad"] == [{"end_time": 2.5, "metadata": {}, "start_time": 0}]
    assert bill_of(now, before) == (pytest.approx(2 * length_of(now, asset_id), abs=0.001), 1)
    params = task["request_params"]
    assert (params["max_tokens"], params["min_segment_duration"]) == (32768, 2)


def batch_of(asset_id: str, *requests: dict[str, Any], **more: Any) -> dict[str, Any]:
    video = {"type": "asset_id", "asset_id": asset_id}
    return {
        "model_name": "pegasus1.5", "analysis_mode": "general", "defaults": {"prompt": {"input_text": ASKED}},
        "requests": [{"video": video, **request} for request in requests],
    } | more  # fmt: skip


def lines(api: API, batch_id: str) -> list[dict[str, Any]]:
    answer = api.get(f"/analyze/batches/{batch_id}/results")
    assert answer.headers["content-type"].startswith("application/jsonl")
    return [json.loads(line) for line in answer.text.splitlines()]


def test_a_batch_is_completed_though_an_item_failed_and_bills_what_is_ready(now: API, asset_id: str) -> None:
    before = now.engine("GET", "/bill").json()
    wanted = batch_of(
        asset_id,
        {"custom_id": "a"},
        {"custom_id": "b", "start_time": 0, "end_time": 8000},  # too long alone
        {"start_time": 1, "end_time": 3, "prompt": {"input_text": "Summarize."}},
    )
    made = now.post("/analyze/batches", json=wanted)
    assert made.status_code == 201, made.text
    batch = until_done(now, f"/analyze/batches/{made.json()['batch_id']}")
    assert batch["status"] == "completed"
    assert (batch["ready_items"], batch["failed_items"], batch["total_items"]) == (2, 1, 3)
    items = lines(now, batch["batch_id"])
    assert [item["custom_id"] for item in items] == ["a", "b", None]
    assert [item["task_id"] for item in items] == [item["task_id"] for item in made.json()["items"]]
    assert items[1]["error"]["code"] == "video_duration_too_long"
    assert "Blue ship" in items[0]["data"]["data"]
    assert bill_of(now, before) == (pytest.approx(length_of(now, asset_id) + 2, abs=0.001), 2)
    task = now.get(f"/analyze/tasks/{items[0]['task_id']}").json()
    assert task["batch_id"] == batch["batch_id"]
    listed = now.get("/analyze/batches", params={"status": "completed", "analysis_mode": "general"}).json()
    assert batch["batch_id"] in [one["batch_id"] for one in listed["data"]]
    assert now.delete(f"/analyze/batches/{batch['batch_id']}").status_code == 204
    assert now.get(f"/analyze/tasks/{items[0]['task_id']}").status_code == 404


def test_items_of_a_batch_that_fail_hang_and_expire(start_engine: Any, film: Path) -> None:
    engine = start_engine("--profile", "today", "--batch-seconds", "8", "--asset-delay", "0")
    with API(engine.base_url) as api:
        made = api.form("/assets", ("method", "direct"), ("file", ("film.mp4", film.read_bytes())))
        asset = until_done(api, f"/assets/{made.json()['_id']}")["_id"]
        video = {"type": "asset_id", "asset_id": asset}
        assert (
            api.post("/analyze", json={"video": video, "prompt": ASKED, "stream": False}).status_code == 200
        )
        four = [{"custom_id": str(number)} for number in range(4)]
        for kind, status, counts, code in (
            ("failed", "completed", (2, 2, 0), "video_file_broken"),
            ("warning", "completed", (4, 0, 0), None),
            ("stuck", "expired", (2, 0, 2), "batch_expired"),
        ):
            state = "queued" if kind == "stuck" else "processing"
            rule = {"kind": kind, "route": "/analyze/batches", "state": state, "share": 0.5, "count": 1}
            assert api.engine("PUT", "/faults", json={"fault": [rule]}).status_code == 200
            before = api.engine("GET", "/bill").json()
            batch_id = api.post("/analyze/batches", json=batch_of(asset, *four)).json()["batch_id"]
            batch = until_done(api, f"/analyze/batches/{batch_id}")
            found = (batch["ready_items"], batch["failed_items"], batch["canceled_items"])
            assert (batch["status"], found) == (status, counts)
            assert bill_of(api, before)[1] == counts[0]  # only what is ready is billed
            errors = [line["error"].get("code") for line in lines(api, batch_id) if "error" in line]
            assert errors == [code] * 2


def test_a_canceled_batch_drops_what_waits(now: API, asset_id: str) -> None:
    rule = {"kind": "stuck", "route": "/analyze/batches", "state": "queued", "share": 1.0, "count": 1}
    assert now.engine("PUT", "/faults", json={"fault": [rule]}).status_code == 200
    batch_id = now.post("/analyze/batches", json=batch_of(asset_id, {}, {})).json()["batch_id"]
    assert now.delete(f"/analyze/batches/{batch_id}").status_code == 409
    task_id = lines(now, batch_id)[0]["task_id"]
    assert now.post(f"/analyze/tasks/{task_id}/cancel").status_code == 409
    canceled = now.post(f"/analyze/batches/{batch_id}/cancel")
    assert (canceled.status_code, canceled.json()["status"]) == (202, "canceled")
    assert [line["error"]["code"] for line in lines(now, batch_id)] == ["batch_canceled"] * 2


TIMESTAMP = {"type": "timestamp", "format": "hh:mm:ss.fff"}


def test_moments_of_a_schema_come_in_the_form_that_was_asked_for(now: API, asset_id: str) -> None:
    scene = {"type": "object", "properties": {
        "start_time": {"type": "string"}, "end_time": {"type": "integer"}, "title": {"type": "string"},
        "at": TIMESTAMP,
    }, "required": ["start_time", "end_time", "title", "at"]}  # fmt: skip
    schema = {
        "type": "object",
        "properties": {"scenes": {"type": "array", "items": scene}},
        "required": ["scenes"],
    }
    asked = {
        "video": {"type": "asset_id", "asset_id": asset_id}, "prompt": "The scenes.", "stream": False,
        "response_format": {"type": "json_schema", "json_schema": schema},
    }  # fmt: skip
    answer = now.post("/analyze", json=asked)
    assert answer.status_code == 200, answer.text
    first = json.loads(answer.json()["data"])["scenes"][0]
    assert (first["start_time"], type(first["end_time"])) == ("00:00:00.000", int)
    assert len(first["at"]) == len("00:00:00.000")


def with_schema(**schema: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


#: What is wrong with a request for the asset, and the status and code of its refusal.
SHORT = {"a": {"type": "timestamp"}}  # without a format
WRONG: list[tuple[str, dict[str, Any], tuple[int, str]]] = [
    ("/analyze", {"max_tokens": 100}, (400, "parameter_invalid")),
    ("/analyze", {"max_tokens": 98_305}, (400, "parameter_invalid")),
    ("/analyze", {"start_time": 2, "end_time": 2.5}, (400, "parameter_invalid")),
    ("/analyze", {"start_time": 3, "end_time": 1}, (400, "parameter_invalid")),
    ("/analyze", {"start_time": 3, "end_time": 60}, (400, "parameter_invalid")),
    ("/analyze", {"model_name": "pegasus1.2"}, (400, "parameter_invalid")),
    ("/analyze", {"video": {"type": "asset_id", "asset_id": NOWHERE}}, (404, "resource_not_exists")),
    ("/analyze", with_schema(type="string", minLength=3), (422, "unprocessable")),
    ("/analyze", with_schema(type="array", items={"type": "string"}, maxItems=3), (422, "unprocessable")),
    ("/analyze", with_schema(type="object", additionalProperties=False), (422, "unprocessable")),
    ("/analyze", with_schema(type="object", properties=SHORT), (400, "parameter_invalid")),
    (
        "/analyze", with_schema(type="object", properties={"start_time": {"type": "boolean"}}),
        (400, "parameter_invalid"),
    ),
    ("/analyze", {"prompt_v2": {"input_text": "x"}}, (400, "parameter_invalid")),
    ("/analyze/tasks", {"custom_id": ""}, (400, "parameter_invalid")),
    ("/analyze/tasks", {"custom_id": "a b"}, (400, "parameter_invalid")),
    ("/analyze/tasks", {"max_tokens": "unlimited"}, (400, "parameter_invalid")),
    ("/analyze/tasks", {"analysis_mode": "time_based_metadata"}, (400, "parameter_invalid")),
    ("/analyze/tasks", {"start_time": 0, "end_time": 7201}, (400, "parameter_invalid")),
]  # fmt: skip


@pytest.mark.parametrize(("path", "change", "wanted"), WRONG)
def test_invalid_requests_are_refused(
    now: API, asset_id: str, path: str, change: dict[str, Any], wanted: tuple[int, str]
) -> None:
    asked = {"video": {"type": "asset_id", "asset_id": asset_id}, "prompt": ASKED}
    answer = now.post(path, json=asked | change)
    nested = path != "/analyze"
    body = answer.json()["error"] if nested else answer.json()
    assert (answer.status_code, body["code"]) == wanted, answer.text


FIELD = {"name": "f", "type": "string", "description": "d"}


@pytest.mark.parametrize(
    "definition",
    [
        {"id": "", "description": "d"},
        {"id": "a"},
        {"id": "a", "description": "see <@logo>"},
        {"id": "a", "description": "d", "fields": [FIELD | {"name": "start_time"}]},
        {"id": "a", "description": "d", "fields": [FIELD | {"type": "timestamp"}]},
        {"id": "a", "description": "d", "fields": [FIELD | {"format": "seconds"}]},
        {"id": "a", "description": "d", "fields": [FIELD | {"type": "array"}]},
        {"id": "a", "description": "d", "fields": [FIELD | {"enum": ["x"] * 101}]},
        {
            "id": "a", "description": "d",
            "fields": [FIELD | {"type": "time_array", "items": {"type": "object", "fields": [FIELD]}}],
        },
        {"id": "a", "description": "d", "time_ranges": [{"start_time": 0, "end_time": 1}]},
        {
            "id": "a", "description": "d",
            "time_ranges": [{"start_time": 0, "end_time": 3}, {"start_time": 2, "end_time": 5}],
        },
    ],
)  # fmt: skip
def test_definitions_that_are_wrong_are_refused(now: API, asset_id: str, definition: dict[str, Any]) -> None:
    answer = now.post("/analyze/tasks", json={
        "model_name": "pegasus1.5", "video": {"type": "asset_id", "asset_id": asset_id},
        "analysis_mode": "time_based_metadata",
        "response_format": {"type": "segment_definitions", "segment_definitions": [definition]},
    })  # fmt: skip
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "parameter_invalid"), answer.text


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"model_name": "pegasus1.6"}, 400),
        ({"requests": []}, 400),
        ({"requests": [{"video": {"type": "url", "url": "http://a/b.mp4"}}]}, 400),
        ({"defaults": {"prompt": "a text"}}, 400),
        ({"requests": [{"video": {"type": "asset_id", "asset_id": NOWHERE}}]}, 404),
        ({"defaults": {}}, 400),
    ],
)
def test_batches_that_are_wrong_make_nothing(
    now: API, asset_id: str, change: dict[str, Any], status: int
) -> None:
    before = now.get("/analyze/batches").json()["page_info"]["total_results"]
    answer = now.post("/analyze/batches", json=batch_of(asset_id, {}) | change)
    assert (answer.status_code, set(answer.json())) == (status, {"error"}), answer.text
    twice = now.post("/analyze/batches", json=batch_of(asset_id, {"custom_id": "a"}, {"custom_id": "a"}))
    assert twice.status_code == 400
    assert now.get("/analyze/batches").json()["page_info"]["total_results"] == before


def test_pictures_are_a_subject_of_pegasus16_alone(now: API, film: Path) -> None:
    import base64
    import io

    from PIL import Image

    pictures = []
    for name, color in (("before", (220, 20, 20)), ("after", (20, 160, 20))):
        file = io.BytesIO()
        Image.new("RGB", (200, 200), color).save(file, "PNG")
        pictures.append({"name": name, "base64_string": base64.b64encode(file.getvalue()).decode()})
    asked = {
        "model_name": "pegasus1.6",
        "image": pictures,
        "prompt": "What colours are there?",
        "stream": False,
    }
    answer = now.post("/analyze", json=asked)
    assert answer.status_code == 200, answer.text
    assert "red" in answer.json()["data"]
    assert "green" in answer.json()["data"]
    for change in (
        {"model_name": "pegasus1.5"}, {"prompt": "Only <@before>."}, {"prompt": "<@nobody>"}, {"image": []},
    ):  # fmt: skip
        assert now.post("/analyze", json=asked | change).status_code == 400


def test_a_video_of_today_and_its_task_are_as_recorded(now: API, film: Path) -> None:
    index_id = now.new_index(
        "as recorded", [{"model_name": "marengo3.0", "model_options": ["visual", "audio"]}]
    )
    task = now.upload(index_id, film, user_metadata='{"match_id": 8748176080, "share": 0.25, "win": true}')
    assert task == {"_id": task["_id"], "video_id": task["_id"]}
    path = f"/indexes/{index_id}/videos/{task['_id']}"
    early = now.get(path)
    assert early.status_code == 200  # readable and writable before it is ready
    assert now.patch(path, json={"user_metadata": {"early": 1}}).status_code == 204
    states = {"uploading", "queued", "indexing", "ready"}
    while (state := now.get(f"/tasks/{task['_id']}").json())["status"] != "ready":
        assert state["status"] in states
        time.sleep(0.02)
    assert set(state["system_metadata"]) == {"filename", "duration", "width", "height"}
    assert set(state) == {
        "_id", "index_id", "video_id", "status", "system_metadata", "created_at", "updated_at", "hls",
    }  # fmt: skip
    listed = now.get(f"/indexes/{index_id}/videos").json()["data"][0]
    for video in (listed, now.get(path).json()):
        assert video["asset_id"] == task["_id"]
        assert video["user_metadata"] == {"match_id": 8748176000, "share": 0.25, "win": True, "early": 1}
        assert len(video["hls"]["updated_at"]) == len("2026-07-20T20:33:17.087692515Z")
    asset = now.get(f"/assets/{task['_id']}").json()
    assert (asset["status"], asset["duration"]) == ("ready", pytest.approx(5, abs=0.2))
    answer = now.post("/analyze", json={
        "model_name": "pegasus1.5", "video": {"type": "asset_id", "asset_id": task["_id"]}, "prompt": ASKED,
        "stream": False,
    })  # fmt: skip
    assert "Blue ship" in answer.json()["data"]
    assert now.delete(f"/assets/{task['_id']}").status_code == 409
