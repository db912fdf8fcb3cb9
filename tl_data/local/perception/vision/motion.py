"""Measures the motion of objects and of the camera by the optical flow between consecutive frames.

Camera motion is the similarity transform (shift, rotation, scale) that fits the flow of the textured parts.
What remains of the flow is the motion of objects. Flow is computed on the luma plane, or on a chroma plane if
that changes much more: pink on orange has no contrast in luma. The tests of this module check the thresholds
with drawn scenes of known motion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from tl_data.local.perception.decode import Picture

_WIDTH = 192  # width in pixels to which frames are scaled before flow is computed
#: Common motion is camera motion if the parts with it are spread this far over the frame. The spread is the
#: product of the standard deviations of x and y, as shares of width and height. It is 1/12 = 0.083 for parts
#: that cover the whole frame evenly.
_MIN_SPREAD = 0.022
_MIN_MOVING = 0.002  # smallest share of the frame that moving objects cover
_MIN_SPEED = 0.02  # smallest speed of a moving point, in frame widths per second
_MIN_CHANGE = 0.25  # smallest mean difference of the pixels (0-255) of two frames with motion
_MIN_CHROMA_RATIO = 2.0  # a chroma plane is used if it changes this many times as much as luma


@dataclass(frozen=True)
class FramePair:
    """The motion between two consecutive frames. Speeds are in frame widths per second."""

    amount: float  # mean speed of the flow, that of the camera included; unchanged points count as 0
    right: float  # mean speed of moving objects to the right, without that of the camera
    down: float  # mean speed of moving objects downwards, without that of the camera
    moving: float  # share of the frame that moving objects cover, 0 to 1
    shift_right: float  # speed of the whole frame to the right; a camera that pans right gives less than 0
    shift_down: float  # speed of the whole frame downwards; a camera that tilts down gives less than 0
    zoom: float  # relative growth of the frame per second; 0 without a zoom, less than 0 for zooming out
    fit: float  # share of RANSAC inliers among the textured points; 0 if not estimated, 1 for equal frames


class Motion:
    """Computes the motion between consecutive frames."""

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._before: Any = None
        self._time = 0.0

    def add(self, time: float, picture: Picture) -> FramePair | None:
        """Measure the motion since the last frame. `time` is in seconds.

        Returns:
            None for the first frame, after a change of size, and if the time since the last frame is not
            between 0 and 2 seconds.
        """
        height = max(32, round(picture.shape[0] * _WIDTH / picture.shape[1]))
        small = cv2.resize(picture, (_WIDTH, height), interpolation=cv2.INTER_AREA)
        planes = cv2.split(cv2.cvtColor(small, cv2.COLOR_RGB2YCrCb))
        before, self._before = self._before, planes
        seconds, self._time = time - self._time, time
        if before is None or before[0].shape != planes[0].shape or not 0 < seconds < 2:
            return None
        changes = [float(cv2.absdiff(*pair).mean()) for pair in zip(before, planes, strict=True)]
        plane = int(np.argmax(changes))
        if changes[plane] < _MIN_CHROMA_RATIO * changes[0]:
            plane = 0
        if changes[plane] < _MIN_CHANGE:
            return FramePair(0, 0, 0, 0, 0, 0, 0, 1)
        flow = self._flow.calc(before[plane], planes[plane], None)
        return _measure(before[plane], planes[plane], flow, seconds)


def _measure(plane_before: Any, plane_after: Any, flow: Any, seconds: float) -> FramePair:
    """Separate the flow between two frames into the motion of the camera and that of objects.

    Args:
        plane_before: the luma or a chroma plane of the first frame, uint8 of height x width.
        plane_after: the same plane of the second frame.
        flow: the motion of each pixel in pixels, float32 of height x width x 2.
        seconds: the time between the frames.
    """
    height, width = plane_after.shape
    ys, xs = np.mgrid[4 : height - 4 : 6, 4 : width - 4 : 6]  # a grid of points: every sixth pixel
    ys, xs = ys.ravel(), xs.ravel()
    texture = cv2.blur(cv2.absdiff(plane_before, cv2.GaussianBlur(plane_before, (0, 0), 3)), (7, 7))
    textured = texture[ys, xs] > 2  # elsewhere the flow is not reliable
    scale = 1 / (width * seconds)
    motion = flow[ys, xs] * scale
    shift_right = shift_down = zoom = 0.0
    fit = 0.0
    # If most textured points are still, the camera is: what moves is an object in front of it.
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
            # Points close together that move together are an object.
            spread = float(np.prod(points[inliers.ravel() > 0].std(axis=0) / (width, height)))
            if fit > 0.5 and spread > _MIN_SPREAD:
                shift_right, shift_down = float(matrix[0, 2]) * scale, float(matrix[1, 2]) * scale
                zoom = (float(np.hypot(matrix[0, 0], matrix[1, 0])) - 1) / seconds
                common = np.column_stack((xs - width / 2, ys - height / 2, np.ones(xs.size))) @ matrix.T
                common -= np.column_stack((xs - width / 2, ys - height / 2))
                motion = motion - common * scale
    changed = cv2.blur(cv2.absdiff(plane_before, plane_after), (5, 5))[ys, xs] > 3
    speeds = np.hypot(motion[:, 0], motion[:, 1])
    moving = (speeds > _MIN_SPEED) & changed
    right, down = (float(v) for v in motion[moving].mean(axis=0)) if moving.any() else (0.0, 0.0)
    amount = float(np.hypot(flow[ys, xs, 0], flow[ys, xs, 1])[changed].sum() / xs.size) * scale
    return FramePair(amount, right, down, float(moving.mean()), shift_right, shift_down, zoom, fit)


def summary(pairs: Sequence[FramePair]) -> tuple[float, str | None, str]:
    """The motion of a clip: mean speed in frame widths per second, direction of objects, camera movement.

    The last two have the values of `Clip.direction` and `Clip.camera`.
    """
    if not pairs:
        return 0.0, None, "static"
    amount = float(np.mean([pair.amount for pair in pairs]))
    return round(amount, 4), _direction(pairs), _camera(pairs)


def confidences(pairs: Sequence[FramePair]) -> tuple[float | None, float | None, float | None]:
    """The confidences of a clip's motion, direction and camera movement, 0 to 1; None if not measured."""
    if not pairs:
        return None, None, None
    moving = np.array([pair.moving for pair in pairs])
    motion = float(((moving >= _MIN_MOVING) == (moving.mean() >= _MIN_MOVING)).mean())
    direction = None
    if (direction_name := _direction(pairs)) is not None:
        right, down = (np.array([getattr(pair, field) for pair in pairs]) for field in ("right", "down"))
        speed = {"right": right, "left": -right, "down": down, "up": -down}[direction_name]
        direction = round(float((speed * moving).sum() / (np.hypot(right, down) * moving).sum()), 3)
    label = _camera(pairs)
    if label == "shaky":  # shakiness shows only in several pairs, whose shifts cancel one another out
        moved = [pair for pair in pairs if _camera_moves(pair)]
        right, down = (
            np.array([getattr(pair, field) for pair in moved]) for field in ("shift_right", "shift_down")
        )
        camera_speed = float(np.hypot(right, down).mean())
        camera = (1 - float(np.hypot(right.mean(), down.mean())) / camera_speed) * len(moved) / len(pairs)
    else:
        camera = float(np.mean([_camera([pair]) == label for pair in pairs]))
    return round(motion, 3), direction, round(camera, 3)


def _direction(pairs: Sequence[FramePair]) -> str | None:
    """The main direction of moving objects; None without one."""
    weights = np.array([pair.moving for pair in pairs])
    if weights.mean() < _MIN_MOVING:
        return None
    right = float(np.average([pair.right for pair in pairs], weights=weights))
    down = float(np.average([pair.down for pair in pairs], weights=weights))
    speed = float(np.average([np.hypot(pair.right, pair.down) for pair in pairs], weights=weights))
    if max(abs(right), abs(down)) < max(0.02, 0.5 * speed):  # the objects move back and forth
        return None
    if abs(right) >= abs(down):
        return "right" if right > 0 else "left"
    return "down" if down > 0 else "up"


def _camera_moves(pair: FramePair) -> bool:
    """Whether the camera moves between two frames."""
    return pair.fit > 0.5 and abs(pair.shift_right) + abs(pair.shift_down) + abs(pair.zoom) > 0.02


def _camera(pairs: Sequence[FramePair]) -> str:
    """The camera movement, as in `Clip.camera`."""
    moved = [pair for pair in pairs if _camera_moves(pair)]
    if len(moved) < 0.4 * len(pairs):
        return "static"
    right, down, zoom = (
        float(np.mean([getattr(pair, field) for pair in moved]))
        for field in ("shift_right", "shift_down", "zoom")
    )
    camera_speed = float(np.mean([np.hypot(pair.shift_right, pair.shift_down) for pair in moved]))
    if abs(zoom) > 0.03 and abs(zoom) / 2 > max(abs(right), abs(down)):
        return "zoom in" if zoom > 0 else "zoom out"
    if camera_speed > 0.03 and np.hypot(right, down) < 0.35 * camera_speed:
        return "shaky"
    if max(abs(right), abs(down)) < 0.02:
        return "static"
    if abs(right) >= abs(down):  # the frame shifts left when the camera pans right
        return "pan right" if right < 0 else "pan left"
    return "tilt down" if down < 0 else "tilt up"
