"""Lengths of videos that this process knows: for the bill, and to begin the long ones early."""

from __future__ import annotations

import os
from collections import OrderedDict

BYTES_A_SECOND = 250_000  # of a file of unknown length: 2 Mbit/s, as of usual videos


class Lengths:
    """The lengths of videos in seconds, by id, URL or path; at most `most`, the latest."""

    def __init__(self, most: int = 20_000) -> None:
        self._most = most
        self._known: OrderedDict[str, float] = OrderedDict()

    def keep(self, video: str, seconds: float | None) -> None:
        """Remember the length of a video; None is ignored."""
        if seconds is not None:
            self._known[video] = float(seconds)
            self._known.move_to_end(video)
            if len(self._known) > self._most:
                self._known.popitem(last=False)

    def of(self, video: str) -> float | None:
        """The length; None if it is not known."""
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
