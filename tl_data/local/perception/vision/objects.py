"""Recognises objects and people: classifier EfficientNet-Lite3, detector SSD-MobileNetV2, pose by MoveNet.

Each sampled frame passes three models. The classifier gives probabilities of 1,000 classes, of the whole
picture or, if it is wide, of three square crops. The detector gives boxes of 80 classes. It labels objects of
other classes with high confidence, so a detection counts in full only if the classifier agrees (concepts.py).
A pose confirms a detected person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tl_data.local import weights
from tl_data.local.models import Tiers
from tl_data.local.perception.decode import Picture
from tl_data.local.perception.evidence import Box, Clip, Label, ModelFailed, Thing
from tl_data.local.perception.vision import concepts
from tl_data.local.perception.vision.faces import clipped, distinct, faces, interpreter, letterboxed

EVERY = 2.0  # seconds between analysed frames; one per second finds no more

#: Least mean score of keypoints, and of a face, that confirms a detected person.
POSED, FACED = 0.25, 0.66
PERSON, PERSON_POSED = 0.5, 0.25  # least score of a detection that counts as a person, alone and confirmed
_LEAST = 0.2  # least score of a detection
_KEPT, _LABELS = 0.005, 40  # labels of a clip: least probability, and largest number
_WIDE = 1.25  # ratio of the sides from which three crops are classified
_SIDE = 280  # pixels of the classifier's input
_SAME = 0.5


@dataclass(frozen=True)
class FrameResult:
    """The results of the models for one frame."""

    time: float
    probabilities: npt.NDArray[np.float32]  # of the 1,000 classes
    things: tuple[tuple[str, float, Box], ...]  # COCO class, score, box
    faces: tuple[tuple[float, Box], ...]
    pose: float  # mean keypoint score of the most prominent person


class ObjectModels:
    """The three models and the face detector.

    Args:
        objects: a folder with the weights, instead of their package.
        detector: whether the detector is used; it takes two thirds of the time and 250 MB.

    Raises:
        ModelFailed: weights are missing or differ.
    """

    def __init__(self, objects: Path | None = None, *, detector: bool = True) -> None:
        files = weights.read(weights.CLASSIFIER, objects)
        self._classifier = interpreter(files["efficientnet_lite3.tflite"])
        [pose] = weights.read(weights.POSE, objects).values()
        self._pose = interpreter(pose)
        self.name = "see" if detector else "see-small"  # in the evidence and in the engine's model name
        self._detector: Any = None
        self._names: dict[int, str] = {}
        if detector:
            graph, text = weights.read(weights.DETECTOR, objects).values()
            self._detector = cv2.dnn.readNetFromTensorflow(
                np.frombuffer(graph, np.uint8), np.frombuffer(text, np.uint8)
            )
            self._names = _COCO
        faces(np.zeros((32, 32, 3), np.uint8))  # checks its weights now, not during a video

    def detect(self, time: float, picture: Picture) -> FrameResult:
        """Analyse an RGB picture. `time` is in seconds."""
        found = self._found(picture)
        return FrameResult(
            time, self._classes(picture), tuple(found), tuple(faces(picture)), self._posed(picture)
        )

    def _classes(self, picture: Picture) -> npt.NDArray[np.float32]:
        rows = [self._class(crop) for crop in _crops(picture)]
        return np.asarray(np.mean(rows, axis=0), np.float32)

    def _class(self, crop: Picture) -> npt.NDArray[np.float32]:
        side = min(crop.shape[:2])
        how = cv2.INTER_AREA if side > _SIDE else cv2.INTER_LINEAR
        given = cv2.resize(crop, (_SIDE, _SIDE), interpolation=how)
        model = self._classifier
        model.set_tensor(model.get_input_details()[0]["index"], given[None])
        model.invoke()
        found = np.asarray(model.get_tensor(model.get_output_details()[0]["index"])[0], np.float32)
        return found * np.float32(1 / 256)

    def _found(self, picture: Picture) -> list[tuple[str, float, Box]]:
        if self._detector is None:
            return []
        blob = cv2.dnn.blobFromImage(picture, size=(300, 300))  # RGB already: nothing to swap
        self._detector.setInput(blob)
        found = []
        for _, number, score, left, top, right, bottom in self._detector.forward()[0, 0]:
            name = self._names.get(int(number))
            if name and score >= _LEAST:
                box = (left, top, right - left, bottom - top)
                found.append((name, round(float(score), 3), clipped(box)))
        return found

    def _posed(self, picture: Picture) -> float:
        model = self._pose
        square = letterboxed(picture, 192)[0][None]
        wanted = model.get_input_details()[0]
        model.set_tensor(wanted["index"], square.astype(wanted["dtype"]))
        model.invoke()
        points = np.asarray(model.get_tensor(model.get_output_details()[0]["index"]), np.float32).reshape(
            -1, 3
        )
        return float(points[:, 2].mean())


@lru_cache(maxsize=1)
def load_object_models(objects: Path | None = None, detector: bool = True) -> ObjectModels:
    """The models, loaded once per process.

    Raises:
        ModelFailed: weights are missing, differ, or cannot be loaded; the message has the command that helps.
    """
    try:
        return ObjectModels(objects, detector=detector)
    except (ImportError, RuntimeError, ValueError, cv2.error) as error:
        raise ModelFailed(f"the object models cannot be loaded: {error}") from error


def configured_object_models(tiers: Tiers) -> ObjectModels | None:
    """The configured models; None if they are not installed."""
    return load_object_models(tiers.objects, tiers.detector) if tiers.object_models else None


def with_objects(clip: Clip, frames: Sequence[FrameResult]) -> Clip:
    """A clip with the results of its frames: labels, objects, people and faces."""
    if not frames:
        return clip
    best = max(frames, key=lambda frame: (len(people_of(frame)), len(frame.faces)))
    people = [("person", sure) for sure, _ in people_of(best)]
    seen = max(frames, key=lambda frame: (len(frame.faces), sum(sure for sure, _ in frame.faces)))
    heads = [("face", sure) for sure, _ in seen.faces]
    face_height = max((box[3] for frame in frames for _, box in frame.faces), default=0.0)
    return replace(
        clip,
        labels=_labels(frames),
        things=_things(frames),
        objects=tuple(sorted(people + heads, key=lambda item: (item[0], -item[1]))),
        face_height=round(face_height, 3),
        frames=len(frames),
    )


def people_of(frame: FrameResult) -> list[tuple[float, Box]]:
    """The people in a frame, largest confidence first. A low score needs a confirmation by pose or face."""
    boxes = distinct([(score, box) for name, score, box in frame.things if name == "person"], _SAME)
    found = []
    for score, box in boxes:
        face = max((sure for sure, place in frame.faces if _inside(place, box)), default=0.0)
        confirmed = face >= FACED or (frame.pose >= POSED and box is boxes[0][1])
        if score >= (PERSON_POSED if confirmed else PERSON):
            found.append((round(max(score, 0.7 if face >= FACED else score), 3), box))
    for sure, place in frame.faces:  # a face is a person, also without a detection
        if not any(_inside(place, box) for _, box in boxes):
            found.append((sure, place))
    return sorted(found, reverse=True)


def _inside(place: Box, box: Box) -> bool:
    x, y = place[0] + place[2] / 2, place[1] + place[3] / 2
    return box[0] - 0.02 <= x <= box[0] + box[2] + 0.02 and box[1] - 0.05 <= y <= box[1] + box[3]


def _labels(frames: Sequence[FrameResult]) -> tuple[Label, ...]:
    """The classes with their largest and mean probability over the frames, most probable first."""
    table = np.stack([frame.probabilities for frame in frames])
    most, mean, at = table.max(axis=0), table.mean(axis=0), table.argmax(axis=0)
    order = [number for number in np.argsort(-most, kind="stable")[:_LABELS] if most[number] >= _KEPT]
    names = concepts.table().of_leaf
    return tuple(
        Label(
            int(number), names[int(number)].name, round(float(most[number]), 4),
            round(float(mean[number]), 4), round(frames[int(at[number])].time, 2),
        )
        for number in order
    )  # fmt: skip


def _things(frames: Sequence[FrameResult]) -> tuple[Thing, ...]:
    """The detected classes: best box, first and last time, largest count, whether confirmed."""
    found: dict[str, Thing] = {}
    for frame in frames:
        mass = concepts.summed(enumerate(frame.probabilities.tolist()))
        people = people_of(frame)
        by_name: dict[str, list[tuple[float, Box]]] = {}
        for name, score, box in frame.things:
            by_name.setdefault(name, []).append((score, box))
        for name, boxes in by_name.items():
            places = distinct(boxes, _SAME)
            score, box = places[0]
            agreed = bool(people) if name == "person" else concepts.agrees(name, mass)
            count = len(people) if name == "person" else sum(sure >= 0.4 for sure, _ in places)
            now = Thing(name, score, round(frame.time, 2), round(frame.time, 2), box, count, agreed, 1)
            found[name] = _joined(found[name], now) if name in found else now
    return tuple(sorted(found.values(), key=lambda thing: (-thing.probability, thing.name)))


def _joined(before: Thing, now: Thing) -> Thing:
    """A class with one more frame. The best confirmed detection is kept."""
    best = max(before, now, key=lambda thing: (thing.agreed, thing.probability))
    return Thing(
        best.name, best.probability, before.start_sec, now.end_sec, best.box, max(before.count, now.count),
        best.agreed, before.frames + 1,
    )  # fmt: skip


def _crops(picture: Picture) -> list[Picture]:
    """The picture, or three square crops of a wide or tall one."""
    height, width = picture.shape[:2]
    side = min(height, width)
    if max(height, width) < _WIDE * side:
        return [picture]
    steps = (0, (max(height, width) - side) // 2, max(height, width) - side)
    if width > height:
        return [np.ascontiguousarray(picture[:, at : at + side]) for at in steps]
    return [np.ascontiguousarray(picture[at : at + side]) for at in steps]


_COCO = {
    1: "person", 2: "bicycle", 3: "car", 4: "motorcycle", 5: "airplane", 6: "bus", 7: "train",
    8: "truck", 9: "boat", 10: "traffic light", 11: "fire hydrant", 13: "stop sign",
    14: "parking meter", 15: "bench", 16: "bird", 17: "cat", 18: "dog", 19: "horse",
    20: "sheep", 21: "cow", 22: "elephant", 23: "bear", 24: "zebra", 25: "giraffe",
    27: "backpack", 28: "umbrella", 31: "handbag", 32: "tie", 33: "suitcase", 34: "frisbee",
    35: "skis", 36: "snowboard", 37: "sports ball", 38: "kite", 39: "baseball bat",
    40: "baseball glove", 41: "skateboard", 42: "surfboard", 43: "tennis racket", 44: "bottle",
    46: "wine glass", 47: "cup", 48: "fork", 49: "knife", 50: "spoon", 51: "bowl", 52: "banana",
    53: "apple", 54: "sandwich", 55: "orange", 56: "broccoli", 57: "carrot", 58: "hot dog",
    59: "pizza", 60: "donut", 61: "cake", 62: "chair", 63: "couch", 64: "potted plant",
    65: "bed", 67: "dining table", 70: "toilet", 72: "tv", 73: "laptop", 74: "mouse",
    75: "remote", 76: "keyboard", 77: "cell phone", 78: "microwave", 79: "oven", 80: "toaster",
    81: "sink", 82: "refrigerator", 84: "book", 85: "clock", 86: "vase", 87: "scissors",
    88: "teddy bear", 89: "hair drier", 90: "toothbrush",
}  # fmt: skip
