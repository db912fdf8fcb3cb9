"""Embeds texts, pictures, sounds and clips into one vector space.

A vector has two parts:

- 256 values: the mean of static word embeddings (WordLlama, 16 MB of weights in its wheel) of a text, or of
  the words that describe a clip: its colours, motion, people, on-screen text and speech, and the names of
  recognised classes, which are weighted by probability. Actions are not recognised: "a dog running" is near a
  clip with a dog.
- 64 values: the projected descriptor of a picture or sound; zeros for text. The descriptor tells apart
  pictures that are described by the same words.

With an image-text encoder (image_encoder.py) there is a third part: the encoder's vector of the keyframe,
picture or text; zeros for sound. Its norm is twice the norm of the words. A correct caption raises the cosine
of the encoder by about 0.1, and a matching word raises the cosine of the words by about 0.4. A cosine weighs
the parts by their squared norms, here 4 to 1, so that both count about equally: 4 x 0.1 = 1 x 0.4.

What is recognised in a clip has four names: `objects` are people and faces only, `labels` are classes from
the classifier, `things` classes from the detector, and `concepts` are the hierarchy of names over both.

Vectors are deterministic. Only vectors of the same model name (`tl-local-2`, with a suffix for an encoder)
can be compared.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from tl_data.local.perception.attributes import (
    COLOR_NAMES,
    audio_words,
    join_texts,
    screen_text_between,
    speech_between,
    traits_of,
    visual_words,
)
from tl_data.local.perception.evidence import Clip, Evidence, Probe
from tl_data.local.perception.pictures import decoder
from tl_data.local.perception.vision import colors, concepts, descriptors, objects
from tl_data.local.perception.vision.image_encoder import ImageEncoder, as_numbers
from tl_data.local.search.patterns import GENERIC, STOP_WORDS
from tl_data.local.search.word_vectors import WORD_DIMENSION, Vector, unit, word_vectors

DESCRIPTOR_DIMENSION = 64  # the size of the descriptor part
DIMENSION = WORD_DIMENSION + DESCRIPTOR_DIMENSION  # the size of a vector without an encoder

SHORTEST_CLIP_SEC = 2.0  # a last clip shorter than this gets no vector, unless the whole range is shorter
_DESCRIPTOR_SHARE = 0.6  # norm of the descriptor part, relative to the words
_LABELS = 10  # the largest number of classes from the classifier
_LABEL_SHARE = 1.5  # norm of the names of classes with probability 1, relative to measurements and text
_ENCODER_SHARE = 2.0  # norm of the encoder part, relative to the words

#: Shade -> the name of the colour that describes clips. All of these words nearly always mean a colour.
_COLOR_OF_SHADE = {name: COLOR_NAMES[name] for name in (
    "crimson", "scarlet", "maroon", "burgundy", "golden", "emerald", "turquoise", "teal", "navy", "azure",
    "cobalt", "indigo", "violet", "lilac", "magenta", "fuchsia", "beige", "grey",
)}  # fmt: skip


@dataclass(frozen=True)
class Segment:
    """The vector of a part of a video, with the field names of the API."""

    start_offset_sec: float
    end_offset_sec: float
    embedding_option: str  # the requested option: visual, visual-text, audio or transcription
    embedding_scope: str  # clip or video
    vector: tuple[float, ...]  # `dimension(encoder)` values, norm 1


# --------------------------------------------------------------------------------------- descriptors


@lru_cache(maxsize=8)
def _projection(size: int, kind: str) -> Vector:
    """A fixed matrix of 1 and -1, size x 64.

    It is derived from a hash and so does not depend on library versions.
    """
    bits: list[NDArray[np.uint8]] = []
    for row in range(size):
        digest = hashlib.sha256(f"{kind} {size} {row}".encode()).digest()
        bits.append(np.unpackbits(np.frombuffer(digest, np.uint8))[:DESCRIPTOR_DIMENSION])
    signs = np.stack(bits).astype(np.float32) * 2 - 1
    return np.asarray(signs, np.float32)


def _descriptor_part(descriptor: Sequence[float], kind: str) -> Vector:
    """The projected descriptor of a picture or sound: a unit vector of 64 values; zeros without one."""
    if not descriptor:
        return np.zeros(DESCRIPTOR_DIMENSION, np.float32)
    values = np.asarray(descriptor, np.float32)
    values = values - values.mean()  # descriptors are positive: without centring, all would be similar
    return unit(np.asarray(values @ _projection(len(values), kind), np.float32))


def _join_parts(words: Vector, descriptor: Vector, encoder: Vector | None = None) -> Vector:
    """Join the parts of a vector with their weights, and normalise the result."""
    parts = [words, _DESCRIPTOR_SHARE * descriptor] + ([] if encoder is None else [_ENCODER_SHARE * encoder])
    return unit(np.concatenate(parts).astype(np.float32))


def dimension(encoder: ImageEncoder | None) -> int:
    """The number of values in a vector."""
    return DIMENSION + (encoder.dimension if encoder else 0)


def _encoder_part(values: Sequence[float], encoder: ImageEncoder | None) -> Vector | None:
    """The encoder's part of a vector: zeros if the clip has no encoder vector, None without an encoder."""
    if encoder is None:
        return None
    if len(values) != encoder.dimension:
        return np.zeros(encoder.dimension, np.float32)
    return unit(np.asarray(values, np.float32))


# -------------------------------------------------------------------------------- texts and clips


def embed_text(text: str, encoder: ImageEncoder | None = None) -> Vector:
    """A text as a unit vector of `dimension(encoder)` float32; zeros for a text without words."""
    encoder_vector = encoder.texts([text])[0] if encoder else None
    return _join_parts(
        word_vectors([_content_words(text)])[0], np.zeros(DESCRIPTOR_DIMENSION, np.float32), encoder_vector
    )


def _content_words(text: str) -> str:
    """A text without `STOP_WORDS` and nouns of `GENERIC`; the whole text if nothing else is left.

    Shades are replaced by the colour names that describe clips. "up" is a stop word, but it is kept: it is a
    direction of motion.
    """
    words = re.findall(r"[^\W_]+", text.lower())
    kept = [
        _COLOR_OF_SHADE.get(word, word) for word in words if word == "up" or word not in STOP_WORDS | GENERIC
    ]
    return " ".join(kept) if kept else text


def embed_clip(clip: Clip, evidence: Evidence, option: str, encoder: ImageEncoder | None = None) -> Vector:
    """Embed the evidence of a clip that `option` selects, as a unit vector; zeros without such evidence.

    Args:
        clip: the clip.
        evidence: the evidence of the whole video.
        option: `visual` or `visual-text` (picture and on-screen text), `audio` (sound and speech),
            `transcription` (speech).
        encoder: the encoder of `clip.encoder_vector`, if any.
    """
    encoder_vector: Sequence[float] = ()
    labels = np.zeros(WORD_DIMENSION, np.float32)
    start, end = clip.start_sec, clip.end_sec
    if option in ("visual", "visual-text"):
        shown = join_texts(screen_text_between(evidence, start, end))
        parts, descriptor = (
            [_content_words(visual_words(clip)), shown],
            _descriptor_part(clip.image_descriptor, "look"),
        )
        encoder_vector, labels = clip.encoder_vector, _label_part(clip)
    elif option == "audio":
        said = join_texts(speech_between(evidence, start, end))
        parts, descriptor = [audio_words(clip), said], _descriptor_part(clip.sound_descriptor, "sound")
    elif option == "transcription":
        parts, descriptor = (
            [join_texts(speech_between(evidence, start, end))],
            np.zeros(DESCRIPTOR_DIMENSION, np.float32),
        )
    else:
        raise ValueError(f"unknown embedding option {option!r}")
    # Parts have equal weight at any length: forty spoken words must not outweigh "music".
    vectors = word_vectors([part for part in parts if part] or [""])
    total = np.asarray(vectors.sum(axis=0, keepdims=True) + labels, np.float32)
    return _join_parts(unit(total)[0], descriptor, _encoder_part(encoder_vector, encoder))


def _label_part(clip: Clip) -> Vector:
    """The mean of the vectors of the names of `labels` and `things`, weighted by probability.

    The method is ConSE (Norouzi et al. 2014). The norm is proportional to the largest probability, so that
    uncertain classes do not outweigh colours and words. A class of the detector counts in full only if the
    classifier confirms it (`Thing.agreed`).
    """
    probability_of = {label.name: label.probability for label in clip.labels[:_LABELS]}
    for thing in clip.things:
        probability = thing.probability * (1.0 if thing.agreed else concepts.UNCONFIRMED)
        probability_of[thing.name] = max(probability_of.get(thing.name, 0.0), probability)
    if not probability_of:
        return np.zeros(WORD_DIMENSION, np.float32)
    vectors = word_vectors(list(probability_of))
    weights = np.array(list(probability_of.values()), np.float32)
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
        clip_length: the fixed length of clips from `start` on, 2 to 10 seconds. A last clip shorter than 2 s
            is dropped, unless the whole part is shorter. None: the clips of the evidence, cut where the
            picture changes. They are embedded whole, also those that begin before `start` or end after `end`.
        start, end: the embedded part of the video, in seconds. None: the whole video.
        encoder: the encoder of the evidence.

    Raises:
        ValueError: an invalid length or range, or an unknown option or scope.
    """
    duration = evidence.probe.duration_sec
    begin, stop = 0.0 if start is None else start, duration if end is None else min(end, duration)
    if unknown := [name for name in scope if name not in ("clip", "video")]:
        raise ValueError(f"unknown embedding scope {unknown[0]!r}")
    if not 0 <= begin < stop:
        raise ValueError(f"{begin} to {stop} s is not inside the video, which has {duration} s")
    if clip_length is None:
        clips = [c for c in evidence.clips if c.end_sec > begin and c.start_sec < stop]
    else:
        if not 2 <= clip_length <= 10:
            raise ValueError(f"a clip length is 2 to 10 s, not {clip_length}")
        clips = [
            blend(evidence, clip_start, clip_end)
            for clip_start, clip_end in _fixed_ranges(begin, stop, clip_length)
        ]
    segments = [
        Segment(clip.start_sec, clip.end_sec, option, "clip", as_tuple(vector))
        for clip in (clips if "clip" in scope else ())
        for option in options
        if (vector := embed_clip(clip, evidence, option, encoder)).any()
    ]
    if "video" in scope:
        weighted_clips = [(c, c.end_sec - c.start_sec) for c in clips] or [
            (blend(evidence, begin, stop), 1.0)
        ]
        for option in options:
            total = np.zeros(dimension(encoder), np.float32)
            for clip, seconds in weighted_clips:
                total += seconds * embed_clip(clip, evidence, option, encoder)
            if total.any():
                segments.append(Segment(begin, stop, option, "video", as_tuple(unit(total[None])[0])))
    return segments


def as_tuple(vector: Vector) -> tuple[float, ...]:
    """A vector as Python floats, rounded to the precision of float32."""
    return tuple(float(value) for value in np.round(vector.astype(np.float64), 7))


def _fixed_ranges(begin: float, stop: float, length: float) -> list[tuple[float, float]]:
    """Divide a time range into ranges of a fixed length.

    A last one shorter than SHORTEST_CLIP_SEC is dropped, unless the whole range is shorter.
    """
    ranges: list[tuple[float, float]] = []
    number = 0
    while (start := begin + number * length) < stop - 1e-6:
        end = min(stop, start + length)
        if end - start >= min(SHORTEST_CLIP_SEC, stop - begin) - 1e-6:
            ranges.append((round(start, 3), round(end, 3)))
        number += 1
    return ranges


def blend(evidence: Evidence, start: float, end: float) -> Clip:
    """A clip for any time range.

    Measurements and the encoder vector are means over the overlapping clips, weighted by overlap. Of
    `objects` the largest confidence counts. `cut` is that of the first clip, and False if this clip begins
    before the range. Everything else, such as keyframe and labels, is that of the clip with the longest
    overlap.
    """
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
        for name, confidence in clip.objects:
            objects[name] = max(objects.get(name, 0.0), confidence)
    return Clip(
        start_sec=start,
        end_sec=end,
        keyframe=main.keyframe,
        colors=tuple(sorted(colors.items(), key=lambda item: (-item[1], item[0]))),
        regions=main.regions,
        objects=tuple(sorted(objects.items())),
        brightness=mean((clip.brightness, overlap) for clip, overlap in parts),
        contrast=mean((clip.contrast, overlap) for clip, overlap in parts),
        motion=mean((clip.motion, overlap) for clip, overlap in parts),
        direction=main.direction,
        camera=main.camera,
        cut=parts[0][0].cut and parts[0][0].start_sec >= start,
        sound=main.sound,
        loudness=mean((clip.loudness, overlap) for clip, overlap in parts),
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
    """The mean of the encoder vectors of several clips, weighted by overlap, as a unit vector.

    Clips without an encoder vector do not count; () if no clip has one.
    """
    size = max(len(clip.encoder_vector) for clip, _ in parts)
    total = np.zeros(size, np.float32)
    for clip, overlap in parts:
        if len(clip.encoder_vector) == size:
            total += overlap * np.asarray(clip.encoder_vector, np.float32)
    return tuple(float(number) for number in unit(total[None])[0])


#: An image is noise if the standard deviation of its luma is at least `_GRAIN` and a blur over 2 pixels
#: leaves less than the share `_KEPT` of it. Measured shares: 0.14 for white noise, 0.32 for a page of small
#: print, at least 0.92 for 129 frames of five films.
_GRAIN, _KEPT = 5.0, 0.25


def embed_image(
    data: bytes, encoder: ImageEncoder | None = None, object_models: objects.ObjectModels | None = None
) -> Vector:
    """Embed an image file (JPEG, PNG) like the keyframe of a clip, as a unit vector.

    Raises:
        NotPicture: the image cannot be decoded.
    """
    clip = measured_image(data, encoder, object_models)
    return embed_clip(clip, _evidence_of(clip), "visual", encoder)


def measured_image(
    data: bytes, encoder: ImageEncoder | None = None, object_models: objects.ObjectModels | None = None
) -> Clip:
    """Analyze an image file; returns a clip whose times are 0.

    Raises:
        NotPicture: the image cannot be decoded.
    """
    return _measure(*decoder.decode(data, _SIDES), encoder, object_models)


#: An image is scaled to the sizes of video frames, so that the values are comparable: for its details, and
#: for its colours.
_SIDES = 960, 320


def _measure(
    rgb: NDArray[np.uint8],
    small: NDArray[np.uint8],
    encoder: ImageEncoder | None,
    object_models: objects.ObjectModels | None,
) -> Clip:
    tone = colors.tones(small)
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
        image_descriptor=descriptors.describe_image(rgb),
        encoder_vector=as_numbers(encoder.pictures([rgb])[0]) if encoder else (),
    )
    return objects.with_objects(clip, [object_models.detect(0.0, rgb)]) if object_models else clip


@dataclass(frozen=True)
class ImageQuery:
    """The analysis of an image query."""

    descriptor: NDArray[np.float32]
    traits: dict[str, float]  # trait of `attributes.traits_of` -> strength; without "still"
    encoder_vector: NDArray[np.float32]  # empty without an encoder
    concepts: dict[int, float]  # number of a concept -> probability; see `_certain_concepts`
    noise: bool  # only noise: its colours and descriptor equal those of plain gray and must not be searched


def image_query(
    data: bytes, encoder: ImageEncoder | None = None, object_models: objects.ObjectModels | None = None
) -> ImageQuery:
    """Analyze the image of a query.

    Raises:
        NotPicture: the image cannot be decoded.
    """
    rgb, small = decoder.decode(data, _SIDES)
    clip = _measure(rgb, small, encoder, object_models)
    traits = {trait: strength for trait, strength in traits_of(clip).items() if trait != "still"}
    return ImageQuery(
        np.asarray(clip.image_descriptor, np.float32),
        traits,
        np.asarray(clip.encoder_vector, np.float32),
        _certain_concepts(clip),
        _is_noise(rgb),
    )


def _certain_concepts(clip: Clip) -> dict[int, float]:
    """The concepts of a picture with a probability of at least 0.4.

    Hypernyms of others among them are left out, except classes of the detector. Concepts above more than 30
    classes of the classifier, such as "animal", are left out: they match too much.
    """
    table = concepts.table()
    probable = {
        number: probability
        for number, probability in concepts.probabilities(clip).items()
        if probability >= 0.4
    }
    detectable = {concept.number for concept in table.of_thing.values()}
    specific = {
        number: probability for number, probability in probable.items() if table.concepts[number].leaves <= 30
    }
    hypernyms = {
        hypernym for number in specific for hypernym in table.concepts[number].above if hypernym != number
    }
    return {
        number: probability
        for number, probability in specific.items()
        if number not in hypernyms or number in detectable
    }


def _is_noise(rgb: NDArray[np.uint8]) -> bool:
    """Whether the pixels of an image are nearly uncorrelated; see `_GRAIN`."""
    luma = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    deviation = float(luma.std())
    return deviation >= _GRAIN and float(cv2.GaussianBlur(luma, (0, 0), 2).std()) < _KEPT * deviation


def _evidence_of(clip: Clip) -> Evidence:
    return Evidence(Probe(0.0, 0, 0, 0.0, 0, None, None), (clip,))
