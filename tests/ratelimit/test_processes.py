"""Processes against a limited server, as the benchmark runs them, in short."""

from __future__ import annotations

from benchmarks.limiter import measure


def test_processes_keep_to_one_limit_and_lose_nothing() -> None:
    shared, blind = measure(["shared", "blind"], [3], seconds=5, rate=40)
    assert shared.lost == blind.lost == 0
    assert shared.used > 0.85
    assert shared.refused < 0.03
    assert blind.used > 0.5
    assert blind.refused < 0.2
