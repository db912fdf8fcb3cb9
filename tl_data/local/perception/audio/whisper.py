"""Words by Whisper: base (99 languages) or tiny.en from their packages, or a model of a folder.

A model in CTranslate2's form (`model.bin`, `config.json`, `tokenizer.json`, a vocabulary) runs through
faster-whisper. It is given windows of voice that end in a pause, none longer than the 30 s that Whisper hears
at once, so that memory stays bounded for a video of any length. The weights are read when the first voice is
heard: a video without speech costs none of their memory.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tl_data.local import weights
from tl_data.local.perception.audio.vad import FRAME, Cutter, Limits, Utterance
from tl_data.local.perception.decode import SOUND_RATE, Samples
from tl_data.local.perception.evidence import ModelFailed, Span, Word
from tl_data.local.weights import Model

# From 19.8 s on a pause ends a window, at 27.9 s it ends anyway, and after 3 s without a voice in any case.
_LIMITS = Limits(longest=930, long=660, silence=100)
_CIRCLES = 2.4  # Whisper's own sign of a text that goes in circles: it packs better than speech does
_LEAST_VOICE = 0.3  # seconds of voice in a window; Whisper invents words for less
_FOREIGN = 0.6  # probability from which on speech is in another language than English
_UNHEARD = 0.6  # probability of no speech from which on a segment of unlikely words is dropped
_UNLIKELY = -0.9  # mean log probability of its words
_UNSURE = 0.2  # mean probability of its words below which a segment is dropped
_TOKENS, _TOKENS_A_SECOND = 30, 10  # words that a window can hold: without a limit a laugh fills the page


def shipped(name: str = "") -> Model | None:
    """The Whisper model of that name from a package, or the best that is installed; None without one.

    Raises:
        ModelFailed: the one that is named is not installed.
    """
    for model in (weights.WHISPER_BASE, weights.WHISPER_TINY):
        if name in ("", model.name):
            found = weights.problem(model)
            if not found:
                return model
            if name:
                raise ModelFailed(found)
    return None


class Windows:
    """The recogniser: gives each window with a voice to the model.

    Args:
        source: a folder, or a model of a package.
        name: of the model, as the evidence keeps it.
    """

    def __init__(self, source: Path | Model, name: str = "") -> None:
        self.name = name
        self._source = source
        if isinstance(source, Path):
            load(source)  # a folder that holds no model is a wrong setting, also of a video without speech
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
        if window is not None and window.voiced * FRAME / SOUND_RATE >= _LEAST_VOICE:
            self._spans += self._hear(window.samples, window.start_sec)

    def _hear(self, samples: Samples, start: float) -> list[Span]:
        wave = samples.astype(np.float32) / 32768
        model = load(self._source)
        many = bool(model.model.is_multilingual)
        try:
            language, sure = self._language or (_language(model, wave) if many else ("en", 1.0))
            # A window stands for itself: what came before it may have been another speaker or language. It is
            # never sampled: the same sound gives the same words.
            segments, _ = model.transcribe(
                wave,
                language=language,
                beam_size=1 if isinstance(self._source, Model) else 5,
                temperature=0.0,
                word_timestamps=True,
                condition_on_previous_text=False,
                max_new_tokens=_TOKENS + int(_TOKENS_A_SECOND * samples.size / SOUND_RATE),
            )
            found = [segment for segment in segments if self._is_speech(segment)]
        except (RuntimeError, ValueError) as error:
            raise ModelFailed(f"the Whisper model failed: {error}") from error
        if many and sure >= _FOREIGN:
            self._language = language, sure  # to find it out anew for each window would double the work
        end = start + samples.size / SOUND_RATE
        spans = [span for segment in found if (span := _span(segment, start, end))]
        if isinstance(self._source, Model):  # how sure another model is when it is right is not known here
            spans = [span for span in spans if span.confidence >= _UNSURE]
        if not many:  # it names its only language whatever it hears
            return spans
        return [replace(span, language=language, language_confidence=sure) for span in spans]

    def _is_speech(self, segment: Any) -> bool:
        """Whether a segment is words and no circle, and not made up where hardly anybody speaks."""
        made_up = segment.no_speech_prob > _UNHEARD and segment.avg_logprob < _UNLIKELY
        ours = isinstance(self._source, Model)  # the limits were measured with these models
        return bool(segment.compression_ratio <= _CIRCLES and not (ours and made_up))


def _language(model: Any, wave: Any) -> tuple[str, float]:
    """The language of a window with its probability: English unless another one is likely."""
    language, sure, every = model.detect_language(wave)
    if language != "en" and sure < _FOREIGN:
        language, sure = "en", next((float(share) for code, share in every if code == "en"), 0.0)
    return language, round(float(sure), 3)


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
def load(source: Path | Model) -> Any:
    """The model of a folder or package; loaded once a process.

    Raises:
        ModelFailed: the files are no Whisper model for CTranslate2, or not those that were released.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when the hub's client is imported
    from faster_whisper import WhisperModel

    threads = max(1, (os.cpu_count() or 2) // 2)
    if isinstance(source, Model):
        files = weights.read(source)
        parts = [files.pop(name) for name in sorted(files) if name.startswith("model.bin")]
        try:
            return WhisperModel(
                source.name,
                device="cpu",
                compute_type="int8",
                cpu_threads=threads,
                local_files_only=True,
                files={**files, "model.bin": b"".join(parts)},
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise ModelFailed(f"{source.name} cannot be loaded: {error}") from error
    try:
        return WhisperModel(str(source), device="auto", cpu_threads=threads, local_files_only=True)
    except Exception as error:
        raise ModelFailed(
            f"the Whisper model in {source} (TL_LOCAL_WHISPER) cannot be loaded: {error}. It must be a model "
            "for faster-whisper, as ct2-transformers-converter makes it"
        ) from error
