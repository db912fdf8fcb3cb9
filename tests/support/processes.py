"""Waits for what another process of a test does."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable


def wait_for(what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait until something is so; the process must not end before, nor take more than 90 s."""
    deadline = time.monotonic() + 90
    while not what():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def kill_when(what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Kill the process as soon as something is so, and also if it does not become so."""
    try:
        wait_for(what, process)
    finally:
        process.kill()
        process.wait()
