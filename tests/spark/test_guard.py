"""The guard of statements in Spark: shared by the workers, drawn anew by `tl_data.spark.guard()`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import tl_data.spark
from tests.support.library import Library
from tl_data.spark.statement import STATEMENT_CONF

pytestmark = pytest.mark.spark


@pytest.fixture
def session(registered: Any) -> Iterator[Any]:
    yield registered
    registered.conf.unset(STATEMENT_CONF)


def embedded(session: Any, first: int, rows: int, partitions: int = 2) -> int:
    """Embed texts; gives how many there are."""
    frame = session.sql(
        "SELECT tl_embed_text(concat('guard ', id)) AS v "
        f"FROM range({first}, {first + rows}, 1, {partitions})"
    )
    return sum(row.v is not None for row in frame.collect())


def test_workers_share_a_guard(session: Any, library: Library) -> None:
    first = 1000 if "connect" in type(session).__module__ else 0
    tl_data.spark.guard(session, max_calls=4)
    before = library.requests("POST /embed")
    with pytest.raises(Exception, match=r"BudgetReached.*None of them was sent"):
        embedded(session, first, 12)
    assert library.requests("POST /embed") == before
    assert embedded(session, first, 4) == 4
    assert embedded(session, first, 4, 1) == 4, "what any worker has asked for costs nothing"
    assert library.requests("POST /embed") == before + 4
    with pytest.raises(Exception, match="BudgetReached"):
        embedded(session, first + 100, 1)
    assert library.requests("POST /embed") == before + 4
    tl_data.spark.guard(session, max_calls=4)
    assert embedded(session, first + 100, 1) == 1


def test_a_negative_guard_is_refused(session: Any) -> None:
    with pytest.raises(tl_data.TLDataError):
        tl_data.spark.guard(session, budget=-1)
