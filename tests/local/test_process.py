"""The process: starts fast, keeps its door, ends when asked or unused, and loses nothing when killed."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.local.conftest import API, problem

Start = Callable[..., "Process"]


class Process:
    """An engine of its own over a folder that outlives it."""

    def __init__(self, home: Path, *options: str) -> None:
        self.home = home
        home.mkdir(exist_ok=True)
        (home / "engine.json").unlink(missing_ok=True)
        command = [sys.executable, "-m", "tl_data.local", "--home", str(home), "--port", "0", *options]
        begun = time.monotonic()
        with (home / "log").open("ab") as log:
            self.popen = subprocess.Popen(command, stdout=log, stderr=log)
        while not (home / "engine.json").exists():
            assert self.popen.poll() is None, (home / "log").read_text()
            assert time.monotonic() - begun < 30
            time.sleep(0.01)
        self.seconds = time.monotonic() - begun
        self.base_url = json.loads((home / "engine.json").read_text())["base_url"]

    def kill(self) -> None:
        """As the kernel does when memory runs out."""
        self.popen.kill()
        self.popen.wait()

    def end(self) -> int:
        """SIGTERM; the exit code."""
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(15)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start engines over one folder, one after the other."""
    running: list[Process] = []

    def begin(*options: str) -> Process:
        running.append(Process(tmp_path / "home", *options))
        return running[-1]

    yield begin
    for process in running:
        process.kill()


def test_the_engine_starts_fast_and_stops_on_request(start: Start) -> None:
    process = start()
    assert process.seconds < 5  # under 1 s on an idle machine
    assert process.end() == 0
    assert not (process.home / "engine.json").exists()
    said = (process.home / "log").read_text().splitlines()
    assert said == [f"tl_data engine: {process.base_url}"]


def test_killed_at_any_moment_everything_is_done_once_in_the_end(start: Start, film: Path) -> None:
    process = start("--workers", "1")
    with API(process.base_url) as api:
        index_id = api.new_index("survivor")
        tasks = [api.upload(index_id, film, user_metadata=f'{{"n": {n}}}') for n in range(6)]
        embed = api.form(
            "/embed/tasks", ("model_name", "marengo3.0"), ("video_file", ("a.mp4", film.read_bytes()))
        )
    for wait, kindly in ((0.2, False), (2.5, True), (6.0, False)):
        time.sleep(wait)
        if kindly:
            assert process.end() == 0
        else:
            process.kill()
        process = start("--workers", "1")
        with API(process.base_url) as api:
            ready = {
                task["video_id"] for task in api.get("/tasks", params={"status": "ready"}).json()["data"]
            }
            listed = {video["_id"] for video in api.get(f"/indexes/{index_id}/videos").json()["data"]}
            assert ready == listed
            for video_id in listed:  # what is listed is whole
                path = f"/indexes/{index_id}/videos/{video_id}"
                assert api.get(path, params={"embedding_option": "visual"}).json()["embedding"]
    with API(process.base_url) as api:
        assert {api.settled(task["_id"])["status"] for task in tasks} == {"ready"}
        assert api.settled(embed.json()["_id"], "/embed/tasks")["status"] == "ready"
        videos = api.get(f"/indexes/{index_id}/videos").json()
        assert videos["page_info"]["total_results"] == 6
        stats = api.engine("GET", "/stats").json()
        assert stats["tasks_created"] == 6
        assert stats["tasks_created_by_index"] == {index_id: 6}
        assert stats["video_minutes_indexed"] == pytest.approx(0.5, abs=0.05)
        found = api.form(
            "/search", ("index_id", index_id), ("search_options", "visual"), ("query_text", "Blue ship")
        )
        assert len({hit["video_id"] for hit in found.json()["data"]}) == 6


def test_hundreds_wait_and_few_are_worked_on(start: Start) -> None:
    process = start("--workers", "2", "--allow-private")
    with API(process.base_url) as api:
        index_id = api.new_index("many")
        stuck = {"kind": "stuck", "route": "/tasks", "method": "POST", "state": "validating"}
        api.engine("PUT", "/faults", json={"fault": [stuck]})
        for _ in range(300):
            api.form("/tasks", ("index_id", index_id), ("video_url", "http://127.0.0.1:9/a.mp4"))
        api.engine("DELETE", "/faults")
        answer = api.form("/tasks", ("index_id", index_id), ("video_url", "http://127.0.0.1:9/a.mp4"))
        assert api.settled(answer.json()["_id"])["status"] == "failed"
        page = api.get("/tasks", params={"status": "validating", "page_limit": 50, "page": 6}).json()
        assert (len(page["data"]), page["page_info"]["total_results"]) == (50, 300)
        assert api.delete(f"/indexes/{index_id}").status_code == 204
        assert api.get("/tasks").json()["data"] == []


def test_the_engine_stops_without_a_lease(start: Start, tmp_path: Path) -> None:
    lease = tmp_path / "users.lock"
    with lease.open("a+") as user:
        fcntl.flock(user, fcntl.LOCK_SH)
        process = start("--lease", str(lease))
        time.sleep(13)
        assert process.popen.poll() is None
    found = True
    while found:  # users who come and go: whoever holds the lock and finds the engine gets an answer
        time.sleep(0.15)
        with lease.open("a+") as user:
            fcntl.flock(user, fcntl.LOCK_SH)
            if found := (process.home / "engine.json").exists():
                assert httpx.get(f"{process.base_url}/indexes").status_code == 200
    assert process.popen.wait(10) == 0
    assert not (process.home / "engine.json").exists()


def test_a_key_is_demanded_when_there_is_one(start: Start) -> None:
    process = start("--api-key", "tlk_right")
    for headers in ({}, {"x-api-key": "tlk_wrong"}, {"x-api-key": ""}, {"x-api-key": "ü".encode("latin-1")}):
        answer = httpx.get(f"{process.base_url}/indexes", headers=headers)
        assert problem(answer) == (401, "api_key_invalid")
        assert answer.headers["x-api-version"] == "1.3"
    root = process.base_url.removesuffix("/v1.3")
    assert httpx.get(f"{root}/_engine/stats").status_code == 401
    assert httpx.get(f"{process.base_url}/indexes", headers={"x-api-key": "tlk_right"}).status_code == 200
    assert "tlk_right" not in (process.home / "log").read_text()


def test_pages_of_other_sites_are_refused_without_a_key(api: API) -> None:
    """A page may send forms to loopback, and its site's name may be made to lead there."""
    port = api.root.rpartition(":")[2]
    for host in (
        "evil.example",
        f"evil.example:{port}",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "[:1",
    ):
        assert problem(api.get("/indexes", headers={"host": host})) == (403, "host_not_allowed")
        assert api.engine("GET", "/stats", headers={"host": host}).status_code == 403
    for host in (
        "tl.localhost",
        "192.168.1.2:8000",
        f"0.0.0.0:{port}",
        "evil@localhost",
        "localhost#evil.example",
        "",
    ):
        assert problem(api.get("/indexes", headers={"host": host})) == (403, "host_not_allowed"), host
    for host in (f"localhost:{port}", f"[::1]:{port}", "127.0.0.1", f"127.0.0.1:{port}"):
        assert api.get("/indexes", headers={"host": host}).status_code == 200
    across = api.form("/tasks", ("index_id", "x"), headers={"sec-fetch-site": "cross-site"})
    assert problem(across) == (403, "host_not_allowed")
    same = {"sec-fetch-site": "same-origin", "origin": f"http://127.0.0.1:{port}"}
    assert api.get("/indexes", headers=same).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:3000"},
        {"origin": "http://localhost:3000", "sec-fetch-site": "same-site"},
        {"origin": "https://evil.example", "host": "0.0.0.0"},
        {"sec-fetch-site": "cross-site"},
    ],
)
def test_a_page_of_another_origin_changes_nothing(api: API, headers: dict[str, str]) -> None:
    """What a browser sends without asking first: forms, untyped bodies, and requests without a body."""
    before = api.get("/indexes").json()["page_info"]["total_results"]
    body = b'{"index_name": "forged", "models": [{"model_name": "marengo3.0", "model_options": ["visual"]}]}'
    assert problem(api.post("/indexes", content=body, headers=headers)) == (403, "host_not_allowed")
    form = api.form("/tasks", ("index_id", "0" * 24), ("video_url", "file:///etc/passwd"), headers=headers)
    assert problem(form) == (403, "host_not_allowed")
    assert problem(api.engine("POST", "/reindex", headers=headers)) == (403, "host_not_allowed")
    assert api.get("/indexes").json()["page_info"]["total_results"] == before


def test_json_needs_its_content_type(api: API) -> None:
    body = b'{"index_name": "untyped", "models": [{"model_name": "marengo3.0", "model_options": ["visual"]}]}'
    assert problem(api.post("/indexes", content=body)) == (400, "content_type_invalid")
    untyped = {"content-type": "text/plain"}
    assert problem(api.post("/indexes", content=body, headers=untyped)) == (400, "content_type_invalid")


@pytest.mark.parametrize(("options", "key"), [(["--api-key", ""], None), ([], ""), ([], "  ")])
def test_an_empty_key_is_an_error(tmp_path: Path, options: list[str], key: str | None) -> None:
    command = [sys.executable, "-m", "tl_data.local", "--home", str(tmp_path), "--port", "0", *options]
    environment = os.environ | ({} if key is None else {"TL_ENGINE_API_KEY": key})
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 2
    assert "TL_ENGINE_API_KEY" in ended.stderr


def test_an_engine_waits_for_the_one_that_is_ending(tmp_path: Path) -> None:
    """The lock is held without the file that says where the engine is: it ends, and lets go in a moment."""
    command = [sys.executable, "-m", "tl_data.local", "--home", str(tmp_path), "--port", "0"]
    with (tmp_path / "engine.lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(3)
            assert process.poll() is None
            assert not (tmp_path / "engine.json").exists()
            fcntl.flock(lock, fcntl.LOCK_UN)
            deadline = time.monotonic() + 30
            while not (tmp_path / "engine.json").exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            assert (tmp_path / "engine.json").exists()
        finally:
            process.terminate()
            assert process.wait(20) == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "0.0.0.0"], "--api-key"),
        (["--media", "/no/such/folder"], "not a folder"),
        (["--workers", "0"], "--workers"),
        (["--plan", "gold"], "--plan"),
        (["--faults", "/no/such/file"], "/no/such/file"),
    ],
)
def test_options_that_make_no_sense(tmp_path: Path, options: list[str], words: str) -> None:
    command = [sys.executable, "-m", "tl_data.local", "--home", str(tmp_path), "--port", "0", *options]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 2
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


def test_one_engine_a_folder(start: Start) -> None:
    process = start()
    command = [sys.executable, "-m", "tl_data.local", "--home", str(process.home), "--port", "0"]
    second = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode == 2
    assert "another engine" in second.stderr
    assert process.popen.poll() is None


def test_counts(api: API) -> None:
    api.engine("DELETE", "/stats")
    api.get("/indexes")
    api.get("/indexes/short")
    api.get("/nowhere")
    requests = api.engine("GET", "/stats").json()["requests"]
    assert requests == {
        "GET /indexes": {"200": 1}, "GET /indexes/{index_id}": {"400": 1}, "GET unknown": {"404": 1},
    }  # fmt: skip
