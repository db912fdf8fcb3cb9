"""Detects faces with BlazeFace (full range): frontal and profile, up to 5 m away."""

from __future__ import annotations

from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tl_data.local import weights
from tl_data.local.perception.decode import Picture
from tl_data.local.perception.evidence import Box

#: Least score of a face. None of 232 frames without a face reached it; backs of heads stay below 0.62.
SURE = 0.66
_SIDE = 192  # pixels of the input
_CELLS = 48  # anchors per side
_SAME = 0.3  # least intersection over union of two boxes of one face


def faces(picture: Picture) -> list[tuple[float, Box]]:
    """Confidence and box of every face, largest confidence first; boxes are shares of the picture.

    Raises:
        ModelFailed: the weights are missing or differ.
    """
    image, scale, left, top = letterboxed(picture, _SIDE)
    model = _model()
    given = image.astype(np.float32)[None] / 127.5 - 1
    model.set_tensor(model.get_input_details()[0]["index"], given)
    model.invoke()
    outputs = [np.asarray(model.get_tensor(out["index"]))[0] for out in model.get_output_details()]
    raw, scores = sorted(outputs, key=lambda array: -array.shape[-1])
    sure = 1 / (1 + np.exp(-np.clip(scores.ravel(), -80, 80)))
    found = []
    height, width = picture.shape[:2]
    for at in np.flatnonzero(sure >= SURE):
        x, y = (
            (at % _CELLS + 0.5) / _CELLS * _SIDE + raw[at, 0],
            (at // _CELLS + 0.5) / _CELLS * _SIDE + raw[at, 1],
        )
        wide, high = raw[at, 2], raw[at, 3]
        box = (
            (x - wide / 2 - left) / scale / width, (y - high / 2 - top) / scale / height,
            wide / scale / width, high / scale / height,
        )  # fmt: skip
        found.append((round(float(sure[at]), 3), clipped(box)))
    return distinct(found, _SAME)


def letterboxed(picture: Picture, side: int) -> tuple[npt.NDArray[np.uint8], float, int, int]:
    """The picture in a black square, with its scale and offsets."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    high, wide = max(1, round(height * scale)), max(1, round(width * scale))
    square = np.zeros((side, side, 3), np.uint8)
    top, left = (side - high) // 2, (side - wide) // 2
    square[top : top + high, left : left + wide] = cv2.resize(
        picture, (wide, high), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    )
    return square, scale, left, top


def clipped(box: tuple[float, ...]) -> Box:
    """A box clipped to the picture."""
    x, y, wide, high = (float(number) for number in box)
    left, top = min(max(x, 0.0), 1.0), min(max(y, 0.0), 1.0)
    right, bottom = min(max(x + wide, 0.0), 1.0), min(max(y + high, 0.0), 1.0)
    return round(left, 4), round(top, 4), round(right - left, 4), round(bottom - top, 4)


def overlap(one: Box, other: Box) -> float:
    """Intersection over union of two boxes, 0..1."""
    wide = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    high = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(0.0, wide) * max(0.0, high)
    total = one[2] * one[3] + other[2] * other[3] - shared
    return shared / total if total > 0 else 0.0


def distinct(found: list[tuple[float, Box]], same: float) -> list[tuple[float, Box]]:
    """Non-maximum suppression: the best of overlapping boxes, best first."""
    kept: list[tuple[float, Box]] = []
    for sure, box in sorted(found, reverse=True):
        if box[2] > 0 and box[3] > 0 and all(overlap(box, other) < same for _, other in kept):
            kept.append((sure, box))
    return kept


@cache
def _model() -> Any:
    [data] = weights.read(weights.FACES).values()
    return interpreter(data)


def interpreter(data: bytes) -> Any:
    """A LiteRT interpreter with one thread, ready for input."""
    from ai_edge_litert.interpreter import Interpreter

    made = Interpreter(model_content=data, num_threads=1)
    made.allocate_tensors()
    return made
