"""Delta between Spark, delta-rs and DuckDB: what one writes the others read, bit by bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import deltalake
import duckdb
import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql.functions import col

from tests.support.library import Library
from tl_data import catalog
from tl_data.connection import connect
from tl_data.spark import delta_conf
from tl_data.spark import functions as tl

pytestmark = pytest.mark.spark


def odd_vectors() -> pa.Table:
    """Vectors of all kinds of 32-bit floats: random bits, the smallest and largest, -0.0, NaN, infinities."""
    rng = np.random.default_rng(3)
    values = rng.integers(0, 2**32, (40, 8), dtype=np.uint32).view(np.float32)
    values[0] = [0.0, -0.0, np.inf, -np.inf, np.float32(1e-45), np.finfo(np.float32).max, 1 / 3, 0.1]
    values[np.isnan(values)] = 1.5
    values[1, 0] = np.nan
    lists = [*values.tolist(), None, []]
    return pa.table({"id": pa.array(range(len(lists))), "vector": pa.array(lists, pa.list_(pa.float32()))})


def bits(table: pa.Table) -> list[Any]:
    """The vectors as they stand in memory, by id."""
    rows = sorted(table.select(["id", "vector"]).to_pylist(), key=lambda row: row["id"])
    return [None if r["vector"] is None else np.asarray(r["vector"], np.float32).tobytes() for r in rows]


def test_vectors_survive_every_round_trip(spark: Any, tmp_path: Path) -> None:
    table = odd_vectors()
    by_spark, by_rust = str(tmp_path / "spark"), str(tmp_path / "rust")
    spark.createDataFrame(table).repartition(2).write.format("delta").save(by_spark)
    deltalake.write_deltalake(by_rust, table)
    for path in (by_spark, by_rust):
        assert bits(spark.read.format("delta").load(path).toArrow()) == bits(table)
        dataset = deltalake.DeltaTable(path).to_pyarrow_dataset()
        assert bits(dataset.to_table()) == bits(table)
        with duckdb.connect() as con:
            con.register("t", dataset)
            assert bits(con.sql("SELECT id, vector FROM t").to_arrow_table()) == bits(table)
    # And back: what DuckDB gives, delta-rs writes, and Spark reads.
    with duckdb.connect() as con:
        con.register("t", deltalake.DeltaTable(by_spark).to_pyarrow_dataset())
        deltalake.write_deltalake(by_rust, con.sql("FROM t").to_arrow_table(), mode="overwrite")
    assert bits(spark.read.format("delta").load(by_rust).toArrow()) == bits(table)


def test_vectors_of_the_engine_merge_and_travel_in_time(spark: Any, library: Library, tmp_path: Path) -> None:
    path = str(tmp_path / "clips")
    urls = spark.createDataFrame([(url,) for url in library.urls], "url string")
    clips = tl.apply(urls, "clips", "url", index_id=library.index, settings=library.settings)
    clips.where(col("url") == library.urls[0]).write.format("delta").save(path)
    clips.createOrReplaceTempView("fresh")
    spark.sql(
        f"MERGE INTO delta.`{path}` old USING fresh "
        "ON old.url = fresh.url AND old.clip_number = fresh.clip_number "
        "WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *"
    )
    now = spark.read.format("delta").load(path).toArrow().to_pylist()
    then = spark.read.format("delta").option("versionAsOf", 0).load(path).toArrow().to_pylist()
    assert {row["url"] for row in now} == set(library.urls)
    assert {row["url"] for row in then} == {library.urls[0]}
    call = connect(library.settings).call
    for row in now:
        [same] = [
            clip
            for clip in call(catalog.FUNCTIONS["clips"], video=row["url"], index_id=library.index)
            if clip["clip_number"] == row["clip_number"]
        ]
        assert (
            np.asarray(same["vector"], np.float32).tobytes()
            == np.asarray(row["vector"], np.float32).tobytes()
        )


def test_a_stream_into_delta_is_idempotent(registered: Any, library: Library, tmp_path: Path) -> None:
    """A micro-batch that is run again, as after a crash before its commit, writes nothing a second time."""
    spark, path = registered, str(tmp_path / "out")
    source, checkpoint = tmp_path / "in", tmp_path / "checkpoint"
    spark.createDataFrame([(f"a stream {i}",) for i in range(4)], "w string").write.parquet(str(source))

    def write(batch: Any, number: int) -> None:
        made = batch.withColumn("vector", tl.embed_text("w", settings=library.settings))
        made.write.format("delta").mode("append").option("txnAppId", "test").option(
            "txnVersion", number
        ).save(path)

    def run() -> None:
        query = (
            spark.readStream.schema("w string").parquet(str(source))
            .writeStream.foreachBatch(write)
            .option("checkpointLocation", str(checkpoint))
            .trigger(availableNow=True)
            .start()
        )  # fmt: skip
        assert query.awaitTermination(120)
        assert query.exception() is None

    before = library.requests("POST /embed")
    run()
    assert spark.read.format("delta").load(path).count() == 4
    for commit in (checkpoint / "commits").glob("*0"):
        commit.unlink()
    for checksum in (checkpoint / "commits").glob(".*crc"):
        checksum.unlink()
    run()
    table = deltalake.DeltaTable(path)
    assert table.to_pyarrow_table().num_rows == 4
    assert library.requests("POST /embed") - before == 4


def test_the_jars_match_the_installed_versions() -> None:
    conf = delta_conf()
    assert conf["spark.jars.packages"].startswith("io.delta:delta-spark_4.")
    assert conf["spark.sql.extensions"] == "io.delta.sql.DeltaSparkSessionExtension"
