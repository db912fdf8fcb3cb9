"""Run by `make lock`: writes `lock_wheels.tsv`, the file by which each Python installs each locked package.

The locks hold versions and hashes and no names of files, so they do not tell whether a package is a wheel
or has to be compiled. This asks the registry, through uv, and `test_locks.py` reads what is written here.
"""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

ROOT = Path(__file__).parents[2]
TABLE = Path(__file__).with_suffix(".tsv")
LOCKS = tuple(sorted(ROOT.glob("requirements*.lock")))
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
_GLIBC = 28  # of 2.28, of 2018: the oldest Linux on which everything installs


def environment(python: str) -> dict[str, str]:
    """What markers are asked about: Linux on x86-64."""
    return {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "implementation_version": f"{python}.0",
        "os_name": "posix",
        "platform_machine": "x86_64",
        "platform_system": "Linux",
        "sys_platform": "linux",
        "platform_release": "",
        "platform_version": "",
        "extra": "",
    }


def tags(python: str) -> list[Tag]:
    """Of the wheels that a Python on Linux x86-64 takes, best first."""
    version = tuple(int(part) for part in python.split("."))
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in range(_GLIBC, 4, -1)]
    platforms += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64"]
    interpreter = f"cp{version[0]}{version[1]}"
    return [*cpython_tags(version, platforms=platforms), *compatible_tags(version, interpreter, platforms)]


def best(names: list[str], python: str) -> str | None:
    """The wheel among files that a Python takes; None if there is none."""
    order = {tag: place for place, tag in enumerate(tags(python))}
    ranked = []
    for name in names:
        try:
            places = [order[tag] for tag in parse_wheel_filename(name)[3] if tag in order]
        except InvalidWheelFilename:
            continue
        if places:
            ranked.append((min(places), name))
    return min(ranked)[1] if ranked else None


def _rows(packages: list[dict[str, Any]]) -> Iterator[tuple[str, str, str]]:
    """File, its SHA-256, and the Pythons that take it."""
    for package in packages:
        files = {
            part["url"].rpartition("/")[2]: part["hashes"]["sha256"] for part in package.get("wheels", ())
        }
        taken: dict[str, list[str]] = {}
        for python in PYTHONS:
            if "marker" in package and not Marker(package["marker"]).evaluate(environment(python)):
                continue
            source = package.get("sdist", {})
            name = best(list(files), python)
            if name is None and source:
                name = source["url"].rpartition("/")[2]
                files[name] = source["hashes"]["sha256"]
            if name is None:
                sys.exit(f"{package['name']} {package['version']} has no file for Python {python}")
            taken.setdefault(name, []).append(python)
        for name, pythons in taken.items():
            yield name, files[name], " ".join(pythons)


def main() -> None:
    """Ask for the files of everything in the locks and write the table."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "pylock.toml"
        command = [
            "uv",
            "pip",
            "compile",
            "--quiet",
            "--universal",
            "--python-version",
            PYTHONS[0],
            "--no-deps",
        ]
        command += ["--format", "pylock.toml", "--output-file", str(out), *map(str, LOCKS)]
        subprocess.run(command, check=True, cwd=folder)
        packages = tomllib.loads(out.read_text(encoding="utf-8"))["packages"]
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(("file", "sha256", "pythons"))
        writer.writerows(sorted(set(_rows(packages))))


if __name__ == "__main__":
    main()
