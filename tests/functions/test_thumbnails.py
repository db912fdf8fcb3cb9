"""A clip comes with a picture of itself, whichever vector is asked for."""

from __future__ import annotations

import io
from typing import Any

import av
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.support.library import Library
from tl_data import catalog
from tl_data.connection import connect

Pixels = NDArray[np.float32]


@pytest.mark.parametrize("option", ["visual", "audio", "transcription"])
def test_the_picture_of_each_clip_is_from_it(library: Library, option: str) -> None:
    arguments: dict[str, Any] = library.arguments()["clips"] | {"embedding_option": option}
    clips = connect(library.settings).call(catalog.FUNCTIONS["clips"], **arguments)
    assert len(clips) == 2
    film = httpx.get(library.urls[0]).content
    for clip in clips:
        picture = small(Image.open(io.BytesIO(httpx.get(clip["thumbnail_url"]).content)))
        inside = [
            float(np.abs(frame - picture).mean())
            for at, frame in frames(film)
            if clip["start_sec"] <= at < clip["end_sec"]
        ]
        outside = [
            float(np.abs(frame - picture).mean())
            for at, frame in frames(film)
            if not clip["start_sec"] <= at < clip["end_sec"]
        ]
        assert min(inside) < 4 < 20 < min(outside)


def frames(film: bytes) -> list[tuple[float, Pixels]]:
    """Two small pictures a second, with their times."""
    with av.open(io.BytesIO(film)) as container:
        every = list(container.decode(video=0))[::12]
        return [(float(frame.time or 0), small(frame.to_image())) for frame in every]


def small(picture: Image.Image) -> Pixels:
    """Few pixels, so that compression does not count."""
    return np.asarray(picture.convert("RGB").resize((32, 18)), np.float32)
