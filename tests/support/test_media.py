"""The odd files are odd in the way their names say: what the engine's tests rest on."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import av
import pytest
from av.error import FFmpegError

from tests.support.media import BAD, ODD, OWN


def _frames(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


@pytest.mark.parametrize("name", ODD)
def test_odd_videos_decode(name: str, tmp_path: Path) -> None:
    path = ODD[name](tmp_path)
    try:
        frames = _frames(path)
    except FFmpegError:
        assert name == "cut_off_but_indexed"
        return
    assert len(frames) >= 5
    first = frames[0]
    match name:
        case "variable_rate":
            times = [frame.time or 0.0 for frame in frames]
            gaps = [b - a for a, b in pairwise(times)]
            assert max(gaps) > 10 * min(gaps)
        case "rotated":
            assert (first.width, first.height, abs(first.rotation)) == (640, 360, 90)
        case "hdr":
            assert (first.format.name, first.color_trc, first.color_primaries) == ("yuv420p10le", 16, 9)
        case "interlaced":
            assert first.interlaced_frame
        case "odd_dimensions":
            assert (first.width, first.height) == (641, 363)
        case "broken_timestamps":
            times = [frame.time or 0.0 for frame in frames]
            assert times != sorted(times)
        case "late_start":
            assert first.time == pytest.approx(3600, abs=0.1)
        case "high_rate":
            assert len(frames) == 1080


@pytest.mark.parametrize("name", BAD | OWN)
def test_bad_files_are_bad(name: str, tmp_path: Path) -> None:
    make, code = (BAD | OWN)[name]
    path = make(tmp_path)
    if code != "video_file_broken":
        assert _frames(path)
        return
    if name == "audio_only":
        with av.open(str(path)) as container:
            assert not container.streams.video
            return
    with pytest.raises(FFmpegError):
        _frames(path)
