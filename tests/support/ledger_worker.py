"""A process of its own that makes durable calls against a platform, as a Spark worker or a second run does.

    python worker.py '{"ledger": ..., "platform": ..., "rows": 20, "way": "submit"}'

Prints "sending" when it is about to send, and its results as one line of JSON at the end. `clock` are the
seconds by which its machine's clock is ahead, `jump` those by which somebody sets it after a second.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
import urllib.request
from typing import Any

from tl_data.errors import APIError, ConnectionFailed
from tl_data.ledger.lease import fence
from tl_data.ledger.ledger import Ledger
from tl_data.ledger.models import Call
from tl_data.usage import receipt


def set_clock(ahead: float, jump: float) -> None:
    """Give this process the clock of another machine; the files keep being dated by this one."""
    real, began = time.time, time.monotonic()
    time.time = lambda: real() + ahead + (jump if time.monotonic() - began > 1.0 else 0.0)


def ask(url: str, method: str) -> Any:
    request = urllib.request.Request(url, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())["id"]


async def main(said: dict[str, Any]) -> None:
    if said.get("clock") or said.get("jump"):
        set_clock(said.get("clock", 0.0), said.get("jump", 0.0))
    ledger = Ledger.open(said["ledger"], lease=said.get("lease", 60.0), settle=said.get("settle", 0.5))
    platform = said["platform"]
    results: dict[str, Any] = {}

    async def one(number: int) -> None:
        call = Call("index", f"video-{number}", {"index_id": "i"}, scope=said.get("scope"))

        async def send() -> str:
            print("sending", flush=True)
            if said.get("die") == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            await asyncio.sleep(said.get("pause", 0.0))
            fence()
            try:
                return str(await asyncio.to_thread(ask, f"{platform}/{call.key}", "POST"))
            except OSError as error:
                failed: APIError = ConnectionFailed(f"no answer: {error}")
                failed.maybe_done = True
                raise failed from error

        async def find() -> str | None:
            found: str | None = await asyncio.to_thread(ask, f"{platform}/?key={call.key}", "GET")
            return found

        if said["way"] == "submit":
            entry = await ledger.submit(call, send, find)
            results[call.key] = entry.task_id
        else:
            entry = await ledger.once(call, send)
            results[call.key] = entry.result

    with receipt() as usage:
        await asyncio.gather(*(one(n) for n in range(said["rows"])))
    print(json.dumps({"results": results, "submitted": usage.submitted, "reused": usage.reused}), flush=True)
    await ledger.aclose()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
