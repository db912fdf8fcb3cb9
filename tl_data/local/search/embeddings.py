"""One vector space for text, pictures, sound and clips: everything becomes words, and words become vectors.

A vector has two parts. The first 256 numbers are the mean of static word embeddings (WordLlama, 16 MB of
weights in its wheel) of what can be said about the thing: the text itself, the colours and motion of a
clip, the words spoken in it. The last 64 are the projected look of a picture or sound, so that two
pictures that look alike are near even when the same words describe both; they are zero for text.

With an image-text encoder (sight.py) a vector has a third part: the encoder's own vector of a keyframe,
picture or text. Pictures and texts are compared by it as the encoder compares them, and by words at the
same time, so that what is read on screen still counts; sound has no such part and is compared by words
alone. The part is twice as long as the words: a fitting caption raises the encoder's cosine by about 0.1,
a fitting word raises the words' by about 0.4, and squared lengths make these equal.

The space is deterministic: the same input gives the same vector in every process. It is this package's
own, named `tl-local-2` with its own dimension, or after the encoder with another; its vectors do not
compare with any other model's. Recognised things stand in it by the vectors of their names, weighted by
probability; actions are not recognised, so "a dog running" is near a clip with a dog.

Pictures and sound files that are not part of a video: an image query, an image or a sound to embed.
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
from tl_data.local.perception.vision.image_encoder import Sight, as_numbers
from tl_data.local.search.patterns import EMPTY, GENERIC
from tl_data.local.search.word_vectors import WORD_DIMENSION, Vector, unit, word_vectors

_DECODING = threading.Lock()  # one picture of a request at a time: a large one takes hundreds of megabytes
LOOK_DIMENSION = 64
DIMENSION = WORD_DIMENSION + LOOK_DIMENSION  # without an encoder

SHORTEST_CLIP_SEC = 2.0  # a last clip shorter than this gets no vector of its own
_LOOK_SHARE = 0.6  # length of the look part against 1.0 for the words
_LABELS = 10  # classes of the classifier that count
_LABEL_SHARE = 1.5  # length of what is surely recognised, against 1.0 for what is measured or shown
_SIGHT_SHARE = 2.0  # likewise of the encoder's

# Names that mean a colour and hardly anything else.
_SHADES = {name: COLOR_NAMES[name] for name in (
    "crimson", "scarlet", "maroon", "burgundy", "golden", "emerald", "turquoise", "teal", "navy", "azure",
    "cobalt", "indigo", "violet", "lilac", "magenta", "fuchsia", "beige", "grey",
)}  # fmt: skip


@dataclass(frozen=True)
class Segment:
    """One vector of a stretch of video, under the API's own field names."""

    start_offset_sec: float
    end_offset_sec: float
    embedding_option: str  # visual, visual-text, audio or transcription: as asked for
    embedding_scope: str  # clip or video
    vector: tuple[float, ...]  # `dimension(sight)` numbers, length 1


# --------------------------------------------------------------------------------------------- looks


@lru_cache(maxsize=8)
def _projection(size: int, kind: str) -> Vector:
    """A fixed matrix of signs, size x 64, from a hash: the same on every machine and library version."""
    bits: list[NDArray[np.uint8]] = []
    for row in range(size):
        digest = hashlib.sha256(f"{kind} {size} {row}".encode()).digest()
        bits.append(np.unpackbits(np.frombuffer(digest, np.uint8))[:LOOK_DIMENSION])
    signs = np.stack(bits).astype(np.float32) * 2 - 1
    return np.asarray(signs, np.float32)


def _look_part(look: Sequence[float], kind: str) -> Vector:
    """The look of a picture or sound as 64 numbers, length 1; zeros when there is none."""
    if not look:
        return np.zeros(LOOK_DIMENSION, np.float32)
    values = np.asarray(look, np.float32)
    values = values - values.mean()  # descriptors are positive: without this everything looks alike
    return unit(np.asarray(values @ _projection(len(values), kind), np.float32))


def _vector(words: Vector, look: Vector, sight: Vector | None = None) -> Vector:
    parts = [words, _LOOK_SHARE * look] + ([] if sight is None else [_SIGHT_SHARE * sight])
    return unit(np.concatenate(parts).astype(np.float32))


def dimension(sight: Sight | None) -> int:
    """How many numbers a vector has."""
    return DIMENSION + (sight.dimension if sight else 0)


def _sight_part(values: Sequence[float], sight: Sight | None) -> Vector | None:
    """The encoder's part: zeros for what it has not seen, None without an encoder."""
    if sight is None:
        return None
    if len(values) != sight.dimension:
        return np.zeros(sight.dimension, np.float32)
    return unit(np.asarray(values, np.float32))


# ---------------------------------------------------------------------------------------- the things


def embed_text(text: str, sight: Sight | None = None) -> Vector:
    """A text as a unit vector of `dimension(sight)` float32; all zeros if the text holds no word."""
    seen = sight.texts([text])[0] if sight else None
    return _vector(word_vectors([_telling(text)])[0], np.zeros(LOOK_DIMENSION, np.float32), seen)


def _telling(text: str) -> str:
    """The words of a text that tell something, colours by the names that clips are described with."""
    words = re.findall(r"[^\W_]+", text.lower())
    kept = [_SHADES.get(word, word) for word in words if word == "up" or word not in EMPTY | GENERIC]
    return " ".join(kept) if kept else text


def embed_clip(clip: Clip, evidence: Evidence, option: str, sight: Sight | None = None) -> Vector:
    """A clip as a unit vector, from the evidence that `option` selects; zeros if there is none of it.

    Args:
        clip: measured values and time of the stretch.
        evidence: of the whole video: shown and spoken words with their times.
        option: `visual` or `visual-text` (what is seen and shown), `audio` (sound and speech),
            `transcription` (speech alone).
        sight: the encoder that made `clip.sight`, if there is one.
    """
    seen: Sequence[float] = ()
    labels = np.zeros(WORD_DIMENSION, np.float32)
    start, end = clip.start_sec, clip.end_sec
    if option in ("visual", "visual-text"):
        shown = joined(screen_text_between(evidence, start, end))
        parts, look = [_telling(visual_words(clip)), shown], _look_part(clip.look, "look")
        seen, labels = clip.sight, _label_part(clip)
    elif option == "audio":
        said = joined(speech_between(evidence, start, end))
        parts, look = [audio_words(clip), said], _look_part(clip.audio_look, "sound")
    elif option == "transcription":
        parts, look = [joined(speech_between(evidence, start, end))], np.zeros(LOOK_DIMENSION, np.float32)
    else:
        raise ValueError(f"unknown embedding option {option!r}")
    # Each part counts the same however long it is: forty spoken words must not drown "music".
    vectors = word_vectors([part for part in parts if part] or [""])
    total = np.asarray(vectors.sum(axis=0, keepdims=True) + labels, np.float32)
    return _vector(unit(total)[0], look, _sight_part(seen, sight))


def _label_part(clip: Clip) -> Vector:
    """Recognised things in the space of words: their names' vectors, weighted by probability (ConSE).

    Its length is how surely anything was recognised, so that a clip of nothing in particular stays what its
    colours and words say.
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
    sight: Sight | None = None,
) -> list[Segment]:
    """The vectors of a video: one a clip and option, and one a video and option, as asked.

    Args:
        options: `visual`, `visual-text`, `audio`, `transcription`. A clip without any evidence of an
            option (no speech for `transcription`) has no segment of it.
        scope: `clip`, `video` or both.
        clip_length: seconds, 2 to 10: fixed lengths from `start` on; a last one shorter than 2 s is
            dropped. None: the clips of the video itself, cut where the picture changes.
        start, end: seconds; the stretch to look at. None: the whole video.
        sight: the encoder that the evidence was made with.

    Raises:
        ValueError: a length or stretch that cannot be, or an unknown option or scope.
    """
    duration = evidence.probe.duration_sec
    begin, stop = 0.0 if start is None else start, duration if end is None else min(end, duration)
    if unknown := [s for s in scope if s not in ("clip", "video")]:
        raise ValueError(f"unknown embedding scope {unknown[0]!r}")
    if not 0 <= begin < stop:
        raise ValueError(f"the stretch {begin} to {stop} s is not inside the video of {duration} s")
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
        if (vector := embed_clip(clip, evidence, option, sight)).any()
    ]
    if "video" in scope:
        whole = [(c, c.end_sec - c.start_sec) for c in clips] or [(blend(evidence, begin, stop), 1.0)]
        for option in options:
            total = np.zeros(dimension(sight), np.float32)
            for clip, seconds in whole:
                total += seconds * embed_clip(clip, evidence, option, sight)
            if total.any():
                found.append(Segment(begin, stop, option, "video", as_tuple(unit(total[None])[0])))
    return found


def as_tuple(vector: Vector) -> tuple[float, ...]:
    """A vector as plain numbers, rounded to what float32 holds."""
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
    """The measured values of any stretch: means over the clips it overlaps, labels of the longest."""
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
        sure=main.sure,
        look=main.look,
        audio_look=main.audio_look,
        sight=_mean_sight(parts),
        labels=main.labels,
        things=main.things,
        face_height=main.face_height,
        frames=main.frames,
    )


def _mean_sight(parts: Sequence[tuple[Clip, float]]) -> tuple[float, ...]:
    """What an encoder saw in several clips, each as much as it lasts."""
    size = max(len(clip.sight) for clip, _ in parts)
    total = np.zeros(size, np.float32)
    for clip, overlap in parts:
        if len(clip.sight) == size:
            total += overlap * np.asarray(clip.sight, np.float32)
    return tuple(float(number) for number in unit(total[None])[0])


# Of luma, deviation, and the share of it that a blur over 2 pixels leaves: 0.14 of white noise, 0.32 of a
# page full of small print, 0.92 and more of 129 frames of five films.
_GRAIN, _KEPT = 5.0, 0.25


class NotPicture(ValueError):
    """The bytes are not an image that can be decoded."""


def embed_image(data: bytes, sight: Sight | None = None, eyes: objects.Eyes | None = None) -> Vector:
    """An image file (JPEG, PNG) as a unit vector of the space, as if it were a clip's keyframe.

    Raises:
        NotPicture: it cannot be decoded.
    """
    clip = seen(data, sight, eyes)
    return embed_clip(clip, _alone(clip), "visual", sight)


def embed_audio(path: Path) -> Vector:
    """A sound file as a unit vector of the space: what is said in it, the kind of sound, its timbre.

    Zeros for silence.

    Raises:
        NotVideo: the file holds no sound that can be decoded.
    """
    from tl_data.local.perception.analyzer import analyze

    evidence = analyze(path)
    total = np.zeros(DIMENSION, np.float32)
    for clip in evidence.clips:
        total += (clip.end_sec - clip.start_sec) * embed_clip(clip, evidence, "audio")
    return np.asarray(unit(total[None])[0], np.float32)


def seen(data: bytes, sight: Sight | None = None, eyes: objects.Eyes | None = None) -> Clip:
    """What is measured in an image file, and what an encoder sees in it, as a clip without time.

    Raises:
        NotPicture: it cannot be decoded.
    """
    return _seen(_decoded(data), sight, eyes)


def _decoded(data: bytes) -> NDArray[np.uint8]:
    try:
        with _DECODING:
            picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error as error:  # a header that claims a size beyond reason
        raise NotPicture(f"the image cannot be decoded: {error}") from error
    if picture is None:
        raise NotPicture("the file is not an image that can be decoded")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


def _seen(rgb: NDArray[np.uint8], sight: Sight | None, eyes: objects.Eyes | None) -> Clip:
    # Measured at the sizes that frames of a video are measured at, so that both come out alike.
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
        camera="",  # one picture tells nothing of motion
        look=descriptors.describe_image(_within(rgb, 960)),
        sight=as_numbers(sight.pictures([_within(rgb, 960)])[0]) if sight else (),
    )
    return objects.with_objects(clip, [eyes.look(0.0, _within(rgb, 960))]) if eyes else clip


@dataclass(frozen=True)
class Asked:
    """What is known of an image that is asked for."""

    look: NDArray[np.float32]
    traits: dict[str, float]  # with their strengths
    sight: NDArray[np.float32]  # by an encoder; empty without one
    concepts: dict[int, float]  # kinds of things that are surely in it, the most special ones
    noise: bool  # nothing but noise: look and colours are those of its mean, a gray that nobody sees


def asked(data: bytes, sight: Sight | None = None, eyes: objects.Eyes | None = None) -> Asked:
    """Look at an image file of a query.

    Raises:
        NotPicture: it cannot be decoded.
    """
    rgb = _decoded(data)
    clip = _seen(rgb, sight, eyes)
    traits = {trait: strength for trait, strength in traits_of(clip).items() if trait != "still"}
    return Asked(
        np.asarray(clip.look, np.float32),
        traits,
        np.asarray(clip.sight, np.float32),
        _things_of(clip),
        _is_noise(rgb),
    )


def _things_of(clip: Clip) -> dict[int, float]:
    """The concepts that are surely in a picture, without those that another one of them is a kind of."""
    table = concepts.table()
    sure = {number: worth for number, worth in concepts.probabilities(clip).items() if worth >= 0.4}
    kinds = {concept.number for concept in table.of_thing.values()}
    few = {number: worth for number, worth in sure.items() if table.concepts[number].leaves <= 30}
    above = {at for number in few for at in table.concepts[number].above if at != number}
    return {number: worth for number, worth in few.items() if number not in above or number in kinds}


def _is_noise(rgb: NDArray[np.uint8]) -> bool:
    """Whether pixels have hardly anything in common with those beside them."""
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
