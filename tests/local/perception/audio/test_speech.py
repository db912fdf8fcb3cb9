"""Clear speech is mostly understood, with its times; music and noise are not taken for words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from tl_data.demo.speech_synthesis import speak
from tl_data.local.perception.audio import speech
from tl_data.local.perception.decode import SOUND_RATE

Wave = npt.NDArray[np.float32]  # -1 to 1, 16 kHz

SENTENCES = (
    "You can drive one hundred miles on a single battery.",
    "On Sunday it will be warm and dry.",
    "The price is nine hundred dollars.",
    "Welcome to the safety briefing.",
)


def say(text: str) -> Wave:
    samples, rate = speak(text)
    at = np.arange(int(len(samples) * SOUND_RATE / rate)) * rate / SOUND_RATE
    return np.interp(at, np.arange(len(samples)), samples / 32768).astype(np.float32)


def record(path: Path, parts: Sequence[Wave]) -> Path:
    wave = np.concatenate(parts)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=SOUND_RATE)
        stream.layout = "mono"
        for start in range(0, len(wave), 1024):
            samples = (wave[None, start : start + 1024] * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(samples, "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, start, Fraction(1, SOUND_RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def quiet(seconds: float) -> Wave:
    return np.zeros(round(seconds * SOUND_RATE), np.float32)


def test_clear_speech_is_mostly_understood_and_has_its_times(tmp_path: Path) -> None:
    parts, places, at = [quiet(1.0)], [], 1.0
    for sentence in SENTENCES:
        wave = say(sentence)
        places.append((at, at + len(wave) / SOUND_RATE))
        parts += [wave, quiet(1.5)]
        at += len(wave) / SOUND_RATE + 1.5
    result = speech.listen(record(tmp_path / "speech.wav", parts))
    hit = total = 0
    for sentence, (start, end) in zip(SENTENCES, places, strict=True):
        spans = [span for span in result.speech if start - 0.5 < span.start_sec < end]
        assert spans, sentence
        assert spans[0].start_sec == pytest.approx(start, abs=0.5)
        assert spans[-1].end_sec == pytest.approx(end, abs=0.7)
        said = [word for span in spans for word in span.words]
        assert " ".join(word.text for word in said) == " ".join(span.text for span in spans)
        assert all(start - 0.6 < word.start_sec <= word.end_sec < end + 0.6 for word in said)
        assert all(one.start_sec <= two.start_sec for one, two in pairwise(said))
        # In its place: as many letters before a word as time.
        sizes = np.array([len(word.text) for word in said])
        letters = (np.cumsum(sizes) - sizes) / sizes.sum()
        assert [(w.start_sec - start) / (end - start) for w in said] == pytest.approx(list(letters), abs=0.2)
        assert all(0 <= word.confidence <= 1 for word in said)
        said, understood = words(sentence), {word for span in spans for word in words(span.text)}
        hit += sum(word in understood for word in said)
        total += len(said)
        assert all(0 < span.confidence <= 1 for span in spans)
        assert all(span.text not in span.alternatives for span in spans)
        for span in spans:  # each other reading has a word that none before has
            known = set(span.text.split())
            for other in span.alternatives:
                assert set(other.split()) - known
                known |= set(other.split())
    assert hit / total > 0.8
    assert len(result.seconds) == pytest.approx(at, abs=1)


def test_transcription_is_deterministic(tmp_path: Path) -> None:
    path = record(tmp_path / "speech.wav", [quiet(0.5), say(SENTENCES[1])])
    first, second = speech.listen(path), speech.listen(path)
    assert first.speech == second.speech


def test_music_noise_and_hum_are_not_words(tmp_path: Path) -> None:
    rng, clock = np.random.default_rng(1), np.arange(6 * SOUND_RATE) / SOUND_RATE
    hum = 0.2 * np.sin(2 * np.pi * 120 * clock)
    noise = rng.normal(0, 0.05, clock.size)
    melody = np.concatenate(
        [
            np.sin(2 * np.pi * pitch * clock[: SOUND_RATE // 2])
            for pitch in rng.choice((262, 294, 330, 392), 12)
        ]
    )
    melody = melody * 0.3 * (1 - (clock[: melody.size] % 0.5))
    for name, wave in (("hum", hum), ("noise", noise), ("melody", melody)):
        result = speech.listen(record(tmp_path / f"{name}.wav", [wave.astype(np.float32)]))
        assert result.speech == (), name


def test_a_file_without_sound_is_silent(tmp_path: Path) -> None:
    result = speech.listen(record(tmp_path / "quiet.wav", [quiet(3)]))
    assert result.speech == ()
    assert len(result.seconds) == 3
