"""What version 0.1 left on disk is opened and continued: job file, lake, ledger, data of the engine.

`tests/data/earlier_version.tar.xz` holds a folder in which the commit before the packages ran its own
`tl-data run job.toml` over one drawn video and one missing file, with the embedded engine.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.environments import environment

ARCHIVE = Path(__file__).parents[1] / "data" / "earlier_version.tar.xz"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("earlier")
    with tarfile.open(ARCHIVE) as archive:
        # Python 3.11.3 and earlier have no filters.
        archive.extractall(made, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    return made


def ended(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tl_data", *words, "--json"],
        cwd=folder,
        env=environment(TL_LEDGER="ledger", TL_HOME="home"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def tl_data(folder: Path, *words: str) -> tuple[int, Any]:
    done = ended(folder, *words)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_the_lake_and_the_ledger_are_read(folder: Path) -> None:
    code, status = tl_data(folder, "status", "job.toml")
    assert code == 0
    expected = {"videos": 1, "clips": 1, "summaries": 1, "chapters": 1, "vectors": 4, "errors": 1}
    assert {name: status["rows"][name] for name in expected} == expected
    code, calls = tl_data(folder, "ledger", "ls")
    assert code == 0
    assert {call["operation"] for call in calls} >= {"index", "summary", "chapter"}
    assert {call["state"] for call in calls} == {"done"}


def test_the_engine_opens_its_data(folder: Path) -> None:
    code, [index] = tl_data(folder, "indexes")
    assert (code, index["index_name"], index["video_count"]) == (0, "compat", 1)
    code, [video] = tl_data(folder, "videos", "--index-id", "compat")
    assert (code, round(video["duration_sec"])) == (0, 5)


def test_a_run_goes_on_and_pays_for_nothing_again(folder: Path) -> None:
    """Its engine had another model, whose vectors are not mixed with these; the refusal says what to do."""
    refused = ended(folder, "run", "job.toml")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "search_model = 'tl-local-1'" in refused.stderr
    job = folder / "job.toml"
    job.write_text(job.read_text().replace("[settings]\n", "[settings]\nsearch_model = 'tl-local-1'\n"))
    code, report = tl_data(folder, "run", "job.toml")
    assert (code, report["unchanged"], report["submitted"], report["calls"]) == (0, 1, 0, 0)
    assert report["paid_twice"] == 0
    assert report["price"] == 0
    assert [error["code"] for error in report["errors"]] == ["video_url_invalid"]
