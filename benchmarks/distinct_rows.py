"""Calls for each distinct row, when equal rows are far apart: DuckDB, and the memory that it takes.

    python benchmarks/distinct_rows.py [--distinct 30000]

`words` holds each distinct text twice, the second time after all others. The server is a process of its own
that answers /embed with a vector of 512 numbers and counts. `rss` is the largest resident size of the client.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import resource
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    import duckdb

VECTOR = [n / 1024 for n in range(512)]


def serve(ports: Any, stop: Any) -> None:
    """The server process."""
    body = json.dumps({"model_name": "marengo3.0", "text_embedding": {"segments": [{"float": VECTOR}]}})
    count = 0

    async def embed(_: web.Request) -> web.Response:
        nonlocal count
        count += 1
        return web.Response(text=body, content_type="application/json")

    async def calls(_: web.Request) -> web.Response:
        return web.json_response(count)

    async def main() -> None:
        app = web.Application()
        app.router.add_post("/v1.3/embed", embed)
        app.router.add_get("/calls", calls)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        ports.put(site._server.sockets[0].getsockname()[1])  # type: ignore[union-attr]
        await asyncio.to_thread(stop.wait)
        await runner.cleanup()

    asyncio.run(main())


@contextmanager
def database(port: int) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database with the functions registered for the server."""
    import duckdb

    import tl_data
    from tl_data.settings import Settings

    with tempfile.TemporaryDirectory() as home, duckdb.connect() as con:
        settings = Settings(
            base_url=f"http://127.0.0.1:{port}/v1.3",
            home=home,
            requests_per_minute=10_000_000,
            concurrency=32,
        )
        tl_data.register(con, settings)
        yield con


@contextmanager
def running() -> Iterator[int]:
    """Start the server; gives its port."""
    ports: Any = multiprocessing.Queue()
    stop = multiprocessing.Event()
    server = multiprocessing.Process(target=serve, args=(ports, stop))
    server.start()
    try:
        yield ports.get()
    finally:
        stop.set()
        server.join(10)


def measure(distinct: int, port: int) -> dict[str, float]:
    """One statement over twice as many rows as there are distinct ones."""
    with database(port) as con:
        con.execute(
            f"CREATE TABLE words AS SELECT 'w ' || (i % {distinct}) AS w FROM range({2 * distinct}) r(i)"
        )
        began = time.perf_counter()
        con.execute("CREATE TABLE out AS SELECT tl_embed_text(w)[1] AS first FROM words")
        seconds = time.perf_counter() - began
    calls = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/calls"))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "rows": 2 * distinct,
        "distinct": distinct,
        "calls": calls,
        "ratio": calls / distinct,
        "seconds": round(seconds, 1),
        "cpu_us_a_row": round((usage.ru_utime + usage.ru_stime) / (2 * distinct) * 1e6),
        "rss_mb": usage.ru_maxrss // 1024,
        "load": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--distinct", type=int, default=30_000)
    options = parser.parse_args()
    with running() as port:
        print(json.dumps(measure(options.distinct, port)))


if __name__ == "__main__":
    main()
