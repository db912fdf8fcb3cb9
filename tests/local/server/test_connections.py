"""Connections that send too slowly: the head and the body of a request must arrive in time."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tl_data.local.server.connections import LimitedConnection


class Hasty(LimitedConnection):
    """The engine's connections, with short times."""

    head_seconds = 0.5
    body_seconds = 0.5


async def length(request: Request) -> Response:
    """The number of bytes of the body."""
    return PlainTextResponse(str(len(await request.body())))


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    """The address of a server with such connections."""
    app = Starlette(routes=[Route("/", length, methods=["GET", "POST"])])
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, http=Hasty, log_level="warning", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    host, port = listener.getsockname()
    yield host, port
    server.should_exit = True
    thread.join()
    listener.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST / HTTP/1.1\r\nHost: a\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n12345",
    ],
    ids=["nothing", "head", "no body", "body"],
)
def test_an_incomplete_request_ends(address: tuple[str, int], sent: bytes) -> None:
    with socket.create_connection(address, 20) as connection:
        began = time.monotonic()
        connection.sendall(sent)
        while connection.recv(4096):
            pass
        assert time.monotonic() - began > 0.4


def test_a_slow_body_that_goes_on_is_taken(address: tuple[str, int]) -> None:
    with socket.create_connection(address, 20) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\nConnection: close\r\n\r\n")
        for _ in range(8):
            time.sleep(0.1)
            connection.sendall(b"x")
        answer = b""
        while part := connection.recv(4096):
            answer += part
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"8")
    assert httpx.get("http://{}:{}".format(*address)).text == "0"
