"""Limits that the service reported to one process hold in the next one, until it reports others."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tl_data.errors import QuotaExhausted
from tl_data.object_store import Storage
from tl_data.ratelimit.limiter import Limiter
from tl_data.ratelimit.reported import LimitSnapshot, LimitStore, snapshot
from tl_data.settings import Settings

MINE = Settings(api_key="tlk_1", base_url="https://api.example/v1.3")


def says(limiter: Limiter, limit: int, left: int, rest: float, status: int = 200) -> None:
    headers = {
        "X-Ratelimit-Request-Limit": str(limit),
        "X-Ratelimit-Request-Remaining": str(left),
        "X-Ratelimit-Request-Reset": str(rest),
    }
    limiter.observe("search", headers, status)


async def told_before(storage: Storage, limit: int, left: int, rest: float) -> None:
    """Another process has recorded this limit."""
    limiter = Limiter.of(MINE, storage)
    await limiter.acquire("search")
    says(limiter, limit, left, rest)
    await limiter.aclose()


def test_a_new_process_uses_limits_reported_to_another(tmp_path: Path) -> None:
    async def main() -> None:
        storage = Storage(str(tmp_path))
        await told_before(storage, 100, 0, 3.0)
        limiter = Limiter.of(MINE, storage)
        await asyncio.wait_for(limiter.acquire("search"), 1.0)  # one call asks how things are
        held = asyncio.create_task(limiter.acquire("search"))
        await asyncio.sleep(0.5)
        assert not held.done()
        await asyncio.wait_for(held, 10.0)  # until the reset

    asyncio.run(main())


@pytest.mark.parametrize("headers", [True, False])
def test_the_first_response_replaces_stored_limits(tmp_path: Path, headers: bool) -> None:
    """Whoever got a larger plan meanwhile is not kept from it by a record, nor by a wait of a day."""

    async def main() -> None:
        storage = Storage(str(tmp_path))
        await told_before(storage, 100, 0, 80_000.0)
        limiter = Limiter.of(MINE, storage)
        await limiter.acquire("search")
        held = asyncio.create_task(limiter.acquire("search"))
        await asyncio.sleep(0.3)
        assert not held.done()
        if headers:
            says(limiter, 5000, 4000, 80_000.0)
        else:
            limiter.observe("search", {}, 200)
        await asyncio.wait_for(held, 2.0)
        await limiter.aclose()
        stored = (await LimitStore(storage, MINE).read("search"))["requests"]
        assert stored.limit == (5000 if headers else 100)

    asyncio.run(main())


def test_a_reported_used_up_day_fails_immediately(tmp_path: Path) -> None:
    async def main() -> None:
        storage = Storage(str(tmp_path))
        await told_before(storage, 100, 0, 80_000.0)
        limiter = Limiter.of(MINE, storage)
        await limiter.acquire("search")
        says(limiter, 100, 0, 80_000.0, status=429)
        with pytest.raises(QuotaExhausted):
            await asyncio.wait_for(limiter.acquire("search"), 2.0)

    asyncio.run(main())


def test_other_keys_and_addresses_know_nothing_of_it(tmp_path: Path) -> None:
    async def main() -> None:
        storage = Storage(str(tmp_path))
        await told_before(storage, 100, 7, 50.0)
        assert (await LimitStore(storage, MINE).read("search"))["requests"].left == 7
        for other in (MINE.but(api_key="tlk_2"), MINE.but(base_url="https://b.example")):
            assert await LimitStore(storage, other).read("search") == {}

    asyncio.run(main())
    assert "tlk_1" not in "".join(str(p) + p.read_text() for p in tmp_path.rglob("*") if p.is_file())


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "{}", '{"tl_limits": 2}', '{"tl_limits": 1, "told": {"requests": {}}}'),
        '{"tl_limits": 1, "told": {"requests": {"limit": 9, "left": 9, "resets": "soon", "at": 0}}}',
    ],
)
def test_a_record_that_cannot_be_read_is_done_without(tmp_path: Path, text: str) -> None:
    storage = Storage(str(tmp_path))
    asyncio.run(told_before(storage, 100, 7, 50.0))
    [file] = [p for p in tmp_path.rglob("search") if p.is_file()]
    file.write_text(text)
    asyncio.run(told_before(storage, 100, 6, 50.0))
    assert asyncio.run(LimitStore(storage, MINE).read("search"))["requests"].left == 6


ENDS = """
import atexit, sys
from tl_data.ratelimit.limiter import Limiter
from tl_data.runtime.concurrency import Loop
from tl_data.settings import Settings
from tl_data.object_store import Storage

loop = Loop()
limiter = Limiter.of(Settings(api_key="tlk_1", base_url="https://api.example/v1.3"), Storage(sys.argv[1]))

@atexit.register
def end():  # as connections do
    loop.run(limiter.aclose())
    loop.close()

loop.run(limiter.acquire("search"))
headers = {"Limit": "100", "Remaining": "7", "Reset": "50"}
limiter.observe("search", {f"X-Ratelimit-Request-{name}": text for name, text in headers.items()}, 200)
"""


def test_reported_limits_are_stored_at_exit(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", ENDS, str(tmp_path)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert asyncio.run(LimitStore(Storage(str(tmp_path)), MINE).read("search"))["requests"].left == 7


NOW = 1_000_000.0


@pytest.mark.parametrize(
    ("snapshot", "amount", "seconds"),
    [
        (LimitSnapshot(60, 20, NOW + 30, NOW, 58), 20, 0),
        (LimitSnapshot(60, 20, NOW + 30, NOW, 58), 21, 30),
        (LimitSnapshot(60, 20, NOW + 30, NOW, 58), 80, 30),
        (LimitSnapshot(60, 20, NOW + 30, NOW, 58), 81, 90),
        (LimitSnapshot(60, 20, NOW + 30, NOW, 61), 81, 90),  # whole seconds: still a minute
        (LimitSnapshot(60, 20, NOW + 30, NOW, 70), 81, 30 + 3600),
        (LimitSnapshot(600, 0, NOW - 5, NOW - 90_000, 3000), 600, 0),  # full again since
        (LimitSnapshot(600, 0, NOW - 5, NOW - 90_000, 3000), 1300, 2 * 3600),
        (LimitSnapshot(100, 0, NOW + 90_000, NOW, 90_000), 150, 90_000 + 86_400),
        (
            LimitSnapshot(60, 0, NOW + 500_000, NOW + 499_950, 50),
            61,
            60,
        ),  # by a clock that was days ahead
    ],
)
def test_the_time_that_a_limit_takes(snapshot: LimitSnapshot, amount: float, seconds: float) -> None:
    assert snapshot.seconds(amount, NOW) == seconds


def test_the_length_of_a_window_is_learnt() -> None:
    first = snapshot(60, 59, 55.0, None)
    later = snapshot(60, 10, 5.0, first)
    assert (later.left, later.longest, later.window) == (10, 55.0, 60.0)
    assert later.resets == pytest.approx(time.time() + 5, abs=1)
    assert snapshot(120, 10, 5.0, first).longest == 5.0  # another limit: nothing is known of its length
