"""Faces that look at the camera or to a side, each counted once, up to the answers that are made of them."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np
import pytest

from tests.support.drawn_faces import SKIN, blank, frontal, profile
from tl_data.demo.scene import Scene, painter
from tl_data.local.perception.analyzer import analyze
from tl_data.local.perception.decode import Picture
from tl_data.local.perception.evidence import Evidence
from tl_data.local.perception.vision.faces import MIN_FACE_SCORE, faces
from tl_data.local.search.search import find_in_video
from tl_data.local.text import builtin
from tl_data.local.text.structured import fill


@pytest.mark.parametrize(
    ("picture", "count"),
    [
        (frontal(blank(), 320, 240, 110), 1),
        (frontal(frontal(blank(), 170, 240, 90), 470, 240, 90), 2),
        (profile(blank(), 330, 220, 105), 1),
        (profile(frontal(blank(), 170, 220, 90), 470, 220, 105), 2),
        (profile(blank(1280, 720), 660, 330, 157), 1),
        (profile(blank(360, 640), 190, 260, 90), 1),
    ],
)
def test_each_face_is_counted_once_whichever_way_it_looks(picture: Picture, count: int) -> None:
    found = faces(picture)
    assert len(found) == count
    height, width = picture.shape[:2]
    for sure, (left, top, wide, high) in found:
        assert MIN_FACE_SCORE <= sure <= 1
        assert 0 <= left <= left + wide <= 1
        assert 0 <= top <= top + high <= 1
        assert 0.5 < wide * width / (high * height) < 2
    assert [sure for sure, _ in found] == sorted((sure for sure, _ in found), reverse=True)


def head_without_a_face() -> Picture:
    picture = blank()
    cv2.ellipse(picture, (320, 200), (90, 120), 0, 0, 360, (SKIN - 60,) * 3, -1)
    return picture


@pytest.mark.parametrize(
    "picture",
    [
        blank(),
        blank(1, 1),
        blank(2000, 2),
        head_without_a_face(),
        painter(Scene(4, "Quarterly Results", "Hall 4", shape="circle", backdrop="city"), 640, 360)(0.5),
        painter(Scene(4, shape="star", backdrop="shelves"), 640, 360)(0.5),
        np.random.default_rng(0).integers(0, 256, (360, 640, 3), np.uint8),
    ],
    ids=["blank", "a point", "a line", "an oval", "a card", "shelves", "noise"],
)
def test_other_objects_are_no_faces(picture: Picture) -> None:
    assert faces(picture) == []


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """Three seconds of nobody, then three of two people."""
    folder = tmp_path_factory.mktemp("visit")
    nobody = blank()
    two = frontal(frontal(nobody, 170, 240, 90), 470, 240, 90)
    two[..., 0] //= 2  # another light, so that it is a cut
    with av.open(str(folder / "visit.mp4"), "w") as container:
        stream: Any = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
        for number in range(60):
            frame = av.VideoFrame.from_ndarray(nobody if number < 30 else two, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return analyze(folder / "visit.mp4", folder)


def test_faces_are_evidence_for_answers_schemas_and_search(visit: Evidence) -> None:
    two = ["face", "face", "person", "person"]
    assert [[name for name, _ in clip.objects] for clip in visit.clips] == [[], two]
    assert "2 people" in builtin.analyze(visit, "How many people are there?")
    schema = {
        "type": "object",
        "properties": {"number_of_people": {"type": "integer"}, "has_people": {"type": "boolean"}},
        "required": ["number_of_people", "has_people"],
    }
    assert fill(visit, schema, "") == {"number_of_people": 2, "has_people": True}
    for asked in ("two people", "a person", "faces"):
        assert find_in_video(visit, asked)[0].start_sec == pytest.approx(3, abs=0.2), asked


def test_no_recognised_person_is_unknown_not_zero(visit: Evidence) -> None:
    alone = replace(visit, clips=visit.clips[:1])
    assert "No face or person was recognised" in builtin.analyze(alone, "How many people are there?")
    schema = {
        "type": "object",
        "properties": {"number_of_people": {"type": ["integer", "null"]}, "faces": {"type": "integer"}},
        "required": ["number_of_people"],
    }
    assert fill(alone, schema, "") == {"number_of_people": None}
    assert fill(visit, schema, "") == {"number_of_people": 2, "faces": 2}
