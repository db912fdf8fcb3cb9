"""dbt itself builds the example project, with the functions in its models."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from tests.support.environments import ROOT, environment, python_with, requirements
from tests.support.library import Library

PROJECT = ROOT / "examples" / "dbt_project"
Dbt = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def dbt_program() -> Path:
    """The program `dbt`, in an environment of its own."""
    python = python_with("dbt-1.11", *requirements("duckdb", "dbt"), "jsonschema>=4")
    return python.parent / "dbt"


@pytest.fixture
def dbt(dbt_program: Path, library: Library, tmp_path: Path) -> Dbt:
    """Run dbt on a copy of the example, over the videos of the library."""
    project = tmp_path / "project"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("target", "logs", "*.duckdb"))
    rows = [f"{number},{url}" for number, url in enumerate(library.urls, 1)]
    (project / "videos.csv").write_text("\n".join(["id,url", *rows, ""]), encoding="utf-8")

    def run(*words: str, **said: str) -> subprocess.CompletedProcess[str]:
        settings = {
            "TL_BASE_URL": str(library.settings.base_url),
            "TL_HOME": library.settings.home,
            "TL_LEDGER": library.settings.ledger_url,
            "TL_INDEX": library.index,
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        }
        return subprocess.run(
            [str(dbt_program), "--no-use-colors", *words, "--profiles-dir", "."],
            cwd=project,
            env=environment(**settings | said),
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )

    return run


def test_the_example_builds_and_a_bad_row_is_a_row_of_the_next_build(
    dbt: Dbt, library: Library, tmp_path: Path
) -> None:
    tasks = library.stats()["tasks_created"]
    first = dbt("build")
    assert first.returncode == 0, first.stdout[-4000:]
    with duckdb.connect(str(tmp_path / "project" / "video_catalog.duckdb"), read_only=True) as con:
        assert con.sql("SELECT count(*), count(DISTINCT video_id) FROM videos").fetchall() == [(2, 2)]
        assert con.sql("SELECT count(*) FROM video_summaries WHERE length(summary) > 10").fetchall() == [(2,)]
        moments = con.sql("SELECT DISTINCT question, id FROM moments").fetchall()
    assert ("a red object", "1") in moments, moments

    source = tmp_path / "project" / "videos.csv"
    source.write_text(source.read_text() + f"3,{tmp_path / 'missing.mp4'}\n4,{library.urls[0]}\n")
    again = dbt("build")
    assert again.returncode == 0, again.stdout[-4000:]
    assert "WARN=1" in again.stdout
    assert library.stats()["tasks_created"] == tasks, "a video was indexed again"
    with duckdb.connect(str(tmp_path / "project" / "video_catalog.duckdb"), read_only=True) as con:
        assert con.sql("SELECT id FROM videos ORDER BY id").fetchall() == [("1",), ("2",), ("4",)]
        failed = con.sql("SELECT id, error_code FROM video_errors").fetchall()
    assert failed == [("3", "video_file_unreadable")]


@pytest.mark.parametrize("key", ["written-out", "{{ env_var('VIDEO_KEY') }}"])
def test_a_key_that_dbt_would_print_is_refused(dbt: Dbt, tmp_path: Path, key: str) -> None:
    with_key(tmp_path, key)
    said = dbt("run", "--select", "videos", VIDEO_KEY="written-out")
    assert said.returncode != 0
    assert "api_key is not allowed in profiles.yml" in said.stdout
    assert "written-out" not in said.stdout


def test_a_secret_variable_may_pass_the_key_on(dbt: Dbt, tmp_path: Path) -> None:
    with_key(tmp_path, "{{ env_var('DBT_ENV_SECRET_VIDEO_KEY') }}")
    said = dbt("debug", DBT_ENV_SECRET_VIDEO_KEY="from-the-environment")
    assert said.returncode == 0, said.stdout
    assert "'api_key': '*****'" in said.stdout
    assert "from-the-environment" not in said.stdout


def with_key(folder: Path, key: str) -> None:
    """Put a key into the profile of the copied project."""
    profile = folder / "project" / "profiles.yml"
    text = profile.read_text(encoding="utf-8")
    profile.write_text(text.replace("config:", f'config:\n            api_key: "{key}"'), encoding="utf-8")
