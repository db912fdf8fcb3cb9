"""Faces and people, by the detectors that ship with OpenCV."""

from __future__ import annotations

from functools import cache
from typing import Any

import cv2
import cv2.data
import numpy as np

from tl_data.local.media import Picture

_FACE_SIDE = 480  # pixels of the longer side that faces are looked for in
_PEOPLE_SIDE = 400


def people(picture: Picture) -> tuple[tuple[str, float], ...]:
    """("face", confidence) for every face and ("person", confidence) for every whole person, surest first."""
    found = [("face", sure) for sure in _faces(picture)] + [("person", sure) for sure in _persons(picture)]
    return tuple(sorted(found, key=lambda thing: -thing[1]))


def _faces(picture: Picture) -> list[float]:
    gray = cv2.equalizeHist(cv2.cvtColor(_scaled(picture, _FACE_SIDE), cv2.COLOR_RGB2GRAY))
    least = max(24, min(gray.shape) // 12)
    _, _, weights = _face_model().detectMultiScale3(
        gray, scaleFactor=1.15, minNeighbors=6, minSize=(least, least), outputRejectLevels=True
    )
    return [round(min(1.0, float(weight) / 8), 2) for weight in np.ravel(weights) if weight > 3.5]


def _persons(picture: Picture) -> list[float]:
    small = _scaled(picture, _PEOPLE_SIDE)
    if min(small.shape[:2]) < 128:
        return []
    _, weights = _person_model().detectMultiScale(small, winStride=(8, 8), padding=(8, 8), scale=1.08)
    return [round(min(1.0, float(weight) / 2), 2) for weight in np.ravel(weights) if weight > 0.8]


def _scaled(picture: Picture, side: int) -> Any:
    height, width = picture.shape[:2]
    scale = min(1.0, side / max(height, width))
    return cv2.resize(picture, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)


@cache
def _face_model() -> Any:
    return cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_alt2.xml")


@cache
def _person_model() -> Any:
    model = cv2.HOGDescriptor()
    model.setSVMDetector(cv2.HOGDescriptor.getDefaultPeopleDetector())
    return model
