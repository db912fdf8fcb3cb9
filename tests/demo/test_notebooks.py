"""Every notebook of examples/ runs to its assertions, in the folder that the demo leaves."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest

from tl_data.lake.lake import Lake

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
EXECUTE = """
import sys
import nbformat
from nbclient import NotebookClient
NotebookClient(nbformat.read(sys.argv[1], 4), timeout=280, kernel_name="python3").execute()
"""

pytestmark = [
    pytest.mark.timeout(900),  # the demo runs first
    pytest.mark.skipif(
        find_spec("nbclient") is None or find_spec("ipykernel") is None,
        reason="notebooks need nbclient and ipykernel: pip install nbclient ipykernel",
    ),
]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path: Path, lake: Lake, place: Path) -> None:
    own = {k: v for k, v in os.environ.items() if not k.startswith("TL_")}
    home = str(Path(lake.folder) / "engine")
    done = subprocess.run(
        [sys.executable, "-c", EXECUTE, str(path)],
        cwd=place, env=own | {"TL_HOME": home}, capture_output=True, text=True, timeout=290, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_committed_with_its_output_and_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    cells = [cell for cell in nbformat.reads(text, 4).cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells)
    assert sum(bool(cell.outputs) for cell in cells) >= 2
    assert not any(output.output_type == "error" for cell in cells for output in cell.outputs)
    assert "assert " in cells[-1].source
    assert len(text) < 150_000
