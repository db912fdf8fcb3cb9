"""Transcription by Whisper: base (99 languages) or tiny.en from their packages, or a model in a folder.

Models in the format of CTranslate2 (`model.bin`, `config.json`, `tokenizer.json`, a vocabulary) run in
faster-whisper. The input consists of windows with a voice. A window ends at a pause and lasts at most 30 s,
which bounds the memory. The weights of a package are loaded at the first window, so videos without speech do
not need their memory.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tl_data.local import weights
from tl_data.local.perception.audio.vad import FRAME, Limits, Utterance, UtteranceSplitter
from tl_data.local.perception.decode import SOUND_RATE, Samples
from tl_data.local.perception.evidence import ModelFailed, Span, Word
from tl_data.local.weights import Model

THREADS = 0  # threads of the recogniser; 0: half of the cores
# A window ends at the first pause after 19.8 s, at the latest at 27.9 s, or after 3 s without a voice.
_LIMITS = Limits(longest=930, long=660, silence=100)
_MAX_COMPRESSION = 2.4  # Whisper's own limit; the compression ratio of repetitive text is above it
_MIN_VOICE_SECONDS = 0.3  # of a window; with less voice, Whisper invents words
_MIN_FOREIGN = 0.6  # smallest probability of a language other than English
_MAX_NO_SPEECH = 0.6  # largest probability that a segment with improbable words has no speech
_MIN_LOG_PROBABILITY = -0.9  # mean log probability below which the words of a segment are improbable
_MIN_CONFIDENCE = 0.2  # smallest mean probability of the words of a segment
#: Largest number of tokens of a window: a fixed number, and a number per second. Without a limit, laughter
#: gives endless text.
_TOKENS, _TOKENS_PER_SECOND = 30, 10


def packaged_model(name: str = "") -> Model | None:
    """The packaged Whisper model of this name. "" selects the best installed one; None if there is none.

    Raises:
        ModelFailed: the model `name` is not installed.
    """
    for model in (weights.WHISPER_BASE, weights.WHISPER_TINY):
        if name in ("", model.name):
            problem = weights.problem(model)
            if not problem:
                return model
            if name:
                raise ModelFailed(problem)
    return None


class Windows:
    """The recogniser: divides the sound into windows and passes those with a voice to the model.

    Args:
        source: the folder of a model, or the record of a packaged one.
        name: the name of the model, as in the evidence.
    """

    def __init__(self, source: Path | Model, name: str = "") -> None:
        self.name = name
        self._source = source
        if isinstance(source, Path):
            load(source)  # a folder without a model must fail even if the video has no speech
        self._language: tuple[str, float] | None = None  # that of the first window whose language is certain
        self._splitter = UtteranceSplitter(_LIMITS)
        self._spans: list[Span] = []

    def add(self, frame: Samples, voice: bool) -> None:
        """Add the next frame of the sound."""
        self._add_window(self._splitter.add(frame, voice))

    def finish(self) -> tuple[Span, ...]:
        """The sentences in order."""
        self._add_window(self._splitter.finish())
        return tuple(self._spans)

    def _add_window(self, window: Utterance | None) -> None:
        """Transcribe a window that has enough voice."""
        if window is not None and window.voiced * FRAME / SOUND_RATE >= _MIN_VOICE_SECONDS:
            self._spans += self._transcribe(window.samples, window.start_sec)

    def _transcribe(self, samples: Samples, start: float) -> list[Span]:
        """The sentences of a window that starts at `start` seconds."""
        wave = samples.astype(np.float32) / 32768
        model = load(self._source)
        multilingual = bool(model.model.is_multilingual)
        try:
            language, probability = self._language or (
                _language(model, wave) if multilingual else ("en", 1.0)
            )
            # Each window is transcribed without its predecessor, which may have another speaker or language.
            # With the temperature 0, the same sound gives the same words.
            segments, _ = model.transcribe(
                wave,
                language=language,
                beam_size=1 if isinstance(self._source, Model) else 5,
                temperature=0.0,
                word_timestamps=True,
                condition_on_previous_text=False,
                max_new_tokens=_TOKENS + int(_TOKENS_PER_SECOND * samples.size / SOUND_RATE),
            )
            speech_segments = [segment for segment in segments if self._is_speech(segment)]
        except (RuntimeError, ValueError) as error:
            raise ModelFailed(f"the Whisper model failed: {error}") from error
        if multilingual and probability >= _MIN_FOREIGN:
            self._language = language, probability  # for later windows: detection would double their work
        end = start + samples.size / SOUND_RATE
        spans = [span for segment in speech_segments if (span := _span(segment, start, end))]
        if isinstance(self._source, Model):  # the threshold was measured with the packaged models only
            spans = [span for span in spans if span.confidence >= _MIN_CONFIDENCE]
        if not multilingual:  # a model with one language always reports that language
            return spans
        return [replace(span, language=language, language_confidence=probability) for span in spans]

    def _is_speech(self, segment: Any) -> bool:
        """Whether a segment is neither repetitive nor invented."""
        invented = segment.no_speech_prob > _MAX_NO_SPEECH and segment.avg_logprob < _MIN_LOG_PROBABILITY
        packaged = isinstance(self._source, Model)  # the limits were measured with packaged models only
        return bool(segment.compression_ratio <= _MAX_COMPRESSION and not (packaged and invented))


def _language(model: Any, wave: Any) -> tuple[str, float]:
    """The language of a window and its probability. It is English unless another language is probable."""
    language, probability, all_languages = model.detect_language(wave)
    if language != "en" and probability < _MIN_FOREIGN:
        language, probability = (
            "en",
            next(
                (float(other_probability) for code, other_probability in all_languages if code == "en"), 0.0
            ),
        )
    return language, round(float(probability), 3)


def _span(segment: Any, start: float, end: float) -> Span | None:
    """Convert a segment of the model to a span with times in the video; None if it has no words.

    `start` and `end` are those of the window.
    """
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
    confidence = round(sum(word.confidence for word in words) / len(words), 3)
    return Span(first, round(min(last, max(end, first + 0.1)), 2), text, confidence, words=tuple(words))


@lru_cache(maxsize=1)
def load(source: Path | Model) -> Any:
    """Load the model of a folder or package, once per process.

    Raises:
        ModelFailed: the files are not a Whisper model for CTranslate2, or a packaged file was altered.
    """
    from faster_whisper import WhisperModel

    threads = THREADS or max(1, (os.cpu_count() or 2) // 2)
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
    if not (source / "tokenizer.json").is_file():  # faster-whisper would download it
        raise ModelFailed(f"the Whisper model in {source} (TL_LOCAL_WHISPER) has no tokenizer.json")
    try:
        return WhisperModel(str(source), device="auto", cpu_threads=threads, local_files_only=True)
    except Exception as error:
        raise ModelFailed(
            f"the Whisper model in {source} (TL_LOCAL_WHISPER) cannot be loaded: {error}. It must be a model "
            "for faster-whisper, as ct2-transformers-converter makes it"
        ) from error
