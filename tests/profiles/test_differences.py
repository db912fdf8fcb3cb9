"""Recorded answers of the service that the lenient engine does not give: headers, sounds, streams."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.local.conftest import API
from tests.profiles.conftest import Account
from tests.support import media

MODELS = {"today": ("marengo3.0",), "2025": ("marengo2.7", "pegasus1.2")}


@pytest.fixture(scope="module")
def api(account: Account) -> Iterator[API]:
    with API(str(account.connection.settings.base_url)) as client:
        yield client


def index_of(api: API, name: str, *models: str) -> str:
    options = ["visual", "audio"]
    return api.new_index(name, [{"model_name": model, "model_options": options} for model in models])


def task_of(api: API, index_id: str, file: Path, **fields: str) -> dict[str, Any]:
    """Upload a file and wait for the end of its task; strict profiles answer 200."""
    parts = [("index_id", index_id), *fields.items(), ("video_file", (file.name, file.read_bytes()))]
    made = api.form("/tasks", *parts)
    assert made.status_code in (200, 201), made.text
    return api.settled(made.json()["_id"])


@pytest.fixture(scope="module")
def silent(account: Account, api: API, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A ready video without a sound track, with all its vectors."""
    file = media.no_audio(tmp_path_factory.mktemp("silent"))
    index_id = index_of(api, f"silent {account.profile}", *MODELS[account.profile])
    task = task_of(api, index_id, file)
    assert task["status"] == "ready"
    options = ["visual-text", "audio"] if account.profile == "2025" else ["visual", "audio", "transcription"]
    path = f"/indexes/{index_id}/videos/{task['video_id']}"
    video: dict[str, Any] = api.get(path, params={"embedding_option": options}).json()
    return video | {"index_id": index_id}


def test_a_refusal_has_the_headers_of_the_service(account: Account, api: API) -> None:
    limits = {"search": [{"dimension": "Request", "limit": 1500, "seconds": 86_400}]}
    set_to = {"limits": limits, "generation": "2026" if account.today else "2025"}
    assert api.engine("PUT", "/rates", json=set_to).status_code == 200
    try:
        refused = [api.form("/search", ("index_id", "0" * 24)) for _ in range(30)][-1]
        at = time.time()
    finally:
        api.engine("DELETE", "/rates")
    assert refused.status_code == 400
    headers = refused.headers
    assert headers["tl-report"] == "backend"
    assert headers["content-type"] == "application/json"  # without a charset
    assert "x-api-version" not in headers
    name = "x-ratelimit-request" if account.today else "x-ratelimit"
    assert headers[f"{name}-limit"] == "1500"
    # A day's limit refills slowly, so that the time of the requests does not count.
    assert int(headers[f"{name}-remaining"]) == pytest.approx(1470, abs=2)
    # 30 of 1500 are used: today the limit is full again after 30/1500 of a day, in 2025 at the day's end.
    rest = float(headers[f"{name}-reset"]) - at
    assert rest == pytest.approx(30 / 1500 * 86_400 if account.today else 86_400, rel=0.05)


def test_a_silent_video_has_no_vectors_of_sound(silent: dict[str, Any], account: Account) -> None:
    segments = silent["embedding"]["video_embedding"]["segments"]
    kinds = {segment["embedding_option"] for segment in segments}
    assert kinds == {"visual" if account.today else "visual-text"}
    assert {len(segment["float"]) for segment in segments} == {512 if account.today else 1024}
    for segment in segments:
        assert sum(value * value for value in segment["float"]) == pytest.approx(1, abs=1e-3)


def test_a_stream_has_one_thumbnail_and_times_as_recorded(silent: dict[str, Any], account: Account) -> None:
    assert len(silent["hls"]["thumbnail_urls"]) == 1
    assert silent["hls"]["video_url"].endswith(".m3u8")
    digits = 9 if account.today else 3  # nanoseconds, milliseconds
    assert re.fullmatch(rf".*:\d\d\.\d{{{digits}}}Z", silent["hls"]["updated_at"])
    thumbnail = httpx.get(silent["hls"]["thumbnail_urls"][0])
    assert (thumbnail.status_code, thumbnail.headers["content-type"]) == (200, "image/jpeg")


@pytest.mark.parametrize(
    ("hours", "accepted"), [(0.9, (True, True)), (3, (True, False)), (4.5, (False, False))]
)
def test_the_longest_video_is_that_of_the_models_of_the_index(
    account: Account, api: API, tmp_path: Path, hours: float, accepted: tuple[bool, bool]
) -> None:
    """Marengo 3.0 takes four hours, 2.7 takes two, and Pegasus 1.2 in the index lowers them to one."""
    # `stuck` keeps a task that was accepted from being analyzed.
    rule = {"kind": "stuck", "route": "/tasks", "state": "pending", "method": "POST"}
    assert api.engine("PUT", "/faults", json={"fault": [rule]}).status_code == 200
    file = media.write(tmp_path / "long.mp4", times=(0, hours * 3600), fps=1, audio=None)
    index_id = index_of(api, f"long {account.profile} {hours}", *MODELS[account.profile])
    try:
        made = api.form("/tasks", ("index_id", index_id), ("video_file", (file.name, file.read_bytes())))
        for _ in range(400):
            task = api.get(f"/tasks/{made.json()['_id']}").json()
            if task["status"] == "failed" or "duration" in task["system_metadata"]:  # known once validated
                break
            time.sleep(0.05)
        else:
            raise AssertionError(f"not validated: {task}")
    finally:
        api.engine("PUT", "/faults", json={"fault": []})
        api.delete(f"/indexes/{index_id}")
    assert (task["status"] != "failed") == accepted[0 if account.today else 1]


def test_an_update_without_metadata_changes_nothing(
    silent: dict[str, Any], account: Account, api: API
) -> None:
    """The service's contract does not require `user_metadata`; no refusal of it is known."""
    path = f"/indexes/{silent['index_id']}/videos/{silent['_id']}"
    assert api.patch(path, json={"user_metadata": {"kept": 1}}).status_code == 204
    for method in ("PUT", "PATCH"):
        assert api.request(method, path, json={}).status_code == 204
        assert api.get(path).json()["user_metadata"] == {"kept": 1}
