"""Where URLs may lead: nowhere inside, by no name, no redirect and no spelling."""

from __future__ import annotations

import asyncio
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.conftest import Engine
from tests.local.conftest import API, problem
from tests.support.odd_server import OddServer
from tl_data.local.tasks.download import connector_of, refuse


@pytest.mark.parametrize(
    ("address", "refused", "refused_even_so"),
    [
        ("8.8.8.8", False, False),
        ("2606:4700::1111", False, False),
        ("127.0.0.1", True, False),
        ("10.1.2.3", True, False),
        ("192.168.1.1", True, False),
        ("100.64.0.1", True, False),
        ("::1", True, False),
        ("fc00::1", True, False),
        ("::ffff:127.0.0.1", True, False),
        ("::127.0.0.1", True, False),
        ("fec0::1", True, False),
        ("64:ff9b:1::7f00:1", True, False),
        ("64:ff9b::7f00:1", True, False),
        ("169.254.169.254", True, True),
        ("169.254.1.1", True, True),
        ("::ffff:169.254.169.254", True, True),
        ("64:ff9b::a9fe:a9fe", True, True),
        ("2002:a9fe:a9fe::1", True, True),
        ("fe80::1%eth0", True, True),
        ("fd00:ec2::254", True, True),
        ("100.100.100.200", True, True),
        ("0.0.0.0", True, True),
        ("224.0.0.1", True, True),
    ],
)
def test_addresses(address: str, refused: bool, refused_even_so: bool) -> None:
    assert (refuse(address, allow_private=False) is not None) == refused
    assert (refuse(address, allow_private=True) is not None) == refused_even_so


@pytest.fixture(scope="module")
def strict(start_engine: Callable[..., Engine]) -> Iterator[API]:
    """An engine whose URLs may lead to public addresses alone, as it is by default."""
    with API(start_engine().base_url) as api:
        yield api


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/a.mp4", "http://[::1]/a.mp4", "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1:8080/a.mp4", "http://[::ffff:10.0.0.1]/a.mp4", "http://0.0.0.0/a.mp4",
        "file:///etc/passwd", "gopher://127.0.0.1/", "//127.0.0.1/a.mp4", "http://user@/a.mp4",
        "data:video/mp4,x", "http://１２７.0.0.1/a.mp4", "http://127。0。0。1/a.mp4", "http://u@①②⑦.0.0.1/",
    ],
)  # fmt: skip
def test_refused_at_once(strict: API, url: str) -> None:
    index_id = strict.get("/indexes").json()["data"]
    index = index_id[0]["_id"] if index_id else strict.new_index("strict")
    answer = strict.form("/tasks", ("index_id", index), ("video_url", url))
    assert problem(answer) == (400, "parameter_invalid")
    assert "video_url" in answer.json()["message"]


@pytest.mark.parametrize("host", ["localhost", "0x7f000001", "2130706433", "127.1"])
def test_refused_by_what_a_name_leads_to(strict: API, files: OddServer, host: str) -> None:
    port = files.base_url.rpartition(":")[2]
    index_id = strict.new_index(f"by name {host}")
    answer = strict.form("/tasks", ("index_id", index_id), ("video_url", f"http://{host}:{port}/a.mp4"))
    task = strict.settled(answer.json()["_id"])
    assert task["error"]["code"] == "video_url_not_accessible"
    assert "not allowed" in task["error"]["message"] or "not a canonical" in task["error"]["message"]
    assert files.requests == []
    image = [("query_media_type", "image"), ("query_media_url", f"http://{host}:{port}/a.jpg")]
    refused = strict.form("/search", ("index_id", index_id), ("search_options", "visual"), *image)
    assert problem(refused) == (400, "parameter_invalid")
    assert files.requests == []


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/", "http://１６９.254.169.254/", "http://[fe80::1]/",
        "file:///etc/passwd", "ftp://host/a",
    ],
)  # fmt: skip
def test_redirects_are_checked_too(api: API, target: str) -> None:
    class Redirect(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", target.encode().decode("latin-1"))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Quiet."""

    with http.server.HTTPServer(("127.0.0.1", 0), Redirect) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/a.mp4"
        answer = api.form("/tasks", ("index_id", api.new_index(f"to {target}")), ("video_url", url))
        task = api.settled(answer.json()["_id"])
        server.shutdown()
    assert task["status"] == "failed"
    assert task["error"]["code"] == "parameter_invalid"


def test_the_address_of_every_connection_is_checked(files: OddServer) -> None:
    """aiohttp asks no resolver for what it takes for an address; its connections are looked at, too."""

    async def ask() -> None:
        async with aiohttp.ClientSession(connector=connector_of(allow_private=False)) as session:
            await session.get(f"{files.base_url}/a.mp4")

    with pytest.raises(aiohttp.ClientConnectorError) as caught:
        asyncio.run(ask())
    assert "127.0.0.1 is a private address" in str(caught.value.os_error)
    assert files.requests == []


def test_files_only_from_the_media_folder(api: API, media_folder: Path, film: Path, tmp_path: Path) -> None:
    index_id = api.new_index("files")
    outside = tmp_path / "outside.mp4"
    outside.write_bytes(film.read_bytes())
    (media_folder / "link.mp4").symlink_to(outside)
    inside = media_folder / "inside ü.mp4"
    inside.write_bytes(film.read_bytes())
    urls = [
        (inside.as_uri(), "ready"), (outside.as_uri(), "failed"),
        ((media_folder / "link.mp4").as_uri(), "failed"),
        (f"{media_folder.as_uri()}/../outside.mp4", "failed"), (media_folder.as_uri(), "failed"),
        ((media_folder / "none.mp4").as_uri(), "failed"),
    ]  # fmt: skip
    for url, status in urls:
        task = api.settled(api.form("/tasks", ("index_id", index_id), ("video_url", url)).json()["_id"])
        assert task["status"] == status, (url, task)
    (media_folder / "link.mp4").unlink()
    inside.unlink()


def test_slow_and_endless_downloads_end(start_engine: Callable[..., Engine]) -> None:
    class Drip(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "video/mp4")
            self.end_headers()
            try:
                while self.path == "/slow" and not stop.wait(0.05):
                    self.wfile.write(b"x")
                while self.path == "/endless" and not stop.is_set():
                    self.wfile.write(b"x" * 65536)
            except OSError:
                pass  # the engine has hung up, as it should

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Quiet."""

    stop = threading.Event()
    engine = start_engine("--allow-private", "--download-seconds", "1", "--max-video-bytes", "1000000")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Drip) as server, API(engine.base_url) as api:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        index_id = api.new_index("drip")
        base = f"http://127.0.0.1:{server.server_port}"
        codes = {}
        for name in ("slow", "endless"):
            answer = api.form("/tasks", ("index_id", index_id), ("video_url", f"{base}/{name}"))
            codes[name] = api.settled(answer.json()["_id"])["error"]["code"]
        stop.set()
        server.shutdown()
        assert codes == {"slow": "video_url_not_accessible", "endless": "video_filesize_too_large"}
        assert not [path for path in (engine.home / "videos").rglob("*") if path.is_file()]
