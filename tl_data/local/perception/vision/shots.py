"""Where one shot ends and the next begins, and how shots become clips of 2 to 10 seconds.

A cut is a frame that differs from the one before far more than the frames around it differ from each
other, that covers enough of the picture, and that is not undone a moment later (a flash). A slow change
(dissolve, fade) is found by comparing pictures once the picture rests again; a camera that comes to rest
shows much of what it showed two seconds before, the end of a dissolve does not.

Colour is measured a second time by itself: it is a ninth of a trace, and orange may be as bright as pink.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Trace = npt.NDArray[np.int16]

SHORTEST, LONGEST, USUAL = 1.95, 10.0, 6.0  # seconds of a clip; a frame less than 2 is still 2
AHEAD = 3  # frames that must follow before a cut is certain
_RATIO = 3.0  # a cut's difference over that of its neighbours
_LEAST = 5.0  # mean difference (0-255) below which nothing is a cut
_SPREAD = 0.06  # share of the picture that a cut changes
_CHANGED = 16  # difference from which a sample counts as changed
_TINT_LEAST, _TINT_SPREAD = 10.0, 0.25  # the same of colour alone, which a lamp or a caption changes, too
_LONG = 4.0  # seconds of movement from which a rest may be a camera's
_BEFORE = 2.0  # seconds
_ALIKE = 0.6  # correlation from which two pictures show the same


@dataclass(frozen=True)
class Stretch:
    """A clip to be: seconds, and whether a cut begins it."""

    start: float
    end: float
    cut: bool


class Cuts:
    """Finds cuts in a stream of traces; tells each one a few frames after it happened."""

    def __init__(self) -> None:
        self._traces: deque[tuple[float, Trace]] = deque(maxlen=2 * AHEAD + 2)
        self._tints: deque[Trace] = deque(maxlen=2 * AHEAD + 2)
        self._steps: deque[float] = deque(maxlen=2 * AHEAD + 2)  # difference to the frame before
        self._tint_steps: deque[float] = deque(maxlen=2 * AHEAD + 2)
        self._past: deque[tuple[float, Trace]] = deque()  # of the last seconds
        self._rest: Trace | None = None  # how the shot looked when it last rested
        self._rest_time = 0.0
        self._last_cut = -1.0

    def add(self, time: float, trace: Trace, tint: Trace | None = None) -> float | None:
        """The time of a cut that has become certain, or None; `tint` is the colour's part of the trace."""
        tint = trace[:0] if tint is None else tint
        before = self._traces[-1][1] if self._traces else trace
        tint_before = self._tints[-1] if self._tints else tint
        self._traces.append((time, trace))
        self._tints.append(tint)
        self._steps.append(_difference(before, trace))
        self._tint_steps.append(_difference(tint_before, tint))
        self._past.append((time, trace))
        while self._past[0][0] < time - _BEFORE:
            self._past.popleft()
        if len(self._traces) < AHEAD + 2:
            return None
        return self._hard() or self._slow()

    def finish(self) -> float | None:
        """A cut among the very last frames."""
        for _ in range(AHEAD):
            time, trace = self._traces[-1] if self._traces else (0.0, np.zeros(1, np.int16))
            found = self.add(time, trace, self._tints[-1] if self._tints else None)
            if found is not None:
                return found
        return None

    def _hard(self) -> float | None:
        at = len(self._traces) - 1 - AHEAD
        if at < 1:
            return None
        time = self._traces[at][0]
        after = self._traces[-1][1]
        looks = [trace for _, trace in self._traces]
        if _jumps(looks, self._steps, at, _LEAST, _SPREAD):
            return self._cut(time, after)
        if _jumps(self._tints, self._tint_steps, at, _TINT_LEAST, _TINT_SPREAD):
            return self._cut(time, after)
        return None

    def _slow(self) -> float | None:
        time, trace = self._traces[-1]
        if max(self._steps) > 2.0:
            return None
        rest, self_time = self._rest, self._rest_time
        if (
            rest is not None
            and _spread(rest, trace) > 0.35
            and _difference(rest, trace) > 12
            and _alike(rest, trace) < _ALIKE
            and (time - self_time < _LONG or _alike(self._past[0][1], trace) < _ALIKE)
        ):
            return self._cut((self_time + time) / 2 if time - self_time < _LONG else time - 1.0, trace)
        self._rest, self._rest_time = trace, time
        return None

    def _cut(self, time: float, look: Trace) -> float | None:
        self._rest, self._rest_time = look, time
        if time <= self._last_cut:
            return None
        self._last_cut = time
        return time


class Stretches:
    """Turns cuts into stretches of 2 to 10 s while the video is still being read.

    A shot that is too short is joined to its neighbour; one that is too long is split.
    """

    def __init__(self) -> None:
        self.start = 0.0
        self._by_cut = True

    def cut(self, time: float) -> list[Stretch]:
        """The stretches that end for sure at a cut at `time`."""
        if time - self.start < SHORTEST:
            return []
        return self._close(time, cut=True)

    def reach(self, time: float) -> list[Stretch]:
        """The stretches that end for sure although the shot goes on: it has become too long."""
        if time - self.start <= USUAL + LONGEST - SHORTEST:
            return []
        return self._close(self.start + USUAL, cut=False)

    def finish(self, end: float, last: Stretch | None) -> list[Stretch]:
        """What is left at the end of the video; a rest that is too short joins `last`, which it replaces."""
        left = end - self.start
        if left <= 0:
            return []
        if left < SHORTEST and last is not None:
            return [Stretch(last.start, end, last.cut)]
        return self._close(end, cut=False)

    def _close(self, end: float, *, cut: bool) -> list[Stretch]:
        # The last clip of a video must be able to take in a rest that is too short for itself.
        count = 1 if end - self.start <= LONGEST - SHORTEST else 2
        edges = np.linspace(self.start, end, count + 1)
        made = [
            Stretch(float(edges[place]), float(edges[place + 1]), self._by_cut and place == 0)
            for place in range(count)
        ]
        self.start, self._by_cut = end, cut
        return made


def _jumps(looks: Sequence[Trace], steps: Sequence[float], at: int, least: float, spread: float) -> bool:
    """Whether the look at place `at` differs from the one before as after a cut."""
    step = steps[at]
    around = [value for place, value in enumerate(steps) if place != at and place > 0]
    if step < least or step < _RATIO * (float(np.mean(around)) + 1.0) or step < max(around):
        return False
    before, after = looks[at - 1], looks[-1]
    if min(_spread(before, looks[at]), _spread(before, after)) < spread:
        return False
    return _difference(before, after) >= step / 2  # else a flash: the picture of before is back


def _difference(one: Trace, other: Trace) -> float:
    return float(np.abs(one - other).mean()) if one.size else 0.0


def _spread(one: Trace, other: Trace) -> float:
    return float((np.abs(one - other) > _CHANGED).mean())


def _alike(one: Trace, other: Trace) -> float:
    """Correlation of two pictures, -1 to 1."""
    a, b = one - one.mean(), other - other.mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / scale if scale > 0 else 0.0
