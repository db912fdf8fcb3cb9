"""The limiter in one process: what is set is kept, what the headers say is believed, refusals slow down."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate

import pytest

from tl_data.errors import QuotaExhausted
from tl_data.object_store import Storage
from tl_data.ratelimit.aimd import AdaptiveRate
from tl_data.ratelimit.limiter import Limiter
from tl_data.ratelimit.shared import Limit, SharedLimits
from tl_data.runtime.shutdown import cancel_waits_on
from tl_data.settings import Settings


async def seconds(limiter: Limiter, count: int, category: str = "search", **costs: float) -> float:
    """How long so many calls at once are held back."""
    began = time.monotonic()
    await asyncio.gather(*(limiter.acquire(category, **costs) for _ in range(count)))
    return time.monotonic() - began


def answered(limiter: Limiter, generation: str, limit: int, left: int, reset: float, **more: str) -> None:
    headers = {
        f"X-RateLimit-{generation}Limit": str(limit),
        f"X-RateLimit-{generation}Remaining": str(left),
        f"X-RateLimit-{generation}Reset": str(reset),
    }
    limiter.observe("search", headers | more, 200)


def test_a_limit_that_is_set_is_kept() -> None:
    async def main() -> None:
        limiter = Limiter({"requests": Limit(40, 1.0)})
        assert 0.95 < await seconds(limiter, 41) < 1.6
        assert await seconds(limiter, 1, "embed") < 0.1, "each category on its own"
        assert await seconds(limiter, 300, "read") < 60, "listings are not counted by the API"

    asyncio.run(main())


def test_video_minutes_and_tokens_delay_what_comes_after() -> None:
    async def main() -> None:
        limiter = Limiter({"minutes": Limit(100, 1.0), "tokens": Limit(1000, 1.0)})
        assert await seconds(limiter, 1, video_minutes=50) < 0.1
        assert 0.3 < await seconds(limiter, 1, video_minutes=1) < 1.0
        assert await seconds(limiter, 1, "analyze", tokens=400) < 0.1
        assert 0.3 < await seconds(limiter, 1, "analyze", tokens=1) < 1.0

    asyncio.run(main())


def test_settings_become_limits() -> None:
    async def main() -> None:
        limiter = Limiter.of(Settings(requests_per_minute=1200, tokens_per_minute=6000))
        assert 0.4 < await seconds(limiter, 11) < 1.0
        assert await seconds(limiter, 1, "analyze", tokens=50) < 0.2
        assert 0.3 < await seconds(limiter, 1, "analyze", tokens=50) < 1.2

    asyncio.run(main())


@pytest.mark.parametrize("generation", ["", "Request-"])
@pytest.mark.parametrize("form", ["epoch", "milliseconds", "seconds"])
def test_the_headers_are_believed(generation: str, form: str) -> None:
    async def main() -> None:
        limiter = Limiter()
        now = int(time.time()) + 1  # whole seconds, as the API tells them
        reset = {"epoch": now + 2, "milliseconds": (now + 2) * 1000, "seconds": 2}[form]
        date = {"Date": formatdate(now, usegmt=True)}
        answered(limiter, generation, 100, 100, reset, **date)
        assert await seconds(limiter, 1) < 0.05, "nothing is held back while plenty is left"
        answered(limiter, generation, 100, 0, reset, **date)
        assert 1.5 < await seconds(limiter, 1) < 2.6, "nothing is left until the reset"
        assert await seconds(limiter, 1) < 0.5

    asyncio.run(main())


def test_the_remaining_quota_is_spread_until_the_reset() -> None:
    async def main() -> None:
        limiter = Limiter()
        answered(limiter, "Request-", 100, 10, 2)
        taken = await seconds(limiter, 10)
        assert 1.0 < taken < 2.5
        limiter = Limiter()
        answered(limiter, "Duration-", 36000, 18000, 2)
        assert await seconds(limiter, 1, video_minutes=1) < 0.1
        assert await seconds(limiter, 1, video_minutes=299) > 0.2

    asyncio.run(main())


@pytest.mark.parametrize("text", ["", "soon", "-", "1e999", "nan"])
def test_headers_that_make_no_sense_are_passed_over(text: str) -> None:
    async def main() -> None:
        limiter = Limiter()
        for name in ("Limit", "Remaining", "Reset"):
            said = {"X-RateLimit-Limit": "10", "X-RateLimit-Remaining": "9", "X-RateLimit-Reset": "1"}
            limiter.observe("search", said | {f"X-RateLimit-{name}": text}, 200)
            assert await seconds(limiter, 1) < 1.5

    asyncio.run(main())


def test_a_long_refusal_stops_the_category_and_a_very_long_one_fails_at_once() -> None:
    async def main() -> None:
        limiter = Limiter(max_wait=10)
        limiter.observe("search", {}, 429, 2.5)
        assert await seconds(limiter, 1, "analyze") < 0.1
        assert 2.3 < await seconds(limiter, 3) < 4.0
        limiter.observe("search", {}, 429, 11382)
        with pytest.raises(QuotaExhausted, match=r"'search' is exhausted for another 11,38\d s"):
            await limiter.acquire("search")

    asyncio.run(main())


def test_a_quota_that_resets_tomorrow_fails_before_it_is_sent() -> None:
    async def main() -> None:
        limiter = Limiter(max_wait=10)
        answered(limiter, "", 100, 0, time.time() + 40_000)
        with pytest.raises(QuotaExhausted, match="exhausted"):
            await limiter.acquire("search")

    asyncio.run(main())


def test_a_remaining_daily_quota_is_not_spread() -> None:
    async def main() -> None:
        limiter = Limiter(max_wait=10)
        answered(limiter, "", 3000, 5, time.time() + 40_000)
        assert await seconds(limiter, 5) < 0.5
        with pytest.raises(QuotaExhausted):
            await limiter.acquire("search")

    asyncio.run(main())


def test_the_pace_retreats_and_returns() -> None:
    async def main() -> None:
        pace = AdaptiveRate()
        began = time.monotonic()
        while pace.rate < 60:
            await pace.turn()
            pace.record_success()
        assert time.monotonic() - began < 4
        before = pace.rate
        pace.record_refusal()
        after = pace.rate
        pace.record_refusal()
        assert pace.rate == pytest.approx(after, rel=0.05), "refusals of one moment count once"
        assert after < 0.9 * before
        until = time.monotonic() + 3
        while time.monotonic() < until:
            await pace.turn()
        assert pace.rate > after

    asyncio.run(main())


def test_the_pace_does_not_grow_without_demand() -> None:
    async def main() -> None:
        pace = AdaptiveRate()
        for _ in range(4):
            await asyncio.sleep(0.4)
            await pace.turn()
        assert pace.rate == pytest.approx(3.0)

    asyncio.run(main())


def test_one_budget_for_all(tmp_path: object) -> None:
    async def main() -> float:
        lines = [
            SharedLimits(Storage(str(tmp_path)), "a").minute_limit("s", "requests", Limit(50, 1))
            for _ in range(5)
        ]
        began = time.monotonic()
        await asyncio.gather(*(line.take(1) for line in lines for _ in range(20)))
        return time.monotonic() - began

    assert 1.7 < asyncio.run(main()) < 3.0


def test_a_budget_hands_back_what_a_cancelled_call_did_not_use(tmp_path: object) -> None:
    async def main() -> None:
        line = SharedLimits(Storage(str(tmp_path)), "a").minute_limit("s", "requests", Limit(10, 1))
        tasks = [asyncio.create_task(line.take(1)) for _ in range(20)]
        await asyncio.sleep(0.15)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        began = time.monotonic()
        await line.take(1)
        assert time.monotonic() - began < 0.5

    asyncio.run(main())


def test_other_limits_and_accounts_are_other_lines(tmp_path: object) -> None:
    async def main() -> float:
        storage = Storage(str(tmp_path))
        lines = [
            SharedLimits(storage, "a").minute_limit("search", "requests", Limit(4, 1)),
            SharedLimits(storage, "b").minute_limit("search", "requests", Limit(4, 1)),
            SharedLimits(storage, "a").minute_limit("embed", "requests", Limit(4, 1)),
            SharedLimits(storage, "a").minute_limit("search", "requests", Limit(240, 60)),
        ]
        began = time.monotonic()
        await asyncio.gather(*(line.take(1) for line in lines))
        return time.monotonic() - began

    assert asyncio.run(main()) < 0.25


def test_a_rest_saves_up_as_much_as_is_allowed(tmp_path: object) -> None:
    async def main() -> None:
        line = SharedLimits(Storage(str(tmp_path)), "a").minute_limit("s", "requests", Limit(10, 1, burst=10))
        began = time.monotonic()
        await asyncio.gather(*(line.take(1) for _ in range(10)))
        assert time.monotonic() - began < 0.5
        await asyncio.gather(*(line.take(1) for _ in range(10)))
        assert time.monotonic() - began > 0.7

    asyncio.run(main())


@pytest.mark.parametrize("cause", ["refused", "left", "set", "spread"])
def test_a_long_wait_is_logged_once(cause: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        limits = {"set": {"requests_per_day": 1}, "spread": {"requests_per_minute": 0.001}}
        limiter = Limiter.of(Settings(max_wait=1e6, **limits.get(cause, {})), Storage("memory:"))
        await limiter.acquire("search")
        if cause == "refused":
            limiter.observe("search", {}, 429, 900.0)
        if cause == "left":
            answered(limiter, "", 10, 0, 900)
        waiting = [asyncio.create_task(limiter.acquire("search")) for _ in range(3)]
        await asyncio.sleep(1.2)
        assert not any(task.done() for task in waiting)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(main())
    [said] = [record.getMessage() for record in caplog.records if "wait" in record.getMessage()]
    if cause == "spread":
        assert "rate limit of 0.001 requests in 60 s reached" in said
    else:
        assert "'search' is used up: calls wait until" in said


def test_what_waits_gives_up_when_its_work_is_over() -> None:
    async def main() -> None:
        limiter, over = Limiter.of(Settings(max_wait=1e6, requests_per_day=1)), asyncio.Event()
        await limiter.acquire("search")
        with cancel_waits_on(over):
            waiting = asyncio.create_task(limiter.acquire("search"))
        other = asyncio.create_task(limiter.acquire("search"))  # of somebody else
        await asyncio.sleep(0.1)
        over.set()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not other.done()
        other.cancel()

    asyncio.run(main())
