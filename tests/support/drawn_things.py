"""Things that are drawn plainly enough for both models to recognise them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from tl_data.local.perception.decode import Picture

_WALL = (200, 180, 160)


def wall(width: int = 640, height: int = 480) -> Picture:
    """A plain wall."""
    return np.full((height, width, 3), _WALL, np.uint8)


def clock(width: int = 640, height: int = 480, hour: float = 10.0) -> Picture:
    """A wall clock."""
    picture = wall(width, height)
    middle, radius = (width // 2, height // 2), min(width, height) // 3

    def at(turn: float, length: float) -> tuple[int, int]:
        angle = 2 * np.pi * turn
        return int(middle[0] + length * np.sin(angle)), int(middle[1] - length * np.cos(angle))

    cv2.circle(picture, middle, radius + 14, (60, 40, 30), -1, cv2.LINE_AA)
    cv2.circle(picture, middle, radius, (250, 250, 245), -1, cv2.LINE_AA)
    for minute in range(60):
        long = minute % 5 == 0
        start, end = at(minute / 60, radius - (18 if long else 8)), at(minute / 60, radius - 3)
        cv2.line(picture, start, end, (20, 20, 20), 3 if long else 1, cv2.LINE_AA)
    for number in range(1, 13):
        wide, high = cv2.getTextSize(str(number), cv2.FONT_HERSHEY_SIMPLEX, 0.9, 2)[0]
        x, y = at(number / 12, radius - 42)
        place = (x - wide // 2, y + high // 2)
        cv2.putText(picture, str(number), place, cv2.FONT_HERSHEY_SIMPLEX, 0.9, (20, 20, 20), 2, cv2.LINE_AA)
    cv2.line(picture, middle, at(hour / 12, radius * 0.5), (10, 10, 10), 8, cv2.LINE_AA)
    cv2.line(picture, middle, at(hour % 1, radius * 0.75), (10, 10, 10), 5, cv2.LINE_AA)
    return picture


def film(path: Path, parts: list[tuple[Picture, float]], fps: int = 10) -> Path:
    """A video that shows each picture for so many seconds; all are of one size."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=fps)
        stream.height, stream.width = parts[0][0].shape[:2]
        stream.pix_fmt = "yuv420p"
        number = 0
        for picture, seconds in parts:
            for _ in range(round(seconds * fps)):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, fps)
                container.mux(stream.encode(frame))
                number += 1
        container.mux(stream.encode(None))
    return path
