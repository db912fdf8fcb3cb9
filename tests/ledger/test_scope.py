"""Answers shared within a session outlive the turn of their slot of time, done or in flight."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from tl_data.ledger.ledger import Ledger
from tl_data.ledger.models import Call


async def _until(fraction: float) -> None:
    """Wait until that much of a slot of one second is over."""
    now = time.time() % 1.0
    await asyncio.sleep((fraction - now) % 1.0)


def test_an_answer_is_shared_across_the_turn_of_a_slot(tmp_path: Path) -> None:
    calls = []

    async def shared() -> None:
        first, second = Ledger.open(str(tmp_path)), Ledger.open(str(tmp_path))
        call = Call("embed_text", "words", scope="session", keep=1.0)

        async def do() -> str:
            calls.append(1)
            return "answer"

        await _until(0.7)
        assert (await first.once(call, do)).result == "answer"
        await _until(0.1)
        known = await second.once(call, do)
        assert known.reused
        assert known.result == "answer"
        await first.aclose()
        await second.aclose()

    asyncio.run(shared())
    assert len(calls) == 1


def test_a_call_in_flight_is_waited_for_across_the_turn_of_a_slot(tmp_path: Path) -> None:
    calls = []

    async def shared() -> None:
        first, second = Ledger.open(str(tmp_path)), Ledger.open(str(tmp_path))
        call = Call("embed_text", "words", scope="session", keep=1.0)

        async def do() -> str:
            calls.append(1)
            await asyncio.sleep(0.5)
            return "answer"

        async def later() -> bool:
            await _until(0.1)
            return (await second.once(call, do)).reused

        await _until(0.8)
        entry, reused = await asyncio.gather(first.once(call, do), later())
        assert entry.result == "answer"
        assert reused
        await first.aclose()
        await second.aclose()

    asyncio.run(shared())
    assert len(calls) == 1
