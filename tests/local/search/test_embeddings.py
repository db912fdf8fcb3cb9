"""One space: deterministic, its own, and near where things are alike."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
import wave
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.support.known import EMPTY, PLANT, SALES, SHAPES, SILENT
from tl_data.local.models import Tiers
from tl_data.local.perception import analyze
from tl_data.local.perception.pictures import NotPicture
from tl_data.local.search import embeddings, word_vectors
from tl_data.local.search.embeddings import measured_image
from tl_data.local.search.query import Query
from tl_data.local.storage.library import Library


def picture(color: tuple[int, int, int], thing: tuple[int, int, int], at: int) -> np.ndarray:
    drawn = np.full((360, 640, 3), color, np.uint8)
    cv2.circle(drawn, (at, 180), 60, thing, -1)
    return drawn


def encoded(drawn: np.ndarray, kind: str = ".png") -> bytes:
    return cv2.imencode(kind, cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))[1].tobytes()


RED_ON_GREEN = picture((20, 140, 50), (220, 20, 20), 160)
YELLOW_ON_BLUE = picture((20, 40, 160), (250, 220, 20), 480)


def test_it_is_its_own_model() -> None:
    assert Tiers().search_model == "tl-local-2"
    assert embeddings.DIMENSION not in (
        512,
        1024,
    )  # those of other models
    assert embeddings.embed_text("hello").shape == (embeddings.DIMENSION,)


@pytest.mark.parametrize("text", ["a red car", "Quarterly revenue", "x", "ünïcödé", "42"])
def test_vectors_have_length_one(text: str) -> None:
    vector = embeddings.embed_text(text)
    assert vector.dtype == np.float32
    assert float(np.linalg.norm(vector)) == pytest.approx(1, abs=1e-5)


def test_nothing_has_no_direction() -> None:
    assert not embeddings.embed_text("").any()


def test_case_does_not_matter_and_meaning_does() -> None:
    near = embeddings.embed_text("the doctor sees a patient") @ embeddings.embed_text(
        "a physician and a sick person"
    )
    far = embeddings.embed_text("the doctor sees a patient") @ embeddings.embed_text("stock market prices")
    assert near > far + 0.2
    assert np.allclose(embeddings.embed_text("REVENUE"), embeddings.embed_text("revenue"))


def test_padding_and_neighbours_in_a_batch_change_nothing() -> None:
    alone = word_vectors.word_vectors(["red"])
    together = word_vectors.word_vectors(["red", "a much longer text with many more words in it"])
    assert np.array_equal(alone[0], together[0])


def test_the_same_vectors_in_every_process() -> None:
    code = (
        "import hashlib; from tests.support.known import SALES; from tl_data.local.search import embeddings;"
        "segments = embeddings.segments_of(SALES, ('visual', 'audio', 'transcription'), ('clip', 'video'));"
        "words = embeddings.embed_text('a red car').tolist();"
        "print(hashlib.sha256(repr([segments, words]).encode()).hexdigest())"
    )
    root = Path(__file__).parents[3]
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(root), "PATH": "/usr/bin:/bin"},
        ).stdout.strip()
        for seed in ("1", "2")
    }  # fmt: skip
    segments = embeddings.segments_of(SALES, ("visual", "audio", "transcription"), ("clip", "video"))
    here = hashlib.sha256(repr([segments, embeddings.embed_text("a red car").tolist()]).encode()).hexdigest()
    assert runs == {here}


def test_one_segment_a_clip_and_option() -> None:
    segments = embeddings.segments_of(SALES, ("visual-text", "audio"), ("clip", "video"))
    assert len(segments) == (4 + 1) * 2
    assert {segment.embedding_option for segment in segments} == {"visual-text", "audio"}
    whole = [segment for segment in segments if segment.embedding_scope == "video"]
    assert [(s.start_offset_sec, s.end_offset_sec) for s in whole] == [(0.0, 24.0)] * 2
    assert all(len(segment.vector) == embeddings.DIMENSION for segment in segments)
    assert all(math.isclose(sum(v * v for v in s.vector), 1, abs_tol=1e-4) for s in segments)


def test_what_has_no_evidence_has_no_segment() -> None:
    assert embeddings.segments_of(SILENT, ("audio", "transcription"), ("clip", "video")) == []
    assert len(embeddings.segments_of(SALES, ("transcription",))) == 3  # nobody speaks in the last clip


@pytest.mark.parametrize(
    ("length", "start", "end", "expected"),
    [
        (6.0, None, None, [(0, 6), (6, 12), (12, 18), (18, 24)]),
        (5.0, None, None, [(0, 5), (5, 10), (10, 15), (15, 20), (20, 24)]),
        (10.0, 0.0, 21.0, [(0, 10), (10, 20)]),  # a last one of one second is dropped
        (2.0, 3.0, 7.5, [(3, 5), (5, 7)]),
        (7.0, 1.0, 24.0, [(1, 8), (8, 15), (15, 22), (22, 24)]),
    ],
)
def test_fixed_lengths(
    length: float, start: float | None, end: float | None, expected: list[tuple[int, int]]
) -> None:
    found = embeddings.segments_of(SALES, ("visual",), ("clip",), length, start, end)
    assert [(s.start_offset_sec, s.end_offset_sec) for s in found] == expected


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"clip_length": 1.5}, "2 to 10"),
        ({"clip_length": 11}, "2 to 10"),
        ({"start": 5, "end": 5}, "not inside"),
        ({"start": 30}, "not inside"),
        ({"scope": ("scene",)}, "scope"),
        ({"options": ("smell",)}, "option"),
    ],
)
def test_what_cannot_be_is_refused(arguments: dict[str, object], words: str) -> None:
    given = {"options": ("visual",), **arguments}
    with pytest.raises(ValueError, match=words):
        embeddings.segments_of(SALES, **given)  # type: ignore[arg-type]


def test_text_is_near_the_clip_it_describes() -> None:
    def best(text: str, option: str) -> int:
        vectors = [embeddings.embed_clip(clip, SHAPES, option) for clip in SHAPES.clips]
        return int(np.argmax(np.array(vectors) @ embeddings.embed_text(text)))

    assert best("a red thing on green", "visual") == 0
    assert best("purple", "visual") == 3
    assert best("music", "audio") == 3


def test_stretches_blend_what_they_overlap() -> None:
    blended = embeddings.blend(SALES, 5.0, 9.0)
    assert blended.keyframe == SALES.clips[1].keyframe
    assert SALES.clips[0].brightness < blended.brightness < SALES.clips[1].brightness
    assert dict(blended.colors)["white"] == pytest.approx(0.25 * 0.1 + 0.75 * 0.8)
    assert embeddings.blend(EMPTY, 100, 104).colors == ()


def test_an_image_is_near_itself_and_words_for_it() -> None:
    green, blue = (
        embeddings.embed_image(encoded(RED_ON_GREEN)),
        embeddings.embed_image(encoded(YELLOW_ON_BLUE)),
    )
    again = embeddings.embed_image(encoded(cv2.resize(RED_ON_GREEN, (320, 180)), ".jpg"))
    assert green @ again > 0.9 > green @ blue
    text = embeddings.embed_text("mostly green with red")
    assert text @ green > text @ blue


@pytest.mark.parametrize("data", [b"", b"not an image", b"\x89PNG\r\n\x1a\n broken"])
def test_other_files_than_images_are_refused(data: bytes) -> None:
    with pytest.raises(NotPicture):
        embeddings.embed_image(data)


def test_sound_files_have_vectors(tmp_path: Path) -> None:
    def sound(name: str, samples: np.ndarray) -> Path:
        with wave.open(str(tmp_path / name), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", ""))
            file.writeframes((samples * 12000).astype(np.int16).tobytes())
        return tmp_path / name

    time = np.arange(16000 * 4) / 16000
    chord = sum(np.sin(2 * np.pi * hertz * time) for hertz in (220, 277, 330)) / 3
    noise = np.random.default_rng(1).uniform(-1, 1, time.size)
    music, hiss, again = (
        np.asarray(embeddings.segments_of(analyze(sound(name, samples)), ["audio"], ("video",))[0].vector)
        for name, samples in (("chord.wav", chord), ("hiss.wav", noise), ("again.wav", chord))
    )
    assert float(np.linalg.norm(music)) == pytest.approx(1, abs=1e-5)
    assert np.array_equal(music, again)
    assert music @ hiss < 0.9


def test_an_image_query_finds_the_same_frame_first(tmp_path: Path) -> None:
    library = Library(tmp_path / "library.db")
    for name, drawn in (("green", RED_ON_GREEN), ("blue", YELLOW_ON_BLUE)):
        frame = measured_image(encoded(drawn, ".jpg"))
        clip = replace(frame, start_sec=0.0, end_sec=5.0, keyframe="a.jpg")
        library.add(
            "index", name, replace(SILENT, clips=(clip, replace(PLANT.clips[0], start_sec=5.0, end_sec=8.0)))
        )
    hits = library.search(Query("index", images=(encoded(RED_ON_GREEN),)))
    assert (hits[0].video_id, hits[0].start_sec, hits[0].end_sec) == ("green", 0.0, 5.0)
    assert hits[0].evidence == ("same picture",)
    assert hits[0].score > 95
    assert all(hit.confidence != "high" for hit in hits[1:])
    other = picture((240, 240, 240), (120, 60, 160), 320)
    assert all(h.confidence != "high" for h in library.search(Query("index", images=(encoded(other),))))
    both = library.search(Query("index", "a yellow thing", images=(encoded(YELLOW_ON_BLUE),)))
    assert both[0].video_id == "blue"
    with pytest.raises(ValueError, match="image"):
        library.search(Query("index", images=(b"nonsense",)))
    library.close()


def test_an_image_of_noise_is_no_plain_gray(tmp_path: Path) -> None:
    library, rng = Library(tmp_path / "library.db"), np.random.default_rng(0)
    for level in (110, 128, 150):
        frame = measured_image(encoded(np.full((360, 640, 3), level, np.uint8)))
        clips = (replace(frame, start_sec=0.0, end_sec=5.0, keyframe="a.jpg"),)
        library.add("index", str(level), replace(SILENT, clips=clips))

    def found(image: np.ndarray[Any, Any]) -> set[str]:
        return {
            h.confidence for h in library.search(Query("index", images=(encoded(image.astype(np.uint8)),)))
        }

    assert found(rng.integers(0, 256, (360, 640, 3))) <= {"low"}
    assert found(np.repeat(rng.integers(0, 256, (540, 960, 1)), 3, 2)) <= {"low"}
    assert found(rng.normal(128, 30, (360, 640, 3)).clip(0, 255)) <= {"low"}
    assert "high" in found(rng.normal(128, 2, (360, 640, 3)))  # a plain gray with the grain of a camera
    library.close()


def test_an_image_that_shares_half_of_its_colours_is_no_answer(tmp_path: Path) -> None:
    library = Library(tmp_path / "library.db")
    clip = replace(
        measured_image(encoded(RED_ON_GREEN, ".jpg")), start_sec=0.0, end_sec=5.0, keyframe="a.jpg"
    )
    library.add("index", "green", replace(SILENT, clips=(clip,)))

    def found(green: int) -> int:
        half = np.full((180, 320, 3), (130, 130, 130), np.uint8)
        half[:, :green] = (60, 160, 40)
        return len(library.search(Query("index", images=(encoded(half),), threshold="medium")))

    assert (found(170), found(250)) == (0, 1)
    library.close()
