"""Columns and whole-table verbs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql.functions import lit
from pyspark.sql.pandas.types import from_arrow_type

import tl_data
from tests.backends.test_surfaces import plain
from tests.support.library import Library
from tl_data import catalog
from tl_data.errors import SchemaMismatch
from tl_data.lake.base import rows_of
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import VECTORS
from tl_data.spark import functions as tl
from tl_data.types import CHAPTERS

pytestmark = pytest.mark.spark


def test_columns_are_typed_and_give_what_python_gives(spark: Any, library: Library) -> None:
    urls = spark.createDataFrame([(url,) for url in library.urls] + [(None,)], "url string")
    made = urls.select(
        "url",
        tl.summarize("url", index_id=library.index, settings=library.settings),
        tl.chapters("url", index_id=library.index, settings=library.settings),
        tl.try_gist("url", index_id=lit(library.index), settings=library.settings).alias("tried"),
    )
    assert made.schema["chapters"].dataType == from_arrow_type(CHAPTERS)
    assert made.schema["tried"].dataType.fieldNames() == ["value", "error", "usage", "provenance"]
    rows = {row["url"]: row for row in made.toArrow().to_pylist()}
    for url in library.urls:
        said = {"index_id": library.index, "settings": library.settings}
        assert rows[url]["summarize"] == tl_data.summarize(url, **said)
        assert plain(rows[url]["chapters"]) == plain(tl_data.chapters(url, **said))
        assert rows[url]["tried"]["value"] == tl_data.gist(url, **said)
        assert rows[url]["tried"]["error"] is None
    assert rows[None]["summarize"] is None
    assert rows[None]["chapters"] is None


def test_lists_are_unfolded_in_a_select(spark: Any, library: Library) -> None:
    titles = ["a red object", "soup"]
    said = {"max_hits": 2, "threshold": "none", "settings": library.settings}
    frame = spark.createDataFrame([(title,) for title in titles], "title string")
    found = frame.select("title", tl.inline(tl.search(lit(library.index), "title", **said)))
    assert found.columns == ["title", *catalog.FUNCTIONS["search"].columns.names]
    hits = {title: tl_data.search(library.index, title, **said) for title in titles}
    expected = {(title, hit["video_id"], hit["rank"]) for title in titles for hit in hits[title]}
    assert {(row["title"], row["video_id"], row["rank"]) for row in found.collect()} == expected
    nothing = frame.select(tl.inline(tl.search(lit(None), "title", settings=library.settings), outer=True))
    assert nothing.count() == 2


def test_apply_gives_rows_times_clips(spark: Any, library: Library) -> None:
    frame = spark.createDataFrame([(i, url) for i, url in enumerate(library.urls * 2)], "n int, url string")
    made = tl.apply(frame.repartition(2), "clips", "url", index_id=library.index, settings=library.settings)
    assert made.columns == ["n", "url", *catalog.FUNCTIONS["clips"].columns.names]
    expected = {
        url: plain(tl_data.clips(url, index_id=library.index, settings=library.settings))
        for url in library.urls
    }
    got: dict[int, list[Any]] = {}
    for row in made.orderBy("n", "clip_number").toArrow().to_pylist():
        got.setdefault(row.pop("n"), []).append(plain({k: v for k, v in row.items() if k != "url"}))
    assert got == {i: expected[url] for i, url in enumerate(library.urls * 2)}


def test_apply_in_the_try_form(spark: Any, library: Library) -> None:
    frame = spark.createDataFrame([("none",), (library.index,)], "index string")
    made = tl.apply(frame, "search", "index", lit("soup"), attempt=True, settings=library.settings)
    rows = {row["index"]: row["try_search"] for row in made.collect()}
    assert rows["none"]["error"]["class"] == "NotFound"
    assert rows[library.index]["value"]


def test_nearest_is_exact(spark: Any) -> None:
    rng = np.random.default_rng(7)
    vectors = rng.standard_normal((3000, 16)).astype(np.float32)
    table = pa.table(
        {
            "id": list(range(3002)),
            "vector": pa.array([*vectors.tolist(), None, [0.0] * 16], pa.list_(pa.float32())),
        }
    )
    frame = spark.createDataFrame(table).repartition(5)
    question = rng.standard_normal(16)
    exact = vectors.astype(np.float64) @ question
    exact /= np.linalg.norm(vectors.astype(np.float64), axis=1) * np.linalg.norm(question)
    best = np.argsort(-exact)[:25]
    found = tl.nearest(frame, list(question), k=25).collect()
    assert [row["id"] for row in found] == best.tolist()
    np.testing.assert_allclose([row["similarity"] for row in found], exact[best], rtol=1e-12)
    some = frame.where("id < 1000")
    assert {row["id"] for row in tl.nearest(some, list(question), k=1000).collect()} == set(range(1000))
    # The same cosine as a column, and in SQL.
    scored = frame.withColumn("s", tl.similarity("vector", lit(question.tolist()))).orderBy(
        "s", ascending=False
    )
    assert [row["id"] for row in scored.limit(25).collect()] == best.tolist()


def test_nearest_in_sql_reads_a_lake(registered: Any, tmp_path: Path) -> None:
    """For a literal, and for each row of a lateral join; NULL gives no rows."""
    vectors = np.eye(8, dtype=np.float32)
    lake = Lake(str(tmp_path), "parquet")
    common = {"end_sec": 1.0, "embedding_option": "visual", "model": "m"}
    rows = [
        {
            "video_id": f"v{n}",
            "start_sec": float(n),
            "embedding_scope": "clip" if n else "video",
            "vector": vectors[n].tolist(),
            **common,
        }
        for n in range(8)
    ]
    lake.table(VECTORS).append(rows_of(VECTORS, rows))
    query = "array(1, 0.5, 0, 0, 0, 0, 0, 0.1)"
    found = registered.sql(
        f"SELECT * FROM tl_nearest('{tmp_path}', {query}, scope => 'clip', k => 2)"
    ).collect()
    assert [(row.video_id, row.embedding_scope) for row in found] == [("v1", "clip"), ("v7", "clip")]
    assert found[0].similarity == pytest.approx(0.5 / np.sqrt(1.26))
    joined = registered.sql(
        f"SELECT q.id, n.video_id FROM VALUES (1, {query}), (2, NULL) q(id, v), "
        f"LATERAL tl_nearest('{tmp_path}', q.v, k => 1) n"
    ).collect()
    assert [tuple(row) for row in joined] == [(1, "v0")]


def test_nearest_clips_are_not_whole_videos(spark: Any) -> None:
    rows = [("a", "video", [1.0, 0.0]), ("b", "clip", [0.6, 0.8]), ("c", "clip", [0.0, 1.0])]
    frame = spark.createDataFrame(rows, "id string, embedding_scope string, vector array<float>")
    question = [1.0, 0.0]
    assert [row["id"] for row in tl.nearest(frame, question, k=3).collect()] == ["b", "c"]
    assert [row["id"] for row in tl.nearest(frame, question, k=1, scope="video").collect()] == ["a"]
    assert [row["id"] for row in tl.nearest(frame, question, k=3, scope=None).collect()] == ["a", "b", "c"]


def test_nearest_by_words_picture_and_sound(spark: Any, library: Library) -> None:
    urls = spark.createDataFrame([(url,) for url in library.urls], "url string")
    clips = tl.apply(urls, "clips", "url", index_id=library.index, settings=library.settings)
    clip = clips.first()
    assert clip is not None
    same = tl.nearest(clips, clip["vector"], k=1).first()
    assert (same["url"], same["clip_number"]) == (clip["url"], clip["clip_number"])
    by_text = tl.nearest(clips, text="a soup", k=3, settings=library.settings).collect()
    by_image = tl.nearest(clips, image=str(library.image), k=3, settings=library.settings).collect()
    by_audio = tl.nearest(clips, audio=str(library.audio), k=3, settings=library.settings).collect()
    for rows in (by_text, by_image, by_audio):
        assert rows
        scores = [row["similarity"] for row in rows]
        assert scores == sorted(scores, reverse=True)


def test_mistakes_are_errors_before_execution(spark: Any, library: Library) -> None:
    frame = spark.createDataFrame([("u", [1.0])], "url string, vector array<float>")
    with pytest.raises(SchemaMismatch, match="tl_summarize has no argument colour"):
        tl.summarize("url", colour="red")
    with pytest.raises(SchemaMismatch, match="tl_search needs query_text"):
        tl.search(lit("demo"))
    with pytest.raises(SchemaMismatch, match="'summarise'"):
        tl.apply(frame, "summarise", "url")
    with pytest.raises(SchemaMismatch, match="adds the column vector"):
        tl.apply(frame, "clips", "url", settings=library.settings)
    with pytest.raises(SchemaMismatch, match=r"index_id = 'demo': .*\blit\('demo'\)"):
        tl.apply(frame, "search", "demo", "url")
    with pytest.raises(SchemaMismatch, match="exactly one query"):
        tl.nearest(frame, [1.0], text="both")
    with pytest.raises(Exception, match="different models"):
        tl.nearest(frame, [1.0, 2.0]).collect()
    with pytest.raises(AttributeError, match="no attribute 'sumarize'"):
        tl.sumarize("url")
    assert {"summarize", "try_summarize", "nearest"} <= set(dir(tl))
