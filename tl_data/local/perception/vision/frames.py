"""Selects a few small pictures of a video for a vision-language model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tl_data.local.perception.evidence import Clip, Evidence
from tl_data.local.perception.pictures import NotPicture, decoder

SIDE = 512  # pixels of the longer side
_QUALITY = 80  # of the JPEG files


@dataclass(frozen=True)
class Frame:
    """A picture of a video."""

    time: float  # of the picture in seconds; in evidence of earlier versions the middle of its clip
    jpeg: bytes


def pick(evidence: Evidence, folder: Path, max_frames: int) -> tuple[Frame, ...]:
    """Read at most `max_frames` keyframes, evenly spread over the clips. Missing files are skipped."""
    clips = [clip for clip in evidence.clips if clip.keyframe]
    if max_frames < 1 or not clips:
        return ()
    if len(clips) > max_frames:
        clips = [clips[(2 * n + 1) * len(clips) // (2 * max_frames)] for n in range(max_frames)]
    clip_of: dict[str, Clip] = {}
    for clip in clips:  # a clip without a picture of its own has that of the clip before it
        clip_of.setdefault(clip.keyframe, clip)
    frames = []
    for name, clip in clip_of.items():
        if jpeg := _small(folder / name):
            middle = (clip.start_sec + clip.end_sec) / 2
            frames.append(Frame(round(middle if clip.keyframe_sec is None else clip.keyframe_sec, 2), jpeg))
    return tuple(frames)


def _small(path: Path) -> bytes | None:
    """Read a picture and scale it down; None if it cannot be read."""
    import cv2

    try:
        small, _ = decoder.decode(path.read_bytes(), (SIDE, 1))  # an imported lake may hold any file
    except (OSError, NotPicture):
        return None
    bgr = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return data.tobytes() if done else None
