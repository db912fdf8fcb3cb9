"""The pool: order without waiting, one call a distinct row, bounded memory, clean ends."""

from __future__ import annotations

import asyncio
import random
import time
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from tests.support.outcomes import one_by_one
from tl_data.errors import BadRequest
from tl_data.runtime.pool import Pool
from tl_data.runtime.result_cache import Outcome
from tl_data.usage import current


async def values(outcomes: AsyncIterator[Outcome]) -> list[Any]:
    return [o.value if o.error is None else o.error for o in [o async for o in outcomes]]


class Calls:
    """Counts calls, and how many are in flight at once."""

    def __init__(self, latency: Callable[[Any], float] = lambda _: 0.001) -> None:
        self.made: Counter[Any] = Counter()
        self.flying = self.most = self.cancelled = 0
        self.latency = latency

    async def __call__(self, row: Any) -> Any:
        self.made[row] += 1
        current().calls += 1
        self.flying += 1
        self.most = max(self.most, self.flying)
        try:
            await asyncio.sleep(self.latency(row))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.flying -= 1
        if isinstance(row, str) and row.startswith("bad"):
            raise BadRequest(f"{row} is refused", "parameter_invalid", 400)
        return row


def test_order_is_kept_and_the_pool_is_full() -> None:
    rnd = random.Random(7)
    calls = Calls(lambda _: rnd.random() / 100)
    assert asyncio.run(values(one_by_one(Pool(16), calls, range(500)))) == list(range(500))
    assert calls.most == 16


def test_a_slow_row_delays_no_other() -> None:
    calls = Calls(lambda row: 0.4 if row == 0 else 0.002)

    async def main() -> tuple[float, int]:
        outcomes = one_by_one(Pool(8), calls, range(200))
        began = time.perf_counter()
        first = await anext(outcomes)
        assert first.value == 0
        made = sum(calls.made.values())
        await values(outcomes)
        return time.perf_counter() - began, made

    seconds, made_before_first = asyncio.run(main())
    assert made_before_first == 200, "all other rows were done while the first was slow"
    assert seconds < 0.8


def test_equal_rows_share_one_call() -> None:
    rows = [n % 10 for n in range(1000)]
    calls = Calls()

    async def main() -> list[Outcome]:
        return [o async for o in one_by_one(Pool(4), calls, rows)]

    outcomes = asyncio.run(main())
    assert [o.value for o in outcomes] == rows
    assert set(calls.made.values()) == {1}
    assert len(calls.made) == 10
    assert sum(o.receipt.calls for o in outcomes) == 10
    assert sum(o.receipt.reused for o in outcomes) == 990


def test_answers_are_remembered_across_maps_and_forgotten_in_time() -> None:
    calls = Calls()

    async def main() -> None:
        pool = Pool(4, remember=0.3)
        for _ in range(3):
            assert await values(one_by_one(pool, calls, range(20))) == list(range(20))
        assert set(calls.made.values()) == {1}
        await values(one_by_one(pool, calls, range(20), group="another function"))
        assert set(calls.made.values()) == {2}
        await asyncio.sleep(0.35)
        await values(one_by_one(pool, calls, range(20)))
        assert set(calls.made.values()) == {3}

    asyncio.run(main())


def test_long_calls_are_not_begun_last() -> None:
    """The 20 longest of 200 come last in the input; 8 places, and lengths that are half wrong."""
    begun: list[int] = []
    rnd = random.Random(3)

    async def run(row: int) -> int:
        begun.append(row)
        await asyncio.sleep(0.1 if row >= 180 else 0.002)
        return row

    def length(row: int) -> float | None:
        return None if row % 10 == 3 else (10.0 if row >= 180 else 1.0) * rnd.uniform(0.6, 1.5)

    async def main(rows: Any, window: int | None = None) -> list[int]:
        begun.clear()
        got = await values(one_by_one(Pool(8), run, rows, window=window, length=length, group=window))
        assert got == list(range(200))
        return sorted(begun.index(row) for row in range(180, 200) if row % 10 != 3)

    assert asyncio.run(main(range(200)))[-1] < 60, "every other place went to the longest"
    assert asyncio.run(main(iter(range(200))))[-1] < 60, "also when the rows come from an iterator"
    assert asyncio.run(main(range(200), window=16))[0] >= 160, "as far as the window lets it see"


def test_rows_come_all_the_time_while_the_longest_go_first() -> None:
    """With the first row the shortest of all, and every later one longer."""

    async def main() -> list[int]:
        pool, begun = Pool(4), 0

        async def run(row: int) -> int:
            nonlocal begun
            begun += 1
            await asyncio.sleep(0.001)
            return row

        seen = []
        async for outcome in one_by_one(pool, run, range(400), length=float):
            assert outcome.value == len(seen)
            seen.append(begun)
        return seen

    seen = asyncio.run(main())
    assert seen[0] < 20
    assert seen[99] < 280, "half of the places at least serve the rows in their order"


def test_a_call_that_waits_for_a_place_is_made_when_another_map_needs_it() -> None:
    calls = Calls(lambda _: 0.02)

    async def main() -> None:
        pool = Pool(2)
        mine = one_by_one(pool, calls, range(20), length=float)
        assert (await anext(mine)).value == 0
        theirs = asyncio.create_task(values(one_by_one(pool, calls, [10, 11, 12])))
        await asyncio.sleep(0.001)
        await mine.aclose()
        assert await theirs == [10, 11, 12]
        assert not pool._in_flight
        assert pool._slots._value == 2
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())
    assert max(calls.made.values()) == 1
    assert calls.made.keys() < set(range(20))


def test_the_cache_is_bounded() -> None:
    async def big(row: int) -> list[float]:
        return [float(row)] * 10_000

    async def main() -> None:
        pool = Pool(4, memory=2_000_000)
        await values(one_by_one(pool, big, range(100)))
        cache = pool._cache
        assert cache._hot_bytes + cache._packed_bytes <= 2_000_000
        assert 0 < len(cache._hot) + len(cache._packed) < 100
        few, calls = Pool(4, entries=8, spill=0), Calls()
        await values(one_by_one(few, calls, range(100)))
        assert len(few._cache._hot) + len(few._cache._packed) == 8

    asyncio.run(main())


def test_two_maps_at_once_share_calls_and_places() -> None:
    calls = Calls(lambda _: 0.01)

    async def main() -> None:
        pool = Pool(8)
        one, other = await asyncio.gather(
            values(one_by_one(pool, calls, range(100))), values(one_by_one(pool, calls, range(99, -1, -1)))
        )
        assert one == other[::-1] == list(range(100))

    asyncio.run(main())
    assert set(calls.made.values()) == {1}
    assert calls.most == 8


def test_a_failing_row_is_its_own_outcome() -> None:
    rows = ["a", "bad", "b", "bad", "c"]
    calls = Calls()

    async def main() -> None:
        pool = Pool(2)
        for attempt in (1, 2):
            got = await values(one_by_one(pool, calls, rows))
            assert got[0::2] == ["a", "b", "c"]
            assert [type(e) for e in got[1::2]] == [BadRequest, BadRequest]
            assert calls.made["bad"] == attempt, "known within a map, tried again by the next"
        assert calls.made["a"] == 1

    asyncio.run(main())


def test_stop_on_error_finishes_running_calls_and_returns_the_failed_row_last() -> None:
    latency = {"bad": 0.01, "slow": 0.1}
    calls = Calls(lambda row: latency.get(str(row), 0.001))
    rows: list[Any] = [0, 1, "slow", "bad", *range(10, 10_000)]
    for length in (None, lambda row: latency.get(str(row), row if isinstance(row, int) else 0)):
        calls.made.clear()
        got = asyncio.run(values(one_by_one(Pool(4), calls, rows, length=length, stop_on_error=True)))
        assert got[:3] == [0, 1, "slow"]
        assert [type(value) for value in got[3:]] == [BadRequest]
        assert calls.flying == calls.cancelled == 0, "in flight at the failure: ended, not cancelled"
        assert sum(calls.made.values()) < 100


def test_an_endless_input_is_read_only_as_far_as_needed() -> None:
    read = 0

    def rows() -> Iterator[int]:
        nonlocal read
        while True:
            yield read
            read += 1

    async def main() -> None:
        outcomes = one_by_one(Pool(4), Calls(), rows(), window=50)
        for expected in range(120):
            assert (await anext(outcomes)).value == expected
        await asyncio.sleep(0.05)
        assert read < 120 + 50 + 256 + 1
        await outcomes.aclose()

    asyncio.run(main())


def test_a_source_that_blocks_does_not_stop_the_calls() -> None:
    def rows() -> Iterator[int]:
        for n in range(10):
            time.sleep(0.03)
            yield n

    async def main() -> float:
        began = time.perf_counter()
        assert await values(one_by_one(Pool(4), Calls(lambda _: 0.1), rows())) == list(range(10))
        return time.perf_counter() - began

    assert asyncio.run(main()) < 0.8


def test_a_source_that_fails_gives_its_rows_first() -> None:
    async def rows() -> AsyncIterator[int]:
        yield 1
        yield 2
        raise OSError("the file is gone")

    async def main() -> list[int]:
        outcomes = one_by_one(Pool(4), Calls(), rows())
        got = [(await anext(outcomes)).value for _ in range(2)]
        with pytest.raises(OSError, match="the file is gone"):
            await anext(outcomes)
        return got

    assert asyncio.run(main()) == [1, 2]


def test_leaving_early_cancels_unneeded_calls() -> None:
    calls = Calls(lambda row: 0.001 if row == 0 else 0.3)

    async def main() -> None:
        pool = Pool(8)
        mine, theirs = one_by_one(pool, calls, range(100)), one_by_one(pool, calls, range(8))
        assert (await anext(mine)).value == 0
        other = asyncio.create_task(values(theirs))
        await asyncio.sleep(0.05)
        await mine.aclose()
        assert await other == list(range(8)), "calls that another map waits for go on"
        assert len(asyncio.all_tasks()) == 1
        assert not pool._in_flight
        assert pool._slots._value == 8

    asyncio.run(main())
    assert calls.cancelled >= 1
    assert calls.flying == 0


def test_cancelling_the_reader_leaves_nothing_behind() -> None:
    calls = Calls(lambda _: 5)

    async def main() -> None:
        pool = Pool(8)
        reader = asyncio.create_task(values(one_by_one(pool, calls, range(100))))
        await asyncio.sleep(0.05)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert len(asyncio.all_tasks()) == 1
        assert pool._slots._value == 8

    asyncio.run(main())
    assert calls.cancelled == 8


def test_a_call_that_is_cancelled_from_within_fails_its_row_only() -> None:
    async def run(row: int) -> int:
        if row == 1:
            raise asyncio.CancelledError
        return row

    got = asyncio.run(values(one_by_one(Pool(4), run, range(3))))
    assert (got[0], got[2]) == (0, 2)
    assert "cancelled its own task" in str(got[1])


@pytest.mark.parametrize("rows", [[], (), iter(()), range(0)], ids=["list", "tuple", "iterator", "range"])
def test_no_rows(rows: Any) -> None:
    assert asyncio.run(values(one_by_one(Pool(4), Calls(), rows))) == []


def test_large_answers_wait_in_bounded_memory() -> None:
    """The first row is slow and every answer is large: the buffer stops reading ahead, not the window."""

    async def run(row: int) -> bytes:
        await asyncio.sleep(0.3 if row == 0 else 0)
        return bytes(100_000)

    async def main() -> int:
        pool = Pool(4, buffer=1_000_000, memory=0)
        tracemalloc.start()
        count = 0
        async for _ in one_by_one(pool, run, range(400), window=400):
            count += 1
        assert count == 400
        return tracemalloc.get_traced_memory()[1]

    try:
        assert asyncio.run(main()) < 4_000_000
    finally:
        tracemalloc.stop()


def test_ten_times_the_input_takes_no_more_memory() -> None:
    async def run(row: int) -> list[int]:
        await asyncio.sleep(0)
        return [row] * 200

    async def peak(count: int) -> int:
        tracemalloc.start()
        try:
            async for _ in one_by_one(Pool(16, entries=1000), run, iter(range(count)), window=256):
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    asyncio.run(peak(2_000))
    short, long = asyncio.run(peak(2_000)), asyncio.run(peak(20_000))
    assert long < 1.1 * short


def test_a_late_row_is_not_held_by_reading_ahead() -> None:
    async def rows() -> AsyncIterator[int]:
        for n in range(5):
            yield n
            await asyncio.sleep(1.0)

    async def main() -> float:
        began = time.perf_counter()
        await anext(one_by_one(Pool(4), Calls(), rows()))
        return time.perf_counter() - began

    assert asyncio.run(main()) < 1.0
