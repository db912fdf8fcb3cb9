"""Python workers and the server killed at random, as the benchmark has it, in short."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.spark


def test_killed_workers_pay_once() -> None:
    """In a process of its own: only a new Spark lets a task fail and be tried again."""
    command = [sys.executable, "benchmarks/chaos_spark.py", "--local"]
    said = subprocess.run(
        [*command, "--seeds", "1", "--first", "3", "--videos", "3", "--kills", "2", "--ways", "written"],
        check=False, capture_output=True, text=True, cwd=ROOT,
        # Java compiles only as far as pays for a run of a minute.
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1"},
        timeout=200,
    )  # fmt: skip
    found = re.search(r"(\d+) tasks for 3 videos, (\d+) workers killed.*wrong: (.*)", said.stdout)
    assert found, said.stdout + said.stderr
    assert (found[1], found[3]) == ("3", "-"), said.stdout + said.stderr
    assert int(found[2]) > 0
    assert said.returncode == 0
