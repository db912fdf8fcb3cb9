"""Requests that are made to break the engine: each gets a refusal with a code, and none a server error."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.conftest import Engine
from tests.local.conftest import API, IndexedVideos, problem

HUGE = 10**400
DEEP: Any = "x"
for _ in range(200):
    DEEP = [DEEP]
BODIES = 250  # made-up ones


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("{'a': " + "9" * 40 + "}", 200),
        ("{'a': -" + "9" * 40 + "}", 200),
        ("{'a': '\\ud800'}", 400),
        ("{'\\ud800': 1}", 400),
        ("(" * 150 + ")" * 150, 400),
        ("-" * 19_000 + "1", 400),
        ("{'a': " + "9" * 5000 + "}", 400),
        ("x" * 30_000, 400),
    ],
)
def test_metadata_written_as_python(api: API, indexed: IndexedVideos, text: str, status: int) -> None:
    answer = api.get(f"/indexes/{indexed.index_id}/videos", params={"user_metadata": text})
    assert answer.status_code == status, answer.text[:300]


def test_filters_with_thousands_of_keys(api: API, indexed: IndexedVideos) -> None:
    wide = {f"k{number}": number for number in range(3000)}
    fields = ("index_id", indexed.index_id), ("search_options", "visual"), ("query_text", "blue")
    answer = api.form("/search", *fields, ("filter", json.dumps(wide)))
    assert problem(answer) == (400, "search_filter_invalid")
    listed = api.get(f"/indexes/{indexed.index_id}/videos", params={f"k{n}": "1" for n in range(1500)})
    assert problem(listed) == (400, "parameter_invalid")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "format": []},
        {"type": "string", "format": {}},
        {"type": "integer", "minimum": HUGE},
        {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]},
        {"type": "object", "required": [f"p{number}" for number in range(20_000)]},
    ],
)
def test_schemas(api: API, indexed: IndexedVideos, schema: dict[str, Any]) -> None:
    began = time.monotonic()
    asked = {"type": "json_schema", "json_schema": schema}
    body = {"video_id": indexed.videos[0], "prompt": "title?", "stream": False, "response_format": asked}
    assert problem(api.post("/analyze", json=body)) == (400, "parameter_invalid")
    assert time.monotonic() - began < 10
    assert problem(api.post("/analyze/tasks", json=body)) == (400, "parameter_invalid")


def test_a_fault_cannot_break_a_header(start_engine: Callable[..., Engine]) -> None:
    with API(start_engine().base_url) as api:
        rule = {"kind": "redirect", "location": "/a\r\nX-Evil: 1"}
        answer = api.engine("PUT", "/faults", json={"fault": [rule]})
        assert problem(answer) == (400, "parameter_invalid")


def test_made_up_bodies_are_no_server_errors(api: API, indexed: IndexedVideos) -> None:
    """Right bodies in which values, keys or the text itself are replaced by hostile ones."""
    dice = random.Random(14)
    hostile: list[Any] = [
        None, True, -1, 0, HUGE, -HUGE, 1e308, -0.0, "", " ", "\x00", "\u202e", "\x1b[31m", "x" * 70_000,
        [], {}, [[]], [None], {"": 1}, {"$ref": "#"}, ["a"] * 3000, {f"k{n}": n for n in range(1500)}, DEEP,
        "9" * 5000, "../../etc/passwd",
        "file:///etc/passwd", "' OR 1=1 --", 2**63, 10**30, [HUGE], {"gte": HUGE},
    ]  # fmt: skip
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    video = indexed.videos[0]
    right: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/indexes", {"index_name": "x", "addons": ["thumbnail"],
                              "models": [{"model_name": "marengo3.0", "model_options": ["visual"]}]}),
        ("PUT", f"/indexes/{indexed.index_id}", {"index_name": "shelf"}),
        ("PUT", f"/indexes/{indexed.index_id}/videos/{video}",
         {"user_metadata": {"k": 1}, "video_title": "t"}),
        ("POST", "/analyze", {"video_id": video, "prompt": "title?", "stream": False, "temperature": 0.2,
                              "max_tokens": 100,
                              "response_format": {"type": "json_schema", "json_schema": schema}}),
        ("POST", "/analyze/tasks", {"video": {"type": "url", "url": "http://127.0.0.1:1/a.mp4"},
                                    "prompt": "title?"}),
        ("POST", "/gist", {"video_id": video, "types": ["title"]}),
        ("POST", "/summarize", {"video_id": video, "type": "summary"}),
        ("POST", "/embed-v2", {"input_type": "text", "model_name": "marengo3.0",
                               "text": {"input_text": "a"}}),
        ("POST", "/assets", {"method": "url", "url": "http://127.0.0.1:1/a.mp4"}),
    ]  # fmt: skip

    def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        items = (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        )
        return [path, *(place for key, inner in items for place in places(inner, (*path, key)))]

    def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
        if not path:
            return new
        copy = dict(value) if isinstance(value, dict) else list(value)
        copy[path[0]] = replaced(value[path[0]], path[1:], new)
        return copy

    seen: Counter[int] = Counter()
    failed: list[tuple[str, ...]] = []
    for number in range(BODIES):
        method, path, body = dice.choice(right)
        for _ in range(dice.choice((1, 1, 2))):
            body = replaced(body, dice.choice(places(body)), dice.choice(hostile))
            if not isinstance(body, dict):
                break
        text = json.dumps(body)
        if number % 10 == 0:  # half of a character, a number that is none, a text cut off
            text = dice.choice(
                (text.replace("x", "\\ud800", 1), text.replace("1", "NaN"), text[: len(text) // 2])
            )
        headers = {"content-type": "application/json"}
        answer = api.request(method, path, content=text.encode(), headers=headers)
        if answer.status_code >= 500 and answer.json()["code"] != "not_supported":
            failed.append((method, path, text[:300], answer.text[:200]))
        seen[answer.status_code // 100] += 1
    assert failed == []
    assert seen[4] > BODIES // 3
    assert seen[2] > 5


@pytest.fixture(scope="module")
def limited(start_engine: Callable[..., Engine]) -> Engine:
    """An engine that takes few connections and small videos."""
    return start_engine("--profile", "today", "--max-connections", "20", "--max-video-bytes", "50000")


def test_idle_connections_make_room_and_busy_ones_do_not(limited: Engine) -> None:
    address = urlsplit(limited.base_url)
    assert address.hostname is not None
    assert address.port is not None
    with contextlib.ExitStack() as stack:
        idle = [
            stack.enter_context(socket.create_connection((address.hostname, address.port), 20))
            for _ in range(60)
        ]
        for connection in idle[40:]:
            connection.sendall(b"POST /v1.3/assets HTTP/1.1\r\n")  # half of a head
        with API(limited.base_url) as api:
            assert api.get("/indexes").status_code == 200
        assert [connection.recv(1) for connection in idle[:40]] == [b""] * 40

    head = b"POST /v1.3/indexes HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n"
    with contextlib.ExitStack() as stack:
        for _ in range(20):  # each request waits for its body
            connection = stack.enter_context(socket.create_connection((address.hostname, address.port), 20))
            connection.sendall(head + b"Content-Type: application/json\r\n\r\n")
        deadline = time.monotonic() + 20
        while (answer := httpx.get(f"{limited.base_url}/indexes")).status_code == 200:
            assert time.monotonic() < deadline  # the engine has not read all heads yet
        assert problem(answer) == (503, "too_many_connections")
        assert answer.headers["retry-after"] == "1"
    deadline = time.monotonic() + 20
    while httpx.get(f"{limited.base_url}/indexes").status_code != 200:
        assert time.monotonic() < deadline


def test_a_limit_of_videos_holds_for_multipart_uploads(limited: Engine) -> None:
    with API(limited.base_url) as api:
        upload = {"filename": "a.mp4", "type": "video", "total_size": 50_001}
        answer = api.post("/assets/multipart-uploads", json=upload)
        assert problem(answer) == (400, "parameter_invalid")
        assert api.post("/assets/multipart-uploads", json=upload | {"total_size": 50_000}).status_code == 201


def test_an_answer_is_not_written_for_a_client_that_has_left(
    server: Engine, api: API, indexed: IndexedVideos
) -> None:
    levels = 12  # 8,191 values: seconds of work
    defs: dict[str, Any] = {
        f"d{level}": {
            "type": "object",
            "properties": {name: {"$ref": f"#/$defs/d{level + 1}"} for name in ("a", "b")},
            "required": ["a", "b"],
        }
        for level in range(levels)
    }
    defs[f"d{levels}"] = {"type": "string", "description": "what is shown"}
    schema = {"$defs": defs, "$ref": "#/$defs/d0"}
    body = {
        "video_id": indexed.videos[0], "prompt": "x", "stream": False,
        "response_format": {"type": "json_schema", "json_schema": schema},
    }  # fmt: skip

    def cpu_seconds() -> float:
        fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    before = cpu_seconds()
    for _ in range(4):
        with pytest.raises(httpx.ReadTimeout):
            api.post("/analyze", json=body, timeout=0.5)
    assert cpu_seconds() - before > 0.2  # the work had begun
    time.sleep(0.5)
    began, start = time.monotonic(), cpu_seconds()
    while time.monotonic() - began < 1:
        time.sleep(0.1)
    assert cpu_seconds() - start < 0.4


def test_files_that_no_route_takes_are_dropped(start_engine: Callable[..., Engine]) -> None:
    engine = start_engine()

    def megabytes() -> int:
        return int(Path(f"/proc/{engine.pid}/statm").read_text().split()[1]) * 4096 >> 20

    with API(engine.base_url) as api:
        api.get("/indexes")
        before = megabytes()
        junk = [(f"f{number}", (f"{number}.bin", bytes(3_500))) for number in range(1990)]
        for _ in range(10):
            assert api.post("/tasks", files=junk).status_code == 400
        large = api.form("/tasks", ("other", ("a.bin", bytes(20 << 20))))
        assert problem(large) == (400, "parameter_invalid")
        assert megabytes() - before < 60
