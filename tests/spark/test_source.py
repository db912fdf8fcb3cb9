"""The data source `twelvelabs`: batch, stream and sink."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pyspark.sql.datasource
import pytest
from pyspark.sql.functions import col, lit

import pyspark_twelvelabs
import tl_data
from benchmarks.films import film, with_label
from tests.conftest import Engine
from tests.support.library import Library
from tl_data.functions import LISTINGS
from tl_data.settings import Settings
from tl_data.spark.datasource import ListingReader, TwelveLabs
from tl_data.spark.worker import Worker

pytestmark = pytest.mark.spark


def read(spark: Any, what: str, **options: Any) -> Any:
    return spark.read.format("twelvelabs").options(**options).load(what)


def test_listings(registered: Any, library: Library) -> None:
    assert library.index in [row["index_name"] for row in read(registered, "indexes").collect()]
    videos = read(registered, "videos", index_id=library.index)
    assert videos.schema.fieldNames() == LISTINGS["videos"].schema.names
    rows = videos.toArrow().to_pylist()
    expected = tl_data.videos(library.index, settings=library.settings)
    assert rows == expected
    assert read(registered, "tasks", index_id=library.index).where("status = 'ready'").count() == len(
        library.urls
    )
    assert read(registered, "tasks", status="failed").where(col("index_id").isNull()).count() == 0
    assert "task_id" in read(registered, "embed_tasks").columns


def test_each_index_is_a_partition(registered: Any, library: Library) -> None:
    id_ = read(registered, "indexes", index_name=library.index).first()["index_id"]
    assert read(registered, "videos", index_id=f"{library.index},{id_}").count() == 2 * len(library.urls)
    everywhere = read(registered, "videos", index_id="*")
    assert everywhere.where(col("index_id") == id_).count() == len(library.urls)


def test_a_search_for_each_query(registered: Any, library: Library) -> None:
    found = read(
        registered,
        "search",
        index_id=library.index,
        query_text='["soup", "a red object"]',
        max_hits="2",
        threshold="none",
    )
    rows = found.collect()
    assert {row["query_text"] for row in rows} == {"soup", "a red object"}
    assert found.columns[:3] == ["index_id", "query_text", "video_id"]


@pytest.mark.skipif(not hasattr(pyspark.sql.datasource, "In"), reason="Spark 4.0 passes no filters on")
def test_filters_are_pushed_down() -> None:
    from pyspark.sql.datasource import EqualTo, GreaterThanOrEqual, In

    reader = ListingReader(Worker(Settings(), "scope"), LISTINGS["videos"], {"filename": "a.mp4"})
    since = datetime(2026, 1, 2, 3, tzinfo=UTC)
    filters = [
        In(("index_id",), ("one", "two")),
        EqualTo(("filename",), "another.mp4"),  # the option says a.mp4: Spark drops what does not fit both
        GreaterThanOrEqual(("created_at",), since),
        EqualTo(("width",), 640),
    ]
    assert list(reader.pushFilters(filters)) == filters  # Spark applies each once more
    said = {"filename": "a.mp4", "created_at": "2026-01-02T03:00:00Z"}
    assert [part.options for part in reader.partitions()] == [
        said | {"index_id": "one"},
        said | {"index_id": "two"},
    ]
    tasks = ListingReader(Worker(Settings(), "scope"), LISTINGS["tasks"], {})
    tasks.pushFilters([In(("status",), ("ready", "failed"))])
    assert [part.options for part in tasks.partitions()] == [{"status": ["ready", "failed"]}]


def test_filters_do_not_change_the_answer(registered: Any, library: Library) -> None:
    videos = read(registered, "videos", index_id=library.index)
    row = videos.first()
    same = (col("filename") == row["filename"]) & (col("created_at") >= lit(row["created_at"]))
    assert [found["video_id"] for found in videos.where(same).collect()] == [row["video_id"]]
    assert videos.where(col("created_at") >= lit("2100-01-01").cast("timestamp")).count() == 0
    assert read(registered, "tasks").where("status = 'failed' AND video_id = 'none'").count() == 0


def test_mistakes_are_named(registered: Any, library: Library) -> None:
    for what, options, message in (
        ("films", {}, "cannot load 'films'; it can load indexes"),
        ("videos", {"colour": "red"}, "tl_videos has no argument colour"),
        ("search", {"index_id": library.index}, "tl_search needs query_text"),
        ("search", {"query_text": "x", "max_hits": "many"}, "option max_hits is 'many', but must be int64"),
    ):
        with pytest.raises(Exception, match=message):
            read(registered, what, **options).collect()


@pytest.fixture(scope="module")
def shelf(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """The smallest videos, on a file server: `shelf("one")` makes one and gives its URL."""
    from tl_data.demo.file_server import FileServer

    folder = tmp_path_factory.mktemp("shelf")
    data = film(folder / "film.mp4")
    with FileServer(folder) as server:

        def add(name: str) -> str:
            (folder / f"{name}.mp4").write_bytes(with_label(data, name))
            return server.url(f"{name}.mp4")

        yield add


def test_the_sink_indexes_once_and_the_stream_gives_what_became_ready(
    registered: Any, library: Library, shelf: Callable[[str], str], tmp_path: Path
) -> None:
    spark, kind = registered, "connect" if "connect" in type(registered).__module__ else "classic"
    index = f"stream {kind}"
    first, second = shelf(f"first {kind}".replace(" ", "-")), shelf(f"second {kind}".replace(" ", "-"))

    def write(*urls: str) -> None:
        frame = spark.createDataFrame([(url,) for url in urls], "url string")
        frame.write.format("twelvelabs").mode("append").option("index_id", index).save()

    def stream() -> list[str]:
        """Everything that is new since the last call; the query starts anew each time, as after a restart."""
        query = (
            spark.readStream.format("twelvelabs")
            .option("index_id", index)
            .load("videos")
            .writeStream.format("parquet")
            .option("path", str(tmp_path / "out"))
            .option("checkpointLocation", str(tmp_path / "checkpoint"))
            .trigger(availableNow=True)
            .start()
        )
        assert query.awaitTermination(120)
        assert query.exception() is None
        return sorted(pq.read_table(tmp_path / "out", columns=["filename"]).column("filename").to_pylist())

    before = library.requests("POST /tasks")
    write(first, first)
    assert library.requests("POST /tasks") - before == 1
    assert stream() == [Path(first).name]
    write(first, second)
    assert library.requests("POST /tasks") - before == 2
    assert stream() == sorted([Path(first).name, Path(second).name])


def test_the_sink_refuses_to_overwrite_and_names_a_failing_row(registered: Any, library: Library) -> None:
    frame = registered.createDataFrame([("http://127.0.0.1:9/none.mp4",)], "video string")
    with pytest.raises(Exception, match=r"mode\('append'\)"):
        frame.write.format("twelvelabs").mode("overwrite").save()
    with pytest.raises(Exception, match=r"tl_index_video failed at row 1 .*none\.mp4"):
        frame.write.format("twelvelabs").mode("append").option("index_id", library.index).save()
    with pytest.raises(Exception, match="no column video or url; they have film"):
        frame.toDF("film").write.format("twelvelabs").mode("append").save()


def test_spark_finds_the_source_by_its_name() -> None:
    """By the package `pyspark_twelvelabs`; it takes no filters, which Spark rejects by default."""
    source = pyspark_twelvelabs.DefaultSource({"path": "videos", "index_id": "demo"})
    assert source.name() == "twelvelabs"
    assert source.schema() == TwelveLabs({"path": "videos", "index_id": "demo"}).schema()
    reader = source.reader(source.schema())
    assert type(reader).pushFilters is pyspark.sql.datasource.DataSourceReader.pushFilters
