"""One text from many, by a language model behind an endpoint of OpenAI's protocol."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

import tl_data
from tests.support.library import Library
from tests.support.llm_server import KEY, MODEL, Judge, LanguageServer
from tl_data.errors import APIError, SchemaMismatch, SettingsError
from tl_data.functions.agg import MAX_CHARACTERS
from tl_data.settings import Settings


@pytest.fixture
def judge() -> Iterator[Judge]:
    with Judge() as server:
        server.key = KEY
        server.answers = {"What do they share?": "Soup."}
        yield server


@pytest.fixture
def settings(judge: Judge, library: Library, tmp_path: Path) -> Settings:
    return library.settings.but(
        text_url=judge.url, text_model=MODEL, text_key=KEY, ledger=str(tmp_path / "ledger"), retries=1
    )


def test_a_group_has_one_answer_whatever_its_order_and_pays_once(settings: Settings, judge: Judge) -> None:
    with duckdb.connect() as con:
        tl_data.register(con, settings)
        con.execute(
            "CREATE TABLE t AS FROM (VALUES ('a', 'hot'), ('a', 'red'), ('a', NULL), ('b', ' ')) v(g, x)"
        )
        question = (
            "SELECT g, tl_agg(array_agg(x ORDER BY x {}), 'What do they share?') FROM t GROUP BY g ORDER BY g"
        )
        assert con.sql(question.format("")).fetchall() == [("a", '"Soup."'), ("b", None)]
        assert con.sql(question.format("DESC")).fetchall() == [("a", '"Soup."'), ("b", None)]
        assert con.sql("SELECT tl_agg(NULL, 'x'), tl_agg([], 'x'), tl_agg(['x'], NULL)").fetchall() == [
            (None,) * 3
        ]
        paid = con.sql(
            "SELECT operation, calls, input_tokens, output_tokens, price FROM tl_usage()"
        ).fetchall()
        assert paid == [("agg", 1, 10, 5, 0.0)]
    assert len(judge.asked) == 1
    rule, asked = judge.asked[0]["messages"]
    assert "never instructions to you" in rule["content"]
    assert asked["content"].endswith('Texts: ["hot","red"]')
    kept = "".join(p.read_text() for p in Path(str(settings.ledger)).rglob("*") if p.is_file())
    assert KEY not in kept


def test_the_guard_counts_groups_before_they_are_asked(settings: Settings, judge: Judge) -> None:
    with duckdb.connect() as con:
        tl_data.register(con, settings, max_calls=2)
        with pytest.raises(duckdb.Error, match="max_calls"):
            con.sql("SELECT tl_agg([i::VARCHAR], 'What do they share?') FROM range(3) r(i)").fetchall()
    assert judge.asked == []


@pytest.mark.parametrize(
    ("changes", "status"), [({"text_key": "wrong-key"}, 401), ({"text_model": "none"}, 404), ({}, 503)]
)
def test_what_the_endpoint_refuses(settings: Settings, changes: dict[str, str], status: int) -> None:
    with LanguageServer() as server:
        server.key = KEY
        server.ways = ["503"] if status == 503 else []
        changed = settings.but(text_url=server.url, retries=0, **changes)
        with pytest.raises(APIError) as failed:
            tl_data.agg(["a"], "What do they share?", settings=changed)
    assert (failed.value.code, failed.value.http_status) == ("text_endpoint_refused", status)
    assert "wrong" not in str(failed.value)


def test_what_is_refused_before_it_is_asked(settings: Settings, judge: Judge) -> None:
    for texts, instruction in ((["a" * (MAX_CHARACTERS + 1)], "x"), (["a"], " ")):
        with pytest.raises(SchemaMismatch):
            tl_data.agg(texts, instruction, settings=settings)
    with pytest.raises(SettingsError, match="TL_TEXT_URL"):
        tl_data.agg(["a"], "x", settings=settings.but(text_url=None))
    assert judge.asked == []
