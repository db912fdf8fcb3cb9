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

THREADS = 2  # threads that decode pictures
HOLD = 1.5  # seconds; a frame that lasts longer is repeated
#: Consecutive packets without a frame after which the rest of a stream is not decoded.
_MAX_BARREN_PACKETS = 400
#: The packets of one stream may have at most this many times the size of the file. An edit list can repeat a
#: few seconds of a small file for hours. No container compresses video or sound further.
_MAX_REPETITIONS = 4


def decode_stream(
    container: Any, stream: Any, damaged: list[int] | None = None, other_stream: StreamEnd | None = None
) -> Iterator[Any]:
    """Decode the frames of one stream. Damaged packets are skipped; a truncated file ends the stream.

    Args:
        damaged: receives the file position of each damaged packet.
        other_stream: another stream of the container, whose end is recorded from the same packets.

    Raises:
        NotVideo: the file repeats its content more than `_MAX_REPETITIONS` times.
    """
    remaining = _MAX_REPETITIONS * max(container.size, 1 << 16)  # bytes
    other = other_stream.stream if other_stream else None
    packets = container.demux([stream] if other is None else [stream, other])
    barren = 0  # consecutive packets without a frame
    while barren < _MAX_BARREN_PACKETS:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError:
            return
        if packet is None:
            return
        if other_stream and packet.stream is other:
            other_stream.add(packet)
            continue
        remaining -= packet.size
        if remaining < 0:
            raise NotVideo("The file repeats the same content too often.")
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            frames = []
            if damaged is not None:
                damaged.append(packet.pos or 0)
        barren = 0 if frames else barren + 1
        yield from frames


def repeat_times(time: float, until: float) -> Iterator[float]:
    """Once per second, the time at which to repeat a frame that lasts from `time` to `until`.

    The last quarter of a second has no repetition, because the next frame follows.
    """
    if until - time > HOLD:
        yield from (time + second for second in range(1, ceil(until - time - 0.25)))


def with_times(
    frames: Iterator[Any], stream: Any, step: float, duration: float
) -> Iterator[tuple[float, Any]]:
    """Pair frames with their times in seconds, which start at 0 and do not decrease.

    Args:
        step: the usual time between two frames in seconds.
        duration: the duration of the file in seconds.
    """
    start: float | None = None
    time = -step
    following = next(frames, None)
    while (frame := following) is not None:
        following = next(frames, None)
        if start is None:
            first, start = frame.time or 0.0, stream_start(stream)
            # The start in the header counts, unless the first frame is before it or more than 10 s after it.
            start = start if start is not None and 0 <= first - start <= 10 else first
        frame_time = frame.time - start if frame.time is not None else time + step
        # A timestamp before the previous one is wrong. A jump ahead is accepted only if it lies within the
        # file and the next frame is not earlier: then the picture did not change for a while. Instead of a
        # wrong timestamp, the previous time plus the usual step is used.
        far_ahead = frame_time - time > 10 + 2 * step
        continues_later = following is None or following.time is None or following.time - start >= frame_time
        if not (frame_time >= time or time < 0 <= frame_time) or (
            far_ahead and not (frame_time <= duration + 1 and continues_later)
        ):
            frame_time = time + step
        time = frame_time
        yield time, frame


def stream_start(stream: Any) -> float | None:
    """The start time of a stream in seconds."""
    return None if stream.start_time is None else float(stream.start_time * stream.time_base)


class StreamEnd:
    """Records the end, in seconds, of a stream that is not decoded; 0 if there is no such stream."""

    def __init__(self, stream: Any, begin: float | None) -> None:
        self.stream, self._begin, self.end = stream, begin or 0.0, 0.0

    def add(self, packet: Any) -> None:
        """Add a packet of the stream."""
        if packet.pts is not None:
            end = float((packet.pts + (packet.duration or 0)) * packet.time_base) - self._begin
            self.end = max(self.end, end)


def tolerated_gap(seconds: float) -> float:
    """By how many seconds the pictures of a file of this length may end before the file without a note."""
    return max(2.0, 0.1 * seconds)


Picture = npt.NDArray[np.uint8]  # height x width x 3, RGB
Samples = npt.NDArray[np.int16]  # mono

SOUND_RATE = 16_000  # samples per second of decoded sound
SMALL, LARGE = 480, 960  # pixels of the longer side of the two sizes of a frame
END_SEC = 14_460.0  # decoding stops at this time; the longest allowed video has 14,400 s
_MAX_RATE = 31.0  # frames per second
_MAX_PIXELS = 16_384 * 16_384  # larger pictures are not decoded


class DecodedFrame:
    """A frame: its time in seconds, sparse samples for the detection of cuts, and pictures on demand.

    `trace` contains samples of luma and chroma, `chroma` those of chroma alone. `end` is the time until which
    the frame lasts if no other frame follows.
    """

    def __init__(self, time: float, frame: Any, sizers: dict[int, _Sizer], end: float = 0.0) -> None:
        self.time, self.end = time, max(time, end)
        self.trace, self.chroma = _trace(frame)
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
            raise NotVideo("The file contains neither video nor sound.")
        duration = _duration(container, picture, sound)
        audio_codec = sound.codec_context.name if sound is not None else None
        if picture is None:
            if next(decode_stream(container, sound), None) is None:
                raise NotVideo("No sound in the file can be decoded.")
            return Probe(duration or _duration_by_packets(path), 0, 0, 0.0, size, None, audio_codec)
        context = picture.codec_context
        width, height, codec = context.width, context.height, context.name
        rotation, aspect, fps = 0, _aspect(picture), float(picture.average_rate or 0)
        if width * height <= _MAX_PIXELS:
            frame = next(decode_stream(container, picture), None)
            if frame is None:
                raise NotVideo("No picture in the file can be decoded.")
            width, height, rotation = frame.width, frame.height, _clockwise(frame)
    width = round(width * aspect)
    if rotation in (90, 270):
        width, height = height, width
    fps = fps if 0 < fps <= 1000 else 0.0
    return Probe(
        duration or _duration_by_packets(path), width, height, fps, size, codec, audio_codec, rotation
    )


def frames(path: Path, facts: Probe, notes: list[str]) -> Iterator[DecodedFrame]:
    """Decode the pictures in order, at most 31 per second.

    Times start at 0 and do not decrease. Problems are appended to `notes`.
    """
    with _open(path) as container:
        stream, sounds = _streams(container)
        if stream is None:
            return
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = THREADS
        if facts.fps > 100:  # skip frames to which no other frame refers; this saves half of the work or more
            stream.codec_context.skip_frame = "NONREF"
        sizers = {side: _Sizer(side, _aspect(stream)) for side in (SMALL, LARGE)}
        step = 1 / facts.fps if facts.fps else 0.04
        damaged: list[int] = []
        sound_end = StreamEnd(sounds, stream_start(stream))
        previous, time, due = None, 0.0, 0.0
        for frame_time, frame in with_times(
            decode_stream(container, stream, damaged, sound_end), stream, step, facts.duration_sec
        ):
            if frame_time > END_SEC:
                notes.append(f"pictures after {END_SEC:g} s were not analyzed")
                yield DecodedFrame(END_SEC, frame, sizers)  # ends the last clip at END_SEC
                return
            if previous is not None:  # the previous frame lasts until this one
                yield from (
                    DecodedFrame(repeat_time, previous, sizers)
                    for repeat_time in repeat_times(time, frame_time)
                )
            previous, time = frame, frame_time
            if time >= due:
                due = time + 1 / _MAX_RATE
                frame_end = time + step
                if time < facts.duration_sec:  # not past the end of the file
                    frame_end = min(frame_end, facts.duration_sec)
                yield DecodedFrame(time, frame, sizers, frame_end)
        if damaged:
            notes.append(f"{len(damaged)} packets of the picture could not be decoded")
        end = min(sound_end.end, facts.duration_sec)
        # The last frame lasts to the end of the sound.
        if previous is not None and end > time + max(step, HOLD):
            if end - time - step > tolerated_gap(facts.duration_sec):
                notes.append(f"the pictures end at {time + step:.1f} s of {facts.duration_sec:.1f} s")
            yield from (
                DecodedFrame(repeat_time, previous, sizers, end) for repeat_time in repeat_times(time, end)
            )


def sound(path: Path) -> Iterator[Samples]:
    """Decode the first sound stream to 16 kHz mono, in contiguous blocks.

    Gaps of 0.2 s to 1 h in the timestamps are filled with silence, so that sample n is at n / 16000 s of the
    video. Shorter gaps are jitter, longer ones are wrong timestamps.
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
        previous_format: tuple[int, str, str] | None = None
        written = 0
        for frame in decode_stream(container, stream):
            sample_format = (frame.sample_rate, frame.format.name, frame.layout.name)
            if resampler is None or sample_format != previous_format:  # the format can change within a file
                resampler, previous_format = av.AudioResampler("s16", "mono", SOUND_RATE), sample_format
            if frame.time is not None:
                due = round((frame.time - offset) * SOUND_RATE)
                if SOUND_RATE // 5 < due - written < 3600 * SOUND_RATE:
                    missing = due - written
                    written = due
                    while missing > 0:
                        yield np.zeros(min(missing, SOUND_RATE), np.int16)
                        missing -= SOUND_RATE
            frame.pts = None
            if written > END_SEC * SOUND_RATE:
                return
            for resampled in resampler.resample(frame):
                block = resampled.to_ndarray()[0]
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
    """Scales frames so that the longer side is at most `side`, upright and with square pixels, as RGB."""

    def __init__(self, side: int, aspect: float) -> None:
        self._side, self._aspect = side, aspect
        self._reformatter = VideoReformatter()

    def __call__(self, frame: Any) -> Picture:
        size = frame.width * self._aspect, float(frame.height)
        scale = min(1.0, self._side / max(size))
        width, height = (max(2, round(side * scale)) for side in size)
        # The two fields of an interlaced frame were recorded at different times. Only one of them is used.
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
    """Sample a frame: luma at about 80 x 45 points with chroma at 20 x 12 points, and the chroma alone."""
    name = frame.format.name
    if name not in ("yuv420p", "yuvj420p"):
        frame = frame.reformat(80, 48, "yuv420p", interpolation="AREA")
    parts = []
    for index, (columns, rows) in enumerate(((80, 45), (20, 12), (20, 12))):
        plane = frame.planes[index]
        step_x, step_y = max(1, plane.width // columns), max(1, plane.height // rows)
        grid = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
        parts.append(grid[step_y // 2 :: step_y, step_x // 2 :: step_x].ravel())
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
    """Width divided by height of a pixel."""
    aspect = float(stream.sample_aspect_ratio or 1)
    return aspect if 0.1 < aspect < 10 else 1.0


def _clockwise(frame: Any) -> int:
    """The rotation of a frame in degrees clockwise: 0, 90, 180 or 270."""
    return round(-(frame.rotation or 0) / 90) * 90 % 360


def _duration(container: Any, *streams: Any) -> float:
    """The duration in the headers, in seconds; 0.0 if absent."""
    lengths = [
        float(s.duration * s.time_base) for s in streams if s is not None and s.duration and s.time_base
    ]
    if container.duration and container.duration > 0:
        length = float(container.duration / av.time_base)
        # Matroska stores the end time, not the duration.
        start = (
            float((container.start_time or 0) / av.time_base) if "matroska" in container.format.name else 0.0
        )
        return length - start if 0 < start < length else length
    return max(lengths, default=0.0)


def _duration_by_packets(path: Path) -> float:
    """The duration in seconds by the timestamps of all packets, for files whose headers have none."""
    first, last = None, 0.0
    with _open(path) as container:
        try:
            for packet in container.demux():
                if packet.pts is None or packet.time_base is None:
                    continue
                time = float(packet.pts * packet.time_base)
                first = time if first is None else min(first, time)
                last = max(last, time + float((packet.duration or 0) * packet.time_base))
        except av.error.FFmpegError:  # a truncated file ends at this packet
            pass
    return last - first if first is not None else 0.0
