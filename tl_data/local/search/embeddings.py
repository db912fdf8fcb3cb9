"""Embeds texts, pictures, sounds and clips into one vector space.

A vector has two parts:

- 256 numbers: the mean of static word embeddings (WordLlama, 16 MB of weights in its wheel) of a text, or of
  the words that describe a clip: its colours, motion, objects, on-screen text and speech. Objects are
  weighted by probability. Actions are not recognised: "a dog running" is near a clip with a dog.
- 64 numbers: the projected descriptor of a picture or sound; zeros for text. Similar pictures are near each
  other even if the same words describe many.

With an image-text encoder (image_encoder.py) there is a third part, its vector of the keyframe, picture or
text; zeros for sound. Its length is twice that of the words: a correct caption raises the encoder's cosine by
about 0.1 and a matching word the words' cosine by about 0.4, which the squared lengths balance.

Vectors are deterministic. They are comparable only with vectors of the same model name (`tl-local-2`, with a
suffix for an encoder).
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tl_data.local.perception.attributes import (
    COLOR_NAMES,
    audio_words,
    joined,
    screen_text_between,
    speech_between,
    traits_of,
    visual_words,
)
from tl_data.local.perception.evidence import Clip, Evidence, Probe
from tl_data.local.perception.vision import colors, concepts, descriptors, objects
from tl_data.local.perception.vision.image_encoder import ImageEncoder, as_numbers
from tl_data.local.search.patterns import EMPTY, GENERIC
from tl_data.local.search.word_vectors import WORD_DIMENSION, Vector, unit, word_vectors

_DECODING = threading.Lock()  # one picture at a time: a large one takes hundreds of megabytes
LOOK_DIMENSION = 64
DIMENSION = WORD_DIMENSION + LOOK_DIMENSION  # without an encoder

SHORTEST_CLIP_SEC = 2.0  # a last clip shorter than this gets no vector of its own
_LOOK_SHARE = 0.6  # length of the descriptor part, relative to the words
_LABELS = 10  # most classes of the classifier
_LABEL_SHARE = 1.5  # length of objects with probability 1, relative to measurements and text
_ENCODER_SHARE = 2.0  # length of the encoder part, relative to the words

# Names that nearly always mean a colour.
_SHADES = {name: COLOR_NAMES[name] for name in (
    "crimson", "scarlet", "maroon", "burgundy", "golden", "emerald", "turquoise", "teal", "navy", "azure",
    "cobalt", "indigo", "violet", "lilac", "magenta", "fuchsia", "beige", "grey",
)}  # fmt: skip


@dataclass(frozen=True)
class Segment:
    """The vector of a part of a video, with the field names of the API."""

    start_offset_sec: float
    end_offset_sec: float
    embedding_option: str  # visual, visual-text, audio or transcription: as asked for
    embedding_scope: str  # clip or video
    vector: tuple[float, ...]  # `dimension(encoder)` numbers, length 1


# --------------------------------------------------------------------------------------------- looks


@lru_cache(maxsize=8)
def _projection(size: int, kind: str) -> Vector:
    """A fixed matrix of signs, size x 64, from a hash, so that it does not depend on library versions."""
    bits: list[NDArray[np.uint8]] = []
    for row in range(size):
        digest = hashlib.sha256(f"{kind} {size} {row}".encode()).digest()
        bits.append(np.unpackbits(np.frombuffer(digest, np.uint8))[:LOOK_DIMENSION])
    signs = np.stack(bits).astype(np.float32) * 2 - 1
    return np.asarray(signs, np.float32)


def _look_part(look: Sequence[float], kind: str) -> Vector:
    """The projected descriptor of a picture or sound: 64 numbers of length 1; zeros without one."""
    if not look:
        return np.zeros(LOOK_DIMENSION, np.float32)
    values = np.asarray(look, np.float32)
    values = values - values.mean()  # descriptors are positive: uncentred, all would be similar
    return unit(np.asarray(values @ _projection(len(values), kind), np.float32))


def _vector(words: Vector, look: Vector, encoder: Vector | None = None) -> Vector:
    parts = [words, _LOOK_SHARE * look] + ([] if encoder is None else [_ENCODER_SHARE * encoder])
    return unit(np.concatenate(parts).astype(np.float32))


def dimension(encoder: ImageEncoder | None) -> int:
    """The length of a vector."""
    return DIMENSION + (encoder.dimension if encoder else 0)


def _encoder_part(values: Sequence[float], encoder: ImageEncoder | None) -> Vector | None:
    """The encoder's part: zeros if the clip has none, None without an encoder."""
    if encoder is None:
        return None
    if len(values) != encoder.dimension:
        return np.zeros(encoder.dimension, np.float32)
    return unit(np.asarray(values, np.float32))


# -------------------------------------------------------------------------------- texts and clips


def embed_text(text: str, encoder: ImageEncoder | None = None) -> Vector:
    """A text as a unit vector of `dimension(encoder)` float32; zeros for a text without words."""
    encoder_vector = encoder.texts([text])[0] if encoder else None
    return _vector(
        word_vectors([_content_words(text)])[0], np.zeros(LOOK_DIMENSION, np.float32), encoder_vector
    )


def _content_words(text: str) -> str:
    """The content words of a text, with colours by the names that describe clips."""
    words = re.findall(r"[^\W_]+", text.lower())
    kept = [_SHADES.get(word, word) for word in words if word == "up" or word not in EMPTY | GENERIC]
    return " ".join(kept) if kept else text


def embed_clip(clip: Clip, evidence: Evidence, option: str, encoder: ImageEncoder | None = None) -> Vector:
    """A clip as a unit vector of the evidence that `option` selects; zeros without such evidence.

    Args:
        clip: the clip.
        evidence: of the whole video.
        option: `visual` or `visual-text` (picture and on-screen text), `audio` (sound and speech),
            `transcription` (speech).
        encoder: the encoder of `clip.encoder_vector`, if any.
    """
    encoder_vector: Sequence[float] = ()
    labels = np.zeros(WORD_DIMENSION, np.float32)
    start, end = clip.start_sec, clip.end_sec
    if option in ("visual", "visual-text"):
        shown = joined(screen_text_between(evidence, start, end))
        parts, look = [_content_words(visual_words(clip)), shown], _look_part(clip.image_descriptor, "look")
        encoder_vector, labels = clip.encoder_vector, _label_part(clip)
    elif option == "audio":
        said = joined(speech_between(evidence, start, end))
        parts, look = [audio_words(clip), said], _look_part(clip.sound_descriptor, "sound")
    elif option == "transcription":
        parts, look = [joined(speech_between(evidence, start, end))], np.zeros(LOOK_DIMENSION, np.float32)
    else:
        raise ValueError(f"unknown embedding option {option!r}")
    # Parts count equally at any length: forty spoken words must not outweigh "music".
    vectors = word_vectors([part for part in parts if part] or [""])
    total = np.asarray(vectors.sum(axis=0, keepdims=True) + labels, np.float32)
    return _vector(unit(total)[0], look, _encoder_part(encoder_vector, encoder))


def _label_part(clip: Clip) -> Vector:
    """The mean of the vectors of object names, weighted by probability (ConSE).

    Its length is the largest probability, so that uncertain objects do not outweigh colours and words.
    """
    found = {label.name: label.probability for label in clip.labels[:_LABELS]}
    for thing in clip.things:
        worth = thing.probability * (1.0 if thing.agreed else concepts.UNCONFIRMED)
        found[thing.name] = max(found.get(thing.name, 0.0), worth)
    if not found:
        return np.zeros(WORD_DIMENSION, np.float32)
    vectors = word_vectors(list(found))
    weights = np.array(list(found.values()), np.float32)
    mean = unit(np.asarray(weights @ vectors, np.float32)[None])[0]
    return np.asarray(_LABEL_SHARE * min(1.0, float(weights.max())) * mean, np.float32)


# ------------------------------------------------------------------------------------------ segments


def segments_of(
    evidence: Evidence,
    options: Sequence[str],
    scope: Sequence[str] = ("clip",),
    clip_length: float | None = None,
    start: float | None = None,
    end: float | None = None,
    encoder: ImageEncoder | None = None,
) -> list[Segment]:
    """The vectors of a video, for each option: one per clip, one of the whole video, or both.

    Args:
        options: `visual`, `visual-text`, `audio`, `transcription`. A clip without evidence for an option (no
            speech for `transcription`) has no segment.
        scope: `clip`, `video` or both.
        clip_length: seconds, 2 to 10: fixed lengths from `start` on; a last one shorter than 2 s is
            dropped. None: the clips of the evidence, cut where the picture changes.
        start, end: the embedded part of the video, in seconds. None: the whole video.
        encoder: the encoder of the evidence.

    Raises:
        ValueError: an invalid length or range, or an unknown option or scope.
    """
    duration = evidence.probe.duration_sec
    begin, stop = 0.0 if start is None else start, duration if end is None else min(end, duration)
    if unknown := [s for s in scope if s not in ("clip", "video")]:
        raise ValueError(f"unknown embedding scope {unknown[0]!r}")
    if not 0 <= begin < stop:
        raise ValueError(f"{begin} to {stop} s is not inside the video, which has {duration} s")
    if clip_length is None:
        clips = [c for c in evidence.clips if c.end_sec > begin and c.start_sec < stop]
    else:
        if not 2 <= clip_length <= 10:
            raise ValueError(f"a clip length is 2 to 10 s, not {clip_length}")
        clips = [blend(evidence, a, b) for a, b in _ticks(begin, stop, clip_length)]
    found = [
        Segment(clip.start_sec, clip.end_sec, option, "clip", as_tuple(vector))
        for clip in (clips if "clip" in scope else ())
        for option in options
        if (vector := embed_clip(clip, evidence, option, encoder)).any()
    ]
    if "video" in scope:
        whole = [(c, c.end_sec - c.start_sec) for c in clips] or [(blend(evidence, begin, stop), 1.0)]
        for option in options:
            total = np.zeros(dimension(encoder), np.float32)
            for clip, seconds in whole:
                total += seconds * embed_clip(clip, evidence, option, encoder)
            if total.any():
                found.append(Segment(begin, stop, option, "video", as_tuple(unit(total[None])[0])))
    return found


def as_tuple(vector: Vector) -> tuple[float, ...]:
    """A vector as Python floats, rounded to the precision of float32."""
    return tuple(float(value) for value in np.round(vector.astype(np.float64), 7))


def _ticks(begin: float, stop: float, length: float) -> list[tuple[float, float]]:
    edges: list[tuple[float, float]] = []
    number = 0
    while (a := begin + number * length) < stop - 1e-6:
        b = min(stop, a + length)
        if b - a >= min(SHORTEST_CLIP_SEC, stop - begin) - 1e-6:
            edges.append((round(a, 3), round(b, 3)))
        number += 1
    return edges


def blend(evidence: Evidence, start: float, end: float) -> Clip:
    """A clip of any time range: means over the overlapping clips, labels of the longest overlap."""
    parts = [
        (clip, overlap)
        for clip in evidence.clips
        if (overlap := min(end, clip.end_sec) - max(start, clip.start_sec)) > 0
    ]
    if not parts:
        return Clip(start, end, keyframe="")
    total = sum(overlap for _, overlap in parts)
    main = max(parts, key=lambda part: part[1])[0]

    def mean(values: Iterable[tuple[float, float]]) -> float:
        return sum(value * overlap for value, overlap in values) / total

    colors: dict[str, float] = {}
    objects: dict[str, float] = {}
    for clip, overlap in parts:
        for name, share in clip.colors:
            colors[name] = colors.get(name, 0.0) + share * overlap / total
        for name, sure in clip.objects:
            objects[name] = max(objects.get(name, 0.0), sure)
    return Clip(
        start_sec=start,
        end_sec=end,
        keyframe=main.keyframe,
        colors=tuple(sorted(colors.items(), key=lambda item: (-item[1], item[0]))),
        regions=main.regions,
        objects=tuple(sorted(objects.items())),
        brightness=mean((c.brightness, o) for c, o in parts),
        contrast=mean((c.contrast, o) for c, o in parts),
        motion=mean((c.motion, o) for c, o in parts),
        direction=main.direction,
        camera=main.camera,
        cut=parts[0][0].cut and parts[0][0].start_sec >= start,
        sound=main.sound,
        loudness=mean((c.loudness, o) for c, o in parts),
        confidences=main.confidences,
        image_descriptor=main.image_descriptor,
        sound_descriptor=main.sound_descriptor,
        encoder_vector=_mean_encoder_vector(parts),
        labels=main.labels,
        things=main.things,
        face_height=main.face_height,
        frames=main.frames,
    )


def _mean_encoder_vector(parts: Sequence[tuple[Clip, float]]) -> tuple[float, ...]:
    """The mean of the encoder vectors of several clips, weighted by duration."""
    size = max(len(clip.encoder_vector) for clip, _ in parts)
    total = np.zeros(size, np.float32)
    for clip, overlap in parts:
        if len(clip.encoder_vector) == size:
            total += overlap * np.asarray(clip.encoder_vector, np.float32)
    return tuple(float(number) for number in unit(total[None])[0])


# Least standard deviation of luma, and the largest share of it that a blur over 2 pixels leaves in noise:
# 0.14 of white noise; 0.32 of a page of small print; at least 0.92 of 129 frames of five films.
_GRAIN, _KEPT = 5.0, 0.25


class NotPicture(ValueError):
    """The image cannot be decoded."""


def embed_image(
    data: bytes, encoder: ImageEncoder | None = None, object_models: objects.ObjectModels | None = None
) -> Vector:
    """An image file (JPEG, PNG) as a unit vector, embedded like the keyframe of a clip.

    Raises:
        NotPicture: it cannot be decoded.
    """
    clip = measured_image(data, encoder, object_models)
    return embed_clip(clip, _alone(clip), "visual", encoder)


def embed_audio(path: Path) -> Vector:
    """A sound file as a unit vector of its speech, class and timbre; zeros for silence.

    Raises:
        NotVideo: the file has no sound that can be decoded.
    """
    from tl_data.local.perception.analyzer import analyze

    evidence = analyze(path)
    total = np.zeros(DIMENSION, np.float32)
    for clip in evidence.clips:
        total += (clip.end_sec - clip.start_sec) * embed_clip(clip, evidence, "audio")
    return np.asarray(unit(total[None])[0], np.float32)


def measured_image(
    data: bytes, encoder: ImageEncoder | None = None, object_models: objects.ObjectModels | None = None
) -> Clip:
    """Analyse an image file; returns a clip without times.

    Raises:
        NotPicture: it cannot be decoded.
    """
    return _measured(_decoded(data), encoder, object_models)


def _decoded(data: bytes) -> NDArray[np.uint8]:
    try:
        with _DECODING:
            picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error as error:  # a header with an absurd size
        raise NotPicture(f"the image cannot be decoded: {error}") from error
    if picture is None:
        raise NotPicture("the file is not an image that can be decoded")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


def _measured(
    rgb: NDArray[np.uint8], encoder: ImageEncoder | None, object_models: objects.ObjectModels | None
) -> Clip:
    # At the sizes of video frames, so that the values are comparable.
    tone = colors.tones(_within(rgb, 320))
    names, regions = colors.summary([tone])
    clip = Clip(
        start_sec=0.0,
        end_sec=0.0,
        keyframe="image",
        colors=names,
        regions=regions,
        brightness=tone.brightness,
        contrast=tone.contrast,
        camera="",  # unknown for a single picture
        image_descriptor=descriptors.describe_image(_within(rgb, 960)),
        encoder_vector=as_numbers(encoder.pictures([_within(rgb, 960)])[0]) if encoder else (),
    )
    return (
        objects.with_objects(clip, [object_models.detect(0.0, _within(rgb, 960))]) if object_models else clip
    )


@dataclass(frozen=True)
class ImageQuery:
    """The analysis of an image query."""

    look: NDArray[np.float32]
    traits: dict[str, float]  # with strengths
    encoder_vector: NDArray[np.float32]  # empty without an encoder
    concepts: dict[int, float]  # certain objects, without their hypernyms
    noise: bool  # only noise: colours and descriptor are those of a uniform gray


def image_query(
    data: bytes, encoder: ImageEncoder | None = None, object_models: objects.ObjectModels | None = None
) -> ImageQuery:
    """Analyse the image of a query.

    Raises:
        NotPicture: it cannot be decoded.
    """
    rgb = _decoded(data)
    clip = _measured(rgb, encoder, object_models)
    traits = {trait: strength for trait, strength in traits_of(clip).items() if trait != "still"}
    return ImageQuery(
        np.asarray(clip.image_descriptor, np.float32),
        traits,
        np.asarray(clip.encoder_vector, np.float32),
        _things_of(clip),
        _is_noise(rgb),
    )


def _things_of(clip: Clip) -> dict[int, float]:
    """The certain concepts of a picture, without hypernyms of one another."""
    table = concepts.table()
    sure = {number: worth for number, worth in concepts.probabilities(clip).items() if worth >= 0.4}
    kinds = {concept.number for concept in table.of_thing.values()}
    few = {number: worth for number, worth in sure.items() if table.concepts[number].leaves <= 30}
    above = {at for number in few for at in table.concepts[number].above if at != number}
    return {number: worth for number, worth in few.items() if number not in above or number in kinds}


def _is_noise(rgb: NDArray[np.uint8]) -> bool:
    """Whether adjacent pixels are nearly uncorrelated."""
    luma = cv2.cvtColor(_within(rgb, 960), cv2.COLOR_RGB2GRAY).astype(np.float32)
    deviation = float(luma.std())
    return deviation >= _GRAIN and float(cv2.GaussianBlur(luma, (0, 0), 2).std()) < _KEPT * deviation


def _within(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return picture
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _alone(clip: Clip) -> Evidence:
    return Evidence(Probe(0.0, 0, 0, 0.0, 0, None, None), (clip,))
