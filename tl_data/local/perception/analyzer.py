"""Analyses a video in one pass over its frames and one over its sound; the result is `Evidence`."""

from __future__ import annotations

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
from tl_data.local.perception.decode import Picture, notable
from tl_data.local.perception.evidence import Clip, Confidences, Evidence, ModelFailed, NotVideo, Probe, Span
from tl_data.local.perception.vision import colors, descriptors, motion, objects, ocr, shots
from tl_data.local.perception.vision.image_encoder import ImageEncoder, as_numbers

T = TypeVar("T")
Progress = Callable[[float], None]  # 0..1
THUMBNAIL = "thumbnail.jpg"
_MEASURE_SECONDS = 0.25  # between frames whose colours, motion and text are measured
_KEYFRAME_SECONDS = 1.0  # between candidates for the keyframe


@dataclass(frozen=True)
class Models:
    """The models of an analysis. The default is the installed ones."""

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
    """Analyse a video. It needs no server.

    Args:
        path: A local video or sound file.
        folder: The folder for keyframes and `thumbnail.jpg`, created if missing. None writes no files.
        models: The models; None selects the installed ones.
        on_progress: Called with the share done, 0 to 1, about once per second of video.
        listen: Returns the analysis of the sound by another process. None analyses it here, after the frames.

    Raises:
        NotVideo: The file cannot be read as video or sound.
        ModelFailed: A configured model cannot be used. A model that is not installed is a note instead.
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
        much = notable(facts.duration_sec)
        if facts.duration_sec - end > much:
            notes.append(f"the pictures end at {end:.1f} s of {facts.duration_sec:.1f} s")
        elif end - facts.duration_sec > much:
            # Concatenated recordings: the header has the duration of the last one alone.
            notes.append(f"the header says {facts.duration_sec:.1f} s, but the pictures last {end:.1f} s")
            facts = replace(facts, duration_sec=end)
        shown = analyzer.finish(end)
    else:
        shown = ()
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
        shown,
        (*notes, *(sound_result.notes if facts.audio_codec else ())),
        sound_result.speech_model,
        models.encoder.name if models.encoder else "",
        object_models=object_models.name if object_models else "",
    )


def _object_models(models: Models, notes: list[str]) -> objects.ObjectModels | None:
    """The object models; None with a note if their weights are missing or differ."""
    if not models.see:
        return None
    try:
        return objects.load_object_models(models.objects, models.detector)
    except ModelFailed as error:
        notes.append(f"objects and people were not recognised: {error}")
        return None


@dataclass
class _Pending:
    """The measurements since the end of the last clip."""

    tones: list[tuple[float, colors.Tones]] = field(default_factory=list)
    steps: list[tuple[float, motion.Step]] = field(default_factory=list)
    pictures: list[tuple[float, Picture]] = field(default_factory=list)
    frames: list[tuple[float, objects.FrameResult]] = field(default_factory=list)

    def take(self, start: float, end: float) -> _Pending:
        """Remove and return the measurements in [start, end)."""
        tones, self.tones = _parted(self.tones, end)
        steps, self.steps = _parted(self.steps, end)
        pictures, self.pictures = _parted(self.pictures, end)
        frames, self.frames = _parted(self.frames, end)
        return _Pending(
            _parted(tones, start)[1],
            _parted(steps, start)[1],
            _parted(pictures, start)[1],
            _parted(frames, start)[1],
        )


class _FrameAnalyzer:
    """Passes each frame to the stages and closes clips when their end is known."""

    def __init__(
        self, folder: Path | None, encoder: ImageEncoder | None, object_models: objects.ObjectModels | None
    ) -> None:
        self._folder, self._encoder, self._object_models = folder, encoder, object_models
        self._failures = 0
        self._cuts, self._stretches = shots.Cuts(), shots.Stretches()
        self._motion, self._reader = motion.Motion(), ocr.Reader()
        self._pending = _Pending()
        self._undecided: deque[decode.DecodedFrame] = deque()  # frames that may still turn out to be cuts
        self._cut: float | None = None
        self._due_small = self._due_large = self._due_objects = 0.0
        self._best = -1.0
        self.clips: list[Clip] = []

    def add(self, frame: decode.DecodedFrame) -> None:
        """Add the next frame."""
        self._undecided.append(frame)
        cut = self._cuts.add(frame.time, frame.trace, frame.tint)
        if cut is not None:
            while self._undecided and self._undecided[0].time < cut:
                self._measure(self._undecided.popleft())
            self._begin(cut)
        while len(self._undecided) > shots.AHEAD + 1:
            self._measure(self._undecided.popleft())

    def _begin(self, cut: float) -> None:
        """Begin a shot. Its first frame is measured although the interval has not passed."""
        self._close(self._stretches.cut(cut))
        self._cut = cut
        self._due_small = self._due_large = self._due_objects = cut

    def _measure(self, frame: decode.DecodedFrame) -> None:
        if frame.time < self._due_small:
            return
        self._close(self._stretches.reach(frame.time))
        self._due_small = frame.time + _MEASURE_SECONDS - 0.01
        small = frame.picture(decode.SMALL)
        self._pending.tones.append((frame.time, colors.tones(small)))
        step = self._motion.add(frame.time, small)
        if step is not None and self._cut is None:
            self._pending.steps.append((frame.time, step))
        self._reader.add(frame, small, self._cut)
        self._cut = None
        if frame.time >= self._due_large:
            self._due_large = frame.time + _KEYFRAME_SECONDS - 0.01
            self._pending.pictures.append((frame.time, frame.picture(decode.LARGE)))
        if self._object_models is not None and frame.time >= self._due_objects:
            self._due_objects = frame.time + objects.EVERY - 0.01
            self._recognise(self._object_models, frame)

    def _recognise(self, object_models: objects.ObjectModels, frame: decode.DecodedFrame) -> None:
        try:
            result = object_models.detect(frame.time, frame.picture(decode.LARGE))
        except (RuntimeError, ValueError, cv2.error):  # a model failed on one frame: the others are analysed
            self._failures += 1
            return
        self._pending.frames.append((frame.time, result))

    @property
    def notes(self) -> list[str]:
        """What could not be analysed."""
        if not self._failures:
            return []
        return [f"objects and people were not recognised in {self._failures} frames: a model failed on them"]

    def finish(self, end: float) -> tuple[Span, ...]:
        """Close the last clip; returns the on-screen text."""
        cut = self._cuts.finish()
        for frame in self._undecided:
            if cut is not None and frame.time >= cut:
                self._begin(cut)
                cut = None
            self._measure(frame)
        self._undecided.clear()
        last = self.clips[-1] if self.clips else None
        before = shots.Stretch(last.start_sec, last.end_sec, last.cut) if last else None
        rest = self._stretches.finish(end, before)
        if last and rest and rest[0].start == last.start_sec:
            self.clips[-1] = replace(last, end_sec=round(end, 3))
        else:
            self._close(rest)
        return languages.with_languages(self._reader.finish(end))

    def _close(self, stretches: list[shots.Stretch]) -> None:
        for stretch in stretches:
            self.clips.append(self._clip(stretch, self._pending.take(stretch.start, stretch.end)))

    def _clip(self, stretch: shots.Stretch, part: _Pending) -> Clip:
        name = f"{len(self.clips):05d}.jpg"
        clip = Clip(round(stretch.start, 3), round(stretch.end, 3), name, cut=stretch.cut)
        tones = [tone for _, tone in part.tones]
        if tones:
            named, regions = colors.summary(tones)
            clip = replace(
                clip,
                colors=named,
                regions=regions,
                brightness=round(float(np.mean([tone.brightness for tone in tones])), 4),
                contrast=round(float(np.mean([tone.contrast for tone in tones])), 4),
            )
        steps = [step for _, step in part.steps]
        amount, direction, camera = motion.summary(steps)
        clip = replace(clip, motion=amount, direction=direction, camera=camera)
        moves, way, turns = motion.sureness(steps)
        named_surely = colors.sureness(tones) if tones else None
        clip = replace(clip, confidences=Confidences(named_surely, moves, way, turns))
        if part.pictures:
            middle = (stretch.start + stretch.end) / 2
            worth, picture = max(
                (
                    (_keyframe_score(picture, abs(at - middle) / (stretch.end - stretch.start)), picture)
                    for at, picture in part.pictures
                ),
                key=lambda choice: choice[0],
            )
            if self._folder is not None:
                decode.write_jpeg(self._folder / name, picture)
                if worth > self._best:
                    self._best = worth
                    decode.write_jpeg(self._folder / THUMBNAIL, _thumbnail(picture))
            clip = replace(clip, image_descriptor=descriptors.describe_image(picture))
            if self._encoder:
                clip = replace(clip, encoder_vector=as_numbers(self._encoder.pictures([picture])[0]))
        elif self.clips:  # no candidate in this clip: the one before is the nearest
            clip = replace(
                clip,
                keyframe=self.clips[-1].keyframe,
                image_descriptor=self.clips[-1].image_descriptor,
                encoder_vector=self.clips[-1].encoder_vector,
            )
        return objects.with_objects(clip, [frame for _, frame in part.frames])


def _parted(items: list[tuple[float, T]], time: float) -> tuple[list[tuple[float, T]], list[tuple[float, T]]]:
    return [item for item in items if item[0] < time], [item for item in items if item[0] >= time]


def _keyframe_score(picture: Picture, away: float) -> float:
    """How well a picture represents its clip: sharp, with contrast, near the middle.

    Args:
        away: distance from the middle of the clip, as a share of its length.
    """
    gray = cv2.cvtColor(cv2.resize(picture, (240, 135), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    sharp = float(cv2.Laplacian(gray, cv2.CV_32F).std())
    spread = float(gray.std())
    return min(sharp, 30) / 30 + min(spread, 40) / 40 - away


def _thumbnail(picture: Picture) -> Picture:
    height, width = picture.shape[:2]
    scale = min(1.0, 320 / max(height, width))
    return np.asarray(
        cv2.resize(picture, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    )


def _sound_clips(seconds: int, facts: Probe) -> list[Clip]:
    """Clips of a file without pictures, about six seconds each."""
    end = facts.duration_sec or float(seconds)
    count = max(1, round(end / shots.USUAL))
    edges = np.linspace(0, end, count + 1)
    return [Clip(round(float(a), 3), round(float(b), 3), "") for a, b in pairwise(edges) if b > a]


def with_sound(clip: Clip, sound_result: speech.SoundResult) -> Clip:
    """A clip with the sound of its time."""
    length = clip.end_sec - clip.start_sec
    spoken = sum(
        max(0.0, min(span.end_sec, clip.end_sec) - max(span.start_sec, clip.start_sec))
        for span in sound_result.speech
    )
    kind, loud, bands = sound.summary(sound_result.seconds, clip.start_sec, clip.end_sec, spoken / length)
    sure = sound.sureness(sound_result.seconds, clip.start_sec, clip.end_sec, kind, spoken / length)
    return replace(
        clip,
        sound=kind,
        loudness=loud,
        sound_descriptor=descriptors.describe_sound(bands),
        confidences=replace(clip.confidences, sound=sure),
    )


def with_new_encoder(evidence: Evidence, folder: Path, encoder: ImageEncoder | None) -> Evidence:
    """The evidence with the vectors of another encoder, or without any.

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
    """The evidence with the speech and sound classes of another speech model.

    Raises:
        NotVideo: the sound could not be analysed. The evidence keeps its former speech.
    """
    if sound_result.notes:
        raise NotVideo("; ".join(sound_result.notes))
    clips = tuple(with_sound(clip, sound_result) for clip in evidence.clips)
    return replace(evidence, clips=clips, speech=sound_result.speech, speech_model=speech_model)
