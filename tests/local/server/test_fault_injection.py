"""Faults on demand: each kind seen once on the wire, chosen by route, number and chance."""

from __future__ import annotations

import json
import socket
import textwrap
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Engine
from tests.local.conftest import API, BOTH, problem
from tl_data.local.__main__ import read_options
from tl_data.local.server.faults import KINDS, SHAPES, STATES, Fault


@pytest.fixture(autouse=True)
def _no_faults_left(api: API) -> Iterator[None]:
    yield
    api.engine("DELETE", "/faults")


def faults(api: API, *rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Put rules into force."""
    answer = api.engine("PUT", "/faults", json={"fault": list(rules), **more})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_each_429(api: API) -> None:
    for shape in ("retry_after", "reset", "text", "empty"):
        faults(api, {"kind": "too_many_requests", "shape": shape, "seconds": 7, "route": "/indexes"})
        answer = api.get("/indexes")
        assert answer.status_code == 429
        assert ("retry-after" in answer.headers) == (shape == "retry_after")
        assert ("x-ratelimit-reset" in answer.headers) == (shape == "reset")
        if shape == "empty":
            assert answer.content == b""
            continue
        assert answer.json()["code"] == "too_many_requests"
        assert "Please try again later after 20" in answer.json()["message"]
        if shape == "retry_after":
            assert answer.headers["retry-after"] == "7"
        if shape == "reset":
            assert 5 < int(answer.headers["x-ratelimit-reset"]) - time.time() < 9


def test_statuses_pages_and_redirects(api: API) -> None:
    faults(api, {"kind": "status", "status": 503})
    assert problem(api.get("/indexes")) == (503, "internal_server_error")
    faults(
        api,
        {"kind": "status", "status": 403, "code": "api_not_allowed", "message": "API is not allowed to use."},
    )
    assert problem(api.get("/indexes")) == (403, "api_not_allowed")
    faults(api, {"kind": "gone", "route": "/gist"}, {"kind": "gone", "route": "/summarize"})
    for path in ("/gist", "/summarize"):
        assert problem(api.post(path, json={})) == (410, "endpoint_deprecated")
    faults(api, {"kind": "html"})
    page = api.get("/indexes")
    assert (page.status_code, page.headers["content-type"]) == (502, "text/html")
    assert "<h1>" in page.text
    faults(api, {"kind": "redirect", "location": "/v1.3/tasks"})
    away = api.get("/indexes")
    assert (away.status_code, away.headers["location"]) == (307, "/v1.3/tasks")


def test_coats_of_the_real_answer(api: API) -> None:
    path = f"/indexes/{api.new_index('coat')}"  # one that no other test's task changes
    plain = api.get(path).json()
    faults(api, {"kind": "gzip"})
    packed = api.get(path)
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.json() == plain
    faults(api, {"kind": "chunked"})
    pieces = api.get(path)
    assert pieces.headers["transfer-encoding"] == "chunked"
    assert pieces.json() == plain
    faults(api, {"kind": "slow_body", "seconds": 0.5})
    begun = time.monotonic()
    assert api.get(path).json() == plain
    assert time.monotonic() - begun > 0.4
    faults(api, {"kind": "malformed"})
    broken = api.get(path)
    assert broken.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        broken.json()


def test_lost_answers(api: API) -> None:
    api.new_index("cut")
    faults(api, {"kind": "truncate", "share": 0.3})
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete"):
        api.get("/indexes")
    faults(api, {"kind": "reset"})
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        api.get("/indexes")
    api.engine("DELETE", "/faults")
    assert api.get("/indexes").status_code == 200
    assert api.engine("GET", "/stats").json()["requests"]["GET /indexes"]["lost"] >= 2


def test_a_reset_is_a_reset(api: API, server: Engine) -> None:
    faults(api, {"kind": "reset"})
    host, port = server.base_url.removeprefix("http://").removesuffix("/v1.3").split(":")
    with socket.create_connection((host, int(port))) as raw:
        raw.sendall(b"GET /v1.3/indexes HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            raw.recv(100)


def test_carried_out_but_the_answer_is_lost(api: API) -> None:
    for number, rule in enumerate(
        ({"kind": "reset"}, {"kind": "status", "status": 500}, {"kind": "truncate"})
    ):
        faults(api, {**rule, "route": "/indexes", "method": "POST", "after": True, "count": 1})
        name = f"made anyway {number}"
        try:
            answer = api.post("/indexes", json={"index_name": name, "models": BOTH})
            assert answer.status_code == 500
        except httpx.TransportError:
            pass
        assert len(api.get("/indexes", params={"index_name": name}).json()["data"]) == 1


def test_by_count_route_and_method(api: API) -> None:
    faults(
        api, {"kind": "status", "status": 500, "route": "/indexes/{index_id}", "method": "GET", "count": 2}
    )
    index_id = api.new_index("counted")
    assert [api.get(f"/indexes/{index_id}").status_code for _ in range(4)] == [500, 500, 200, 200]
    rule = api.engine("GET", "/faults").json()["fault"][0]
    assert (rule["matched"], rule["done"]) == (4, 2)
    faults(api, {"kind": "status", "status": 500, "route": "/indexes/*/videos"})
    assert api.get(f"/indexes/{index_id}").status_code == 200
    assert api.get(f"/indexes/{index_id}/videos").status_code == 500


def test_by_chance_with_a_seed(api: API) -> None:
    def drawn() -> list[int]:
        faults(api, {"kind": "status", "status": 500, "probability": 0.5}, seed=7)
        return [api.get("/tasks").status_code for _ in range(20)]

    first = drawn()
    assert set(first) == {200, 500}
    assert drawn() == first


def test_latency(api: API) -> None:
    def seconds(**rule: float) -> float:
        faults(api, {"kind": "latency", **rule}, seed=1)
        begun = time.monotonic()
        assert api.get("/tasks").status_code == 200
        return time.monotonic() - begun

    assert seconds(seconds=0.3) >= 0.3
    assert seconds(median=0.2, sigma=0.1) > 0.1
    assert 0.2 <= seconds(low=0.2, high=0.25) < 1.5
    faults(api, {"kind": "latency", "seconds": 0.2}, {"kind": "status", "status": 500})
    begun = time.monotonic()
    assert api.get("/tasks").status_code == 500
    assert time.monotonic() - begun >= 0.2


def test_tasks_that_fail_or_never_end(api: API, film: Path) -> None:
    index_id = api.new_index("fated")
    failed = {"kind": "failed", "route": "/tasks", "method": "POST", "count": 1, "state": "indexing"}
    stuck = {"kind": "stuck", "route": "/tasks", "method": "POST", "count": 1, "state": "indexing"}
    faults(api, {**failed, "code": "video_file_broken", "message": "So it is."}, stuck)
    first, second, third = (api.upload(index_id, film) for _ in range(3))
    assert api.settled(first["_id"])["error"] == {"code": "video_file_broken", "message": "So it is."}
    assert api.settled(third["_id"])["status"] == "ready"
    assert api.get(f"/tasks/{second['_id']}").json()["status"] == "indexing"
    assert api.engine("GET", "/health").json()["idle"] in (True, False)


@pytest.mark.parametrize(
    "body",
    [
        {"fault": [{"kind": "magic"}]},
        {"fault": [{"kind": "status", "chance": 1}]},
        {"fault": [{"kind": "status", "status": "500"}]},
        {"fault": [{"kind": "status", "probability": 2}]},
        {"fault": [{"kind": "too_many_requests", "shape": "round"}]},
        {"fault": [{"kind": "stuck", "state": "ready"}]},
        {"fault": {}},
        {"seed": "x"},
        {"rules": [{"kind": "reset"}]},
    ],
)
def test_rules_that_make_no_sense(api: API, body: dict[str, Any]) -> None:
    assert problem(api.engine("PUT", "/faults", json=body)) == (400, "parameter_invalid")


def test_the_help_of_serve_describes_faults(api: API, capsys: pytest.CaptureFixture[str]) -> None:
    """The help has every kind and setting, and its example is a valid fault file."""
    with pytest.raises(SystemExit):
        read_options(["--help"])
    help_text = capsys.readouterr().out.partition("--faults FILE")[2]
    settings = {field.name for field in fields(Fault)} - {"matched", "done"}
    assert [name for name in (*KINDS, *SHAPES, *STATES, *settings) if name not in help_text] == []
    text = help_text.partition("    seed =")[2].partition("\nPUT /_engine")[0]
    example = textwrap.dedent(f"    seed ={text}")
    asked = tomllib.loads(example)
    assert len(asked["fault"]) == 3
    assert api.engine("PUT", "/faults", json=asked).status_code == 200


def test_from_a_file(start_engine: Callable[..., Engine], tmp_path: Path) -> None:
    toml = tmp_path / "faults.toml"
    toml.write_text('seed = 3\n[[fault]]\nkind = "status"\nstatus = 504\nroute = "/tasks"\n')
    with API(start_engine("--faults", str(toml)).base_url) as api:
        assert api.get("/tasks").status_code == 504
        assert api.get("/indexes").status_code == 200
