"""Every code block of the README runs, in order, in the folder that the demo leaves."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tl_data.cli.main import cli
from tl_data.lake.lake import Lake

pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = FENCE.findall(README)

#: What a reader types before there is an environment; the makefile's and the installer's own matter.
OUTSIDE = ("make ", "pip install ", "export ", ". ")


def blocks(language: str) -> list[str]:
    return [body for name, body in BLOCKS if name == language]


def environment(lake: Lake) -> dict[str, str]:
    """The environment of a reader of the README: the demo's engine, and `tl-data` on the path."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("TL_")}
    binaries = str(Path(sys.executable).parent)
    return own | {
        "PATH": binaries + os.pathsep + own["PATH"],
        "TL_HOME": str(Path(lake.folder) / "engine"),
        "COLUMNS": "120",
    }


def test_there_is_no_block_of_an_unknown_kind() -> None:
    assert {name for name, _ in BLOCKS} <= {"python", "sql", "console", "toml", "text"}


def test_the_python_blocks_run_in_order(lake: Lake, place: Path) -> None:
    script = "\n".join(blocks("python"))
    said = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=place, env=environment(lake), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    assert "high" in said.stdout
    assert "leaked" not in said.stderr
    assert "Warning" not in said.stderr


def test_the_commands_run(lake: Lake, place: Path) -> None:
    (place / "videos.csv").write_text((Path(lake.folder) / "videos.csv").read_text())
    lines = [line.removeprefix("$ ") for block in blocks("console") for line in block.splitlines()]
    commands = [line for line in lines if line and not line.startswith(OUTSIDE)]
    assert commands
    for command in commands:
        said = subprocess.run(
            shlex.split(command),
            cwd=place, env=environment(lake), capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert said.returncode in (0, 1), f"{command}\n{said.stdout}{said.stderr}"
        assert "Traceback" not in said.stderr, command
        assert said.stdout, command


def test_the_shown_output_of_the_demo_is_what_it_prints(first: subprocess.CompletedProcess[str]) -> None:
    """Line by line and in order; the port and the seconds of the machine may differ."""
    [shown] = re.findall(r"<!-- demo output -->\n```text\n(.*?)```", README, re.DOTALL)
    expected, printed = shape(shown), shape(first.stdout)
    assert len(expected) > 40
    missing = [line for line in expected if line not in printed]
    assert not missing, "\n".join(missing)
    assert [line for line in printed if line in set(expected)] == expected


def test_the_makefile_has_the_targets_that_the_readme_names() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"`?make (\w+)", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_command_that_is_named_exists() -> None:
    from tl_data.cli import main as module

    module._assemble()
    for command in set(re.findall(r"tl-data ([a-z][a-z-]+)", README)):
        assert command in cli.commands, command


def shape(text: str) -> list[str]:
    """The lines without what differs from run to run."""
    plain = re.sub(r"127\.0\.0\.1:\d+", "HOST", text)
    lines = (re.sub(r"\s+", " ", line).strip() for line in plain.splitlines())
    # The videos are made once for all tests, how long a rule is drawn depends on the terminal, and hits of
    # low confidence may be equally good: which of them comes third is not said.
    return [
        line
        for line in lines
        if line.strip("─ ") and "videos made in" not in line and not line.endswith(" low")
    ]
