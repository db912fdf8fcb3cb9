"""Splits sound into utterances, at pauses of the voice, for a speech recogniser."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tl_data.local.perception.decode import SOUND_RATE, Samples

FRAME = 480  # samples of a frame, 30 ms
FRAMES_BEFORE = 6  # frames kept before the first one with a voice
PAUSE_FRAMES = 14  # frames without a voice that separate two sentences
_MIN_VOICED = 8  # smallest number of frames with a voice, a quarter of a second; fewer are a click


@dataclass(frozen=True)
class Limits:
    """The limits of an utterance, in frames of 30 ms."""

    longest: int  # an utterance ends at this length, even within a word
    long: int = 0  # from this length on, a pause (`PAUSE_FRAMES`) ends the utterance
    silence: int = PAUSE_FRAMES  # this many frames without a voice end an utterance of any length


@dataclass(frozen=True)
class Utterance:
    """A part of the sound with a voice, including a few frames before it and the pause after it."""

    start_sec: float
    frames: tuple[Samples, ...]
    voiced: int = 0  # frames with a voice

    @property
    def samples(self) -> Samples:
        """The samples of all frames."""
        return np.concatenate(self.frames)


class UtteranceSplitter:
    """Collects frames into utterances."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._frames: list[Samples] = []
        self._unvoiced = 0  # number of frames since the last one with a voice
        self._voiced = 0  # number of frames with a voice
        self._end = 0  # end of the added sound, in samples
        self._start = 0  # start of the current utterance, in samples

    def add(self, frame: Samples, voice: bool) -> Utterance | None:
        """Add the next frame. Returns the utterance that ends with it, or None."""
        self._end += frame.size
        self._frames.append(frame)
        self._voiced += voice
        self._unvoiced = 0 if voice else self._unvoiced + 1
        if not self._voiced:
            if len(self._frames) > FRAMES_BEFORE:
                self._frames.pop(0)
            self._start = self._end - sum(part.size for part in self._frames)
            return None
        long = len(self._frames) >= self._limits.long and self._unvoiced >= PAUSE_FRAMES
        ends = long or self._unvoiced >= self._limits.silence or len(self._frames) >= self._limits.longest
        return self.finish() if ends else None

    def finish(self) -> Utterance | None:
        """End the current utterance and return it; None if it has too little voice."""
        utterance = None
        if self._voiced >= _MIN_VOICED:
            utterance = Utterance(self._start / SOUND_RATE, tuple(self._frames), self._voiced)
        self._frames, self._unvoiced, self._voiced, self._start = [], 0, 0, self._end
        return utterance
