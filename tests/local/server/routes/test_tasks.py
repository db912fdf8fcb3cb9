"""/tasks: accepted as every SDK sends them, worked on, refused with the API's codes."""

from __future__ import annotations

import socket
import time
from http.client import HTTPResponse
from pathlib import Path

import pytest

from tests.conftest import Engine
from tests.local.conftest import API, BOTH, IndexedVideos, problem
from tests.support import media
from tests.support.odd_server import OddServer

NOWHERE = "0123456789abcdef01234567"


@pytest.fixture(scope="module")
def bin_id(api: API) -> str:
    """An index for tasks that come to nothing."""
    return api.new_index("bin")


def test_a_ready_task(api: API, indexed: IndexedVideos) -> None:
    task = api.get(f"/tasks/{indexed.tasks[0]}").json()
    assert task["status"] == "ready"
    assert task["video_id"] == indexed.videos[0]
    assert task["index_id"] == indexed.index_id
    facts = task["system_metadata"]
    assert {name: facts[name] for name in ("filename", "width", "height")} == {
        "filename": "plain.mp4", "width": 480, "height": 360,
    }  # fmt: skip
    assert facts["duration"] == pytest.approx(5, abs=0.2)
    assert isinstance(facts["size"], int)
    assert task["hls"]["video_url"].endswith("stream.m3u8")
    assert "estimated_time" not in task


def test_a_new_task_says_enough_for_every_sdk(api: API, bin_id: str) -> None:
    task = api.form("/tasks", ("index_id", bin_id), ("video_url", "http://127.0.0.1:9/a.mp4")).json()
    assert task["status"] == "validating"
    assert task["_id"] != task["video_id"]
    assert isinstance(task["system_metadata"], dict)
    assert task["estimated_time"].endswith("Z")


def test_texts_as_file_parts_and_unknown_parts(api: API, bin_id: str) -> None:
    """One SDK sends a URL as text and as a file called `upload`, with an empty part named `_`."""
    url = "http://127.0.0.1:9/b.mp4"
    both = api.form(
        "/tasks",
        ("index_id", bin_id), ("video_url", url), ("video_url", ("upload", url.encode())),
        ("_", ("", b"")), ("language", "en"), ("transcription_file", ("t.srt", b"\xff\xfe\x00")),
    )  # fmt: skip
    only_file = api.form("/tasks", ("index_id", bin_id), ("video_url", ("upload", url.encode())))
    as_json = api.post("/tasks", json={"index_id": bin_id, "video_url": url, "enable_video_stream": False})
    assert [answer.status_code for answer in (both, only_file, as_json)] == [201, 201, 201]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ([], "parameter_not_provided"),
        ([("video_url", "http://127.0.0.1:9/a")], "parameter_not_provided"),
        ([("index_id", "{bin}")], "parameter_not_provided"),
        ([("index_id", "{bin}"), ("video_url", " ")], "parameter_not_provided"),
        ([("index_id", "nothing"), ("video_url", "http://127.0.0.1:9/a")], "parameter_invalid"),
        ([("index_id", "{bin}"), ("video_url", "not a url")], "parameter_invalid"),
        ([("index_id", "{bin}"), ("video_url", "ftp://host/a.mp4")], "parameter_invalid"),
        ([("index_id", "{bin}"), ("video_url", "http://")], "parameter_invalid"),
        ([("index_id", "{bin}"), ("video_url", "http://[::1")], "parameter_invalid"),
        ([("index_id", "{bin}"), ("video_file", ("a.mp4", b""))], "video_file_broken"),
        (
            [("index_id", "{bin}"), ("enable_video_stream", "maybe"), ("video_url", "http://h/a")],
            "parameter_invalid",
        ),
        ([("index_id", "{bin}"), ("user_metadata", "{"), ("video_url", "http://h/a")], "parameter_invalid"),
        ([("index_id", "{bin}"), ("user_metadata", "[1]"), ("video_url", "http://h/a")], "parameter_invalid"),
        (
            [("index_id", "{bin}"), ("user_metadata", '{"width": 1}'), ("video_url", "http://h/a")],
            "parameter_invalid",
        ),
        (
            [("index_id", "{bin}"), ("user_metadata", '{"a": {}}'), ("video_url", "http://h/a")],
            "parameter_invalid",
        ),
        (
            [("index_id", "{bin}"), ("user_metadata", '{"a": NaN}'), ("video_url", "http://h/a")],
            "parameter_invalid",
        ),
    ],
)
def test_invalid_requests_are_refused_immediately(
    api: API, bin_id: str, fields: list[tuple[str, object]], code: str
) -> None:
    before = api.get("/tasks", params={"index_id": bin_id}).json()["page_info"]["total_results"]
    filled = [(name, value.format(bin=bin_id) if "bin}" in str(value) else value) for name, value in fields]  # type: ignore[attr-defined]
    assert problem(api.form("/tasks", *filled, ("_", ("", b"")))) == (400, code)
    assert api.get("/tasks", params={"index_id": bin_id}).json()["page_info"]["total_results"] == before


def test_an_unknown_index(api: API) -> None:
    answer = api.form("/tasks", ("index_id", NOWHERE), ("video_url", "http://127.0.0.1:9/a"))
    assert problem(answer) == (404, "resource_not_exists")
    assert NOWHERE in answer.json()["message"]


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
def test_other_content_types(api: API, kind: str) -> None:
    answer = api.post("/tasks", content=b"index_id=1", headers={"content-type": kind})
    assert problem(answer) == (400, "content_type_invalid")


def test_a_broken_multipart_body(api: API) -> None:
    answer = api.post(
        "/tasks", content=b"no boundary here", headers={"content-type": "multipart/form-data; boundary=x"}
    )
    assert problem(answer) == (400, "parameter_invalid")


@pytest.mark.parametrize("name", [name for name in media.BAD if name != "zero_bytes"])
def test_bad_files_fail_with_the_code(api: API, bin_id: str, name: str, tmp_path: Path) -> None:
    make, code = media.BAD[name]
    task = api.settled(api.upload(bin_id, make(tmp_path))["_id"])
    assert (task["status"], task["error"]["code"]) == ("failed", code)
    assert len(task["error"]["message"]) > 30
    assert "hls" not in task


@pytest.mark.parametrize("name", media.OWN)
def test_odd_sizes_and_lengths_are_taken_and_noted(
    api: API, bin_id: str, today: Engine, name: str, tmp_path: Path
) -> None:
    """The lenient profile says what the service would refuse; the strict one refuses it."""
    make, code = media.OWN[name]
    path = make(tmp_path)
    task = api.settled(api.upload(bin_id, path)["_id"])
    assert (task["status"], task["service_refusal"]["code"]) == ("ready", code)
    video = api.get(f"/indexes/{bin_id}/videos/{task['video_id']}").json()
    assert video["service_refusal"] == task["service_refusal"]
    vectors = api.get(f"/indexes/{bin_id}/videos/{task['video_id']}?embedding_option=visual").json()
    assert vectors["embedding"]["video_embedding"]["segments"]
    with API(today.base_url) as strict:
        index = strict.new_index(f"refuses {name}", [BOTH[0]])
        assert strict.settled(strict.upload(index, path)["_id"])["status"] == "failed"


@pytest.mark.parametrize(
    ("way", "code", "word"),
    [
        ("404", "video_url_not_accessible", "404"),
        ("500", "video_url_not_accessible", "500"),
        ("html", "video_file_broken", "web page"),
        ("loop", "video_url_not_accessible", "redirects"),
        ("cut", "video_url_not_accessible", "cannot be reached"),
    ],
)
def test_bad_urls_fail_with_a_sentence(
    api: API, bin_id: str, files: OddServer, film: Path, way: str, code: str, word: str
) -> None:
    (files.folder / "film.mp4").write_bytes(film.read_bytes())
    answer = api.form("/tasks", ("index_id", bin_id), ("video_url", files.odd(way, "film.mp4")))
    task = api.settled(answer.json()["_id"])
    assert (task["status"], task["error"]["code"]) == ("failed", code)
    assert word in task["error"]["message"]


def test_portrait_redirect_and_unicode_names_are_taken(api: API, files: OddServer, tmp_path: Path) -> None:
    index_id = api.new_index("taken as they are")
    turned, named = media.rotated(files.folder), media.unicode_name(files.folder)
    urls = [files.url(turned.name), files.odd("redirect", named.name)]
    tasks = [api.form("/tasks", ("index_id", index_id), ("video_url", url)).json()["_id"] for url in urls]
    upright, renamed = [api.settled(task)["system_metadata"] for task in tasks]
    assert (upright["width"], upright["height"]) == (360, 640)
    assert renamed["filename"] == named.name


def test_a_video_is_as_long_as_its_pictures(api: API, tmp_path: Path) -> None:
    """Of two recordings in one file the header tells the length of one."""
    index_id = api.new_index("joined")
    task = api.settled(api.upload(index_id, media.broken_timestamps(tmp_path))["_id"])
    assert task["system_metadata"]["duration"] == pytest.approx(10, abs=0.3)
    asked = {"embedding_option": ["visual"]}
    video = api.get(f"/indexes/{index_id}/videos/{task['video_id']}", params=asked).json()
    assert video["system_metadata"]["duration"] == task["system_metadata"]["duration"]
    ends = [s["end_offset_sec"] for s in video["embedding"]["video_embedding"]["segments"]]
    assert max(ends) == pytest.approx(video["system_metadata"]["duration"], abs=0.01)


def test_names_of_uploads_are_no_paths(api: API, bin_id: str, server: object) -> None:
    for name in ("../../../etc/passwd", "..\\..\\boot.ini", "/etc/shadow", "a\x00b.mp4", "...", "x" * 3000):
        answer = api.form("/tasks", ("index_id", bin_id), ("video_file", (name, b"no video")))
        shown = answer.json()["system_metadata"]["filename"]
        assert "/" not in shown
        assert "\\" not in shown
        assert ".." not in shown
        assert 0 < len(shown) <= 200


def test_lists_and_counts(api: API, indexed: IndexedVideos, bin_id: str) -> None:
    def found(**query: object) -> list[str]:
        query.setdefault("page_limit", 50)
        return [task["_id"] for task in api.get("/tasks", params=query).json()["data"]]  # type: ignore[arg-type]

    mine = {"index_id": indexed.index_id}
    assert found(**mine) == indexed.tasks[::-1]
    assert found(**mine, sort_option="asc") == indexed.tasks
    assert found(**mine, status="ready") == indexed.tasks[::-1]
    assert found(**mine, status="ready,failed") == indexed.tasks[::-1]
    assert found(**mine, status=["validating", "ready"]) == indexed.tasks[::-1]
    assert found(**mine, status="failed") == []
    assert found(**mine, filename="plain.mp4", width=480, height=360) == indexed.tasks[::-1]
    assert found(**mine, **{"duration[gte]": 4, "duration[lte]": 6}) == indexed.tasks[::-1]
    assert found(**mine, **{"duration[gte]": 60}) == []
    assert found(**mine, width=481) == []
    first = api.get(f"/tasks/{indexed.tasks[0]}").json()
    assert indexed.tasks[1] in found(**mine, created_at=first["created_at"])
    counts = api.get("/tasks/status", params=mine).json()
    assert counts == {
        "index_id": indexed.index_id, "ready": 3, "validating": 0, "pending": 0, "queued": 0, "indexing": 0,
        "failed": 0, "total_result": 3,
    }  # fmt: skip
    assert problem(api.get("/tasks/status")) == (400, "parameter_not_provided")
    for query in ({"status": "done"}, {"width": "wide"}, {"updated_at": "now"}, {"page_limit": "99"}):
        assert problem(api.get("/tasks", params=query)) == (400, "parameter_invalid")


def test_deleting_tasks(api: API, indexed: IndexedVideos, bin_id: str) -> None:
    assert problem(api.delete(f"/tasks/{indexed.tasks[0]}")) == (400, "task_cannot_be_deleted")
    failed = api.settled(api.upload(bin_id, Path(__file__))["_id"])
    assert api.delete(f"/tasks/{failed['_id']}").status_code == 204
    assert problem(api.get(f"/tasks/{failed['_id']}")) == (404, "resource_not_exists")
    assert problem(api.delete("/tasks/none")) == (400, "parameter_invalid")
    assert problem(api.get(f"/tasks/{NOWHERE}")) == (404, "resource_not_exists")


def test_too_large_a_file(api: API, start_engine: object, tmp_path: Path) -> None:
    engine = start_engine("--max-video-bytes", "50000", "--allow-private")  # type: ignore[operator]
    with API(engine.base_url) as small:
        index_id = small.new_index("small")
        answer = small.form("/tasks", ("index_id", index_id), ("video_file", ("a.mp4", b"x" * 60_000)))
        assert problem(answer) == (400, "video_filesize_too_large")
        assert not list((engine.home / "uploads").iterdir())
        response = refused_while_sending(engine.base_url, index_id, bytes(60_000))
        assert b"video_filesize_too_large" in response


def refused_while_sending(base_url: str, index_id: str, film: bytes) -> bytes:
    """The answer to a client that is still sending when it is refused: it comes when all is sent."""
    parts = (("index_id", "", index_id.encode()), ("video_file", '; filename="a.mp4"', film))
    body = b"".join(
        b'--cut\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n'
        % (name.encode(), more.encode(), value)
        for name, more, value in parts
    )
    host, _, port = base_url.removeprefix("http://").partition("/")[0].partition(":")
    head = f"POST /v1.3/tasks HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body) + 1000}\r\n"
    with socket.create_connection((host, int(port))) as wire:
        wire.sendall(head.encode() + b"Content-Type: multipart/form-data; boundary=cut\r\n\r\n" + body)
        wire.settimeout(0.5)
        with pytest.raises(TimeoutError):
            wire.recv(1)  # answered now and closed, the connection would break under a client that sends
        wire.settimeout(20)
        wire.sendall(bytes(1000))
        answer = HTTPResponse(wire)
        answer.begin()
        return answer.read()


def test_identical_files_are_analysed_once(api: API, film: Path) -> None:
    index_id = api.new_index("twins")
    first = api.settled(api.upload(index_id, film)["_id"])
    begun = time.monotonic()
    second = api.settled(api.upload(index_id, film)["_id"])
    assert time.monotonic() - begun < 5
    paths = [f"/indexes/{index_id}/videos/{task['video_id']}" for task in (first, second)]
    one, other = [api.get(path, params={"embedding_option": "visual"}).json() for path in paths]
    assert one["embedding"] == other["embedding"]
    assert len(one["hls"]["thumbnail_urls"]) == len(other["hls"]["thumbnail_urls"]) > 0
    api.delete(paths[0])
    assert api.get(paths[1], params={"transcription": "true"}).status_code == 200
