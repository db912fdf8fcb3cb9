"""Kills and lost answers at random, as the benchmark has them, in short."""

from __future__ import annotations

from pathlib import Path

from benchmarks.chaos import library, storm


def test_nothing_is_paid_twice_and_nothing_is_lost(tmp_path: Path) -> None:
    with library(6) as (names, files):
        outcome = storm(4, names, files, tmp_path, kills=3, restarts=1, calm=4.0, profile="today")
    assert outcome.wrong == [], outcome
    assert (outcome.created, outcome.ratio) == (6, 1.0)
    assert outcome.kills + outcome.restarts > 0
    assert outcome.reads > outcome.kills / 2
