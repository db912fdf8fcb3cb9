"""Decodes files: properties of the container, frames in one pass, sound, and JPEG files.

Damaged packets and wrong timestamps are skipped. The frame rate may vary: screen recorders write a frame when
the picture changes, and a still picture may have an hour of sound. A frame is valid until the next one.
Memory does not depend on the length of the video: only the current frame is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from tl_data.local.perception import hdr
from tl_data.local.perception.evidence import NotVideo, Probe
from tl_data.untrusted import CONTAINERS

HOLD = 1.5  # a frame that lasts longer, in seconds, is repeated
_MOST_BROKEN = 400  # packets without a picture after which a stream counts as unreadable


def decoded(
    container: Any, stream: Any, broken: list[int] | None = None, beside: Beside | None = None
) -> Iterator[Any]:
    """The frames of one stream. Damaged packets are skipped; a truncated file ends the stream."""
    other = beside.stream if beside else None
    packets, fruitless = container.demux([stream] if other is None else [stream, other]), 0
    while fruitless < _MOST_BROKEN:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError:
            return
        if packet is None:
            return
        if beside and packet.stream is other:
            beside.add(packet)
            continue
        try:
            found = packet.decode()
        except av.error.FFmpegError:
            found = []
            if broken is not None:
                broken.append(packet.pos or 0)
        fruitless = 0 if found else fruitless + 1
        yield from found


def held(time: float, until: float) -> Iterator[float]:
    """The times at which a frame that lasts from `time` to `until` is repeated, every second."""
    if until - time > HOLD:
        yield from (time + second for second in range(1, ceil(until - time - 0.25)))


def timed(frames: Iterator[Any], stream: Any, step: float, duration: float) -> Iterator[tuple[float, Any]]:
    """Frames with their times in seconds, which start at 0 and do not decrease."""
    start: float | None = None
    time = -step
    following = next(frames, None)
    while (frame := following) is not None:
        following = next(frames, None)
        if start is None:
            first, start = frame.time or 0.0, origin(stream)
            start = start if start is not None and 0 <= first - start <= 10 else first
        at = frame.time - start if frame.time is not None else time + step
        # A jump back is a wrong timestamp. So is a jump far ahead, unless the file is as long and continues
        # there: then the picture did not change. A wrong timestamp is replaced by the usual step.
        far = at - time > 10 + 2 * step
        goes_on = following is None or following.time is None or following.time - start >= at
        if not (at >= time or time < 0 <= at) or (far and not (at <= duration + 1 and goes_on)):
            at = time + step
        time = at
        yield time, frame


def origin(stream: Any) -> float | None:
    """The start time of a stream in seconds."""
    return None if stream.start_time is None else float(stream.start_time * stream.time_base)


class Beside:
    """Tracks the end of a stream that is not decoded, in seconds; 0 without one."""

    def __init__(self, stream: Any, begin: float | None) -> None:
        self.stream, self._begin, self.end = stream, begin or 0.0, 0.0

    def add(self, packet: Any) -> None:
        """Add a packet of the stream."""
        if packet.pts is not None:
            end = float((packet.pts + (packet.duration or 0)) * packet.time_base) - self._begin
            self.end = max(self.end, end)


def notable(seconds: float) -> float:
    """The largest difference between duration and end of the pictures that gets no note, in seconds."""
    return max(2.0, 0.1 * seconds)


__all__ = [
    "DecodedFrame",
    "NotVideo",
    "Picture",
    "Probe",
    "Samples",
    "frames",
    "probe",
    "sound",
    "write_jpeg",
]

Picture = npt.NDArray[np.uint8]  # height x width x 3, RGB
Samples = npt.NDArray[np.int16]  # mono

SOUND_RATE = 16_000  # samples per second of decoded sound
SMALL, LARGE = 480, 960  # pixels of the longer side of the two sizes of a frame
END_SEC = 14_460.0  # decoding stops here: the longest video has 14,400 s
_RATE = 31.0  # most frames per second
_MAX_PIXELS = 16_384 * 16_384  # larger pictures are not decoded


class DecodedFrame:
    """A frame: its time in seconds, a sparse sample for the detection of cuts, and pictures on demand.

    `trace` has luma and chroma, `tint` chroma alone.
    """

    def __init__(self, time: float, frame: Any, sizers: dict[int, _Sizer], end: float = 0.0) -> None:
        self.time, self.end = time, max(time, end)  # `end` is valid if no frame follows
        self.trace, self.tint = _trace(frame)
        self._frame, self._sizers = frame, sizers

    def picture(self, side: int) -> Picture:
        """The frame upright, with square pixels, and no side longer than `side` pixels."""
        return self._sizers[side](self._frame)


def probe(path: Path) -> Probe:
    """Read the properties of the container and decode the first picture.

    Raises:
        NotVideo: the file cannot be opened, or has neither pictures nor sound that can be decoded.
    """
    size = path.stat().st_size
    if size == 0:
        raise NotVideo("The file is empty.")
    with _open(path) as container:
        picture, sound = _streams(container)
        if picture is None and sound is None:
            raise NotVideo("The file holds neither video nor sound.")
        duration = _duration(container, picture, sound)
        audio_codec = sound.codec_context.name if sound is not None else None
        if picture is None:
            if next(decoded(container, sound), None) is None:
                raise NotVideo("No sound in the file can be decoded.")
            return Probe(duration or _walk(path), 0, 0, 0.0, size, None, audio_codec)
        context = picture.codec_context
        width, height, codec = context.width, context.height, context.name
        rotation, aspect, fps = 0, _aspect(picture), float(picture.average_rate or 0)
        if width * height <= _MAX_PIXELS:
            frame = next(decoded(container, picture), None)
            if frame is None:
                raise NotVideo("No picture in the file can be decoded.")
            width, height, rotation = frame.width, frame.height, _clockwise(frame)
    width = round(width * aspect)
    if rotation in (90, 270):
        width, height = height, width
    fps = fps if 0 < fps <= 1000 else 0.0
    return Probe(duration or _walk(path), width, height, fps, size, codec, audio_codec, rotation)


def frames(path: Path, facts: Probe, notes: list[str]) -> Iterator[DecodedFrame]:
    """Decode the pictures in order, at most 31 per second.

    Times start at 0 and do not decrease. Problems are appended to `notes`.
    """
    with _open(path) as container:
        stream, sounds = _streams(container)
        if stream is None:
            return
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = 2
        if facts.fps > 100:  # skip frames that no other frame refers to: half of the work or more
            stream.codec_context.skip_frame = "NONREF"
        sizers = {side: _Sizer(side, _aspect(stream)) for side in (SMALL, LARGE)}
        step = 1 / facts.fps if facts.fps else 0.04
        broken: list[int] = []
        beside = Beside(sounds, origin(stream))
        shown, time, due = None, 0.0, 0.0
        for at, frame in timed(decoded(container, stream, broken, beside), stream, step, facts.duration_sec):
            if at > END_SEC:
                notes.append(f"pictures after {END_SEC:g} s were not analysed")
                yield DecodedFrame(END_SEC, frame, sizers)
                return
            if shown is not None:  # the frame lasts until this one
                yield from (DecodedFrame(again, shown, sizers) for again in held(time, at))
            shown, time = frame, at
            if time >= due:
                due = time + 1 / _RATE
                last = min(time + step, facts.duration_sec) if time < facts.duration_sec else time + step
                yield DecodedFrame(time, frame, sizers, last)
        if broken:
            notes.append(f"{len(broken)} packets of the picture could not be decoded")
        end = min(beside.end, facts.duration_sec)
        if shown is not None and end > time + max(step, HOLD):  # the last frame lasts to the end of the sound
            if end - time - step > notable(facts.duration_sec):
                notes.append(f"the pictures end at {time + step:.1f} s of {facts.duration_sec:.1f} s")
            yield from (DecodedFrame(again, shown, sizers, end) for again in held(time, end))


def sound(path: Path) -> Iterator[Samples]:
    """Decode the first sound stream to 16 kHz mono, in contiguous blocks.

    Gaps in the timestamps are filled with silence, so that sample n is at n / 16000 s of the video.
    """
    with _open(path) as container:
        picture, stream = _streams(container)
        if stream is None:
            return
        offset = 0.0
        if picture is not None and picture.start_time is not None:
            offset = float(picture.start_time * picture.time_base)
        elif stream.start_time is not None:
            offset = float(stream.start_time * stream.time_base)
        resampler: av.AudioResampler | None = None
        shape: tuple[int, str, str] | None = None
        written = 0
        for frame in decoded(container, stream):
            here = (frame.sample_rate, frame.format.name, frame.layout.name)
            if resampler is None or here != shape:  # some files change their layout
                resampler, shape = av.AudioResampler("s16", "mono", SOUND_RATE), here
            if frame.time is not None:
                due = round((frame.time - offset) * SOUND_RATE)
                if SOUND_RATE // 5 < due - written < 3600 * SOUND_RATE:
                    hole = due - written
                    written = due
                    while hole > 0:
                        yield np.zeros(min(hole, SOUND_RATE), np.int16)
                        hole -= SOUND_RATE
            frame.pts = None
            if written > END_SEC * SOUND_RATE:
                return
            for part in resampler.resample(frame):
                block = part.to_ndarray()[0]
                written += block.size
                yield block


def write_jpeg(path: Path, picture: Picture, quality: int = 85) -> None:
    """Write `picture` as a JPEG file.

    Raises:
        OSError: the file cannot be written.
    """
    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    if not done:
        raise OSError(f"cannot encode {path.name} as JPEG")
    path.write_bytes(data.tobytes())


class _Sizer:
    """Scales frames so that the longer side is `side`, upright and with square pixels, as RGB."""

    def __init__(self, side: int, aspect: float) -> None:
        self._side, self._aspect = side, aspect
        self._reformatter = VideoReformatter()

    def __call__(self, frame: Any) -> Picture:
        shape = frame.width * self._aspect, float(frame.height)
        scale = min(1.0, self._side / max(shape))
        width, height = (max(2, round(side * scale)) for side in shape)
        # The two fields of an interlaced frame have different times. A clean picture needs one of them alone.
        rows = frame.height if frame.interlaced_frame else height
        scaled: Any = self._reformatter.reformat(
            frame, width, rows, "rgb24", interpolation="AREA"
        ).to_ndarray()
        if frame.interlaced_frame:
            scaled = cv2.resize(scaled[::2], (width, height), interpolation=cv2.INTER_AREA)
        if hdr.is_hdr(frame):
            scaled = hdr.to_sdr(scaled, int(frame.color_trc))
        turns = _clockwise(frame) // 90
        return np.ascontiguousarray(np.rot90(scaled, -turns)) if turns else scaled


def _trace(frame: Any) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int16]]:
    """Samples of a frame: luma at about 80 x 45 points and chroma at 20 x 12; and the chroma alone."""
    name = frame.format.name
    if name not in ("yuv420p", "yuvj420p"):
        frame = frame.reformat(80, 48, "yuv420p", interpolation="AREA")
    parts = []
    for index, (columns, rows) in enumerate(((80, 45), (20, 12), (20, 12))):
        plane = frame.planes[index]
        across, along = max(1, plane.width // columns), max(1, plane.height // rows)
        grid = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
        parts.append(grid[along // 2 :: along, across // 2 :: across].ravel())
    trace = np.concatenate(parts).astype(np.int16)
    return trace, trace[parts[0].size :]


def _open(path: Path) -> Any:
    try:
        return av.open(str(path.resolve()), options=CONTAINERS, metadata_errors="ignore")
    except (av.error.FFmpegError, ValueError) as error:
        raise NotVideo(f"The file cannot be read as video or sound: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).lower()


def _streams(container: Any) -> tuple[Any, Any]:
    """The first video stream that is no cover picture, and the first sound stream; None if absent."""
    cover = av.stream.Disposition.attached_pic
    videos = (s for s in container.streams.video if not s.disposition & cover and s.codec_context is not None)
    sounds = (s for s in container.streams.audio if s.codec_context is not None)
    return next(videos, None), next(sounds, None)


def _aspect(stream: Any) -> float:
    """The aspect ratio of a pixel."""
    aspect = float(stream.sample_aspect_ratio or 1)
    return aspect if 0.1 < aspect < 10 else 1.0


def _clockwise(frame: Any) -> int:
    return round(-(frame.rotation or 0) / 90) * 90 % 360


def _duration(container: Any, *streams: Any) -> float:
    """The duration in the headers, in seconds; 0.0 if absent."""
    lengths = [
        float(s.duration * s.time_base) for s in streams if s is not None and s.duration and s.time_base
    ]
    if container.duration and container.duration > 0:
        length = float(container.duration / av.time_base)
        # Matroska stores the end time, not the duration.
        late = (
            float((container.start_time or 0) / av.time_base) if "matroska" in container.format.name else 0.0
        )
        return length - late if 0 < late < length else length
    return max(lengths, default=0.0)


def _walk(path: Path) -> float:
    """The duration by the timestamps of all packets, in seconds, for files without one in the headers."""
    first, last = None, 0.0
    with _open(path) as container:
        try:
            for packet in container.demux():
                if packet.pts is None or packet.time_base is None:
                    continue
                at = float(packet.pts * packet.time_base)
                first = at if first is None else min(first, at)
                last = max(last, at + float((packet.duration or 0) * packet.time_base))
        except av.error.FFmpegError:  # a truncated file: up to here
            pass
    return last - first if first is not None else 0.0
