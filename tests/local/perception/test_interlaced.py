"""A frame of two fields holds two moments: what is looked at is one of them, without combs."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tl_data.local.perception.analyzer import analyze
from tl_data.local.perception.decode import LARGE, SMALL, frames, probe


def film(path: Path, *, interlaced: bool) -> Path:
    """Two seconds of a white box that goes to the right, 4 pixels a field, on dark blue."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 720, 576, "yuv420p"
        stream.bit_rate = 8_000_000
        if interlaced:
            stream.options = {"flags": "+ildct+ilme"}
        for number in range(50):
            picture = np.empty((576, 720, 3), np.uint8)
            picture[:] = (20, 30, 120)
            for field in (0, 1):
                left = 4 * (2 * number + (field if interlaced else 0)) % 500
                picture[140 + field : 440 : 2, left : left + 200] = 250
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def combs(path: Path, side: int) -> float:
    """How much more a line differs from the next one than from the one after that, on average (0-255)."""
    found = []
    for seen in list(frames(path, probe(path), []))[5:15]:
        light = seen.picture(side).mean(axis=2)
        found.append(np.abs(light[:-2] - light[1:-1]).mean() - np.abs(light[:-2] - light[2:]).mean())
    return float(np.mean(found))


@pytest.mark.parametrize("side", [SMALL, LARGE])
def test_pictures_have_no_combs(side: int, tmp_path: Path) -> None:
    path = film(tmp_path / "two-fields.mpg", interlaced=True)
    with av.open(str(path)) as container:
        first = next(container.decode(video=0))
        assert first.interlaced_frame
        light = first.to_ndarray(format="gray").astype(float)
    # The file has them: a line is less like the next one than like the one after that.
    assert np.abs(light[:-2] - light[1:-1]).mean() - np.abs(light[:-2] - light[2:]).mean() > 0.8
    assert combs(path, side) < 0


def test_measurements_equal_those_of_a_progressive_film(tmp_path: Path) -> None:
    one, two = (
        analyze(film(tmp_path / f"{kind}.mpg", interlaced=kind), tmp_path / str(kind))
        for kind in (True, False)
    )
    assert [clip.direction for clip in one.clips] == [clip.direction for clip in two.clips] == ["right"]
    assert one.clips[0].motion == pytest.approx(two.clips[0].motion, rel=0.1)
    assert one.clips[0].contrast == pytest.approx(two.clips[0].contrast, rel=0.05)
    assert one.clips[0].colors[0][0] == two.clips[0].colors[0][0] == "dark blue"
