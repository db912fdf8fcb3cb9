"""Facts of a file, its pictures and its sound, and the pass over a whole video."""

from __future__ import annotations

import resource
from pathlib import Path

import cv2
import numpy as np
import orjson
import pytest

from tl_data.demo.scene import Scene
from tl_data.demo.videos import make_video
from tl_data.local.perception import decode
from tl_data.local.perception.analyzer import analyze
from tl_data.local.perception.evidence import Confidences, Evidence, from_json, to_json


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scenes = [
        Scene(3, caption="Harbor tour", background="navy"),
        Scene(
            4,
            background="white",
            shape="circle",
            color="red",
            size=0.4,
            path=((0.1, 0.6), (0.9, 0.6)),
            tone=220,
        ),
        Scene(3, caption="Thank you", background="green"),
    ]
    return make_video(tmp_path_factory.mktemp("media") / "three.mp4", scenes, width=854, height=480, fps=24)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("looked") / "made" / "when missing"


@pytest.fixture(scope="module")
def evidence(video: Path, folder: Path) -> Evidence:
    return analyze(video, folder)


def test_probe(video: Path) -> None:
    probe = decode.probe(video)
    assert (probe.width, probe.height, probe.fps, probe.rotation) == (854, 480, 24.0, 0)
    assert (probe.video_codec, probe.audio_codec) == ("h264", "aac")
    assert probe.duration_sec == pytest.approx(10, abs=0.1)
    assert probe.size_bytes == video.stat().st_size


def test_frames_come_in_order_with_pictures_on_demand(video: Path) -> None:
    notes: list[str] = []
    times = []
    for seen in decode.frames(video, decode.probe(video), notes):
        times.append(seen.time)
        if len(times) == 50:
            assert seen.picture(decode.SMALL).shape == (270, 480, 3)
            assert seen.picture(decode.LARGE).shape == (480, 854, 3)  # never larger than the video
    assert times == pytest.approx([number / 24 for number in range(240)])
    assert notes == []


def test_sound_is_16_khz_mono(video: Path) -> None:
    wave = np.concatenate(list(decode.sound(video)))
    assert wave.dtype == np.int16
    assert len(wave) / decode.SOUND_RATE == pytest.approx(10, abs=0.1)
    assert np.abs(wave[: 2 * decode.SOUND_RATE]).max() < 50
    assert np.abs(wave[4 * decode.SOUND_RATE : 6 * decode.SOUND_RATE]).max() > 1000


def test_everything_is_found(evidence: Evidence, folder: Path) -> None:
    assert [(clip.start_sec, clip.end_sec) for clip in evidence.clips] == [(0, 3), (3, 7), (7, 10)]
    assert [(span.text, span.start_sec, span.end_sec) for span in evidence.shown] == [
        ("Harbor tour", 0, 3),
        ("Thank you", 7, 10),
    ]
    middle = evidence.clips[1]
    assert dict(evidence.clips[0].colors).keys() & {"dark blue", "black"}
    assert middle.colors[0][0] == "white"
    assert dict(middle.colors)["red"] == pytest.approx(0.07, abs=0.03)
    assert (middle.direction, middle.camera) == ("right", "static")
    assert middle.motion > evidence.clips[0].motion
    assert [clip.sound for clip in evidence.clips] == ["silence", "music", "silence"]
    assert len({len(clip.image_descriptor) for clip in evidence.clips}) == 1
    assert middle.sound_descriptor
    assert evidence.notes == ()
    for clip in evidence.clips:
        known = (
            clip.confidences.colors,
            clip.confidences.motion,
            clip.confidences.camera,
            clip.confidences.sound,
        )
        assert all(sure is not None and 0 <= sure <= 1 for sure in known)
        assert (clip.confidences.direction is None) == (clip.direction is None)
    for clip in evidence.clips:
        assert max(cv2.imread(str(folder / clip.keyframe)).shape) == 854
    assert max(cv2.imread(str(folder / "thumbnail.jpg")).shape) == 320


def test_evidence_goes_through_json(evidence: Evidence) -> None:
    assert from_json(to_json(evidence)) == evidence
    raw = orjson.loads(to_json(evidence))
    for clip in raw["clips"]:  # as a version wrote it that kept no confidence
        del clip["sure"]
    assert {clip.confidences for clip in from_json(orjson.dumps(raw)).clips} == {Confidences()}
    for broken in (b"{}", b"[]", b'{"probe": {}}', b"no json"):
        with pytest.raises(ValueError, match="not evidence"):
            from_json(broken)


def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    """150 seconds, with a cut every five seconds, take no more memory than 20."""
    import av

    def film(seconds: int) -> Path:
        path = tmp_path / f"{seconds}.mkv"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=1)
            stream.width, stream.height, stream.pix_fmt = 960, 540, "yuv420p"
            shades = [np.full((540, 960, 3), shade, np.uint8) for shade in (40, 90, 140, 200)]
            for number in range(seconds):
                frame = av.VideoFrame.from_ndarray(shades[number // 5 % 4], format="rgb24")
                frame.pts = number
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    analyze(film(20), tmp_path / "short")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    analyze(film(150), tmp_path / "long")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < 60  # MB; the pictures alone would be 200 MB


def test_a_cut_between_colours_of_one_brightness(tmp_path: Path) -> None:
    orange, pink = (250, 150, 20), (245, 135, 175)
    scenes = [Scene(3, background=orange), Scene(3, background=pink)]
    video = make_video(tmp_path / "hues.mp4", scenes, width=640, height=360, fps=12, audio=False)
    found = analyze(video, tmp_path / "seen")
    assert [(clip.start_sec, clip.cut) for clip in found.clips] == [(0.0, True), (3.0, True)]
    assert [(clip.motion, clip.direction, clip.camera) for clip in found.clips] == [(0.0, None, "static")] * 2
