"""Seconds to frames and SMPTE timecode, exactly: rates are fractions, frames whole numbers.

29.97 and 59.94 count with dropped numbers (`01:00:00;02`): two (or four) numbers of each minute that is not a
tenth are left out, so that the label keeps to the clock. 23.976 has no such count. A label has 24 hours.
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
TOLERANCE = Fraction(
    1, 2000
)  # a tenth of the distance between 29.97 and 30 is 1/10,000; files say 29.97 or 29.969


def standard_rate(fps: float | None) -> Fraction | None:
    """The standard rate that a measured one stands for; None when it is unknown or near to none."""
    if fps is None or not 0 < fps < 1000:
        return None
    near = min(RATES, key=lambda rate: abs(rate - Fraction(fps)))
    return near if abs(near - Fraction(fps)) <= near * TOLERANCE else None


@dataclass(frozen=True)
class Rate:
    """Frames per second, and how they are numbered."""

    fps: Fraction

    @property
    def nominal(self) -> int:
        """The whole number of frames that a second of timecode counts: 30 for 29.97."""
        return round(self.fps)

    @property
    def drop(self) -> int:
        """The frame numbers that are left out in a minute: 2 at 29.97, 4 at 59.94, else 0."""
        return self.nominal // 15 if self.fps.denominator == 1001 and self.nominal % 30 == 0 else 0

    def frames(self, seconds: float) -> int:
        """The frame that is nearest to a time; halves go to the later one."""
        return int(Fraction(seconds) * self.fps + Fraction(1, 2)) if seconds > 0 else 0

    def seconds(self, frames: int) -> Fraction:
        """The time at which a frame begins."""
        return frames / self.fps

    @property
    def day(self) -> int:
        """The frames that 24 hours of timecode number."""
        return self.nominal * 86_400 - self.drop * (1440 - 144)

    def label(self, frames: int) -> str:
        """The timecode of a frame.

        Raises:
            OverflowError: it lies beyond 24 hours, where numbers would begin anew.
        """
        if frames >= self.day:
            raise OverflowError("the timecode passes 24 hours")
        number = frames
        if self.drop:
            minute = self.nominal * 60 - self.drop
            tens, rest = divmod(frames, minute * 10 + self.drop)
            number += self.drop * 9 * tens
            if rest >= self.drop:
                number += self.drop * ((rest - self.drop) // minute)
        seconds, frame = divmod(number, self.nominal)
        minutes, second = divmod(seconds, 60)
        hour, minute_ = divmod(minutes, 60)
        mark = ";" if self.drop else ":"
        return f"{hour:02}:{minute_:02}:{second:02}{mark}{frame:0{len(str(self.nominal - 1))}}"

    def frame_of(self, label: str) -> int:
        """The frame of a timecode.

        Raises:
            SettingsError: it is none, or names a number that is left out.
        """
        parts = label.replace(";", ":").split(":")
        if len(parts) != 4 or not all(p.isdigit() for p in parts):
            raise SettingsError(f"start is {label!r}; a timecode is HH:MM:SS:FF, such as 01:00:00:00")
        hour, minute, second, frame = map(int, parts)
        minutes = hour * 60 + minute
        left_out = self.drop and minute % 10 and second == 0 and frame < self.drop
        if hour > 23 or minute > 59 or second > 59 or frame >= self.nominal or left_out:
            raise SettingsError(f"start is {label!r}, which is no timecode at {float(self.fps):.3f} fps")
        whole = (minutes * 60 + second) * self.nominal + frame
        return whole - self.drop * (minutes - minutes // 10)
