"""Transcription by Whisper: base (99 languages) or tiny.en from their packages, or a model in a folder.

Models in the format of CTranslate2 (`model.bin`, `config.json`, `tokenizer.json`, a vocabulary) run in
faster-whisper. The input is windows of voice that end at a pause, at most 30 s long, which bounds the memory.
The weights are loaded at the first voice, so videos without speech do not need their memory.
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

# A window ends at a pause from 19.8 s on, at 27.9 s, or after 3 s without a voice.
_LIMITS = Limits(longest=930, long=660, silence=100)
_CIRCLES = 2.4  # largest compression ratio of a segment; repetitive text is above it (Whisper's own limit)
_LEAST_VOICE = 0.3  # least seconds of voice in a window; for less Whisper invents words
_FOREIGN = 0.6  # least probability of a language other than English
_UNHEARD = 0.6  # largest probability of no speech in a segment of improbable words
_UNLIKELY = -0.9  # mean log probability below which words are improbable
_UNSURE = 0.2  # least mean probability of the words of a segment
_TOKENS, _TOKENS_A_SECOND = 30, 10  # most tokens of a window; without a limit, laughter gives endless text


def shipped(name: str = "") -> Model | None:
    """The Whisper model of this name from its package, or the best installed one; None without one.

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
    """The recogniser: passes each window with a voice to the model.

    Args:
        source: a folder, or a model of a package.
        name: of the model, as the evidence keeps it.
    """

    def __init__(self, source: Path | Model, name: str = "") -> None:
        self.name = name
        self._source = source
        if isinstance(source, Path):
            load(source)  # fails now if the folder has no model, also for a video without speech
        self._language: tuple[str, float] | None = None  # of the first window in which it is certain
        self._cutter = Cutter(_LIMITS)
        self._spans: list[Span] = []

    def add(self, frame: Samples, voice: bool) -> None:
        """Add the next frame of the sound."""
        self._take(self._cutter.add(frame, voice))

    def finish(self) -> tuple[Span, ...]:
        """The sentences in order."""
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
            # Windows are independent: the one before may have another speaker or language. Decoding is
            # greedy, so that the same sound gives the same words.
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
            self._language = language, sure  # kept: detection in each window would double the work
        end = start + samples.size / SOUND_RATE
        spans = [span for segment in found if (span := _span(segment, start, end))]
        if isinstance(self._source, Model):  # the thresholds were measured with these models alone
            spans = [span for span in spans if span.confidence >= _UNSURE]
        if not many:  # a model with one language always reports it
            return spans
        return [replace(span, language=language, language_confidence=sure) for span in spans]

    def _is_speech(self, segment: Any) -> bool:
        """Whether a segment is neither repetitive nor invented."""
        made_up = segment.no_speech_prob > _UNHEARD and segment.avg_logprob < _UNLIKELY
        ours = isinstance(self._source, Model)  # the limits were measured with these models alone
        return bool(segment.compression_ratio <= _CIRCLES and not (ours and made_up))


def _language(model: Any, wave: Any) -> tuple[str, float]:
    """The language of a window with its probability: English unless another one is probable."""
    language, sure, every = model.detect_language(wave)
    if language != "en" and sure < _FOREIGN:
        language, sure = "en", next((float(share) for code, share in every if code == "en"), 0.0)
    return language, round(float(sure), 3)


def _span(segment: Any, start: float, end: float) -> Span | None:
    """A segment of the model as a span in the video's time; None if it has no words."""
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
    """The model of a folder or package, loaded once per process.

    Raises:
        ModelFailed: the files are no Whisper model for CTranslate2, or not those that were released.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # must be set before the hub's client is imported
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
