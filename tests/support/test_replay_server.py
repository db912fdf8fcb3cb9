"""The server of recorded answers gives back what was recorded."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.support.replay_server import NAMES, ReplayServer, recording


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_comes_back_as_it_was(name: str) -> None:
    it = recording(name)
    if name not in ("search_page_limit_zero_accepted", "headers_embed_tasks_duration"):
        assert it.response
    try:
        route = it.route
    except KeyError:  # a part of an answer
        return
    method, path = route.split(" ")
    with ReplayServer() as server:
        server.replay(name)
        answer = httpx.request(method, server.url + path)
        assert (answer.status_code, answer.json()) == (it.status, it.response)
        assert all(answer.headers[header] == value for header, value in it.headers.items())


def test_answers_of_one_route_come_in_turn_and_may_be_damaged() -> None:
    with ReplayServer() as server:
        server.states("tasks_retrieve_ready", "uploading", "queued")
        server.replay("tasks_retrieve_ready")
        url = f"{server.url}/tasks/650000000000000000000002"
        assert [httpx.get(url).json()["status"] for _ in range(4)] == [
            "uploading",
            "queued",
            "ready",
            "ready",
        ]
        server.replay("analyze_nostream_pegasus12", change=lambda text: text + '"}]}')
        damaged = httpx.post(f"{server.url}/analyze", json={"prompt": "x"})
        assert damaged.text.endswith('"}]}')
        with pytest.raises(json.JSONDecodeError):
            damaged.json()
        assert server.bodies("POST /analyze") == [{"prompt": "x"}]
        assert httpx.get(f"{server.url}/nothing").json()["code"] == "endpoint_not_exists"
