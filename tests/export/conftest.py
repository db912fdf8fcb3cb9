"""A lake of three videos."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.export_lake import small_lake
from tl_data.lake.lake import Lake


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return small_lake(tmp_path / "lake")
