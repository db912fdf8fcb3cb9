"""The file server answers as an object store does, and leaves nothing behind."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.odd_server import OddServer
from tl_data.demo.file_server import FileServer

DATA = bytes(range(256)) * 40


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OddServer]:
    (tmp_path / "a film.mp4").write_bytes(DATA)
    (tmp_path / "Käse & Brot – 1.mp4").write_bytes(DATA)
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / ".hidden").write_bytes(b"secret")
    (tmp_path.parent / "outside.txt").write_bytes(b"secret")
    with OddServer(tmp_path) as server:
        yield server


def test_head_and_get_agree(server: OddServer) -> None:
    for name in ("a film.mp4", "Käse & Brot – 1.mp4"):
        head, got = httpx.head(server.url(name)), httpx.get(server.url(name))
        assert got.content == DATA
        assert head.content == b""
        wanted = {"content-type": "video/mp4", "content-length": str(len(DATA)), "accept-ranges": "bytes"}
        for answer in (head, got):
            assert answer.status_code == 200
            assert {k: answer.headers[k] for k in wanted} == wanted
        assert head.headers["etag"] == got.headers["etag"]
        assert "last-modified" in head.headers


@pytest.mark.parametrize(
    ("asked", "status", "start", "end"),
    [
        ("bytes=0-99", 206, 0, 100),
        ("bytes=100-", 206, 100, None),
        ("bytes=-10", 206, len(DATA) - 10, None),
        ("bytes=0-999999", 206, 0, None),
        ("bytes=999999-", 416, 0, 0),
        ("bytes=9-3", 200, 0, None),
        ("bytes=0-1,5-6", 200, 0, None),
        ("lines=1-2", 200, 0, None),
    ],
)
def test_ranges(server: OddServer, asked: str, status: int, start: int, end: int | None) -> None:
    answer = httpx.get(server.url("a film.mp4"), headers={"Range": asked})
    assert answer.status_code == status
    assert answer.content == DATA[start:end]
    if status == 206:
        stop = len(DATA) if end is None else end
        assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(DATA)}"


def test_conditional_requests(server: OddServer) -> None:
    url = server.url("a film.mp4")
    headers = httpx.head(url).headers
    assert httpx.get(url, headers={"If-None-Match": headers["etag"]}).status_code == 304
    part = {"Range": "bytes=0-1"}
    assert httpx.get(url, headers={**part, "If-Range": headers["etag"]}).status_code == 206
    assert httpx.get(url, headers={**part, "If-Range": headers["last-modified"]}).status_code == 206
    assert httpx.get(url, headers={**part, "If-Range": '"other"'}).status_code == 200


def test_the_same_bytes_have_the_same_etag(server: OddServer) -> None:
    names = ("a film.mp4", "Käse & Brot – 1.mp4", "empty.mp4")
    one, same, other = (httpx.head(server.url(name)).headers["etag"] for name in names)
    assert one == same != other


@pytest.mark.parametrize("path", ["none.mp4", "", ".hidden", "%2e%2e/outside.txt", "..%2foutside.txt"])
def test_other_paths_are_not_served(server: OddServer, path: str) -> None:
    host = server.base_url.removeprefix("http://")
    connection = http.client.HTTPConnection(host)
    connection.request("GET", f"/{path}")
    assert connection.getresponse().status == 404
    connection.close()


def test_odd_answers(server: OddServer) -> None:
    def get(way: str, method: str = "GET") -> httpx.Response:
        return httpx.request(method, server.odd(way, "a film.mp4"))

    assert get("503").status_code == 503
    assert get("html").headers["content-type"].startswith("text/html")
    assert get("redirect").headers["location"] == "/a%20film.mp4"
    assert get("nohead", "HEAD").status_code == 405
    assert get("nohead").content == DATA
    assert get("norange").headers.get("accept-ranges") is None
    assert "etag" not in get("bare").headers
    assert get("slow").elapsed.total_seconds() > 0.9
    with pytest.raises(httpx.RemoteProtocolError):
        get("cut")
    assert ("HEAD", "/-/nohead/a%20film.mp4") in server.requests


def test_a_mapping_serves_files_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(DATA)
    with FileServer({"films/one.mp4": tmp_path / "x.mp4"}) as server:
        assert httpx.get(server.url("films/one.mp4")).content == DATA
        assert httpx.get(server.url("x.mp4")).status_code == 404


def test_stopping_ends_threads_and_open_connections(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(DATA)
    before = set(threading.enumerate())
    with httpx.Client() as client, FileServer(tmp_path) as server:
        assert client.get(server.url("x.mp4")).status_code == 200  # the connection stays open
        url = server.url("x.mp4")
    assert set(threading.enumerate()) == before
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)
