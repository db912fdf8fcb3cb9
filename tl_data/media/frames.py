"""Frames of a video as small JPEGs, decoded by PyAV from a file or a URL."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

from tl_data.errors import ConnectionFailed, MediaRefused, MissingExtra
from tl_data.untrusted import CONTAINERS, REMOTE_CONTAINERS
from tl_data.urls import redacted

log = logging.getLogger("tl_data.media")

WIDTH = 320  # pixels
#: Maximum number of frames of a video, evenly distributed over its duration. A video of fewer seconds has one
#: per second.
FRAMES = 12
POSTER = FRAMES // 3  # index of the poster frame; it comes after titles and black frames

Json = dict[str, Any]


def frames_of(source: str, length: float | None) -> list[Json]:
    """Frames of a video as rows with sec, kind, jpeg, width and height. A file without pictures has no rows.

    Args:
        source: path or URL.
        length: length of the video in seconds; None: the duration in its header.

    Raises:
        MediaRefused, ConnectionFailed: the source cannot be decoded or reached (`frames_unreadable`).
        MissingExtra: PyAV is not installed.
    """
    # Timeouts in seconds to open and to read, so that a slow host cannot block the run.
    with _opened(source, timeout=(15.0, 30.0)) as opened:
        if not opened.streams.video:
            return []
        stream = opened.streams.video[0]
        duration = length or float((opened.duration or 0) / 1_000_000)  # FFmpeg counts microseconds
        count = max(1, min(FRAMES, int(duration)))
        rows: list[Json] = []
        failure: Exception = ValueError("no frame could be decoded")
        for n in range(count):
            try:
                image = _decode_at(opened, stream, duration * (n + 0.5) / count)
            except Exception as error:  # noqa: BLE001 - the library may raise any exception for an untrusted file
                image, failure = None, error  # a damaged part; other parts may be readable
            if image is not None:
                body, width, height = jpeg(image)
                second = round(duration * (n + 0.5) / count, 3)
                rows.append({"sec": second, "kind": "moment", "jpeg": body, "width": width, "height": height})
        if not rows:
            raise failure
        rows[len(rows) * POSTER // FRAMES]["kind"] = "poster"
        if len(rows) < count:
            log.warning(
                "only %d of %d pictures of %s could be read: %s",
                len(rows),
                count,
                redacted(source),
                _cause(failure),
            )
        return rows


def frame_at(path: str, second: float) -> bytes | None:
    """The frame of a file at a time, as JPEG; None if it has no pictures. Raises like `frames_of`."""
    with _opened(path) as opened:
        if not opened.streams.video:
            return None
        image = _decode_at(opened, opened.streams.video[0], second)
        if image is None:
            raise ValueError("no frame could be decoded")
        return jpeg(image)[0]


@contextmanager
def _opened(source: str, **options: Any) -> Iterator[Any]:
    """Open the container of a path or URL. A failure in the block is logged and raised as a `TLDataError`."""
    try:
        import av
    except ImportError as error:
        raise MissingExtra("av", "media") from error
    remote = "://" in source
    try:
        with av.open(source, options=REMOTE_CONTAINERS if remote else CONTAINERS, **options) as opened:
            yield opened
    except Exception as error:  # noqa: BLE001 - the library may raise any exception for an untrusted file
        text = f"cannot read pictures of {redacted(source)}: {_cause(error)}"
        log.warning(text)
        if remote and isinstance(error, OSError | av.error.HTTPServerError | av.error.ExitError):
            raise ConnectionFailed(text, "frames_unreadable") from None  # its text has the signed URL
        raise MediaRefused(text, "frames_unreadable") from None


def _cause(error: Exception) -> str:
    return redacted(getattr(error, "strerror", None) or str(error) or type(error).__name__)


def _decode_at(opened: Any, stream: Any, second: float) -> Any:
    """The first frame at or after a time; the last frame if there is none."""
    start, base = stream.start_time or 0, stream.time_base or Fraction(1, 1000)
    opened.seek(start + int(second / base), stream=stream)
    target, last = second + float(start * base) - 0.02, None
    for image in opened.decode(stream):
        last = image
        if image.time is None or image.time >= target:
            break
    return last


def jpeg(image: Any, width: int = WIDTH) -> tuple[bytes, int, int]:
    """Encode a frame as JPEG; returns the bytes, width and height."""
    import av

    height = max(2, round(image.height * width / image.width / 2) * 2)
    small = image.reformat(width=width, height=height, format="yuvj420p")
    small.pts, small.time_base = 0, Fraction(1, 25)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mjpeg") as container:
        stream: Any = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuvj420p"
        stream.codec_context.qmin = stream.codec_context.qmax = 5
        for packet in (*stream.encode(small), *stream.encode()):
            container.mux(packet)
    return buffer.getvalue(), width, height
