"""Every function on every surface: what Python gives is what each engine gives, and one call a distinct row.

The counts are the server's own. What an engine cannot do is a named strict xfail.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import tl_data
from tests.support.library import Library
from tests.support.surfaces import DuckDB, Pandas, Surface
from tl_data.catalog import Function, Parameter
from tl_data.connection import connect
from tl_data.errors import SchemaMismatch
from tl_data.functions import FUNCTIONS, LISTINGS
from tl_data.session import Session
from tl_data.types import TEXT

ALL = [f for f in FUNCTIONS.values() if f.name != "agg"]  # it has an endpoint, and tests, of its own
#: What the embedded engine decides nothing of without a language model: its own texts rest on no question.
JUDGEMENTS = {"filter", "classify", "classify_multi", "score"}
SURFACES = {"duckdb": DuckDB, "pandas": Pandas}


@pytest.fixture(scope="module", params=SURFACES)
def surface(request: pytest.FixtureRequest, library: Library) -> Iterator[Surface]:
    made = SURFACES[request.param](library.settings)
    yield made
    made.close()


def plain(value: Any) -> Any:
    """Values without the identity of one answer: floats as 32 bits, thumbnails without the signature.

    A signature holds for some hours, and is another one after each full hour.
    """
    if isinstance(value, float):
        return round(float(np.float32(value)), 4)
    if isinstance(value, dict):
        return {
            k: re.sub(r"/media/[^/]+/", "/media/", v or "") if k == "thumbnail_url" else plain(v)
            for k, v in value.items()
        }
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value


@pytest.fixture
def arguments(library: Library) -> dict[str, dict[str, Any]]:
    return library.arguments()


@pytest.mark.parametrize("f", ALL, ids=lambda f: f.name)
def test_each_surface_gives_what_python_gives(
    f: Function, surface: Surface, library: Library, arguments: dict[str, dict[str, Any]]
) -> None:
    given = arguments[f.name]
    expected = getattr(tl_data, f.name)(**given, settings=library.settings)
    assert plain(surface.call(f, [given])) == [plain(expected)]
    if f.name not in JUDGEMENTS:
        assert expected, f"{f.name} found nothing to compare"
        return
    [row] = surface.attempt(f, [given])
    assert (expected, row["value"], row["error"]) == (None, None, None)
    assert row["provenance"]["model"] == "tl-local-2", "it was asked and left undecided"


@pytest.mark.parametrize("f", ALL, ids=lambda f: f.name)
def test_null_gives_null_and_calls_nothing(
    f: Function, surface: Surface, library: Library, arguments: dict[str, dict[str, Any]]
) -> None:
    nothing = arguments[f.name] | {f.parameters[0].name: None}
    before = library.requests()
    assert surface.call(f, [nothing, nothing]) == [None, None]
    [row] = surface.attempt(f, [nothing])
    assert row["value"] is None
    assert row["error"] is None
    assert library.requests() == before


def test_duplicates_share_one_call_and_order_is_kept(surface: Surface, library: Library) -> None:
    f = FUNCTIONS["embed_text"]
    words = [f"word {surface.name} {i % 7}" for i in range(3000)]
    before = library.requests("POST /embed")
    values = surface.call(f, [{"text": w} for w in words])
    assert library.requests("POST /embed") - before == 7
    assert len(values) == 3000
    first = dict(zip(words[:7], values[:7], strict=True))
    assert np.array_equal(np.asarray(values, np.float32), np.asarray([first[w] for w in words], np.float32))
    assert len({tuple(v) for v in first.values()}) == 7


def test_large_files_are_begun_early(library: Library, tmp_path: Path) -> None:
    begun: list[str] = []

    async def name(tl: Session, video: str) -> str:
        begun.append(Path(video).stem)
        return begun[-1]

    f = Function(
        "name", name, (Parameter("video", TEXT, True, None, "a path"),), TEXT, {}, False, "Its name."
    )
    sizes = [*range(30), 10_000]
    for number, bytes_ in enumerate(sizes):
        Path(tmp_path, f"{number}.mp4").write_bytes(bytes(bytes_))
    connection = connect(library.settings, concurrency=1)
    rows = [{"video": str(tmp_path / f"{number}.mp4")} for number in range(len(sizes))]
    assert list(connection.values(f, rows)) == [str(number) for number in range(len(sizes))]
    assert begun.index("30") < 4
    connection.close()


def test_no_rows_give_no_rows(surface: Surface, library: Library) -> None:
    assert surface.call(FUNCTIONS["search"], []) == []
    assert surface.call(FUNCTIONS["gist"], []) == []


def test_a_failing_row_fails_the_plain_form_and_names_itself(surface: Surface, library: Library) -> None:
    f = FUNCTIONS["search"]
    rows = [
        {"index_id": library.index, "query_text": "a red object"},
        {"index_id": "none", "query_text": "x"},
    ]
    with pytest.raises(Exception, match=r"tl_search failed at row 2.*index_id = 'none'.*not found"):
        surface.call(f, rows)


def test_the_try_form_carries_the_error_and_the_others_their_values(
    surface: Surface, library: Library
) -> None:
    f = FUNCTIONS["search"]
    good, bad = surface.attempt(
        f,
        [
            {"index_id": library.index, "query_text": "a red object"},
            {"index_id": "shard", "query_text": "x"},
        ],
    )
    assert good["value"]
    assert good["error"] is None
    assert good["provenance"]["model"] == "tl-local-2"
    assert bad["value"] is None
    assert bad["error"]["class"] == "NotFound"
    assert bad["error"]["code"] == "resource_not_exists"
    assert bad["error"]["retryable"] is False
    assert library.index in bad["error"]["message"]


def test_a_video_by_id_reports_its_minutes(surface: Surface, library: Library) -> None:
    f = FUNCTIONS["summarize"]
    video = tl_data.index_video(library.urls[0], index_id=library.index, settings=library.settings)
    prompt = f"For {type(surface).__name__}."
    asked = [{"video": video["video_id"], "index_id": library.index, "prompt": prompt}]
    assert surface.attempt(f, asked)[0]["usage"]["video_minutes"] > 0.05
    assert surface.attempt(f, asked)[0]["usage"]["video_minutes"] == 0, "it is not paid for again"


def test_an_unknown_argument_is_refused(surface: Surface, library: Library) -> None:
    f = FUNCTIONS["search"]
    if isinstance(surface, Pandas):
        with pytest.raises(SchemaMismatch, match="has no argument colour"):
            tl_data.search("demo", "x", colour="red", settings=library.settings)
    else:
        assert isinstance(surface, DuckDB)
        with pytest.raises(Exception, match="does not support the supplied arguments"):
            surface.con.sql("SELECT * FROM tl_search('demo', 'x', colour => 'red')")
    assert f.parameters


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("demo", ["x"]), r"query_text is \['x'\], but must be string"),
        ((7, "x"), "index_id is 7, but must be string"),
        (("demo", "x", "many"), "max_hits is 'many', but must be int64"),
        (("demo", "x", True), "max_hits is True, but must be int64"),
    ],
)
def test_a_value_of_a_wrong_type_is_named(arguments: tuple[Any, ...], said: str, library: Library) -> None:
    with pytest.raises(SchemaMismatch, match=said):
        tl_data.search(*arguments, settings=library.settings)


def test_a_mapping_is_json_and_a_path_is_text(library: Library) -> None:
    schema = {"type": "object", "properties": {"title": {"type": "string"}}}
    asked = {"index_id": library.index, "settings": library.settings}
    by_mapping = tl_data.extract(library.urls[0], "its title", schema, **asked)
    assert by_mapping == tl_data.extract(library.urls[0], "its title", json.dumps(schema), **asked)
    assert tl_data.embed_image(library.image, settings=library.settings)


@pytest.fixture(scope="module")
def duck(library: Library) -> Iterator[DuckDB]:
    made = DuckDB(library.settings)
    yield made
    made.close()


class TestDuckDB:
    """What only DuckDB does."""

    SHAPES: ClassVar = {
        "two fields": "SELECT e.value[1], e.error FROM (SELECT try_tl_embed_text(w) AS e FROM words)",
        "written three times": (
            "SELECT tl_embed_text(w)[1], tl_embed_text(w)[2], tl_embed_text(w)[3] FROM words"
        ),
        "filter on the result": "SELECT * FROM (SELECT tl_embed_text(w) AS v FROM words) WHERE v[1] < 2",
        "sorted by the result": "SELECT * FROM (SELECT tl_embed_text(w) AS v FROM words) ORDER BY v[1]",
        "two branches": (
            "WITH e AS (SELECT tl_embed_text(w) AS v FROM words) "
            "SELECT v[1] FROM e UNION ALL SELECT v[2] FROM e"
        ),
        "materialized": "WITH e AS MATERIALIZED (SELECT tl_embed_text(w) AS v FROM words) SELECT * FROM e",
    }

    @pytest.mark.parametrize("shape", SHAPES)
    def test_no_shape_of_a_query_calls_twice(self, shape: str, duck: DuckDB, library: Library) -> None:
        duck.con.execute(
            f"CREATE OR REPLACE TABLE words AS SELECT '{shape} ' || (i % 20) AS w FROM range(40) r(i)"
        )
        before = library.requests("POST /embed")
        duck.con.sql(self.SHAPES[shape]).fetchall()
        assert library.requests("POST /embed") - before == 20

    def test_explain_and_prepare_call_nothing(self, duck: DuckDB, library: Library) -> None:
        before = library.requests()
        duck.con.sql("EXPLAIN SELECT tl_embed_text('never asked')")
        duck.con.execute("PREPARE later AS SELECT tl_embed_text('never asked')")
        assert library.requests() == before

    def test_vectors_have_their_length_in_the_type(self, library: Library) -> None:
        duck = DuckDB(library.settings.but(search_model="tl-local-2"))
        [kind] = duck.con.sql("SELECT tl_embed_text('a') AS v").types
        assert str(kind) == f"FLOAT[{library.dimension}]"
        duck.close()

    def test_listings(self, duck: DuckDB, library: Library) -> None:
        names = duck.con.sql("SELECT index_name FROM tl_indexes()").fetchall()
        assert (library.index,) in names
        count = duck.con.sql(f"SELECT count(*) FROM tl_videos('{library.index}')").fetchall()
        assert count == [(len(library.urls),)]
        states = duck.con.sql(f"SELECT DISTINCT status FROM tl_tasks('{library.index}')").fetchall()
        assert states == [("ready",)]
        assert duck.con.sql("SELECT * FROM tl_embed_tasks(status => 'ready')").columns[0] == "task_id"

    def test_similarity_and_json(self, duck: DuckDB) -> None:
        rows = duck.con.sql(
            "SELECT tl_similarity([1, 0], [1, 0]), tl_similarity([1, 0], [-1, 0]), "
            "tl_json('{\"a\": \"b\"}', '$.a')"
        ).fetchall()
        assert rows == [(1.0, -1.0, "b")]

    def test_registering_again_replaces_and_connections_do_not_mix(
        self, library: Library, tmp_path: Path
    ) -> None:
        first, second = DuckDB(library.settings), DuckDB(library.settings.but(on_error="null"))
        statement = "SELECT tl_gist('000000000000000000000000')"
        with pytest.raises(Exception, match="tl_gist failed at row 1"):
            first.con.sql(statement).fetchall()
        assert second.con.sql(statement).fetchall() == [(None,)]
        tl_data.register(first.con, library.settings.but(on_error="null"))
        assert first.con.sql(statement).fetchall() == [(None,)]
        cursor = first.con.cursor()
        assert cursor.sql(statement).fetchall() == [(None,)], "a cursor is of the same database"
        tl_data.register(cursor, library.settings)
        with pytest.raises(Exception, match="tl_gist failed at row 1"):
            first.con.sql(statement).fetchall()
        assert second.con.sql(statement).fetchall() == [(None,)]
        for con in (cursor, first.con, second.con):
            con.close()


def test_series_of_pandas_and_of_polars_are_columns(library: Library) -> None:
    import pandas as pd
    import polars as pl

    texts = ["a red object", None, "a blue object", "a red object"]
    in_pandas = tl_data.embed_text(pd.Series(texts, index=[7, 8, 9, 10]), settings=library.settings)
    assert list(in_pandas.index) == [7, 8, 9, 10]
    in_polars = tl_data.embed_text(pl.Series("words", texts), settings=library.settings)
    assert in_polars.name == "embed_text"
    assert in_polars.dtype == pl.List(pl.Float32)
    assert in_polars.to_list() == in_pandas.to_list()
    assert in_polars[1] is None
    hits = tl_data.search(library.index, pl.Series(texts[:1]), max_hits=1, settings=library.settings)
    assert [hit["rank"] for hit in hits[0]] == [1]
    with pytest.raises(SchemaMismatch, match="different libraries"):
        tl_data.search(pd.Series(["demo"]), pl.Series(["x"]), settings=library.settings)
    with pytest.raises(SchemaMismatch, match="2 rows, but index_id has 1"):
        tl_data.search(pl.Series(["demo"]), pl.Series(["x", "y"]), settings=library.settings)


def test_rows_become_tables_of_every_kind(library: Library) -> None:
    hits = tl_data.search(library.index, "a red object", max_hits=1, settings=library.settings)
    assert hits.to_arrow().schema.names == FUNCTIONS["search"].columns.names
    assert hits.to_pandas()["rank"].tolist() == hits.to_polars()["rank"].to_list() == [1]
    listed = tl_data.videos(library.index, filename="no such file", settings=library.settings)
    assert listed == []
    assert listed.to_arrow().schema == LISTINGS["videos"].schema
