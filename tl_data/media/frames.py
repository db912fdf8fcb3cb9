"""Frames of a video as small JPEGs, decoded by PyAV from a file or a URL."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

from tl_data.untrusted import CONTAINERS, REMOTE_CONTAINERS

WIDTH = 320  # pixels
FRAMES = 12  # of a video, spread over its duration
POSTER = FRAMES // 3  # index of the poster frame: after titles and black frames

Json = dict[str, Any]


def frames_of(source: str, length: float | None) -> list[Json]:
    """Frames of a video as rows without its id: sec, kind, jpeg, width, height.

    A source that cannot be opened or decoded gives no rows: frames are optional and fail no video.

    Args:
        source: path or URL.
        length: of the video in seconds; None takes the duration in its header.
    """
    try:
        import av
    except ImportError:
        return []
    options = REMOTE_CONTAINERS if "://" in source else CONTAINERS
    try:
        # Timeouts in seconds to open and to read, so that a slow host cannot block the run.
        with av.open(source, options=options, timeout=(15.0, 30.0)) as opened:
            stream = opened.streams.video[0]
            duration = length or float((opened.duration or 0) / av.time_base)
            count = max(1, min(FRAMES, int(duration)))
            rows: list[Json] = []
            for n in range(count):
                image = _at(opened, stream, duration * (n + 0.5) / count)
                if image is not None:
                    kind = "poster" if n == count * POSTER // FRAMES else "moment"
                    body, width, height = jpeg(image)
                    second = round(duration * (n + 0.5) / count, 3)
                    rows.append({"sec": second, "kind": kind, "jpeg": body, "width": width, "height": height})
            return rows
    except Exception:  # noqa: BLE001 - a foreign file may make the library raise anything
        return []


def frame_at(path: str, second: float) -> bytes | None:
    """The frame of a file at a time as JPEG; None if it cannot be decoded."""
    try:
        import av
    except ImportError:
        return None
    try:
        with av.open(path, options=CONTAINERS) as opened:
            image = _at(opened, opened.streams.video[0], second)
            return None if image is None else jpeg(image)[0]
    except Exception:  # noqa: BLE001 - a foreign file may make the library raise anything
        return None


def _at(opened: Any, stream: Any, second: float) -> Any:
    """The first frame at or after a time; the last frame if there is none."""
    start, base = stream.start_time or 0, stream.time_base or Fraction(1, 1000)
    opened.seek(start + int(second / base), stream=stream)
    wanted, last = second + float(start * base) - 0.02, None
    for image in opened.decode(stream):
        last = image
        if image.time is None or image.time >= wanted:
            break
    return last


def jpeg(image: Any, width: int = WIDTH) -> tuple[bytes, int, int]:
    """A decoded frame as JPEG, with its width and height."""
    import av

    height = max(2, round(image.height * width / image.width / 2) * 2)
    small = image.reformat(width=width, height=height, format="yuvj420p")
    small.pts, small.time_base = 0, Fraction(1, 25)
    out = io.BytesIO()
    with av.open(out, "w", format="mjpeg") as target:
        stream: Any = target.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuvj420p"
        stream.codec_context.qmin = stream.codec_context.qmax = 5
        for packet in (*stream.encode(small), *stream.encode()):
            target.mux(packet)
    return out.getvalue(), width, height
