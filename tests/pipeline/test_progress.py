"""What a run shows: a bar on a terminal, JSON lines elsewhere, sentences at the end."""

from __future__ import annotations

import io
import json

import pytest

from tl_data.billing import Bill, Prices
from tl_data.pipeline.progress import Step, duration, show_progress
from tl_data.pipeline.report import Report


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def step(videos: int, phase: str = "working") -> Step:
    return Step(phase, videos, 10, videos * 1.5, 1, 0.25, "USD", 3.0, 120.0)


def test_a_terminal_gets_a_bar() -> None:
    terminal = Terminal()
    with show_progress(terminal) as progress:
        progress(step(4))
    text = terminal.getvalue()
    for part in ("4/10 videos", "6.0 video min", "0.25 USD, 1 failed", "2 min left"):
        assert part in text


def test_a_log_gets_a_line_a_phase() -> None:
    log = io.StringIO()
    with show_progress(log) as progress:
        for number in range(5):
            progress(step(number))
        progress(step(5, "done"))
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [(line["phase"], line["videos"]) for line in lines] == [("working", 0), ("done", 5)]
    assert lines[0]["event"] == "tl_data.step"


@pytest.mark.parametrize(("seconds", "said"), [(5, "5 s"), (89, "89 s"), (600, "10 min"), (9000, "2.5 h")])
def test_durations_have_readable_units(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_a_bill_is_the_same_in_any_order() -> None:
    seconds = [0.1 * n + 1 / 3 for n in range(1000)]
    there, back = Bill(), Bill()
    for s in seconds:
        there.add("index", s)
    for s in reversed(seconds):
        back.add("index", s)
    assert there.price(Prices.load()) == back.price(Prices.load()) > 0
    assert (there.calls, there.video_minutes) == (1000, back.video_minutes)


@pytest.mark.parametrize(
    ("status", "failed", "code"),
    [
        ("done", 0, 0),
        ("partial", 2, 1),
        ("budget", 0, 3),
        ("failures", 9, 3),
        ("stopped", 0, 3),
        ("interrupted", 0, 130),
    ],
)
def test_exit_codes(status: str, failed: int, code: int) -> None:
    report = Report("job", "run", status=status, failed=failed, new_failures=failed)  # type: ignore[arg-type]
    assert report.exit_code == code
    known = Report("job", "run", status=status, failed=failed)  # type: ignore[arg-type]
    assert known.exit_code == (0 if code == 1 else code)
    assert report.sentence().endswith("paid twice: not measured")
