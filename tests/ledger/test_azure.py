"""The ledger in Azure's blob storage, as far as requests go: a server that takes new names as Azure does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tl_data.object_store import Storage

KEY = "c2VjcmV0"  # any text in base64


class Names(BaseHTTPRequestHandler):
    """Takes a name once when it is asked to create it, as `If-None-Match` says."""

    taken: dict[str, bytes]
    lock = threading.Lock()

    def do_PUT(self) -> None:
        """Put Blob."""
        body = self.rfile.read(int(self.headers["content-length"]))
        with self.lock:
            free = self.path not in self.taken or self.headers.get("if-none-match") != "*"
            if free:
                self.taken[self.path] = body
        self.send_response(201 if free else 409)
        for name, value in {"etag": '"1"', "content-length": "0"}.items():
            self.send_header(name, value)
        if not free:
            self.send_header("x-ms-error-code", "BlobAlreadyExists")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """Names at a server on this machine, which speaks plain HTTP."""
    names: dict[str, bytes] = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Names,), {"taken": names}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", f"http://127.0.0.1:{server.server_port}/account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", KEY)
    yield names
    server.shutdown()
    thread.join()
    server.server_close()


def test_one_of_many_creates_a_name(taken: dict[str, bytes]) -> None:
    async def main() -> list[bool]:
        storage = Storage("az://container/a/b")
        return await asyncio.gather(*(storage.create("x/1", b"%d" % n) for n in range(8)))

    won = asyncio.run(main())
    assert sum(won) == 1
    assert taken == {"/account/container/a/b/x/1": b"%d" % won.index(True)}
