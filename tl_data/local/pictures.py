"""Pictures and sound files that are not part of a video: an image query, an image or a sound to embed."""

from __future__ import annotations

import tempfile
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tl_data.local import colors, faces, look, meaning, space
from tl_data.local.evidence import Clip, Evidence, Probe
from tl_data.local.sight import Sight, as_numbers
from tl_data.local.traits import traits_of


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
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error as error:  # a header that claims a size beyond reason
        raise NotPicture(f"the image cannot be decoded: {error}") from error
    if picture is None:
        raise NotPicture("the file is not an image that can be decoded")
    rgb = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)
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


def look_and_traits(
    data: bytes, sight: Sight | None = None
) -> tuple[NDArray[np.float32], dict[str, float], NDArray[np.float32]]:
    """The look of an image file, the traits that hold for it, and what an encoder sees in it (or nothing).

    Raises:
        NotPicture: it cannot be decoded.
    """
    clip = seen(data, sight)
    traits = {trait: strength for trait, strength in traits_of(clip).items() if trait != "still"}
    return np.asarray(clip.look, np.float32), traits, np.asarray(clip.sight, np.float32)


def _within(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return picture
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _alone(clip: Clip) -> Evidence:
    return Evidence(Probe(0.0, 0, 0, 0.0, 0, None, None), (clip,))
