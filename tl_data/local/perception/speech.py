"""Words that are spoken, with their times: voice activity first, then recognition.

The recogniser and its small US-English model come in the pocketsphinx wheel. Clear speech comes out mostly
right, names and technical words often wrong; other readings are kept beside the best one for search.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tl_data.local.perception import decode, sound
from tl_data.local.perception.decode import SOUND_RATE, Samples
from tl_data.local.perception.evidence import Span, Word
from tl_data.local.perception.vad import FRAME, PAD, Cutter, Limits, Utterance

_LIMITS = Limits(longest=400)  # 12 s
_HISS = 80.0  # deviation of the noise that is mixed in: the models were trained on rooms, not on silence
_LOUDNESS = 12_000  # highest sample after levelling
_LEAD = 0.3  # seconds of quiet put around an utterance
_LONGEST_WORD = 120  # hundredths of a second
_SLOWEST = 1.4  # words a second
_UNSURE = 0.55  # confidence below which a few words alone are taken for noise
_COMPARED = 30  # readings of an utterance that are compared


@dataclass(frozen=True)
class Heard:
    """The sound of a video: words, and a row of measurements for each second (see sound.measure)."""

    speech: tuple[Span, ...]
    seconds: npt.NDArray[np.float32]
    notes: tuple[str, ...] = ()


class Recogniser(Protocol):
    """The speech stage: takes the sound in frames of 30 ms and gives what was said."""

    def add(self, frame: Samples, voice: bool) -> None:
        """The next frame, and whether there is a voice in it."""

    def finish(self) -> tuple[Span, ...]:
        """What was said in all frames, in order."""


def recogniser(whisper: Path | None = None) -> Recogniser:
    """The built-in one, or the Whisper model of a folder.

    Raises:
        ModelFailed: the folder's model cannot be loaded.
    """
    if whisper is None:
        return _BuiltIn()
    from tl_data.local.perception.whisper import Windows

    return Windows(whisper)


def listen(path: Path, on_second: Callable[[int], None] | None = None, whisper: Path | None = None) -> Heard:
    """Hear the first sound stream of a file, in one pass and bounded memory; see `recogniser`."""
    from pocketsphinx import Vad

    vad = Vad(mode=2, sample_rate=SOUND_RATE, frame_length=FRAME / SOUND_RATE)
    words = recogniser(whisper)
    rows: list[npt.NDArray[np.float32]] = []
    rest = np.zeros(0, np.int16)
    for block in decode.sound(path):
        rest = np.concatenate((rest, block)) if rest.size else block
        while rest.size >= SOUND_RATE:
            rows.append(_second(rest[:SOUND_RATE], vad, words))
            rest = rest[SOUND_RATE:]
            if on_second is not None:
                on_second(len(rows))
    if rest.size:
        rows.append(_second(rest, vad, words))
    seconds = np.stack(rows) if rows else np.zeros((0, sound.COLUMNS), np.float32)
    return Heard(words.finish(), seconds)


def _second(samples: Samples, vad: Any, words: Recogniser) -> npt.NDArray[np.float32]:
    voiced = 0
    count = 0
    for at in range(0, samples.size, FRAME):
        frame = samples[at : at + FRAME]
        voice = False
        if frame.size == FRAME and np.abs(frame).max() > 200:
            voice = bool(vad.is_speech(frame.tobytes()))
        words.add(frame, voice)
        voiced += voice
        count += 1
    return sound.measure(samples, voiced / max(1, count))


class _BuiltIn:
    """The recogniser of the pocketsphinx wheel, utterance by utterance."""

    def __init__(self) -> None:
        self._cutter = Cutter(_LIMITS)
        self._spans: list[Span] = []
        # One decoder a file: it keeps means of what it heard, and no other file may change these.
        self._decoder: Any = None

    def add(self, frame: Samples, voice: bool) -> None:
        self._take(self._cutter.add(frame, voice))

    def finish(self) -> tuple[Span, ...]:
        self._take(self._cutter.finish())
        return tuple(self._spans)

    def _take(self, utterance: Utterance | None) -> None:
        if utterance is not None and _lively(utterance):
            if self._decoder is None:
                self._decoder = _decoder()
            self._spans += recognise(self._decoder, utterance.samples, utterance.start_sec)


def _lively(utterance: Utterance) -> bool:
    """Whether the loudness goes up and down as with syllables, and not as with a held tone or a hum."""
    levels = [20 * np.log10(frame.astype(np.float32).std() + 1) for frame in utterance.frames[PAD:]]
    return float(np.percentile(levels, 80) - np.percentile(levels, 20)) > 3 if levels else False


def recognise(decoder: Any, samples: Samples, start: float) -> list[Span]:
    """The words of one utterance that begins at `start` seconds, as at most one span."""
    decoder.start_utt()
    decoder.process_raw(_prepared(samples).tobytes(), full_utt=True)
    decoder.end_utt()
    parts = [(_plain(part.word), part.start_frame, part.end_frame + 1) for part in decoder.seg() or ()]
    spoken = [part for part in parts if part[0] and part[2] - part[1] < _LONGEST_WORD]
    # Music and noise come out as a few long words; nobody speaks that slowly.
    if len(spoken) < _SLOWEST * (samples.size / SOUND_RATE - 2 * PAD * FRAME / SOUND_RATE):
        return []
    text = " ".join(word for word, *_ in spoken)
    first = start + max(0.0, spoken[0][1] / 100 - _LEAD)
    last = start + min(samples.size / SOUND_RATE, spoken[-1][2] / 100 - _LEAD)
    others = _others(decoder)
    sure = _agreement([word for word, *_ in spoken], others)
    if sure < _UNSURE and len(spoken) < 4:
        return []
    return [
        Span(
            round(first, 2),
            round(max(last, first + 0.1), 2),
            text,
            sure,
            _more(text, others),
            tuple(_timed(part, start, samples.size / SOUND_RATE, others) for part in spoken),
        )
    ]


def _timed(part: tuple[str, int, int], start: float, length: float, others: list[str]) -> Word:
    """A word of an utterance that begins at `start` seconds; sure is what most readings have."""
    text, first, last = part
    begin, end = (min(length, max(0.0, frame / 100 - _LEAD)) for frame in (first, last))
    sure = _agreement([text], others)
    return Word(round(start + begin, 2), round(start + max(end, begin + 0.01), 2), text, sure)


def _others(decoder: Any) -> list[str]:
    """The best readings of the utterance, best first."""
    found = islice(decoder.nbest() or (), _COMPARED)
    return [
        " ".join(filter(None, (_plain(word) for word in other.hypstr.split()))) for other in found if other
    ]


def _more(text: str, others: list[str]) -> tuple[str, ...]:
    """The readings that have a word which none before has: all that search can gain from them."""
    known, kept = set(text.split()), []
    for other in others:
        if fresh := set(other.split()) - known:
            kept.append(other)
            known |= fresh
    return tuple(kept)


def _agreement(words: list[str], others: list[str]) -> float:
    """How sure the words are: the mean share of readings in which each occurs."""
    if not others:
        return 0.5
    sets = [set(other.split()) for other in others]
    return round(sum(word in found for word in words for found in sets) / len(words) / len(sets), 3)


def _prepared(samples: Samples) -> Samples:
    """At a usual loudness, with a little silence around it and the hiss of a quiet room."""
    wave = samples.astype(np.float32)
    peak = float(np.abs(wave).max()) or 1.0
    wave *= min(8.0, _LOUDNESS / peak)
    wave = np.pad(wave, round(_LEAD * SOUND_RATE))
    wave += np.random.default_rng(samples.size).normal(0, _HISS, wave.size)
    return np.clip(wave, -32768, 32767).astype(np.int16)


def _plain(word: str) -> str:
    """A word of the recogniser's dictionary as one writes it; "" for its marks of silence and noise."""
    return "" if word.startswith(("<", "[", "+")) else re.sub(r"\(\d+\)$", "", word)


def _decoder() -> Any:
    from pocketsphinx import Decoder

    return Decoder(samprate=SOUND_RATE, loglevel="FATAL", maxhmmpf=3000)
