"""The blocks of docs/partners.md run: over a small lake, with the real Qdrant and small servers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.export_lake import needs, small_lake
from tests.support.store_server import http_stores

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@needs("vespa", "vespa")
@needs("pinecone", "pinecone")
@needs("qdrant_client", "qdrant")
def test_the_flows_of_partners_run(tmp_path: Path) -> None:
    small_lake(tmp_path / "demo-lake")
    blocks = FENCE.findall((ROOT / "docs" / "partners.md").read_text(encoding="utf-8"))
    assert len(blocks) == 4
    vespa, pinecone = http_stores("vespa", tmp_path / "app"), http_stores("pinecone", tmp_path / "pinecone")
    places = {
        "VESPA": vespa.place,
        "PINECONE_INDEX": f"clips?namespace=demo&host=http://{pinecone.place}",
        "PINECONE_API_KEY": "key",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)],
        cwd=tmp_path,
        env=os.environ | places,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("9 0\n") == 2  # rows of Vespa and of Pinecone
    assert "enable-bm25" in done.stdout
    assert "vectors 9\n" in done.stdout
    best = re.search(r"^v-.* [\d.]+ 1\.0$", done.stdout, re.MULTILINE)
    assert best, done.stdout
    assert len(vespa.rows["clip"]) == len(pinecone.rows["demo"]) == 9


@pytest.mark.parametrize("name", ["partners", "export"])
def test_the_page_names_tools_that_exist(name: str) -> None:
    from tl_data.export.runner import SINKS

    text = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\b([a-z]+)://[^\s`]", text)) - {"http", "https", "file"}
    assert named
    assert named <= set(SINKS) | {"s"}
