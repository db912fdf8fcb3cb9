"""The official SDKs, unchanged, each tell a whole story to the engine: from an index to its end."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import media
from tests.conftest import Engine
from tests.odd_server import OddServer
from tl_data.demo.scene import painter

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def server(start_engine: Callable[..., Engine]) -> Engine:
    """The engine that listens."""
    return start_engine("--allow-private")


@pytest.fixture
def things(files: OddServer) -> list[str]:
    """A video and a picture of it, as paths and as URLs."""
    from PIL import Image

    film, image = media.plain(files.folder), files.folder / "frame.jpg"
    Image.fromarray(painter(media.SCENE, 480, 360)(0.5)).save(image)
    return [str(film), files.url(film.name), str(image), files.url(image.name)]


def tell(base_url: str, *command: str) -> None:
    """Run a story; whatever it prints belongs to the failure."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TL_")}
    environment["TWELVELABS_BASE_URL"] = base_url
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, f"{ended.stdout[-1000:]}\n{ended.stderr[-4000:]}"


def test_python_0_4(server: Engine, things: list[str], python_sdk: Callable[[str], Path]) -> None:
    python = python_sdk("0.4.11")
    # This SDK adds the version itself.
    tell(server.base_url.removesuffix("/v1.3"), str(python), str(HERE / "story_python_0.py"), *things)


def test_python_1_3(server: Engine, things: list[str], python_sdk: Callable[[str], Path]) -> None:
    tell(server.base_url, str(python_sdk("1.3.6")), str(HERE / "story_python_1.py"), *things)


@pytest.mark.parametrize("version", ["1.0.2", "1.3.4"])
def test_javascript(server: Engine, things: list[str], js_sdk: Callable[[str], Path], version: str) -> None:
    tell(server.base_url, "node", str(HERE / "story.mjs"), str(js_sdk(version)), *things)
