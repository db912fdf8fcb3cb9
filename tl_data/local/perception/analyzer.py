"""One pass over the pictures of a video and one over its sound: everything that is found, as Evidence."""

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
from tl_data.local.perception.evidence import Clip, Evidence, ModelFailed, NotVideo, Probe, Span, Sureness
from tl_data.local.perception.vision import colors, descriptors, motion, objects, ocr, shots
from tl_data.local.perception.vision.image_encoder import Sight, as_numbers

T = TypeVar("T")
Progress = Callable[[float], None]  # 0..1
THUMBNAIL = "thumbnail.jpg"
_GLANCES = 0.25  # seconds between pictures of which colours, motion and text are measured
_CANDIDATES = 1.0  # seconds between pictures that may become the keyframe


@dataclass(frozen=True)
class Models:
    """What looks at a video beside the built-in measurements; the default is what is installed."""

    sight: Sight | None = None  # an image-text encoder
    whisper: Path | None = None  # folder of a Whisper model
    ears: str = ""  # name of the Whisper model; "" takes the best of those installed
    objects: Path | None = None  # folder with the weights of the models that see
    detector: bool = True
    see: bool = True  # whether things and people are recognised at all


def analyze(
    path: Path,
    folder: Path | None = None,
    *,
    models: Models | None = None,
    on_progress: Progress | None = None,
    listen: Callable[[], speech.Heard] | None = None,
) -> Evidence:
    """Look at and listen to a video: everything that is measured and recognised in it. Needs no server.

    Args:
        path: A local video or sound file.
        folder: Where keyframes and `thumbnail.jpg` go; made when it is missing. None writes no files.
        models: What looks beside the measurements; None is what is installed.
        on_progress: Called with the share done, 0 to 1, about once a second of video.
        listen: Gives the sound when another process hears it meanwhile; None hears it here, afterwards.

    Raises:
        NotVideo: the file cannot be read as video or sound.
        ModelFailed: a model that a setting names cannot be used. One that is not installed is a note instead.
    """
    models = models or Models()
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    facts = decode.probe(path)
    notes: list[str] = []
    eyes = _eyes(models, notes) if facts.width else None
    watch = _Watch(folder, models.sight, eyes)
    report = on_progress or (lambda _: None)
    end = reported = 0.0
    for seen in decode.frames(path, facts, notes):
        watch.add(seen)
        end = seen.end
        if seen.time >= reported + 1 and facts.duration_sec:
            reported = seen.time
            report(min(0.9, 0.9 * reported / facts.duration_sec))
    if facts.width:
        much = notable(facts.duration_sec)
        if facts.duration_sec - end > much:
            notes.append(f"the pictures end at {end:.1f} s of {facts.duration_sec:.1f} s")
        elif (
            end - facts.duration_sec > much
        ):  # recordings one after the other: the header has the last one's end
            notes.append(f"the file says {facts.duration_sec:.1f} s, but its pictures last {end:.1f} s")
            facts = replace(facts, duration_sec=end)
        shown = watch.finish(end)
    else:
        shown = ()
        notes.append("no picture")
    notes += watch.notes
    heard = listen() if listen is not None else speech.listen(path, None, models.whisper, models.ears)
    if not facts.audio_codec:
        notes.append("no sound")
    clips = watch.clips or _sound_clips(len(heard.seconds), facts)
    clips = [with_sound(clip, heard) for clip in clips]
    report(1.0)
    return Evidence(
        facts,
        tuple(clips),
        heard.speech,
        shown,
        (*notes, *(heard.notes if facts.audio_codec else ())),
        heard.ears,
        models.sight.name if models.sight else "",
        eyes=eyes.name if eyes else "",
    )


def _eyes(models: Models, notes: list[str]) -> objects.Eyes | None:
    """The models that see; None, with a note that says why, where their weights are missing or differ."""
    if not models.see:
        return None
    try:
        return objects.eyes(models.objects, models.detector)
    except ModelFailed as error:
        notes.append(f"things and people were not recognised: {error}")
        return None


@dataclass
class _Pending:
    """What was measured since the last clip ended."""

    tones: list[tuple[float, colors.Tones]] = field(default_factory=list)
    steps: list[tuple[float, motion.Step]] = field(default_factory=list)
    pictures: list[tuple[float, Picture]] = field(default_factory=list)
    frames: list[tuple[float, objects.Frame]] = field(default_factory=list)

    def take(self, start: float, end: float) -> _Pending:
        """What lies in [start, end); what is before `end` is forgotten."""
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


class _Watch:
    """Hands each picture to the stages and closes clips as soon as their end is known."""

    def __init__(self, folder: Path | None, sight: Sight | None, eyes: objects.Eyes | None) -> None:
        self._folder, self._sight, self._eyes = folder, sight, eyes
        self._failures = 0
        self._cuts, self._stretches = shots.Cuts(), shots.Stretches()
        self._motion, self._reader = motion.Motion(), ocr.Reader()
        self._pending = _Pending()
        self._late: deque[decode.Seen] = (
            deque()
        )  # frames of which it is not yet certain whether they are cuts
        self._cut: float | None = None
        self._due_small = self._due_large = self._due_objects = 0.0
        self._best = -1.0
        self.clips: list[Clip] = []

    def add(self, seen: decode.Seen) -> None:
        """Take the next frame."""
        self._late.append(seen)
        cut = self._cuts.add(seen.time, seen.trace, seen.tint)
        if cut is not None:
            while self._late and self._late[0].time < cut:
                self._look(self._late.popleft())
            self._begin(cut)
        while len(self._late) > shots.AHEAD + 1:
            self._look(self._late.popleft())

    def _begin(self, cut: float) -> None:
        """A new shot begins: its first frame is looked at whatever the time."""
        self._close(self._stretches.cut(cut))
        self._cut = cut
        self._due_small = self._due_large = self._due_objects = cut

    def _look(self, seen: decode.Seen) -> None:
        if seen.time < self._due_small:
            return
        self._close(self._stretches.reach(seen.time))
        self._due_small = seen.time + _GLANCES - 0.01
        small = seen.picture(decode.SMALL)
        self._pending.tones.append((seen.time, colors.tones(small)))
        step = self._motion.add(seen.time, small)
        if step is not None and self._cut is None:
            self._pending.steps.append((seen.time, step))
        self._reader.add(seen, small, self._cut)
        self._cut = None
        if seen.time >= self._due_large:
            self._due_large = seen.time + _CANDIDATES - 0.01
            self._pending.pictures.append((seen.time, seen.picture(decode.LARGE)))
        if self._eyes is not None and seen.time >= self._due_objects:
            self._due_objects = seen.time + objects.EVERY - 0.01
            self._recognise(self._eyes, seen)

    def _recognise(self, eyes: objects.Eyes, seen: decode.Seen) -> None:
        try:
            frame = eyes.look(seen.time, seen.picture(decode.LARGE))
        except (RuntimeError, ValueError, cv2.error):  # one picture that breaks a model costs only itself
            self._failures += 1
            return
        self._pending.frames.append((seen.time, frame))

    @property
    def notes(self) -> list[str]:
        """What could not be looked at."""
        if not self._failures:
            return []
        return [f"things and people were not recognised in {self._failures} pictures: a model failed on them"]

    def finish(self, end: float) -> tuple[Span, ...]:
        """Close what is open; gives the text that was shown."""
        cut = self._cuts.finish()
        for seen in self._late:
            if cut is not None and seen.time >= cut:
                self._begin(cut)
                cut = None
            self._look(seen)
        self._late.clear()
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
        clip = replace(clip, sure=Sureness(named_surely, moves, way, turns))
        if part.pictures:
            middle = (stretch.start + stretch.end) / 2
            worth, picture = max(
                (
                    (_worth(picture, abs(at - middle) / (stretch.end - stretch.start)), picture)
                    for at, picture in part.pictures
                ),
                key=lambda choice: choice[0],
            )
            if self._folder is not None:
                decode.write_jpeg(self._folder / name, picture)
                if worth > self._best:
                    self._best = worth
                    decode.write_jpeg(self._folder / THUMBNAIL, _thumbnail(picture))
            clip = replace(clip, look=descriptors.describe_image(picture))
            if self._sight:
                clip = replace(clip, sight=as_numbers(self._sight.pictures([picture])[0]))
        elif self.clips:  # no large picture fell into it: the one before is the nearest
            clip = replace(
                clip, keyframe=self.clips[-1].keyframe, look=self.clips[-1].look, sight=self.clips[-1].sight
            )
        return objects.with_objects(clip, [frame for _, frame in part.frames])


def _parted(items: list[tuple[float, T]], time: float) -> tuple[list[tuple[float, T]], list[tuple[float, T]]]:
    return [item for item in items if item[0] < time], [item for item in items if item[0] >= time]


def _worth(picture: Picture, away: float) -> float:
    """How well a picture stands for its clip: sharp, neither black nor white, near the middle."""
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
    """Clips of a file without pictures: six seconds each."""
    end = facts.duration_sec or float(seconds)
    count = max(1, round(end / shots.USUAL))
    edges = np.linspace(0, end, count + 1)
    return [Clip(round(float(a), 3), round(float(b), 3), "") for a, b in pairwise(edges) if b > a]


def with_sound(clip: Clip, heard: speech.Heard) -> Clip:
    """A clip with what was heard in it."""
    length = clip.end_sec - clip.start_sec
    spoken = sum(
        max(0.0, min(span.end_sec, clip.end_sec) - max(span.start_sec, clip.start_sec))
        for span in heard.speech
    )
    kind, loud, bands = sound.summary(heard.seconds, clip.start_sec, clip.end_sec, spoken / length)
    sure = sound.sureness(heard.seconds, clip.start_sec, clip.end_sec, kind, spoken / length)
    return replace(
        clip,
        sound=kind,
        loudness=loud,
        audio_look=descriptors.describe_sound(bands),
        sure=replace(clip.sure, sound=sure),
    )


def seen_again(evidence: Evidence, folder: Path, sight: Sight | None) -> Evidence:
    """The evidence with the keyframes in `folder` seen by another encoder, or by none."""
    if sight is None:
        return replace(evidence, sight="", clips=tuple(replace(clip, sight=()) for clip in evidence.clips))
    vectors: dict[str, tuple[float, ...]] = {"": ()}
    for name in dict.fromkeys(clip.keyframe for clip in evidence.clips if clip.keyframe):
        picture = cv2.imread(str(folder / name), cv2.IMREAD_COLOR)
        if picture is not None:
            rgb = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)
            vectors[name] = as_numbers(sight.pictures([rgb])[0])
    clips = tuple(replace(clip, sight=vectors.get(clip.keyframe, ())) for clip in evidence.clips)
    return replace(evidence, clips=clips, sight=sight.name)


def heard_again(evidence: Evidence, heard: speech.Heard, ears: str) -> Evidence:
    """The evidence with what another recogniser heard.

    Raises:
        NotVideo: the sound could not be heard; what was heard before is worth more than nothing.
    """
    if heard.notes:
        raise NotVideo("; ".join(heard.notes))
    clips = tuple(with_sound(clip, heard) for clip in evidence.clips)
    return replace(evidence, clips=clips, speech=heard.speech, ears=ears)
