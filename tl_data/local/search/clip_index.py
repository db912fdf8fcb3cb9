"""The clips of one index, held in memory as columns that searches scan.

Rows are only appended. A search reads the first `count` rows, which existed when it began, so it needs no
lock while another thread appends. Removing a video clears a flag of its rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tl_data.local.perception.attributes import (
    TRAIT_NUMBER,
    TRAITS,
    Words,
    screen_text_between,
    speech_between,
)
from tl_data.local.perception.evidence import Clip, Evidence, Span
from tl_data.local.perception.vision import concepts
from tl_data.local.search.fuzzy import Vocabulary
from tl_data.local.search.parser import tokens
from tl_data.local.search.transcript import times_of
from tl_data.local.search.vectors import Bools, Column, Floats, Rows, TextRows, Texts
from tl_data.local.search.word_vectors import WORD_DIMENSION, word_vectors

_MINIMUM_PROBABILITY = 0.04  # a concept with a lower probability is not indexed


@dataclass(frozen=True)
class ClipColumns:
    """The clips of one video as columns, for `ClipIndex` and for storage."""

    number: int  # the number of the video; see `clip_id`
    times: Floats  # n x 2: start, end
    traits: NDArray[np.uint8]  # n x traits, strengths 0 to 255
    shown: Texts
    said: Texts
    descriptors: Floats  # n x size, of the pictures; zeros for a clip without one, n x 0 if no clip has one
    encoder_vectors: Floats  # n x size, from the image encoder; zeros or n x 0 as above
    # m x 3: position of the clip, number of the concept (see concepts.py), probability 0 to 255
    concepts: NDArray[np.int32] = field(default_factory=lambda: np.zeros((0, 3), np.int32))


def clip_id(number: int, position: int) -> int:
    """The id of a clip: the number of its video and the position in the video, in one integer."""
    return number << 16 | position


@dataclass
class ClipIndex:
    """The clips of all videos of an index. A row is the position of a clip in all columns."""

    count: int = 0
    videos: dict[int, str] = field(default_factory=dict)  # number -> video id

    def __post_init__(self) -> None:
        self._ids = Column(np.int64)
        self._times = Column(np.float32, 2)
        self._traits = Column(np.uint8, len(TRAITS))
        self._alive = Column(np.bool_)
        self._descriptors = _Vectors()
        self._encoder_vectors = _Vectors()
        self._concepts: dict[int, _Postings] = {}
        self.shown = TextRows()
        self.said = TextRows()
        self.vocabulary = Vocabulary()

    def add(self, columns: ClipColumns, video_id: str) -> None:
        """Append a video. Videos must be added in the order of their numbers, which keeps ids sorted."""
        n, first_row = len(columns.times), self.count
        self.videos[columns.number] = video_id
        self._ids.put(first_row, np.arange(n, dtype=np.int64) + (columns.number << 16))
        self._times.put(first_row, columns.times.T)
        self._traits.put(first_row, columns.traits.T)
        self._alive.put(first_row, np.ones(n, bool))
        self._descriptors.put(first_row, columns.descriptors)
        self._encoder_vectors.put(first_row, columns.encoder_vectors)
        self._put_concepts(first_row, columns.concepts)
        self.count = first_row + n  # set before the texts are added, which refer to these rows
        self.shown.add(first_row, columns.shown)
        self.said.add(first_row, columns.said)

    def _put_concepts(self, first_row: int, table: NDArray[np.int32]) -> None:
        if not len(table):
            return
        order = np.argsort(table[:, 1], kind="stable")
        numbers, starts = np.unique(table[order, 1], return_index=True)
        for number, selection in zip(numbers.tolist(), np.split(order, starts[1:]), strict=True):
            rows = self._concepts.setdefault(number, _Postings())
            rows.put(table[selection, 0].astype(np.int32) + first_row, table[selection, 2].astype(np.uint8))

    @property
    def has_labels(self) -> bool:
        """Whether any clip has recognised objects."""
        return bool(self._concepts)

    def concept(self, number: int, count: int) -> Floats:
        """The probability of a concept in each of the first `count` rows, 0 to 1."""
        probabilities = np.zeros(count, np.float32)
        if postings := self._concepts.get(number):
            rows, strengths = postings.below(count)
            probabilities[rows] = strengths.astype(np.float32) / np.float32(255)
        return probabilities

    def remove(self, number: int) -> None:
        """Remove a video. Its rows stay in memory, unused, until the index is loaded again."""
        self.videos.pop(number, None)
        first, last = np.searchsorted(self.ids, [number << 16, (number + 1) << 16])
        self._alive.data[first:last] = False

    @property
    def ids(self) -> Rows:
        """Clip ids, ascending."""
        return np.asarray(self._ids.data[: self.count], np.int64)

    def times(self, row: int) -> tuple[float, float]:
        """Start and end of a clip in seconds."""
        return round(float(self._times.data[0, row]), 3), round(float(self._times.data[1, row]), 3)

    def allowed(self, video_ids: Iterable[str] | None) -> Bools:
        """Which rows to search: those of videos not removed and, if given, of the videos in `video_ids`."""
        count = self.count
        alive = np.array(self._alive.data[:count], bool)
        if video_ids is not None:
            selected = set(video_ids)
            numbers = np.array([n for n, v in self.videos.copy().items() if v in selected], np.int64)
            alive &= np.isin(self.ids[:count] >> 16, numbers)
        return alive

    def trait(self, number: int, count: int) -> NDArray[np.uint8]:
        """The strength of a trait, 0 to 255, for the first `count` rows."""
        return np.asarray(self._traits.data[number, :count], np.uint8)

    def rows_of(self, ids: Rows) -> Rows:
        """The rows of clip ids; -1 for an unknown id."""
        if not self.count or not len(ids):
            return np.full(len(ids), -1, np.int64)
        known = self.ids
        positions = np.minimum(np.searchsorted(known, ids), len(known) - 1)
        return np.where(known[positions] == ids, positions, -1)

    def strength(self, number: int, row: int) -> float:
        """The strength of a trait of one clip, 0 to 1."""
        return float(self._traits.data[number, row]) / 255

    def strengths(self, number: int, rows: Rows) -> Floats:
        """The strengths of a trait of some clips, 0 to 1."""
        return np.asarray(self._traits.data[number, rows], np.float32) / np.float32(255)

    def descriptor_cosines(self, vector: Floats, count: int) -> Floats | None:
        """The cosine of each clip's image descriptor and a unit vector; None without vectors of its size."""
        return self._descriptors.cosines(vector, count)

    def encoder_cosines(self, vector: Floats, count: int) -> Floats | None:
        """The cosine of each clip's encoder vector and a unit vector; None without encoder vectors."""
        return self._encoder_vectors.cosines(vector, count)


class _Postings:
    """The rows with a concept, ascending, and the probability of the concept in each."""

    def __init__(self) -> None:
        self._count = 0
        self._rows, self._strengths = np.zeros(8, np.int32), np.zeros(8, np.uint8)

    def put(self, rows: NDArray[np.int32], strengths: NDArray[np.uint8]) -> None:
        new_count = self._count + len(rows)
        if new_count > len(self._rows):
            size = max(new_count, 2 * len(self._rows))
            self._rows, self._strengths = (
                np.concatenate((column, np.zeros(size - len(column), column.dtype)))
                for column in (self._rows, self._strengths)
            )
        self._rows[self._count : new_count], self._strengths[self._count : new_count] = rows, strengths
        self._count = new_count

    def below(self, count: int) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        size = self._count
        end = int(np.searchsorted(self._rows[:size], count))
        return self._rows[:end], self._strengths[:end]


class _Vectors:
    """Vectors by row. Vectors that differ in size from the first one are ignored."""

    def __init__(self) -> None:
        self._column: Column | None = None

    def put(self, at: int, vectors: Floats) -> None:
        if not vectors.shape[1]:
            return
        if self._column is None:
            self._column = Column(np.float32, vectors.shape[1])
        if vectors.shape[1] == self._column.data.shape[0]:
            self._column.put(at, vectors.T)

    def cosines(self, vector: Floats, count: int) -> Floats | None:
        column = self._column
        if column is None or column.data.shape[0] != len(vector):
            return None
        # The last videos may have no vectors, so the buffer may be shorter than the index.
        cosines = np.zeros(count, np.float32)
        vectors = np.asarray(column.data[:, :count], np.float32)
        cosines[: vectors.shape[1]] = vector @ vectors
        return cosines


def text_row(evidence: Evidence, clip: Clip, words: Words) -> tuple[str, str, str, str, str] | None:
    """The row of a clip in the full-text table: shown, said, maybe, named (see `Words`), and spans as JSON.

    Spans are [[kind, start, end, text, times], ...]. `times` is a flat list of the start and end of each
    word; it is absent if they are unknown. A clip without text gives None.
    """
    if not (words.shown or words.said or words.maybe or words.named):
        return None
    shown = screen_text_between(evidence, clip.start_sec, clip.end_sec)
    said = speech_between(evidence, clip.start_sec, clip.end_sec)
    spans = [
        [kind, round(span.start_sec, 3), round(span.end_sec, 3), span.text.strip(), *_times(span)]
        for kind, spans_of_kind in (("shown", shown), ("said", said))
        for span in spans_of_kind
    ]
    return words.shown, words.said, words.maybe, words.named, json.dumps(spans, ensure_ascii=False)


def _times(span: Span) -> list[list[float]]:
    """The optional last item of a span: the flat list of times, in a list that is empty without times."""
    times = [second for word in times_of(span) for second in word]
    return [times] if times else []


def columns_of(number: int, evidence: Evidence, words: Sequence[Words], encoder: str = "") -> ClipColumns:
    """The columns of a video. Vectors of an encoder other than `encoder` are left out."""
    clips = evidence.clips
    times = np.array([(c.start_sec, c.end_sec) for c in clips], np.float32).reshape(-1, 2)
    traits = np.zeros((len(clips), len(TRAITS)), np.uint8)
    for row, clip_words in enumerate(words):
        for trait, strength in clip_words.traits:
            traits[row, TRAIT_NUMBER[trait]] = round(255 * strength)
    return ClipColumns(
        number,
        times,
        traits,
        _texts([w.shown for w in words]),
        _texts([w.said for w in words]),
        _rows([clip.image_descriptor for clip in clips]),
        _rows([clip.encoder_vector if evidence.encoder == encoder else () for clip in clips]),
        _concepts(clips),
    )


def _concepts(clips: Sequence[Clip]) -> NDArray[np.int32]:
    """The recognised concepts of each clip, including hypernyms."""
    table = [
        (position, number, round(255 * probability))
        for position, clip in enumerate(clips)
        for number, probability in concepts.probabilities(clip).items()
        if probability >= _MINIMUM_PROBABILITY
    ]
    return np.array(table, np.int32).reshape(-1, 3)


def _rows(vectors: Sequence[Sequence[float]]) -> Floats:
    """Vectors as rows of an array; a missing vector becomes zeros."""
    size = max((len(vector) for vector in vectors), default=0)
    rows = np.zeros((len(vectors), size), np.float32)
    for row, vector in zip(rows, vectors, strict=True):
        if len(vector) == size:
            row[:] = vector
    return rows


def _texts(texts: Sequence[str]) -> Texts:
    """The vectors of the texts that are not empty."""
    rows = [row for row, text in enumerate(texts) if text]
    if not rows:
        return Texts(np.zeros(0, np.int32), np.zeros((0, WORD_DIMENSION), np.float16))
    vectors = word_vectors([texts[row] for row in rows]).astype(np.float16)
    return Texts(np.array(rows, np.int32), vectors)


def vocabulary_of(words: Sequence[Words]) -> list[str]:
    """The distinct words of a video's texts."""
    texts = " ".join(
        text
        for clip_words in words
        for text in (clip_words.shown, clip_words.said, clip_words.maybe, clip_words.named)
    )
    return sorted(set(tokens(texts)))
