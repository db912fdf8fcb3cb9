"""Compact descriptors of images and sound that are robust to scaling and compression."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from tl_data.local.perception.decode import Picture

_GRID = 8  # cells per side of the grid for luma
_COLOR_GRID = 4  # cells per side of the grids for colour and edges
_DIRECTIONS = 6  # number of edge directions that are distinguished


def describe_image(picture: Picture) -> tuple[float, ...]:
    """The layout of luma, colour and edges of an RGB picture, as a vector of 192 numbers and length 1.

    Every number is a mean over an area of a blurred picture, so scaling and compression hardly change it.
    """
    blurred = cv2.GaussianBlur(cv2.resize(picture, (128, 128), interpolation=cv2.INTER_AREA), (0, 0), 1.5)
    lab = cv2.cvtColor(blurred.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    luma = _cells(lab[..., 0], _GRID).ravel() / 50 - 1
    chroma = np.concatenate([_cells(lab[..., channel], _COLOR_GRID).ravel() for channel in (1, 2)]) / 40
    gradient_x = cv2.Sobel(lab[..., 0], cv2.CV_32F, 1, 0)
    gradient_y = cv2.Sobel(lab[..., 0], cv2.CV_32F, 0, 1)
    strength = np.hypot(gradient_x, gradient_y)
    angle = np.arctan2(gradient_y, gradient_x) % np.pi
    edges = []
    for direction in range(_DIRECTIONS):
        # An angle between two directions counts partly for both.
        weight = np.clip(1 - np.abs((angle * _DIRECTIONS / np.pi - direction + 3) % 6 - 3), 0, 1)
        edges.append(_cells((strength * weight).astype(np.float32), _COLOR_GRID).ravel())
    edge_strengths = np.concatenate(edges) / 40
    return _unit(np.concatenate((luma, chroma, edge_strengths)))


def describe_sound(bands: npt.NDArray[np.float32]) -> tuple[float, ...]:
    """The timbre of sound: mean and deviation of its log band energies (seconds x bands), and their level.

    The result is a vector of length 1; () for silence.
    """
    if bands.shape[0] == 0 or float(bands.max()) < -9:
        return ()
    mean = bands.mean(axis=0)
    deviation = bands.std(axis=0)
    return _unit(np.concatenate(((mean - mean.mean()) / 4, deviation / 2, [float(mean.mean()) / 10])))


def _cells(plane: npt.NDArray[np.float32], side: int) -> npt.NDArray[np.float32]:
    """The means over a grid of `side` x `side` cells."""
    cells: npt.NDArray[np.float32] = cv2.resize(plane, (side, side), interpolation=cv2.INTER_AREA)
    return cells


def _unit(numbers: npt.NDArray[np.floating]) -> tuple[float, ...]:
    """Scale a vector to length 1."""
    length = float(np.linalg.norm(numbers))
    return tuple(round(float(number), 5) for number in (numbers / length if length > 0 else numbers))
