"""Each file of the cookbook runs unchanged in DuckDB and in Spark, and the answers are equal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

import tl_data
from tests.support.library import Library
from tl_data import pipeline
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import TABLES
from tl_data.pipeline.job import Job, Source
from tl_data.settings import Settings

COOKBOOK = sorted((Path(__file__).parents[2] / "sql" / "cookbook").glob("*.sql"))

#: Whose answer is empty in a small library: nobody filmed twins, and nothing failed.
MAY_BE_EMPTY = {"08_duplicates"}

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def settings(library: Library) -> Settings:
    return library.settings.but(index="demo")


@pytest.fixture(scope="module")
def lake(library: Library, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """The tables of a job over the library's videos and one that is not there."""
    folder = tmp_path_factory.mktemp("cookbook")
    urls = (*library.urls, library.urls[0].replace("plant", "absent"))
    chosen = {
        "base_url": settings.base_url,
        "index": settings.index,
        "home": settings.home,
        "ledger": settings.ledger,
        "poll_interval": settings.poll_interval,
    }
    job = Job(Source("urls", urls), str(folder), name="cookbook", settings=chosen)
    report = pipeline.run(job)
    assert (report.distinct, report.failed) == (3, 1)
    return Lake(str(folder))


@pytest.fixture(scope="module")
def duck(lake: Lake, settings: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as con:
        tl_data.register(con, settings)
        for table in filter(lake.exists, TABLES.values()):
            con.register(table.name, lake.read(table))
        yield con


@pytest.fixture(scope="module")
def session(spark: Any, lake: Lake, settings: Settings, library: Library) -> Iterator[Any]:
    tl_data.register(spark, settings)
    for table in filter(lake.exists, TABLES.values()):
        frame = spark.read.format("delta").load(f"{lake.folder}/{table.name}")
        frame.createOrReplaceTempView(table.name)
    yield spark
    tl_data.register(spark, library.settings)  # the session is shared with tests of the library


@pytest.mark.spark
@pytest.mark.parametrize("file", COOKBOOK, ids=lambda f: f.stem)
def test_both_engines_answer_the_same(file: Path, duck: duckdb.DuckDBPyConnection, session: Any) -> None:
    statement = file.read_text(encoding="utf-8")
    ours = duck.sql(statement).to_arrow_table()
    theirs = session.sql(statement.rstrip().removesuffix(";")).toArrow()
    assert ours.column_names == theirs.column_names
    assert plain(ours) == plain(theirs)
    assert ours.num_rows or file.stem in MAY_BE_EMPTY


def test_there_are_at_least_fifteen_questions() -> None:
    assert len(COOKBOOK) >= 15
    assert all(file.read_text().startswith("-- ") for file in COOKBOOK)


def plain(table: pa.Table) -> list[dict[str, Any]]:
    """Rows with numbers of either width and kind in one form."""
    return [
        {
            n: round(float(v), 2) if isinstance(v, int | float) or hasattr(v, "as_tuple") else v
            for n, v in r.items()
        }
        for r in table.to_pylist()
    ]
