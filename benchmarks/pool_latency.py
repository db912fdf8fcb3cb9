"""One continuous pool beside the usual ways, under the latency of a remote API.

    python benchmarks/pool_latency.py [--calls 2000] [--places 64] [--seeds 3]

Each call takes a log-normal time (median 50 ms, 99th percentile ten times that). The time of each method is
divided by two bounds. "ideal" is the sum of all latencies divided by the number of slots; it cannot be
reached, because the last calls do not fill all slots. "greedy" starts the same calls as soon as a slot is
free, at no cost of its own. The methods:

pool     this package: a window of rows over the slots
known    this package, with the length of each call
roughly  this package, with each length times a random factor (in one of three above e or below 1/e)
drain    a pool that is emptied after every batch of 256 rows
ordered  a window of as many rows as slots, which moves when its oldest row is done
waves    one call per slot concurrently, then the next ones (`gather`)
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import math
import random
import statistics
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable

from tl_data.runtime.pool import Pool
from tl_data.runtime.result_cache import Outcome

Run = Callable[[int], Awaitable[int]]
Way = Callable[[Run, list[float], int], Awaitable[list[int]]]  # the latencies of the calls, places


async def pool(run: Run, waits: list[float], places: int) -> list[int]:
    """This package."""
    return await _values(Pool(places).chunks(run, range(len(waits)), most=1))


async def known(run: Run, waits: list[float], places: int) -> list[int]:
    """This package, with the lengths."""
    rows = range(len(waits))
    return await _values(Pool(places).chunks(run, rows, most=1, length=waits.__getitem__))


async def _values(chunks: AsyncIterator[list[Outcome]]) -> list[int]:
    return [outcome.value async for outcomes in chunks for outcome in outcomes]


async def roughly(run: Run, waits: list[float], places: int) -> list[int]:
    """This package, with guesses of the lengths."""
    rnd = random.Random(len(waits))
    return await known(run, [wait * rnd.lognormvariate(0, 1) for wait in waits], places)


async def drain(run: Run, waits: list[float], places: int) -> list[int]:
    """Emptied after every batch."""
    found: list[int] = []
    gate = asyncio.Semaphore(places)

    async def one(row: int) -> int:
        async with gate:
            return await run(row)

    for start in range(0, len(waits), 256):
        found += await asyncio.gather(*(one(row) for row in range(start, min(start + 256, len(waits)))))
    return found


async def ordered(run: Run, waits: list[float], places: int) -> list[int]:
    """A sliding window that waits for its oldest row."""
    found: list[int] = []
    window: deque[asyncio.Task[int]] = deque()

    async def one(row: int) -> int:
        return await run(row)

    for row in range(len(waits)):
        if len(window) == places:
            found.append(await window.popleft())
        window.append(asyncio.create_task(one(row)))
    return found + [await task for task in window]


async def waves(run: Run, waits: list[float], places: int) -> list[int]:
    """As many as fit, then the next."""
    found: list[int] = []
    for start in range(0, len(waits), places):
        found += await asyncio.gather(*(run(row) for row in range(start, min(start + places, len(waits)))))
    return found


WAYS: dict[str, Way] = {
    "pool": pool,
    "known": known,
    "roughly": roughly,
    "drain": drain,
    "ordered": ordered,
    "waves": waves,
}


def latencies(seed: int, calls: int) -> list[float]:
    """Seconds each call takes."""
    rnd = random.Random(seed)
    sigma = math.log(10) / statistics.NormalDist().inv_cdf(0.99)
    return [rnd.lognormvariate(math.log(0.05), sigma) for _ in range(calls)]


def greedy(waits: list[float], places: int) -> float:
    """Seconds that the calls take at best, in their order."""
    free = [0.0] * places
    for wait in waits:
        heapq.heappush(free, heapq.heappop(free) + wait)
    return max(free)


def measure(way: Way, waits: list[float], places: int) -> float:
    """Seconds one way takes."""

    async def run(row: int) -> int:
        await asyncio.sleep(waits[row])
        return row

    async def main() -> float:
        began = time.perf_counter()
        assert await way(run, waits, places) == list(range(len(waits)))
        return time.perf_counter() - began

    return asyncio.run(main())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--places", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--json", action="store_true")
    said = parser.parse_args()
    rows = []
    for name in said.ways:
        runs = []
        for seed in range(said.seeds):
            waits = latencies(seed, said.calls)
            taken = measure(WAYS[name], waits, said.places)
            runs.append((taken, sum(waits) / said.places, greedy(waits, said.places)))
        rows.append(
            {
                "way": name,
                "seconds": statistics.median(t for t, _, _ in runs),
                "over_ideal": statistics.median(t / ideal for t, ideal, _ in runs),
                "over_best": statistics.median(t / best for t, _, best in runs),
            }
        )
    if said.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{'way':10}{'seconds':>9}{'over ideal':>12}{'over best':>11}")
    for row in rows:
        print(f"{row['way']:10}{row['seconds']:9.2f}{row['over_ideal']:12.2f}{row['over_best']:11.2f}")


if __name__ == "__main__":
    main()
