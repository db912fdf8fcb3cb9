"""Spark sessions with the Delta jars that fit the installed pyspark and delta-spark."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from tl_data.errors import MissingExtra, SettingsError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: Dependencies of Delta's jars that are excluded, because Spark has newer versions of them.
_PROVIDED_BY_SPARK = (
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
    """The Spark conf that loads Delta's jars for the installed pyspark and delta-spark.

    Spark downloads the jars from Maven Central at the first start and caches them (~/.ivy2.5.2).

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
        "spark.jars.excludes": ",".join(_PROVIDED_BY_SPARK),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    }


def session(master: str = "local[*]", *, delta: bool = True, **conf: str) -> SparkSession:
    """Start a classic session with Delta, whose workers use this Python; or return the running session.

    Args:
        master: the master URL; by default all cores of this machine.
        delta: whether to add Delta's jars.
        conf: further Spark conf, with `__` for the dots: `spark__ui__enabled="false"`.

    Raises:
        MissingExtra: pyspark or delta-spark is not installed.
        SettingsError: Java is missing, or Delta's jars cannot be downloaded; the message has the next step.
    """
    try:
        from pyspark.sql import SparkSession
    except ImportError as missing:
        raise MissingExtra("a Spark session needs pyspark, which", "spark") from missing
    settings = {
        "spark.sql.session.timeZone": "UTC",
        **(delta_conf() if delta else {}),
        **{name.replace("__", "."): value for name, value in conf.items()},
    }
    builder = SparkSession.builder.master(master).appName("tl_data")
    for name, value in settings.items():
        builder = builder.config(name, value)
    return started(builder)


def started(builder: SparkSession.Builder) -> SparkSession:
    """Start the session of a builder.

    Raises:
        SettingsError: Java is missing, or Spark did not start, usually because of missing jars.
    """
    from pyspark.errors import PySparkException

    uses_connect = "SPARK_REMOTE" in os.environ or "SPARK_CONNECT_MODE_ENABLED" in os.environ
    if not uses_connect and shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        raise SettingsError("Spark needs Java 17 or newer: apt-get install openjdk-17-jre-headless")
    try:
        with _python_of_workers():
            return builder.getOrCreate()
    except PySparkException as error:
        if error.getCondition() != "JAVA_GATEWAY_EXITED":
            raise
        raise SettingsError(
            "Spark did not start; the output of Java is above. If it could not download Delta's jars, either "
            "allow access to Maven Central (or a mirror: spark.jars.repositories), or put the jars "
            "into a folder and set spark.jars, with session(delta=False). Java must be 17 or newer: "
            "see tl-data doctor"
        ) from error


@contextmanager
def _python_of_workers() -> Iterator[None]:
    """Set the Python of the workers while Spark starts, unless the variable PYSPARK_PYTHON names one.

    The variable is the only way: pyspark reads the Python of functions from it when the context starts, and
    Java, which inherits the environment, that of data sources and of Connect. `spark.pyspark.python` has an
    effect in `spark-submit` alone.
    """
    name = "PYSPARK_PYTHON"
    if name in os.environ:
        yield
        return
    os.environ[name] = sys.executable
    try:
        yield
    finally:
        del os.environ[name]
