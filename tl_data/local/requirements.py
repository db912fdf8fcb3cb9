"""What a video must be like to be taken: the limits of the API, with its codes and sentences."""

from __future__ import annotations

from tl_data.local.errors import MediaProblem
from tl_data.local.evidence import Probe

MIN_SEC, MAX_SEC = 4.0, 7200.0
MIN_SIDE = 360
MAX_LONG, MAX_SHORT = 5184, 2160
MAX_RATIO = 2.4
SLACK = 0.005  # of the ratio: 2.4:1 in even pixels may be a little more


def check_video(probe: Probe) -> None:
    """Refuse what the API refuses. A portrait video is measured like the same one lying on its side.

    Raises:
        MediaProblem: with the API's code.
    """
    if not probe.width or not probe.height:
        raise MediaProblem("video_file_broken", "The file holds sound but no picture: it is not a video.")
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
    check_duration(probe.duration_sec)


def check_sound(probe: Probe) -> None:
    """Refuse a file without sound.

    Raises:
        MediaProblem: with the API's code.
    """
    if not probe.audio_codec:
        raise MediaProblem("video_audio_track_not_exists", "The file holds no sound.")


def check_duration(seconds: float, shortest: float = MIN_SEC, longest: float = MAX_SEC) -> None:
    """Refuse a video, or a stretch of one, that is too short or too long.

    Raises:
        MediaProblem: with the API's code.
    """
    # Containers round: a file cut to 4 s may say 3.99.
    if shortest - 0.05 <= seconds <= longest:
        return
    short = seconds < shortest
    raise MediaProblem(
        "video_duration_too_short" if short else "video_duration_too_long",
        f"Video is too {'short' if short else 'long'}. Please use video with duration between {shortest:g} "
        f"seconds and {longest / 3600:g} hours({longest:g} seconds). "
        f"Current duration is {seconds:.2f} seconds.",
    )
