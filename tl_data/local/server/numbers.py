"""Numbers as the service writes them."""

from __future__ import annotations

import math
import struct
from typing import Any


def single(value: float) -> float | int:
    """A number in single precision, whole ones as integers: 12.9 becomes 12.899999618530273."""
    near: float = struct.unpack("f", struct.pack("f", value))[0]
    return int(near) if near.is_integer() else near


def shortest_single(value: float) -> float | int:
    """The shortest decimal of the nearest single-precision number: 8748176080 becomes 8748176000."""
    import numpy as np

    with np.errstate(over="ignore"):
        text = np.format_float_scientific(np.float32(value), unique=True)
    near = float(text)
    if not math.isfinite(near):
        return value
    return int(near) if near.is_integer() else near


def metadata_in_single(metadata: dict[str, Any]) -> dict[str, Any]:
    """User metadata as the service gives it back: its numbers lose what single precision cannot hold."""
    return {
        key: shortest_single(value)
        if isinstance(value, int | float) and not isinstance(value, bool)
        else value
        for key, value in metadata.items()
    }
