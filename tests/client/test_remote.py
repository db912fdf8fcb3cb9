"""Videos where they lie: probed and read in parts, from servers of every habit."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.scripted import Server, late, reset, say
from tl_data.errors import BadRequest, ConnectionFailed, MediaRefused, ServerFailed

Run = Callable[..., Any]

FILE = {"content_type": "video/mp4", "etag": '"abc"', "last_modified": "Fri, 07 Nov 2025 22:11:27 GMT"}
SIZED = say(200, b"", **FILE, content_length="1000", accept_ranges="bytes")
FIRST = say(206, b"x", **FILE, content_range="bytes 0-0/1000")
WHOLE = say(200, b"x" * 1000, **FILE)


@pytest.mark.parametrize("refusal", [400, 401, 403, 404, 405, 409, 500, 501, 503, "reset"])
def test_a_server_without_head_is_asked_for_one_byte(server: Server, run: Run, refusal: int | str) -> None:
    server.tell("HEAD /v.mp4", say(refusal) if isinstance(refusal, int) else reset)
    server.tell("GET /v.mp4", FIRST)
    found = run(lambda c: c.probe_url(server.origin + "/v.mp4"))
    assert (found.length, found.accept_ranges, found.etag) == (1000, True, '"abc"')
    assert [r.method for r in server.requests] == ["HEAD", "GET"]
    assert server.requests[1].headers["range"] == "bytes=0-0"


def test_a_probe_tells_what_the_server_says(server: Server, run: Run) -> None:
    server.tell("HEAD /old%20one.mp4", say(302, location="/v%C3%BC.mp4"))
    server.tell("HEAD /v%C3%BC.mp4", SIZED)
    found = run(lambda c: c.probe_url(server.origin + "/old one.mp4"))
    assert found.final_url == server.origin + "/v%C3%BC.mp4"
    assert found.url == server.origin + "/old%20one.mp4"
    assert (found.status, found.content_type, found.length) == (200, "video/mp4", 1000)
    assert found.last_modified == FILE["last_modified"]
    assert found.accept_ranges
    for request in server.requests:
        assert "x-api-key" not in request.headers


def test_a_server_that_ignores_ranges_is_not_read_to_the_end(server: Server, run: Run) -> None:
    server.tell("HEAD /v.mp4", say(405))
    server.tell("GET /v.mp4", late(WHOLE, 2.0, first=500))
    began = time.monotonic()
    found = run(lambda c: c.probe_url(server.origin + "/v.mp4"))
    assert time.monotonic() - began < 1.5
    assert (found.length, found.accept_ranges) == (1000, False)


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (say(404), "video_url_not_found", "video not found at"),
        (say(410), "video_url_not_found", "video not found at"),
        (say(403), "video_url_not_allowed", "is private"),
        (say(401), "video_url_not_allowed", "access denied"),
        (say(200, "<html>"), "video_url_not_media", "is an HTML page, not a video"),
        (say(418), "video_url_not_reachable", "HTTP 418"),
        (say(302, location="/v.mp4?again"), "video_url_not_reachable", "too many redirects"),
        (say(302, location="ftp://e.com/v.mp4"), "video_url_invalid", "begins with http"),
    ],
)
def test_messages_about_files_that_are_no_videos_have_no_secrets(
    server: Server, run: Run, answer: Any, code: str, words: str
) -> None:
    server.tell("HEAD /v.mp4", answer)
    server.tell("GET /v.mp4", answer)
    with pytest.raises(MediaRefused, match=words) as caught:
        run(lambda c: c.probe_url(server.origin + "/v.mp4?X-Amz-Signature=s3cret"))
    assert caught.value.code == code
    assert "s3cret" not in str(caught.value)


def test_what_may_pass_is_tried_again(server: Server, run: Run) -> None:
    server.tell("HEAD /v.mp4", say(503), reset, SIZED)
    server.tell("GET /v.mp4", say(503), reset)
    assert run(lambda c: c.probe_url(server.origin + "/v.mp4")).length == 1000
    assert [r.method for r in server.requests] == ["HEAD", "GET", "HEAD", "GET", "HEAD"]
    server.tell("HEAD /v.mp4", say(500))
    server.tell("GET /v.mp4", say(500))
    with pytest.raises(ServerFailed, match="HTTP 500"):
        run(lambda c: c.probe_url(server.origin + "/v.mp4"))
    with pytest.raises(ConnectionFailed, match=r"could not resolve host nowhere.invalid"):
        run(lambda c: c.probe_url("https://nowhere.invalid/v.mp4"))
    with pytest.raises(ConnectionFailed, match=r"could not connect to 127.0.0.1:9"):
        run(lambda c: c.probe_url("http://127.0.0.1:9/v.mp4"))


def test_ranges_are_read(server: Server, run: Run) -> None:
    url = server.origin + "/v.mp4"
    server.tell("GET /v.mp4", say(206, b"23456", content_range="bytes 2-6/10"))
    assert run(lambda c: c.read_range(url, 2, 7)) == b"23456"
    assert server.requests[0].headers["range"] == "bytes=2-6"
    assert server.requests[0].headers["accept-encoding"] == "identity"
    server.tell("GET /v.mp4", say(416))
    assert run(lambda c: c.read_range(url, 20, 30)) == b""
    server.tell("GET /v.mp4", WHOLE)
    assert run(lambda c: c.read_range(url, 0, 30)) == b"x" * 30
    with pytest.raises(BadRequest, match="does not support range requests"):
        run(lambda c: c.read_range(url, 5, 30))
    server.tell("GET /v.mp4", say(404))
    with pytest.raises(MediaRefused, match="video not found"):
        run(lambda c: c.read_range(url, 5, 30))


def test_a_part_is_read_up_to_its_limit(server: Server, run: Run) -> None:
    server.tell("GET /v.mp4", WHOLE)
    part = run(lambda c: c.read_part(server.origin + "/v.mp4", 1000))
    assert (part.status, len(part.body), part.content_range) == (200, 1000, None)
    with pytest.raises(MediaRefused) as refused:
        run(lambda c: c.read_part(server.origin + "/v.mp4", 999))
    assert refused.value.code == "video_filesize_too_large"
