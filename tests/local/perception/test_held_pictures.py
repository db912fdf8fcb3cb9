"""Videos that have a frame only where something changes: a picture stays until the next one comes."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from tl_data.local.perception.analyzer import analyze
from tl_data.local.perception.decode import with_times
from tl_data.local.perception.evidence import Evidence

RED, BLUE = (215, 25, 30), (25, 60, 210)
RATE = 16_000


def write(path: Path, frames: list[tuple[float, tuple[int, int, int]]], sound: float = 0.0) -> Path:
    """Plain frames at their seconds, and a tone of so many seconds."""
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("libx264", rate=10)
        video.width, video.height, video.pix_fmt = 160, 120, "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        video.options = {"preset": "ultrafast", "g": "10"}
        tone: Any = container.add_stream("aac", rate=RATE, layout="mono") if sound else None
        for time, color in frames:
            picture = np.full((120, 160, 3), color, np.uint8)
            picture[:30] = 250
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = round(1000 * time), Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for start in range(0, round(sound * RATE), 1024) if tone else ():
            wave = 0.3 * np.sin(2 * np.pi * 440 * np.arange(start, start + 1024) / RATE)
            part = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), "fltp", "mono")
            part.sample_rate, part.pts, part.time_base = RATE, start, Fraction(1, RATE)
            container.mux(tone.encode(part))
        if tone:
            container.mux(tone.encode(None))
    return path


def shots(evidence: Evidence) -> list[tuple[float, float, str]]:
    """Neighbouring clips of one main colour as one."""
    found: list[tuple[float, float, str]] = []
    for clip in evidence.clips:
        assert 1.95 <= clip.end_sec - clip.start_sec <= 10
        name = clip.colors[0][0]
        if found and found[-1][2] == name:
            found[-1] = (found[-1][0], clip.end_sec, name)
        else:
            found.append((clip.start_sec, clip.end_sec, name))
    return found


def moving(start: float, end: float, color: tuple[int, int, int]) -> list[tuple[float, tuple[int, int, int]]]:
    return [(start + n / 10, color) for n in range(round((end - start) * 10))]


@pytest.mark.parametrize("name", ["gap.mp4", "gap.mkv"])
@pytest.mark.parametrize("sound", [0.0, 30.0])
def test_a_long_pause_between_frames_keeps_the_times(tmp_path: Path, name: str, sound: float) -> None:
    path = write(tmp_path / name, [*moving(0, 3, RED), *moving(25, 30, BLUE)], sound)
    evidence = analyze(path, tmp_path / "out")
    first, second = shots(evidence)
    assert first == (0, pytest.approx(25, abs=0.1), "red")
    assert second == (pytest.approx(25, abs=0.1), pytest.approx(30, abs=0.15), "blue")
    assert not [note for note in evidence.notes if "pictures" in note]
    own = {clip.keyframe: clip for clip in reversed(evidence.clips)}.values()
    assert all(clip.start_sec <= clip.keyframe_sec < clip.end_sec for clip in own)


def test_slides_of_one_frame_each(tmp_path: Path) -> None:
    path = write(tmp_path / "slides.mp4", [(0.0, RED), (14.0, BLUE), (28.0, RED)], 40.0)
    evidence = analyze(path, tmp_path / "out")
    expected = [(0.0, 14.0, "red"), (14.0, 28.0, "blue"), (28.0, 40.0, "red")]
    for found, times in zip(shots(evidence), expected, strict=True):
        assert found == (pytest.approx(times[0], abs=0.1), pytest.approx(times[1], abs=0.1), times[2])
    assert {clip.camera for clip in evidence.clips} == {"static"}


def test_a_still_picture_lasts_as_long_as_its_sound(tmp_path: Path) -> None:
    evidence = analyze(write(tmp_path / "still.mp4", [(0.0, RED)], 20.0), tmp_path / "out")
    assert shots(evidence) == [(0, pytest.approx(20, abs=0.1), "red")]
    assert {clip.sound for clip in evidence.clips} == {"music"}
    assert any("the pictures end at" in note for note in evidence.notes)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([0, 1, 2, 50, 51], [0, 1, 2, 50, 51]),
        ([0, 1, 2, 50, 3, 4], [0, 1, 2, 3, 3, 4]),  # one frame that goes nowhere
        ([0, 1, 2, 900, 901], [0, 1, 2, 3, 4]),  # far behind the end of the file
        ([0, 1, 2, 0, 1], [0, 1, 2, 3, 4]),
        ([None, None, 2], [0, 1, 2]),
        ([3, 4, 5], [1, 2, 3]),  # the stream begins at 2; what came before the first frame is unreadable
    ],
)
def test_times_of_frames(given: list[float | None], expected: list[float]) -> None:
    def frames() -> Iterator[Any]:
        yield from (SimpleNamespace(time=time) for time in given)

    stream = SimpleNamespace(start_time=2 if given[0] == 3 else 0, time_base=Fraction(1))
    assert [time for time, _ in with_times(frames(), stream, 1.0, 60.0)] == expected
