"""SQL statements with a guard: nothing is sent that could cost more; estimates; what a session has paid."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

import tl_data
from tests.support.library import Library
from tl_data.billing import Prices
from tl_data.guard import (
    DEFAULT_BUDGET,
    MOST_TOKENS,
    Limits,
    LocalReservations,
    Quote,
    Reservations,
    SharedReservations,
    limits_of,
)
from tl_data.object_store import Storage
from tl_data.settings import Settings

ROOT = Path(tl_data.__file__).parent


@pytest.fixture(autouse=True)
def _prices(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded engine is free; here it is counted with the service's prices."""
    monkeypatch.setenv("TL_PRICES", str(ROOT / "prices.toml"))


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as con:
        yield con


def paid(library: Library) -> int:
    """Requests so far that the service bills."""
    texts = ("POST /summarize", "POST /gist", "POST /analyze", "POST /analyze/tasks")
    routes = ("POST /embed", "POST /search", "POST /tasks", *texts)
    return sum(library.requests(route) for route in routes)


def test_the_default_guard() -> None:
    assert limits_of(Settings()) == Limits(None, None)
    assert limits_of(Settings(api_key="k")) == Limits(DEFAULT_BUDGET, None)
    assert limits_of(Settings(api_key="k", sql_budget=math.inf)) == Limits(None, None)
    assert limits_of(Settings(sql_budget=0, sql_max_calls=3)) == Limits(0, 3)
    with pytest.raises(tl_data.TLDataError):
        Settings(sql_budget=-1)


def test_a_batch_that_is_over_the_guard_sends_nothing(
    con: duckdb.DuckDBPyConnection, library: Library
) -> None:
    tl_data.register(con, library.settings, budget=3 * 0.00007)
    before = paid(library)
    with pytest.raises(duckdb.Error, match=r"BudgetReached.*4 calls.*None of them was sent.*LIMIT 5"):
        con.sql("SELECT tl_embed_text('over ' || i) FROM range(4) r(i)").fetchall()
    assert paid(library) == before
    con.sql("SELECT tl_embed_text('within ' || i) FROM range(3) r(i)").fetchall()
    assert paid(library) == before + 3


@pytest.mark.parametrize("form", ["tl_embed_text", "try_tl_embed_text"])
def test_earlier_batches_count_and_equal_rows_do_not(
    form: str, con: duckdb.DuckDBPyConnection, library: Library
) -> None:
    """DuckDB hands over 2,048 rows at a time, here with eight distinct ones in each batch."""
    tl_data.register(con, library.settings, max_calls=10)
    before = paid(library)
    with pytest.raises(duckdb.Error, match=r"8 calls.*already paid for or reserved 8 calls"):
        con.sql(f"SELECT count({form}('{form} ' || (i // 256))) FROM range(6000) r(i)").fetchall()
    assert paid(library) == before + 8
    again = f"SELECT count({form}('{form} ' || (i // 256))) FROM range(4096) r(i)"
    assert con.sql(again).fetchall() == [(4096,)], "a statement of its own, and eight answers are there"
    assert paid(library) == before + 16


def test_two_batches_at_once_at_the_border_of_one_budget(tmp_path: Path) -> None:
    """Of eight processes that reserve five calls each, with a limit of twelve, two succeed."""

    async def main(reservations: list[Reservations]) -> tuple[list[str | None], tuple[int, float]]:
        quote, limits = Quote(calls=5, price=0.5), Limits(1.2, 12)
        names = await asyncio.gather(*(r.reserve("statement", quote, limits) for r in reservations))
        return names, await reservations[0].total("statement")

    local = LocalReservations()
    shared = [SharedReservations(Storage(str(tmp_path / "ledger"))) for _ in range(8)]
    for reservations in ([local] * 8, shared):
        names, total = asyncio.run(main(list(reservations)))
        assert sum(name is not None for name in names) == 2
        assert total == (10, 1.0)


def test_a_guard_of_nothing_gives_what_the_ledger_has(
    con: duckdb.DuckDBPyConnection, library: Library
) -> None:
    [url, other] = library.urls
    tl_data.register(con, library.settings)
    con.sql(f"SELECT tl_analyze('{url}', 'paid before')").fetchall()
    tl_data.register(con, library.settings, budget=0)
    before = paid(library)
    assert con.sql(f"SELECT tl_analyze('{url}', 'paid before') IS NOT NULL").fetchall() == [(True,)]
    with pytest.raises(duckdb.Error, match="BudgetReached"):
        con.sql(f"SELECT tl_analyze('{other}', 'paid before')").fetchall()
    with pytest.raises(duckdb.Error, match="BudgetReached"):
        con.sql(f"SELECT * FROM tl_search('{library.index}', 'nothing for nothing')").fetchall()
    assert paid(library) == before


def test_lengths_are_read_before_a_statement_is_refused(
    con: duckdb.DuckDBPyConnection, library: Library
) -> None:
    """Two hours of analysis cost 3.50; this video has a few seconds. Its index is paid for already."""
    tl_data.register(con, library.settings, budget=0.05)
    question = f"SELECT tl_analyze('{library.urls[1]}', 'what is shown?') IS NOT NULL"
    assert con.sql(question).fetchall() == [(True,)]


def test_an_estimate_is_an_upper_bound_of_the_cost(con: duckdb.DuckDBPyConnection, library: Library) -> None:
    tl_data.register(con, library.settings)
    before = paid(library)
    estimate = (
        "SELECT calls, reused, price, unknown_length, distinct_rows FROM tl_estimate('tl_highlights', "
        "[{0!r}, {0!r}, NULL])".format(library.urls[1])
    )
    [[calls, reused, price, unknown, rows]] = con.sql(estimate).fetchall()
    assert (calls, reused, unknown, rows) == (1, 0, 0, 1)
    prices = Prices.load().units["analyze"]
    tokens = MOST_TOKENS * prices["output_token"]
    assert tokens < price < tokens + prices["video_minute"]
    assert paid(library) == before
    spent = con.sql("SELECT coalesce(sum(price), 0) FROM tl_usage()").fetchall()[0][0]
    con.sql(f"SELECT count(*) FROM tl_highlights('{library.urls[1]}')").fetchall()
    assert paid(library) == before + 1
    after = con.sql("SELECT sum(price) FROM tl_usage()").fetchall()[0][0]
    assert 0 < after - spent <= price
    assert con.sql(estimate).fetchall() == [(0, 1, 0.0, 0, 1)]


def test_what_a_session_paid_by_operation(con: duckdb.DuckDBPyConnection, library: Library) -> None:
    tl_data.register(con, library.settings.but(concurrency=3))  # a connection of its own
    assert con.sql("SELECT * FROM tl_usage()").fetchall() == []
    con.sql("SELECT tl_embed_text('paid ' || (i % 2)) FROM range(10) r(i)").fetchall()
    con.sql(f"SELECT * FROM tl_search('{library.index}', 'paid once')").fetchall()
    found = con.sql("SELECT operation, calls, price, currency FROM tl_usage()").fetchall()
    assert found == [("embed_text", 2, pytest.approx(0.00014), "USD"), ("search", 1, 0.004, "USD")]


def test_functions_outlive_the_cursor_that_registered_them(
    con: duckdb.DuckDBPyConnection, library: Library
) -> None:
    cursor = con.cursor()
    tl_data.register(cursor, library.settings)
    cursor.close()
    names = con.sql("SELECT count(*) FROM duckdb_functions() WHERE function_name = '_tl_search'").fetchall()
    for _ in range(3):
        tl_data.register(con.cursor(), library.settings)
    assert names == [(1,)]
    assert con.sql("SELECT tl_embed_text('a cursor') IS NOT NULL").fetchall() == [(True,)]
    assert con.cursor().sql("SELECT tl_embed_text(42) IS NOT NULL").fetchall() == [(True,)]


def test_views_of_a_database_file(tmp_path: Path, library: Library) -> None:
    path = str(tmp_path / "views.db")
    with duckdb.connect(path) as con:
        tl_data.register(con, library.settings)
        con.execute("CREATE VIEW v AS SELECT tl_embed_text('a view') IS NOT NULL AS there")
        assert con.cursor().sql("FROM v").fetchall() == [(True,)]
    with duckdb.connect(path) as con:
        with pytest.raises(duckdb.Error):
            con.sql("FROM v").fetchall()
        tl_data.register(con, library.settings)
        assert con.sql("FROM v").fetchall() == [(True,)]
    with duckdb.connect(path, read_only=True) as con:
        tl_data.register(con, library.settings)
        assert con.sql("FROM v").fetchall() == [(True,)]


def test_times_are_taken_in_any_form(con: duckdb.DuckDBPyConnection, library: Library) -> None:
    tl_data.register(con, library.settings)
    hour_ago = "(now() - INTERVAL 1 HOUR)"
    for time in (hour_ago, f"{hour_ago}::TIMESTAMP", "'2020-01-01T00:00:00Z'", "DATE '2020-01-01'"):
        found = con.sql(f"SELECT count(*) FROM tl_videos('{library.index}', created_at => {time})").fetchall()
        assert found == [(len(library.urls),)]
    future = "now() + INTERVAL 1 DAY"
    found = con.sql(f"SELECT count(*) FROM tl_videos('{library.index}', created_at => {future})").fetchall()
    assert found == [(0,)]


def test_a_connection_that_was_not_registered_cannot_be_cancelled() -> None:
    with duckdb.connect() as other, pytest.raises(tl_data.TLDataError):
        tl_data.cancel(other)
