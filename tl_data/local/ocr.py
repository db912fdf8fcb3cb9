"""On-screen text: read when the picture changed and text is likely, kept as lines with their time.

Reading is the dearest thing the engine does, so it is spent in steps: a picture that looks like the last
one is not read; one without text-like texture is not read; a small copy is searched for lines; only lines
that were not read before are recognised, in the large picture.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tl_data.local.evidence import Span
from tl_data.local.media import Picture

_DETECT_SIDE = 480  # pixels of the copy that is searched for lines
_SURE = 0.6  # confidence from which a reading is kept
_SAME = 10.0  # mean difference (0-255) below which two crops of a line are the same line
_SIGN = (96, 16)  # size of the crop that is compared


@dataclass
class _Line:
    """A line of text on the screen and how long it has been there."""

    box: tuple[int, int, int, int]  # left, top, right, bottom in the large picture
    sign: npt.NDArray[np.int16]
    start: float
    end: float
    readings: list[tuple[str, float]] = field(default_factory=list)


class Reader:
    """Reads the text of a stream of large pictures."""

    def __init__(self) -> None:
        self._open: list[_Line] = []
        self._done: list[_Line] = []
        self._last: npt.NDArray[np.int16] | None = None
        self._time = 0.0
        self.read_pictures = 0

    def add(self, time: float, picture: Picture, cut: float | None = None) -> None:
        """Look at the next picture; `cut` is the time of a cut since the picture before."""
        gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        glance = cv2.resize(gray, (160, 96), interpolation=cv2.INTER_AREA).astype(np.int16)
        came = cut if cut is not None else (time + self._time) / 2 if self._time else time
        before, self._time = self._time, time
        if self._last is not None and _unchanged(self._last, glance):
            for line in self._open:
                line.end = time
            return
        self._last = glance
        boxes = _find(picture) if _texty(gray) else []
        self.read_pictures += bool(boxes)
        stay: list[_Line] = []
        fresh: list[tuple[_Line, Picture]] = []
        for box in boxes:
            left, top, right, bottom = box
            crop = picture[top:bottom, left:right]
            sign = _sign(gray[top:bottom, left:right])
            known = next(
                (line for line in self._open if _overlap(line.box, box) > 0.6 and _same(line.sign, sign)),
                None,
            )
            if known is not None:
                if known not in stay:
                    known.end = time
                    stay.append(known)
                continue
            line = _Line(box, sign, came, time)
            stay.append(line)
            fresh.append((line, crop))
        for (line, _), reading in zip(fresh, _read([crop for _, crop in fresh]), strict=True):
            line.readings.append(reading)
        for line in self._open:
            if line not in stay:
                line.end = cut if cut is not None else max(line.end, (before + time) / 2)
                self._done.append(line)
        self._open = [line for line in stay if line.readings]

    def finish(self, end: float) -> tuple[Span, ...]:
        """Everything that was shown, in order of time and place."""
        for line in self._open:
            line.end = end
        return _spans([*self._done, *self._open])


def _spans(lines: Sequence[_Line]) -> tuple[Span, ...]:
    kept: list[_Line] = []
    for line in sorted(lines, key=lambda line: (line.start, line.box[1], line.box[0])):
        text, sure = line.readings[0]
        if sure < _SURE or sum(letter.isalnum() for letter in text) < 2:
            continue
        # A line that moves or shimmers is found anew each time: the same words a moment later go on.
        twin = next(
            (
                other
                for other in reversed(kept[-40:])
                if line.start - other.end < 1.6 and _close_words(other.readings[0][0], text)
            ),
            None,
        )
        if twin is None:
            kept.append(line)
            continue
        twin.end = max(twin.end, line.end)
        twin.readings = sorted({*twin.readings, *line.readings}, key=lambda reading: -reading[1])
    return tuple(
        Span(
            round(line.start, 2),
            round(max(line.end, line.start + 0.1), 2),
            line.readings[0][0],
            round(line.readings[0][1], 3),
            tuple(dict.fromkeys(text for text, _ in line.readings[1:6] if text != line.readings[0][0])),
        )
        for line in kept
    )


def _close_words(one: str, other: str) -> bool:
    if one.casefold() == other.casefold():
        return True
    if min(len(one), len(other)) < 6 or abs(len(one) - len(other)) > 2:
        return False
    row = list(range(len(other) + 1))  # edit distance
    for at, letter in enumerate(one, 1):
        last, row[0] = row[0], at
        for place, letter2 in enumerate(other, 1):
            last, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, last + (letter != letter2))
    return row[-1] <= len(one) // 8


def _unchanged(one: npt.NDArray[np.int16], other: npt.NDArray[np.int16]) -> bool:
    blocks = np.abs(one - other).reshape(12, 8, 20, 8).mean(axis=(1, 3))
    return bool(blocks.max() < 4)


def _texty(gray: npt.NDArray[np.uint8]) -> bool:
    """Whether there are rows of strong, dense, small strokes anywhere: cheap, and seldom wrong about no."""
    half = cv2.resize(gray, (gray.shape[1] // 2, gray.shape[0] // 2), interpolation=cv2.INTER_AREA)
    stroke = cv2.morphologyEx(half, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    strong = (stroke > 60).astype(np.uint8)
    joined = cv2.morphologyEx(strong, cv2.MORPH_CLOSE, np.ones((1, 9), np.uint8))
    joined = cv2.morphologyEx(joined, cv2.MORPH_OPEN, np.ones((4, 12), np.uint8))
    return bool(joined.any())


def _find(picture: Picture) -> list[tuple[int, int, int, int]]:
    height, width = picture.shape[:2]
    scale = min(1.0, _DETECT_SIDE / max(height, width))
    small = cv2.resize(
        picture, (max(32, round(width * scale)), max(32, round(height * scale))), interpolation=cv2.INTER_AREA
    )
    found = _engine().text_det(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
    if found.boxes is None:
        return []
    boxes = []
    across, along = width / small.shape[1], height / small.shape[0]
    for corners in found.boxes:
        left, top = corners.min(axis=0)
        right, bottom = corners.max(axis=0)
        rim = 0.06 * (bottom - top)
        box = (
            max(0, int((left - rim) * across)),
            max(0, int((top - rim) * along)),
            min(width, int((right + rim) * across) + 1),
            min(height, int((bottom + rim) * along) + 1),
        )
        if box[3] - box[1] >= 8 and box[2] - box[0] >= 8 and box[2] - box[0] > 0.7 * (box[3] - box[1]):
            boxes.append(box)
    return boxes[:60]


def _read(crops: Sequence[Picture]) -> list[tuple[str, float]]:
    if not crops:
        return []
    from rapidocr.ch_ppocr_rec import TextRecInput

    found = _engine().text_rec(TextRecInput(img=[cv2.cvtColor(crop, cv2.COLOR_RGB2BGR) for crop in crops]))
    return [(text.strip(), float(score)) for text, score in zip(found.txts, found.scores, strict=True)]


def _sign(crop: npt.NDArray[np.uint8]) -> npt.NDArray[np.int16]:
    sign: npt.NDArray[np.int16] = cv2.resize(crop, _SIGN, interpolation=cv2.INTER_AREA).astype(np.int16)
    return sign


def _same(one: npt.NDArray[np.int16], other: npt.NDArray[np.int16]) -> bool:
    return float(np.abs(one - other).mean()) < _SAME


def _overlap(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> float:
    """Common area over the area of both."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return width * height / (areas - width * height)


@cache
def _engine() -> Any:
    """The models of the rapidocr wheel. One thread each: two are slower here, and other videos wait."""
    from rapidocr import RapidOCR

    logging.getLogger("RapidOCR").setLevel(logging.CRITICAL)
    engine: Any = RapidOCR(
        params={
            "Global.use_cls": False,
            "Global.log_level": "critical",
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            "Det.limit_side_len": _DETECT_SIDE,
            "Det.limit_type": "max",
        }
    )
    engine._load_det_model()
    engine._load_rec_model()
    return engine
