"""A read of a remote header that is given up leaves nothing pending in its loop."""

from __future__ import annotations

import asyncio
import http.server
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tl_data.media.preflight import facts_of

Run = Callable[..., Any]


@pytest.fixture
def hanging() -> Iterator[str]:
    """The address of a file whose bytes never come."""
    over = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "5000")
            self.send_header("Content-Type", "video/mp4")
            self.send_header("Accept-Ranges", "bytes")
            self.end_headers()

        def do_GET(self) -> None:
            over.wait(20)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/a.mp4"
    over.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_nothing_is_pending_after_a_read_is_given_up(run: Run, hanging: str) -> None:
    async def main(client: Any) -> set[str]:
        reading = asyncio.create_task(facts_of(client, hanging))
        await asyncio.sleep(1)
        assert not reading.done()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await asyncio.sleep(0.1)
        return {repr(task) for task in asyncio.all_tasks() - {asyncio.current_task()}}

    assert run(main) == set()
