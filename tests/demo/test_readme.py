"""Every code block of the README and of the site runs, in the folder that the demo leaves."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest

from tl_data.cli.main import cli
from tl_data.lake.lake import Lake
from tl_data.pipeline.job import check

pytestmark = pytest.mark.timeout(1200)  # on a busy machine the demo alone takes minutes

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
#: Pages in the order of a reader; those of the reference are printed, and `export.md` has tests of its own.
SITE = [
    "index", "tutorial", "howto/duckdb", "howto/spark", "howto/jobs", "howto/viewer", "howto/recipes",
    "howto/databricks", "howto/airflow", "howto/dagster", "howto/dbt", "concepts", "engine",
    "operations", "security", "benchmarks", "comparison", "architecture",
]  # fmt: skip
PAGES = {"README": README} | {
    name: (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in SITE
}
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

#: What a reader types before there is an environment, or what runs until it is ended; the makefile's, the
#: installer's and the viewer's own tests are about these.
OUTSIDE = (
    *("make ", "pip install ", "export ", ". ", "tl-data view", "databricks ", "dagster ", "cp "),
    "tl-data models pull",  # asks a hub
)

SMALL = {
    "spark.sql.shuffle.partitions": "2",
    "spark.databricks.delta.snapshotPartitions": "1",
    "spark.ui.enabled": "false",
    # The machine ends with the process: compiling its code again, faster, does not pay off.
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
}


def blocks(language: str, *pages: str) -> list[str]:
    found = [block for name in pages or PAGES for block in FENCE.findall(PAGES[name])]
    return [body for name, body in found if name == language]


def cells(notebook: str) -> list[str]:
    """The code cells of a notebook of `examples/`."""
    read = nbformat.read(ROOT / "examples" / f"{notebook}.ipynb", 4)
    return [cell.source for cell in read.cells if cell.cell_type == "code"]


@pytest.fixture(scope="session")
def small_spark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Spark's defaults for tables of a few rows, as a folder for SPARK_CONF_DIR.

    Without them, a join has 200 partitions, and Delta reads the log of a table with 50 tasks.
    """
    folder = tmp_path_factory.mktemp("spark")
    (folder / "spark-defaults.conf").write_text("".join(f"{name} {value}\n" for name, value in SMALL.items()))
    return folder


def environment(lake: Lake) -> dict[str, str]:
    """The environment of a reader of the README: the demo's engine, and `tl-data` on the path."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("TL_", "SPARK_", "PYSPARK_"))}
    binaries = str(Path(sys.executable).parent)
    return own | {
        "PATH": binaries + os.pathsep + own["PATH"],
        "TL_HOME": str(Path(lake.folder) / "engine"),
        "COLUMNS": "120",
    }


def test_all_pages_with_python_run() -> None:
    with_python = {name for name, text in PAGES.items() if "```python" in text}
    assert with_python == {"README", "howto/spark", "tutorial", "howto/duckdb", "howto/recipes"}


def test_there_is_no_block_of_an_unknown_kind() -> None:
    kinds = {kind for page in PAGES.values() for kind, _ in FENCE.findall(page)}
    assert kinds <= {"python", "sql", "console", "toml", "text", "mermaid"}


def test_the_readme_fits_on_two_screens() -> None:
    assert len(README.splitlines()) <= 200


@pytest.mark.parametrize(
    ("pages", "notebook"),
    [
        (("README", "howto/spark"), "03_spark_and_delta"),
        (("tutorial", "howto/duckdb", "howto/recipes"), None),
    ],
    ids=["spark", "duckdb"],
)
def test_the_python_blocks_run_in_order(
    lake: Lake, place: Path, small_spark: Path, pages: tuple[str, ...], notebook: str | None
) -> None:
    """Several pages a process, and Spark's notebook: what takes long, such as Java, begins once."""
    script = "\n".join(blocks("python", *pages) + (cells(notebook) if notebook else []))
    said = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=place, env=environment(lake) | {"SPARK_CONF_DIR": str(small_spark)},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    assert said.stdout
    assert "leaked" not in said.stderr
    assert "Warning" not in said.stderr


def test_the_commands_run(lake: Lake, place: Path) -> None:
    (place / "videos.csv").write_text((Path(lake.folder) / "videos.csv").read_text())
    lines = [line.removeprefix("$ ") for block in blocks("console") for line in block.splitlines()]
    commands = dict.fromkeys(line for line in lines if line and not line.startswith(OUTSIDE))
    assert commands
    for command in commands:
        said = subprocess.run(
            shlex.split(command),
            cwd=place, env=environment(lake), capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert said.returncode in (0, 1), f"{command}\n{said.stdout}{said.stderr}"
        assert "Traceback" not in said.stderr, command
        assert said.stdout, command


def test_the_shown_output_of_the_demo_is_what_it_prints(first: subprocess.CompletedProcess[str]) -> None:
    """Line by line and in order; the port and the seconds of the machine may differ."""
    [shown] = re.findall(r"<!-- demo output -->\n```text\n(.*?)```", README, re.DOTALL)
    expected, printed = shape(shown), shape(first.stdout)
    assert len(expected) > 18
    missing = [line for line in expected if line not in printed]
    assert not missing, "\n".join(missing)
    rest = iter(printed)
    assert all(line in rest for line in expected)  # in order; other lines may stand between them


def test_the_makefile_has_the_targets_that_the_readme_names() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"`make ([\w-]+)", "".join(PAGES.values()))):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_command_that_is_named_exists() -> None:
    from tl_data.cli import main as module

    module._assemble()
    for command in set(re.findall(r"`?tl-data ([a-z][a-z-]+)[ `\n]", "".join(PAGES.values()))):
        assert command in cli.commands, command


def test_links_lead_somewhere() -> None:
    broken = []
    for name, text in PAGES.items():
        folder = (ROOT / "docs" / name).parent if name in SITE else ROOT
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
            if "://" not in target and not (folder / target).exists():
                broken.append(f"{name}: {target}")
    assert not broken


def test_the_parts_of_job_files_are_valid() -> None:
    found = blocks("toml")
    assert found
    for block in found:
        table = tomllib.loads(block)
        table["outputs"] = {"folder": "lake", **table.get("outputs", {})}
        table.setdefault("source", {"folder": "videos"})
        check(table, block, "docs")


@pytest.mark.skipif(find_spec("mkdocs") is None, reason="the site needs mkdocs: pip install mkdocs-material")
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "reference" / "tables" / "index.html").is_file()


def shape(text: str) -> list[str]:
    """The lines without what differs from run to run."""
    plain = re.sub(r"127\.0\.0\.1:\d+", "HOST", text)
    plain = re.sub(r"(– )\d+:\d\d", r"\1", plain)  # where a clip ends is up to the recognisers
    lines = (re.sub(r"\s+", " ", line).strip() for line in plain.splitlines())
    # The videos are made once for all tests, how long a rule is drawn depends on the terminal, and hits of
    # low confidence may be equally good: which of them comes third is not said.
    return [
        line
        for line in lines
        if line.strip("─ ") and line != "..." and "videos made in" not in line and not line.endswith(" low")
    ]
