"""The declarations are complete, and everything printed from them says the same."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

import tl_data
from tl_data import catalog
from tl_data.catalog import Function, Listing, function
from tl_data.cli import docs, operations
from tl_data.cli.column_docs import DESCRIPTIONS
from tl_data.cli.main import assembled
from tl_data.client import OPERATIONS
from tl_data.errors import SchemaMismatch
from tl_data.functions import FUNCTIONS, LISTINGS
from tl_data.local.profiles import PROFILES

RECORDS = [*FUNCTIONS.values(), *LISTINGS.values()]
NAMES = [r.name for r in RECORDS]


@pytest.mark.parametrize("record", RECORDS, ids=NAMES)
def test_every_record_is_complete(record: Function | Listing) -> None:
    assert record.doc.endswith(".")
    assert "\n" not in record.doc
    assert all(p.doc for p in record.parameters)
    assert set(record.example) <= {p.name for p in record.parameters}
    assert all(p.name in record.example for p in record.parameters if p.required)


@pytest.mark.parametrize("record", RECORDS, ids=NAMES)
def test_every_record_is_a_python_function_with_help(record: Function | Listing) -> None:
    call = getattr(tl_data, record.name)
    assert record.doc in call.__doc__
    assert record.name in dir(tl_data)


def test_the_surface_is_the_whole_table_of_the_design() -> None:
    assert set(NAMES) == {
        *("index_video", "search", "search_by_image", "clips", "summarize", "analyze", "extract", "gist"),
        *("chapters", "highlights", "transcript", "embed_text", "embed_image", "video_vectors"),
        *("audio_vectors", "indexes", "videos", "tasks", "embed_tasks", "segments", "estimate", "files"),
        *("filter", "classify", "classify_multi", "score", "agg"),
        *("assets", "entities", "analyze_tasks"),
    }


def test_arguments_are_checked_by_name() -> None:
    search = FUNCTIONS["search"]
    with pytest.raises(SchemaMismatch, match="tl_search has no argument query; it takes index_id"):
        search.arguments({"index_id": "a", "query": "b"})
    with pytest.raises(SchemaMismatch, match="tl_search needs query_text"):
        search.arguments({"index_id": "a"})
    given = {"index_id": "a", "query_text": None, "max_hits": None}
    assert search.arguments(given) == {"index_id": "a", "query_text": None}


def test_a_declaration_without_a_description_is_refused() -> None:
    async def undescribed(tl: object, text: str) -> str:
        """Say something.

        Args:
            other: not the argument.
        """
        return text

    with pytest.raises(SchemaMismatch, match="no line under 'Args:' for text"):
        catalog.function(pa.string(), example={"text": "a"}, text=pa.string())(undescribed)


def test_end_is_never_a_column() -> None:
    """END and START are reserved words of SQL: the columns are start_sec and end_sec."""
    columns = {c.name for r in RECORDS for c in (r.schema if isinstance(r, Listing) else r.columns)}
    assert not columns & {"start", "end"}


def test_every_record_says_which_operations_it_calls() -> None:
    methods = {operation.method for operation in OPERATIONS}
    assert set(operations.CALLS) == set(NAMES)
    assert all(set(called) <= methods for called in operations.CALLS.values())


def test_the_accounts_of_operations_are_those_of_the_profiles() -> None:
    assert {"/gist", "/summarize"} == set(PROFILES["today"].gone)
    assert {p for p in PROFILES["today"].missing if p in operations.ONLY_2025} == {"/tasks/transfers"}
    assert set(operations.ONLY_TODAY) == set(PROFILES["2025"].missing)
    assert operations.accounts_of("POST /gist") == "2025"
    assert operations.accounts_of("GET /assets/{asset_id}/entities") == "today"
    assert operations.accounts_of("GET /assets/{asset_id}") == "today and 2025"


def test_every_description_of_a_column_is_printed() -> None:
    pairs = {
        (r.name, field.name)
        for r in RECORDS
        for columns in [r.schema if isinstance(r, Listing) else r.columns if r.returns_table else r.gives]
        if isinstance(columns, pa.Schema | pa.StructType)
        for field in columns
    }
    used = {key if (key := f"{record}.{column}") in DESCRIPTIONS else column for record, column in pairs}
    assert used == DESCRIPTIONS.keys()


def test_the_printed_pages_are_up_to_date() -> None:
    assert docs.write(assembled(), check=True) == [], "type: tl-data docs"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'summarise'"):
        tl_data.summarise  # noqa: B018
    with pytest.raises(TypeError, match="DuckDB connection or a Spark session, not str"):
        tl_data.register("duckdb")


def test_a_name_is_declared_once() -> None:
    async def search(tl: object, text: str) -> str:
        """Another function of a name that is taken.

        Args:
            text: anything.
        """
        return text

    before = FUNCTIONS["search"]
    with pytest.raises(SchemaMismatch):
        function(pa.string(), text=pa.string(), example={"text": "a"})(search)
    assert FUNCTIONS["search"] is before


def test_a_wrong_keyword_and_a_wrong_type_fail_the_type_check(tmp_path: Path) -> None:
    pytest.importorskip("mypy")  # the environments of `make test-pythons` have none
    script = tmp_path / "script.py"
    script.write_text(
        "import pandas as pd\n"
        "import tl_data\n"
        "reveal_type(tl_data.search('demo', 'a red car', max_hits=3))\n"
        "reveal_type(tl_data.summarize('a.mp4'))\n"
        "reveal_type(tl_data.videos('demo'))\n"
        "tl_data.summarize(pd.Series(['a.mp4']), prompt='short')\n"
        "tl_data.search('demo', 'a red car', colour='red')\n"
        "tl_data.search('demo', 'a red car', max_hits='many')\n"
        "tl_data.show([])\n"
    )
    command = [sys.executable, "-m", "mypy", "--config-file=", "--ignore-missing-imports", str(script)]
    checked = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    notes = re.findall(r"Revealed type is \"(.*?)\"", checked.stdout)
    assert notes == ["tl_data.display.Rows", "str | None", "tl_data.display.Rows"], checked.stdout
    wrong = set(re.findall(r"script.py:(\d+): error:.*\[(.*)\]", checked.stdout))
    assert wrong == {("7", "call-overload"), ("8", "call-overload")}, checked.stdout
