"""Resizes vectors to the length of a named model.

The length of the engine's vectors depends on the encoder. Models of the service have 512 or 1024 numbers, and
programs create columns of that length. A vector is padded with zeros to a power of two, rotated by a fixed
rotation, which spreads its values over all numbers, and truncated:

- to a length not below its own: all cosines are preserved;
- to a shorter length: a fixed projection, scaled to length 1. Cosines are estimates. At least 95 % of 200
  perturbed vectors of 320 numbers still find their original in 256.

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

_ROUNDS = 2  # of signs and transforms; a single one leaves patterns of the padding


@lru_cache(maxsize=16)
def _signs(size: int, number: int) -> Floats:
    """Plus and minus ones from a hash."""
    bits: list[NDArray[np.uint8]] = []
    for block in range(-(-size // 256)):
        digest = hashlib.sha256(f"tl_data rotation {size} {number} {block}".encode()).digest()
        bits.append(np.unpackbits(np.frombuffer(digest, np.uint8)))
    return np.concatenate(bits)[:size].astype(np.float64) * 2 - 1


def _rotated(values: Floats) -> Floats:
    """Rotate a vector whose length is a power of two."""
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


def fitted(vector: Sequence[float], dimension: int) -> list[float]:
    """A vector resized to `dimension` numbers.

    Args:
        vector: a unit vector of the engine, or zeros.
        dimension: at least 1.
    """
    given = np.asarray(vector, np.float64)
    size = 1 << (max(len(given), dimension) - 1).bit_length()
    padded = np.zeros(size)
    padded[: len(given)] = given
    taken = _rotated(padded)[:dimension]
    if dimension < size and (length := float(np.linalg.norm(taken))) > 0:
        taken = taken / length * float(np.linalg.norm(given))
    return [float(value) for value in np.round(taken, 9)]


def resize_vector(name: str, vector: Sequence[float], dimension: int | None = None) -> list[float]:
    """A vector in the length of the named model; under the own name of the engine it is unchanged."""
    wanted = dimension or DIMENSIONS.get(name)
    return list(vector) if wanted is None else fitted(vector, wanted)


def resize_segments(
    name: str, segments: Sequence[dict[str, Any]], dimension: int | None = None
) -> list[dict[str, Any]]:
    """The same for the segments of a video."""
    return [segment | {"float": resize_vector(name, segment["float"], dimension)} for segment in segments]
