"""One Java process for all tests of Spark: a classic session, and a Connect server in it with a client."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from tests.support.buckets import CREDENTIALS
from tests.support.library import Library
from tl_data.spark import session
from tl_data.spark.worker import KEY_CONF

#: A key that no server asks for, in the one place of the Spark conf where a key may stand.
PLANTED = "tlk_PLANTED_IN_THE_SPARK_CONF"


@dataclass(frozen=True)
class Java:
    """The classic session, the address of its Connect server, and the folder of its event log."""

    spark: SparkSession
    remote: str
    events: Path


@pytest.fixture(scope="session")
def java(tmp_path_factory: pytest.TempPathFactory, s3_endpoint: str) -> Iterator[Java]:
    folder = tmp_path_factory.mktemp("spark")
    (events := folder / "events").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ.pop("PYSPARK_PYTHON", None)  # `session` selects the Python of the workers
    # A conf given to the builder stands on the command line of Java, for all to see; one in a file does not.
    (conf := folder / "conf").mkdir()
    (conf / "spark-defaults.conf").write_text(f"{KEY_CONF} {PLANTED}\n")
    os.environ["SPARK_CONF_DIR"] = str(conf)
    # The workers have the environment that Java starts with; the tests of buckets need it there.
    credentials = {**CREDENTIALS, "AWS_ENDPOINT_URL": s3_endpoint}
    before = {name: os.environ.get(name) for name in credentials}
    os.environ.update(credentials)
    spark = session(
        "local[2]",
        **{
            "spark.app.name": "tests",
            "spark.connect.grpc.binding.address": "127.0.0.1",
            "spark.connect.grpc.binding.port": str(port),
            "spark.databricks.delta.snapshotPartitions": "1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.memory": "1g",
            "spark.eventLog.compress": "false",  # so that it can be searched
            "spark.eventLog.dir": events.as_uri(),
            "spark.eventLog.enabled": "true",
            "spark.local.dir": str(folder / "local"),
            "spark.log.level": "ERROR",
            "spark.plugins": "org.apache.spark.sql.connect.SparkConnectPlugin",
            "spark.sql.shuffle.partitions": "2",
            "spark.sql.warehouse.dir": str(folder / "warehouse"),
            "spark.ui.port": "0",
            "spark.ui.showConsoleProgress": "false",
        },
    )
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value
    yield Java(spark, f"sc://127.0.0.1:{port}", events)
    spark.stop()


@contextmanager
def connect_session(java: Java) -> Iterator[Any]:
    """A session of Spark Connect. Meanwhile this process is one of Connect."""
    from pyspark.sql.connect.session import SparkSession as ConnectSession

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARK_CONNECT_MODE_ENABLED", "1")  # as pyspark itself sets it
        client = ConnectSession.builder.remote(java.remote).create()
        yield client
        client.stop()


@pytest.fixture(scope="session", params=["classic", "connect"])
def spark(request: pytest.FixtureRequest, java: Java) -> Iterator[Any]:
    """A session of either kind. A process has one kind; the tests have both, one after the other."""
    if request.param == "classic":
        yield java.spark
        return
    with connect_session(java) as client:
        yield client


@pytest.fixture(scope="module")
def classic(java: Java) -> Iterator[Java]:
    """The classic session for the fixtures of a module, which are set up before `_mode`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SPARK_CONNECT_MODE_ENABLED", raising=False)
        yield java


@pytest.fixture(autouse=True)
def _mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test of the classic session alone is no process of Connect, whichever tests ran before it."""
    if "spark" not in request.fixturenames:
        monkeypatch.delenv("SPARK_CONNECT_MODE_ENABLED", raising=False)


@pytest.fixture(scope="module")
def registered(spark: Any, library: Library) -> Any:
    """The session with the functions of the catalog, for the library; anew for each file of tests."""
    import tl_data

    tl_data.register(spark, library.settings)
    return spark
