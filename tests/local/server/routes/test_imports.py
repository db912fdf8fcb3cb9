"""Imports from the media folder, which stands in for an integration's bucket."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.conftest import Engine
from tests.local.conftest import API, problem

NOWHERE = "0123456789abcdef01234567"


def test_an_import_from_start_to_end(api: API, server: Engine, media_folder: Path, film: Path) -> None:
    integration = json.loads((server.home / "engine.json").read_text())["integration_id"]
    base = f"/tasks/transfers/import/{integration}"
    (media_folder / "sub").mkdir()
    (media_folder / "sub" / "good.mp4").write_bytes(film.read_bytes())
    (media_folder / "bad.mp4").write_bytes(b"no video")
    (media_folder / "empty.mp4").write_bytes(b"")
    (media_folder / "notes.txt").write_text("not a video")
    index_id = api.new_index("imported")
    before = api.get(f"{base}/status", params={"index_id": index_id}).json()
    assert sorted(before["not_imported"]) == ["bad.mp4", "empty.mp4", "good.mp4"]
    body = {
        "index_id": index_id,
        "incremental_import": None,
        "retry_failed": None,
        "user_metadata": {"from": "import"},
    }
    made = api.post(base, json=body)
    assert made.status_code == 201
    assert sorted(video["filename"] for video in made.json()["videos"]) == ["bad.mp4", "good.mp4"]
    assert [file["filename"] for file in made.json()["failed_files"]] == ["empty.mp4"]
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        job = api.get(f"{base}/logs").json()["data"][-1]
        if job["ended_at"]:
            break
        assert problem(api.post(base, json={"index_id": index_id})) == (400, "generic_error")
        time.sleep(0.2)
    assert job["video_status"] == {
        "ready": 1,
        "validating": 0,
        "queued": 0,
        "pending": 0,
        "indexing": 0,
        "failed": 1,
    }
    assert job["index_name"] == "imported"
    assert {file["filename"] for file in job["failed_files"]} == {"bad.mp4", "empty.mp4"}
    groups = api.get(f"{base}/status", params={"index_id": index_id}).json()
    assert [video["filename"] for video in groups["ready"]] == ["good.mp4"]
    assert set(groups["ready"][0]) == {"video_id", "filename", "created_at"}
    assert set(groups["failed"][0]) == {"filename", "created_at", "error_message"}
    video = api.get(f"/indexes/{index_id}/videos/{groups['ready'][0]['video_id']}").json()
    assert video["user_metadata"] == {"from": "import"}
    again = api.post(base, json={"index_id": index_id}).json()
    assert again["videos"] == []
    retried = api.post(base, json={"index_id": index_id, "retry_failed": True}).json()
    assert [video["filename"] for video in retried["videos"]] == ["bad.mp4"]
    while api.get(f"{base}/logs").json()["data"][-1]["ended_at"] is None:
        time.sleep(0.05)
    # Another file may have the name of one that is in; the same bytes under another name are left out.
    (media_folder / "good.mp4").write_bytes(film.read_bytes() + b"another")
    (media_folder / "copy.mp4").write_bytes(film.read_bytes())
    left = api.get(f"{base}/status", params={"index_id": index_id}).json()["not_imported"]
    assert sorted(left) == ["copy.mp4", "empty.mp4", "good.mp4"]
    with ThreadPoolExecutor(4) as four:
        answers = list(four.map(lambda _: api.post(base, json={"index_id": index_id}), range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 400, 400, 400]
    (taken,) = (answer.json()["videos"] for answer in answers if answer.status_code == 201)
    assert [video["filename"] for video in taken] == ["good.mp4"]


def test_refusals(api: API, server: Engine) -> None:
    integration = json.loads((server.home / "engine.json").read_text())["integration_id"]
    base = f"/tasks/transfers/import/{integration}"
    assert problem(api.post(base, json={})) == (400, "parameter_not_provided")
    assert problem(api.post(base, json={"index_id": 5})) == (400, "parameter_invalid")
    assert problem(api.post(base, json={"index_id": NOWHERE})) == (404, "resource_not_exists")
    assert problem(api.get(f"{base}/status")) == (400, "parameter_not_provided")
    index_id = api.new_index("never imported")
    body = {"index_id": index_id, "retry_failed": "yes"}
    assert problem(api.post(base, json=body)) == (400, "parameter_invalid")
    body = {"index_id": index_id, "user_metadata": {"size": 1}}
    assert problem(api.post(base, json=body)) == (400, "parameter_invalid")
    assert problem(api.get(f"/tasks/transfers/import/{NOWHERE}/logs")) == (404, "resource_not_exists")
    assert problem(api.get("/tasks/transfers/import/x/logs")) == (400, "parameter_invalid")
