"""Pictures and sound files that are not part of a video: an image query, an image or a sound to embed."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tl_data.local import colors, faces, look, meaning, space
from tl_data.local.evidence import Clip, Evidence, Probe
from tl_data.local.sight import Sight, as_numbers
from tl_data.local.traits import traits_of

# Of luma, deviation, and the share of it that a blur over 2 pixels leaves: 0.14 of white noise, 0.32 of a
# page full of small print, 0.92 and more of 129 frames of five films.
_GRAIN, _KEPT = 5.0, 0.25


class NotPicture(ValueError):
    """The bytes are not an image that can be decoded."""


def embed_image(data: bytes, sight: Sight | None = None) -> NDArray[np.float32]:
    """An image file as a unit vector of the space, as if it were a clip's keyframe.

    Raises:
        NotPicture: it cannot be decoded.
    """
    clip = seen(data, sight)
    return space.embed_clip(clip, _alone(clip), "visual", sight)


def embed_audio(path: Path) -> NDArray[np.float32]:
    """A sound file as a unit vector of the space: what is said in it, the kind of sound, its timbre.

    Raises:
        NotVideo: the file holds no sound that can be decoded.
    """
    from tl_data.local.watching import look_at

    with tempfile.TemporaryDirectory() as folder:
        evidence = look_at(path, Path(folder))
    total = np.zeros(space.DIMENSION, np.float32)
    for clip in evidence.clips:
        total += (clip.end_sec - clip.start_sec) * space.embed_clip(clip, evidence, "audio")
    return np.asarray(meaning.unit(total[None])[0], np.float32)


def seen(data: bytes, sight: Sight | None = None) -> Clip:
    """What is measured in an image file, and what an encoder sees in it, as a clip without time.

    Raises:
        NotPicture: it cannot be decoded.
    """
    return _seen(_decoded(data), sight)


def _decoded(data: bytes) -> NDArray[np.uint8]:
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error as error:  # a header that claims a size beyond reason
        raise NotPicture(f"the image cannot be decoded: {error}") from error
    if picture is None:
        raise NotPicture("the file is not an image that can be decoded")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


def _seen(rgb: NDArray[np.uint8], sight: Sight | None) -> Clip:
    # Measured at the sizes that frames of a video are measured at, so that both come out alike.
    tone = colors.tones(_within(rgb, 320))
    names, regions = colors.summary([tone])
    return Clip(
        start_sec=0.0,
        end_sec=0.0,
        keyframe="image",
        colors=names,
        regions=regions,
        objects=faces.faces(_within(rgb, 960)),
        brightness=tone.brightness,
        contrast=tone.contrast,
        camera="",  # one picture tells nothing of motion
        look=look.describe_image(_within(rgb, 960)),
        sight=as_numbers(sight.pictures([_within(rgb, 960)])[0]) if sight else (),
    )


@dataclass(frozen=True)
class Asked:
    """What is known of an image that is asked for."""

    look: NDArray[np.float32]
    traits: dict[str, float]  # with their strengths
    sight: NDArray[np.float32]  # by an encoder; empty without one
    noise: bool  # nothing but noise: look and colours are those of its mean, a gray that nobody sees


def asked(data: bytes, sight: Sight | None = None) -> Asked:
    """Look at an image file of a query.

    Raises:
        NotPicture: it cannot be decoded.
    """
    rgb = _decoded(data)
    clip = _seen(rgb, sight)
    traits = {trait: strength for trait, strength in traits_of(clip).items() if trait != "still"}
    return Asked(
        np.asarray(clip.look, np.float32), traits, np.asarray(clip.sight, np.float32), _is_noise(rgb)
    )


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
