"""Shows the progress of a run: a bar on a terminal and in a notebook, else log lines.

    with show_progress() as progress:
        run(job, progress=progress)

`Progress` is any function that takes a `Step`; `run` calls it after each video.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import IO, TYPE_CHECKING, Any

from tl_data.runtime.notebook import Bar, in_notebook

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

LOG_SECONDS = 10.0  # time between log lines of a phase


@dataclass(frozen=True)
class Step:
    """The state of a run. None means unknown."""

    phase: str  # inspecting (the videos, for a plan), working, ending (after an interrupt) or done
    videos: int  # finished videos
    of_videos: int | None  # distinct videos of the source
    video_minutes: float
    failed: int  # failed videos
    price: float  # amount spent, in `currency`
    currency: str
    elapsed_sec: float
    left_sec: float | None  # estimated seconds until the end


Progress = Callable[[Step], None]


def silent(step: Step) -> None:
    """A progress that shows nothing."""


@contextmanager
def show_progress(stream: IO[str] | None = None) -> Iterator[Progress]:
    """Show the progress on `stream`: a bar if it is a terminal, else JSON lines.

    Args:
        stream: stderr by default.
    """
    stream = stream or sys.stderr
    if not stream.isatty():
        yield _Lines(stream)
        return
    from rich.console import Console

    bars = _bars(console=Console(file=stream), transient=True)
    with bars:
        yield partial(_update, bars)


@contextmanager
def in_cell(progress: Progress | None) -> Iterator[Progress]:
    """The given progress. Without one: a bar below the cell in a notebook, else nothing is shown."""
    if progress is not None or not in_notebook():
        yield progress or silent
        return
    bar = Bar(_bars())
    try:
        yield partial(_draw, bar)
    finally:
        bar.draw(last=True)


def _bars(**options: Any) -> Bars:
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.fields[of]} videos"),
        TextColumn("{task.fields[minutes]:.1f} video min"),
        TextColumn("{task.fields[money]}"),
        TextColumn("{task.fields[left]}"),
    )
    bars = Bars(*columns, **options)
    bars.add_task("inspecting", total=None, of="?", minutes=0.0, money="", left="")
    return bars


def _update(bars: Bars, step: Step) -> None:
    failed = f", {step.failed} failed" if step.failed else ""
    bars.update(
        bars.tasks[0].id,
        description=step.phase,
        completed=step.videos,
        total=step.of_videos,
        of="?" if step.of_videos is None else step.of_videos,
        minutes=step.video_minutes,
        money=f"{step.price:.2f} {step.currency}{failed}",
        left="" if step.left_sec is None else f"{duration(step.left_sec)} left",
    )


def _draw(bar: Bar, step: Step) -> None:
    _update(bar.progress, step)
    bar.draw()


class _Lines:
    """Prints one JSON line when a phase begins, and then at most one per LOG_SECONDS."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._phase = ""
        self._last = 0.0

    def __call__(self, step: Step) -> None:
        now = time.monotonic()
        if step.phase == self._phase and now - self._last < LOG_SECONDS:
            return
        self._phase, self._last = step.phase, now
        values = {n: round(v, 3) if isinstance(v, float) else v for n, v in asdict(step).items()}
        print(json.dumps({"event": "tl_data.step", **values}), file=self._stream, flush=True)


def duration(seconds: float) -> str:
    """A duration as text: 45 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def counted(number: int, noun: str) -> str:
    """A number with its noun: 1 video, 2,000 videos."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
