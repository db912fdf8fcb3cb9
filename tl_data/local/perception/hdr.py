"""Tone mapping of HDR pictures (PQ or HLG, BT.2020) to SDR (BT.709).

Without it, HDR pictures are grey and flat and their colours get wrong names. Values are converted to nits and
to the primaries of BT.709, luminance above paper white is compressed, and the SDR curve is applied.

Sources: SMPTE ST 2084 (PQ), ARIB STD-B67 and ITU-R BT.2100 (HLG), ITU-R BT.2408 (white at 203 nits).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

PQ, HLG = 16, 18  # transfer characteristics of ITU-T H.273
_WHITE = 203.0  # nits of paper white
_PEAK = 1000.0  # nominal peak of HLG in nits
_KNEE = 0.8  # share of white above which luminance is compressed
_BITS = 7  # bits of each channel that select an entry of the lookup table

#: Converts linear RGB with the primaries of BT.2020 to those of BT.709.
_PRIMARIES = np.array(
    ((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187)), np.float32
)
#: Luminance weights of BT.2020.
_LUMA = np.array((0.2627, 0.6780, 0.0593), np.float32)

Picture = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.floating[Any]]


def is_hdr(frame: Any) -> bool:
    """Whether a frame is HDR."""
    return int(frame.color_trc or 0) in (PQ, HLG)


def to_sdr(picture: Picture, transfer: int) -> Picture:
    """Convert an RGB picture to SDR. `transfer` is `PQ` or `HLG`."""
    cells = (picture >> (8 - _BITS)).astype(np.int32)
    sdr: Picture = _table(transfer)[(cells[..., 0] << 2 * _BITS) | (cells[..., 1] << _BITS) | cells[..., 2]]
    return sdr


@cache
def _table(transfer: int) -> npt.NDArray[np.uint8]:
    """The lookup table: the SDR colour of every HDR colour."""
    levels = (np.arange(1 << _BITS, dtype=np.float32) + 0.5) / (1 << _BITS)
    coded = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    light = np.maximum((_nits(coded, transfer) / _WHITE).astype(np.float32) @ _PRIMARIES.T, 0)
    maximum = light.max(axis=1, keepdims=True)
    compressed = _KNEE + (1 - _KNEE) * (1 - np.exp(-(maximum - _KNEE) / (1 - _KNEE)))
    light *= np.where(maximum > _KNEE, compressed / np.maximum(maximum, 1e-6), 1)
    curve = 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055
    encoded = np.where(light <= 0.0031308, 12.92 * light, curve)
    return np.asarray(np.round(255 * np.clip(encoded, 0, 1)), np.uint8)


def _nits(coded: Floats, transfer: int) -> Floats:
    """The luminance in nits of encoded values between 0 and 1."""
    if transfer == PQ:
        root = coded ** (1 / 78.84375)
        return np.asarray(
            10_000
            * (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)
        )
    scene = np.where(
        coded <= 0.5, coded**2 / 3, (np.exp((coded - 0.55991073) / 0.17883277) + 0.28466892) / 12
    )
    luma = np.maximum(scene @ _LUMA, 1e-6)[:, None]
    return np.asarray(_PEAK * scene * luma**0.2)
