"""How long videos are, as far as this process has heard: for the bill, and to begin the long ones early."""

from __future__ import annotations

import os
from collections import OrderedDict

BYTES_A_SECOND = 250_000  # of a file whose length nobody has told: 2 Mbit/s, as of usual videos


class Lengths:
    """The lengths of videos in seconds, by id, URL or path; at most `most`, the latest."""

    def __init__(self, most: int = 20_000) -> None:
        self._most = most
        self._known: OrderedDict[str, float] = OrderedDict()

    def keep(self, video: str, seconds: float | None) -> None:
        """Note what the platform told of a video; None: it told nothing."""
        if seconds is not None:
            self._known[video] = float(seconds)
            self._known.move_to_end(video)
            if len(self._known) > self._most:
                self._known.popitem(last=False)

    def of(self, video: str) -> float | None:
        """The length that was told; None if it was not."""
        return self._known.get(video)

    def about(self, video: object) -> float | None:
        """Seconds, as roughly as by the size of a file of this machine; None where nothing is known."""
        if not isinstance(video, str):  # NULL
            return None
        if (known := self._known.get(video)) is not None:
            return known
        try:
            return os.stat(video).st_size / BYTES_A_SECOND
        except (OSError, ValueError):  # a URL, the id of a video, or a path that cannot be one
            return None
