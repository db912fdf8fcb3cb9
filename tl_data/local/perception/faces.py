"""Faces, by the cascades that ship with OpenCV.

The two frontal ones are wrong in different places: what both find is taken for a face. A face that looks to a
side is found by a third one, seen from both sides, if it is large and enough windows agree. On 435 labelled
pictures of clips, photographs and drawn scenes this names 54, of which 52 show a person, and misses 151 of
the 203 with people: backs, far away, dark. The frontal ones alone find 45.

What ships for whole bodies was measured, too, and left out. Set to be right 19 times of 20 on one half of the
pictures, HOG found 6 of 109 on the other, Daimler's detector none, the cascades of upper, lower and full
bodies none, 9 and 3. With each place left out in turn HOG was wrong more often than right: it names bottles
people. Two that agree, a fit of all of them together, and what moves before a resting camera were no better:
benchmarks/engine_people.py.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import cv2
import cv2.data
import numpy as np

from tl_data.local.perception.decode import Picture

_SIDE, _SIDE_SMALL = 480, 320  # pixels of the longer side that faces are looked for in, and profiles
_FRONTAL = ("haarcascade_frontalface_alt2.xml", "haarcascade_frontalface_default.xml")
_PROFILE = "haarcascade_profileface.xml"
_LARGE = 0.2  # of the shorter side: smaller profiles were mostly something else
_VOTES, _VOTES_PROFILE = 6, 5  # neighbouring windows that must agree


def faces(picture: Picture) -> tuple[tuple[str, float], ...]:
    """("face", confidence) for every face that looks at the camera or to a side, surest first."""
    height, width = picture.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    small = cv2.resize(picture, _size(width, height, scale), interpolation=cv2.INTER_AREA)
    gray = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    found = _frontal(gray)
    found += [
        (box, sure) for box, sure in _profiles(gray) if not any(_same(box, other) for other, _ in found)
    ]
    return tuple(("face", confidence) for confidence in sorted((sure for _, sure in found), reverse=True))


def _frontal(gray: Any) -> list[tuple[Any, float]]:
    gray = cv2.equalizeHist(gray)
    least = max(24, min(gray.shape) // 10)
    first = _detect(_FRONTAL[0], gray, 1.1, least, _VOTES)
    if not first:  # the second opinion is only worth its time when there is a first one
        return []
    second = _detect(_FRONTAL[1], gray, 1.1, least, _VOTES)
    return [(box, min(one, other)) for box, one in first for place, other in second if _near(box, place)]


def _profiles(gray: Any) -> list[tuple[Any, float]]:
    """Faces that look to a side: the cascade knows one side, so it sees the mirror image as well."""
    height, width = gray.shape
    scale = min(1.0, _SIDE_SMALL / max(height, width))
    small = cv2.resize(gray, _size(width, height, scale), interpolation=cv2.INTER_AREA)
    small = cv2.equalizeHist(small)
    least = max(20, round(_LARGE * min(small.shape)))
    found: list[tuple[Any, float]] = []
    for mirrored in (False, True):
        for box, sure in _detect(
            _PROFILE, cv2.flip(small, 1) if mirrored else small, 1.2, least, _VOTES_PROFILE
        ):
            x = small.shape[1] - box[0] - box[2] if mirrored else box[0]
            place = np.array((x, *box[1:])) / scale
            if not any(_same(place, other) for other, _ in found):
                found.append((place, sure))
    return found


def _size(width: int, height: int, scale: float) -> tuple[int, int]:
    return max(1, round(width * scale)), max(1, round(height * scale))


def _detect(name: str, gray: Any, step: float, least: int, agreed: int) -> list[tuple[Any, float]]:
    boxes, votes = _model(name).detectMultiScale2(
        gray, scaleFactor=step, minNeighbors=agreed - 1, minSize=(least, least)
    )
    # How many neighbouring windows agree is the only measure that the cascades have in common.
    return [
        (box, round(min(1.0, 0.3 + float(count) / 40), 2))
        for box, count in zip(boxes, np.ravel(votes), strict=True)
    ]


def _near(one: Any, other: Any) -> bool:
    return bool(_apart(one, other) < 0.3 * one[2] and 0.6 < one[2] / other[2] < 1.7)


def _same(one: Any, other: Any) -> bool:
    """Whether two boxes lie on one head: a profile's is not where a frontal face's is."""
    return bool(_apart(one, other) < 0.6 * max(one[2], other[2]))


def _apart(one: Any, other: Any) -> float:
    return float(
        np.hypot(one[0] + one[2] / 2 - other[0] - other[2] / 2, one[1] + one[3] / 2 - other[1] - other[3] / 2)
    )


@cache
def _model(name: str) -> Any:
    return cv2.CascadeClassifier(cv2.data.haarcascades + name)
