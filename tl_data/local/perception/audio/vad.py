"""Cuts sound at the pauses of a voice into what a recogniser is given at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tl_data.local.perception.decode import SOUND_RATE, Samples

FRAME = 480  # samples of a voice decision, 30 ms
PAD = 6  # frames kept before a voice
PAUSE = 14  # frames without a voice, between two sentences
_LEAST = 8  # frames with a voice, a quarter of a second: less is a click


@dataclass(frozen=True)
class Limits:
    """How long an utterance may become, in frames."""

    longest: int  # it ends here even in the middle of a word
    long: int = 0  # from here on a pause ends it
    silence: int = PAUSE  # frames without a voice that end it however short it is


@dataclass(frozen=True)
class Utterance:
    """A stretch with a voice, with a few frames before it and the pause after it."""

    start_sec: float
    frames: tuple[Samples, ...]
    voiced: int = 0  # frames with a voice

    @property
    def samples(self) -> Samples:
        """All of its sound."""
        return np.concatenate(self.frames)


class Cutter:
    """Takes the sound frame by frame and gives an utterance as soon as it has ended."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._frames: list[Samples] = []
        self._quiet = self._voiced = 0  # frames without a voice since the last one with, and frames with
        self._at = self._start = 0  # samples: how far the sound was taken, and where the gathered ones begin

    def add(self, frame: Samples, voice: bool) -> Utterance | None:
        """Take the next frame; gives what it ends."""
        self._at += frame.size
        self._frames.append(frame)
        self._voiced += voice
        self._quiet = 0 if voice else self._quiet + 1
        if not self._voiced:
            if len(self._frames) > PAD:
                self._frames.pop(0)
            self._start = self._at - sum(part.size for part in self._frames)
            return None
        long = len(self._frames) >= self._limits.long and self._quiet >= PAUSE
        ends = long or self._quiet >= self._limits.silence or len(self._frames) >= self._limits.longest
        return self.finish() if ends else None

    def finish(self) -> Utterance | None:
        """What is gathered at the end of the sound."""
        found = None
        if self._voiced >= _LEAST:
            found = Utterance(self._start / SOUND_RATE, tuple(self._frames), self._voiced)
        self._frames, self._quiet, self._voiced, self._start = [], 0, 0, self._at
        return found
