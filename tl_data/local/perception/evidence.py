"""What was seen, shown and heard in a video, with times and confidences: the typed result of looking.

Every later stage (words, vectors, search, text) reads these records and nothing else of the video, so
that a model can take the place of any stage that fills them. Times are seconds from the start.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from tl_data.errors import TLDataError
from tl_data.local.errors import ModelFailed as ModelFailed

#: What looking finds: counted up whenever older evidence lacks something that a look would give now. 3 has
#: labels, things and people by trained models. 2 has faces that look to a side. 1 has languages, words with
#: their times, and how sure each measurement is. 0 was written before it was counted.
FORM = 3


class NotVideo(TLDataError):
    """The file is not readable video or sound; the message says why."""


@dataclass(frozen=True)
class Probe:
    """Facts of the container. `width` and `height` are as displayed, rotation applied."""

    duration_sec: float
    width: int  # pixels; 0 when there is no picture
    height: int
    fps: float
    size_bytes: int
    video_codec: str | None
    audio_codec: str | None
    rotation: int = 0  # degrees clockwise


@dataclass(frozen=True)
class Word:
    """A spoken word with its time."""

    start_sec: float
    end_sec: float
    text: str
    confidence: float  # 0..1


@dataclass(frozen=True)
class Span:
    """Text with its time: a sentence heard or a line shown on screen."""

    start_sec: float
    end_sec: float
    text: str
    confidence: float  # 0..1
    alternatives: tuple[str, ...] = ()  # other readings, best first: help search, are never quoted
    words: tuple[Word, ...] = ()  # of speech, where the recogniser gives their times
    language: str = ""  # ISO 639-1 code; "" if none is likely, or the recogniser knows a single one
    language_confidence: float = 0.0  # 0..1


@dataclass(frozen=True)
class Sureness:
    """How far the pictures and seconds of a clip agree on what was measured, 0..1 each.

    None: there is nothing to be sure of, or an older version looked, which kept none. Faces carry their own.
    """

    colors: float | None = None  # share of the pixels whose colour is clearly nearer to its name than others
    motion: float | None = None  # share of the steps that agree on whether anything moves by itself
    direction: float | None = None  # how straight it moves: net way over way; None without a direction
    camera: float | None = None  # share of the steps that show this movement of the camera by themselves
    sound: float | None = None  # share of the seconds that are of this class by themselves


Box = tuple[float, float, float, float]  # left, top, width, height as shares of the picture


@dataclass(frozen=True)
class Label:
    """What the classifier takes a clip's pictures for."""

    number: int  # class of ImageNet, 0..999
    name: str
    probability: float  # 0..1, in the frame that shows it best
    mean: float  # over the clip's frames
    time: float  # seconds: of the frame that shows it best


@dataclass(frozen=True)
class Thing:
    """A kind of thing that the detector finds in a clip."""

    name: str  # class of COCO
    probability: float  # 0..1, of the surest one
    start_sec: float  # first and last frame that shows it
    end_sec: float
    box: Box  # of the surest one
    count: int  # how many at once, at most; detections below 0.4 are not counted
    agreed: bool  # the classifier sees the same; for people, pose or a face or a high score confirms it
    frames: int  # of the clip's frames that show it


@dataclass(frozen=True)
class Clip:
    """A stretch of one shot, 2 to 10 s, and what was measured in it."""

    start_sec: float
    end_sec: float
    keyframe: str  # file name of a JPEG in the video's folder
    colors: tuple[tuple[str, float], ...] = ()  # human name, share of the picture 0..1, largest first
    regions: tuple[tuple[str, str], ...] = ()  # (place, colour name): ("left", "red")
    objects: tuple[tuple[str, float], ...] = ()  # what was recognised and how surely: ("face", 0.9)
    brightness: float = 0.0  # mean luma 0..1
    contrast: float = 0.0  # standard deviation of luma 0..1
    motion: float = 0.0  # mean optical flow, picture widths per second
    direction: str | None = None  # "left", "right", "up", "down" of what moves
    camera: str = "static"  # static, pan left, pan right, tilt up, tilt down, zoom in, zoom out, shaky
    cut: bool = False  # the clip begins at a cut, not by splitting a long shot
    sound: str = "silence"  # speech, music, noise, silence
    loudness: float = -99.0  # dBFS
    look: tuple[float, ...] = ()  # compact descriptor of the keyframe: image queries, near-duplicates
    audio_look: tuple[float, ...] = ()  # compact descriptor of the sound
    sure: Sureness = Sureness()
    sight: tuple[float, ...] = ()  # the keyframe by an image-text encoder, if one is at work; length 1
    labels: tuple[Label, ...] = ()  # by the classifier, most probable first
    things: tuple[Thing, ...] = ()  # by the detector, surest first
    face_height: float = 0.0  # of the largest face, share of the picture's height
    frames: int = 0  # how many pictures the models of things looked at


@dataclass(frozen=True)
class Evidence:
    """Everything known of one video."""

    probe: Probe
    clips: tuple[Clip, ...]
    speech: tuple[Span, ...] = ()
    shown: tuple[Span, ...] = ()  # on-screen text
    notes: tuple[str, ...] = field(default=())  # what could not be looked at, and why
    ears: str = ""  # the model that heard the speech; "" is the built-in one
    sight: str = ""  # the encoder that made the clips' `sight`; "" for none
    form: int = FORM  # that of the version that looked
    eyes: str = ""  # the models that named things and people; "" for none


def to_json(evidence: Evidence) -> bytes:
    """The evidence as JSON; `from_json` gives an equal value back."""
    return orjson.dumps(evidence)


def from_json(data: bytes) -> Evidence:
    """Evidence from what `to_json` gave.

    Raises:
        ValueError: not JSON, or not evidence.
    """
    try:
        raw = orjson.loads(data)
        return Evidence(
            Probe(**raw["probe"]),
            tuple(_clip(clip) for clip in raw["clips"]),
            tuple(span_of(span) for span in raw["speech"]),
            tuple(span_of(span) for span in raw["shown"]),
            tuple(raw["notes"]),
            raw.get("ears", ""),
            raw.get("sight", ""),
            raw.get("form", 0),
            raw.get("eyes", ""),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not evidence of this version: {error}") from error


def span_of(raw: dict[str, Any]) -> Span:
    """A span from its JSON, also of a version that kept no words."""
    words = tuple(Word(**word) for word in raw.get("words", ()))
    return Span(**{**raw, "alternatives": tuple(raw["alternatives"]), "words": words})


def _clip(raw: dict[str, Any]) -> Clip:
    pairs = {name: tuple(tuple(pair) for pair in raw[name]) for name in ("colors", "regions", "objects")}
    vectors = {name: tuple(raw.get(name, ())) for name in ("look", "audio_look", "sight")}
    found = {
        "labels": tuple(Label(**label) for label in raw.get("labels", ())),
        "things": tuple(Thing(**{**thing, "box": tuple(thing["box"])}) for thing in raw.get("things", ())),
    }
    return Clip(**{**raw, **pairs, **vectors, **found, "sure": Sureness(**raw.get("sure", {}))})
