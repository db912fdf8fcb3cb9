"""Names of colours in a picture, with their shares and places.

Each pixel is looked up in a table from RGB to names. The table is computed once: the name of a colour is that
of the nearest example in the Lab space, whose distances approximate perceived differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from tl_data.local.perception.decode import Picture

# Examples of each name, as RGB in hex.
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
    # Lab bends strong blues towards purple, so their hues need examples up to where people say violet.
    "blue": "0000ff 1e50e0 2060d0 3070e0 1840c0 0060c0 4169e1 002fd9 1428dc 0016bf 2e2ed9 4043ff 4434d8"
    " 4a40ff 1000bf 2a20b8 3a1dd0 15358c 232f8c",
    "dark blue": "000080 0a1a50 101840 182c60 00005a 1c3a70 14234a",
    "purple": "800080 7020a0 8a2be2 6a0dad 602080 9040b0 5a2d82",
    "light purple": "c8a2e8 b080e0 d8b8f0 c090d0 b19cd9",
    "magenta": "ff00ff e020c0 d010a0 f040d0 c71585",
}
NAMES = tuple(_EXAMPLES)
_PLAIN = frozenset({"black", "dark gray", "gray", "light gray", "white"})
_PLACES = ("left", "center", "right", "top", "bottom")
_CLEARLY = 1.25  # least ratio of the distances to the second nearest and the nearest name
_NOTICED = 0.004  # least share of the picture of a named colour

Counts = npt.NDArray[np.float32]  # places + whole picture, by name: shares of that place


@dataclass(frozen=True)
class Tones:
    """Colours of one picture: shares by place and name, and mean and standard deviation of luma (0 to 1).

    `clear` is the share of the pixels that are clearly nearest to one name, shades of it included.
    """

    shares: Counts
    brightness: float
    contrast: float
    clear: float


def tones(picture: Picture) -> Tones:
    """Measure a small picture."""
    # Compression creates false colours at thin edges. A median removes them.
    picture = np.ascontiguousarray(picture[::2, ::2])
    calm = cv2.medianBlur(picture, 3)
    index = (calm >> 3).astype(np.int32)
    cells = (index[..., 0] << 10) | (index[..., 1] << 5) | index[..., 2]
    names = _table()[cells]
    height, width = names.shape
    rows, columns = (slice(height // 3, -(height // 3) or None), slice(width // 3, -(width // 3) or None))
    parts = (
        names[:, : max(1, width // 3)],
        names[rows, columns],
        names[:, -max(1, width // 3) :],
        names[: max(1, height // 3)],
        names[-max(1, height // 3) :],
        names,
    )
    shares = np.stack([np.bincount(part.ravel(), minlength=len(NAMES)) / part.size for part in parts])
    luma = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    mean, deviation = cv2.meanStdDev(luma)
    return Tones(
        shares.astype(np.float32),
        float(mean[0, 0]) / 255,
        float(deviation[0, 0]) / 255,
        float(_clear()[cells].mean()),
    )


def summary(seen: Sequence[Tones]) -> tuple[tuple[tuple[str, float], ...], tuple[tuple[str, str], ...]]:
    """The colours and the regions of a clip from its pictures."""
    shares = np.mean([tone.shares for tone in seen], axis=0)
    whole = shares[-1]
    order = [int(place) for place in np.argsort(-whole) if whole[place] >= _NOTICED][:8]
    colors = tuple((NAMES[place], round(float(whole[place]), 4)) for place in order)
    regions: list[tuple[str, str]] = []
    for place, part in zip(_PLACES, shares[:-1], strict=True):
        main = int(part.argmax())
        if part[main] >= 0.35:
            regions.append((place, NAMES[main]))
        # A saturated colour that is mostly in this place is its region, also if it is small.
        for name in np.argsort(-part):
            if (
                name != main
                and part[name] >= 0.02
                and NAMES[name] not in _PLAIN
                and part[name] > 1.8 * whole[name]
            ):
                regions.append((place, NAMES[name]))
                break
    return colors, tuple(regions)


def sureness(seen: Sequence[Tones]) -> float:
    """The confidence of the names of colours, 0 to 1; see `Tones.clear`."""
    return round(float(np.mean([tone.clear for tone in seen])), 3)


def _table() -> npt.NDArray[np.uint8]:
    """The number of the name for each cell of the RGB cube."""
    return _named()[0]


def _clear() -> npt.NDArray[np.bool_]:
    """Whether a cell is clearly nearest to one name, shades of it included."""
    return _named()[1]


@cache
def _named() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    examples = [(place, code) for place, codes in enumerate(_EXAMPLES.values()) for code in codes.split()]
    points = _lab(np.array([[int(code[at : at + 2], 16) for at in (0, 2, 4)] for _, code in examples]))
    owner = np.array([place for place, _ in examples], np.uint8)
    hues = [name.split()[-1] for name in NAMES]
    kin = np.array([hues.index(hue) for hue in hues])  # shades count as one name: dark blue and blue
    levels = np.arange(32) * 8 + 4
    cube = _lab(np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3))
    names, clear = [], []
    for part in np.array_split(cube, 16):
        away = ((part[:, None] - points[None]) ** 2).sum(-1)
        name = owner[away.argmin(1)]
        next_away = np.where(kin[owner][None] == kin[name][:, None], np.inf, away).min(1)
        names.append(name)
        clear.append(next_away >= _CLEARLY**2 * away.min(1))
    return np.concatenate(names), np.concatenate(clear)


def _lab(rgb: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    lab: npt.NDArray[np.float32] = cv2.cvtColor((rgb[None] / 255).astype(np.float32), cv2.COLOR_RGB2LAB)[0]
    return lab
