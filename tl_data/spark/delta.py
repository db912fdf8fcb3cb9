"""Spark sessions with Delta, whose jars fit the installed versions."""

from __future__ import annotations

import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from tl_data.errors import MissingExtra, SettingsError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: What Delta's jars draw in although Spark brings newer ones of the same.
_SPARK_HAS = (
    "com.fasterxml.jackson.core:*",
    "com.fasterxml.jackson.datatype:*",
    "com.github.luben:zstd-jni",
    "org.apache.hadoop:*",
    "org.apache.logging.log4j:*",
    "org.apache.parquet:*",
    "org.locationtech.jts:*",
    "org.roaringbitmap:*",
    "org.slf4j:*",
    "org.xerial.snappy:*",
)


def delta_conf() -> dict[str, str]:
    """The Spark conf that makes Delta's jars known, for the pyspark and delta-spark installed here.

    Spark fetches the jars from Maven Central at the first start and keeps them (~/.ivy2.5.2).

    Raises:
        MissingExtra: pyspark or delta-spark is not installed.
    """
    try:
        spark, delta = version("pyspark"), version("delta-spark")
    except PackageNotFoundError as missing:
        raise MissingExtra(f"Delta in Spark needs {missing.name}, which", "spark") from missing
    series = ".".join(spark.split(".")[:2])
    return {
        "spark.jars.packages": f"io.delta:delta-spark_{series}_2.13:{delta}",
        "spark.jars.excludes": ",".join(_SPARK_HAS),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    }


def session(master: str = "local[*]", *, delta: bool = True, **conf: str) -> SparkSession:
    """A classic local session with Delta, whose workers run this Python; the running one if there is one.

    Args:
        master: where Spark runs.
        delta: whether to bring Delta's jars.
        conf: further Spark conf, with `__` for the dots: `spark__ui__enabled="false"`.

    Raises:
        MissingExtra: pyspark or delta-spark is not installed.
        SettingsError: there is no Java; the message says what to type.
    """
    try:
        from pyspark.sql import SparkSession
    except ImportError as missing:
        raise MissingExtra("a Spark session needs pyspark, which", "spark") from missing
    if shutil.which("java") is None:
        raise SettingsError("Spark needs Java 17 or newer: apt-get install openjdk-17-jre-headless")
    said = {
        "spark.pyspark.python": sys.executable,
        "spark.sql.session.timeZone": "UTC",
        **(delta_conf() if delta else {}),
        **{name.replace("__", "."): value for name, value in conf.items()},
    }
    builder = SparkSession.builder.master(master).appName("tl_data")
    for name, value in said.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()
