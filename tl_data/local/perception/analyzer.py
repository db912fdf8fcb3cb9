"""Analyzes a video in one pass over its frames and one pass over its sound; the result is `Evidence`."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from tl_data.local.perception import decode, languages
from tl_data.local.perception.audio import sound, speech
from tl_data.local.perception.decode import Picture, tolerated_gap
from tl_data.local.perception.evidence import Clip, Confidences, Evidence, ModelFailed, NotVideo, Probe, Span
from tl_data.local.perception.vision import colors, descriptors, motion, objects, ocr, shots
from tl_data.local.perception.vision.image_encoder import ImageEncoder, as_numbers

log = logging.getLogger("tl_data.local")

T = TypeVar("T")
Progress = Callable[[float], None]  # called with the share that is done, 0..1
THUMBNAIL = "thumbnail.jpg"
_MEASURE_SECONDS = 0.25  # interval at which colours, motion and text are measured
_KEYFRAME_SECONDS = 1.0  # interval between candidates for the keyframe


@dataclass(frozen=True)
class Models:
    """The models of an analysis. By default, the installed ones."""

    encoder: ImageEncoder | None = None  # an image-text encoder
    whisper: Path | None = None  # folder of a Whisper model
    speech_model: str = ""  # name of the Whisper model; "" selects the best installed one
    objects: Path | None = None  # folder with the weights of the object models
    detector: bool = True  # whether objects are located and people counted
    see: bool = True  # whether objects and people are recognised at all


def analyze(
    path: Path,
    folder: Path | None = None,
    *,
    models: Models | None = None,
    on_progress: Progress | None = None,
    listen: Callable[[], speech.SoundResult] | None = None,
) -> Evidence:
    """Analyze a video. It needs no server.

    Args:
        path: A local video or sound file.
        folder: The folder for keyframes and `thumbnail.jpg`, created if missing. None writes no files.
        models: The models; None selects the installed ones.
        on_progress: Called with the share that is done, 0 to 1, about once per second of video.
        listen: Returns the analysis of the sound, made by another process. If it is None, this process
            analyzes the sound after the frames.

    Raises:
        NotVideo: The file cannot be read as video or sound.
        ModelFailed: A configured model cannot be used. A model that is not installed is mentioned in the
            notes of the evidence instead.
    """
    models = models or Models()
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    facts = decode.probe(path)
    notes: list[str] = []
    object_models = _object_models(models, notes) if facts.width else None
    analyzer = _FrameAnalyzer(folder, models.encoder, object_models)
    report = on_progress or (lambda _: None)
    end = reported = 0.0
    for frame in decode.frames(path, facts, notes):
        analyzer.add(frame)
        end = frame.end
        if frame.time >= reported + 1 and facts.duration_sec:
            reported = frame.time
            report(min(0.9, 0.9 * reported / facts.duration_sec))
    if facts.width:
        tolerance = tolerated_gap(facts.duration_sec)
        if facts.duration_sec - end > tolerance:
            notes.append(f"the pictures end at {end:.1f} s of {facts.duration_sec:.1f} s")
        elif end - facts.duration_sec > tolerance:
            # The header of concatenated recordings has the duration of the last recording only.
            notes.append(f"the header says {facts.duration_sec:.1f} s, but the pictures last {end:.1f} s")
            facts = replace(facts, duration_sec=end)
        screen_text = analyzer.finish(end)
    else:
        screen_text = ()
        notes.append("no picture")
    notes += analyzer.notes
    sound_result = (
        listen() if listen is not None else speech.listen(path, None, models.whisper, models.speech_model)
    )
    if not facts.audio_codec:
        notes.append("no sound")
    clips = analyzer.clips or _sound_clips(len(sound_result.seconds), facts)
    clips = [with_sound(clip, sound_result) for clip in clips]
    report(1.0)
    return Evidence(
        facts,
        tuple(clips),
        sound_result.speech,
        screen_text,
        (*notes, *(sound_result.notes if facts.audio_codec else ())),
        sound_result.speech_model,
        models.encoder.name if models.encoder else "",
        object_models=object_models.name if object_models else "",
    )


def _object_models(models: Models, notes: list[str]) -> objects.ObjectModels | None:
    """Load the object models. If their weights are missing or differ, add a note and return None."""
    if not models.see:
        return None
    try:
        return objects.load_object_models(models.objects, models.detector)
    except ModelFailed as error:
        notes.append(f"objects and people were not recognised: {error}")
        return None


@dataclass
class _Pending:
    """The measurements since the end of the last clip, each with its time."""

    tones: list[tuple[float, colors.Tones]] = field(default_factory=list)
    frame_pairs: list[tuple[float, motion.FramePair]] = field(default_factory=list)
    pictures: list[tuple[float, Picture]] = field(default_factory=list)
    frames: list[tuple[float, objects.FrameResult]] = field(default_factory=list)

    def take(self, start: float, end: float) -> _Pending:
        """Remove and return the measurements in [start, end)."""
        tones, self.tones = _split_at(self.tones, end)
        frame_pairs, self.frame_pairs = _split_at(self.frame_pairs, end)
        pictures, self.pictures = _split_at(self.pictures, end)
        frames, self.frames = _split_at(self.frames, end)
        return _Pending(
            _split_at(tones, start)[1],
            _split_at(frame_pairs, start)[1],
            _split_at(pictures, start)[1],
            _split_at(frames, start)[1],
        )


class _FrameAnalyzer:
    """Passes each frame to the stages, and completes a clip as soon as its end is known."""

    def __init__(
        self, folder: Path | None, encoder: ImageEncoder | None, object_models: objects.ObjectModels | None
    ) -> None:
        self._folder, self._encoder, self._object_models = folder, encoder, object_models
        self._failures = 0
        self._boundaries, self._divider = shots.ShotBoundaryDetector(), shots.ClipDivider()
        self._motion, self._reader = motion.Motion(), ocr.Reader()
        self._pending = _Pending()
        self._undecided: deque[decode.DecodedFrame] = deque()  # frames at which a boundary may still be found
        self._new_shot: float | None = None  # start of a shot of which no frame is measured yet
        self._due_small = self._due_large = self._due_objects = 0.0
        self._best = -1.0
        self.clips: list[Clip] = []

    def add(self, frame: decode.DecodedFrame) -> None:
        """Add the next frame."""
        self._undecided.append(frame)
        boundary = self._boundaries.add(frame.time, frame.trace, frame.chroma)
        if boundary is not None:
            while self._undecided and self._undecided[0].time < boundary:
                self._measure(self._undecided.popleft())
            self._begin_shot(boundary)
        while len(self._undecided) > shots.AHEAD + 1:
            self._measure(self._undecided.popleft())

    def _begin_shot(self, start: float) -> None:
        """Begin a shot. Its first frame is measured even if the interval has not passed."""
        self._close(self._divider.end_shot(start))
        self._new_shot = start
        self._due_small = self._due_large = self._due_objects = start

    def _measure(self, frame: decode.DecodedFrame) -> None:
        """Pass a frame to the stages whose interval has passed."""
        if frame.time < self._due_small:
            return
        self._close(self._divider.split_long(frame.time))
        self._due_small = frame.time + _MEASURE_SECONDS - 0.01
        small = frame.picture(decode.SMALL)
        self._pending.tones.append((frame.time, colors.tones(small)))
        frame_pair = self._motion.add(frame.time, small)
        if frame_pair is not None and self._new_shot is None:
            self._pending.frame_pairs.append((frame.time, frame_pair))
        self._reader.add(frame, small, self._new_shot)
        self._new_shot = None
        if frame.time >= self._due_large:
            self._due_large = frame.time + _KEYFRAME_SECONDS - 0.01
            self._pending.pictures.append((frame.time, frame.picture(decode.LARGE)))
        if self._object_models is not None and frame.time >= self._due_objects:
            self._due_objects = frame.time + objects.EVERY - 0.01
            self._recognise(self._object_models, frame)

    def _recognise(self, object_models: objects.ObjectModels, frame: decode.DecodedFrame) -> None:
        try:
            result = object_models.detect(frame.time, frame.picture(decode.LARGE))
        except (RuntimeError, ValueError, cv2.error) as error:  # the model fails on this frame only
            self._failures += 1
            log.warning("a model failed on the frame at %.2f s, which is skipped: %s", frame.time, error)
            return
        self._pending.frames.append((frame.time, result))

    @property
    def notes(self) -> list[str]:
        """The failures of the object models, for the evidence."""
        if not self._failures:
            return []
        return [f"objects and people were not recognised in {self._failures} frames: a model failed on them"]

    def finish(self, end: float) -> tuple[Span, ...]:
        """Complete the last clip and return the on-screen text."""
        boundary = self._boundaries.finish()
        for frame in self._undecided:
            if boundary is not None and frame.time >= boundary:
                self._begin_shot(boundary)
                boundary = None
            self._measure(frame)
        self._undecided.clear()
        last = self.clips[-1] if self.clips else None
        previous = shots.ClipSpan(last.start_sec, last.end_sec, last.cut) if last else None
        remaining = self._divider.finish(end, previous)
        if last and remaining and remaining[0].start == last.start_sec:
            self.clips[-1] = replace(last, end_sec=round(end, 3))
        else:
            self._close(remaining)
        return languages.with_languages(self._reader.finish(end))

    def _close(self, spans: list[shots.ClipSpan]) -> None:
        for span in spans:
            self.clips.append(self._make_clip(span, self._pending.take(span.start, span.end)))

    def _make_clip(self, span: shots.ClipSpan, part: _Pending) -> Clip:
        name = f"{len(self.clips):05d}.jpg"
        clip = Clip(round(span.start, 3), round(span.end, 3), name, cut=span.at_boundary)
        tones = [tone for _, tone in part.tones]
        if tones:
            color_shares, regions = colors.summary(tones)
            clip = replace(
                clip,
                colors=color_shares,
                regions=regions,
                brightness=round(float(np.mean([tone.brightness for tone in tones])), 4),
                contrast=round(float(np.mean([tone.contrast for tone in tones])), 4),
            )
        frame_pairs = [pair for _, pair in part.frame_pairs]
        amount, direction, camera = motion.summary(frame_pairs)
        clip = replace(clip, motion=amount, direction=direction, camera=camera)
        motion_confidence, direction_confidence, camera_confidence = motion.confidences(frame_pairs)
        color_confidence = colors.confidence(tones) if tones else None
        clip = replace(
            clip,
            confidences=Confidences(
                color_confidence, motion_confidence, direction_confidence, camera_confidence
            ),
        )
        if part.pictures:
            middle = (span.start + span.end) / 2
            score, time, picture = max(
                (
                    (_keyframe_score(picture, abs(time - middle) / (span.end - span.start)), time, picture)
                    for time, picture in part.pictures
                ),
                key=lambda candidate: candidate[0],
            )
            clip = replace(clip, keyframe_sec=round(time, 3))
            if self._folder is not None:
                decode.write_jpeg(self._folder / name, picture)
                if score > self._best:
                    self._best = score
                    decode.write_jpeg(self._folder / THUMBNAIL, _thumbnail(picture))
            clip = replace(clip, image_descriptor=descriptors.describe_image(picture))
            if self._encoder:
                clip = replace(clip, encoder_vector=as_numbers(self._encoder.pictures([picture])[0]))
        elif self.clips:  # this clip has no candidate for a keyframe: use the previous clip's
            clip = replace(
                clip,
                keyframe=self.clips[-1].keyframe,
                keyframe_sec=self.clips[-1].keyframe_sec,
                image_descriptor=self.clips[-1].image_descriptor,
                encoder_vector=self.clips[-1].encoder_vector,
            )
        return objects.with_objects(clip, [frame for _, frame in part.frames])


def _split_at(
    items: list[tuple[float, T]], time: float
) -> tuple[list[tuple[float, T]], list[tuple[float, T]]]:
    """Split timed items into those before `time` and the others."""
    return [item for item in items if item[0] < time], [item for item in items if item[0] >= time]


def _keyframe_score(picture: Picture, distance: float) -> float:
    """Rate how well a picture represents its clip: it should be sharp, have contrast and be near the middle.

    Args:
        distance: distance from the middle of the clip, as a share of its length.
    """
    gray = cv2.cvtColor(cv2.resize(picture, (240, 135), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    sharpness = float(cv2.Laplacian(gray, cv2.CV_32F).std())
    contrast = float(gray.std())
    return min(sharpness, 30) / 30 + min(contrast, 40) / 40 - distance


def _thumbnail(picture: Picture) -> Picture:
    height, width = picture.shape[:2]
    scale = min(1.0, 320 / max(height, width))
    return np.asarray(
        cv2.resize(picture, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    )


def _sound_clips(seconds: int, facts: Probe) -> list[Clip]:
    """Divide a file without pictures into clips of about six seconds."""
    end = facts.duration_sec or float(seconds)
    count = max(1, round(end / shots.SPLIT_SECONDS))
    edges = np.linspace(0, end, count + 1)
    return [Clip(round(float(a), 3), round(float(b), 3), "") for a, b in pairwise(edges) if b > a]


def with_sound(clip: Clip, sound_result: speech.SoundResult) -> Clip:
    """Set the sound class, loudness and descriptor of a clip from the sound in its time range."""
    length = clip.end_sec - clip.start_sec
    spoken_seconds = sum(
        max(0.0, min(span.end_sec, clip.end_sec) - max(span.start_sec, clip.start_sec))
        for span in sound_result.speech
    )
    kind, loudness, bands = sound.summary(
        sound_result.seconds, clip.start_sec, clip.end_sec, spoken_seconds / length
    )
    confidence = sound.confidence(
        sound_result.seconds, clip.start_sec, clip.end_sec, kind, spoken_seconds / length
    )
    return replace(
        clip,
        sound=kind,
        loudness=loudness,
        sound_descriptor=descriptors.describe_sound(bands),
        confidences=replace(clip.confidences, sound=confidence),
    )


def with_new_encoder(evidence: Evidence, folder: Path, encoder: ImageEncoder | None) -> Evidence:
    """Replace the encoder vectors of evidence by those of another encoder, or remove them.

    Args:
        folder: the folder of the keyframes.
        encoder: the new encoder; None removes the vectors.
    """
    if encoder is None:
        clips = tuple(replace(clip, encoder_vector=()) for clip in evidence.clips)
        return replace(evidence, encoder="", clips=clips)
    vectors: dict[str, tuple[float, ...]] = {"": ()}
    for name in dict.fromkeys(clip.keyframe for clip in evidence.clips if clip.keyframe):
        picture = cv2.imread(str(folder / name), cv2.IMREAD_COLOR)
        if picture is not None:
            rgb = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)
            vectors[name] = as_numbers(encoder.pictures([rgb])[0])
    clips = tuple(replace(clip, encoder_vector=vectors.get(clip.keyframe, ())) for clip in evidence.clips)
    return replace(evidence, clips=clips, encoder=encoder.name)


def with_new_speech(evidence: Evidence, sound_result: speech.SoundResult, speech_model: str) -> Evidence:
    """Replace the speech and the sound classes of evidence by those of another speech model.

    Raises:
        NotVideo: the sound could not be analyzed. The evidence is unchanged.
    """
    if sound_result.notes:
        raise NotVideo("; ".join(sound_result.notes))
    clips = tuple(with_sound(clip, sound_result) for clip in evidence.clips)
    return replace(evidence, clips=clips, speech=sound_result.speech, speech_model=speech_model)
