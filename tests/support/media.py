"""Odd and bad video files, each made by a function `make(folder) -> Path`.

`ODD` are videos that must be taken, `BAD` are files that must be refused, each with the API's code.
`OWN` are videos that only the lenient engine takes, with the code of the service's refusal.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from tl_data.demo.scene import Scene, painter

SECONDS = 5.0
SCENE = Scene(SECONDS, "Blue ship", "Harbor 9", shape="circle", color="red", path=((0.2, 0.7), (0.8, 0.7)))
TICK = Fraction(1, 48_000)  # MPEG-4 part 2 knows no finer one than 1/65535 s


def write(
    path: Path,
    *,
    seconds: float = SECONDS,
    width: int = 480,
    height: int = 360,
    fps: int = 10,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: Mapping[str, str] | None = None,
    muxer: Mapping[str, str] | None = None,
    times: Sequence[float] | None = None,
    colors: Mapping[str, int] | None = None,
    audio: str | None = "aac",
    layout: str = "stereo",
) -> Path:
    """Encode the scene: `times` are the seconds at which frames are shown, `colors` fields of the codec."""
    picture = painter(SCENE, width, height)
    at = list(times) if times is not None else [n / fps for n in range(round(seconds * fps))]
    with av.open(str(path), "w", options=dict(muxer or {})) as container:
        video: Any = container.add_stream(codec, rate=fps)
        video.width, video.height, video.pix_fmt = width, height, pix_fmt
        video.time_base = video.codec_context.time_base = TICK
        video.options = dict(options if options is not None else {"preset": "ultrafast", "crf": "28"})
        for name, value in (colors or {}).items():
            setattr(video.codec_context, name, value)
        sound = _sound_stream(container, audio, layout) if audio else None
        for time in at:
            frame = av.VideoFrame.from_ndarray(picture(time / max(seconds, at[-1])), format="rgb24")
            frame = frame.reformat(format=pix_fmt)
            frame.pts, frame.time_base = round(time / TICK), TICK
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound is not None:
            _write_tone(container, sound, seconds)
    return path


def _sound_stream(container: Any, codec: str, layout: str) -> Any:
    stream = container.add_stream(codec, rate=48_000)
    stream.layout = layout
    return stream


def _write_tone(container: Any, stream: Any, seconds: float) -> None:
    channels = stream.codec_context.layout.nb_channels
    wave = (0.2 * np.sin(2 * np.pi * 330 * np.arange(int(48_000 * seconds)) / 48_000)).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(
        np.tile(wave, (channels, 1)), format="fltp", layout=stream.codec_context.layout.name
    )
    frame.sample_rate, frame.pts, frame.time_base = 48_000, 0, Fraction(1, 48_000)
    context = stream.codec_context
    resampler = av.AudioResampler(context.format or "fltp", context.layout, 48_000, context.frame_size or 960)
    for part in [*resampler.resample(frame), *resampler.resample(None)]:
        container.mux(stream.encode(part))
    container.mux(stream.encode(None))


def _fast(**more: str) -> dict[str, str]:
    return {"preset": "ultrafast", "crf": "28", **more}


def plain(folder: Path) -> Path:
    """An ordinary MP4, for tests that need nothing special."""
    return write(folder / "plain.mp4", muxer={"movflags": "faststart"})


def looping(folder: Path, seconds: int = 4, repetitions: int = 1700) -> Path:
    """An MP4 whose edit list plays its few seconds for two hours."""
    data = bytearray(write(folder / "once.mp4", seconds=seconds, audio=None).read_bytes())
    edits = struct.pack(">IIHH", seconds * 1000, 0, 1, 0) * repetitions  # length in ms, start, rate 1.0
    entries = _box(b"elst", struct.pack(">II", 0, repetitions) + edits)
    start = data.index(b"edts") - 4
    old = int.from_bytes(data[start : start + 4], "big")
    new = _box(b"edts", entries)
    data[start : start + old] = new
    for name in (b"moov", b"trak"):  # the boxes around it grow
        place = data.index(name) - 4
        size = int.from_bytes(data[place : place + 4], "big") + len(new) - old
        data[place : place + 4] = size.to_bytes(4, "big")
    path = folder / "looping.mp4"
    path.write_bytes(data)
    return path


def _box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content) + 8) + name + content


def unicode_name(folder: Path) -> Path:
    """Spaces, umlauts, Japanese and a percent sign in the name."""
    return write(folder / "Größe 100% – 東京 (1).mp4")


def variable_rate(folder: Path) -> Path:
    """Frames 20 ms to 700 ms apart."""
    gaps = [0.02, 0.04, 0.7, 0.1, 0.33, 0.05, 0.5] * 3
    return write(folder / "vfr.mp4", times=[0.0, *np.cumsum(gaps).tolist()], seconds=sum(gaps))


def rotated(folder: Path) -> Path:
    """A telephone held upright: stored 640x360 with a display matrix of 90 degrees, shown 360x640."""
    path = write(folder / "rotated.mp4", width=640, height=360)
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 44  # the picture's track comes first
    # Clockwise: x' = height - y, y' = x, in 16.16 and 2.30 fixed point.
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 360 << 16, 0, 1 << 30)
    path.write_bytes(data)
    return path


def hdr(folder: Path) -> Path:
    """HEVC, 10 bit, BT.2020 with the PQ curve."""
    colors = {"color_primaries": 9, "color_trc": 16, "colorspace": 9}
    return write(
        folder / "hdr.mp4", codec="libx265", pix_fmt="yuv420p10le", colors=colors,
        options=_fast(**{"x265-params": "log-level=none"}),
    )  # fmt: skip


def interlaced(folder: Path) -> Path:
    """Two fields a frame."""
    return write(
        folder / "interlaced.mp4",
        options=_fast(flags="+ildct+ilme", **{"x264-params": "tff=1"}),
    )


def odd_dimensions(folder: Path) -> Path:
    """641x363: the chroma planes do not halve."""
    return write(folder / "odd.mp4", width=641, height=363, pix_fmt="yuv444p")


def no_audio(folder: Path) -> Path:
    """A picture without a sound track."""
    return write(folder / "silent.mp4", audio=None)


def surround(folder: Path) -> Path:
    """AAC with six channels."""
    return write(folder / "surround.mp4", layout="5.1")


def broken_timestamps(folder: Path) -> Path:
    """Two transport streams one after the other: the clock starts again in the middle."""
    path = transport_stream(folder)
    both = folder / "broken-timestamps.ts"
    both.write_bytes(path.read_bytes() * 2)
    path.unlink()
    return both


def late_start(folder: Path) -> Path:
    """The first frame is at one hour."""
    times = [3600 + n / 10 for n in range(50)]
    return write(folder / "late-start.mkv", times=times, audio=None)


def fragmented(folder: Path) -> Path:
    """An MP4 of fragments, as live recordings and DASH have it: no index at all."""
    return write(
        folder / "fragmented.mp4", options=_fast(g="10"),
        muxer={"movflags": "frag_keyframe+empty_moov+default_base_moof"},
    )  # fmt: skip


def index_at_end(folder: Path) -> Path:
    """An MP4 whose index follows the media."""
    return write(folder / "index-at-end.mp4")


def matroska(folder: Path) -> Path:
    """H.264 and Opus in MKV."""
    return write(folder / "film.mkv", audio="libopus")


def webm(folder: Path) -> Path:
    """VP8 and Opus in WebM."""
    return write(
        folder / "film.webm",
        codec="libvpx",
        options={"deadline": "realtime", "cpu-used": "8"},
        audio="libopus",
    )


def quicktime(folder: Path) -> Path:
    """H.264 and uncompressed sound in MOV."""
    return write(folder / "film.mov", audio="pcm_s16le")


def avi(folder: Path) -> Path:
    """MPEG-4 part 2 and uncompressed sound in AVI."""
    return write(folder / "film.avi", codec="mpeg4", options={}, audio="pcm_s16le")


def transport_stream(folder: Path) -> Path:
    """H.264 and AAC in an MPEG transport stream."""
    return write(folder / "film.ts")


def one_frame_a_second(folder: Path) -> Path:
    """1 fps."""
    return write(folder / "slow.mp4", fps=1, seconds=6)


def high_rate(folder: Path) -> Path:
    """240 fps."""
    return write(folder / "fast.mp4", fps=240, seconds=4.5, width=360)


def cut_off_but_indexed(folder: Path) -> Path:
    """An MP4 with its index in front and the last part of the media missing."""
    path = write(folder / "cut-off.mp4", seconds=12, muxer={"movflags": "faststart"}, options=_fast(g="10"))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 7 // 10])
    return path


def text_named_mp4(folder: Path) -> Path:
    """A shopping list."""
    path = folder / "list.mp4"
    path.write_text("bread, butter, tomatoes\n" * 200)
    return path


def zero_bytes(folder: Path) -> Path:
    """Nothing at all."""
    path = folder / "empty.mp4"
    path.write_bytes(b"")
    return path


def truncated(folder: Path) -> Path:
    """An upload that broke off: the index, which would follow, is missing."""
    path = write(folder / "truncated.mp4")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


def html_page(folder: Path) -> Path:
    """A login page that was saved instead of the video."""
    path = folder / "page.mp4"
    path.write_text("<!doctype html><title>Sign in</title><form><input type=password></form>")
    return path


def one_second(folder: Path) -> Path:
    """Shorter than the four seconds that the API asks for."""
    return write(folder / "one-second.mp4", seconds=1)


def a_blink(folder: Path) -> Path:
    """Shorter than the half second that the lenient engine asks for."""
    return write(folder / "blink.mp4", seconds=0.2, audio=None)


def half_a_second(folder: Path) -> Path:
    """As short as the lenient engine takes it, and 120x90."""
    return write(folder / "half.mp4", seconds=0.5, width=120, height=90)


def audio_only(folder: Path) -> Path:
    """A sound track without a picture."""
    path = folder / "audio-only.mp4"
    with av.open(str(path), "w") as container:
        _write_tone(container, _sound_stream(container, "aac", "stereo"), SECONDS)
    return path


def too_small(folder: Path) -> Path:
    """200x200."""
    return write(folder / "small.mp4", width=200, height=200)


def extreme_aspect(folder: Path) -> Path:
    """1440x360: four to one."""
    return write(folder / "wide.mp4", width=1440, height=360)


def eight_k(folder: Path) -> Path:
    """7680x4320."""
    return write(folder / "8k.mp4", width=7680, height=4320, fps=1, seconds=4, audio=None)


def three_hours(folder: Path) -> Path:
    """Two pictures, three hours apart."""
    return write(folder / "long.mp4", times=(0, 3 * 3600), fps=1, audio=None)


Make = Callable[[Path], Path]

ODD: dict[str, Make] = {
    make.__name__: make
    for make in (
        plain, unicode_name, variable_rate, rotated, hdr, interlaced, odd_dimensions, no_audio, surround,
        broken_timestamps, late_start, fragmented, index_at_end, matroska, webm, quicktime, avi,
        transport_stream, one_frame_a_second, high_rate, cut_off_but_indexed,
    )
}  # fmt: skip

BAD: dict[str, tuple[Make, str]] = {
    make.__name__: (make, code)
    for make, code in (
        (text_named_mp4, "video_file_broken"),
        (zero_bytes, "video_file_broken"),
        (truncated, "video_file_broken"),
        (html_page, "video_file_broken"),
        (audio_only, "video_file_broken"),
        (a_blink, "video_duration_too_short"),
    )
}

OWN: dict[str, tuple[Make, str]] = {
    make.__name__: (make, code)
    for make, code in (
        (one_second, "video_duration_too_short"),
        (half_a_second, "video_resolution_too_low"),
        (too_small, "video_resolution_too_low"),
        (eight_k, "video_resolution_too_high"),
        (extreme_aspect, "video_resolution_invalid_aspect_ratio"),
    )
}
