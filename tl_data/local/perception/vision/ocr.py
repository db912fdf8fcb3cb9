"""Recognises on-screen text, as lines with their times.

Recognition is the most expensive stage, so most of it is avoided. Pictures that have not changed and pictures
without text-like texture are skipped. Lines are located in a small copy. Only new lines are recognised, in
the large picture.
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

_MIN_SLOPE = 96  # smallest Sobel response at the edge of a stroke
_MIN_DENSITY = 0.10  # smallest share of pixels on rising edges, and of pixels on falling edges, in text
_MIN_CHANGE = 8  # smallest mean difference (0-255) of a block that is searched again
_MAX_STATIC = 6  # largest mean difference (0-255) of a static block
_PAUSES = (1.0, 16.0)  # seconds between searches: shortest (while text is found) and longest
_STATIC_PAUSE = 2.0  # seconds between searches for new static content
_MAX_LINES = 60  # in one picture
_COPY_SCALE = 2 / 3  # scale of the copy in which lines are located; the cost grows with its area
_MIN_CONFIDENCE = 0.6  # of a reading
_MAX_SAME = 10.0  # largest mean difference (0-255) of two crops of the same line
_CROP_SIZE = (96, 16)  # size to which a crop is scaled for the comparison


@dataclass
class _Line:
    """A line of text on the screen, from the time it appears to the time it disappears."""

    box: Box  # in the small picture
    crop: npt.NDArray[np.int16]  # the scaled picture of the line, for comparisons
    start: float
    end: float
    readings: list[tuple[str, float]] = field(default_factory=list)  # (text, confidence), best first


class Reader:
    """Recognises the text of a stream of pictures."""

    def __init__(self) -> None:
        self._open: list[_Line] = []
        self._done: list[_Line] = []
        self._before: Gray | None = None  # the previous picture
        self._examined: Gray | None = None  # each part of the picture as it was when last searched
        self._time = 0.0  # time of the previous picture
        self._cut = self._searched = 0.0  # times of the last cut and of the last search
        self._due = 0.0  # time of the next search if nothing new is static
        self._pause = _PAUSES[0]

    def add(self, frame: DecodedFrame, small: Picture, cut: float | None = None) -> None:
        """Add the next picture. `cut` is the time of a cut since the previous one, if any."""
        gray = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        time, before = frame.time, self._before
        appeared = (time + self._time) / 2
        self._before, previous_time, self._time = gray, self._time, time
        if before is None or before.shape != gray.shape:
            self._examined, before = None, None
        if cut is not None:
            self._pause, self._due, self._examined, self._cut = _PAUSES[0], time, None, cut
        if self._follow(gray, previous_time, time, cut):
            self._pause, self._due = _PAUSES[0], time
        if self._examined is None and time - self._cut < 1:
            appeared = self._cut  # text in the first picture of a shot is shown from its beginning
        blocks = _texty(gray)
        if self._examined is not None:
            blocks &= _blocks(cv2.absdiff(gray, self._examined)) > _MIN_CHANGE
        if not blocks.any():
            return
        # Most text is static. Moving parts may contain scrolling text and are searched less often.
        has_static = (
            before is not None
            and cut is None
            and bool((blocks & (_blocks(cv2.absdiff(gray, before)) < _MAX_STATIC)).any())
        )
        if time < (min(self._due, self._searched + _STATIC_PAUSE) if has_static else self._due):
            return
        found_text = self._search(frame, gray, blocks, appeared)
        self._searched = time
        if self._examined is None:
            self._examined = gray.copy()
        else:
            area = cv2.resize(blocks.astype(np.uint8), gray.shape[::-1], interpolation=cv2.INTER_NEAREST)
            cv2.copyTo(gray, area, self._examined)
        self._pause = _PAUSES[0] if found_text else min(2 * self._pause, _PAUSES[1])
        self._due = time + self._pause

    def finish(self, end: float) -> tuple[Span, ...]:
        """End the lines that are still shown at `end`, and return all text by time and place."""
        for line in self._open:
            line.end = end
        return _spans([*self._done, *self._open])

    def _follow(self, gray: Gray, previous_time: float, time: float, cut: float | None) -> bool:
        """Extend the lines that are still shown and close the others. Returns whether any was closed."""
        count = len(self._done)
        still_shown = []
        for line in self._open:
            if cut is None and _same(line.crop, _comparison_crop(gray, line.box)):
                line.end = time
                still_shown.append(line)
            else:
                line.end = cut if cut is not None else (previous_time + time) / 2
                self._done.append(line)
                if self._examined is not None:  # the line may return after a flash: search its place again
                    left, top, right, bottom = line.box
                    part = gray[top:bottom, left:right]
                    self._examined[top:bottom, left:right] = np.where(part > 127, 0, 255)
        self._open = still_shown
        return len(self._done) > count

    def _search(self, frame: DecodedFrame, gray: Gray, blocks: Blocks, appeared: float) -> bool:
        """Search the part of the picture around `blocks` and recognise its new lines.

        Returns whether any line has a certain reading.

        Args:
            appeared: the time at which new lines appeared.
        """
        large = frame.picture(LARGE)
        scale = large.shape[1] / gray.shape[1]
        left, top, right, bottom = (round(edge * scale) for edge in _around(blocks, gray))
        new_lines, crops = [], []
        for box in _find(large[top:bottom, left:right]):
            large_box = (box[0] + left, box[1] + top, box[2] + left, box[3] + top)
            small_box = (
                int(large_box[0] / scale),
                int(large_box[1] / scale),
                ceil(large_box[2] / scale),
                ceil(large_box[3] / scale),
            )
            if not any(_overlap(line.box, small_box) > 0.5 for line in self._open):
                new_lines.append(_Line(small_box, _comparison_crop(gray, small_box), appeared, frame.time))
                crops.append(large[large_box[1] : large_box[3], large_box[0] : large_box[2]])
        for line, reading in zip(new_lines, _read(crops), strict=True):
            line.readings.append(reading)
        self._open += new_lines
        return any(line.readings[0][1] >= _MIN_CONFIDENCE for line in new_lines)


def _spans(lines: Sequence[_Line]) -> tuple[Span, ...]:
    """Convert lines to spans; drop uncertain ones and join those that continue one another."""
    kept: list[_Line] = []
    for line in sorted(lines, key=lambda line: (line.start, line.box[1], line.box[0])):
        text, confidence = line.readings[0]
        if confidence < _MIN_CONFIDENCE or sum(letter.isalnum() for letter in text) < 2:
            continue
        # Each search finds a moving line as a new one. A line with the same words soon after it continues it.
        continued = next(
            (
                earlier
                for earlier in reversed(kept[-40:])
                if line.start - earlier.end < 1.6 and _close_words(earlier.readings[0][0], text)
            ),
            None,
        )
        if continued is None:
            kept.append(line)
            continue
        continued.end = max(continued.end, line.end)
        continued.readings = sorted({*continued.readings, *line.readings}, key=lambda reading: -reading[1])
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
    """Whether two texts are equal, ignoring case, or differ in at most an eighth of six or more letters."""
    if one.casefold() == other.casefold():
        return True
    if min(len(one), len(other)) < 6 or abs(len(one) - len(other)) > 2:
        return False
    distances = list(range(len(other) + 1))  # edit distance
    for row_number, letter in enumerate(one, 1):
        diagonal, distances[0] = distances[0], row_number
        for column, other_letter in enumerate(other, 1):
            diagonal, distances[column] = (
                distances[column],
                min(distances[column] + 1, distances[column - 1] + 1, diagonal + (letter != other_letter)),
            )
    return distances[-1] <= len(one) // 8


def _texty(gray: Gray) -> Blocks:
    """The blocks that may contain text: rows of many strokes with rising and falling edges."""
    slope = cv2.Sobel(gray, cv2.CV_16S, 1, 0, ksize=3)
    window = (31, 7)
    rising = cv2.blur((slope > _MIN_SLOPE).astype(np.uint8) * 255, window)
    falling = cv2.blur((slope < -_MIN_SLOPE).astype(np.uint8) * 255, window)
    dense = (cv2.min(rising, falling) > 255 * _MIN_DENSITY).astype(np.uint8)
    rows = cv2.morphologyEx(dense, cv2.MORPH_OPEN, np.ones((4, 14), np.uint8))
    return _blocks(rows * 255) > 40


def _blocks(plane: Gray) -> npt.NDArray[Any]:
    """Means over blocks of about 16 x 16 pixels."""
    height, width = plane.shape
    return np.asarray(
        cv2.resize(plane, (max(2, width // 16), max(2, height // 16)), interpolation=cv2.INTER_AREA)
    )


def _around(blocks: Blocks, gray: Gray) -> tuple[int, int, int, int]:
    """The bounding box of `blocks` with a margin, in pixels of `gray`."""
    height, width = gray.shape
    rows, columns = np.nonzero(blocks.any(axis=1))[0], np.nonzero(blocks.any(axis=0))[0]
    block_height, block_width = height / blocks.shape[0], width / blocks.shape[1]
    return (
        max(0, int((columns[0] - 2) * block_width)),
        max(0, int((rows[0] - 1.5) * block_height)),
        min(width, int((columns[-1] + 3) * block_width) + 1),
        min(height, int((rows[-1] + 2.5) * block_height) + 1),
    )


def _find(part: Picture) -> list[Box]:
    """The boxes of text lines in a part of the large picture, located in a smaller copy."""
    height, width = part.shape[:2]
    size = max(32, round(width * _COPY_SCALE)), max(32, round(height * _COPY_SCALE))
    copy = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    detected = _engine().text_det(cv2.cvtColor(copy, cv2.COLOR_RGB2BGR))
    scale_x, scale_y = width / size[0], height / size[1]
    boxes = []
    for corners in detected.boxes if detected.boxes is not None else ():
        left, top = corners.min(axis=0)
        right, bottom = corners.max(axis=0)
        margin_y, margin_x = 0.06 * (bottom - top), 0.2 * (bottom - top)
        box = (
            max(0, int((left - margin_x) * scale_x)),
            max(0, int((top - margin_y) * scale_y)),
            min(width, ceil((right + margin_x) * scale_x)),
            min(height, ceil((bottom + margin_y) * scale_y)),
        )
        if box[3] - box[1] >= 8 and box[2] - box[0] > 0.7 * (box[3] - box[1]):
            boxes.append(box)
    return boxes[:_MAX_LINES]


def _read(crops: Sequence[Picture]) -> list[tuple[str, float]]:
    """Recognise the text of crops: text and confidence of each."""
    if not crops:
        return []
    from rapidocr.ch_ppocr_rec import TextRecInput

    recognised = _engine().text_rec(
        TextRecInput(img=[cv2.cvtColor(crop, cv2.COLOR_RGB2BGR) for crop in crops])
    )
    return [
        (text.strip(), float(score)) for text, score in zip(recognised.txts, recognised.scores, strict=True)
    ]


def _comparison_crop(gray: Gray, box: Box) -> npt.NDArray[np.int16]:
    """Crop a line from the picture and scale it for comparisons."""
    left, top, right, bottom = box
    crop: npt.NDArray[np.int16] = cv2.resize(
        gray[top:bottom, left:right], _CROP_SIZE, interpolation=cv2.INTER_AREA
    ).astype(np.int16)
    return crop


def _same(one: npt.NDArray[np.int16], other: npt.NDArray[np.int16]) -> bool:
    """Whether two crops show the same line."""
    return float(np.abs(one - other).mean()) < _MAX_SAME


def _overlap(one: Box, other: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return width * height / (areas - width * height)


@cache
def _engine() -> Any:
    """Load the models of the rapidocr wheel, once per process.

    Each model uses one thread. A second thread makes it slower and is needed for other videos.
    """
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
