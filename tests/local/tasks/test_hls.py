"""Streams of files that browsers cannot play as they are: encoded anew, upright, whole or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from tests.support import media
from tl_data.local.tasks.hls import PLAYLIST, make_stream


@pytest.mark.parametrize(
    ("make", "size", "sound"),
    [
        (media.plain, (480, 360), True),
        (media.rotated, (360, 640), True),
        (media.webm, (480, 360), True),
        (media.hdr, (480, 360), True),
        (media.avi, (480, 360), True),
        (media.no_audio, (480, 360), False),
        (media.odd_dimensions, (640, 364), True),
        (media.fragmented, (480, 360), True),
        (media.cut_off_but_indexed, (480, 360), True),
        (media.late_start, (480, 360), False),
    ],
)
def test_every_browser_plays_it(
    make: Callable[[Path], Path], size: tuple[int, int], sound: bool, tmp_path: Path
) -> None:
    folder = tmp_path / "hls"
    assert asyncio.run(make_stream(make(tmp_path), folder, 60)) is None
    playlist = (folder / PLAYLIST).read_text().splitlines()
    assert playlist[0] == "#EXTM3U"
    assert playlist[-1] == "#EXT-X-ENDLIST"
    names = [line for line in playlist if not line.startswith("#")]
    whole = tmp_path / "whole.ts"
    whole.write_bytes(b"".join((folder / name).read_bytes() for name in names))
    with av.open(str(whole)) as container:
        picture = container.streams.video[0].codec_context
        assert (picture.name, str(picture.pix_fmt)) == ("h264", "yuv420p")
        assert (picture.width, picture.height) == size
        assert bool(container.streams.audio) == sound
        assert not sound or container.streams.audio[0].codec_context.name == "aac"
        assert sum(1 for _ in container.decode(video=0)) > 30


def test_whole_or_not_at_all(tmp_path: Path) -> None:
    assert asyncio.run(make_stream(media.text_named_mp4(tmp_path), tmp_path / "hls", 60))
    assert not (tmp_path / "hls").exists()
    assert not (tmp_path / "hls.part").exists()
    playlist = tmp_path / "list.m3u8"  # it leads to another file
    other = media.write(tmp_path / "other.ts")
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:5,\n{other}\n#EXT-X-ENDLIST\n")
    assert "not on whitelist" in (asyncio.run(make_stream(playlist, tmp_path / "hls", 60)) or "nothing")
    assert not (tmp_path / "hls").exists()
    slow = asyncio.run(make_stream(media.plain(tmp_path), tmp_path / "hls", 0.01))
    assert slow == "timed out"
    assert not (tmp_path / "hls").exists()
