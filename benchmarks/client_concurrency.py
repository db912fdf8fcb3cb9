"""How well the client hides latency: 2,000 calls to a server that takes 200 ms for each.

    python benchmarks/client_concurrency.py [--calls 2000] [--latency 0.2] [--peers] [--json FILE]

Ideal is calls x latency / in flight. `--peers` measures httpx with its own connection pool beside it, in the
same run: slow above 64 in flight, which is why the client uses httpx on another transport. The server is a
process of its own, so that it takes no time from the client's event loop.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import resource
import statistics
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from pathlib import Path

import httpx

from tl_data.client import Client
from tl_data.settings import Settings

BODY = b'{"_id":"6628a4f1d2b3c4e5f6a7b8c9","data":[],"page_info":{}}'
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (
    len(BODY),
    BODY,
)

Call = Callable[[int], Awaitable[object]]


class Slow(asyncio.Protocol):
    """Answers every request after a while; as little of HTTP as that takes."""

    def __init__(self, latency: float) -> None:
        self._latency = latency
        self._unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._unread += data
        while b"\r\n\r\n" in self._unread:
            head, _, rest = self._unread.partition(b"\r\n\r\n")
            lengths = [
                line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
            ]
            length = int(lengths[0]) if lengths else 0
            if len(rest) < length:
                return
            self._unread = rest[length:]
            asyncio.get_running_loop().call_later(self._latency, self._answer)

    def _answer(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(ANSWER)


def serve(latency: float, pipe: Connection) -> None:
    """Run the server until the process is ended."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Slow(latency), "127.0.0.1", 0, backlog=1024)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


async def timed(call: Call, calls: int, in_flight: int) -> tuple[float, float]:
    """Seconds by the clock and seconds of CPU for so many calls, so many at once."""
    numbers = iter(range(calls))

    async def work() -> None:
        for number in numbers:
            await call(number)

    cpu = resource.getrusage(resource.RUSAGE_SELF)
    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(in_flight)))
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF)
    return wall, after.ru_utime + after.ru_stime - cpu.ru_utime - cpu.ru_stime


async def measure(url: str, way: str, calls: int, in_flight: int) -> tuple[float, float]:
    """One measurement, with connections of its own."""
    if way == "httpx, its own pool":
        limits = httpx.Limits(max_connections=1024, max_keepalive_connections=1024)
        async with httpx.AsyncClient(limits=limits, timeout=600) as plain:
            return await timed(lambda _: plain.get(f"{url}/indexes/x"), calls, in_flight)
    async with Client(Settings(api_key="tlk_benchmark"), base_url=url) as client:
        if way == "search (forms)":

            async def search(_: int) -> object:
                return [hit async for hit in client.search("x", ["visual"], query_text="a red car")]

            return await timed(search, calls, in_flight)
        return await timed(lambda _: client.retrieve_index("x"), calls, in_flight)


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--calls", type=int, default=2000)
    options.add_argument("--latency", type=float, default=0.2, help="seconds")
    options.add_argument("--in-flight", type=int, nargs="*", default=[128, 512])
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--peers", action="store_true")
    options.add_argument("--json", type=Path)
    asked = options.parse_args()

    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(
        target=serve, args=(asked.latency, theirs), daemon=True
    )
    server.start()
    url = f"http://127.0.0.1:{ours.recv()}/v1.3"
    rows = []
    try:
        ways = ["retrieve_index", "search (forms)", *(["httpx, its own pool"] if asked.peers else [])]
        print(f"{'':22} {'in flight':>9} {'ideal s':>8} {'s':>7} {'of ideal':>8} {'CPU us/call':>11}")
        for way in ways:
            for in_flight in asked.in_flight:
                runs = 1 if way not in ways[:2] else asked.runs
                results = [asyncio.run(measure(url, way, asked.calls, in_flight)) for _ in range(runs)]
                wall, cpu = (statistics.median(column) for column in zip(*results, strict=True))
                ideal = asked.calls * asked.latency / in_flight
                row = {"way": way, "in_flight": in_flight, "ideal_sec": ideal, "sec": wall}
                rows.append(row | {"cpu_us_per_call": cpu / asked.calls * 1e6})
                print(
                    f"{way:22} {in_flight:9} {ideal:8.2f} {wall:7.2f} {wall / ideal:8.2f}"
                    f" {cpu / asked.calls * 1e6:11.0f}"
                )
    finally:
        server.terminate()
        server.join()
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
