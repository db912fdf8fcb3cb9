"""A machine on which Spark cannot start says why, and what to type. Each start is a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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
