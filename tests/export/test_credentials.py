"""Passwords of stores come from the environment, so that they are not in the command line."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading

import pyarrow as pa
import pytest

from tests.support.export_lake import needs
from tl_data.export.runner import sink_of
from tl_data.export.sink import Shape, parse_target

pytestmark = pytest.mark.filterwarnings("default")  # those of the stores' clients are theirs
LOGIN = b"Basic " + base64.b64encode(b"me:planted-secret")


@pytest.mark.parametrize(
    ("scheme", "variable", "sent"),
    [
        pytest.param("opensearch", "OPENSEARCH_PASSWORD", LOGIN, marks=needs("opensearchpy", "opensearch")),
        pytest.param(
            "elasticsearch", "ELASTIC_PASSWORD", LOGIN, marks=needs("elasticsearch", "elasticsearch")
        ),
        pytest.param("redis", "REDIS_PASSWORD", b"planted-secret", marks=needs("redis", "redis")),
    ],
)
def test_the_password_of_the_environment_is_sent(
    scheme: str, variable: str, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "planted-secret")
    received: list[bytes] = []

    def answer(server: socket.socket) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = server.accept()
                with connection:
                    received.append(connection.recv(65536))

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer, args=(server,), daemon=True)
        thread.start()
        target = parse_target(f"{scheme}://me@127.0.0.1:{server.getsockname()[1]}?collection=clips")
        store = sink_of(scheme).connect(target)
        try:
            with contextlib.suppress(*store.errors):
                store.ensure(Shape("vectors", pa.schema([]), 3), create=False)
        finally:
            store.close()
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)
    assert sent in b"".join(received)
