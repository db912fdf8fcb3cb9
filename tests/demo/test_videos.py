"""The videos that the demo makes are real ones, and the same each time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import av
import pytest

from tl_data.demo.scene import Scene
from tl_data.demo.scripts import SCRIPTS
from tl_data.demo.speech_synthesis import speak
from tl_data.demo.videos import make_video
from tl_data.errors import TLDataError

SCENES = [
    Scene(1.0, "Hello", speech="Hello.", shape="circle", path=((0.2, 0.6), (0.8, 0.6))),
    Scene(1.0, background="red", backdrop="city", camera="zoom in", shape="rain", color="white", tone=220),
]


def test_a_video_has_picture_and_sound_of_one_length(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a b.mp4", SCENES, width=480, height=360, fps=25)
    with av.open(str(path)) as container:
        picture, sound = container.streams.video[0], container.streams.audio[0]
        assert picture.codec_context.name == "h264"
        assert sound.codec_context.name == "aac"
        assert (picture.width, picture.height, picture.average_rate) == (480, 360, 25)
        assert picture.frames == 50
        assert container.duration is not None
        assert container.duration / 1e6 == pytest.approx(2.0, abs=0.06)
    # The index stands before the media: a reader over HTTP needs one request to know the file.
    head = path.read_bytes()[:4096]
    assert head.index(b"moov") < len(head)
    assert list(tmp_path.iterdir()) == [path]


def test_the_same_scenes_give_the_same_bytes(tmp_path: Path) -> None:
    one = make_video(tmp_path / "one.mp4", SCENES, width=360, height=640, fps=10)
    two = make_video(tmp_path / "two.mp4", SCENES, width=360, height=640, fps=10)
    assert one.read_bytes() == two.read_bytes()


def test_speech_is_sound_and_the_same_each_time() -> None:
    samples, rate = speak("Keep the emergency exit clear.")
    again, _ = speak("Keep the emergency exit clear.")
    assert rate > 16_000
    assert 1.0 < len(samples) / rate < 5.0
    assert abs(samples).max() > 5_000
    assert (samples == again).all()


def test_an_unknown_voice_is_named() -> None:
    with pytest.raises(TLDataError, match="no-such-voice"):
        speak("Hello.", voice="no-such-voice")


def test_the_demo_asks_of_everything_it_shows() -> None:
    asked = Counter(kind for script in SCRIPTS for _, kind, _ in script.asks)
    assert min(asked["spoken"], asked["shown"], asked["visible"]) >= 3
    assert len(SCRIPTS) >= 6
    for script in SCRIPTS:
        assert 15 <= sum(scene.seconds for scene in script.scenes) <= 60
        for number, _, _ in script.asks:
            assert number < len(script.scenes)
    assert any(script.options.get("audio") is False for script in SCRIPTS)
    assert any(script.options.get("height", 720) > script.options.get("width", 1280) for script in SCRIPTS)
