"""Words by a Whisper model in the place of the built-in recogniser: any language, names, better text.

The model lies in a folder in CTranslate2's form (`model.bin`, `config.json`, `tokenizer.json`, a
vocabulary) and runs through faster-whisper. It is given windows of voice that end in a pause, none longer
than the 30 s that Whisper hears at once, so that memory stays bounded whatever the length of the video.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tl_data.local.perception.decode import SOUND_RATE, Samples
from tl_data.local.perception.evidence import ModelFailed, Span, Word
from tl_data.local.perception.vad import Cutter, Limits, Utterance

# From 19.8 s on a pause ends a window, at 27.9 s it ends anyway, and after 3 s without a voice in any case.
_LIMITS = Limits(longest=930, long=660, silence=100)
_CIRCLES = 2.4  # Whisper's own sign of a text that goes in circles: it packs better than speech does


class Windows:
    """The recogniser: gives each window with a voice to the model."""

    def __init__(self, folder: Path) -> None:
        self._model = load(folder)
        self._language: tuple[str, float] | None = None  # as heard in the first window that tells it surely
        self._cutter = Cutter(_LIMITS)
        self._spans: list[Span] = []

    def add(self, frame: Samples, voice: bool) -> None:
        """Take the next frame of the sound."""
        self._take(self._cutter.add(frame, voice))

    def finish(self) -> tuple[Span, ...]:
        """What was said, in order."""
        self._take(self._cutter.finish())
        return tuple(self._spans)

    def _take(self, window: Utterance | None) -> None:
        if window is not None:
            self._spans += self._hear(window.samples, window.start_sec)

    def _hear(self, samples: Samples, start: float) -> list[Span]:
        wave = samples.astype(np.float32) / 32768
        try:
            # A window stands for itself: what came before it may have been another speaker or language. It is
            # searched by beams and never sampled: the same sound gives the same words.
            segments, info = self._model.transcribe(
                wave,
                language=self._language[0] if self._language else None,
                temperature=0.0,
                word_timestamps=True,
                condition_on_previous_text=False,
            )
            found = [segment for segment in segments if segment.compression_ratio <= _CIRCLES]
        except (RuntimeError, ValueError) as error:
            raise ModelFailed(f"the Whisper model failed: {error}") from error
        heard = self._language or (info.language, round(float(info.language_probability), 3))
        if heard[1] > 0.5:
            self._language = heard  # to find it out anew for each window would double the work
        end = start + samples.size / SOUND_RATE
        spans = [span for segment in found if (span := _span(segment, start, end))]
        if not self._model.model.is_multilingual:  # it names its only language whatever it hears
            return spans
        return [replace(span, language=heard[0], language_confidence=heard[1]) for span in spans]


def _span(segment: Any, start: float, end: float) -> Span | None:
    """A segment of the model as a span in the video's time; None if it says nothing."""
    words = []
    for word in segment.words or ():
        if text := word.word.strip():
            first = min(end, start + max(0.0, float(word.start)))
            last = min(end, max(first, start + float(word.end)))
            words.append(Word(round(first, 2), round(last, 2), text, round(float(word.probability), 3)))
    text = segment.text.strip()
    if not text or not words:
        return None
    first, last = words[0].start_sec, max(words[-1].end_sec, words[0].start_sec + 0.1)
    sure = round(sum(word.confidence for word in words) / len(words), 3)
    return Span(first, round(min(last, max(end, first + 0.1)), 2), text, sure, words=tuple(words))


@lru_cache(maxsize=1)
def load(folder: Path) -> Any:
    """The model of a folder; loaded once a process.

    Raises:
        ModelFailed: the files are no Whisper model for CTranslate2.
    """
    from faster_whisper import WhisperModel

    try:
        return WhisperModel(
            str(folder), device="auto", cpu_threads=max(1, (os.cpu_count() or 2) // 2), local_files_only=True
        )
    except Exception as error:
        raise ModelFailed(
            f"the Whisper model in {folder} (TL_LOCAL_WHISPER) cannot be loaded: {error}. It must be a model "
            "for faster-whisper, as ct2-transformers-converter makes it"
        ) from error
