"""Hosts that send too slowly, and videos that go on longer than they say, hold nobody else up."""

from __future__ import annotations

import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import Engine
from tests.local.conftest import API
from tests.support import media
from tl_data.local.perception.decode import END_SEC, NotVideo, frames, probe


@pytest.fixture
def dribbling() -> Iterator[str]:
    """The address of a file that comes a byte a second."""
    over = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(4096)
            self.request.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nContent-Length: 9000\r\n\r\n"
            )
            try:
                while not over.wait(1):
                    self.request.sendall(b"x")
            except OSError:
                pass

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/a.mp4"
        over.set()
        server.shutdown()
        thread.join()


def test_uploads_do_not_wait_behind_downloads(
    start_engine: Callable[..., Engine], film: Path, dribbling: str
) -> None:
    with API(start_engine("--allow-private").base_url) as api:
        index_id = api.new_index("slow")
        slow = [
            api.form("/tasks", ("index_id", index_id), ("video_url", f"{dribbling}?{number}")).json()["_id"]
            for number in range(12)
        ]
        task = api.upload(index_id, film)
        assert api.settled(task["_id"])["status"] == "ready"
        assert {api.get(f"/tasks/{task_id}").json()["status"] for task_id in slow} == {"validating"}


def test_a_file_that_repeats_itself_is_not_decoded_for_hours(api: API, tmp_path: Path) -> None:
    path = media.looping(tmp_path)
    assert path.stat().st_size < 150_000
    began = time.process_time()
    with pytest.raises(NotVideo):
        for _ in frames(path, probe(path), []):
            pass
    assert time.process_time() - began < 10
    task = api.settled(api.upload(api.new_index("loop"), path)["_id"])
    assert task["status"] == "failed"
    assert task["error"]["code"] == "video_file_broken"


def test_a_download_ends_despite_a_wrong_length(tmp_path: Path) -> None:
    path = media.write(tmp_path / "long.mkv", times=[0, 14_400, 16_200], audio=None)
    notes: list[str] = []
    began = time.monotonic()
    last = max(seen.time for seen in frames(path, replace(probe(path), duration_sec=16_200.0), notes))
    assert last == END_SEC
    assert len(notes) == 1
    assert time.monotonic() - began < 60
