"""Two engines that answer and refuse exactly as the service: today's and that of 2025. One video for both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tl_data.connection import Connection, connect
from tl_data.demo.file_server import FileServer
from tl_data.demo.scene import Scene
from tl_data.demo.videos import make_video
from tl_data.functions import FUNCTIONS
from tl_data.settings import Settings

SECONDS = 8.0


@dataclass
class Account:
    """An account of the service at one time, with a video that lies at a URL and as a file."""

    profile: str
    connection: Connection
    url: str
    path: Path

    @property
    def today(self) -> bool:
        return self.profile == "today"

    @property
    def index(self) -> str:
        return self.connection.settings.index

    def call(self, name: str, **arguments: Any) -> Any:
        return self.connection.call(FUNCTIONS[name], **arguments)

    def run(self, work: Any) -> Any:
        return self.connection.run(work)

    def requests(self, *routes: str) -> int:
        """How many requests the API got, of some routes or of all; a route is 'POST /analyze'."""
        root = str(self.connection.settings.base_url).removesuffix("/v1.3")
        counts = httpx.get(f"{root}/_engine/stats").raise_for_status().json()["requests"]
        wanted = {route: n for route, n in counts.items() if "/_engine" not in route}
        return sum(sum(n.values()) for route, n in wanted.items() if not routes or route in routes)


@pytest.fixture(scope="session")
def one_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes of four seconds: a red circle with a word, a green square with another."""
    path = tmp_path_factory.mktemp("profiles") / "exit.mp4"
    scenes = (
        Scene(4, "Emergency exit", "Follow the green sign", background="black", shape="circle", color="red"),
        Scene(4, "Helmet and gloves", "Required in hall 4", background="sand", shape="square", color="green"),
    )
    make_video(path, scenes)
    return path


@pytest.fixture(scope="module", params=["today", "2025"])
def account(
    request: pytest.FixtureRequest, one_video: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Account]:
    """An account on the session's engines; its ledger and its index are of the module alone."""
    engine = request.getfixturevalue({"today": "today", "2025": "account_2025"}[request.param])
    home = tmp_path_factory.mktemp("home")
    settings = Settings(
        api_key="tlk_A0KEY", base_url=engine.base_url, home=str(home), index=home.name, poll_interval=0.3
    )
    with FileServer(one_video.parent) as server:
        connection = connect(settings)
        try:
            yield Account(request.param, connection, server.url(one_video.name), one_video)
        finally:
            connection.close()
