"""What is cancelled: what waits for its turn gives up, what was sent may come to its answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tl_data.ledger.ledger import Ledger
from tl_data.ledger.models import Call
from tl_data.runtime.shutdown import grace_period, mark_in_flight

CALL = Call("analyze", "k")


async def cancelled(
    folder: Path, answer: Callable[[], Awaitable[str]], grace: float, presses: int = 1
) -> str | None:
    """Cancel a call that goes on; gives what the ledger knows of it then."""
    ledger = Ledger.open(str(folder))
    with grace_period(grace):
        task = asyncio.create_task(ledger.once(CALL, answer))
    for _ in range(presses):
        await asyncio.sleep(0.3)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    entry = await ledger.get(CALL)
    return entry.result if entry is not None and entry.state == "done" else None


@pytest.mark.parametrize(
    ("sent", "seconds", "grace", "presses", "completed"),
    [
        (True, 1.0, 10.0, 1, True),
        (True, 1.0, 0.0, 1, False),  # outside of jobs nothing waits
        (True, 30.0, 0.5, 1, False),  # it takes too long
        (True, 30.0, 20.0, 2, False),  # asked for the end a second time
        (False, 30.0, 20.0, 1, False),  # refused, or it waits for its turn
    ],
)
def test_what_becomes_of_a_call(
    sent: bool, seconds: float, grace: float, presses: int, completed: bool, tmp_path: Path
) -> None:
    async def answer() -> str:
        mark_in_flight(True)
        mark_in_flight(sent)
        await asyncio.sleep(seconds)
        return "answer"

    began = time.monotonic()
    assert asyncio.run(cancelled(tmp_path, answer, grace, presses)) == ("answer" if completed else None)
    assert time.monotonic() - began < 10
