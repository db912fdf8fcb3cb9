"""Faces, by the detectors that ship with OpenCV.

The two frontal-face cascades are wrong in different places: what both find is taken for a face. OpenCV's
detector of whole people (HOG) was tried and left out: it named bottles people and missed the people.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import cv2
import cv2.data
import numpy as np

from tl_data.local.media import Picture

_SIDE = 480  # pixels of the longer side that faces are looked for in
_CASCADES = ("haarcascade_frontalface_alt2.xml", "haarcascade_frontalface_default.xml")


def faces(picture: Picture) -> tuple[tuple[str, float], ...]:
    """("face", confidence) for every face that looks at the camera, surest first."""
    height, width = picture.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    small = cv2.resize(picture, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    gray = cv2.equalizeHist(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY))
    first = _detect(gray, 0)
    if not first:  # the second opinion is only worth its time when there is a first one
        return ()
    second = _detect(gray, 1)
    sure = [min(one, other) for box, one in first for place, other in second if _near(box, place)]
    return tuple(("face", confidence) for confidence in sorted(sure, reverse=True))


def _detect(gray: Any, which: int) -> list[tuple[Any, float]]:
    least = max(24, min(gray.shape) // 10)
    boxes, votes = _model(which).detectMultiScale2(
        gray, scaleFactor=1.1, minNeighbors=5, minSize=(least, least)
    )
    # How many neighbouring windows agree is the only measure that the two have in common.
    return [
        (box, round(min(1.0, 0.3 + float(count) / 40), 2))
        for box, count in zip(boxes, np.ravel(votes), strict=True)
    ]


def _near(one: Any, other: Any) -> bool:
    apart = np.hypot(
        one[0] + one[2] / 2 - other[0] - other[2] / 2, one[1] + one[3] / 2 - other[1] - other[3] / 2
    )
    return bool(apart < 0.3 * one[2] and 0.6 < one[2] / other[2] < 1.7)


@cache
def _model(which: int) -> Any:
    return cv2.CascadeClassifier(cv2.data.haarcascades + _CASCADES[which])
