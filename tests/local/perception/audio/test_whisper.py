"""The speech stage by a Whisper model: a tiny one of random weights is loaded, hears, and is named."""

from __future__ import annotations

import asyncio
import shutil
import sys
import wave
from pathlib import Path

import pytest

from tests.support.tiny_whisper import WORDS, make_whisper
from tl_data.demo.speech_synthesis import speak
from tl_data.errors import SettingsError
from tl_data.local.models import Tiers, read_tiers
from tl_data.local.perception.audio import speech
from tl_data.local.perception.audio.whisper import load
from tl_data.local.perception.evidence import Evidence, ModelFailed, from_json, to_json
from tl_data.local.perception.languages import NAMES, sure_languages
from tl_data.local.perception.worker_pool import WorkerPool

SILENCE = 2.0  # seconds before and after the voice


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_whisper(tmp_path_factory.mktemp("models") / "whisper-tiny.en")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence between two silences."""
    samples, rate = speak("Please keep the emergency exit clear.")
    quiet = bytes(2 * round(SILENCE * rate))
    with wave.open(str(path := tmp_path_factory.mktemp("sound") / "said.wav"), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(quiet + samples.tobytes() + quiet)
    return path


def test_it_hears_words_with_times_and_confidences(whisper: Path, sound: Path) -> None:
    result = speech.listen(sound, whisper=whisper)
    length = len(result.seconds)
    assert result.speech
    words = [word for span in result.speech for word in span.words]
    assert {word.text for word in words} <= set(WORDS)
    for span in result.speech:
        assert SILENCE - 0.5 <= span.start_sec < span.end_sec <= length  # where the voice is
        assert span.text.split() == [word.text for word in span.words]
        assert 0 <= span.confidence <= 1
    for word in words:
        assert 0 <= word.start_sec <= word.end_sec <= length
        assert 0 <= word.confidence <= 1
    built_in = speech.listen(sound)
    assert "emergency" in built_in.speech[0].text  # the tiny model took its place, and nothing else changed
    assert built_in.speech_model == "whisper-base"
    assert (result.seconds == built_in.seconds).all()


def test_the_small_one_knows_english_alone(sound: Path) -> None:
    result = speech.listen(sound, name="whisper-tiny.en")
    assert result.speech_model == "whisper-tiny.en"
    assert "emergency" in result.speech[0].text
    assert {(span.language, span.language_confidence) for span in result.speech} == {("", 0.0)}


def test_silence_is_never_given_to_it(whisper: Path, tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "silence.wav"), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes(bytes(2 * 16_000 * 3))
    assert speech.listen(tmp_path / "silence.wav", whisper=whisper).speech == ()


def twice(sound: Path, folder: Path) -> Path:
    """The sentence two times, so far apart that each is a window of its own."""
    with wave.open(str(sound)) as given:
        how, samples = given.getparams(), given.readframes(given.getnframes())
    with wave.open(str(path := folder / "twice.wav"), "wb") as out:
        out.setparams(how)
        out.writeframes(samples + samples)
    return path


def test_a_multilingual_one_names_the_language(sound: Path, tmp_path: Path) -> None:
    given = dict.fromkeys(NAMES, 0.0) | {"de": 6.0}
    folder = make_whisper(tmp_path / "whisper-tiny", languages=given)
    assert load(folder).model.is_multilingual
    result = speech.listen(twice(sound, tmp_path), whisper=folder)
    assert {word.text for span in result.speech for word in span.words} <= set(WORDS)
    # The certain result of the first window is used for the second as well: one confidence for both.
    assert len({round(span.start_sec) for span in result.speech}) > 1
    assert {span.language for span in result.speech} == {"de"}
    assert len(sures := {span.language_confidence for span in result.speech}) == 1
    assert 0.5 < sures.pop() <= 1
    assert result.speech[0].language_confidence == pytest.approx(likely(folder, sound)["de"], abs=0.05)


def test_a_language_that_is_not_sure_is_not_kept_for_the_next_window(sound: Path, tmp_path: Path) -> None:
    folder = make_whisper(tmp_path / "whisper-tiny", languages=dict.fromkeys(NAMES, 0.0))
    result = speech.listen(twice(sound, tmp_path), whisper=folder)
    assert result.speech
    assert all(span.language in NAMES and 0 < span.language_confidence <= 0.5 for span in result.speech)
    assert len({span.language_confidence for span in result.speech}) == 2  # each window tells its own
    assert sure_languages(result.speech) == {}


def likely(folder: Path, sound: Path) -> dict[str, float]:
    """What the model itself says of the language of a whole file."""
    from faster_whisper import decode_audio

    return dict(load(folder).detect_language(decode_audio(str(sound)))[2])


def look(path: Path, folder: Path, chosen: Tiers) -> Evidence:
    async def looked() -> Evidence:
        pool = WorkerPool(1, tiers=chosen)
        try:
            return await pool.analyze(path, folder)
        finally:
            await pool.aclose()

    return asyncio.run(looked())


def test_a_worker_uses_the_model_and_names_it(whisper: Path, sound: Path, tmp_path: Path) -> None:
    chosen = read_tiers(whisper=str(whisper), environment={})
    evidence = look(sound, tmp_path / "frames", chosen)
    assert evidence.speech_model == chosen.speech_model
    assert evidence.speech == speech.listen(sound, whisper=whisper).speech
    # It is an English-only one: it would name English whatever is said.
    assert {(span.language, span.language_confidence) for span in evidence.speech} == {("", 0.0)}
    assert from_json(to_json(evidence)) == evidence
    assert chosen.search_model == f"tl-local-2-{chosen.speech_model}"
    assert chosen.speech_model.startswith("whisper-whisper-tiny.en-")


def test_a_model_that_cannot_be_loaded_fails_the_look(whisper: Path, sound: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(whisper, tmp_path / "broken")
    (broken / "model.bin").write_bytes(b"not a model")
    chosen = read_tiers(whisper=str(broken), environment={})
    assert chosen.speech_model != read_tiers(whisper=str(whisper), environment={}).speech_model
    with pytest.raises(ModelFailed, match="TL_LOCAL_WHISPER"):
        look(sound, tmp_path / "frames", chosen)


def test_missing_files_are_named(whisper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    partly = shutil.copytree(whisper, tmp_path / "partly")
    (partly / "tokenizer.json").unlink()
    with pytest.raises(SettingsError, match=r"tokenizer\.json is missing.*ct2-transformers-converter"):
        read_tiers(whisper=str(partly), environment={})
    monkeypatch.setitem(sys.modules, "faster_whisper", None)  # to the importer: not there
    with pytest.raises(SettingsError, match=r"pip install .tl_data\[local-whisper\]"):
        read_tiers(whisper=str(whisper), environment={})
