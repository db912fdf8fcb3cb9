"""Executes the notebooks of this folder, and saves them with their outputs: `make notebooks`.

    python examples/execute.py [NAME ...]

Run it in the folder that holds `demo-lake`. What a notebook prints to stderr and the times of its cells are
not saved, because they differ from run to run.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent


def execute(path: Path) -> None:
    """Execute a notebook in the working folder, and replace its outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell or an assertion failed.
    """
    notebook = nbformat.read(path, 4)
    NotebookClient(notebook, timeout=600, kernel_name="python3", record_timing=False).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    notebook.metadata.pop("language_info", None)
    nbformat.write(notebook, path)


if __name__ == "__main__":
    if not Path("demo-lake").is_dir():
        sys.exit("There is no folder demo-lake here. Type: make demo")
    for found in sorted(FOLDER.glob("*.ipynb")):
        if not sys.argv[1:] or found.stem in sys.argv[1:]:
            print(found.stem, flush=True)
            execute(found)
