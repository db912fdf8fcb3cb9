"""Exact conversion of seconds to frames and SMPTE timecode. Rates are fractions, and frames are integers.

The rates 29.97, 59.94 and 119.88 use drop-frame timecode (`01:00:00;02`): each minute except every tenth
skips 2, 4 or 8 frame numbers, so that the timecode agrees with the clock. 23.976 and 47.952 have none.
Timecode ends at 24 hours.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from tl_data.errors import SettingsError

RATES = tuple(
    Fraction(n, d)
    for n, d in (
        *((24000, 1001), (24, 1), (25, 1), (30000, 1001), (30, 1), (48000, 1001), (48, 1), (50, 1)),
        *((60000, 1001), (60, 1), (100, 1), (120000, 1001), (120, 1)),
    )
)
#: The largest relative difference between a measured rate and its standard rate. 29.97 and 30 differ by
#: 1/1000; files with the rate 30000/1001 give it as 29.97 or 29.969.
TOLERANCE = Fraction(1, 2000)


def standard_rate(fps: float | None) -> Fraction | None:
    """The standard rate that is nearest to a measured rate; None if none is within `TOLERANCE`."""
    if fps is None or not 0 < fps < 1000:
        return None
    nearest = min(RATES, key=lambda rate: abs(rate - Fraction(fps)))
    return nearest if abs(nearest - Fraction(fps)) <= nearest * TOLERANCE else None


@dataclass(frozen=True)
class Rate:
    """A frame rate, and the timecode of its frames."""

    fps: Fraction

    @property
    def nominal(self) -> int:
        """The number of frames in a second of timecode: 30 for 29.97."""
        return round(self.fps)

    @property
    def drop(self) -> int:
        """How many frame numbers a minute skips: 2 at 29.97, 4 at 59.94, 8 at 119.88, otherwise 0."""
        return self.nominal // 15 if self.fps.denominator == 1001 and self.nominal % 30 == 0 else 0

    def frames(self, seconds: float) -> int:
        """The frame that is nearest to a time; a time halfway between two frames gives the later one."""
        return int(Fraction(seconds) * self.fps + Fraction(1, 2)) if seconds > 0 else 0

    def seconds(self, frames: int) -> Fraction:
        """The time at which a frame begins."""
        return frames / self.fps

    @property
    def day(self) -> int:
        """The number of frames in 24 hours of timecode."""
        return self.nominal * 86_400 - self.drop * (1440 - 144)

    def label(self, frames: int) -> str:
        """The timecode of a frame.

        Raises:
            OverflowError: the frame is after 24 hours, where timecode would start again at 0.
        """
        if frames >= self.day:
            raise OverflowError("the timecode is above 24 hours")
        number = frames
        if self.drop:
            minute_frames = self.nominal * 60 - self.drop
            ten_minutes, rest = divmod(frames, minute_frames * 10 + self.drop)
            number += self.drop * 9 * ten_minutes
            if rest >= self.drop:
                number += self.drop * ((rest - self.drop) // minute_frames)
        seconds, frame = divmod(number, self.nominal)
        minutes, second = divmod(seconds, 60)
        hour, minute = divmod(minutes, 60)
        mark = ";" if self.drop else ":"
        return f"{hour:02}:{minute:02}:{second:02}{mark}{frame:0{len(str(self.nominal - 1))}}"

    def frame_of(self, label: str) -> int:
        """The frame of a timecode.

        Raises:
            SettingsError: the timecode is invalid, or names a frame number that is skipped.
        """
        parts = label.replace(";", ":").split(":")
        if len(parts) != 4 or not all(p.isdigit() for p in parts):
            raise SettingsError(f"start is {label!r}; a timecode is HH:MM:SS:FF, such as 01:00:00:00")
        hour, minute, second, frame = map(int, parts)
        minutes = hour * 60 + minute
        is_skipped = self.drop and minute % 10 and second == 0 and frame < self.drop
        if hour > 23 or minute > 59 or second > 59 or frame >= self.nominal or is_skipped:
            raise SettingsError(
                f"start is {label!r}, which is not a valid timecode at {float(self.fps):.3f} fps"
            )
        number = (minutes * 60 + second) * self.nominal + frame
        return number - self.drop * (minutes - minutes // 10)
