"""Growing columns of numbers, and nearest-neighbour search over vectors of texts.

Buffers are append-only and double in size when they are full. The rows below a count that a reader has read
do not change while another thread appends.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tl_data.local.search.word_vectors import WORD_DIMENSION

EXACT_ROWS = 4000  # up to this number of vectors all are compared; of more, sign bits preselect some
_PRESELECTED = 1500  # the number of preselected vectors
_INITIAL_SIZE = 1024  # the first size of a buffer

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Texts:
    """Vectors of the texts of clips."""

    rows: NDArray[np.int32]  # the position of each text's clip in the video
    vectors: NDArray[np.float16]  # one unit vector per text


class Column:
    """A buffer that grows at the end along its last axis."""

    def __init__(self, dtype: type[np.generic], *shape: int) -> None:
        self._shape, self._dtype = shape, dtype
        self.data: NDArray[np.generic] = np.zeros((*shape, _INITIAL_SIZE), dtype)

    def put(self, at: int, values: NDArray[np.generic]) -> None:
        """Write values from position `at` on, which is the end of the rows that readers use."""
        new_size = at + values.shape[-1]
        if new_size > self.data.shape[-1]:
            larger = np.zeros((*self._shape, max(new_size, 2 * self.data.shape[-1])), self._dtype)
            larger[..., :at] = self.data[..., :at]
            self.data = larger
        self.data[..., at:new_size] = values


class TextRows:
    """The vectors of one kind of text over all clips.

    Among few vectors the search is exact; of many, sign bits preselect those that are compared.
    """

    def __init__(self) -> None:
        self.count = 0
        self._rows = Column(np.int64)
        self._codes = Column(np.uint64, WORD_DIMENSION // 64)  # the sign bits, 32 bytes per text
        self._vectors = np.zeros((_INITIAL_SIZE, WORD_DIMENSION), np.float16)

    def add(self, first_row: int, texts: Texts) -> None:
        """Append the texts of a video whose first clip is row `first_row` of the index."""
        n = len(texts.rows)
        if not n:
            return
        if self.count + n > len(self._vectors):
            larger = np.zeros((max(self.count + n, 2 * len(self._vectors)), WORD_DIMENSION), np.float16)
            larger[: self.count] = self._vectors[: self.count]
            self._vectors = larger
        self._vectors[self.count : self.count + n] = texts.vectors
        self._codes.put(self.count, _codes(texts.vectors))
        self._rows.put(self.count, texts.rows.astype(np.int64) + first_row)
        self.count += n

    def nearest(
        self, vector: Floats, limit: int, allowed: Bools, compared: int = _PRESELECTED
    ) -> tuple[Rows, Floats]:
        """The rows of the index whose texts are nearest to a unit vector, and their cosines, nearest first.

        Args:
            limit: the largest number of rows.
            allowed: for each row of the index, whether it is searched.
            compared: the number of vectors that sign bits preselect; with ties up to twice as many.
        """
        count = self.count
        rows = np.asarray(self._rows.data[:count], np.int64)
        # Usually all rows are allowed, and the filter is skipped.
        all_allowed = not count or (rows[-1] < len(allowed) and allowed.all())
        keep = None if all_allowed else allowed[np.minimum(rows, len(allowed) - 1)] & (rows < len(allowed))
        chosen = np.arange(count) if keep is None else np.flatnonzero(keep)
        if len(chosen) > EXACT_ROWS:
            codes = np.asarray(self._codes.data, np.uint64)
            distance = np.zeros(count, np.uint16)
            for part, code in enumerate(_codes(vector[None])[:, 0]):
                distance += np.bitwise_count(codes[part, :count] ^ code)
            if keep is not None:
                distance[~keep] = np.iinfo(np.uint16).max
            # Find the smallest distance within which there are enough rows. Counting is faster than sorting.
            rows_by_distance = np.bincount(
                distance if keep is None else distance[keep], minlength=WORD_DIMENSION + 1
            )
            chosen = np.flatnonzero(distance <= np.searchsorted(np.cumsum(rows_by_distance), compared))[
                : 2 * compared
            ]
        cosines = self._vectors[chosen].astype(np.float32) @ vector
        best = np.argsort(-cosines, kind="stable")[:limit]
        return np.asarray(rows[chosen[best]], np.int64), cosines[best]


def _codes(vectors: NDArray[np.float16] | Floats) -> NDArray[np.uint64]:
    """The sign bits of n vectors, as 4 x n integers of 64 bits."""
    bits = np.packbits(vectors > 0, axis=1)
    return np.ascontiguousarray(bits.view(np.uint64).T)
