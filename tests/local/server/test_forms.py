"""Bodies that break off, are too large, or come from many at once."""

from __future__ import annotations

import asyncio
import socket
import time

import httpx

from tests.conftest import Engine
from tests.local.conftest import API, BOTH, IndexedVideos, problem

HEAD = (
    b"POST /v1.3/tasks HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n"
    b"Content-Type: multipart/form-data; boundary=B\r\n\r\n"
    b'--B\r\nContent-Disposition: form-data; name="video_file"; filename="a.mp4"\r\n\r\nhalf of it'
)


def test_an_upload_that_breaks_off_leaves_nothing(api: API, server: Engine) -> None:
    host, port = server.base_url.removeprefix("http://").removesuffix("/v1.3").split(":")
    uploads = server.home / "uploads"
    with socket.create_connection((host, int(port))) as raw:
        raw.sendall(HEAD)
        deadline = time.monotonic() + 10
        while not any(uploads.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert any(uploads.iterdir())
    deadline = time.monotonic() + 10
    while any(uploads.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(uploads.iterdir())
    assert api.get("/indexes").status_code == 200


def test_refused_uploads_leave_nothing(api: API, server: Engine) -> None:
    answer = api.form("/tasks", ("index_id", "short"), ("video_file", ("a.mp4", b"x" * 100_000)))
    assert problem(answer) == (400, "parameter_invalid")
    assert not any((server.home / "uploads").iterdir())


def test_texts_too_long_and_parts_too_many(api: API) -> None:
    assert problem(api.form("/tasks", ("index_id", "x" * (9 << 20)))) == (400, "parameter_invalid")
    many = [(f"x{n}", "y") for n in range(2100)]
    assert problem(api.form("/tasks", *many)) == (400, "parameter_invalid")
    deep = "[" * 100_000
    as_json = {"content-type": "application/json"}
    assert problem(api.post("/gist", content=deep, headers=as_json)) == (400, "parameter_invalid")
    assert problem(api.post("/gist", content=deep))[1] == "content_type_invalid"
    assert problem(api.form("/search", ("search_options", deep))) == (400, "parameter_invalid")
    name = {"index_name": "x" * 1000, "models": BOTH}
    assert problem(api.post("/indexes", json=name)) == (400, "parameter_invalid")


def test_a_body_of_unknown_length(api: API, indexed: IndexedVideos) -> None:
    request = httpx.Request(
        "POST",
        "http://x",
        files={
            "index_id": (None, indexed.index_id),
            "query_text": (None, "Blue ship"),
            "search_options": (None, "visual"),
        },
    )
    raw = request.read()
    pieces = (raw[at : at + 7] for at in range(0, len(raw), 7))
    answer = api.post("/search", content=pieces, headers={"content-type": request.headers["content-type"]})
    assert len(answer.json()["data"]) == 3


def test_many_at_once(server: Engine, indexed: IndexedVideos) -> None:
    async def ask(client: httpx.AsyncClient, number: int) -> int:
        if number % 3 == 0:
            return (await client.get("/tasks", params={"page_limit": 50})).status_code
        if number % 3 == 1:
            form = {
                "index_id": indexed.index_id,
                "search_options": "visual",
                "query_text": f"Blue ship {number}",
            }
            files = {name: (None, value) for name, value in form.items()}
            return (await client.post("/search", files=files)).status_code
        form = {"model_name": "marengo3.0", "text": f"text {number}"}
        files = {name: (None, value) for name, value in form.items()}
        return (await client.post("/embed", files=files)).status_code

    async def all_at_once() -> list[int]:
        limits = httpx.Limits(max_connections=50)
        async with httpx.AsyncClient(base_url=server.base_url, timeout=60, limits=limits) as client:
            return await asyncio.gather(*(ask(client, number) for number in range(150)))

    assert asyncio.run(all_at_once()) == [200] * 150
