"""Measures the motion of objects and of the camera by the optical flow between small pictures.

Camera motion is the shift and the scale that fit the flow of the textured parts. The rest is the motion of
objects. Flow is computed on luma, or on a colour difference if that changes much more. For example, pink on
orange has no contrast in luma.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from tl_data.local.perception.decode import Picture

_WIDTH = 192  # width in pixels of the pictures between which flow is computed
#: Common motion is camera motion if the parts with it are spread this far over the picture. The spread is the
#: product of the standard deviations of x and y, as shares of width and height; 0.083 for the whole picture.
_MIN_SPREAD = 0.022
_MIN_MOVING = 0.002  # smallest share of the picture that objects in motion cover
_MIN_SPEED = 0.02  # smallest speed of a moving pixel, in picture widths per second
_MIN_CHANGE = 0.25  # smallest mean difference (0-255) of two pictures with motion
_MIN_COLOR_RATIO = 2.0  # colour is used if it changes this many times as much as luma


@dataclass(frozen=True)
class Step:
    """Motion between two pictures, in picture widths per second."""

    amount: float  # mean over the picture
    right: float  # mean motion of objects to the right, without that of the camera
    down: float  # mean motion of objects downwards, without that of the camera
    moving: float  # share of the picture that objects in motion cover
    pan: float  # shift of the whole picture to the right
    tilt: float  # shift of the whole picture downwards
    zoom: float  # growth of the picture per second; 0 without a zoom
    fit: float  # share of the textured parts that follow the common motion


class Motion:
    """Computes the motion between consecutive pictures."""

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._before: Any = None
        self._time = 0.0

    def add(self, time: float, picture: Picture) -> Step | None:
        """Measure the motion since the last picture; None for the first one and after a change of size."""
        height = max(32, round(picture.shape[0] * _WIDTH / picture.shape[1]))
        small = cv2.resize(picture, (_WIDTH, height), interpolation=cv2.INTER_AREA)
        planes = cv2.split(cv2.cvtColor(small, cv2.COLOR_RGB2YCrCb))
        before, self._before = self._before, planes
        seconds, self._time = time - self._time, time
        if before is None or before[0].shape != planes[0].shape or not 0 < seconds < 2:
            return None
        changes = [float(cv2.absdiff(*pair).mean()) for pair in zip(before, planes, strict=True)]
        plane = int(np.argmax(changes))
        if changes[plane] < _MIN_COLOR_RATIO * changes[0]:
            plane = 0
        if changes[plane] < _MIN_CHANGE:
            return Step(0, 0, 0, 0, 0, 0, 0, 1)
        flow = self._flow.calc(before[plane], planes[plane], None)
        return _step(before[plane], planes[plane], flow, seconds)


def _step(before: Any, gray: Any, flow: Any, seconds: float) -> Step:
    """Separate the flow between two planes into the motion of the camera and that of objects.

    `seconds` is the time between them.
    """
    height, width = gray.shape
    ys, xs = np.mgrid[4 : height - 4 : 6, 4 : width - 4 : 6]
    ys, xs = ys.ravel(), xs.ravel()
    texture = cv2.blur(cv2.absdiff(before, cv2.GaussianBlur(before, (0, 0), 3)), (7, 7))
    textured = texture[ys, xs] > 2  # flat parts have no reliable flow
    scale = 1 / (width * seconds)
    motion = flow[ys, xs] * scale
    pan = tilt = zoom = 0.0
    fit = 0.0
    # A static border around a moving object is not camera motion, even if only a few parts have texture.
    still = np.abs(motion).max(axis=1) < _MIN_SPEED
    if textured.sum() >= 24 and still[textured].mean() < 0.5:
        points = np.column_stack((xs[textured] - width / 2, ys[textured] - height / 2)).astype(np.float32)
        matrix, inliers = cv2.estimateAffinePartial2D(
            points,
            points + flow[ys, xs][textured],
            method=cv2.RANSAC,
            ransacReprojThreshold=1.5,
            maxIters=200,
        )
        if matrix is not None:
            fit = float(inliers.mean())
            # Motion in only a part of the picture is that of an object.
            spread = float(np.prod(points[inliers.ravel() > 0].std(axis=0) / (width, height)))
            if fit > 0.5 and spread > _MIN_SPREAD:
                pan, tilt = float(matrix[0, 2]) * scale, float(matrix[1, 2]) * scale
                zoom = (float(np.hypot(matrix[0, 0], matrix[1, 0])) - 1) / seconds
                common = np.column_stack((xs - width / 2, ys - height / 2, np.ones(xs.size))) @ matrix.T
                common -= np.column_stack((xs - width / 2, ys - height / 2))
                motion = motion - common * scale
    changed = cv2.blur(cv2.absdiff(before, gray), (5, 5))[ys, xs] > 3
    speeds = np.hypot(motion[:, 0], motion[:, 1])
    moving = (speeds > _MIN_SPEED) & changed
    right, down = (float(v) for v in motion[moving].mean(axis=0)) if moving.any() else (0.0, 0.0)
    amount = float(np.hypot(flow[ys, xs, 0], flow[ys, xs, 1])[changed].sum() / xs.size) * scale
    return Step(amount, right, down, float(moving.mean()), pan, tilt, zoom, fit)


def summary(steps: Sequence[Step]) -> tuple[float, str | None, str]:
    """The amount of motion, its direction, and the camera movement of a clip."""
    if not steps:
        return 0.0, None, "static"
    amount = float(np.mean([step.amount for step in steps]))
    return round(amount, 4), _direction(steps), _camera(steps)


def confidences(steps: Sequence[Step]) -> tuple[float | None, float | None, float | None]:
    """The confidences of a clip's motion, direction and camera movement, 0 to 1; None if not measured."""
    if not steps:
        return None, None, None
    moving = np.array([step.moving for step in steps])
    motion = float(((moving >= _MIN_MOVING) == (moving.mean() >= _MIN_MOVING)).mean())
    direction = None
    if (direction_name := _direction(steps)) is not None:
        right, down = (np.array([getattr(step, field) for step in steps]) for field in ("right", "down"))
        speed = {"right": right, "left": -right, "down": down, "up": -down}[direction_name]
        direction = round(float((speed * moving).sum() / (np.hypot(right, down) * moving).sum()), 3)
    label = _camera(steps)
    if label == "shaky":  # one step cannot be shaky, but steps that cancel one another out are
        moved = [step for step in steps if _camera_moves(step)]
        pan, tilt = (np.array([getattr(step, field) for step in moved]) for field in ("pan", "tilt"))
        swing = float(np.hypot(pan, tilt).mean())
        camera = (1 - float(np.hypot(pan.mean(), tilt.mean())) / swing) * len(moved) / len(steps)
    else:
        camera = float(np.mean([_camera([step]) == label for step in steps]))
    return round(motion, 3), direction, round(camera, 3)


def _direction(steps: Sequence[Step]) -> str | None:
    """The main direction of moving objects; None without one."""
    weights = np.array([step.moving for step in steps])
    if weights.mean() < _MIN_MOVING:
        return None
    right = float(np.average([step.right for step in steps], weights=weights))
    down = float(np.average([step.down for step in steps], weights=weights))
    speed = float(np.average([np.hypot(step.right, step.down) for step in steps], weights=weights))
    if max(abs(right), abs(down)) < max(0.02, 0.5 * speed):  # the objects move back and forth
        return None
    if abs(right) >= abs(down):
        return "right" if right > 0 else "left"
    return "down" if down > 0 else "up"


def _camera_moves(step: Step) -> bool:
    """Whether the camera moves in a step."""
    return step.fit > 0.5 and abs(step.pan) + abs(step.tilt) + abs(step.zoom) > 0.02


def _camera(steps: Sequence[Step]) -> str:
    """The camera movement, as in `Clip.camera`."""
    moved = [step for step in steps if _camera_moves(step)]
    if len(moved) < 0.4 * len(steps):
        return "static"
    pan, tilt, zoom = (
        float(np.mean([getattr(step, field) for step in moved])) for field in ("pan", "tilt", "zoom")
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
