"""The vision stage's place for a model that knows what things look like: pictures and texts in one space.

The built-in stage measures colours, motion, light and faces, and always does. An encoder adds what it
cannot: which words fit a picture, whatever is in it. Search asks it beside the other evidence (search.py),
and its vectors become a part of the clips' own (space.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tl_data.local.media import Picture
from tl_data.local.tiers import Tiers

Vectors = NDArray[np.float32]

#: Captions that say nothing. A text fits a picture as far as it fits better than these: cosines of an
#: encoder have no zero of their own, and it differs from encoder to encoder.
NEUTRAL = ("a photo", "a picture", "a video frame", "an image", "something")

#: How much better, as a difference of cosines, from nothing to as well as a word can fit. A fitting caption
#: lies about 0.08 above a neutral one in published examples of CLIP and SigLIP; no weights came to hand here
#: to measure it with.
_FROM, _TO, _MOST = 0.0, 0.08, 0.85
_RANK = 0.1  # beyond it the order still shows: the best of several good fits comes first


class Sight(Protocol):
    """An image-text encoder. Its methods may raise `ModelFailed`."""

    name: str
    dimension: int

    def pictures(self, pictures: Sequence[Picture]) -> Vectors:
        """RGB pictures as vectors of length 1, a row each."""

    def texts(self, texts: Sequence[str]) -> Vectors:
        """Texts as vectors of length 1, a row each."""


def sight_of(tiers: Tiers) -> Sight | None:
    """The encoder that the settings choose; None without one. Its weights are read at first use."""
    if tiers.clip is None:
        return None
    from tl_data.local.clip import encoder

    return encoder(tiers.clip, tiers.sight)


def as_numbers(vector: Vectors) -> tuple[float, ...]:
    """A vector as evidence keeps it: five digits, which changes no cosine by more than a thousandth."""
    return tuple(round(float(number), 5) for number in vector)


def fitting(cosines: Vectors, neutral: Vectors) -> Vectors:
    """How well a text fits pictures, 0 to 0.95.

    Args:
        cosines: of the text and each picture.
        neutral: the highest cosine of a caption that says nothing and each picture.
    """
    above = cosines - neutral
    fit = _MOST * np.clip((above - _FROM) / (_TO - _FROM), 0, 1)
    return np.asarray(fit + _RANK * np.maximum(above - _TO, 0) / (2 - _TO), np.float32)
