"""Pictures of a high dynamic range get the names of the colours that a person sees in them."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from tl_data.local.perception.decode import SMALL, frames, probe
from tl_data.local.perception.vision.colors import summary, tones

Light = npt.NDArray[np.float64]

# What a screen shows (sRGB), and what one calls it.
SEEN = {
    "red": (220, 30, 35),
    "green": (40, 160, 65),
    "blue": (35, 95, 215),
    "yellow": (250, 215, 40),
    "orange": (250, 135, 20),
    "white": (248, 248, 248),
    "black": (15, 15, 15),
}
# BT.709 primaries -> BT.2020, from ITU-R BT.2087.
WIDE = np.array(((0.6274, 0.3293, 0.0433), (0.0691, 0.9195, 0.0114), (0.0164, 0.0880, 0.8956)))


def pq(nits: Light) -> Light:
    power = (nits / 10_000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)


def hlg(nits: Light) -> Light:
    light = nits / 1000
    luma = light @ np.array((0.2627, 0.6780, 0.0593))
    scene = light * np.maximum(luma, 1e-9)[..., None] ** (1 / 1.2 - 1)
    high = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), high)


def film(path: Path, curve: Callable[[Light], Light], transfer: int, color: tuple[int, int, int]) -> Path:
    """One second of one colour in HEVC, 10 bit, BT.2020, with white at 203 nits."""
    usual = np.array(color) / 255
    light = np.where(usual <= 0.04045, usual / 12.92, ((usual + 0.055) / 1.055) ** 2.4)
    red, green, blue = curve(203 * (WIDE @ light))
    luma = 0.2627 * red + 0.6780 * green + 0.0593 * blue
    values = (luma * 876 + 64, (blue - luma) / 1.8814 * 896 + 512, (red - luma) / 1.4746 * 896 + 512)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx265", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 192, "yuv420p10le"
        stream.options = {"preset": "ultrafast", "x265-params": "log-level=none"}
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace = 9, transfer, 9
        for number in range(10):
            frame = av.VideoFrame(320, 192, "yuv420p10le")
            for plane, value in zip(frame.planes, values, strict=True):
                plane.update(np.full(plane.buffer_size // 2, round(value), np.uint16).tobytes())
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("curve", "transfer"), [(pq, 16), (hlg, 18)], ids=["pq", "hlg"])
@pytest.mark.parametrize("name", SEEN)
def test_colours_are_named_as_they_are_seen(
    name: str, curve: Callable[[Light], Light], transfer: int, tmp_path: Path
) -> None:
    path = film(tmp_path / "film.mp4", curve, transfer, SEEN[name])
    picture = next(iter(frames(path, probe(path), []))).picture(SMALL)
    assert picture.mean(axis=(0, 1)) == pytest.approx(SEEN[name], abs=22)
    assert summary([tones(picture)])[0][0][0] == name
