"""Every notebook of examples/ runs to its assertions, in the folder that the demo leaves."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tl_data.lake.lake import Lake

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
EXECUTE = """
import sys
import nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], 4)
NotebookClient(notebook, timeout=280, kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[2])
"""
#: A model that takes a second for an answer, and three groups of texts: a statement of three seconds.
SLOW_STATEMENT = """
import json, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import duckdb, tl_data

class Model(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(1.1)
        choice = {"message": {"content": "An answer."}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1}
        data = json.dumps({"choices": [choice], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Model)
threading.Thread(target=server.serve_forever, daemon=True).start()
with duckdb.connect() as con:
    tl_data.register(con, concurrency=1, text_url=f"http://127.0.0.1:{server.server_port}/v1", text_model="m")
    rows = con.sql("SELECT tl_agg([x::VARCHAR], 'Why?') AS a FROM range(3) t(x)").fetchall()
assert rows == [("An answer.",)] * 3
server.shutdown()
server.server_close()
"""
#: test_readme.py runs the cells of Spark's notebook after the pages about Spark, in the same Java.
ELSEWHERE = {"03_spark_and_delta"}

pytestmark = [
    pytest.mark.timeout(900),  # the demo runs first
    pytest.mark.skipif(
        find_spec("nbclient") is None or find_spec("ipykernel") is None,
        reason="notebooks need nbclient and ipykernel: pip install nbclient ipykernel",
    ),
]


def execute(path: Path, lake: Lake, place: Path) -> list[dict[str, Any]]:
    """The outputs of all cells of an executed notebook."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("TL_")}
    home, done = str(Path(lake.folder) / "engine"), place / f"{path.stem}.done.ipynb"
    ended = subprocess.run(
        [sys.executable, "-c", EXECUTE, str(path), str(done)],
        cwd=place, env=own | {"TL_HOME": home}, capture_output=True, text=True, timeout=290, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
    cells = nbformat.read(done, 4).cells
    return [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path: Path, lake: Lake, place: Path) -> None:
    if path.stem in ELSEWHERE and "TEST_NOTEBOOKS" not in os.environ:
        pytest.skip("test_readme.py runs its cells")
    outputs = execute(path, lake, place)
    if path.stem.startswith("02"):  # a run of a job shows a bar
        bars = [o["data"]["text/plain"] for o in outputs if o["output_type"] == "display_data"]
        assert any("1/1 videos" in bar and "done" in bar for bar in bars)


def test_a_long_statement_shows_its_rows(lake: Lake, place: Path) -> None:
    path = place / "slow_statement.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SLOW_STATEMENT)]), path)
    outputs = [o for o in execute(path, lake, place) if o["output_type"] == "display_data"]
    assert len(outputs) == 1
    assert "tl_agg" in outputs[0]["data"]["text/plain"]
    assert "3/3 rows" in outputs[0]["data"]["text/html"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_committed_with_its_output_and_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    cells = [cell for cell in nbformat.reads(text, 4).cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells)
    assert sum(bool(cell.outputs) for cell in cells) >= 2
    assert not any(output.output_type == "error" for cell in cells for output in cell.outputs)
    assert "assert " in cells[-1].source
    assert len(text) < 150_000
