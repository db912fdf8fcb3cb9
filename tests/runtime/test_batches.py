"""Batches of rows: equal rows are one, and their outcomes have the cost once; lists of outcomes."""

from __future__ import annotations

import asyncio
from itertools import chain

import pyarrow as pa

from tl_data.runtime.batches import DistinctRows
from tl_data.runtime.pool import Pool
from tl_data.runtime.result_cache import Outcome
from tl_data.types import outcome_of
from tl_data.usage import Usage

COLUMNS = [
    pa.array(["a", "b", "a", None, "b", "a", None]),
    pa.array([[1], [1], [1], None, [1], [2], None], pa.list_(pa.int64())),
]


def test_equal_rows_are_one() -> None:
    batch = DistinctRows.of(["text", "options"], COLUMNS, 7)
    assert len(batch) == 7
    assert batch.rows == [
        {"text": "a", "options": [1]},
        {"text": "b", "options": [1]},
        {"text": None, "options": None},
        {"text": "a", "options": [2]},
    ]
    assert batch.positions == [0, 1, 3, 5]
    assert batch.expand_values([10, 20, None, 30], pa.int64()).to_pylist() == [10, 20, 10, None, 20, 30, None]


def test_the_first_of_equal_rows_has_the_cost() -> None:
    batch = DistinctRows.of(["text"], [pa.array(["a", "b", "a", "a"])], 4)
    outcomes = [Outcome("A", None, Usage(calls=1, model="m")), Outcome("B", None, Usage(calls=2))]
    rows = batch.expand_outcomes(outcomes, outcome_of(pa.string())).to_pylist()
    assert [row["value"] for row in rows] == ["A", "B", "A", "A"]
    assert [(row["usage"]["calls"], row["usage"]["reused"]) for row in rows] == [
        (1, 0),
        (2, 0),
        (0, 1),
        (0, 1),
    ]
    assert [row["provenance"]["model"] for row in rows] == ["m", None, "m", "m"]


def test_a_batch_without_arguments_or_rows() -> None:
    assert DistinctRows.of([], [], 3).expand_values([7], pa.int64()).to_pylist() == [7, 7, 7]
    empty = DistinctRows.of(["text"], [pa.array([], pa.string())], 0)
    assert (len(empty), empty.rows, empty.expand_values([], pa.string()).to_pylist()) == (0, [], [])


def test_known_outcomes_are_one_list_and_a_slow_row_holds_back_only_later_ones() -> None:
    slow = asyncio.Event()

    async def run(row: int) -> int:
        if row == 5:
            await slow.wait()
        return row

    async def main() -> tuple[list[list[int]], list[list[int]]]:
        pool = Pool(16)
        first = []
        async for chunk in pool.chunks(run, range(10)):
            first.append([outcome.value for outcome in chunk])
            if sum(map(len, first)) == 5:
                slow.set()
        again = [[o.value for o in chunk] async for chunk in pool.chunks(run, list(range(10)) * 30, most=256)]
        return first, again

    first, again = asyncio.run(main())
    assert list(chain(*first)) == list(range(10))
    assert 5 in [sum(map(len, first[:n])) for n in range(len(first))]  # the rows before it were not held back
    assert [len(chunk) for chunk in again] == [256, 44]
    assert list(chain(*again)) == list(range(10)) * 30
