"""What is set for an hour or a day: used as it comes, never more, by all processes together."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tl_data.errors import LedgerError, QuotaExhausted
from tl_data.object_store import Storage
from tl_data.ratelimit.limiter import PER_HOUR_OR_DAY, PER_MINUTE, Limiter
from tl_data.ratelimit.shared import QuotaWindow, SharedLimits
from tl_data.settings import LIMITS, Settings

DAY = 86400.0


def allowance(place: Path | str, amount: float, seconds: float = DAY) -> QuotaWindow:
    """A limit as another process would have it."""
    return SharedLimits(Storage(str(place)), "a").quota_window(
        "search", "requests", "requests_per_hour", amount, seconds
    )


async def taken(line: QuotaWindow, amount: float = 1.0) -> int:
    """How often so much can be taken before it is refused."""
    for times in range(10_000):
        try:
            await line.take(amount, 0.0)
        except QuotaExhausted:
            return times
    raise AssertionError("there is no end to it")


@pytest.mark.parametrize(
    ("amount", "each", "times"),
    [(7, 1, 7), (2500, 1, 2500), (90.5, 10, 9), (0.5, 0.125, 4), (10, 25, 1)],
    ids=str,
)
def test_it_is_used_at_once_and_then_it_stops(tmp_path: Path, amount: float, each: float, times: int) -> None:
    assert asyncio.run(taken(allowance(tmp_path, amount), each)) == times


def test_many_processes_share_it(tmp_path: Path) -> None:
    """They know nothing of each other; what each holds and has not used is less than one ticket."""

    async def main() -> list[int]:
        lines = [allowance(tmp_path, 300) for _ in range(5)]
        return await asyncio.gather(*(taken(line) for line in lines))

    counts = asyncio.run(main())
    assert sum(counts) == 300
    assert asyncio.run(taken(allowance(tmp_path, 300))) == 0, "nor has one that begins later"


class Clocked(Storage):
    """A folder whose clock is put forward by the test."""

    at = 1000 * DAY

    async def now(self) -> float:
        return self.at


def test_a_new_day_resets_the_count_and_removes_the_old_one(tmp_path: Path) -> None:
    storage = Clocked(str(tmp_path))
    line = SharedLimits(storage, "a").quota_window("search", "requests", "requests_per_day", 3, DAY)
    assert asyncio.run(taken(line)) == 3
    storage.at += DAY - 0.5
    with pytest.raises(QuotaExhausted, match=r"requests_per_day = 3 .* until 1972-09-28 00:00 UTC") as no:
        asyncio.run(line.take(1, 0.4))
    assert no.value.retry_after == 0.5

    async def waits() -> None:
        held = asyncio.create_task(line.take(1, 10.0))
        await asyncio.sleep(0.1)
        assert not held.done()
        storage.at += 0.5
        await held

    asyncio.run(waits())
    assert {file.parent.name for file in tmp_path.rglob("search-*/*/*")} == {f"{1001:012d}"}
    assert asyncio.run(taken(line)) == 2


def test_what_a_call_did_not_use_is_there_again(tmp_path: Path) -> None:
    async def main() -> None:
        limiter = Limiter.of(Settings(requests_per_hour=2, requests_per_minute=1), Storage(str(tmp_path)))
        await limiter.acquire("search")
        waiting = asyncio.create_task(limiter.acquire("search"))  # for its minute
        await asyncio.sleep(0.3)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        again = asyncio.create_task(limiter.acquire("search"))
        await asyncio.sleep(0.3)
        assert not again.done(), again
        again.cancel()
        await asyncio.gather(again, return_exceptions=True)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("name", "cost"),
    [
        ("requests_per_hour", {}),
        ("requests_per_day", {}),
        ("video_minutes_per_hour", {"video_minutes": 1.0}),
        ("video_minutes_per_day", {"video_minutes": 1.0}),
        ("tokens_per_hour", {"tokens": 1.0}),
        ("tokens_per_day", {"tokens": 1.0}),
    ],
)
def test_each_setting_is_a_limit_of_each_category(name: str, cost: dict[str, float]) -> None:
    async def main() -> None:
        # The clock stands still: near the end of an hour the last call would wait for the next.
        limiter = Limiter.of(Settings(**{name: 3}), Clocked("memory:"))
        for category in ("index", "analyze"):
            for _ in range(3):
                await limiter.acquire(category, **cost)
            with pytest.raises(
                QuotaExhausted, match=f"{name} = 3 is exhausted for the category '{category}'"
            ):
                await limiter.acquire(category, **cost)
        for _ in range(4):
            await limiter.acquire("read")  # the API does not count it

    asyncio.run(main())


def test_every_limit_that_can_be_set_is_kept_in_one_way() -> None:
    assert sorted(LIMITS) == sorted([*PER_MINUTE, *PER_HOUR_OR_DAY])


def test_the_remaining_quota_is_reported(tmp_path: Path) -> None:
    async def main() -> None:
        line = allowance(tmp_path, 100)
        for _ in range(30):
            await line.take(1, 0.0)
        snapshot = await allowance(tmp_path, 100).snapshot()  # of another process
        assert (snapshot.limit, snapshot.left, snapshot.window) == (100, 70, DAY)
        assert snapshot.seconds(70, snapshot.at) == 0
        assert snapshot.seconds(71, snapshot.at) == pytest.approx(DAY - time.time() % DAY, abs=2)
        assert snapshot.seconds(171, snapshot.at) > DAY

    asyncio.run(main())


def test_an_unwritable_store_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "budget").write_text("in the way")
    with pytest.raises(LedgerError, match="cannot write"):
        asyncio.run(taken(allowance(tmp_path, 5)))
