"""What all tests share: a clean environment, real files over HTTP, the demo's videos, the embedded engine."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.films import with_label
from tests.support import media
from tests.support.environments import alone, python_with
from tests.support.library import Library, make_library
from tests.support.odd_server import OddServer
from tl_data.demo.file_server import FileServer
from tl_data.demo.videos import DemoVideo, demo_videos
from tl_data.local.perception.pictures import decoder

ROOT = Path(__file__).parent.parent


#: What takes longest begins first, so that no process ends minutes after the others.
LONGEST = (
    "tests/spark/",
    "tests/jobs/test_schedulers.py",
    "tests/demo/",
    "tests/jobs/test_dbt.py",
    "tests/pipeline/test_requests.py",
    "tests/sdk/test_stories.py",
    "tests/pipeline/test_reconcile.py",
    "tests/pipeline/test_interrupt.py",
    "tests/pipeline/test_accounts.py",
    "tests/pipeline/test_guardrails.py",
    "tests/pipeline/test_pipeline.py",
    "tests/client/test_local_server.py",
    "tests/local/perception/",
    "tests/profiles/test_readme.py",
    "tests/local/tasks/",
    "tests/functions/",
    "tests/pipeline/",
    "tests/jobs/",
    "tests/local/test_process.py",
    "tests/ledger/test_processes.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        return next((n for n, start in enumerate(LONGEST) if item.nodeid.startswith(start)), len(LONGEST))

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Several processes run the tests (`make test`): a file goes to one of them, and so does all of Spark.

    What is made once for many tests (a server, a session of Spark, the demo) is made once a process.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Places(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return next((place for place in ("tests/spark/", "tests/demo/") if file.startswith(place)), file)

    return Places(config, log)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No setting of the machine reaches a test, and no test writes into the user's data folder."""
    for name in [name for name in os.environ if name.startswith("TL_")]:
        if name != "TL_API_KEY" or not os.environ.get("TL_LIVE"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TL_HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="session", autouse=True)
def _nothing_left_running() -> Iterator[None]:
    """Engines that tests started have ended when the tests have; the last user's going ends an engine."""
    before = set(_own_processes())
    yield
    decoder.close()  # of pictures that this process analysed without an engine
    deadline = time.monotonic() + 40
    while (left := set(_own_processes()) - before) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left, f"still running: {[_command(pid) for pid in left]}"


@pytest.fixture
def files(tmp_path: Path) -> Iterator[OddServer]:
    """A file server over `files.folder`; `files.url(name)`, and `files.odd(way, name)` for odd answers."""
    folder = tmp_path / "files"
    folder.mkdir()
    with OddServer(folder) as server:
        yield server


@pytest.fixture(scope="session")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A silent video of four seconds: the least that the API takes."""
    folder = tmp_path_factory.mktemp("quick")
    return media.write(
        folder / "quick.mp4",
        seconds=4,
        width=360,
        height=360,
        fps=5,
        audio=None,
        muxer={"movflags": "faststart"},
    )


@pytest.fixture
def put(files: OddServer, quick: Path) -> Callable[..., str]:
    """Make a distinct video of the name and give its URL; with `again=1` the file is another one."""

    def put_(name: str, again: int = 0) -> str:
        path = files.folder / name
        path.write_bytes(with_label(quick.read_bytes(), f"{name}{again}"))
        return files.url(name)

    return put_


@pytest.fixture(scope="session")
def videos(pytestconfig: pytest.Config) -> list[DemoVideo]:
    """The demo's videos; made once, and again when the code that makes them has changed."""
    code = b"".join(path.read_bytes() for path in sorted((ROOT / "tl_data" / "demo").glob("*.py")))
    digest = hashlib.sha256(code).hexdigest()[:12]
    folder = pytestconfig.cache.mkdir(f"videos-{digest}")
    with alone(folder):
        return demo_videos(folder)


@pytest.fixture(scope="session")
def video_server(videos: list[DemoVideo]) -> Iterator[FileServer]:
    """The demo's videos over HTTP: `video_server.url(videos[0].path.name)`."""
    with FileServer(videos[0].path.parent) as server:
        yield server


@dataclass(frozen=True)
class Engine:
    """A running embedded engine."""

    base_url: str
    pid: int
    home: Path


@contextlib.contextmanager
def _engines(new_folder: Callable[[], Path]) -> Iterator[Callable[..., Engine]]:
    """Give a function that starts engines with options; at the end each must end by itself when asked to."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*options: str) -> Engine:
        home = new_folder()
        # One worker: loading the models takes seconds of CPU, and the tests' videos are short.
        command = [sys.executable, "-m", "tl_data.local", "--home", str(home), "--port", "0"]
        command += ["--workers", "1", *options]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TL_")}
        log = home / "test.log"
        with log.open("wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=out, env=environment, cwd=home)
        running.append(process)
        published = home / "engine.json"
        deadline = time.monotonic() + 60
        while not published.is_file():
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the engine did not start:\n{log.read_text()}")
            time.sleep(0.05)
        state = json.loads(published.read_text())
        return Engine(state["base_url"], state["pid"], home)

    yield start
    for process in running:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    late = []
    for process in running:
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            late.append(process.args)
    assert not late, f"did not end when asked to: {late}"


@pytest.fixture(scope="module")
def start_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Engine]]:
    """Start an engine for the tests of one module: `start_engine("--profile", "today")`.

    It ends with the module: an engine that has analyzed a video holds hundreds of megabytes.
    """
    with _engines(lambda: tmp_path_factory.mktemp("engine")) as start:
        yield start


@pytest.fixture(scope="session")
def start_shared_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Engine]]:
    """Start an engine that all tests share until the last has run."""
    with _engines(lambda: tmp_path_factory.mktemp("engine")) as start:
        yield start


@pytest.fixture(scope="session")
def s3_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log of that server: its requests, one a line."""
    return tmp_path_factory.mktemp("moto") / "log"


@pytest.fixture(scope="session")
def s3_endpoint(s3_log: Path) -> Iterator[str]:
    """The address of an S3-compatible server, in an environment of its own; shared."""
    python = python_with("moto-5.2", "moto[s3]==5.2.5", "flask==3.1.3", "flask-cors==6.0.5")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with s3_log.open("wb") as out:
        script = ROOT / "tests" / "support" / "s3_server.py"
        pages = os.environ | {"MOTO_S3_DEFAULT_MAX_KEYS": "20"}  # small pages of listings
        server = subprocess.Popen([str(python), str(script), str(port)], stdout=out, stderr=out, env=pages)
    try:
        for _ in range(300):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            assert server.poll() is None, s3_log.read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=30)


@pytest.fixture(scope="session")
def library(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """Two short videos, indexed, for tests of what stands on an index."""
    folder = tmp_path_factory.mktemp("library")
    with FileServer(folder) as server:
        yield make_library(folder, server.url, engine.base_url)


@pytest.fixture(scope="session")
def today(start_shared_engine: Callable[..., Engine]) -> Engine:
    """An engine that answers and refuses as the service of today; shared."""
    return start_shared_engine("--allow-private", "--profile", "today")


@pytest.fixture(scope="session")
def account_2025(start_shared_engine: Callable[..., Engine]) -> Engine:
    """An engine that answers and refuses as an account of 2025; shared."""
    return start_shared_engine("--allow-private", "--profile", "2025")


@pytest.fixture(scope="session")
def engine(start_shared_engine: Callable[..., Engine]) -> Engine:
    """The embedded engine that tests share."""
    return start_shared_engine("--allow-private")


def _own_processes() -> Iterator[int]:
    """Processes of this package that this process started, directly or not."""
    parents = dict(_parents())
    for pid in parents:
        above = pid
        while (above := parents.get(above, 0)) > 1:
            if above == os.getpid() and "tl_data" in _command(pid):
                yield pid


def _parents() -> Iterator[tuple[int, int]]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # The name, in brackets, may hold anything; state and parent follow the last bracket.
            yield int(folder.name), int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended meanwhile


def _command(pid: int) -> str:
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""
