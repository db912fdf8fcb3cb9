"""Answers that are used again: exact wherever they are kept, in bounded memory, once for each statement."""

from __future__ import annotations

import asyncio
import math
import time
import tracemalloc
from array import array
from typing import Any

import pytest

from tests.support.outcomes import one_by_one
from tl_data.runtime.pool import Pool
from tl_data.runtime.result_cache import ENTRY_BYTES, Outcome, ResultCache, size_of
from tl_data.usage import Usage


def outcome(value: Any, **usage: Any) -> Outcome:
    return Outcome(value, None, Usage(**usage))


def keep(cache: ResultCache, name: Any, value: Any, **usage: Any) -> None:
    cache.put(name, outcome(value, **usage), size_of(value))


VALUES = [
    None,
    "text \ud800 with half a pair",
    {"video_id": "a", "duration_sec": 0.1, "width": 10**12, "there": True, "parts": [{"x": None}]},
    array("f", [0.1 * n for n in range(512)]).tolist(),
    [0.1 * n for n in range(512)],  # more than 32 bits
    [math.pi] * 15 + [1],
    [1.0, "a"] * 20,
    [],
]


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_an_answer_comes_back_as_it_was(value: Any) -> None:
    cache = ResultCache(60, 8, 1 << 20)
    keep(cache, ("f", "asked"), value, model="m", task_id="t", at=1.5, calls=1)
    for n in range(20):
        keep(cache, ("f", n), "pushes the others down")
    assert ("f", "asked") not in cache._hot
    assert ("f", "asked") not in cache._packed
    found = cache.get(("f", "asked"))
    assert found is not None
    assert found.value == value
    assert (found.receipt.model, found.receipt.task_id, found.receipt.at) == ("m", "t", 1.5)
    assert cache.get(("g", "asked")) is None
    cache.clear()
    assert cache.get(("f", "asked")) is None


def test_an_object_that_is_no_plain_value_stays_in_memory_or_is_asked_for_again() -> None:
    cache = ResultCache(60, 8, 1 << 20)
    keep(cache, ("f", 0), object())
    assert cache.has(("f", 0))
    for n in range(1, 5):
        keep(cache, ("f", n), n)
    assert cache.get(("f", 0)) is None


def test_answers_expire_but_not_within_their_statement() -> None:
    cache, begun = ResultCache(0.05, 4, 1 << 20), time.monotonic()
    for n in range(20):
        keep(cache, ("f", n), n)
    time.sleep(0.06)
    assert not any(cache.has(("f", n)) or cache.get(("f", n)) for n in range(10))
    assert [cache.get(("f", n), begun).value for n in range(10)] == list(range(10))  # type: ignore[union-attr]


def test_the_temporary_file_is_bounded() -> None:
    cache = ResultCache(60, 4, 1 << 20, spill=20_000)
    for n in range(1000):
        keep(cache, ("f", n), "x" * 100)
    assert cache._file is not None
    assert cache._file._bytes <= 20_000
    assert cache.has(("f", 990))
    assert not cache.has(("f", 0))


def test_a_vector_takes_two_kilobytes() -> None:
    cache = ResultCache(60, 1000, 1 << 20)
    for n in range(300):
        keep(cache, ("f", n), [float(n)] * 512)
    assert len(cache._packed) > 200
    assert cache._packed_bytes / len(cache._packed) < 2048 + ENTRY_BYTES + 100


def test_each_distinct_row_is_asked_for_once_however_far_apart_its_equals_are() -> None:
    """Five thousand vectors of 1 KB through a memory of 500 KB, then all of them again."""
    calls = 0

    async def embed(row: int) -> list[float]:
        nonlocal calls
        calls += 1
        return [float(row)] * 256

    async def run(distinct: int) -> int:
        pool = Pool(16, memory=500_000, remember=0.001)  # far shorter than the statement
        begun, expected = time.monotonic(), 0
        for _ in range(2):  # two batches of one statement
            async for found in one_by_one(
                pool, embed, iter(range(distinct)), window=256, group="embed", since=begun
            ):
                assert found.value[0] == float(expected % distinct)
                expected += 1
        return expected

    assert asyncio.run(run(500)) == 1000
    tracemalloc.start()
    try:
        calls = 0
        assert asyncio.run(run(5_000)) == 10_000
        few = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert calls == 5_000
    assert few < 8_000_000, "the answers were kept in memory"
