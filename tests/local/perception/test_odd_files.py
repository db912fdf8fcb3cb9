"""Files as they come: each odd one is looked at correctly or refused with a sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
import pytest

from tl_data.local.perception import decode
from tl_data.local.perception.analyzer import analyze
from tl_data.local.perception.evidence import Evidence, NotVideo

Picture = npt.NDArray[np.uint8]


@dataclass
class Film:
    """Two shots of two seconds: red with a white bar on the left, then blue with one below."""

    width: int = 320
    height: int = 240
    fps: int = 15
    seconds: float = 4.0
    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    format: str | None = None
    options: dict[str, str] | None = None  # of the container
    coding: dict[str, str] | None = None  # of the codec
    rotation: int = 0  # counter-clockwise, as the display matrix has it
    layout: str | None = None  # of the sound; None: no sound
    picture: bool = True
    interlaced: bool = False
    times: Callable[[int], float] | None = None  # seconds of frame n

    def write(self, path: Path) -> Path:
        with av.open(str(path), "w", format=self.format, options=self.options or {}) as container:
            video = self._video(container) if self.picture else None
            sound = None
            if self.layout:
                codec = {".webm": "libopus", ".avi": "mp3"}.get(path.suffix, "aac")
                sound = container.add_stream(codec, rate=48_000)
                sound.layout = self.layout
            if video is not None:
                for packet in self._pictures(video):
                    container.mux(packet)
            if sound is not None:
                for packet in self._tones(sound):
                    container.mux(packet)
        return path

    def _video(self, container: Any) -> Any:
        stream = container.add_stream(self.codec, rate=self.fps)
        stream.width, stream.height, stream.pix_fmt = self.width, self.height, self.pix_fmt
        fast = {"preset": "ultrafast"} if self.codec.startswith("libx26") else {}
        stream.options = {**fast, **(self.coding or {})}
        if self.times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        return stream

    def _pictures(self, stream: Any) -> Iterator[Any]:
        for number in range(round(self.seconds * self.fps)):
            first = number < self.seconds * self.fps / 2
            frame = av.VideoFrame.from_ndarray(shot(first, self.width, self.height), format="rgb24")
            frame = frame.reformat(format=self.pix_fmt)
            if self.times is None:
                frame.pts, frame.time_base = number, Fraction(1, self.fps)
            else:
                frame.pts, frame.time_base = round(self.times(number) * 1000), Fraction(1, 1000)
            yield from stream.encode(frame)
        yield from stream.encode(None)

    def _tones(self, stream: Any) -> Iterator[Any]:
        channels = len(av.AudioLayout(self.layout).channels)
        size = stream.codec_context.frame_size or 1024
        for start in range(0, round(self.seconds * 48_000), size):
            wave = 0.3 * np.sin(2 * np.pi * 440 * np.arange(start, start + size) / 48_000)
            kind = "s16" if stream.codec_context.name == "libopus" else stream.codec_context.format.name
            samples = np.tile(wave, (channels, 1)).astype(np.float32)
            if kind.startswith("s32"):
                samples = (samples * 2**31).astype(np.int32)
            if kind.startswith("s16"):
                samples = (samples * 32767).astype(np.int16)
            if not kind.endswith("p"):
                samples = np.ascontiguousarray(samples.T.reshape(1, -1))
            frame = av.AudioFrame.from_ndarray(samples, kind, self.layout)
            frame.sample_rate, frame.pts, frame.time_base = 48_000, start, Fraction(1, 48_000)
            yield from stream.encode(frame)
        yield from stream.encode(None)


def shot(first: bool, width: int, height: int) -> Picture:
    picture = np.empty((height, width, 3), np.uint8)
    picture[:] = (215, 25, 30) if first else (25, 60, 210)
    if first:
        picture[:, : width // 6] = 250
    else:
        picture[-height // 6 :] = 250
    return picture


def main_colors(evidence: Evidence) -> list[str]:
    return [clip.colors[0][0] for clip in evidence.clips]


def check(evidence: Evidence, folder: Path, seconds: float = 4.0, near: float = 0.25) -> None:
    """Two clips, red then blue, that meet in the middle and fill the video."""
    assert main_colors(evidence) == ["red", "blue"]
    first, second = evidence.clips
    assert first.start_sec == 0
    assert first.end_sec == second.start_sec == pytest.approx(seconds / 2, abs=near)
    assert second.end_sec == pytest.approx(seconds, abs=near)
    assert second.cut
    for clip in evidence.clips:
        assert cv2.imread(str(folder / clip.keyframe)) is not None
    assert cv2.imread(str(folder / "thumbnail.jpg")) is not None


@pytest.mark.parametrize(
    ("name", "film"),
    [
        ("plain.mp4", Film(layout="stereo")),
        ("no-sound.mp4", Film()),
        ("surround.mp4", Film(layout="5.1")),
        (
            "fragmented.mp4",
            Film(layout="mono", options={"movflags": "frag_keyframe+empty_moov+default_base_moof"}),
        ),
        ("plain.mov", Film(layout="stereo", codec="mpeg4")),
        ("plain.mkv", Film(layout="stereo")),
        (
            "plain.webm",
            Film(layout="stereo", codec="libvpx", coding={"deadline": "realtime", "cpu-used": "8"}),
        ),
        ("plain.avi", Film(layout="stereo", codec="mpeg4")),
        ("plain.ts", Film(layout="stereo")),
        ("odd.mkv", Film(width=321, height=241, pix_fmt="yuv444p")),
        ("ten-bit.mp4", Film(pix_fmt="yuv420p10le")),
        ("rgb.mkv", Film(codec="ffv1", pix_fmt="bgr0")),
        ("gray-alpha.mov", Film(codec="png", pix_fmt="rgba")),
        ("interlaced.mkv", Film(codec="mpeg2video", coding={"flags": "+ildct+ilme"}, fps=25)),
        ("slow.mp4", Film(fps=1, seconds=8)),
        ("fast.mp4", Film(fps=240, width=160, height=120)),
        ("late.mkv", Film(times=lambda n: 7 + n / 15)),
        ("varying.mkv", Film(times=lambda n: n / 15 + (0.04 if n % 3 == 1 else 0))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_looks_at(name: str, film: Film, tmp_path: Path) -> None:
    path = film.write(tmp_path / name)
    evidence = analyze(path, tmp_path / "out")
    probe = evidence.probe
    check(evidence, tmp_path / "out", film.seconds, near=1.1 if film.fps == 1 else 0.25)
    assert (probe.width, probe.height) == (film.width, film.height)
    assert probe.duration_sec == pytest.approx(film.seconds, abs=0.3)
    assert probe.size_bytes == path.stat().st_size
    assert (probe.audio_codec is None) == (film.layout is None)
    if film.layout:
        assert {clip.sound for clip in evidence.clips} == {"music"}
        assert -20 < evidence.clips[0].loudness < -5


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotation_of_the_display_matrix_is_applied(rotation: int, tmp_path: Path) -> None:
    upright = Film().write(tmp_path / "upright.mp4")
    turned = rotated(upright, tmp_path / "turned.mp4", rotation)
    evidence = analyze(turned, tmp_path / "out")
    assert evidence.probe.rotation == rotation
    size = (320, 240) if rotation == 180 else (240, 320)
    assert (evidence.probe.width, evidence.probe.height) == size
    keyframe = cv2.imread(str(tmp_path / "out" / evidence.clips[0].keyframe))
    assert keyframe.shape[:2] == size[::-1]
    # The white bar is on the left of the stored picture: clockwise it goes to the top, right, bottom.
    place = {90: keyframe[:20], 180: keyframe[:, -20:], 270: keyframe[-20:]}[rotation]
    assert place.mean() > 230


def rotated(source: Path, target: Path, clockwise: int) -> Path:
    """Copy an MP4 file with another matrix in its track header."""
    data = bytearray(source.read_bytes())
    at = data.index(b"tkhd") + 4
    assert data[at] == 0  # version
    matrix = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[clockwise]
    a, b, c, d = (value * 65536 for value in matrix)
    values = (a, b, 0, c, d, 0, 0, 0, 1 << 30)
    data[at + 40 : at + 76] = b"".join(value.to_bytes(4, "big", signed=True) for value in values)
    target.write_bytes(data)
    return target


def test_a_file_with_sound_alone_is_analysed(tmp_path: Path) -> None:
    path = Film(picture=False, layout="stereo", seconds=14).write(tmp_path / "tone.m4a")
    evidence = analyze(path, tmp_path / "out")
    assert (evidence.probe.width, evidence.probe.height, evidence.probe.video_codec) == (0, 0, None)
    assert evidence.probe.audio_codec == "aac"
    assert [clip.sound for clip in evidence.clips] == ["music", "music"]
    assert evidence.clips[-1].end_sec == pytest.approx(14, abs=0.1)
    assert "no picture" in evidence.notes


def test_a_truncated_file_is_analysed_up_to_its_end(tmp_path: Path) -> None:
    whole = Film(seconds=12, coding={"g": "15"}, options={"movflags": "faststart"}).write(
        tmp_path / "whole.mp4"
    )
    data = whole.read_bytes()
    cut_off = tmp_path / "cut-off.mp4"
    cut_off.write_bytes(data[: len(data) * 6 // 10])
    evidence = analyze(cut_off, tmp_path / "out")
    assert main_colors(evidence)[0] == "red"
    assert 4 < evidence.clips[-1].end_sec < 10
    assert any("the pictures end at" in note for note in evidence.notes)


def test_damaged_packets_are_stepped_over(tmp_path: Path) -> None:
    path = Film(seconds=8, coding={"g": "15"}).write(tmp_path / "whole.ts")
    data = bytearray(path.read_bytes())
    noise = np.random.default_rng(1).integers(0, 256, len(data) // 10, dtype=np.uint8).tobytes()
    middle = len(data) // 3
    data[middle : middle + len(noise)] = noise
    path.write_bytes(data)
    evidence = analyze(path, tmp_path / "out")
    assert main_colors(evidence)[0] == "red"
    assert main_colors(evidence)[-1] == "blue"


def test_broken_timestamps_never_go_back(tmp_path: Path) -> None:
    one = Film().write(tmp_path / "one.ts")
    path = tmp_path / "joined.ts"
    path.write_bytes(one.read_bytes() * 2)  # the second half begins at 0 again
    times = [seen.time for seen in decode.frames(path, decode.probe(path), [])]
    assert all(before < after for before, after in pairwise(times))
    evidence = analyze(path, tmp_path / "out")
    assert main_colors(evidence) == ["red", "blue", "red", "blue"]
    # The header tells the length of one half: clips beyond it would lie outside of the video.
    assert decode.probe(path).duration_sec == pytest.approx(4, abs=0.3)
    assert evidence.probe.duration_sec == pytest.approx(8, abs=0.3)
    assert evidence.clips[-1].end_sec == pytest.approx(evidence.probe.duration_sec, abs=0.01)
    assert any("8.0 s" in note for note in evidence.notes)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("empty.mp4", b"", "is empty"),
        ("text.mp4", b"Please log in to watch this video.\n" * 100, "cannot be read"),
        ("page.mp4", b"<!DOCTYPE html><html><body><h1>Password</h1></body></html>", "cannot be read"),
        ("zeros.mp4", bytes(5000), "cannot be read"),
        ("list.mp4", b"#EXTM3U\n#EXTINF:4,\nfile:///etc/hostname\n", "cannot be read"),
        ("script.mp4", b"ffconcat version 1.0\nfile /etc/hostname\n", "cannot be read"),
        ("subtitles.mkv", b"1\n00:00:01,000 --> 00:00:02,000\nHello\n", "cannot be read"),
        ("noise.mpg", np.random.default_rng(3).bytes(20_000), "file"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value else "",
)
def test_refuses(name: str, content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(NotVideo, match=says):
        analyze(path, tmp_path / "out")


def test_refuses_a_picture_and_a_file_without_its_index(tmp_path: Path) -> None:
    picture = tmp_path / "picture.mp4"
    picture.write_bytes(cv2.imencode(".jpg", shot(True, 320, 240))[1].tobytes())
    with pytest.raises(NotVideo):
        decode.probe(picture)
    whole = Film().write(tmp_path / "whole.mp4")  # its index comes last
    cut_off = tmp_path / "cut-off.mp4"
    cut_off.write_bytes(whole.read_bytes()[:-2000])
    with pytest.raises(NotVideo, match="cannot be read"):
        decode.probe(cut_off)


def test_cover_art_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        sound = container.add_stream("aac", rate=48_000)
        sound.layout = "mono"
        frame = av.VideoFrame.from_ndarray(shot(True, 64, 64), format="rgb24").reformat(format="yuvj420p")
        frame.pts = 0
        for packet in [*cover.encode(frame), *cover.encode(None)]:
            container.mux(packet)
        for packet in Film(layout="mono")._tones(sound):
            container.mux(packet)
    assert decode.probe(path).width == 0
