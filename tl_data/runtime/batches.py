"""The distinct rows of a batch of Arrow columns.

A SQL engine passes batches of thousands of rows. Only the distinct rows of a batch are passed to the pool,
and each result is converted to Arrow once. `expand_values` and `expand_outcomes` repeat it for equal rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tl_data.runtime.pool import outcome_row
from tl_data.runtime.result_cache import Outcome, share_outcome


@dataclass(frozen=True)
class DistinctRows:
    """The distinct rows of a batch, in the order of their first appearance. `len` is that of the batch."""

    rows: list[dict[str, Any]]
    positions: list[int]  # for each distinct row the position of its first appearance in the batch
    inverse: list[int]  # for each row of the batch the index of its distinct row in `rows`

    @classmethod
    def of(cls, names: Sequence[str], columns: Sequence[Any], size: int) -> DistinctRows:
        """Find the distinct rows of a batch.

        Args:
            names: the name of each column.
            columns: Arrow arrays.
            size: the number of rows, for a batch without columns.
        """
        tuples = list(zip(*(column.to_pylist() for column in columns), strict=True)) or [()] * size
        index_of: dict[Any, int] = {}
        positions: list[int] = []
        inverse: list[int] = []
        for position, row in enumerate(tuples):
            index = index_of.setdefault(_key(row), len(positions))
            if index == len(positions):
                positions.append(position)
            inverse.append(index)
        rows = [dict(zip(names, tuples[position], strict=True)) for position in positions]
        return cls(rows, positions, inverse)

    def __len__(self) -> int:
        return len(self.inverse)

    def expand_values(self, values: Sequence[Any], arrow_type: pa.DataType) -> pa.Array:
        """The array of the batch, from one value for each distinct row."""
        array = pa.array(values, arrow_type)
        return array if len(values) == len(self) else array.take(pa.array(self.inverse, pa.int32()))

    def expand_outcomes(self, outcomes: Sequence[Outcome], arrow_type: pa.DataType) -> pa.Array:
        """The array of the batch, from one outcome for each distinct row.

        Only the first of equal rows has the cost. The others count as reused.
        """
        rows = [outcome_row(outcome) for outcome in outcomes]
        if len(rows) == len(self):
            return pa.array(rows, arrow_type)
        # The first half of `rows` has the costs, the second half the same outcomes without costs.
        rows += [outcome_row(share_outcome(outcome)) for outcome in outcomes]
        indexes = [index + len(outcomes) for index in self.inverse]
        for index, position in enumerate(self.positions):
            indexes[position] = index
        return pa.array(rows, arrow_type).take(pa.array(indexes, pa.int32()))


def _key(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A hashable key, equal for equal rows. Values of a type that cannot be hashed are lists."""
    try:
        hash(row)
    except TypeError:
        return tuple(tuple(v) if isinstance(v, list) else v for v in row)
    return row
