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

#: Smallest score of a face. None of 232 frames without a face reached it. Backs of heads stay below 0.62.
MIN_FACE_SCORE = 0.66
_SIDE = 192  # pixels per side of the model's input
_CELLS = 48  # anchors per side
_SAME_FACE = 0.3  # two boxes with at least this intersection over union are one face


def faces(picture: Picture) -> list[tuple[float, Box]]:
    """Detect faces: confidence (0..1) and box of each, largest confidence first.

    A box is (left, top, width, height) as fractions of the picture.

    Raises:
        ModelFailed: the weights are missing, or their SHA-256 is not the expected one.
    """
    image, scale, left, top = letterbox(picture, _SIDE)
    model = _model()
    model_input = image.astype(np.float32)[None] / 127.5 - 1
    model.set_tensor(model.get_input_details()[0]["index"], model_input)
    model.invoke()
    outputs = [np.asarray(model.get_tensor(out["index"]))[0] for out in model.get_output_details()]
    raw, scores = sorted(outputs, key=lambda array: -array.shape[-1])
    confidences = 1 / (1 + np.exp(-np.clip(scores.ravel(), -80, 80)))
    detections = []
    height, width = picture.shape[:2]
    for anchor in np.flatnonzero(confidences >= MIN_FACE_SCORE):
        x, y = (
            (anchor % _CELLS + 0.5) / _CELLS * _SIDE + raw[anchor, 0],
            (anchor // _CELLS + 0.5) / _CELLS * _SIDE + raw[anchor, 1],
        )
        box_width, box_height = raw[anchor, 2], raw[anchor, 3]
        box = (
            (x - box_width / 2 - left) / scale / width, (y - box_height / 2 - top) / scale / height,
            box_width / scale / width, box_height / scale / height,
        )  # fmt: skip
        detections.append((round(float(confidences[anchor]), 3), clip_to_picture(box)))
    return drop_overlaps(detections, _SAME_FACE)


def letterbox(picture: Picture, side: int) -> tuple[npt.NDArray[np.uint8], float, int, int]:
    """Fit a picture into a black square; returns the square, its scale, and the left and top offset."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    scaled_height, scaled_width = max(1, round(height * scale)), max(1, round(width * scale))
    square = np.zeros((side, side, 3), np.uint8)
    top, left = (side - scaled_height) // 2, (side - scaled_width) // 2
    square[top : top + scaled_height, left : left + scaled_width] = cv2.resize(
        picture,
        (scaled_width, scaled_height),
        interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR,
    )
    return square, scale, left, top


def clip_to_picture(box: tuple[float, ...]) -> Box:
    """Clip a box to the picture."""
    x, y, width, height = (float(number) for number in box)
    left, top = min(max(x, 0.0), 1.0), min(max(y, 0.0), 1.0)
    right, bottom = min(max(x + width, 0.0), 1.0), min(max(y + height, 0.0), 1.0)
    return round(left, 4), round(top, 4), round(right - left, 4), round(bottom - top, 4)


def overlap(one: Box, other: Box) -> float:
    """Intersection over union of two boxes, 0..1."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    total = one[2] * one[3] + other[2] * other[3] - shared
    return shared / total if total > 0 else 0.0


def drop_overlaps(detections: list[tuple[float, Box]], min_overlap: float) -> list[tuple[float, Box]]:
    """Keep the best of overlapping boxes (non-maximum suppression); returns them best first.

    Args:
        detections: confidence and box of each.
        min_overlap: two boxes with at least this intersection over union are one object.
    """
    kept: list[tuple[float, Box]] = []
    for confidence, box in sorted(detections, reverse=True):
        if box[2] > 0 and box[3] > 0 and all(overlap(box, other) < min_overlap for _, other in kept):
            kept.append((confidence, box))
    return kept


@cache
def _model() -> Any:
    """The model, loaded once per process."""
    [data] = weights.read(weights.FACES).values()
    return interpreter(data)


def interpreter(data: bytes) -> Any:
    """A LiteRT interpreter with one thread, ready for input."""
    from ai_edge_litert.interpreter import Interpreter

    result = Interpreter(model_content=data, num_threads=1)
    result.allocate_tensors()
    return result
