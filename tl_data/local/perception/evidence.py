"""The result of a video's analysis: what was detected, read and transcribed, with times and confidences.

The later stages (words, vectors, search, text) read these records and not the video itself. Therefore each
stage of the analysis can be replaced. Times are seconds from the start of the video.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from tl_data.errors import TLDataError
from tl_data.local.errors import ModelFailed as ModelFailed

#: The version of the analysis. It increases when the analysis returns more than before. Version 1 added
#: languages, times of words, and confidences; 2 added faces in profile; 3 added labels, objects and people,
#: recognised by trained models.
FORM = 3

#: Largest evidence of one video, as JSON.
MAX_JSON_BYTES = 1 << 28


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
    words: tuple[Word, ...] = ()  # the words of a spoken sentence, if the recogniser gives their times
    language: str = ""  # ISO 639-1 code; "" if unknown, or if the recogniser knows only one language
    language_confidence: float = 0.0  # 0..1


@dataclass(frozen=True)
class Confidences:
    """The confidence of each measurement of a clip, 0 to 1: how consistent it is over frames and seconds.

    None means that nothing was measured, or that an older version made the evidence.
    """

    colors: float | None = None  # share of the pixels that are clearly nearest to their colour's name
    motion: float | None = None  # share of the frame pairs that agree on whether an object moves
    direction: float | None = None  # net distance over path length; None without a direction
    camera: float | None = None  # share of the frame pairs that show this camera movement by themselves
    sound: float | None = None  # share of the seconds that have this class by themselves


Box = tuple[float, float, float, float]  # left, top, width, height as shares of the picture


@dataclass(frozen=True)
class Label:
    """A class that the classifier assigns to a clip."""

    number: int  # number of the ImageNet class, 0..999
    name: str
    probability: float  # 0..1, the largest over the clip's frames
    mean: float  # mean probability over the clip's frames
    time: float  # seconds; time of the frame with the largest probability


@dataclass(frozen=True)
class Thing:
    """A class of objects that the detector finds in a clip."""

    name: str  # name of the COCO class
    probability: float  # 0..1, the largest over the clip's frames
    start_sec: float  # time of the first frame that shows the class
    end_sec: float  # time of the last frame that shows it
    box: Box  # box of the detection with the largest probability
    count: int  # largest number in one frame; detections below 0.4 are not counted
    agreed: bool  # whether the classifier confirms it; people need a pose, a face, or a high score
    frames: int  # number of the clip's frames that show the class


@dataclass(frozen=True)
class Clip:
    """A part of a video, usually of one shot and 2 to 10 s long, with its measurements."""

    start_sec: float
    end_sec: float
    keyframe: str  # file name of a JPEG in the video's folder; "" in a file without pictures
    colors: tuple[tuple[str, float], ...] = ()  # common name, share of the picture 0..1, largest first
    regions: tuple[tuple[str, str], ...] = ()  # (place, colour name): ("left", "red")
    objects: tuple[tuple[str, float], ...] = ()  # people and faces with confidences: ("face", 0.9)
    brightness: float = 0.0  # mean luma 0..1
    contrast: float = 0.0  # standard deviation of luma 0..1
    motion: float = 0.0  # mean optical flow, picture widths per second
    direction: str | None = None  # direction of the moving object: "left", "right", "up", "down"
    camera: str = "static"  # static, pan left, pan right, tilt up, tilt down, zoom in, zoom out, shaky
    cut: bool = False  # whether the clip begins at a cut or the start, not at a split of a long shot
    sound: str = "silence"  # speech, music, noise, silence; "" if music could not be recognised
    loudness: float = -99.0  # dBFS
    image_descriptor: tuple[float, ...] = ()  # describes the keyframe, for image queries and near-duplicates
    sound_descriptor: tuple[float, ...] = ()  # describes the sound; part of the clip's audio vector
    confidences: Confidences = Confidences()
    #: Vector of the keyframe by an image-text encoder, of length 1; () without an encoder.
    encoder_vector: tuple[float, ...] = ()
    labels: tuple[Label, ...] = ()  # classes from the classifier, most probable first
    things: tuple[Thing, ...] = ()  # classes from the detector, most probable first
    face_height: float = 0.0  # height of the largest face as a share of the picture's height
    frames: int = 0  # number of frames that the object models analyzed
    keyframe_sec: float | None = None  # time of the keyframe; None in evidence of earlier versions


@dataclass(frozen=True)
class Evidence:
    """The evidence of one video."""

    probe: Probe
    clips: tuple[Clip, ...]
    speech: tuple[Span, ...] = ()
    shown: tuple[Span, ...] = ()  # on-screen text
    notes: tuple[str, ...] = field(default=())  # what could not be analyzed, and why
    speech_model: str = ""  # the model that transcribed the speech; "" if none did
    encoder: str = ""  # the encoder of the clips' `encoder_vector`; "" for none
    form: int = FORM  # the version of the analysis
    object_models: str = ""  # the models that recognised objects and people; "" for none


#: Stored JSON keeps the field names of the first version: name of the field -> name in JSON.
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
    return {**_with_json_names(evidence), "clips": [_with_json_names(clip) for clip in evidence.clips]}


def _with_json_names(record: Evidence | Clip) -> dict[str, Any]:
    return {_JSON_NAMES.get(name, name): value for name, value in vars(record).items()}


def to_json(evidence: Evidence) -> bytes:
    """The evidence as JSON. `from_json` is the inverse."""
    return orjson.dumps(to_record(evidence))


def from_json(data: bytes) -> Evidence:
    """Read evidence that this or an older version wrote with `to_json`.

    Raises:
        ValueError: `data` is not JSON, or not evidence.
    """
    try:
        raw = orjson.loads(data)
        return Evidence(
            Probe(**raw["probe"]),
            tuple(_read_clip(clip) for clip in raw["clips"]),
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
    """Read a span from its JSON. Older versions stored no words."""
    words = tuple(Word(**word) for word in raw.get("words", ()))
    return Span(**{**raw, "alternatives": tuple(raw["alternatives"]), "words": words})


def _read_clip(raw: dict[str, Any]) -> Clip:
    pairs = {name: tuple(tuple(pair) for pair in raw[name]) for name in ("colors", "regions", "objects")}
    vectors = {
        name: tuple(raw.pop(_JSON_NAMES[name], ()))
        for name in ("image_descriptor", "sound_descriptor", "encoder_vector")
    }
    confidences = Confidences(**raw.pop("sure", {}))
    detections = {
        "labels": tuple(Label(**label) for label in raw.get("labels", ())),
        "things": tuple(Thing(**{**thing, "box": tuple(thing["box"])}) for thing in raw.get("things", ())),
    }
    return Clip(**{**raw, **pairs, **vectors, **detections, "confidences": confidences})
