"""The smallest video that the API takes, for measurements of everything but looking at it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np


def film(path: Path) -> bytes:
    """The smallest video that the API accepts: four seconds of 360 x 360 pixels, without sound."""
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream: Any = container.add_stream("libx264", rate=1)
        stream.width = stream.height = 360
        stream.pix_fmt, stream.options = "yuv420p", {"preset": "ultrafast"}
        for second in range(4):
            picture = np.full((360, 360, 3), 60 * second, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path.read_bytes()


def with_label(data: bytes, label: str) -> bytes:
    """An MP4 file with the same picture and other bytes: the label is in a box of free space at its end."""
    box = label.encode()
    return data + (len(box) + 8).to_bytes(4, "big") + b"free" + box
