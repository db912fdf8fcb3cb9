"""A platform in the small: a real HTTP server that makes tasks, finds them by key, and counts."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class Platform(ThreadingHTTPServer):
    """`made` counts the paid calls by key."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.made: Counter[str] = Counter()
        self.tasks: dict[str, str] = {}
        self.latency = 0.0  # seconds before a task is made
        self.drop = False  # make the task, but close the connection without an answer
        self.asked = threading.Event()  # a paid call has arrived
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Platform

    def do_POST(self) -> None:
        key = urlsplit(self.path).path.strip("/")
        self.server.asked.set()
        time.sleep(self.server.latency)
        with self.server.lock:
            self.server.made[key] += 1
            self.server.tasks[key] = f"task-{key}-{self.server.made[key]}"
        if self.server.drop:
            self.close_connection = True
            self.connection.close()
            return
        self._answer({"id": self.server.tasks[key]})

    def do_GET(self) -> None:
        key = parse_qs(urlsplit(self.path).query)["key"][0]
        self._answer({"id": self.server.tasks.get(key)})

    def _answer(self, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            self.close_connection = True  # the client was killed: that is what the tests do

    def log_message(self, *_: Any) -> None:
        return

    def finish(self) -> None:
        try:
            super().finish()
        except (OSError, ValueError):
            self.close_connection = True


@contextmanager
def platform() -> Iterator[Platform]:
    """A running platform."""
    server = Platform()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
