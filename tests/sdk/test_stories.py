"""The official SDKs, unchanged, each tell a whole story to the engine: from an index to its end."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.conftest import Engine
from tests.sdk.conftest import MANY
from tl_data.cli.operations import SDKS

HERE = Path(__file__).parent


def tell(server: Engine, sdk: tuple[str, str], *command: str) -> None:
    """Run a story; its output belongs to the failure. It carries out what the documentation claims."""
    root = server.base_url.removesuffix("/v1.3")
    httpx.delete(f"{root}/_engine/stats")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TL_")}
    # The old SDK adds the version itself.
    environment["TWELVELABS_BASE_URL"] = root if sdk[1].startswith("0.") else server.base_url
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, f"{ended.stdout[-1000:]}\n{ended.stderr[-4000:]}"
    counts = httpx.get(f"{root}/_engine/stats").json()["requests"]
    done = {route for route, statuses in counts.items() if any(status[0] == "2" for status in statuses)}
    done.discard("PUT /media")  # where the parts of large files go: an address that the API gives out
    assert done == SDKS[sdk]


@MANY
def test_python_0_4(server: Engine, things: list[str], python_sdk: Callable[[str], Path]) -> None:
    tell(server, ("Python", "0.4.11"), str(python_sdk("0.4.11")), str(HERE / "story_python_0.py"), *things)


def test_python_1_3(server: Engine, things: list[str], python_sdk: Callable[[str], Path]) -> None:
    tell(server, ("Python", "1.3.6"), str(python_sdk("1.3.6")), str(HERE / "story_python_1.py"), *things)


@pytest.mark.parametrize("version", [pytest.param("1.0.2", marks=MANY), "1.3.4"])
def test_javascript(server: Engine, things: list[str], js_sdk: Callable[[str], Path], version: str) -> None:
    tell(server, ("JS", version), "node", str(HERE / "story.mjs"), str(js_sdk(version)), *things)


def test_every_sdk_of_the_documents_tells_a_story() -> None:
    assert set(SDKS) == {("Python", "0.4.11"), ("Python", "1.3.6"), ("JS", "1.0.2"), ("JS", "1.3.4")}
