"""Validation of images and videos against the limits of the API, with its codes and messages.

Images are JPEG or PNG; their size is read from the header, before anything is decoded.
"""

from __future__ import annotations

import io
from pathlib import Path

from tl_data.local.errors import MediaProblem
from tl_data.local.models import OWN_LONGEST
from tl_data.local.perception.evidence import Probe

MAX_PIXELS = 50_000_000  # 150 MB once decoded
MAX_BYTES = 32 << 20  # of any image


def check_image(data: bytes, smallest: int, max_bytes: int) -> None:
    """Validate an image.

    Raises:
        MediaProblem: not a JPEG or PNG, a side below `smallest` pixels, too many bytes or pixels.
    """
    if len(data) > max_bytes:
        raise MediaProblem(
            "parameter_invalid", f"The image has {len(data)} bytes; the limit is {max_bytes >> 20} MB."
        )
    size = _size(data)
    if size is None:
        raise MediaProblem("parameter_invalid", "The file must be a JPEG or PNG image.")
    width, height = size
    if width * height > MAX_PIXELS or not width:
        shown = f": {width}x{height}" if width else ""
        raise MediaProblem("parameter_invalid", f"The image is too large{shown}.")
    if min(size) < smallest:
        raise MediaProblem(
            "parameter_invalid", f"The image must be at least {smallest}x{smallest}, but is {width}x{height}."
        )


def _size(data: bytes) -> tuple[int, int] | None:
    """Width and height by the header of a JPEG or PNG; (0, 0) of one that Pillow takes for a bomb."""
    from PIL import Image  # late: 80 ms

    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
            return image.size
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return 0, 0
    except (OSError, ValueError, SyntaxError):  # not one of them, cut off, or damaged
        return None


def is_image(path: Path) -> bool:
    """Whether a file is an image that requests may use."""
    try:
        with path.open("rb") as file:
            check_image(file.read(MAX_BYTES + 1), 1, MAX_BYTES)
    except (MediaProblem, OSError):
        return False
    return True


MIN_SEC = 4.0
MIN_SIDE = 360
MAX_LONG, MAX_SHORT = 5184, 2160
MAX_RATIO = 2.4
SLACK = 0.005  # of the ratio: rounded to even pixels, 2.4:1 may be slightly more


def check_video(probe: Probe, longest: float = OWN_LONGEST) -> None:
    """Validate a video of at most `longest` seconds. A portrait video is measured as if it were landscape.

    Raises:
        MediaProblem: with the API's code.
    """
    if not probe.width or not probe.height:
        raise MediaProblem("video_file_broken", "The file has no video track. Upload a file that has one.")
    short, long = sorted((probe.width, probe.height))
    size = f"{probe.width}x{probe.height}"
    if short < MIN_SIDE or long > MAX_LONG or short > MAX_SHORT:
        low = short < MIN_SIDE
        raise MediaProblem(
            "video_resolution_too_low" if low else "video_resolution_too_high",
            f"The resolution of the video is too {'low' if low else 'high'}. Please upload a video with "
            f"resolution between {MIN_SIDE}x{MIN_SIDE} and {MAX_LONG}x{MAX_SHORT}. "
            f"Current resolution is {size}.",
        )
    if long / short > MAX_RATIO + SLACK:
        raise MediaProblem(
            "video_resolution_invalid_aspect_ratio",
            "The aspect ratio of the video is invalid. Please upload a video with aspect ratio between "
            f"1:1 and {MAX_RATIO}:1. Current resolution is {size}.",
        )
    check_duration(probe.duration_sec, longest=longest)


def check_sound(probe: Probe) -> None:
    """Validate a file that must have an audio track.

    Raises:
        MediaProblem: with the API's code.
    """
    if not probe.audio_codec:
        raise MediaProblem("video_audio_track_not_exists", "The file has no audio track.")


def check_duration(seconds: float, shortest: float = MIN_SEC, longest: float = OWN_LONGEST) -> None:
    """Validate the length in seconds of a video or of a window of it.

    Raises:
        MediaProblem: with the API's code.
    """
    # Containers round: the header of a file of 4 s may say 3.99.
    if shortest - 0.05 <= seconds <= longest:
        return
    short = seconds < shortest
    raise MediaProblem(
        "video_duration_too_short" if short else "video_duration_too_long",
        f"Video is too {'short' if short else 'long'}. Please use video with duration between {shortest:g} "
        f"seconds and {longest / 3600:g} hours({longest:g} seconds). "
        f"Current duration is {seconds:.2f} seconds.",
    )
