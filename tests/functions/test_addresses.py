"""Addresses as they stand in text files, given to the functions."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Engine
from tl_data import catalog
from tl_data.connection import connect
from tl_data.settings import Settings


@pytest.mark.parametrize("around", [" {}", "{}\r\n", "\ufeff{}", "\t \ufeff {} "])
def test_blanks_around_a_url_do_not_count(engine: Engine, tmp_path: Path, around: str) -> None:
    """Nothing answers at the address, so that the error says what it was taken for."""
    settings = Settings(base_url=engine.base_url, home=str(tmp_path), retries=0, index="blanks")
    url = around.format("http://127.0.0.1:9/v.mp4")
    [outcome] = connect(settings).map(catalog.FUNCTIONS["index_video"], [{"video": url}])
    assert outcome.error is not None
    assert type(outcome.error).__name__ == "ConnectionFailed"  # of a path it is MediaRefused
