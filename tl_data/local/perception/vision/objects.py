"""Recognises objects and people: classifier EfficientNet-Lite3, detector SSD-MobileNetV2, pose by MoveNet.

Three models and the face detector (faces.py) analyze each sampled frame. The classifier gives the
probabilities of 1,000 classes, for the whole picture or, if it is wide or tall, for three square crops. The
detector gives boxes of 80 classes, with high confidence even for objects of other classes. Therefore a
detection counts in full only if the classifier confirms it (`concepts.agrees`). A pose or a face confirms a
detected person.
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
from tl_data.local.perception.vision.faces import (
    clip_to_picture,
    drop_overlaps,
    faces,
    interpreter,
    letterbox,
)

EVERY = 2.0  # seconds between analyzed frames; shorter intervals find no more

#: A detected person is confirmed by a pose with at least this mean score of keypoints, or by a face with at
#: least this score.
POSED, FACED = 0.25, 0.66
PERSON, PERSON_POSED = 0.5, 0.25  # smallest score of a detected person: unconfirmed, and confirmed
_MIN_SCORE = 0.2  # smallest score of a detection
_MIN_PROBABILITY, _MAX_LABELS = 0.005, 40  # of the labels of a clip
_MIN_WIDE = 1.25  # ratio of the longer to the shorter side from which three crops are classified
_SIDE = 280  # pixels per side of the classifier's input
_SAME_OBJECT = 0.5  # two boxes with at least this intersection over union are one object


@dataclass(frozen=True)
class FrameResult:
    """The results of the models for one frame."""

    time: float
    probabilities: npt.NDArray[np.float32]  # one for each of the 1,000 classes
    things: tuple[tuple[str, float, Box], ...]  # (COCO class, score, box) of each detection
    faces: tuple[tuple[float, Box], ...]  # (score, box) of each face
    pose: float  # mean keypoint score of the most prominent person


class ObjectModels:
    """The three models and the face detector.

    Args:
        objects: a folder with the weights; None reads them from their package.
        detector: whether the detector is used. It takes two thirds of the time, and 250 MB.

    Raises:
        ModelFailed: weights are missing, or their SHA-256 is not the expected one.
    """

    def __init__(self, objects: Path | None = None, *, detector: bool = True) -> None:
        files = weights.read(weights.CLASSIFIER, objects)
        self._classifier = interpreter(files["efficientnet_lite3.tflite"])
        [pose] = weights.read(weights.POSE, objects).values()
        self._pose = interpreter(pose)
        self.name = "see" if detector else "see-small"  # part of the evidence and of the engine's model name
        self._detector: Any = None
        self._names: dict[int, str] = {}
        if detector:
            graph, text = weights.read(weights.DETECTOR, objects).values()
            self._detector = cv2.dnn.readNetFromTensorflow(
                np.frombuffer(graph, np.uint8), np.frombuffer(text, np.uint8)
            )
            self._names = _COCO
        faces(np.zeros((32, 32, 3), np.uint8))  # missing weights must fail here, not during a video

    def detect(self, time: float, picture: Picture) -> FrameResult:
        """Analyze an RGB picture. `time` is in seconds."""
        detections = self._detections(picture)
        return FrameResult(
            time,
            self._probabilities(picture),
            tuple(detections),
            tuple(faces(picture)),
            self._pose_score(picture),
        )

    def _probabilities(self, picture: Picture) -> npt.NDArray[np.float32]:
        """The mean probabilities of the classes over the crops of a picture."""
        rows = [self._crop_probabilities(crop) for crop in _crops(picture)]
        return np.asarray(np.mean(rows, axis=0), np.float32)

    def _crop_probabilities(self, crop: Picture) -> npt.NDArray[np.float32]:
        """The probabilities of the classes for one crop."""
        side = min(crop.shape[:2])
        interpolation = cv2.INTER_AREA if side > _SIDE else cv2.INTER_LINEAR
        model_input = cv2.resize(crop, (_SIDE, _SIDE), interpolation=interpolation)
        model = self._classifier
        model.set_tensor(model.get_input_details()[0]["index"], model_input[None])
        model.invoke()
        output = np.asarray(model.get_tensor(model.get_output_details()[0]["index"])[0], np.float32)
        return output * np.float32(1 / 256)

    def _detections(self, picture: Picture) -> list[tuple[str, float, Box]]:
        """The detections in a picture: class, score and box of each."""
        if self._detector is None:
            return []
        blob = cv2.dnn.blobFromImage(picture, size=(300, 300))  # no swap of channels: it is already RGB
        self._detector.setInput(blob)
        detections = []
        for _, number, score, left, top, right, bottom in self._detector.forward()[0, 0]:
            name = self._names.get(int(number))
            if name and score >= _MIN_SCORE:
                box = (left, top, right - left, bottom - top)
                detections.append((name, round(float(score), 3), clip_to_picture(box)))
        return detections

    def _pose_score(self, picture: Picture) -> float:
        """The mean score of the keypoints of the most prominent person."""
        model = self._pose
        square = letterbox(picture, 192)[0][None]
        input_details = model.get_input_details()[0]
        model.set_tensor(input_details["index"], square.astype(input_details["dtype"]))
        model.invoke()
        points = np.asarray(model.get_tensor(model.get_output_details()[0]["index"]), np.float32).reshape(
            -1, 3
        )
        return float(points[:, 2].mean())


@lru_cache(maxsize=1)
def load_object_models(objects: Path | None = None, detector: bool = True) -> ObjectModels:
    """Load the models, once per process.

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
    """Set the labels, objects, people and faces of a clip from the results of its frames."""
    if not frames:
        return clip
    most_people = max(frames, key=lambda frame: (len(people_of(frame)), len(frame.faces)))
    people = [("person", score) for score, _ in people_of(most_people)]
    most_faces = max(frames, key=lambda frame: (len(frame.faces), sum(score for score, _ in frame.faces)))
    faces_found = [("face", score) for score, _ in most_faces.faces]
    face_height = max((box[3] for frame in frames for _, box in frame.faces), default=0.0)
    return replace(
        clip,
        labels=_labels(frames),
        things=_things(frames),
        objects=tuple(sorted(people + faces_found, key=lambda item: (item[0], -item[1]))),
        face_height=round(face_height, 3),
        frames=len(frames),
    )


def people_of(frame: FrameResult) -> list[tuple[float, Box]]:
    """The people in a frame, largest confidence first. A pose or a face must confirm a low score."""
    boxes = drop_overlaps(
        [(score, box) for name, score, box in frame.things if name == "person"], _SAME_OBJECT
    )
    people = []
    for score, box in boxes:
        face = max((score for score, face_box in frame.faces if _inside(face_box, box)), default=0.0)
        confirmed = face >= FACED or (frame.pose >= POSED and box is boxes[0][1])
        if score >= (PERSON_POSED if confirmed else PERSON):
            people.append((round(max(score, 0.7 if face >= FACED else score), 3), box))
    for score, face_box in frame.faces:  # a face counts as a person, even without a detection
        if not any(_inside(face_box, box) for _, box in boxes):
            people.append((score, face_box))
    return sorted(people, reverse=True)


def _inside(inner: Box, outer: Box) -> bool:
    """Whether the centre of a box is inside another, with a tolerance."""
    x, y = inner[0] + inner[2] / 2, inner[1] + inner[3] / 2
    return outer[0] - 0.02 <= x <= outer[0] + outer[2] + 0.02 and outer[1] - 0.05 <= y <= outer[1] + outer[3]


def _labels(frames: Sequence[FrameResult]) -> tuple[Label, ...]:
    """The labels of a clip: classes with their largest and mean probability, most probable first."""
    table = np.stack([frame.probabilities for frame in frames])
    largest, mean, best_frame = table.max(axis=0), table.mean(axis=0), table.argmax(axis=0)
    order = [
        number
        for number in np.argsort(-largest, kind="stable")[:_MAX_LABELS]
        if largest[number] >= _MIN_PROBABILITY
    ]
    names = concepts.table().of_leaf
    return tuple(
        Label(
            int(number), names[int(number)].name, round(float(largest[number]), 4),
            round(float(mean[number]), 4), round(frames[int(best_frame[number])].time, 2),
        )
        for number in order
    )  # fmt: skip


def _things(frames: Sequence[FrameResult]) -> tuple[Thing, ...]:
    """The detected classes of a clip, most probable first."""
    by_class: dict[str, Thing] = {}
    for frame in frames:
        probabilities = concepts.sum_probabilities(enumerate(frame.probabilities.tolist()))
        people = people_of(frame)
        by_name: dict[str, list[tuple[float, Box]]] = {}
        for name, score, box in frame.things:
            by_name.setdefault(name, []).append((score, box))
        for name, boxes in by_name.items():
            separate = drop_overlaps(boxes, _SAME_OBJECT)
            score, box = separate[0]
            agreed = bool(people) if name == "person" else concepts.agrees(name, probabilities)
            count = (
                len(people) if name == "person" else sum(other_score >= 0.4 for other_score, _ in separate)
            )
            current = Thing(name, score, round(frame.time, 2), round(frame.time, 2), box, count, agreed, 1)
            by_class[name] = _with_frame(by_class[name], current) if name in by_class else current
    return tuple(sorted(by_class.values(), key=lambda thing: (-thing.probability, thing.name)))


def _with_frame(before: Thing, now: Thing) -> Thing:
    """Combine a class with its result in one more frame. The best confirmed detection is kept."""
    best = max(before, now, key=lambda thing: (thing.agreed, thing.probability))
    return Thing(
        best.name, best.probability, before.start_sec, now.end_sec, best.box, max(before.count, now.count),
        best.agreed, before.frames + 1,
    )  # fmt: skip


def _crops(picture: Picture) -> list[Picture]:
    """The picture itself, or three square crops if it is wide or tall."""
    height, width = picture.shape[:2]
    side = min(height, width)
    if max(height, width) < _MIN_WIDE * side:
        return [picture]
    steps = (0, (max(height, width) - side) // 2, max(height, width) - side)
    if width > height:
        return [np.ascontiguousarray(picture[:, start : start + side]) for start in steps]
    return [np.ascontiguousarray(picture[start : start + side]) for start in steps]


#: Number of a COCO class -> its name.
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
