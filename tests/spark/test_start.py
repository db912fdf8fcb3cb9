"""How Spark starts, and the message where it cannot start, for which each test starts a process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql.functions import udf

from tests.support.environments import environment

pytestmark = pytest.mark.spark

START = "import tl_data.spark as s; s.session('local[1]', spark__ui__enabled='false'{conf})"

#: Where no jars are: nobody listens at this port.
NOWHERE = """\
<ivysettings>
  <settings defaultResolver="nowhere"/>
  <resolvers><ibiblio name="nowhere" m2compatible="true" root="http://127.0.0.1:9/"/></resolvers>
</ivysettings>
"""


def start(conf: str = "", **variables: str) -> str:
    """Start a session that cannot start; the last line of its errors."""
    ended = subprocess.run(
        [sys.executable, "-c", START.format(conf=conf)],
        env=environment() | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 1
    return ended.stderr.strip().splitlines()[-1]


def test_without_java(tmp_path: Path) -> None:
    said = start(PATH=str(tmp_path))
    assert said == (
        "tl_data.errors.SettingsError: Spark needs Java 17 or newer: apt-get install openjdk-17-jre-headless"
    )


def test_without_the_jars_of_delta(tmp_path: Path) -> None:
    (settings := tmp_path / "ivy.xml").write_text(NOWHERE)
    said = start(f", spark__jars__ivySettings='{settings}', spark__jars__ivy='{tmp_path}'")
    assert said.startswith("tl_data.errors.SettingsError: Spark did not start")
    assert "spark.jars.repositories" in said
    assert "tl-data doctor" in said


def test_workers_have_this_python_and_the_environment_is_as_before(spark: Any) -> None:
    python = udf(lambda _: sys.executable)
    assert [row[0] for row in spark.range(1).select(python("id")).collect()] == [sys.executable]
    assert "PYSPARK_PYTHON" not in os.environ
