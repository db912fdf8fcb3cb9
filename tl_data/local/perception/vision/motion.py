"""Motion of objects and of the camera, from the optical flow between small pictures.

Camera motion is a shift and a scale fitted to the flow of the textured parts. The residual is the motion of
objects. Flow is computed on luma, or on a colour difference if that changes much more: pink on orange has
no contrast in luma.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from tl_data.local.perception.decode import Picture

_WIDTH = 192  # pixels, of the pictures whose flow is computed
_SPREAD = 0.022  # product of the standard deviations of positions over the sides; 0.083 for the whole picture
_SOME = 0.002  # least share of the picture that moves apart from the camera
_MOVES = 0.02  # least speed of a moving pixel in picture widths per second
_CHANGES = 0.25  # least mean difference of two pictures with motion, of 255
_FAR_MORE = 2.0  # least ratio of the changes in colour and in luma at which colour is used


@dataclass(frozen=True)
class Step:
    """Motion between two pictures, in picture widths per second."""

    amount: float  # mean over the picture
    right: float  # mean motion of objects to the right, without the camera ...
    down: float  # ... and downwards
    moving: float  # share of the picture that moves apart from the camera
    pan: float  # common shift of the picture to the right
    tilt: float  # and downwards
    zoom: float  # growth per second, 0 = none
    fit: float  # share of the textured parts that follow the common motion


class Motion:
    """Computes the motion between consecutive pictures."""

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._before: Any = None
        self._time = 0.0

    def add(self, time: float, picture: Picture) -> Step | None:
        """The motion since the last picture; None for the first one and after a change of size."""
        height = max(32, round(picture.shape[0] * _WIDTH / picture.shape[1]))
        small = cv2.resize(picture, (_WIDTH, height), interpolation=cv2.INTER_AREA)
        planes = cv2.split(cv2.cvtColor(small, cv2.COLOR_RGB2YCrCb))
        before, self._before = self._before, planes
        passed, self._time = time - self._time, time
        if before is None or before[0].shape != planes[0].shape or not 0 < passed < 2:
            return None
        changes = [float(cv2.absdiff(*pair).mean()) for pair in zip(before, planes, strict=True)]
        plane = int(np.argmax(changes))
        if changes[plane] < _FAR_MORE * changes[0]:
            plane = 0
        if changes[plane] < _CHANGES:
            return Step(0, 0, 0, 0, 0, 0, 0, 1)
        flow = self._flow.calc(before[plane], planes[plane], None)
        return _step(before[plane], planes[plane], flow, passed)


def _step(before: Any, gray: Any, flow: Any, passed: float) -> Step:
    height, width = gray.shape
    ys, xs = np.mgrid[4 : height - 4 : 6, 4 : width - 4 : 6]
    ys, xs = ys.ravel(), xs.ravel()
    texture = cv2.blur(cv2.absdiff(before, cv2.GaussianBlur(before, (0, 0), 3)), (7, 7))
    seen = texture[ys, xs] > 2  # flat parts have no reliable flow
    scale = 1 / (width * passed)
    moves = flow[ys, xs] * scale
    pan = tilt = zoom = 0.0
    fit = 0.0
    # A static border around a moving object has no common motion although few parts are textured.
    still = np.abs(moves).max(axis=1) < _MOVES
    if seen.sum() >= 24 and still[seen].mean() < 0.5:
        points = np.column_stack((xs[seen] - width / 2, ys[seen] - height / 2)).astype(np.float32)
        matrix, kept = cv2.estimateAffinePartial2D(
            points, points + flow[ys, xs][seen], method=cv2.RANSAC, ransacReprojThreshold=1.5, maxIters=200
        )
        if matrix is not None:
            fit = float(kept.mean())
            # Motion in a part of the picture is that of an object, not of the camera.
            spread = float(np.prod(points[kept.ravel() > 0].std(axis=0) / (width, height)))
            if fit > 0.5 and spread > _SPREAD:
                pan, tilt = float(matrix[0, 2]) * scale, float(matrix[1, 2]) * scale
                zoom = (float(np.hypot(matrix[0, 0], matrix[1, 0])) - 1) / passed
                common = np.column_stack((xs - width / 2, ys - height / 2, np.ones(xs.size))) @ matrix.T
                common -= np.column_stack((xs - width / 2, ys - height / 2))
                moves = moves - common * scale
    changed = cv2.blur(cv2.absdiff(before, gray), (5, 5))[ys, xs] > 3
    speeds = np.hypot(moves[:, 0], moves[:, 1])
    moving = (speeds > _MOVES) & changed
    right, down = (float(v) for v in moves[moving].mean(axis=0)) if moving.any() else (0.0, 0.0)
    amount = float(np.hypot(flow[ys, xs, 0], flow[ys, xs, 1])[changed].sum() / xs.size) * scale
    return Step(amount, right, down, float(moving.mean()), pan, tilt, zoom, fit)


def summary(steps: Sequence[Step]) -> tuple[float, str | None, str]:
    """The amount of motion, its direction, and the camera movement of a clip."""
    if not steps:
        return 0.0, None, "static"
    amount = float(np.mean([step.amount for step in steps]))
    return round(amount, 4), _direction(steps), _camera(steps)


def sureness(steps: Sequence[Step]) -> tuple[float | None, float | None, float | None]:
    """The confidences of motion, direction and camera of a clip, 0 to 1; None if not measured."""
    if not steps:
        return None, None, None
    moving = np.array([step.moving for step in steps])
    motion = float(((moving >= _SOME) == (moving.mean() >= _SOME)).mean())
    direction = None
    if (way := _direction(steps)) is not None:
        right, down = (np.array([getattr(step, what) for step in steps]) for what in ("right", "down"))
        along = {"right": right, "left": -right, "down": down, "up": -down}[way]
        direction = round(float((along * moving).sum() / (np.hypot(right, down) * moving).sum()), 3)
    label = _camera(steps)
    if label == "shaky":  # a single step cannot be shaky: moving steps that cancel one another are
        moved = [step for step in steps if _moved(step)]
        pan, tilt = (np.array([getattr(step, what) for step in moved]) for what in ("pan", "tilt"))
        swing = float(np.hypot(pan, tilt).mean())
        camera = (1 - float(np.hypot(pan.mean(), tilt.mean())) / swing) * len(moved) / len(steps)
    else:
        camera = float(np.mean([_camera([step]) == label for step in steps]))
    return round(motion, 3), direction, round(camera, 3)


def _direction(steps: Sequence[Step]) -> str | None:
    weights = np.array([step.moving for step in steps])
    if weights.mean() < _SOME:
        return None
    right = float(np.average([step.right for step in steps], weights=weights))
    down = float(np.average([step.down for step in steps], weights=weights))
    speed = float(np.average([np.hypot(step.right, step.down) for step in steps], weights=weights))
    if max(abs(right), abs(down)) < max(0.02, 0.5 * speed):  # back and forth
        return None
    if abs(right) >= abs(down):
        return "right" if right > 0 else "left"
    return "down" if down > 0 else "up"


def _moved(step: Step) -> bool:
    """Whether the camera moves in a step."""
    return step.fit > 0.5 and abs(step.pan) + abs(step.tilt) + abs(step.zoom) > 0.02


def _camera(steps: Sequence[Step]) -> str:
    moved = [step for step in steps if _moved(step)]
    if len(moved) < 0.4 * len(steps):
        return "static"
    pan, tilt, zoom = (
        float(np.mean([getattr(step, what) for step in moved])) for what in ("pan", "tilt", "zoom")
    )
    swing = float(np.mean([np.hypot(step.pan, step.tilt) for step in moved]))
    if abs(zoom) > 0.03 and abs(zoom) / 2 > max(abs(pan), abs(tilt)):
        return "zoom in" if zoom > 0 else "zoom out"
    if swing > 0.03 and np.hypot(pan, tilt) < 0.35 * swing:
        return "shaky"
    if max(abs(pan), abs(tilt)) < 0.02:
        return "static"
    if abs(pan) >= abs(tilt):  # the picture shifts left when the camera pans right
        return "pan right" if pan < 0 else "pan left"
    return "tilt down" if tilt < 0 else "tilt up"
