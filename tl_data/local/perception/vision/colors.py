"""Names the colours of a picture, with their shares and places.

A table gives the name for the RGB value of each pixel. It is computed once per process: a value gets the name
of the nearest example in the Lab colour space, where distances approximate perceived differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from tl_data.local.perception.decode import Picture

#: Name of a colour -> examples of it, as RGB in hex.
_EXAMPLES = {
    "black": "000000 0a0a0a 141414 180d10 0d1018",
    "dark gray": "2c2c2c 404040 505050 343a40",
    "gray": "707070 808080 909090 7a8088 88807a",
    "light gray": "b0b0b0 c4c4c4 d3d3d3 b8bec4",
    "white": "ffffff f4f4f4 ececec fffaf0 f0f8ff",
    "red": "ff0000 e01010 d62020 c81818 f03030 dc143c",
    "dark red": "8b0000 700808 601010 9c1c1c 4a0808",
    "pink": "ff69b4 ff58c8 ffb6c1 ff8fb0 f4a0b4 ffc8d8 e889a8",
    "orange": "ff8c00 ffa500 ff7018 f08030 e87820",
    "brown": "8b4513 6b4423 7a5230 5a3a1a 9c6b3c 4a2e16 704a3a",
    "beige": "f5e6c8 e8d8b0 d8c4a0 e6cfb4 d2b48c f0d9c0",
    "yellow": "ffff00 ffe000 f8d818 fff040 f0e850 ffd700",
    "light yellow": "ffffb0 fff8a8 fffacd",
    "olive": "808000 6b6b20 7a7430 5a5a18",
    "green": "00a000 008000 20b040 30a030 00c800 3cb043 4c9a2a 6b9a30 6b8e23 7a9a48 5c7a2c 88a83c",
    "light green": "90ee90 a0e080 00ff00 80f080 b8e8a8 60e060 9acd32",
    "dark green": "004000 0a3010 105020 1e4a1e 203818",
    "turquoise": "00ced1 40e0d0 20b2aa 30c8c0 008b8b 5fb8b0",
    "cyan": "00ffff 40f0f8 80ffff",
    "light blue": "87ceeb add8e6 a0c8f0 78b0f0 6aa8ff b0d0f8 4fb0ff",
    # In Lab, strong blues are close to purple. They need examples up to the hues that people call violet.
    "blue": "0000ff 1e50e0 2060d0 3070e0 1840c0 0060c0 4169e1 002fd9 1428dc 0016bf 2e2ed9 4043ff 4434d8"
    " 4a40ff 1000bf 2a20b8 3a1dd0 15358c 232f8c",
    "dark blue": "000080 0a1a50 101840 182c60 00005a 1c3a70 14234a 141e78",
    "purple": "800080 7020a0 8a2be2 6a0dad 602080 9040b0 5a2d82",
    "light purple": "c8a2e8 b080e0 d8b8f0 c090d0 b19cd9",
    "magenta": "ff00ff e020c0 d010a0 f040d0 c71585",
}
NAMES = tuple(_EXAMPLES)
#: Colours without saturation. The colour of a small region is never one of them.
_UNSATURATED = frozenset({"black", "dark gray", "gray", "light gray", "white"})
_PLACES = ("left", "center", "right", "top", "bottom")
_MIN_CLEAR_RATIO = 1.25  # smallest ratio of the distances to the second nearest and to the nearest name
_MIN_SHARE = 0.004  # smallest share of the picture at which a colour is named

#: Shares of each colour: a row per place, with the whole picture last; a column per name.
Shares = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Tones:
    """The colours of one picture.

    `brightness` and `contrast` are mean and standard deviation of luma, 0 to 1. `clear` is the share of the
    pixels whose nearest name is certain; shades of one colour count as one name.
    """

    shares: Shares
    brightness: float
    contrast: float
    clear: float


def tones(picture: Picture) -> Tones:
    """Measure the colours of a small picture."""
    # Compression creates false colours at thin edges. A median filter removes them.
    picture = np.ascontiguousarray(picture[::2, ::2])
    filtered = cv2.medianBlur(picture, 3)
    index = (filtered >> 3).astype(np.int32)
    cells = (index[..., 0] << 10) | (index[..., 1] << 5) | index[..., 2]
    names = _table()[cells]
    height, width = names.shape
    rows, columns = (slice(height // 3, -(height // 3) or None), slice(width // 3, -(width // 3) or None))
    areas = (
        names[:, : max(1, width // 3)],
        names[rows, columns],
        names[:, -max(1, width // 3) :],
        names[: max(1, height // 3)],
        names[-max(1, height // 3) :],
        names,
    )
    shares = np.stack([np.bincount(area.ravel(), minlength=len(NAMES)) / area.size for area in areas])
    luma = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    mean, deviation = cv2.meanStdDev(luma)
    return Tones(
        shares.astype(np.float32),
        float(mean[0, 0]) / 255,
        float(deviation[0, 0]) / 255,
        float(_clear()[cells].mean()),
    )


def summary(pictures: Sequence[Tones]) -> tuple[tuple[tuple[str, float], ...], tuple[tuple[str, str], ...]]:
    """The colours and the regions of a clip, as in `Clip.colors` and `Clip.regions`, from its pictures."""
    shares = np.mean([tone.shares for tone in pictures], axis=0)
    whole = shares[-1]
    numbers = [int(number) for number in np.argsort(-whole) if whole[number] >= _MIN_SHARE][:8]
    colors = tuple((NAMES[number], round(float(whole[number]), 4)) for number in numbers)
    regions: list[tuple[str, str]] = []
    for place, place_shares in zip(_PLACES, shares[:-1], strict=True):
        main_name = int(place_shares.argmax())
        if place_shares[main_name] >= 0.35:
            regions.append((place, NAMES[main_name]))
        # A saturated colour that is mostly in this place is a region too, even if it is small.
        for name in np.argsort(-place_shares):
            if (
                name != main_name
                and place_shares[name] >= 0.02
                and NAMES[name] not in _UNSATURATED
                and place_shares[name] > 1.8 * whole[name]
            ):
                regions.append((place, NAMES[name]))
                break
    return colors, tuple(regions)


def confidence(pictures: Sequence[Tones]) -> float:
    """The confidence of a clip's colour names, 0 to 1: the mean of `Tones.clear`."""
    return round(float(np.mean([tone.clear for tone in pictures])), 3)


def _table() -> npt.NDArray[np.uint8]:
    """The number of the colour name for each cell of the RGB cube."""
    return _tables()[0]


def _clear() -> npt.NDArray[np.bool_]:
    """For each cell of the RGB cube, whether its nearest name is certain."""
    return _tables()[1]


@cache
def _tables() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Both tables, with 32 levels per channel."""
    examples = [(number, code) for number, codes in enumerate(_EXAMPLES.values()) for code in codes.split()]
    points = _lab(
        np.array([[int(code[position : position + 2], 16) for position in (0, 2, 4)] for _, code in examples])
    )
    owner = np.array([number for number, _ in examples], np.uint8)
    hue_names = [name.split()[-1] for name in NAMES]
    # Shades count as one name: dark blue is blue.
    hue_of_name = np.array([hue_names.index(hue) for hue in hue_names])
    levels = np.arange(32) * 8 + 4
    cube = _lab(np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3))
    names, clear = [], []
    for cells in np.array_split(cube, 16):
        distances = ((cells[:, None] - points[None]) ** 2).sum(-1)
        name = owner[distances.argmin(1)]
        other_hue_distances = np.where(
            hue_of_name[owner][None] == hue_of_name[name][:, None], np.inf, distances
        ).min(1)
        names.append(name)
        clear.append(other_hue_distances >= _MIN_CLEAR_RATIO**2 * distances.min(1))
    return np.concatenate(names), np.concatenate(clear)


def _lab(rgb: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Convert RGB values, 0 to 255, to Lab."""
    lab: npt.NDArray[np.float32] = cv2.cvtColor((rgb[None] / 255).astype(np.float32), cv2.COLOR_RGB2LAB)[0]
    return lab
