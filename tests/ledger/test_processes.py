"""Processes that know nothing of each other pay once: at the same moment, killed, stopped, or cut off."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.environments import ROOT
from tests.support.platform_in_small import Platform, platform
from tl_data.ledger.ledger import Ledger
from tl_data.ledger.models import Call


class Worker:
    """A worker process. `said` is what it had to say, once its result has been asked for."""

    said = ""

    def __init__(self, **said: Any) -> None:
        script = str(ROOT / "tests" / "support" / "ledger_worker.py")
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", script, json.dumps(said)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_until_sending(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "sending\n"

    def wait_for_a_line(self) -> None:
        """Until it is about to send, or has nothing more to send."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline()

    def result(self, timeout: float = 90) -> dict[str, Any]:
        out, err = self.process.communicate(timeout=timeout)
        assert self.process.returncode == 0, err
        self.said = err
        found: dict[str, Any] = json.loads(out.splitlines()[-1])
        return found

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def server() -> Iterator[Platform]:
    with platform() as running:
        yield running


@pytest.fixture
def start(server: Platform, tmp_path: Path) -> Iterator[Any]:
    workers: list[Worker] = []

    def begin(**said: Any) -> Worker:
        ledger = str(tmp_path / "ledger")
        workers.append(
            Worker(**{"ledger": ledger, "platform": server.url, "way": "submit", "rows": 1} | said)
        )
        return workers[-1]

    yield begin
    for worker in workers:
        worker.end()


@pytest.mark.parametrize(("way", "scope"), [("submit", None), ("once", None), ("once", "one registration")])
def test_ten_processes_at_once_pay_once(server: Platform, start: Any, way: str, scope: str | None) -> None:
    server.latency = 0.05
    workers = [start(way=way, scope=scope, rows=15) for _ in range(10)]
    results = [worker.result() for worker in workers]
    assert len(server.made) == 15
    assert set(server.made.values()) == {1}
    assert all(r["results"] == results[0]["results"] for r in results)
    assert sum(r["submitted"] for r in results) == 15
    assert sum(r["reused"] for r in results) == 135


def test_a_later_run_pays_nothing(server: Platform, start: Any) -> None:
    first, second = start(rows=5).result(), start(rows=5).result()
    assert first["results"] == second["results"]
    assert (second["submitted"], second["reused"]) == (0, 5)
    assert sum(server.made.values()) == 5


def test_killed_before_sending(server: Platform, start: Any) -> None:
    victim = start(die="before")
    victim.wait_until_sending()
    assert victim.process.wait(timeout=30) == -signal.SIGKILL
    began = time.monotonic()
    assert start().result()["submitted"] == 1
    assert time.monotonic() - began < 20, "a dead owner on the same machine is not waited for"
    assert sum(server.made.values()) == 1


@pytest.mark.parametrize("clock", [0.0, 7200.0, -7200.0])
def test_when_something_may_first_have_been_sent(start: Any, tmp_path: Path, clock: float) -> None:
    """By no later than it was, even if the clock of the dead process was hours ahead."""
    victim, began = start(die="before", clock=clock), time.time()
    victim.wait_until_sending()
    assert victim.process.wait(timeout=30) == -signal.SIGKILL

    async def since() -> float | None:
        ledger = Ledger.open(str(tmp_path / "ledger"))
        return await ledger.unsettled_since(Call("index", "video-0", {"index_id": "i"}))

    found = asyncio.run(since())
    assert found is not None
    assert began + min(clock, 0.0) - 1 < found < time.time()


def test_killed_while_the_platform_works_on_it(server: Platform, start: Any) -> None:
    """The task comes to be after its owner is dead, and after the next process has looked for it once."""
    server.latency = 1.5
    victim = start()
    assert server.asked.wait(timeout=30)
    victim.process.kill()
    server.latency = 0.0
    result = start(settle=4.0).result()
    assert (result["submitted"], result["reused"]) == (0, 1)
    assert sum(server.made.values()) == 1


@pytest.mark.parametrize("seed", range(3))
def test_killed_again_and_again(server: Platform, start: Any, seed: int) -> None:
    """Two workers at a time, killed at random moments and simply started again."""
    rnd = random.Random(seed)
    server.latency = 0.2
    for _ in range(3):
        pair = [start(rows=12), start(rows=12)]
        pair[0].wait_for_a_line()
        for worker in pair:
            time.sleep(rnd.uniform(0.0, 0.25))
            worker.process.kill()
    result = start(rows=12, settle=2.0).result()
    assert sorted(result["results"].values()) == sorted(server.tasks.values())
    assert len(server.made) == 12
    assert set(server.made.values()) == {1}


def test_an_answer_that_was_lost(server: Platform, start: Any) -> None:
    server.drop = True
    result = start().result()
    assert list(result["results"].values()) == list(server.tasks.values())
    assert sum(server.made.values()) == 1


def test_an_owner_that_slept_does_not_send(server: Platform, start: Any) -> None:
    """Stopped before its request, alive again after another took over: it takes the other's task."""
    slow = start(lease=3.0, pause=1.0)
    slow.wait_until_sending()
    os.kill(slow.process.pid, signal.SIGSTOP)
    other = start(lease=3.0)
    result = other.result()
    os.kill(slow.process.pid, signal.SIGCONT)
    late = slow.result()
    assert late["results"] == result["results"]
    assert (result["submitted"], late["submitted"], late["reused"]) == (1, 0, 1)
    assert sum(server.made.values()) == 1


def test_a_slow_owner_keeps_its_claim(server: Platform, start: Any) -> None:
    """A request far longer than the lease: renewed, so that nobody else sends."""
    server.latency = 9.0
    slow = start(lease=1.5)
    assert server.asked.wait(timeout=30)
    other = start(lease=1.5)
    assert slow.result()["submitted"] == 1
    assert other.result()["reused"] == 1
    assert re.search(r"waits for process \d+ on .+ after 1\.5 s", other.said)
    assert sum(server.made.values()) == 1


@pytest.mark.parametrize("other", [{"clock": 3600.0}, {"jump": 3600.0}])
def test_clocks_that_differ_or_are_set(server: Platform, start: Any, other: dict[str, float]) -> None:
    """Machines that share a folder need not agree on the time: who is alive keeps its claim."""
    server.latency = 3.0
    owner = start(lease=1.5)
    assert server.asked.wait(timeout=30)
    late = start(lease=1.5, **other)
    assert owner.result()["submitted"] == 1
    assert late.result()["reused"] == 1
    assert sum(server.made.values()) == 1
