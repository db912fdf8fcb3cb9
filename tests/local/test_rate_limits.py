"""Rate limits: off by default, by plan or by number, with the headers of both generations."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import Engine
from tests.local.conftest import API, IndexedVideos, problem


@pytest.fixture(autouse=True)
def _no_limits_left(api: API) -> Iterator[None]:
    yield
    api.engine("DELETE", "/rates")


def ask(api: API) -> Any:
    """A cheap request that counts as an analysis."""
    return api.post("/gist", json={"types": ["title"]})


def test_no_limits_no_headers(api: API) -> None:
    assert not [name for name in ask(api).headers if name.startswith("x-ratelimit")]


def test_the_old_headers_and_the_captured_429(api: API) -> None:
    limits = {"analyze": [{"limit": 2, "seconds": 86400}]}
    api.engine("PUT", "/rates", json={"generation": "2025", "limits": limits})
    first = ask(api)
    assert first.headers["x-ratelimit-limit"] == "2"
    assert first.headers["x-ratelimit-remaining"] == "1"
    assert first.headers["x-ratelimit-used"] == "1"
    assert 86000 < int(first.headers["x-ratelimit-reset"]) - time.time() < 86500
    assert "x-ratelimit-dimensions" not in first.headers
    ask(api)
    refused = ask(api)
    assert problem(refused) == (429, "too_many_requests")
    assert "(2req/1day)" in refused.json()["message"]
    assert 86000 < int(refused.headers["retry-after"]) <= 86400
    assert refused.headers["x-ratelimit-remaining"] == "0"
    assert api.get("/indexes").status_code == 200


def test_the_new_headers(api: API) -> None:
    assert api.engine("PUT", "/rates", json={"plan": "tier1"}).status_code == 200
    headers = ask(api).headers
    assert headers["x-ratelimit-dimensions"] == "Duration,Request,OutputToken"
    assert headers["x-ratelimit-request-limit"] == "60"
    assert headers["x-ratelimit-request-remaining"] == "59"
    assert headers["x-ratelimit-duration-limit"] == "36000"
    assert headers["x-ratelimit-outputtoken-limit"] == "30000"
    assert "x-ratelimit-limit" not in headers


def test_every_category_of_a_plan_is_counted(api: API) -> None:
    assert api.engine("PUT", "/rates", json={"plan": "tier2"}).status_code == 200
    asked = {
        "/tasks": (120, 1, "72000"), "/indexes/0123/indexed-assets": (120, 2, "72000"),
        "/assets": (120, 1, None), "/search": (1200, 1, None),
        "/analyze": (120, 1, "72000"), "/summarize": (120, 2, "72000"), "/embed": (1200, 1, None),
        "/embed-v2": (1200, 2, None), "/embed/tasks": (50, 1, "72000"), "/embed-v2/tasks": (50, 2, "72000"),
    }  # fmt: skip
    for path, (requests, used, video) in asked.items():
        headers = api.post(path, json={}).headers
        assert headers["x-ratelimit-request-limit"] == str(requests), path
        assert headers["x-ratelimit-request-remaining"] == str(requests - used), path
        assert headers.get("x-ratelimit-duration-limit") == video, path


def test_requests_per_second_refill(api: API) -> None:
    api.engine("PUT", "/rates", json={"limits": {"analyze": {"limit": 3, "seconds": 1}}})
    assert [ask(api).status_code for _ in range(4)] == [400, 400, 400, 429]
    time.sleep(1.05)
    assert ask(api).status_code == 400


def test_tokens_are_counted_when_they_are_known(api: API, indexed: IndexedVideos) -> None:
    limits = {"analyze": [{"dimension": "OutputToken", "limit": 1, "seconds": 60}]}
    api.engine("PUT", "/rates", json={"limits": limits})
    body = {"video_id": indexed.videos[0], "prompt": "Summarize.", "stream": False}
    assert api.post("/analyze", json=body).status_code == 200
    assert problem(api.post("/analyze", json=body)) == (429, "too_many_requests")


@pytest.mark.parametrize(
    "body",
    [
        {}, {"plan": "gold"}, {"limits": []}, {"limits": {"dance": {"limit": 1, "seconds": 1}}},
        {"limits": {"search": {"limit": 0, "seconds": 1}}}, {"limits": {"search": {"limit": 1}}},
        {"limits": {"search": 5}}, {"limits": {}, "generation": "2030"},
        {"limits": {"search": {"dimension": "Love", "limit": 1, "seconds": 1}}},
    ],
)  # fmt: skip
def test_limits_that_make_no_sense(api: API, body: dict[str, Any]) -> None:
    assert problem(api.engine("PUT", "/rates", json=body)) == (400, "parameter_invalid")


def test_a_plan_from_the_start(start_engine: Callable[..., Engine]) -> None:
    with API(start_engine("--plan", "free-2025").base_url) as api:
        assert ask(api).headers["x-ratelimit-limit"] == "50"
        assert api.engine("GET", "/rates").json()["plan"] == "free-2025"


def test_limits_of_today_come_free_bit_by_bit(today: Engine) -> None:
    """As recorded: 30 of 1500 used, and the reset is seconds away."""
    with API(today.base_url) as api:
        try:
            limits = {"search": [{"limit": 1500, "seconds": 300}]}
            api.engine("PUT", "/rates", json={"generation": "2026", "limits": limits})
            for _ in range(30):
                headers = api.form("/search", ("index_id", "x")).headers
            assert headers["x-ratelimit-request-remaining"] in ("1470", "1471", "1472")
            assert 0 <= int(headers["x-ratelimit-request-reset"]) - time.time() <= 7
            api.engine("PUT", "/rates", json={"limits": {"search": [{"limit": 2, "seconds": 2}]}})
            answers = [api.form("/search", ("index_id", "x")) for _ in range(3)]
            assert [answer.status_code for answer in answers] == [400, 400, 429]
            assert answers[2].headers["retry-after"] == "1"
            time.sleep(1.1)
            assert api.form("/search", ("index_id", "x")).status_code == 400
        finally:
            api.engine("DELETE", "/rates")
