"""The table of measurements: counts are exact, and a busy machine is never called quiet."""

from __future__ import annotations

from benchmarks.table import Row, counts, table

ROWS = [Row("calls", "calls", 10, 10, "distinct", True), Row("a row", "us", 30, 20, "aim")]


def test_calls_and_requests_are_exact() -> None:
    assert [(row.ours, row.limit) for row in counts(300, 10)] == [(300, 300), (10, 10)]


def test_a_busy_machine_is_not_called_quiet() -> None:
    quiet, busy = table(ROWS, (0.0, 0.1)), table(ROWS, (0.0, 900.0))
    assert "a quiet machine" in quiet
    assert "a quiet machine" not in busy
    assert [line.split("|")[3].strip() for line in busy.splitlines()[-2:]] == ["10", "30 (busy)"]
    assert [line.split("|")[3].strip() for line in quiet.splitlines()[-2:]] == ["10", "30"]
