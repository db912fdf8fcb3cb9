"""Python rows that become rows of a table."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest

from tl_data.errors import SchemaMismatch
from tl_data.lake.base import rows_of
from tl_data.lake.schemas import RUNS


@pytest.mark.parametrize(
    ("given", "stored"),
    [(1.25, "1.25"), (0.1 + 0.2, "0.3"), (1e-12, "0"), (Decimal("0.000000001"), "0.000000001"), (7, "7")],
)
def test_a_price_may_be_given_as_a_float(given: object, stored: str) -> None:
    assert rows_of(RUNS, [{"price": given}]).column("price").to_pylist() == [Decimal(stored)]


@pytest.mark.parametrize("given", [math.inf, math.nan, 1e30, "dear"])
def test_a_price_that_is_no_amount_is_refused(given: object) -> None:
    with pytest.raises(SchemaMismatch, match="table runs"):
        rows_of(RUNS, [{"price": given}])
