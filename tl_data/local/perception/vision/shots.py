"""Shot detection, and the division of shots into clips of 2 to 10 seconds.

A cut is a frame whose difference to its predecessor is much larger than the differences around it and covers
enough of the picture. If the old picture returns a few frames later, it is a flash and not a cut. Dissolves
and fades are found by comparing pictures at rest. After a camera movement, the picture still shows much of
what it showed two seconds before; after a dissolve, it does not.

A trace consists of sparse samples of a frame. Chroma is compared separately, because it makes up only a ninth
of a trace.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Trace = npt.NDArray[np.int16]

SHORTEST, LONGEST, USUAL = 1.95, 10.0, 6.0  # lengths of a clip in seconds; a clip of 2 s may lack a frame
AHEAD = 3  # frames that must follow before a cut is certain
_MIN_RATIO = 3.0  # smallest ratio of the difference at a cut to the differences around it
_MIN_DIFFERENCE = 5.0  # smallest mean difference (0-255) at a cut
_MIN_SPREAD = 0.06  # smallest share of the picture that a cut changes
_MIN_CHANGE = 16  # smallest difference (0-255) of a sample that counts as changed
#: Smallest difference and share for chroma. They are larger, because lamps and captions change chroma, too.
_MIN_TINT_DIFFERENCE, _MIN_TINT_SPREAD = 10.0, 0.25
_LONG = 4.0  # seconds; a longer movement before a rest may be a camera movement
_LOOK_BACK = 2.0  # seconds between the pictures that are compared after a long movement
_MIN_CORRELATION = 0.6  # of two pictures with the same content


@dataclass(frozen=True)
class Stretch:
    """The start and the end of a clip in seconds, and whether it begins at a cut or at 0."""

    start: float
    end: float
    cut: bool


class Cuts:
    """Finds cuts in a stream of traces. Each cut is reported a few frames after it."""

    def __init__(self) -> None:
        self._traces: deque[tuple[float, Trace]] = deque(maxlen=2 * AHEAD + 2)
        self._tints: deque[Trace] = deque(maxlen=2 * AHEAD + 2)
        self._steps: deque[float] = deque(maxlen=2 * AHEAD + 2)  # differences between consecutive traces
        self._tint_steps: deque[float] = deque(maxlen=2 * AHEAD + 2)
        self._past: deque[tuple[float, Trace]] = deque()  # the traces of the last `_LOOK_BACK` seconds
        self._rest: Trace | None = None  # the last trace of the shot at rest
        self._rest_time = 0.0
        self._last_cut = -1.0

    def add(self, time: float, trace: Trace, tint: Trace | None = None) -> float | None:
        """Add a frame; returns the time of a cut that is now certain, or None. `tint` is the chroma."""
        tint = trace[:0] if tint is None else tint
        before = self._traces[-1][1] if self._traces else trace
        tint_before = self._tints[-1] if self._tints else tint
        self._traces.append((time, trace))
        self._tints.append(tint)
        self._steps.append(_difference(before, trace))
        self._tint_steps.append(_difference(tint_before, tint))
        self._past.append((time, trace))
        while self._past[0][0] < time - _LOOK_BACK:
            self._past.popleft()
        if len(self._traces) < AHEAD + 2:
            return None
        return self._hard() or self._slow()

    def finish(self) -> float | None:
        """The time of a cut among the last frames, or None."""
        for _ in range(AHEAD):
            time, trace = self._traces[-1] if self._traces else (0.0, np.zeros(1, np.int16))
            cut = self.add(time, trace, self._tints[-1] if self._tints else None)
            if cut is not None:
                return cut
        return None

    def _hard(self) -> float | None:
        """The time of a hard cut that is now certain, or None."""
        at = len(self._traces) - 1 - AHEAD
        if at < 1:
            return None
        time = self._traces[at][0]
        after = self._traces[-1][1]
        traces = [trace for _, trace in self._traces]
        if _jumps(traces, self._steps, at, _MIN_DIFFERENCE, _MIN_SPREAD):
            return self._cut(time, after)
        if _jumps(self._tints, self._tint_steps, at, _MIN_TINT_DIFFERENCE, _MIN_TINT_SPREAD):
            return self._cut(time, after)
        return None

    def _slow(self) -> float | None:
        """The time of a dissolve or fade, if the picture is at rest again, or None."""
        time, trace = self._traces[-1]
        if max(self._steps) > 2.0:
            return None
        rest, rest_time = self._rest, self._rest_time
        if (
            rest is not None
            and _spread(rest, trace) > 0.35
            and _difference(rest, trace) > 12
            and _correlation(rest, trace) < _MIN_CORRELATION
            and (time - rest_time < _LONG or _correlation(self._past[0][1], trace) < _MIN_CORRELATION)
        ):
            return self._cut((rest_time + time) / 2 if time - rest_time < _LONG else time - 1.0, trace)
        self._rest, self._rest_time = trace, time
        return None

    def _cut(self, time: float, trace: Trace) -> float | None:
        """Record a cut and return its time; None if a later cut is already known."""
        self._rest, self._rest_time = trace, time
        if time <= self._last_cut:
            return None
        self._last_cut = time
        return time


class Stretches:
    """Divides shots into clips of 2 to 10 s while the video is decoded.

    A shot that is too short is merged with its neighbour; one that is too long is split.
    """

    def __init__(self) -> None:
        self.start = 0.0
        self._by_cut = True

    def cut(self, time: float) -> list[Stretch]:
        """The clips that are complete at a cut at `time`."""
        if time - self.start < SHORTEST:
            return []
        return self._close(time, cut=True)

    def reach(self, time: float) -> list[Stretch]:
        """The clips that are complete because the shot has become too long."""
        if time - self.start <= USUAL + LONGEST - SHORTEST:
            return []
        return self._close(self.start + USUAL, cut=False)

    def finish(self, end: float, last: Stretch | None) -> list[Stretch]:
        """The remaining clips at the end of the video. A too short remainder extends the clip `last`."""
        remaining = end - self.start
        if remaining <= 0:
            return []
        if remaining < SHORTEST and last is not None:
            return [Stretch(last.start, end, last.cut)]
        return self._close(end, cut=False)

    def _close(self, end: float, *, cut: bool) -> list[Stretch]:
        """Divide the time since the last clip into clips. `cut` says whether a cut is at `end`."""
        # The last clip must have room for a remainder that is too short for a clip of its own.
        count = 1 if end - self.start <= LONGEST - SHORTEST else 2
        edges = np.linspace(self.start, end, count + 1)
        clips = [
            Stretch(float(edges[number]), float(edges[number + 1]), self._by_cut and number == 0)
            for number in range(count)
        ]
        self.start, self._by_cut = end, cut
        return clips


def _jumps(
    traces: Sequence[Trace], steps: Sequence[float], at: int, min_difference: float, min_spread: float
) -> bool:
    """Whether there is a cut between the traces `at - 1` and `at`."""
    step = steps[at]
    around = [value for number, value in enumerate(steps) if number != at and number > 0]
    if step < min_difference or step < _MIN_RATIO * (float(np.mean(around)) + 1.0) or step < max(around):
        return False
    before, after = traces[at - 1], traces[-1]
    if min(_spread(before, traces[at]), _spread(before, after)) < min_spread:
        return False
    return _difference(before, after) >= step / 2  # otherwise a flash: the old picture is back


def _difference(one: Trace, other: Trace) -> float:
    """The mean difference of two traces, 0 to 255."""
    return float(np.abs(one - other).mean()) if one.size else 0.0


def _spread(one: Trace, other: Trace) -> float:
    """The share of samples that differ between two traces."""
    return float((np.abs(one - other) > _MIN_CHANGE).mean())


def _correlation(one: Trace, other: Trace) -> float:
    """The correlation of two traces, -1 to 1."""
    a, b = one - one.mean(), other - other.mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / scale if scale > 0 else 0.0
