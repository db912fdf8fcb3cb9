"""Resizes vectors to the length of a named model.

The number of values in the engine's vectors depends on the encoder. Vectors of the service's models have 512
or 1024 values, and programs create columns of that size. A vector is padded with zeros to a power of two,
rotated by a fixed rotation, which spreads it over all values, and truncated:

- If the new size is at least the old one, all cosines are preserved.
- If the new size is smaller, the result is a fixed projection, scaled to the old norm. Cosines are estimates.
  At least 95 % of 200 perturbed vectors of 320 values still find their original in 256 values.

The rotation is composed of signs from a hash and Walsh-Hadamard transforms, so it is the same on every
machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_data.local.models import DIMENSIONS

Floats = NDArray[np.float64]

_ROUNDS = 2  # each has signs and a transform; after a single round the padding still shows as a pattern


@lru_cache(maxsize=16)
def _signs(size: int, number: int) -> Floats:
    """A vector of 1 and -1, derived from a hash."""
    bits: list[NDArray[np.uint8]] = []
    for block in range(-(-size // 256)):
        digest = hashlib.sha256(f"tl_data rotation {size} {number} {block}".encode()).digest()
        bits.append(np.unpackbits(np.frombuffer(digest, np.uint8)))
    return np.concatenate(bits)[:size].astype(np.float64) * 2 - 1


def _rotate(values: Floats) -> Floats:
    """Rotate a vector. Its size must be a power of two."""
    size = len(values)
    for number in range(_ROUNDS):
        values = values * _signs(size, number)
        step = 1
        while step < size:
            pairs = values.reshape(-1, 2, step)
            values = np.stack((pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]), axis=1).reshape(-1)
            step *= 2
        values = values / np.sqrt(size)
    return values


def resize(vector: Sequence[float], dimension: int) -> list[float]:
    """Resize a vector to `dimension` values.

    Args:
        vector: a unit vector of the engine, or zeros.
        dimension: at least 1.
    """
    values = np.asarray(vector, np.float64)
    size = 1 << (max(len(values), dimension) - 1).bit_length()
    padded = np.zeros(size)
    padded[: len(values)] = values
    resized = _rotate(padded)[:dimension]
    if dimension < size and (length := float(np.linalg.norm(resized))) > 0:
        resized = resized / length * float(np.linalg.norm(values))
    return [float(value) for value in np.round(resized, 9)]


def resize_vector(name: str, vector: Sequence[float], dimension: int | None = None) -> list[float]:
    """Resize a vector to `dimension`, or else to the size of the named model.

    Under the name of the engine's own model, the vector is unchanged.
    """
    size = dimension or DIMENSIONS.get(name)
    return list(vector) if size is None else resize(vector, size)


def resize_segments(
    name: str, segments: Sequence[dict[str, Any]], dimension: int | None = None
) -> list[dict[str, Any]]:
    """Resize the vectors of the segments of a video; see `resize_vector`."""
    return [segment | {"float": resize_vector(name, segment["float"], dimension)} for segment in segments]
