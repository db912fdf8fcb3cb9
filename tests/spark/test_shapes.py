"""No shape of a query, retry or worker makes a call twice: the counts are the server's own."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from pyspark.sql.functions import col

import tl_data
from tests.support.library import Library
from tl_data.catalog import FUNCTIONS
from tl_data.connection import connect
from tl_data.errors import SettingsError
from tl_data.settings import Settings
from tl_data.spark import functions as tl
from tl_data.spark.worker import KEY_CONF, Worker

pytestmark = pytest.mark.spark


def words(spark: Any, name: str, rows: int = 40, distinct: int = 20) -> Any:
    """Rows of words in two partitions, each word in both of them."""
    frame = spark.range(0, rows, 1, 2).selectExpr(f"concat('{name} ', id % {distinct}) AS w")
    frame.createOrReplaceTempView("words")
    return frame


class TestShapes:
    """The query shapes that make Spark evaluate an expression more than once."""

    SQL: ClassVar = {
        "written three times": (
            "SELECT tl_embed_text(w)[1], tl_embed_text(w)[2], tl_embed_text(w)[3] FROM words "
            "WHERE tl_embed_text(w) IS NOT NULL"
        ),
        "fields of one result": "SELECT e.value[1], e.error FROM (SELECT try_tl_embed_text(w) e FROM words)",
        "filter on the result": "SELECT * FROM (SELECT tl_embed_text(w) v FROM words) WHERE v[1] < 2",
        "sorted by the result": "SELECT * FROM (SELECT tl_embed_text(w) v FROM words) ORDER BY v[1]",
        "two branches": (
            "WITH e AS (SELECT tl_embed_text(w) v FROM words) SELECT v[1] FROM e UNION ALL SELECT v[2] FROM e"
        ),
        "exploded": "SELECT explode(v) FROM (SELECT tl_embed_text(w) v FROM words)",
        "both forms": "SELECT tl_embed_text(w)[1], try_tl_embed_text(w).value[1] FROM words",
    }

    @pytest.mark.parametrize("shape", SQL)
    def test_sql(self, shape: str, registered: Any, library: Library) -> None:
        words(registered, f"{type(registered).__module__} {shape}")
        before = library.requests("POST /embed")
        assert len(registered.sql(self.SQL[shape]).collect()) >= 40
        assert library.requests("POST /embed") - before == 20

    def test_a_preview_a_count_and_a_write(self, registered: Any, library: Library, tmp_path: Any) -> None:
        frame = words(registered, f"{type(registered).__module__} preview").withColumn(
            "v", tl.embed_text("w", settings=library.settings)
        )
        before = library.requests("POST /embed")
        assert frame.count() == 40
        assert library.requests("POST /embed") == before
        frame.limit(5).collect()
        frame.write.parquet(str(tmp_path / "out"))
        again = frame.where(col("v")[0] < 2).orderBy(col("v")[1])
        assert again.union(again).count() == 80
        assert library.requests("POST /embed") - before == 20

    def test_whole_tables(self, registered: Any, library: Library) -> None:
        frame = words(registered, f"{type(registered).__module__} whole")
        made = tl.apply(frame, "embed_text", "w", settings=library.settings)
        before = library.requests("POST /embed")
        rows = made.orderBy(made["embed_text"][0]).union(made.where(made["embed_text"][0] < 2)).collect()
        assert len(rows) == 80
        assert library.requests("POST /embed") - before == 20


def test_a_durable_call_is_made_once_for_all_sessions(spark: Any, library: Library, tmp_path: Any) -> None:
    settings = library.settings.but(ledger=str(tmp_path / "ledger"))
    connection = connect(library.settings)
    video = connection.call(FUNCTIONS["index_video"], video=library.urls[0], index_id=library.index)[
        "video_id"
    ]
    statement = (
        f"SELECT tl_analyze('{video}', 'What is the title of {id(spark)}?'), "
        f"tl_analyze('{video}', 'What is the title of {id(spark)}?') FROM range(0, 6, 1, 2)"
    )

    def asked() -> int:
        return library.requests("POST /analyze") + library.requests("POST /analyze/tasks")

    before = asked()
    for _ in range(2):  # the second registration shares no answers of the first but those in the ledger
        tl_data.register(spark, settings)
        assert len(set(spark.sql(statement).collect())) == 1
    tl_data.register(spark, library.settings)
    assert asked() - before == 1


def test_a_retried_task_repeats_no_call(spark: Any, library: Library, tmp_path: Any) -> None:
    """A task that fails after its calls, as when its worker is killed, is run again by Spark."""
    settings = library.settings
    frame = words(spark, f"{type(spark).__module__} retried", 12, 6)
    made = tl.apply(frame, "embed_text", "w", settings=settings)
    mark = tmp_path / "failed once"

    def dies_once(batches: Any) -> Any:
        import os

        for batch in batches:
            if not mark.exists():
                mark.touch()
                os.kill(os.getpid(), 9)
            yield batch

    before = library.requests("POST /embed")
    with pytest.raises(Exception, match=r"(?i)crash|worker"):
        # One failure fails a job of a local master; what a cluster does next is to run it again.
        made.mapInArrow(dies_once, made.schema).collect()
    assert len(made.mapInArrow(dies_once, made.schema).collect()) == 12
    assert library.requests("POST /embed") - before == 6


def test_many_rows_of_few_values(registered: Any, library: Library) -> None:
    frame = words(registered, f"{type(registered).__module__} many", rows=100_000, distinct=100)
    before = library.requests("POST /embed")
    assert registered.sql("SELECT count(tl_embed_text(w)) FROM words").first()[0] == 100_000
    assert library.requests("POST /embed") - before == 100
    assert frame.count() == 100_000


def test_a_worker_without_a_key_says_where_it_looks() -> None:
    worker = Worker(Settings(base_url="http://127.0.0.1:9/v1.3"), "scope", needs_key=True)
    with pytest.raises(SettingsError, match=KEY_CONF):
        worker.connection()
