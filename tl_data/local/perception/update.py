"""Evidence brought up to date: seen by another encoder, or heard by another recogniser."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tl_data.local.perception.audio.speech import Heard
from tl_data.local.perception.evidence import Evidence, NotVideo
from tl_data.local.perception.vision.image_encoder import Sight


def seen_again(evidence: Evidence, folder: Path, sight: Sight | None) -> Evidence:
    """The evidence with the keyframes in `folder` seen by another encoder, or by none."""
    if sight is None:
        return replace(evidence, sight="", clips=tuple(replace(clip, sight=()) for clip in evidence.clips))
    import cv2
    import numpy as np

    from tl_data.local.perception.vision.image_encoder import as_numbers

    vectors: dict[str, tuple[float, ...]] = {"": ()}
    for name in dict.fromkeys(clip.keyframe for clip in evidence.clips if clip.keyframe):
        picture = cv2.imread(str(folder / name), cv2.IMREAD_COLOR)
        if picture is not None:
            rgb = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)
            vectors[name] = as_numbers(sight.pictures([rgb])[0])
    clips = tuple(replace(clip, sight=vectors.get(clip.keyframe, ())) for clip in evidence.clips)
    return replace(evidence, clips=clips, sight=sight.name)


def heard_again(evidence: Evidence, heard: Heard, ears: str) -> Evidence:
    """The evidence with what another recogniser heard.

    Raises:
        NotVideo: the sound could not be heard; what was heard before is worth more than nothing.
    """
    if heard.notes:
        raise NotVideo("; ".join(heard.notes))
    from tl_data.local.perception.analyzer import with_sound

    clips = tuple(with_sound(clip, heard) for clip in evidence.clips)
    return replace(evidence, clips=clips, speech=heard.speech, ears=ears)
