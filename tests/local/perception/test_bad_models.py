"""Models of another version, models that fail, and videos and languages that are hard on them."""

from __future__ import annotations

import logging
import wave
from pathlib import Path

import numpy as np
import pytest

from tests.support.drawn_things import clock, film
from tl_data.demo.speech_synthesis import speak
from tl_data.local import weights
from tl_data.local.perception.analyzer import _FrameAnalyzer, analyze
from tl_data.local.perception.attributes import words_of
from tl_data.local.perception.audio import speech
from tl_data.local.perception.decode import Picture, frames, probe
from tl_data.local.perception.vision import objects


class FailsOnce(objects.ObjectModels):
    """The real models; the second frame is a picture that OpenCV refuses."""

    def __init__(self) -> None:
        super().__init__(detector=False)
        self.asked = 0

    def detect(self, time: float, picture: Picture) -> objects.FrameResult:
        self.asked += 1
        return super().detect(time, picture[:0] if self.asked == 2 else picture)


def test_a_frame_on_which_a_model_fails_is_skipped_counted_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = film(tmp_path / "clock.mp4", [(clock(), 6.0)])
    facts, models = probe(path), FailsOnce()
    analyzer = _FrameAnalyzer(None, None, models)
    with caplog.at_level(logging.WARNING, "tl_data.local"):
        for frame in frames(path, facts, []):
            analyzer.add(frame)
        analyzer.finish(facts.duration_sec)
    assert models.asked == 3
    assert sum(clip.frames for clip in analyzer.clips) == 2
    assert "clock" in {
        name for clip in analyzer.clips for label in clip.labels for name in label.name.split()
    }
    assert len(analyzer.notes) == 1
    assert [record.levelname for record in caplog.records if record.name == "tl_data.local"] == ["WARNING"]


def test_weights_of_another_version_turn_the_model_off() -> None:
    """NumPy stands for the package; its version is certainly not 0.0.1."""
    weight = weights.Weight("numpy", "0.0.1", "", "__init__.py", 0, "")
    model = weights.Model("a-model", "see", "nothing", (weight,), (), "none")
    problem = weights.problem(model)
    assert np.__version__ in problem
    assert "numpy==0.0.1" in problem


@pytest.mark.parametrize(
    ("width", "height", "fps"), [(320, 240, 240), (360, 640, 10)], ids=["240 fps", "portrait"]
)
def test_a_thing_is_recognised_at_any_rate_and_shape(
    width: int, height: int, fps: int, tmp_path: Path
) -> None:
    """Four seconds are analysed in two frames, however many they have."""
    evidence = analyze(film(tmp_path / "clock.mp4", [(clock(width, height), 4.0)], fps))
    assert sum(clip.frames for clip in evidence.clips) == 2
    [clip] = evidence.clips
    assert (clip.start_sec, clip.end_sec) == (0, pytest.approx(4, abs=0.1))
    assert "clock" in clip.labels[0].name


def test_nothing_is_said_about_a_black_video(tmp_path: Path) -> None:
    evidence = analyze(film(tmp_path / "black.mp4", [(np.zeros((360, 640, 3), np.uint8), 4.0)]))
    assert [words_of(clip, evidence).named for clip in evidence.clips] == [""]
    assert (evidence.shown, evidence.speech, evidence.clips[0].objects) == ((), (), ())


def test_a_language_that_the_small_model_does_not_know_is_not_named(tmp_path: Path) -> None:
    """tiny.en knows English alone, so it names no language; base names German."""
    samples, rate = speak(
        "Guten Morgen. Heute ist das Wetter schön, und wir gehen in den Garten.", voice="de"
    )
    with wave.open(str(path := tmp_path / "german.wav"), "wb") as out:
        out.setparams((1, 2, rate, 0, "NONE", ""))
        out.writeframes(bytes(rate) + samples.tobytes() + bytes(rate))
    small, base = (speech.listen(path, name=name).speech for name in ("whisper-tiny.en", "whisper-base"))
    assert {span.language for span in small} == {""}
    assert {span.language for span in base} == {"de"}
    assert "Guten Morgen" in " ".join(span.text for span in base)
