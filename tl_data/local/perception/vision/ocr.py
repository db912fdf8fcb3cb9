"""Recognises on-screen text, as lines with their times.

Recognition is the most expensive stage, so it is avoided in steps: pictures that have not changed and
pictures without text-like texture are skipped, lines are located in a small copy, and only new lines are
recognised, in the large picture.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from math import ceil
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tl_data.local.perception.decode import LARGE, DecodedFrame, Picture
from tl_data.local.perception.evidence import Span

Gray = npt.NDArray[np.uint8]
Blocks = npt.NDArray[np.bool_]
Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels

_SLOPE = 96  # Sobel response at the edge of a stroke
_DENSITY = 0.10  # least share of pixels on rising, and on falling, edges
_CHANGED = 8  # least mean difference (0-255) of a block that is searched again
_RESTS = 6  # largest mean difference of a static block
_PAUSES = (1.0, 16.0)  # seconds between searches: while text is found, and the longest
_SOONEST = 2.0  # seconds between searches for new static content
_MOST_LINES = 60
_COPY = 2 / 3  # scale of the copy in which lines are located: the cost grows with its area
_SURE = 0.6  # least confidence of a reading
_SAME = 10.0  # largest mean difference (0-255) of two crops of the same line
_SIGN = (96, 16)  # size of the crop that is compared


@dataclass
class _Line:
    """A line of text on the screen, from its first to its last time."""

    box: Box  # in the small picture
    sign: npt.NDArray[np.int16]
    start: float
    end: float
    readings: list[tuple[str, float]] = field(default_factory=list)


class Reader:
    """Recognises the text of a stream of pictures."""

    def __init__(self) -> None:
        self._open: list[_Line] = []
        self._done: list[_Line] = []
        self._before: Gray | None = None  # the last picture
        self._examined: Gray | None = None  # each part as it was when it was last searched
        self._time = 0.0
        self._cut = self._searched = 0.0
        self._rested = 0.0  # time of the next search if nothing is static
        self._pause = _PAUSES[0]

    def add(self, seen: DecodedFrame, small: Picture, cut: float | None = None) -> None:
        """Add the next picture. `cut` is the time of a cut since the last one."""
        gray = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        time, before = seen.time, self._before
        came = (time + self._time) / 2
        self._before, last, self._time = gray, self._time, time
        if before is None or before.shape != gray.shape:
            self._examined, before = None, None
        if cut is not None:
            self._pause, self._rested, self._examined, self._cut = _PAUSES[0], time, None, cut
        if self._follow(gray, last, time, cut):
            self._pause, self._rested = _PAUSES[0], time
        if self._examined is None and time - self._cut < 1:
            came = self._cut  # text in the first picture of a shot is shown from its beginning
        blocks = _texty(gray)
        if self._examined is not None:
            blocks &= _blocks(cv2.absdiff(gray, self._examined)) > _CHANGED
        if not blocks.any():
            return
        # Text is static. Moving parts are searched less often, for scrolling text.
        rests = (
            before is not None
            and cut is None
            and bool((blocks & (_blocks(cv2.absdiff(gray, before)) < _RESTS)).any())
        )
        if time < (min(self._rested, self._searched + _SOONEST) if rests else self._rested):
            return
        found = self._search(seen, gray, blocks, came)
        self._searched = time
        if self._examined is None:
            self._examined = gray.copy()
        else:
            area = cv2.resize(blocks.astype(np.uint8), gray.shape[::-1], interpolation=cv2.INTER_NEAREST)
            cv2.copyTo(gray, area, self._examined)
        self._pause = _PAUSES[0] if found else min(2 * self._pause, _PAUSES[1])
        self._rested = time + self._pause

    def finish(self, end: float) -> tuple[Span, ...]:
        """All text, in order of time and place."""
        for line in self._open:
            line.end = end
        return _spans([*self._done, *self._open])

    def _follow(self, gray: Gray, last: float, time: float, cut: float | None) -> bool:
        """Extend the lines that are still shown and close the others; returns whether any was closed."""
        count = len(self._done)
        stay = []
        for line in self._open:
            if cut is None and _same(line.sign, _sign(gray, line.box)):
                line.end = time
                stay.append(line)
            else:
                line.end = cut if cut is not None else (last + time) / 2
                self._done.append(line)
                if self._examined is not None:  # it may return after a flash: search there again
                    left, top, right, bottom = line.box
                    here = gray[top:bottom, left:right]
                    self._examined[top:bottom, left:right] = np.where(here > 127, 0, 255)
        self._open = stay
        return len(self._done) > count

    def _search(self, seen: DecodedFrame, gray: Gray, blocks: Blocks, came: float) -> bool:
        """Search the part of the picture around `blocks` and recognise its new lines."""
        large = seen.picture(LARGE)
        scale = large.shape[1] / gray.shape[1]
        left, top, right, bottom = (round(edge * scale) for edge in _around(blocks, gray))
        fresh, crops = [], []
        for box in _find(large[top:bottom, left:right]):
            here = (box[0] + left, box[1] + top, box[2] + left, box[3] + top)
            small = (int(here[0] / scale), int(here[1] / scale), ceil(here[2] / scale), ceil(here[3] / scale))
            if not any(_overlap(line.box, small) > 0.5 for line in self._open):
                fresh.append(_Line(small, _sign(gray, small), came, seen.time))
                crops.append(large[here[1] : here[3], here[0] : here[2]])
        for line, reading in zip(fresh, _read(crops), strict=True):
            line.readings.append(reading)
        self._open += fresh
        return any(line.readings[0][1] >= _SURE for line in fresh)


def _spans(lines: Sequence[_Line]) -> tuple[Span, ...]:
    kept: list[_Line] = []
    for line in sorted(lines, key=lambda line: (line.start, line.box[1], line.box[0])):
        text, sure = line.readings[0]
        if sure < _SURE or sum(letter.isalnum() for letter in text) < 2:
            continue
        # A moving line is found as new each time. The same words a moment later continue it.
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


def _texty(gray: Gray) -> Blocks:
    """The blocks that may contain text: rows of many strokes with rising and falling edges."""
    slope = cv2.Sobel(gray, cv2.CV_16S, 1, 0, ksize=3)
    window = (31, 7)
    rising = cv2.blur((slope > _SLOPE).astype(np.uint8) * 255, window)
    falling = cv2.blur((slope < -_SLOPE).astype(np.uint8) * 255, window)
    dense = (cv2.min(rising, falling) > 255 * _DENSITY).astype(np.uint8)
    rows = cv2.morphologyEx(dense, cv2.MORPH_OPEN, np.ones((4, 14), np.uint8))
    return _blocks(rows * 255) > 40


def _blocks(plane: Gray) -> npt.NDArray[Any]:
    """Means over blocks of about 16 x 16 pixels."""
    height, width = plane.shape
    return np.asarray(
        cv2.resize(plane, (max(2, width // 16), max(2, height // 16)), interpolation=cv2.INTER_AREA)
    )


def _around(blocks: Blocks, gray: Gray) -> tuple[int, int, int, int]:
    """The bounding box of the blocks with a margin, in pixels of `gray`."""
    height, width = gray.shape
    rows, columns = np.nonzero(blocks.any(axis=1))[0], np.nonzero(blocks.any(axis=0))[0]
    along, across = height / blocks.shape[0], width / blocks.shape[1]
    return (
        max(0, int((columns[0] - 2) * across)),
        max(0, int((rows[0] - 1.5) * along)),
        min(width, int((columns[-1] + 3) * across) + 1),
        min(height, int((rows[-1] + 2.5) * along) + 1),
    )


def _find(part: Picture) -> list[Box]:
    """The boxes of text lines in a part of the large picture, located in a smaller copy."""
    height, width = part.shape[:2]
    size = max(32, round(width * _COPY)), max(32, round(height * _COPY))
    copy = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    found = _engine().text_det(cv2.cvtColor(copy, cv2.COLOR_RGB2BGR))
    across, along = width / size[0], height / size[1]
    boxes = []
    for corners in found.boxes if found.boxes is not None else ():
        left, top = corners.min(axis=0)
        right, bottom = corners.max(axis=0)
        rim, side = 0.06 * (bottom - top), 0.2 * (bottom - top)
        box = (
            max(0, int((left - side) * across)),
            max(0, int((top - rim) * along)),
            min(width, ceil((right + side) * across)),
            min(height, ceil((bottom + rim) * along)),
        )
        if box[3] - box[1] >= 8 and box[2] - box[0] > 0.7 * (box[3] - box[1]):
            boxes.append(box)
    return boxes[:_MOST_LINES]


def _read(crops: Sequence[Picture]) -> list[tuple[str, float]]:
    if not crops:
        return []
    from rapidocr.ch_ppocr_rec import TextRecInput

    found = _engine().text_rec(TextRecInput(img=[cv2.cvtColor(crop, cv2.COLOR_RGB2BGR) for crop in crops]))
    return [(text.strip(), float(score)) for text, score in zip(found.txts, found.scores, strict=True)]


def _sign(gray: Gray, box: Box) -> npt.NDArray[np.int16]:
    left, top, right, bottom = box
    sign: npt.NDArray[np.int16] = cv2.resize(
        gray[top:bottom, left:right], _SIGN, interpolation=cv2.INTER_AREA
    ).astype(np.int16)
    return sign


def _same(one: npt.NDArray[np.int16], other: npt.NDArray[np.int16]) -> bool:
    return float(np.abs(one - other).mean()) < _SAME


def _overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return width * height / (areas - width * height)


@cache
def _engine() -> Any:
    """The models of the rapidocr wheel, with one thread each: two are slower, and other videos need them."""
    from rapidocr import RapidOCR

    logging.getLogger("RapidOCR").setLevel(logging.CRITICAL)
    engine: Any = RapidOCR(
        params={
            "Global.use_cls": False,
            "Global.log_level": "critical",
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            "Det.limit_side_len": LARGE,
            "Det.limit_type": "max",
        }
    )
    engine._load_det_model()
    engine._load_rec_model()
    return engine
