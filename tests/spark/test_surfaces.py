"""The body of tests that all surfaces share, on Spark classic and Connect."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import tl_data
from tests.backends.test_surfaces import (
    arguments,
    test_a_failing_row_fails_the_plain_form_and_names_itself,
    test_duplicates_share_one_call_and_order_is_kept,
    test_each_surface_gives_what_python_gives,
    test_no_rows_give_no_rows,
    test_null_gives_null_and_calls_nothing,
    test_the_try_form_carries_the_error_and_the_others_their_values,
)
from tests.conftest import Engine
from tests.support.library import Library
from tests.support.llm_server import MODEL, Judge, decided
from tests.support.spark_surface import Spark
from tl_data.settings import Settings

pytestmark = pytest.mark.spark

__all__ = [
    "arguments",
    "test_a_failing_row_fails_the_plain_form_and_names_itself",
    "test_duplicates_share_one_call_and_order_is_kept",
    "test_each_surface_gives_what_python_gives",
    "test_no_rows_give_no_rows",
    "test_null_gives_null_and_calls_nothing",
    "test_the_try_form_carries_the_error_and_the_others_their_values",
]


@pytest.fixture(scope="module")
def surface(registered: Any) -> Spark:
    made = Spark(registered)
    made.name = type(registered).__module__
    return made


def test_an_unknown_argument_is_refused(surface: Spark) -> None:
    with pytest.raises(Exception, match=r"UNRECOGNIZED_PARAMETER_NAME.*`colour`.*Did you mean"):
        surface.spark.sql("SELECT * FROM tl_search('demo', 'x', colour => 'red')")


def test_listings_are_table_functions(surface: Spark, library: Library) -> None:
    sql = surface.spark.sql
    names = [row[0] for row in sql("SELECT index_name FROM tl_indexes()").collect()]
    assert library.index in names
    assert sql(f"SELECT count(*) FROM tl_videos('{library.index}')").first()[0] == len(library.urls)
    states = sql(f"SELECT DISTINCT status FROM tl_tasks('{library.index}')").collect()
    assert [row[0] for row in states] == ["ready"]
    assert sql("SELECT * FROM tl_embed_tasks(status => 'ready')").columns[0] == "task_id"


def test_similarity_and_json(surface: Spark) -> None:
    row = surface.spark.sql(
        "SELECT tl_similarity(array(1, 0), array(1, 0)), tl_similarity(array(1, 0), array(-1, 0)), "
        "tl_similarity(array(1, 0), NULL), tl_similarity(array(1, 0), array(0, 0)), "
        "tl_json('{\"a\": \"b\"}', '$.a')"
    ).first()
    assert tuple(row) == (1.0, -1.0, None, None, "b")


@pytest.fixture(scope="module")
def judged(start_engine: Callable[..., Engine]) -> Iterator[Settings]:
    """An account whose language model judges; the embedded engine alone leaves all undecided."""
    with Judge() as judge:
        judge.answers = {
            "a soup is cooked": decided(True),
            "a car is washed": decided(False),
            "cooking": decided("cooking"),
            "how red it is": decided(73),
        }
        engine = start_engine("--allow-private", "--llm-url", judge.url, "--llm-model", MODEL)
        yield Settings(base_url=engine.base_url, home=str(engine.home / "user"), poll_interval=0.3)


def test_judgements_have_their_types(surface: Spark, judged: Settings, library: Library) -> None:
    tl_data.register(surface.spark, judged)
    try:
        frame = surface.spark.sql(
            "SELECT tl_filter(v, 'a soup is cooked') AS yes, tl_filter(v, 'a car is washed') AS no, "
            "tl_filter(v, 'nobody can know') AS open, tl_classify(v, array('sport', 'cooking')) AS label, "
            f"tl_score(v, 'how red it is') AS score FROM (SELECT '{library.urls[1]}' AS v)"
        )
        types = [field.dataType.simpleString() for field in frame.schema]
        assert types == ["boolean", "boolean", "boolean", "string", "double"]
        assert tuple(frame.first()) == (True, False, None, "cooking", 0.73)
    finally:
        tl_data.register(surface.spark, library.settings)  # the session is shared with tests of the library
