"""A disk that fills up and is freed: requests get a code, tasks wait for room, and health says so."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Engine
from tests.local.conftest import API, problem
from tests.support.odd_server import OddServer
from tl_data.client.local_server import engine
from tl_data.errors import ConnectionFailed

WAIT_SECONDS = 60.0


def mounted(folder: Path, *options: str) -> bool:
    """Mount a file system of a few megabytes, or change its size; False where this user may not."""
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Engine]:
    """An engine whose home has 6 MB of room."""
    home = tmp_path / "home"
    home.mkdir()
    if not mounted(home, "size=6m"):
        pytest.skip("only root may mount a small file system")
    command = [sys.executable, "-m", "tl_data.local", "--home", str(home), "--port", "0", "--allow-private"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        said = home / "engine.json"
        deadline = time.monotonic() + WAIT_SECONDS
        while not said.is_file():
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        state = json.loads(said.read_text())
        yield Engine(state["base_url"], state["pid"], home)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        subprocess.run(["umount", str(home)], check=True)


def test_a_full_disk_stops_nothing_for_good(small: Engine, film: Path) -> None:
    with API(small.base_url) as api:
        index_id = api.new_index("full")
        first = api.upload(index_id, film)
        assert api.settled(first["_id"])["status"] == "ready"
        assert api.engine("GET", "/health").json()["status"] == "ok"

        # One task waits in line; then everything that is free is taken away.
        filler = small.home / "filler"
        waiting = api.upload(index_id, film)
        with filler.open("wb") as file:
            try:
                while True:
                    os.write(file.fileno(), bytes(4096))
            except OSError:
                pass
        refused = api.form(
            "/tasks", ("index_id", index_id), ("video_file", ("a.mp4", film.read_bytes() + bytes(1 << 20)))
        )
        assert problem(refused) == (507, "storage_full")
        codes = set()
        model = {"model_name": "marengo3.0", "model_options": ["visual"]}
        for number in range(500):
            body = {"index_name": f"{number} {'x' * 150}", "models": [model]}
            codes.add(api.post("/indexes", json=body).status_code)
            if 507 in codes:
                break
        assert codes <= {201, 507}, codes
        assert 507 in codes
        health = api.engine("GET", "/health")
        assert health.status_code == 503
        assert health.json()["status"] == "storage_full"
        assert [item["code"] for item in health.json()["problems"]] == ["storage_full"]
        time.sleep(3)  # lanes meet the full disk
        assert api.get(f"/tasks/{waiting['_id']}").json()["status"] != "failed"

        assert mounted(small.home, "remount", "size=64m")
        assert api.settled(waiting["_id"])["status"] == "ready"
        last = api.upload(index_id, film)
        assert api.settled(last["_id"])["status"] == "ready"
        deadline = time.monotonic() + WAIT_SECONDS
        while (answer := api.engine("GET", "/health")).status_code != 200 and time.monotonic() < deadline:
            time.sleep(0.2)
        assert (answer.status_code, answer.json()["problems"]) == (200, [])


def test_an_engine_does_not_start_on_a_full_disk(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    if not mounted(home, "size=1m"):
        pytest.skip("only root may mount a small file system")
    try:
        (home / "filler").write_bytes(bytes((1 << 20) - 8192))
        command = [sys.executable, "-m", "tl_data.local", "--home", str(home / "engine"), "--port", "0"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=WAIT_SECONDS)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert str(home / "engine") in done.stderr
        with pytest.raises(ConnectionFailed) as failed:
            engine(home / "started")
        assert str(home / "started") in str(failed.value)
    finally:
        subprocess.run(["umount", str(home)], check=True)


def test_a_download_larger_than_the_disk_waits_for_room(small: Engine, film: Path, files: OddServer) -> None:
    """The part that arrived is removed, so there seems to be room; the task waits all the same."""
    media = files.folder / "large.mp4"
    media.write_bytes(film.read_bytes() + (20 << 20).to_bytes(4, "big") + b"free" + bytes((20 << 20) - 8))
    with API(small.base_url) as api:
        index_id = api.new_index("large")
        refused = api.form("/tasks", ("index_id", index_id), ("video_file", ("a.mp4", media.read_bytes())))
        assert problem(refused) == (507, "storage_full")
        assert list((small.home / "uploads").iterdir()) == []
        task = api.form("/tasks", ("index_id", index_id), ("video_url", files.url("large.mp4"))).json()
        deadline = time.monotonic() + WAIT_SECONDS
        while (answer := api.engine("GET", "/health")).status_code == 200 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert [item["code"] for item in answer.json()["problems"]] == ["storage_full"]
        assert api.get(f"/tasks/{task['_id']}").json()["status"] == "validating"
        assert mounted(small.home, "remount", "size=64m")
        assert api.settled(task["_id"])["status"] == "ready"
