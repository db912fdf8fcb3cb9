"""The result of a video's analysis: what was detected, read and transcribed, with times and confidences.

The later stages (words, vectors, search, text) read these records and nothing else of the video, so each
stage of the analysis can be replaced. Times are seconds from the start of the video.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from tl_data.errors import TLDataError
from tl_data.local.errors import ModelFailed as ModelFailed

#: The version of the analysis, increased when an analysis gives more than before: 1 added languages, times of
#: words, and confidences; 2 profile faces; 3 labels, objects and people by trained models.
FORM = 3


class NotVideo(TLDataError):
    """The file cannot be read as video or sound. The message has the reason."""


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
    """Text with its time: a spoken sentence, or a line on screen."""

    start_sec: float
    end_sec: float
    text: str
    confidence: float  # 0..1
    alternatives: tuple[str, ...] = ()  # other readings, best first; searched, never quoted
    words: tuple[Word, ...] = ()  # of speech, if the recogniser gives the times of words
    language: str = ""  # ISO 639-1 code; "" if unknown, or if the recogniser has a single language
    language_confidence: float = 0.0  # 0..1


@dataclass(frozen=True)
class Confidences:
    """The confidence of each measurement of a clip, 0 to 1: how consistent it is over frames and seconds.

    None: nothing was measured, or the evidence is of an older version.
    """

    colors: float | None = None  # share of the pixels that are clearly nearest to their colour's name
    motion: float | None = None  # share of the frame pairs that agree on whether an object moves
    direction: float | None = None  # net distance over path length; None without a direction
    camera: float | None = None  # share of the frame pairs that alone show this camera movement
    sound: float | None = None  # share of the seconds that alone have this class


Box = tuple[float, float, float, float]  # left, top, width, height as shares of the picture


@dataclass(frozen=True)
class Label:
    """A class that the classifier assigns to a clip."""

    number: int  # class of ImageNet, 0..999
    name: str
    probability: float  # 0..1, the largest over the clip's frames
    mean: float  # over the clip's frames
    time: float  # seconds, of the frame with the largest probability


@dataclass(frozen=True)
class Thing:
    """A class of objects that the detector finds in a clip."""

    name: str  # class of COCO
    probability: float  # 0..1, the largest
    start_sec: float  # first and last frame with it
    end_sec: float
    box: Box  # of the detection with the largest probability
    count: int  # most in one frame; detections below 0.4 are not counted
    agreed: bool  # confirmed by the classifier; for people by pose, a face, or a high score
    frames: int  # number of the clip's frames with it


@dataclass(frozen=True)
class Clip:
    """A part of one shot, 2 to 10 s long, with its measurements."""

    start_sec: float
    end_sec: float
    keyframe: str  # file name of a JPEG in the video's folder
    colors: tuple[tuple[str, float], ...] = ()  # common name, share of the picture 0..1, largest first
    regions: tuple[tuple[str, str], ...] = ()  # (place, colour name): ("left", "red")
    objects: tuple[tuple[str, float], ...] = ()  # people and faces with confidences: ("face", 0.9)
    brightness: float = 0.0  # mean luma 0..1
    contrast: float = 0.0  # standard deviation of luma 0..1
    motion: float = 0.0  # mean optical flow, picture widths per second
    direction: str | None = None  # of the moving object: "left", "right", "up", "down"
    camera: str = "static"  # static, pan left, pan right, tilt up, tilt down, zoom in, zoom out, shaky
    cut: bool = False  # whether the clip begins at a cut, not at a split of a long shot
    sound: str = "silence"  # speech, music, noise, silence
    loudness: float = -99.0  # dBFS
    image_descriptor: tuple[float, ...] = ()  # of the keyframe, for image queries and near-duplicates
    sound_descriptor: tuple[float, ...] = ()
    confidences: Confidences = Confidences()
    encoder_vector: tuple[
        float, ...
    ] = ()  # of the keyframe by an image-text encoder, length 1; () without one
    labels: tuple[Label, ...] = ()  # by the classifier, most probable first
    things: tuple[Thing, ...] = ()  # by the detector, most probable first
    face_height: float = 0.0  # of the largest face, share of the picture's height
    frames: int = 0  # number of frames that the object models analysed


@dataclass(frozen=True)
class Evidence:
    """The evidence of one video."""

    probe: Probe
    clips: tuple[Clip, ...]
    speech: tuple[Span, ...] = ()
    shown: tuple[Span, ...] = ()  # on-screen text
    notes: tuple[str, ...] = field(default=())  # what could not be analysed, and why
    speech_model: str = ""  # the model that transcribed; "" if none did
    encoder: str = ""  # the encoder of the clips' `encoder_vector`; "" for none
    form: int = FORM  # the version of the analysis
    object_models: str = ""  # the models that recognised objects and people; "" for none


#: Fields whose names in stored JSON are those of the first version.
_JSON_NAMES = {
    "speech_model": "ears",
    "encoder": "sight",
    "object_models": "eyes",
    "image_descriptor": "look",
    "sound_descriptor": "audio_look",
    "confidences": "sure",
    "encoder_vector": "sight",
}


def to_record(evidence: Evidence) -> dict[str, Any]:
    """The evidence as a dictionary that orjson serializes, with the names of stored JSON."""
    return {**_renamed(evidence), "clips": [_renamed(clip) for clip in evidence.clips]}


def _renamed(record: Evidence | Clip) -> dict[str, Any]:
    return {_JSON_NAMES.get(name, name): value for name, value in vars(record).items()}


def to_json(evidence: Evidence) -> bytes:
    """The evidence as JSON. `from_json` is the inverse."""
    return orjson.dumps(to_record(evidence))


def from_json(data: bytes) -> Evidence:
    """Evidence from the output of `to_json`, of this or an older version.

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
    """A span from its JSON. Older versions stored no words."""
    words = tuple(Word(**word) for word in raw.get("words", ()))
    return Span(**{**raw, "alternatives": tuple(raw["alternatives"]), "words": words})


def _clip(raw: dict[str, Any]) -> Clip:
    pairs = {name: tuple(tuple(pair) for pair in raw[name]) for name in ("colors", "regions", "objects")}
    vectors = {
        name: tuple(raw.pop(_JSON_NAMES[name], ()))
        for name in ("image_descriptor", "sound_descriptor", "encoder_vector")
    }
    confidences = Confidences(**raw.pop("sure", {}))
    found = {
        "labels": tuple(Label(**label) for label in raw.get("labels", ())),
        "things": tuple(Thing(**{**thing, "box": tuple(thing["box"])}) for thing in raw.get("things", ())),
    }
    return Clip(**{**raw, **pairs, **vectors, **found, "confidences": confidences})
