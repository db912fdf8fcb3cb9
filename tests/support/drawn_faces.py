"""Heads drawn with a few shapes, which the detectors take for faces."""

from __future__ import annotations

import cv2
import numpy as np

from tl_data.local.perception.decode import Picture

BACKGROUND, SKIN, HAIR = 186, 175, 24
_OUTLINE = (  # of a face that looks to the left, around the middle of the head, in its radius
    (-0.56, -0.77), (-0.58, -0.64), (-0.72, -0.1), (-0.7, -0.08), (-0.74, 0.07), (-0.62, 0.03), (-0.56, 0.23),
    (-0.71, 0.42), (-0.6, 0.4), (-0.72, 0.64), (-0.69, 0.71), (-0.63, 0.97), (-0.39, 1.23), (-0.11, 1.05),
    (0.24, 0.79), (0.51, -0.03), (0.18, -0.55), (-0.01, -0.82),
)  # fmt: skip
_NECK = ((-0.2, 1.0), (0.45, 0.6), (0.55, 2), (-0.15, 2))


def blank(width: int = 640, height: int = 480) -> Picture:
    """A picture of nothing."""
    return np.full((height, width, 3), BACKGROUND, np.uint8)


def frontal(picture: Picture, x: int, y: int, radius: int) -> Picture:
    """A face that looks at the camera, around (x, y)."""
    draw = _Pen(picture, x, y, radius)
    draw.oval(0, -0.15, 0.95, 1.3, HAIR)
    draw.oval(0, 0.05, 0.78, 1.1, 200)
    for side in (-1, 1):
        draw.oval(0.33 * side, -0.1, 0.17, 0.08, 70)
        draw.oval(0.34 * side, -0.3, 0.24, 0.05, 40)
    draw.oval(0, 0.3, 0.13, 0.06, 130)
    draw.oval(0, 0.6, 0.3, 0.07, 100)
    return draw.soft()


def profile(picture: Picture, x: int, y: int, radius: int) -> Picture:
    """A head from its right side, which looks to the left."""
    draw = _Pen(picture, x, y, radius)
    draw.oval(0.35, -0.1, 0.95, 1.15, HAIR)
    draw.area(_OUTLINE, SKIN)
    draw.area(_NECK, 150)
    draw.oval(-0.224, -0.044, 0.187, 0.12, 70)
    draw.oval(-0.318, -0.232, 0.2, 0.05, 30)
    draw.area(((-0.66, 0.47), (-0.38, 0.58), (-0.38, 0.64), (-0.66, 0.53)), 80)
    draw.oval(-0.55, 0.27, 0.06, 0.04, 95)
    draw.oval(0.22, 0.12, 0.1, 0.2, 140)
    return draw.soft()


class _Pen:
    def __init__(self, picture: Picture, x: int, y: int, radius: int) -> None:
        self._picture, self._x, self._y, self._radius = picture.copy(), x, y, radius

    def oval(self, x: float, y: float, across: float, along: float, tone: int) -> None:
        axes = int(across * self._radius), int(along * self._radius)
        cv2.ellipse(self._picture, self._point(x, y), axes, 0, 0, 360, (tone,) * 3, -1)

    def area(self, points: tuple[tuple[float, float], ...], tone: int) -> None:
        cv2.fillPoly(self._picture, [np.array([self._point(*point) for point in points])], (tone,) * 3)

    def soft(self) -> Picture:
        return np.asarray(cv2.GaussianBlur(self._picture, (0, 0), self._radius / 20), np.uint8)

    def _point(self, x: float, y: float) -> tuple[int, int]:
        return round(self._x + x * self._radius), round(self._y + y * self._radius)
