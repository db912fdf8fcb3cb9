"""Frames of a stream in order, each with its time; what is damaged or mistimed is stepped over.

A video need not have a frame for each moment: recorders of screens and telephones write one when something
changes, slides one each, and a still picture may have an hour of sound. A picture stays until the next one.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import Any

import av

HOLD = 1.5  # seconds from which on a picture that does not change is looked at again
_PATIENCE = 400  # packets without a picture before a stream counts as unreadable


def decoded(
    container: Any, stream: Any, broken: list[int] | None = None, beside: Beside | None = None
) -> Iterator[Any]:
    """The frames of one stream; what is damaged is stepped over, and a cut-off file just ends."""
    other = beside.stream if beside else None
    packets, fruitless = container.demux([stream] if other is None else [stream, other]), 0
    while fruitless < _PATIENCE:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError:
            return
        if packet is None:
            return
        if beside and packet.stream is other:
            beside.add(packet)
            continue
        try:
            found = packet.decode()
        except av.error.FFmpegError:
            found = []
            if broken is not None:
                broken.append(packet.pos or 0)
        fruitless = 0 if found else fruitless + 1
        yield from found


def held(time: float, until: float) -> Iterator[float]:
    """When a picture that is shown from `time` to `until` is looked at again: every second of a long time."""
    if until - time > HOLD:
        yield from (time + second for second in range(1, ceil(until - time - 0.25)))


def timed(frames: Iterator[Any], stream: Any, step: float, duration: float) -> Iterator[tuple[float, Any]]:
    """Frames with their seconds, which start at 0 and never go back."""
    start: float | None = None
    time = -step
    following = next(frames, None)
    while (frame := following) is not None:
        following = next(frames, None)
        if start is None:
            first, start = frame.time or 0.0, origin(stream)
            start = start if start is not None and 0 <= first - start <= 10 else first
        at = frame.time - start if frame.time is not None else time + step
        # A jump back is a broken timestamp, and so is one far ahead, unless the file is as long and goes on
        # there: then nothing changed in between. Else go on at the usual pace.
        far = at - time > 10 + 2 * step
        goes_on = following is None or following.time is None or following.time - start >= at
        if not (at >= time or time < 0 <= at) or (far and not (at <= duration + 1 and goes_on)):
            at = time + step
        time = at
        yield time, frame


def origin(stream: Any) -> float | None:
    """The time in a stream's own clock at which it begins, in seconds."""
    return None if stream.start_time is None else float(stream.start_time * stream.time_base)


class Beside:
    """How far a stream goes that is not decoded, in seconds of the video; 0 without one."""

    def __init__(self, stream: Any, begin: float | None) -> None:
        self.stream, self._begin, self.end = stream, begin or 0.0, 0.0

    def add(self, packet: Any) -> None:
        """Take a packet of the stream."""
        if packet.pts is not None:
            end = float((packet.pts + (packet.duration or 0)) * packet.time_base) - self._begin
            self.end = max(self.end, end)


def notable(seconds: float) -> float:
    """How far from a length of so many seconds the pictures may end without a word about it, in seconds."""
    return max(2.0, 0.1 * seconds)
