"""Splits sound at pauses of the voice into utterances for a recogniser."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tl_data.local.perception.decode import SOUND_RATE, Samples

FRAME = 480  # samples of a frame, 30 ms
PAD = 6  # frames before a voice that are kept
PAUSE = 14  # frames without a voice between two sentences
_LEAST = 8  # least frames with a voice, a quarter of a second; fewer are a click


@dataclass(frozen=True)
class Limits:
    """The limits of an utterance in frames."""

    longest: int  # largest length; a word may be cut
    long: int = 0  # length from which a pause ends it
    silence: int = PAUSE  # frames without a voice that end it at any length


@dataclass(frozen=True)
class Utterance:
    """A part with a voice, including a few frames before and the pause after it."""

    start_sec: float
    frames: tuple[Samples, ...]
    voiced: int = 0  # frames with a voice

    @property
    def samples(self) -> Samples:
        """The sound of all frames."""
        return np.concatenate(self.frames)


class Cutter:
    """Collects frames into utterances."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._frames: list[Samples] = []
        self._quiet = self._voiced = 0  # frames since the last one with a voice, and frames with a voice
        self._at = self._start = 0  # in samples: end of the added sound, start of the current utterance

    def add(self, frame: Samples, voice: bool) -> Utterance | None:
        """Add the next frame; returns the utterance that it ends, if any."""
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
        """The last utterance, if any."""
        found = None
        if self._voiced >= _LEAST:
            found = Utterance(self._start / SOUND_RATE, tuple(self._frames), self._voiced)
        self._frames, self._quiet, self._voiced, self._start = [], 0, 0, self._at
        return found
