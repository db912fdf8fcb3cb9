"""Shot detection, and the division of shots into clips of 2 to 10 seconds.

A cut is a frame whose difference to the one before is much larger than those around it, in enough of the
picture, and not reverted a moment later (a flash). Dissolves and fades are found by comparing pictures when
the picture comes to rest. After a camera movement it still shows much of what it showed two seconds before;
after a dissolve it does not.

Chroma is compared separately, because it is only a ninth of a trace.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Trace = npt.NDArray[np.int16]

SHORTEST, LONGEST, USUAL = 1.95, 10.0, 6.0  # seconds of a clip; a clip of 2 s may lack a frame
AHEAD = 3  # frames that must follow before a cut is certain
_RATIO = 3.0  # least ratio of the differences at a cut and around it
_LEAST = 5.0  # least mean difference (0-255) at a cut
_SPREAD = 0.06  # least share of the picture that a cut changes
_CHANGED = 16  # least difference of a changed sample
_TINT_LEAST, _TINT_SPREAD = 10.0, 0.25  # the same for chroma, which lamps and captions change as well
_LONG = 4.0  # seconds of movement after which a rest may be the end of a camera movement
_BEFORE = 2.0  # seconds
_ALIKE = 0.6  # least correlation of two pictures with the same content


@dataclass(frozen=True)
class Stretch:
    """The bounds of a clip in seconds, and whether it begins at a cut."""

    start: float
    end: float
    cut: bool


class Cuts:
    """Finds cuts in a stream of traces, each a few frames after it occurred."""

    def __init__(self) -> None:
        self._traces: deque[tuple[float, Trace]] = deque(maxlen=2 * AHEAD + 2)
        self._tints: deque[Trace] = deque(maxlen=2 * AHEAD + 2)
        self._steps: deque[float] = deque(maxlen=2 * AHEAD + 2)  # difference to the frame before
        self._tint_steps: deque[float] = deque(maxlen=2 * AHEAD + 2)
        self._past: deque[tuple[float, Trace]] = deque()  # of the last seconds
        self._rest: Trace | None = None  # the trace of the shot when it was last at rest
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
        while self._past[0][0] < time - _BEFORE:
            self._past.popleft()
        if len(self._traces) < AHEAD + 2:
            return None
        return self._hard() or self._slow()

    def finish(self) -> float | None:
        """The time of a cut among the last frames, or None."""
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
        """The remaining clips at the end of the video. A too short one replaces `last`, merged with it."""
        left = end - self.start
        if left <= 0:
            return []
        if left < SHORTEST and last is not None:
            return [Stretch(last.start, end, last.cut)]
        return self._close(end, cut=False)

    def _close(self, end: float, *, cut: bool) -> list[Stretch]:
        # Keep room in the last clip for a remainder that is too short for a clip.
        count = 1 if end - self.start <= LONGEST - SHORTEST else 2
        edges = np.linspace(self.start, end, count + 1)
        made = [
            Stretch(float(edges[place]), float(edges[place + 1]), self._by_cut and place == 0)
            for place in range(count)
        ]
        self.start, self._by_cut = end, cut
        return made


def _jumps(looks: Sequence[Trace], steps: Sequence[float], at: int, least: float, spread: float) -> bool:
    """Whether there is a cut between the traces before and at `at`."""
    step = steps[at]
    around = [value for place, value in enumerate(steps) if place != at and place > 0]
    if step < least or step < _RATIO * (float(np.mean(around)) + 1.0) or step < max(around):
        return False
    before, after = looks[at - 1], looks[-1]
    if min(_spread(before, looks[at]), _spread(before, after)) < spread:
        return False
    return _difference(before, after) >= step / 2  # else a flash: the old picture is back


def _difference(one: Trace, other: Trace) -> float:
    return float(np.abs(one - other).mean()) if one.size else 0.0


def _spread(one: Trace, other: Trace) -> float:
    return float((np.abs(one - other) > _CHANGED).mean())


def _alike(one: Trace, other: Trace) -> float:
    """The correlation of two traces, -1 to 1."""
    a, b = one - one.mean(), other - other.mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / scale if scale > 0 else 0.0
