"""The official SDKs, each in a folder of its own below the user's cache, installed once."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Engine
from tests.support import media
from tests.support.environments import cache, once, python_with
from tests.support.odd_server import OddServer
from tl_data.demo.scene import painter

#: Older SDKs, each in an environment of its own: they are installed and run with `TEST_ALL_CLIENTS`.
MANY = pytest.mark.skipif(not os.environ.get("TEST_ALL_CLIENTS"), reason="make test-clients runs it")


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


@pytest.fixture(scope="session")
def server(start_shared_engine: Callable[..., Engine], tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """The engine that listens; a folder with one video stands in for a bucket that is connected."""
    bucket = tmp_path_factory.mktemp("bucket")
    media.plain(bucket).rename(bucket / "bucket.mp4")
    return start_shared_engine("--allow-private", "--media", str(bucket))


@pytest.fixture
def things(files: OddServer, server: Engine) -> list[str]:
    """A video and a picture of it, as paths and as URLs, and the integration to import from."""
    from PIL import Image

    film, image = media.plain(files.folder), files.folder / "frame.jpg"
    Image.fromarray(painter(media.SCENE, 480, 360)(0.5)).save(image)
    integration = json.loads((server.home / "engine.json").read_text())["integration_id"]
    return [str(film), files.url(film.name), str(image), files.url(image.name), integration]
