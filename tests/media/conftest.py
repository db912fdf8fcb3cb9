"""Fixtures that these tests share with tests/client."""

from tests.client.conftest import run, server, settings

__all__ = ["run", "server", "settings"]
