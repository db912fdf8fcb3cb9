"""A file server that can also misbehave, asked for in the path: `server.odd("slow", "a.mp4")`."""

from __future__ import annotations

import socket
import threading
import time
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from tl_data.demo.file_server import FileServer, Handler

LOGIN_PAGE = "<!doctype html><title>Sign in</title><form><input type=password name=p></form>"


class OddHandler(Handler):
    """`/-/WAY/NAME` answers for the file NAME in one of the ways below; other paths are files."""

    def answer(self) -> None:
        self.server.requests.append((self.command, self.path))  # type: ignore[attr-defined]
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})  # type: ignore[attr-defined]
        path = unquote(urlsplit(self.path).path)
        if not path.startswith("/-/"):
            return super().answer()
        way, _, name = path.removeprefix("/-/").partition("/")
        if way.isdigit():
            return self.text(HTTPStatus(int(way)), f"Status {way}, as asked.\n")
        if way == "html":
            return self.text(HTTPStatus.OK, LOGIN_PAGE, "text/html")
        if way == "redirect":
            return self.text(HTTPStatus.FOUND, "Found.\n", Location=f"/{quote(name)}")
        if way == "loop":
            return self.text(HTTPStatus.FOUND, "Round and round.\n", Location=self.path)
        if way == "resethead" and self.command == "HEAD":
            self.close_connection = True
            return self.connection.shutdown(socket.SHUT_RDWR)
        if way == "failhead" and self.command == "HEAD":
            return self.text(HTTPStatus.INTERNAL_SERVER_ERROR, "Not that.\n")
        if way == "nohead" and self.command == "HEAD":
            return self.text(HTTPStatus.METHOD_NOT_ALLOWED, "GET only.\n", Allow="GET")
        file = self.server.find(name)
        if file is None:
            return self.text(HTTPStatus.NOT_FOUND, "There is no such file.\n")
        if way == "slow":
            time.sleep(1.0)
        if way == "held" and self.command == "GET":
            self.server.released.wait()  # type: ignore[attr-defined]
        if way == "cut":  # announces all of it, sends half and hangs up
            self.close_connection = True
            return self._cut(file)
        return self.file(file, _HEADERS.get(way, {}))

    def _cut(self, file: Path) -> None:
        data = file.read_bytes()
        self.send(HTTPStatus.OK, {"Content-Type": "video/mp4"}, len(data))
        self.wfile.write(data[: len(data) // 2])


_HEADERS: dict[str, dict[str, str]] = {
    "norange": {"Accept-Ranges": ""},
    "noetag": {"ETag": ""},
    "bare": {"ETag": "", "Last-Modified": "", "Accept-Ranges": ""},
    "weak": {"ETag": 'W/"1a2b-3c"'},
    "octet": {"Content-Type": "application/octet-stream"},
}


class OddServer(FileServer):
    """A `FileServer` that also answers oddly, and remembers what it was asked."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, handler=OddHandler)
        self.folder = folder
        self.requests: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []  # of the same requests, names in lower case
        self._server.requests = self.requests  # type: ignore[attr-defined]
        self._server.headers = self.headers  # type: ignore[attr-defined]
        self.released = threading.Event()
        self._server.released = self.released  # type: ignore[attr-defined]

    def __exit__(self, *said: Any) -> None:
        self.released.set()
        super().__exit__(*said)

    def odd(self, way: str, name: str = "") -> str:
        """The URL of a file answered in an odd way.

        A status number, html, redirect, loop, nohead, resethead, failhead, slow (1 s), held (until
        `released` is set), cut, norange, noetag, weak, bare, octet.
        """
        return f"{self.base_url}/-/{way}/{quote(name)}"
