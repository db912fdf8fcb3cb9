"""Validates images and videos against the limits of the API, with its error codes and messages.

Images must be JPEG or PNG. Their size is read from the header, before the image is decoded.
"""

from __future__ import annotations

import io
from pathlib import Path

from tl_data.local.errors import MediaError
from tl_data.local.models import OWN_LONGEST, longest_video
from tl_data.local.perception.evidence import Probe
from tl_data.local.perception.pictures import MAX_PIXELS
from tl_data.local.profiles import TODAY, Profile

MAX_BYTES = 32 << 20  # largest file of an image
_MOST_PASSES = 500  # of a progressive JPEG, which has about 10: each walks over all pixels
_MOST_READS = 10_000  # of a header: one of many small parts is read for minutes otherwise


def check_image(data: bytes, smallest: int, max_bytes: int) -> None:
    """Validate an image.

    Raises:
        MediaError: the image is not a JPEG or PNG, has a side below `smallest` pixels, or has too
            many bytes, pixels or passes.
    """
    if len(data) > max_bytes:
        raise MediaError(
            "parameter_invalid", f"The image has {len(data)} bytes; the limit is {max_bytes >> 20} MB."
        )
    size = _size(data)
    if size is None:
        raise MediaError("parameter_invalid", "The file must be a JPEG or PNG image.")
    if data.startswith(b"\xff\xd8") and data.count(b"\xff\xda") > _MOST_PASSES:
        raise MediaError("parameter_invalid", f"The JPEG image has more than {_MOST_PASSES} passes.")
    width, height = size
    if width * height > MAX_PIXELS or not width:
        dimensions = f": {width}x{height}" if width else ""
        raise MediaError("parameter_invalid", f"The image is too large{dimensions}.")
    if min(size) < smallest:
        raise MediaError(
            "parameter_invalid", f"The image must be at least {smallest}x{smallest}, but is {width}x{height}."
        )


class _Header(io.BytesIO):
    """A file that fails when its header has too many parts."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads > _MOST_READS:
            raise OSError("the header has too many parts")
        return super().read(size)


def _size(data: bytes) -> tuple[int, int] | None:
    """Width and height from the header of a JPEG or PNG; None for other files.

    The result is (0, 0) if Pillow considers the image a decompression bomb.
    """
    from PIL import Image  # this import takes 80 ms, so it is not at the top

    try:
        with Image.open(_Header(data), formats=("JPEG", "PNG")) as image:
            return image.size
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return 0, 0
    except (OSError, ValueError, SyntaxError):  # another format, truncated, or damaged
        return None


def is_image(path: Path) -> bool:
    """Whether a file is a valid image."""
    try:
        with path.open("rb") as file:
            check_image(file.read(MAX_BYTES + 1), 1, MAX_BYTES)
    except (MediaError, OSError):
        return False
    return True


MIN_SEC = 4.0  # shortest video, seconds
MIN_SIDE = 360  # shortest side of a video, pixels
MAX_LONG, MAX_SHORT = 5184, 2160  # limits of the longer and of the shorter side, pixels
MAX_RATIO = 2.4  # largest ratio of the sides
SLACK = 0.005  # tolerance of the ratio: sides are rounded to even pixels, so 2.4:1 may be slightly exceeded
LENIENT_MIN_SEC = 0.5  # shortest video of the lenient profile, seconds


def shortest_video(profile: Profile) -> float:
    """The shortest video in seconds that a profile indexes or embeds."""
    return MIN_SEC if profile.strict else LENIENT_MIN_SEC


def check_video(probe: Probe, profile: Profile, longest: float = OWN_LONGEST) -> None:
    """Validate resolution, aspect ratio and duration of a video. The limits ignore its orientation.

    The lenient profile accepts every resolution and ratio that can be decoded, from `LENIENT_MIN_SEC` on.

    Args:
        longest: largest duration in seconds.

    Raises:
        MediaError: the video violates a limit, or has no pictures.
    """
    check_picture(probe, profile)
    check_duration(probe.duration_sec, shortest_video(profile), longest)


def refusal_of_service(width: int | None, height: int | None, seconds: float | None) -> MediaError | None:
    """Why the service would refuse to index a video that the lenient profile accepts; None if it would not.

    Values that are not known yet are not judged.
    """
    try:
        if width and height:
            _check_size(width, height)
        if seconds is not None:
            check_duration(seconds, MIN_SEC, longest_video(["marengo3.0"], TODAY))
    except MediaError as error:
        return error
    return None


def check_picture(probe: Probe, profile: Profile) -> None:
    """Validate the resolution and the aspect ratio of a video against the limits of a profile.

    Raises:
        MediaError: the video violates a limit, or has no pictures.
    """
    if not probe.width or not probe.height:
        raise MediaError("video_file_broken", "The file has no video track. Upload a file that has one.")
    if profile.strict:
        _check_size(probe.width, probe.height)


def _check_size(width: int, height: int) -> None:
    """Validate the resolution and the aspect ratio against the limits of the service."""
    short, long = sorted((width, height))
    size = f"{width}x{height}"
    if short < MIN_SIDE or long > MAX_LONG or short > MAX_SHORT:
        is_low = short < MIN_SIDE
        raise MediaError(
            "video_resolution_too_low" if is_low else "video_resolution_too_high",
            f"The resolution of the video is too {'low' if is_low else 'high'}. Please upload a video with "
            f"resolution between {MIN_SIDE}x{MIN_SIDE} and {MAX_LONG}x{MAX_SHORT}. "
            f"Current resolution is {size}.",
        )
    if long / short > MAX_RATIO + SLACK:
        raise MediaError(
            "video_resolution_invalid_aspect_ratio",
            "The aspect ratio of the video is invalid. Please upload a video with aspect ratio between "
            f"1:1 and {MAX_RATIO}:1. Current resolution is {size}.",
        )


def check_sound(probe: Probe) -> None:
    """Validate a file that must have an audio track.

    Raises:
        MediaError: the file has no audio track.
    """
    if not probe.audio_codec:
        raise MediaError("video_audio_track_not_exists", "The file has no audio track.")


def check_duration(seconds: float, shortest: float = MIN_SEC, longest: float = OWN_LONGEST) -> None:
    """Validate the duration in seconds of a video, or of a window of a video.

    Raises:
        MediaError: the duration is outside of the limits.
    """
    # Durations in headers are rounded: that of a file of 4 s may be 3.99.
    if shortest - 0.05 <= seconds <= longest:
        return
    is_short = seconds < shortest
    raise MediaError(
        "video_duration_too_short" if is_short else "video_duration_too_long",
        f"Video is too {'short' if is_short else 'long'}. Please use video with duration between "
        f"{shortest:g} seconds and {longest / 3600:g} hours({longest:g} seconds). "
        f"Current duration is {seconds:.2f} seconds.",
    )
