"""The official SDKs, each in a folder of its own below the user's cache, installed once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.environments import cache, once, python_with


@pytest.fixture(scope="session")
def python_sdk() -> Callable[[str], Path]:
    """`python_sdk("0.4.11")`: an interpreter that has this version of `twelvelabs`."""

    def made(version: str) -> Path:
        return python_with(f"twelvelabs-{version}", f"twelvelabs=={version}")

    return made


@pytest.fixture(scope="session")
def js_sdk() -> Callable[[str], Path]:
    """`js_sdk("1.0.2")`: a folder that has this version of `twelvelabs-js` among its modules."""
    if shutil.which("npm") is None:
        pytest.skip("needs node and npm")

    def made(version: str) -> Path:
        folder = cache() / f"twelvelabs-js-{version}"
        return once(
            folder,
            ["npm", "init", "--yes"],
            ["npm", "install", "--no-audit", "--no-fund", f"twelvelabs-js@{version}"],
        )

    return made
