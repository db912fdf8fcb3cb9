"""Many processes, one limited server: how much of the allowed rate is used, and what is refused or lost.

    python benchmarks/limiter.py [--processes 1 4 16] [--seconds 20] [--rate 50]

A real HTTP server in a process of its own allows `rate` calls a second (a token bucket of one fifth of a
second) and refuses the rest with 429 and Retry-After. Independent processes share out the calls and begin
at the same moment. `used` is the ideal time over the time taken; `refused` the share of all requests
answered with 429; `lost` the rows that the way of retrying gave up.

shared    this package, the limit set, one budget through a directory
learning  this package, nothing set: reads the X-Ratelimit headers
blind     this package, nothing set and no headers
backoff   exponential backoff with full jitter, 5 retries
sdk       the way of the official SDK with max_retries=5: Retry-After up to 30 s, otherwise backoff
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import random
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier, Event
from typing import Any

import aiohttp
from aiohttp import web

from tl_data.object_store import Storage
from tl_data.ratelimit.limiter import Limiter
from tl_data.ratelimit.shared import Limit, SharedLimits

WAYS = ("shared", "learning", "blind", "backoff", "sdk")
IN_FLIGHT = 8  # a process
LATENCY = 0.03  # seconds the server takes for a call


class Bucket:
    """Allows `rate` calls a second."""

    def __init__(self, rate: float) -> None:
        self.rate, self.size = rate, max(1.0, rate / 5)
        self.tokens, self.at = self.size, time.monotonic()
        self.served = self.refused = 0
        self.began = self.ended = 0.0

    def take(self) -> bool:
        now = time.monotonic()
        self.tokens = min(self.size, self.tokens + (now - self.at) * self.rate)
        self.at = now
        self.began = self.began or now
        if self.tokens < 1:
            self.refused += 1
            return False
        self.tokens -= 1
        self.served += 1
        self.ended = now
        return True


def serve(rate: float, ports: Any, stop: Event) -> None:
    """The server process."""

    async def main() -> None:
        buckets: dict[str, Bucket] = {}

        async def call(request: web.Request) -> web.Response:
            run = request.match_info["run"]
            bucket = buckets.setdefault(run, Bucket(rate))
            allowed = bucket.take()
            headers = {} if allowed else {"Retry-After": "1"}
            if "learning" in run:
                headers["X-Ratelimit-Request-Limit"] = str(int(bucket.size))
                headers["X-Ratelimit-Request-Remaining"] = str(int(bucket.tokens))
                headers["X-Ratelimit-Request-Reset"] = str(int(time.time()) + 1)
            if not allowed:
                return web.json_response({"code": "too_many_requests"}, status=429, headers=headers)
            await asyncio.sleep(LATENCY)
            return web.json_response({"ok": True}, headers=headers)

        async def result(request: web.Request) -> web.Response:
            bucket = buckets[request.match_info["run"]]
            return web.json_response(
                {"served": bucket.served, "refused": bucket.refused, "seconds": bucket.ended - bucket.began}
            )

        app = web.Application()
        app.add_routes([web.post("/call/{run}", call), web.get("/result/{run}", result)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        ports.put(runner.addresses[0][1])
        await asyncio.to_thread(stop.wait)
        await runner.cleanup()

    asyncio.run(main())


async def ours(session: aiohttp.ClientSession, url: str, limiter: Limiter) -> bool:
    """One row with the limiter: a refusal costs no attempt."""
    while True:
        await limiter.acquire("search")
        async with session.post(url) as answer:
            await answer.read()
            hint = answer.headers.get("Retry-After")
            limiter.observe("search", answer.headers, answer.status, float(hint) if hint else None)
            if answer.status == 200:
                return True
        await asyncio.sleep(float(hint or 1) * random.uniform(1.0, 1.2))


async def backoff(session: aiohttp.ClientSession, url: str, honour: bool) -> bool:
    """One row with a fixed number of retries."""
    for attempt in range(6):
        async with session.post(url) as answer:
            await answer.read()
            if answer.status == 200:
                return True
            hint = float(answer.headers.get("Retry-After", 0))
        if honour and 0 < hint <= 30:
            await asyncio.sleep(hint)
        else:
            await asyncio.sleep(random.uniform(0, min(10.0, 0.5 * 2**attempt)))
    return False


def work(way: str, url: str, rows: int, rate: float, folder: str, start: Barrier, lost: Any) -> None:
    """One client process."""

    async def main() -> None:
        limits = {"requests": Limit(rate, 1.0)} if way == "shared" else {}
        shared = SharedLimits(Storage(folder), url) if way == "shared" else None
        limiter = Limiter(limits, shared=shared)
        left = iter(range(rows))
        failed = 0

        async def lane(session: aiohttp.ClientSession) -> None:
            nonlocal failed
            for _ in left:
                done = (
                    await ours(session, url, limiter)
                    if way in ("shared", "learning", "blind")
                    else await backoff(session, url, way == "sdk")
                )
                failed += not done

        async with aiohttp.ClientSession() as session:
            await asyncio.to_thread(start.wait)
            await asyncio.gather(*(lane(session) for _ in range(IN_FLIGHT)))
        lost.put(failed)

    asyncio.run(main())


@dataclass
class Result:
    """One run."""

    way: str
    processes: int
    used: float
    refused: float
    lost: float
    seconds: float


def run(way: str, processes: int, rows: int, rate: float, port: int) -> Result:
    """Run one way with so many processes."""
    context = multiprocessing.get_context("spawn")
    start, lost = context.Barrier(processes), context.Queue()
    name = f"{way}-{processes}-{time.time_ns()}"
    url = f"http://127.0.0.1:{port}/call/{name}"
    with tempfile.TemporaryDirectory() as folder:
        share = [rows // processes + (n < rows % processes) for n in range(processes)]
        crew = [
            context.Process(target=work, args=(way, url, part, rate, folder, start, lost)) for part in share
        ]
        for process in crew:
            process.start()
        failed = sum(lost.get(timeout=180) for _ in crew)
        for process in crew:
            process.join()
    said = asyncio.run(fetch(f"http://127.0.0.1:{port}/result/{name}"))
    served, refused = said["served"], said["refused"]
    ideal = (served - rate / 5) / rate
    return Result(
        way, processes, ideal / said["seconds"], refused / (served + refused), failed / rows, said["seconds"]
    )


async def fetch(url: str) -> dict[str, float]:
    """A JSON answer."""
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        found: dict[str, float] = await answer.json()
        return found


def measure(ways: list[str], processes: list[int], seconds: float, rate: float) -> list[Result]:
    """All runs, against one server."""
    context = multiprocessing.get_context("spawn")
    ports, stop = context.Queue(), context.Event()
    server = context.Process(target=serve, args=(rate, ports, stop))
    server.start()
    try:
        port = ports.get(timeout=30)
        return [run(way, count, int(seconds * rate), rate, port) for count in processes for way in ways]
    finally:
        stop.set()
        server.join(timeout=10)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--json", action="store_true")
    said = parser.parse_args()
    results = measure(said.ways, said.processes, said.seconds, said.rate)
    if said.json:
        print(json.dumps([vars(r) for r in results], indent=2))
        return
    print(f"{'way':10}{'processes':>10}{'used':>8}{'refused':>10}{'lost':>8}{'seconds':>9}")
    for r in results:
        print(f"{r.way:10}{r.processes:10}{r.used:8.2f}{r.refused:10.1%}{r.lost:8.1%}{r.seconds:9.1f}")


if __name__ == "__main__":
    main()
