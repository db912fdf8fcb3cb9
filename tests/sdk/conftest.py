"""The official SDKs, each in a folder of its own below the user's cache, installed once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tl_data-tests"


def _once(folder: Path, *commands: list[str]) -> Path:
    """Run the commands unless they have succeeded before."""
    done = folder / "done"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for command in commands:
            ended = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=240, check=False
            )
            assert ended.returncode == 0, f"{command}: {ended.stderr[-2000:]}"
        done.touch()
    return folder


@pytest.fixture(scope="session")
def python_sdk() -> Callable[[str], Path]:
    """`python_sdk("0.4.11")`: an interpreter that has this version of `twelvelabs`."""

    def made(version: str) -> Path:
        folder = _cache() / f"twelvelabs-{version}-py{sys.version_info.major}{sys.version_info.minor}"
        python = folder / "bin" / "python"
        _once(
            folder,
            [sys.executable, "-m", "venv", str(folder)],
            [str(python), "-m", "pip", "install", "--quiet", f"twelvelabs=={version}"],
        )
        return python

    return made


@pytest.fixture(scope="session")
def js_sdk() -> Callable[[str], Path]:
    """`js_sdk("1.0.2")`: a folder that has this version of `twelvelabs-js` among its modules."""
    if shutil.which("npm") is None:
        pytest.skip("needs node and npm")

    def made(version: str) -> Path:
        folder = _cache() / f"twelvelabs-js-{version}"
        return _once(
            folder,
            ["npm", "init", "--yes"],
            ["npm", "install", "--no-audit", "--no-fund", f"twelvelabs-js@{version}"],
        )

    return made
