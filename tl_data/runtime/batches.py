"""Batches of rows from Arrow columns: equal rows are one row, which is called and converted once.

A SQL engine passes thousands of rows at a time. Only the distinct rows of a batch go to the pool, and Arrow
repeats their answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tl_data.runtime.pool import outcome_row
from tl_data.runtime.result_cache import Outcome, share_outcome


@dataclass(frozen=True)
class Batch:
    """The distinct rows of a batch, in the order of their first appearance."""

    rows: list[dict[str, Any]]
    positions: list[int]  # the position of each of these rows in the batch
    inverse: list[int]  # for each row of the batch the number of its distinct row

    @classmethod
    def of(cls, names: Sequence[str], columns: Sequence[Any], size: int) -> Batch:
        """Read a batch.

        Args:
            names: the name of each column.
            columns: Arrow arrays.
            size: the number of rows.
        """
        tuples = list(zip(*(column.to_pylist() for column in columns), strict=True)) or [()] * size
        numbers: dict[Any, int] = {}
        positions: list[int] = []
        inverse: list[int] = []
        for position, row in enumerate(tuples):
            number = numbers.setdefault(_key(row), len(positions))
            if number == len(positions):
                positions.append(position)
            inverse.append(number)
        rows = [dict(zip(names, tuples[position], strict=True)) for position in positions]
        return cls(rows, positions, inverse)

    def __len__(self) -> int:
        return len(self.inverse)

    def values(self, values: Sequence[Any], kind: pa.DataType) -> pa.Array:
        """The values of the distinct rows, for all rows."""
        array = pa.array(values, kind)
        return array if len(values) == len(self) else array.take(pa.array(self.inverse, pa.int32()))

    def outcomes(self, outcomes: Sequence[Outcome], kind: pa.DataType) -> pa.Array:
        """The outcomes of the distinct rows, for all rows. Only the first of equal rows has the cost."""
        rows = [outcome_row(outcome) for outcome in outcomes]
        if len(rows) == len(self):
            return pa.array(rows, kind)
        rows += [outcome_row(share_outcome(outcome)) for outcome in outcomes]
        numbers = [number + len(outcomes) for number in self.inverse]
        for number, position in enumerate(self.positions):
            numbers[position] = number
        return pa.array(rows, kind).take(pa.array(numbers, pa.int32()))


def _key(row: tuple[Any, ...]) -> tuple[Any, ...]:
    try:
        hash(row)
    except TypeError:  # lists
        return tuple(tuple(v) if isinstance(v, list) else v for v in row)
    return row
