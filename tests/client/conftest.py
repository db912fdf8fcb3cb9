"""Fixtures of the client's tests: a scripted server, and a client of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.scripted import KEY, Server, scripted_server
from tl_data.client import Client
from tl_data.settings import Settings


@pytest.fixture
def server() -> Iterator[Server]:
    with scripted_server() as server:
        yield server


@pytest.fixture
def settings() -> Settings:
    """A key, and short limits of time."""
    return Settings(api_key=KEY, timeout=5.0, retries=2, max_wait=5.0, poll_interval=0.2)


@pytest.fixture
def run(server: Server, settings: Settings) -> Callable[..., Any]:
    """Run an async function of a client that talks to the server; keywords change the settings."""

    def call(use: Callable[[Client], Any], **changes: Any) -> Any:
        async def main() -> Any:
            async with Client(settings.but(**changes), base_url=server.url) as client:
                return await use(client)

        return asyncio.run(main())

    return call
