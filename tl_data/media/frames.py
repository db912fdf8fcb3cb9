"""Pictures of a video: small JPEGs of its moments, decoded by PyAV from a file or an address."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

from tl_data.untrusted import CONTAINERS, REMOTE_CONTAINERS

WIDTH = 320  # pixels
PICTURES = 12  # of a video, spread over its length
POSTER = PICTURES // 3  # which of them stands for the video: later than titles and black

Json = dict[str, Any]


def frames_of(source: str, length: float | None) -> list[Json]:
    """Pictures of a video as rows without its id: sec, kind, jpeg, width, height.

    Args:
        source: path or URL.
        length: of the video in seconds; None: as its header says.

    A source that cannot be opened or decoded has none: pictures are an addition, and no reason to fail.
    """
    try:
        import av
    except ImportError:
        return []
    options = REMOTE_CONTAINERS if "://" in source else CONTAINERS
    try:
        # Seconds to open and to read: a host that hangs costs the pictures, not the run.
        with av.open(source, options=options, timeout=(15.0, 30.0)) as opened:
            stream = opened.streams.video[0]
            known = length or float((opened.duration or 0) / av.time_base)
            count = max(1, min(PICTURES, int(known)))
            rows: list[Json] = []
            for n in range(count):
                image = _at(opened, stream, known * (n + 0.5) / count)
                if image is not None:
                    kind = "poster" if n == count * POSTER // PICTURES else "moment"
                    body, width, height = jpeg(image)
                    second = round(known * (n + 0.5) / count, 3)
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
    """The first frame at a time or after it; the last one if there is none."""
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
