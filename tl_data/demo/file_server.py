"""A small file server on the loopback interface. It serves local files at URLs.

    with FileServer(folder) as server:
        server.url("a video.mp4")      # http://127.0.0.1:53121/a%20video.mp4

It supports GET and HEAD with ranges, ETag, Last-Modified and conditional requests, as object stores do.
"""

from __future__ import annotations

import hashlib
import mimetypes
import socket
import sys
import threading
from collections.abc import Mapping
from email.utils import formatdate, parsedate_to_datetime
from functools import lru_cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self
from urllib.parse import quote, unquote, urlsplit

from tl_data.client.remote import range_of

CHUNK = 1 << 18  # bytes that are read and sent at a time
#: File extension -> content type.
_TYPES = {
    ".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/quicktime", ".mkv": "video/x-matroska",
    ".webm": "video/webm", ".avi": "video/x-msvideo", ".ts": "video/mp2t", ".mpg": "video/mpeg",
}  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    """Handles one connection. The path is the percent-encoded name of a file."""

    protocol_version = "HTTP/1.1"
    server: _Server
    timeout = 60  # seconds until an idle connection is closed

    def do_GET(self) -> None:
        """Answer with the file."""
        self.answer()

    def do_HEAD(self) -> None:
        """Answer with the headers of the file."""
        self.answer()

    def answer(self) -> None:
        """Answer a GET or HEAD request. The two differ only in the body."""
        path = self.server.find(unquote(urlsplit(self.path).path).lstrip("/"))
        if path is None:
            self.text(HTTPStatus.NOT_FOUND, "File not found.\n")
        else:
            self.file(path)

    def file(self, path: Path, headers: Mapping[str, str] | None = None) -> None:
        """Send a file or the requested range. `headers` replace the default headers; "" removes one."""
        with path.open("rb") as file:
            stat = path.stat()
            size, etag = stat.st_size, f'"{_digest(path, stat.st_size, stat.st_mtime_ns)}"'
            content_type = _TYPES.get(path.suffix.lower()) or mimetypes.guess_type(path.name)[0]
            sent = {
                "Content-Type": content_type or "application/octet-stream",
                "Accept-Ranges": "bytes",
                "ETag": etag,
                "Last-Modified": formatdate(stat.st_mtime, usegmt=True),
            } | dict(headers or {})
            if etag in self.headers.get("If-None-Match", ""):
                return self.send(HTTPStatus.NOT_MODIFIED, sent, 0)
            part = self._range(size, etag, stat.st_mtime) if sent["Accept-Ranges"] else None
            if part is None:
                return self.send(HTTPStatus.OK, sent, size, file)
            start, end = part
            if start >= size:
                sent["Content-Range"] = f"bytes */{size}"
                return self.send(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, sent, 0)
            sent["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
            file.seek(start)
            return self.send(HTTPStatus.PARTIAL_CONTENT, sent, end - start, file)

    def text(self, status: HTTPStatus, body: str, kind: str = "text/plain", **headers: str) -> None:
        """Send a short text. `_` in the names of `headers` becomes `-`."""
        sent = {"Content-Type": f"{kind}; charset=utf-8"} | {
            k.replace("_", "-"): v for k, v in headers.items()
        }
        self.send(status, sent, len(body.encode()))
        if self.command != "HEAD":
            self.wfile.write(body.encode())

    def send(
        self, status: HTTPStatus, headers: Mapping[str, str], length: int, file: BinaryIO | None = None
    ) -> None:
        """Send the status, the headers and, unless the request is a HEAD, `length` bytes of `file`."""
        self.send_response(status)
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        if status != HTTPStatus.NOT_MODIFIED:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if file is None or self.command == "HEAD":
            return
        while length > 0 and (chunk := file.read(min(CHUNK, length))):
            self.wfile.write(chunk)
            length -= len(chunk)

    def _range(self, size: int, etag: str, modified: float) -> tuple[int, int] | None:
        """Start and end (exclusive) of the requested range; None for the whole file."""
        requested = range_of(self.headers.get("Range", "").replace(" ", ""), size)
        if requested is None:
            return None
        condition = self.headers.get("If-Range")
        if condition and condition != etag and not _same_date(condition, modified):
            return None
        start, end = requested
        return requested if start < end or start >= size else None

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class has this name
        """Log no requests: they would mix with the output of the demo."""


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # server_close() waits for the threads
    request_queue_size = 128

    def __init__(self, files: Path | Mapping[str, Path], port: int, handler: type[Handler]) -> None:
        self.files = files.resolve() if isinstance(files, Path) else dict(files)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", port), handler)

    def find(self, name: str) -> Path | None:
        """The served file of this name, or None."""
        if isinstance(self.files, dict):
            file = self.files.get(name)
            return file if file and file.is_file() else None
        path = (self.files / name).resolve()
        is_served = path.is_relative_to(self.files) and not any(p.startswith(".") for p in Path(name).parts)
        return path if is_served and path.is_file() else None

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore disconnects of clients; log other errors as usual."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def close_connections(self) -> None:
        """Close the connections that clients keep open."""
        with self._lock:
            for connection in self._open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # the client closed the connection first


class FileServer:
    """Serves a folder, or the files of a mapping from name to path, until it is stopped.

    Args:
        files: a folder, of which hidden files are not served, or a mapping from name to path.
        port: the port; 0 selects a free one.
        handler: the class that answers requests; tests pass their own.
    """

    def __init__(
        self, files: Path | Mapping[str, Path], port: int = 0, handler: type[Handler] = Handler
    ) -> None:
        self._server = _Server(files, port, handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="tl_data file server"
        )

    @property
    def base_url(self) -> str:
        """The URL of the server without a trailing slash."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def url(self, name: str) -> str:
        """The URL of a file by its name; unicode and spaces are percent-encoded."""
        return f"{self.base_url}/{quote(name)}"

    def start(self) -> Self:
        """Start to answer requests."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop listening, close the open connections, and wait until all requests have ended."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.close_connections()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


@lru_cache(maxsize=4096)
def _digest(path: Path, size: int, modified_ns: int) -> str:
    """The ETag: a digest of the content, so that the same video under another URL is recognized.

    `size` and `modified_ns` are part of the cache key.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _same_date(header: str, modified: float) -> bool:
    try:
        return parsedate_to_datetime(header).timestamp() == int(modified)
    except (TypeError, ValueError):
        return False
