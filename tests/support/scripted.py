"""A real HTTP server with scripted responses, down to the last byte of a broken one."""

from __future__ import annotations

import email
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

KEY = "tlk_PLANTED0KEY0OF0THE0TESTS"

Answer = bytes | Callable[[socket.socket], None]


class Closed(OSError):
    """The connection is to be closed now."""


@dataclass
class Request:
    """One request as it came over the wire."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> list[tuple[str, str]]:
        return parse_qsl(urlsplit(self.target).query, keep_blank_values=True)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def parts(self) -> list[tuple[str, str | None, bytes]]:
        """Name, file name and content of each part of a form."""
        head = f"Content-Type: {self.headers['content-type']}\r\n\r\n".encode()
        found = []
        for part in email.message_from_bytes(head + self.body).get_payload():
            name = part.get_param("name", header="content-disposition")
            found.append((name, part.get_filename(), part.get_payload(decode=True)))
        return found

    @property
    def fields(self) -> list[tuple[str, str]]:
        return [(name, content.decode()) for name, filename, content in self.parts if filename is None]


def say(status: int = 200, body: Any = b"", **headers: str) -> bytes:
    """A complete answer; a dict or list is sent as JSON, a text as a web page."""
    kind = "application/octet-stream"
    if isinstance(body, dict | list):
        body, kind = json.dumps(body).encode(), "application/json; charset=UTF-8"
    elif isinstance(body, str):
        body, kind = body.encode(), "text/html"
    named = {"content-type": kind, "content-length": str(len(body))}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items() if value)
    return f"HTTP/1.1 {status} Said\r\n{lines}\r\n".encode() + body


def reset(connection: socket.socket) -> None:
    """Break the connection with a TCP reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise Closed


def cut(answer: bytes, at: int) -> Callable[[socket.socket], None]:
    """Send the first bytes of an answer and close."""

    def send(connection: socket.socket) -> None:
        connection.sendall(answer[:at])
        raise Closed

    return send


def late(answer: bytes, seconds: float, first: int = 0) -> Callable[[socket.socket], None]:
    """Send an answer after a while; `first` bytes of it at once."""

    def send(connection: socket.socket) -> None:
        connection.sendall(answer[:first])
        time.sleep(seconds)
        connection.sendall(answer[first:])

    return send


def too_many(code: str = "too_many_requests", message: str = "Too many requests.", **headers: str) -> bytes:
    return say(429, {"code": code, "message": message}, **headers)


@dataclass
class Server:
    """Answers each route with its responses in turn; the last one is repeated."""

    listener: socket.socket
    requests: list[Request] = field(default_factory=list)
    routes: dict[str, list[Answer]] = field(default_factory=dict)
    connections: int = 0
    _open: list[socket.socket] = field(default_factory=list)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    @property
    def url(self) -> str:
        return f"{self.origin}/v1.3"

    def tell(self, route: str, *answers: Answer) -> None:
        """`route` is 'GET /path' without the version."""
        self.routes[route] = list(answers)

    def asked(self, route: str) -> list[Request]:
        return [r for r in self.requests if f"{r.method} {r.path.removeprefix('/v1.3')}" == route]

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def close(self) -> None:
        # shutdown wakes the accepting thread, which close alone does not
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in self._open:
            connection.close()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as reader:
                while request := _read(reader):
                    self.requests.append(request)
                    route = f"{request.method} {request.path.removeprefix('/v1.3')}"
                    responses = self.routes.get(route) or [say(404, {"code": "endpoint_not_exists"})]
                    answer = responses.pop(0) if len(responses) > 1 else responses[0]
                    if isinstance(answer, bytes):
                        if request.method == "HEAD":
                            answer = answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
                        connection.sendall(answer)
                    else:
                        answer(connection)
        except OSError:
            return  # the client went away, or the answer was to break off


def _read(reader: Any) -> Request | None:
    line = reader.readline().decode().split()
    if not line:
        return None
    headers = {}
    while name := reader.readline().decode("latin-1").strip():
        key, _, value = name.partition(":")
        headers[key.lower()] = value.strip()
    body = reader.read(int(headers.get("content-length", 0)))
    return Request(line[0], line[1], headers, body, time.monotonic())


@contextmanager
def scripted_server() -> Iterator[Server]:
    """A server that answers in a thread of its own until the block ends."""
    server = Server(socket.create_server(("127.0.0.1", 0), backlog=1024))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()
