"""Shot detection, and the division of shots into clips of 2 to 10 seconds.

A shot boundary is a hard cut, a dissolve or a fade. A hard cut is a frame whose difference to its predecessor
is much larger than the differences around it and covers enough of the picture. If the old picture returns a
few frames later, it is a flash and not a cut. Dissolves and fades are found by comparing pictures at rest;
their boundary is in the middle of the change. After a camera movement, the picture still shows much of what
it showed two seconds before; after a dissolve, it does not.

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

# Lengths in seconds.
SHORTEST, LONGEST = 1.95, 10.0  # of a clip; a clip of 2 s may lack a frame
SPLIT_SECONDS = 6.0  # length of the clips that are split off from a long shot
AHEAD = 3  # frames that must follow before a hard cut is certain
_MIN_RATIO = 3.0  # smallest ratio of the difference at a hard cut to the differences around it
_NOISE = 1.0  # added to the differences around, so that noise in a still picture is no cut
_MIN_DIFFERENCE = 5.0  # smallest mean difference (0-255) at a hard cut
_MIN_SPREAD = 0.06  # smallest share of the picture that a hard cut changes
_CHANGED = 16  # a sample counts as changed above this difference (0-255)
#: Smallest difference and share for chroma. They are larger, because lamps and captions change chroma, too.
_MIN_CHROMA_DIFFERENCE, _MIN_CHROMA_SPREAD = 10.0, 0.25
_MAX_REST_DIFFERENCE = 2.0  # largest difference between consecutive frames of a picture at rest
#: Between two pictures at rest there is a dissolve or fade above this share and this difference.
_GRADUAL_SPREAD, _GRADUAL_DIFFERENCE = 0.35, 12
_MAX_GRADUAL = 4.0  # seconds of a dissolve or fade; a longer change may be a camera movement
_LOOK_BACK = 2.0  # seconds between the pictures that are compared after such a longer change
_MIN_CORRELATION = 0.6  # of two pictures with the same content


@dataclass(frozen=True)
class ClipSpan:
    """The time range of a clip in seconds."""

    start: float
    end: float
    at_boundary: bool  # whether it begins at a shot boundary or at 0, not at a split of a long shot


class ShotBoundaryDetector:
    """Finds shot boundaries in a stream of traces.

    A hard cut is reported `AHEAD` frames later, a dissolve or fade when the picture is at rest again.
    """

    def __init__(self) -> None:
        self._traces: deque[tuple[float, Trace]] = deque(maxlen=2 * AHEAD + 2)
        self._chromas: deque[Trace] = deque(maxlen=2 * AHEAD + 2)
        self._steps: deque[float] = deque(maxlen=2 * AHEAD + 2)  # differences between consecutive traces
        self._chroma_steps: deque[float] = deque(maxlen=2 * AHEAD + 2)
        self._past: deque[tuple[float, Trace]] = deque()  # the traces of the last `_LOOK_BACK` seconds
        #: What the shot shows: its last trace at rest, or `AHEAD` frames after its hard cut.
        self._rest: Trace | None = None
        self._rest_time = 0.0  # of the frame of `_rest`; at a boundary, of the boundary
        self._last_boundary = -1.0

    def add(self, time: float, trace: Trace, chroma: Trace | None = None) -> float | None:
        """Add a frame; returns the time of a shot boundary that is now certain, or None.

        Args:
            trace: samples of luma and chroma.
            chroma: the samples of chroma alone; None: they are not compared separately.
        """
        chroma = trace[:0] if chroma is None else chroma
        before = self._traces[-1][1] if self._traces else trace
        chroma_before = self._chromas[-1] if self._chromas else chroma
        self._traces.append((time, trace))
        self._chromas.append(chroma)
        self._steps.append(_difference(before, trace))
        self._chroma_steps.append(_difference(chroma_before, chroma))
        self._past.append((time, trace))
        while self._past[0][0] < time - _LOOK_BACK:
            self._past.popleft()
        if len(self._traces) < AHEAD + 2:
            return None
        return self._find_hard_cut() or self._find_gradual()

    def finish(self) -> float | None:
        """The time of a shot boundary among the last frames, or None."""
        for _ in range(AHEAD):
            time, trace = self._traces[-1] if self._traces else (0.0, np.zeros(1, np.int16))
            boundary = self.add(time, trace, self._chromas[-1] if self._chromas else None)
            if boundary is not None:
                return boundary
        return None

    def _find_hard_cut(self) -> float | None:
        """The time of a hard cut that is now certain, or None."""
        at = len(self._traces) - 1 - AHEAD
        if at < 1:
            return None
        time = self._traces[at][0]
        after = self._traces[-1][1]
        traces = [trace for _, trace in self._traces]
        if _jumps(traces, self._steps, at, _MIN_DIFFERENCE, _MIN_SPREAD):
            return self._accept(time, after)
        if _jumps(self._chromas, self._chroma_steps, at, _MIN_CHROMA_DIFFERENCE, _MIN_CHROMA_SPREAD):
            return self._accept(time, after)
        return None

    def _find_gradual(self) -> float | None:
        """The middle of a dissolve or fade, if the picture is at rest again, or None."""
        time, trace = self._traces[-1]
        if max(self._steps) > _MAX_REST_DIFFERENCE:
            return None
        rest, rest_time = self._rest, self._rest_time
        if (
            rest is not None
            and _spread(rest, trace) > _GRADUAL_SPREAD
            and _difference(rest, trace) > _GRADUAL_DIFFERENCE
            and _correlation(rest, trace) < _MIN_CORRELATION
            and (time - rest_time < _MAX_GRADUAL or _correlation(self._past[0][1], trace) < _MIN_CORRELATION)
        ):
            # After a longer movement, the dissolve took place within the last `_LOOK_BACK` seconds.
            start = rest_time if time - rest_time < _MAX_GRADUAL else time - _LOOK_BACK
            return self._accept((start + time) / 2, trace)
        self._rest, self._rest_time = trace, time
        return None

    def _accept(self, time: float, trace: Trace) -> float | None:
        """Record a shot boundary and return its time; None if a later one is already known."""
        self._rest, self._rest_time = trace, time
        if time <= self._last_boundary:
            return None
        self._last_boundary = time
        return time


class ClipDivider:
    """Divides shots into clips of 2 to 10 s while the video is decoded.

    A shot that is too short is merged with its neighbour; one that is too long is split.
    """

    def __init__(self) -> None:
        self.start = 0.0
        self._at_boundary = True  # whether the next clip begins at a shot boundary or at 0

    def end_shot(self, time: float) -> list[ClipSpan]:
        """The clips that are complete at a shot boundary; none if the shot is too short for a clip."""
        if time - self.start < SHORTEST:
            return []
        return self._close(time, at_boundary=True)

    def split_long(self, time: float) -> list[ClipSpan]:
        """The clip that is split off because the shot, which lasts until `time` at least, is too long."""
        if time - self.start <= SPLIT_SECONDS + LONGEST - SHORTEST:
            return []
        return self._close(self.start + SPLIT_SECONDS, at_boundary=False)

    def finish(self, end: float, last: ClipSpan | None) -> list[ClipSpan]:
        """The remaining clips at the end of the video.

        If the remainder is too short for a clip, the result is the clip `last` with a later end, which
        replaces it.
        """
        remaining = end - self.start
        if remaining <= 0:
            return []
        if remaining < SHORTEST and last is not None:
            return [ClipSpan(last.start, end, last.at_boundary)]
        return self._close(end, at_boundary=False)

    def _close(self, end: float, *, at_boundary: bool) -> list[ClipSpan]:
        """Divide the time since the last clip into clips. `at_boundary`: whether a shot ends at `end`."""
        # The last clip must have room for a remainder that is too short for a clip of its own.
        count = 1 if end - self.start <= LONGEST - SHORTEST else 2
        edges = np.linspace(self.start, end, count + 1)
        clips = [
            ClipSpan(float(edges[number]), float(edges[number + 1]), self._at_boundary and number == 0)
            for number in range(count)
        ]
        self.start, self._at_boundary = end, at_boundary
        return clips


def _jumps(
    traces: Sequence[Trace], steps: Sequence[float], at: int, min_difference: float, min_spread: float
) -> bool:
    """Whether there is a hard cut between the traces `at - 1` and `at`. `steps` are their differences."""
    step = steps[at]
    around = [value for number, value in enumerate(steps) if number != at and number > 0]
    if step < min_difference or step < _MIN_RATIO * (float(np.mean(around)) + _NOISE) or step < max(around):
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
    return float((np.abs(one - other) > _CHANGED).mean())


def _correlation(one: Trace, other: Trace) -> float:
    """The correlation of two traces, -1 to 1."""
    a, b = one - one.mean(), other - other.mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / scale if scale > 0 else 0.0
