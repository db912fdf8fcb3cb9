"""Python environments of their own, for programs that are tested as they are installed.

Each is a folder below the user's cache, made once.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]


def cache() -> Path:
    """Where the environments are."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tl_data-tests"


def once(folder: Path, *commands: list[str]) -> Path:
    """Run the commands in the folder, unless the same ones have succeeded before."""
    done, said = folder / "done", "\n".join(" ".join(command) for command in commands)
    with alone(folder):
        if not done.exists() or done.read_text(encoding="utf-8") != said:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            for command in commands:
                ended = subprocess.run(
                    command, cwd=folder, capture_output=True, text=True, timeout=600, check=False
                )
                assert ended.returncode == 0, f"{command}: {ended.stderr[-2000:]}"
            done.write_text(said, encoding="utf-8")
    return folder


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One process of the tests at a time makes what is in the folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def python_with(name: str, *packages: str) -> Path:
    """The interpreter of an environment that has these packages."""
    folder = cache() / f"{name}-py{sys.version_info.major}{sys.version_info.minor}"
    python = folder / "bin" / "python"
    once(
        folder,
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", *packages],
    )
    return python


def requirements(*extras: str) -> list[str]:
    """What this package itself needs, with these extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for extra in extras for line in optional[extra])]
    return [line for line in lines if not line.startswith(project["name"])]


def environment(**said: str) -> dict[str, str]:
    """The variables of the tests without settings of the machine; this checkout can be imported."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("TL_")}
    return own | {"PYTHONPATH": str(ROOT)} | said
