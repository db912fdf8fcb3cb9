"""Encodes scenes as MP4 files (H.264 and AAC), and generates the demo's videos with labelled questions.

The result is deterministic: the same scenes give the same file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt

from tl_data.demo.scene import Scene, painter
from tl_data.demo.scripts import Kind
from tl_data.demo.speech_synthesis import speak

SAMPLE_RATE = 44_100
_AUDIO_FRAME = 1024  # samples per frame of AAC


@dataclass(frozen=True)
class Question:
    """A search with its expected answer: the best hit should overlap this time range of this video."""

    text: str
    kind: Kind
    video: str  # file name
    start_sec: float
    end_sec: float


@dataclass(frozen=True)
class DemoVideo:
    """A video file with its title and the questions that it answers."""

    path: Path
    title: str
    questions: tuple[Question, ...]


def make_video(
    path: str | Path,
    scenes: Sequence[Scene],
    width: int = 1280,
    height: int = 720,
    fps: int = 30,
    audio: bool = True,
) -> Path:
    """Draw, speak and encode the scenes, with hard cuts between them, as an MP4 file.

    `width` and `height` must be even numbers of pixels. The file gets its final name when it is complete.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    # bitexact leaves times and versions out of the file, so that the same scenes give the same bytes.
    options = {"movflags": "faststart", "fflags": "+bitexact"}
    with av.open(str(part), "w", format="mp4", options=options) as container:
        video = container.add_stream("libx264", rate=fps)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        keyframes = str(2 * fps)  # one every two seconds
        video.options = {
            "preset": "ultrafast",
            "crf": "24",
            "g": keyframes,
            "threads": "1",
            "flags": "+bitexact",
        }
        sound = _add_sound(container) if audio else None
        frame_number = sample_number = 0
        for scene in scenes:
            for picture in _pictures(scene, width, height, fps):
                # This conversion is faster than that of libswscale.
                planes = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420), np.uint8)
                frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
                frame.pts, frame.time_base = frame_number, Fraction(1, fps)
                container.mux(video.encode(frame))
                frame_number += 1
            if sound is not None:
                # The sound of a scene ends with its last frame, so that sound and picture stay in sync.
                end = round(frame_number / fps * SAMPLE_RATE)
                _write_sound(container, sound, _sound(scene, end - sample_number), sample_number)
                sample_number = end
        container.mux(video.encode(None))
        if sound is not None:
            container.mux(sound.encode(None))
    return part.replace(path)


def make_videos(jobs: Sequence[tuple[Path, Sequence[Scene], dict[str, Any]]], workers: int = 2) -> None:
    """Call `make_video` for each (path, scenes, options) whose file is missing, `workers` at a time."""
    missing = [job for job in jobs if not job[0].is_file()]
    with ThreadPoolExecutor(workers) as pool:
        for future in [pool.submit(make_video, path, scenes, **options) for path, scenes, options in missing]:
            future.result()


def demo_videos(folder: str | Path) -> list[DemoVideo]:
    """The demo's videos in `folder`. Missing ones are generated."""
    from tl_data.demo.scripts import SCRIPTS

    folder = Path(folder)
    videos = [
        DemoVideo(folder / s.file, s.title, tuple(_questions(s.file, s.scenes, s.asks))) for s in SCRIPTS
    ]
    make_videos([(folder / s.file, s.scenes, dict(s.options)) for s in SCRIPTS])
    return videos


def _questions(
    file: str, scenes: Sequence[Scene], asks: Sequence[tuple[int, Kind, str]]
) -> Iterator[Question]:
    """The questions of a video. The number of a scene gives the expected time range."""
    starts = [sum(scene.seconds for scene in scenes[:i]) for i in range(len(scenes) + 1)]
    for number, kind, text in asks:
        yield Question(text, kind, file, starts[number], starts[number + 1])


def _pictures(scene: Scene, width: int, height: int, fps: int) -> Iterator[npt.NDArray[np.uint8]]:
    draw = painter(scene, width, height)
    count = round(scene.seconds * fps)
    for number in range(count):
        yield draw(number / max(1, count - 1))


def _add_sound(container: Any) -> Any:
    sound = container.add_stream("aac", rate=SAMPLE_RATE)
    sound.layout, sound.bit_rate, sound.options = "mono", 96_000, {"flags": "+bitexact"}
    return sound


def _write_sound(container: Any, stream: Any, samples: npt.NDArray[np.float32], first: int) -> None:
    """Encode samples. `first` is the number of the first one in the whole sound."""
    for start in range(0, len(samples), _AUDIO_FRAME):
        part = samples[None, start : start + _AUDIO_FRAME]
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, first + start, Fraction(1, SAMPLE_RATE)
        container.mux(stream.encode(frame))


def _sound(scene: Scene, length: int) -> npt.NDArray[np.float32]:
    """The samples of a scene, -1 to 1: speech from 0.5 s, and a soft chord if the scene has a `tone`."""
    mix = np.zeros(length, np.float32)
    seconds = np.arange(length) / SAMPLE_RATE
    if scene.tone:
        for step in (1.0, 1.25, 1.5):
            mix += 0.05 * np.sin(2 * np.pi * scene.tone * step * seconds).astype(np.float32)
        mix *= np.minimum(1, np.minimum(seconds, seconds[::-1]) * 8).astype(np.float32)
    if scene.speech:
        samples, rate = speak(scene.speech)
        voice = samples.astype(np.float32) / 32768
        positions = np.arange(int(len(voice) * SAMPLE_RATE / rate)) * rate / SAMPLE_RATE
        voice = np.interp(positions, np.arange(len(voice)), voice).astype(np.float32)
        start = SAMPLE_RATE // 2
        voice = voice[: max(0, length - start)]
        mix[start : start + len(voice)] += voice * 0.9
    return mix
